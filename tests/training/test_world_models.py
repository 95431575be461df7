"""World models: losses are the written-out ones; what is learned of a dot that is pushed around."""

import re
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from trainings import interrupted, weights

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.models.world import ActionPredictor, WorldDecoder, WorldEncoder
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.objectives.vcreg import VCReg
from jepa_utils.objectives.visreg import VISReg
from jepa_utils.training.fit import fit
from jepa_utils.training.optimizers import Schedule
from jepa_utils.training.world_models import PixelWorld, WorldJEPA

SIZE, D, T = 8, 4, 3


def dots(number=128, seed=0):
    """A dot that each action moves by at most a pixel: frames (N, T+1, 1, S, S), actions (N, T, 2)."""
    draw = torch.Generator().manual_seed(seed)
    actions = 2 * torch.rand(number, T, 2, generator=draw) - 1
    first = 2 + (SIZE - 5) * torch.rand(number, 1, 2, generator=draw)
    places = torch.cat([first, first + actions.cumsum(dim=1)], dim=1)  # (N, T+1, 2) pixels
    off = (torch.arange(SIZE) - places.unsqueeze(-1)).square()  # (N, T+1, 2, S)
    return torch.exp(-(off[:, :, 0, :, None] + off[:, :, 1, None, :]) / 2).unsqueeze(2), actions


def batches(**change):
    return ImageDataModule(*dots(**change), batch_size=32)  # of any rows that belong together


def networks(history=1):
    torch.manual_seed(0)
    sizes = dict(channels=1, size=SIZE, dimensions=D, width=4)
    predictor = ActionPredictor(D, hidden=32, history=history)
    return WorldEncoder(**sizes), predictor, WorldDecoder(**sizes)


def world(history=1, **options):
    encoder, predictor, _ = networks(history)
    return WorldJEPA(encoder, predictor, **options)


def pixels(history=1, **options):
    return PixelWorld(*networks(history), **options)


def few(rows=5):
    return dots(number=rows)


# ---- the loss


def starts_by_hand(predictor, embeddings, steps):
    """Each start's present time and its predictions, (B, steps, D), of embeddings (B, T+1, D)."""
    _, actions = few()
    for now in range(predictor.history - 1, T + 1 - steps):
        known = list(embeddings[:, now + 1 - predictor.history : now + 1].unbind(1))
        for k in range(steps):
            known.append(
                predictor(torch.stack(known[-predictor.history :], 1), actions[:, now + k])
            )
        yield now, torch.stack(known[-steps:], 1)


SPANS = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]


@pytest.mark.parametrize("history, steps", SPANS)
def test_each_frame_predicts_the_next_embeddings(history, steps):
    module = world(history, steps=steps)
    images, actions = few()
    h = module.encoder(images)
    errors = [
        (predicted[:, k] - h[:, now + 1 + k]).square().mean()
        for now, predicted in starts_by_hand(module.predictor, h, steps)
        for k in range(steps)
    ]
    assert len(errors) == steps * (T + 2 - history - steps)
    losses = module.training_step((images, actions), 0)
    torch.testing.assert_close(losses["loss"], sum(errors) / len(errors))
    assert losses.keys() == {"loss", "prediction"}
    assert torch.equal(losses["prediction"], losses["loss"])


@pytest.mark.parametrize("history, steps", SPANS)
def test_the_rival_predicts_the_next_images_and_shows_the_present_ones(history, steps):
    module = pixels(history, steps=steps)
    images, actions = few()
    h, ahead, present = module.encoder(images), [], []
    for now, predicted in starts_by_hand(module.predictor, h, steps):
        present.append(F.mse_loss(module.decoder(h[:, now]), images[:, now]))
        for k in range(steps):
            seen = module.decoder(predicted[:, k])
            ahead.append(F.mse_loss(seen, images[:, now + 1 + k]))
    losses = module.training_step((images, actions), 0)
    prediction, reconstruction = sum(ahead) / len(ahead), sum(present) / len(present)
    torch.testing.assert_close(losses["prediction"], prediction.detach())
    torch.testing.assert_close(losses["reconstruction"], reconstruction.detach())
    torch.testing.assert_close(losses["loss"], prediction + reconstruction)


def test_each_part_counts_by_its_factor():
    seen = []

    def regularizer(h):
        seen.append(h)
        return sigreg(h, directions=torch.eye(D))

    module = world(regularizer=regularizer, weight=0.3, inverse=0.5, smoothness=2.0)
    images, actions = few()
    losses = module.training_step((images, actions), 0)
    h = torch.stack([module.encoder(images[:, t]) for t in range(T + 1)])  # (T+1, B, D)
    torch.testing.assert_close(seen, [h])  # the frames of each time are a batch of their own
    guessed = [F.mse_loss(module.inverse_head(h[t], h[t + 1]), actions[:, t]) for t in range(T)]
    bends = [(h[t + 1] - 2 * h[t] + h[t - 1]).square().mean() for t in range(1, T)]
    expected = {
        "prediction": world().training_step((images, actions), 0)["loss"],
        "regularizer": sigreg(h, directions=torch.eye(D)),
        "inverse": sum(guessed) / T,
        "smoothness": sum(bends) / (T - 1),
    }
    assert losses.keys() == {"loss", *expected}
    for name, value in expected.items():
        assert not losses[name].requires_grad
        torch.testing.assert_close(losses[name], value.detach())
    loss = [f * expected[n] for n, f in zip(expected, (1, 0.3, 0.5, 2.0), strict=True)]
    torch.testing.assert_close(losses["loss"], sum(loss))


def test_gradient_flows_through_targets_and_predictions():
    images, actions = few()
    frames = images.requires_grad_()
    world().training_step((frames, actions), 0)["loss"].backward()
    assert (frames.grad.flatten(2).abs().sum(-1) > 0).all()  # the last is a target only


def test_a_moving_average_makes_the_targets_and_gets_no_gradient():
    module = world(target="ema", ema_decay=0.8, smoothness=1.0)
    with torch.no_grad():
        for p in module.target_encoder.parameters():
            p.mul_(1.5)  # else it is the encoder's
    before = weights(module.target_encoder)
    images, actions = few()
    frames = images.requires_grad_()
    losses = module.training_step((frames, actions), 0)
    h, targets = module.encoder(frames), module.target_encoder(frames)
    predicted = module.predictions(h, actions).squeeze(2)
    torch.testing.assert_close(losses["prediction"], F.mse_loss(predicted, targets[:, 1:]).detach())
    losses["loss"].backward()
    assert all(p.grad is None for p in module.target_encoder.parameters())
    (to_frames,) = torch.autograd.grad(F.mse_loss(predicted, targets[:, 1:]), frames)
    assert (to_frames[:, -1] == 0).all() and (to_frames[:, 0] != 0).any()
    learned = {id(p) for g in module.configure_optimizers().param_groups for p in g["params"]}
    assert not learned & {id(p) for p in module.target_encoder.parameters()}
    module.on_train_batch_end({}, (), 0)
    expected = 0.8 * before + 0.2 * weights(module.encoder)
    torch.testing.assert_close(weights(module.target_encoder), expected)


def test_inverse_dynamics_teaches_head_and_encoder():
    module = world(inverse=1.0)
    module.training_step(few(), 0)["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in module.inverse_head.parameters())
    prediction_only = world()
    prediction_only.training_step(few(), 0)["loss"].backward()
    ours, without = (next(m.encoder.parameters()).grad for m in (module, prediction_only))
    assert not torch.allclose(ours, without)
    assert not hasattr(prediction_only, "inverse_head")


@pytest.mark.parametrize("kind", [world, pixels])
def test_schedule_and_rate_reach_the_optimizer(kind):
    assert kind(learning_rate=0.02).configure_optimizers().param_groups[0]["lr"] == 0.02
    module = kind(schedule=Schedule(warmup=0.5))
    fit(module, batches(number=32), epochs=2, seed=0, progress=False)
    assert isinstance(module.optimizers().optimizer, torch.optim.AdamW)


# ---- what is learned


@cache
def trained(name):
    module = world(learning_rate=1e-2, **REGULARIZERS[name])
    fit(module, batches(), epochs=20, seed=0, progress=False)
    return module.cpu().eval()


REGULARIZERS = {
    "SIGReg": dict(regularizer=SIGReg(num_slices=64), weight=0.1),
    # Its shape term shrinks a small cloud that is not round: in full it would win here.
    "VISReg": dict(regularizer=VISReg(num_slices=64, shape=0.1), weight=1.0),
    "VCReg": dict(regularizer=VCReg(), weight=0.1),
    "inverse dynamics": dict(inverse=1.0),
    "nothing": {},
}


def spread(name):
    with torch.no_grad():
        return trained(name).encoder(dots(seed=1)[0]).flatten(0, 1)


@pytest.mark.parametrize("name", ["SIGReg", "VISReg", "VCReg"])
def test_embeddings_keep_their_spread_where_something_sees_to_it(name):
    h = spread(name)
    assert h.std(dim=0).min() > 0.5 and effective_rank(h) > 2.3


def test_where_nothing_does_they_collapse():
    assert spread("nothing").std(dim=0).max() < 0.1


def test_inverse_dynamics_alone_keeps_the_two_dimensions_that_actions_move():
    h = spread("inverse dynamics")
    assert h.std(dim=0).max() > 0.3 and effective_rank(h) > 1.7


def test_the_predictor_uses_the_action():
    module = trained("SIGReg")
    images, actions = dots(seed=1)
    with torch.no_grad():
        told, shuffled = (
            module.losses(images, a)["prediction"].item() for a in (actions, actions.roll(1, 0))
        )
    assert shuffled > 5 * told


def test_the_rival_learns():
    module = pixels(learning_rate=1e-2)
    losses = fit(module, batches(), epochs=16, seed=0, progress=False).losses
    for name in ("loss", "prediction", "reconstruction"):
        assert losses[name][-1] < 0.5 * losses[name][0]
    images, actions = dots(seed=1)
    with torch.no_grad():
        told, shuffled = (
            module.cpu().losses(images, a)["prediction"] for a in (actions, actions.roll(1, 0))
        )
    assert shuffled > 1.5 * told


@pytest.mark.parametrize(
    "kind",
    [
        partial(
            world, 2, inverse=0.5, smoothness=0.1, target="ema", regularizer=SIGReg(), weight=0.1
        ),
        partial(pixels, steps=2, schedule=Schedule()),
    ],
    ids=["jepa", "pixels"],
)
def test_interrupted_training_resumes_to_the_same_weights(kind, tmp_path):
    def run(**how):
        module = kind()
        history = fit(module, batches(), epochs=3, seed=0, progress=False, **how)
        return weights(module), history.losses

    whole, file = run(), tmp_path / "run.ckpt"
    with pytest.raises(InterruptedError):
        run(checkpoint=file, monitor=interrupted(after=2))
    resumed = run(checkpoint=file)
    assert torch.equal(whole[0], resumed[0]) and whole[1] == resumed[1]
    assert len(set(whole[1]["loss"])) == 3


# ---- what does not fit


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(weight=1.0), "weight must be 0 or positive, and 0 without a regularizer, got 1.0"),
        (dict(weight=-1.0, regularizer=SIGReg()), "weight must be"),
        (dict(inverse=-0.1), "inverse must be 0 or positive, got -0.1"),
        (dict(smoothness=np.nan), "smoothness must be 0 or positive, got nan"),
        (dict(target="encoder"), "target must be 'same' or 'ema', got 'encoder'"),
        (dict(target="ema", ema_decay=1.5), "decay must be between 0 and 1, got 1.5"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        world(**options)


@pytest.mark.parametrize("kind", [world, pixels])
@pytest.mark.parametrize(
    "options, words",
    [
        (dict(steps=0), "steps must be an integer of at least 1, got 0"),
        (dict(learning_rate=0), "learning_rate must be positive and finite, got 0"),
    ],
)
def test_options_of_both_out_of_range(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(**options)


def test_parts_of_other_dimensions_are_refused():
    encoder, predictor, decoder = networks()
    other = ActionPredictor(D + 1)
    for make in (lambda: WorldJEPA(encoder, other), lambda: PixelWorld(encoder, other, decoder)):
        with pytest.raises(ValueError, match="predictor must be of 4 dimensions.*got 5"):
            make()
    with pytest.raises(ValueError, match="decoder must be of 4 dimensions.*got 3"):
        PixelWorld(encoder, predictor, WorldDecoder(1, SIZE, D - 1))


@pytest.mark.parametrize("kind", [world, pixels])
def test_trajectories_that_do_not_fit_are_refused(kind):
    images, actions = few()
    for frames, told in (
        (images[:, :3], actions[:, :2]),
        (images, actions[:, :2]),
        (images[:4], actions),
        (images[:, 0], actions),
        (images, actions[..., 0]),
    ):
        with pytest.raises(ValueError, match="T\\+1 at least 4 \\(history 2, steps 2\\), got"):
            kind(2, steps=2).losses(frames, told)
