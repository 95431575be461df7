"""Every JEPA: the loss is the written-out one, and targets move as they say."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from trainings import (
    GRID,
    D,
    E,
    colours,
    data,
    ema_module,
    make,
    pair,
    pairs,
    points,
    small,
    text_module,
    two_encoders,
    weights,
)

from jepa_utils.data.batches import CaptionDataModule, ImageDataModule
from jepa_utils.data.images import augmented_view, normalize
from jepa_utils.data.masking import PatchMasks, multiblock_masks, random_masks
from jepa_utils.evaluation.encode import embed
from jepa_utils.models.text import TextEncoder, WindowEncoder
from jepa_utils.models.vision_language import CrossPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.objectives.infonce import InfoNCE, info_nce
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.baselines import ClassTraining
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA, TokenJEPA, ViewJEPA, train_pair


def test_loss_is_prediction_plus_weighted_regulariser():
    directions = torch.eye(4)
    module = make(weight=0.5, regularizer=lambda h: sigreg(h, directions=directions))
    x, y = next(iter(data()))
    losses = module.training_step((x, y), 0)
    h_x, h_y = module.context_encoder(x), module.context_encoder(y)
    prediction = ((h_x @ module.predictor.weight.T + module.predictor.bias - h_y) ** 2).mean()
    assert torch.allclose(losses["prediction"], prediction)
    assert torch.allclose(losses["loss"], prediction + 0.5 * sigreg(h_x, directions=directions))
    # no stop-gradient: words that are only targets learn too
    module.training_step((torch.tensor([1, 2, 1]), torch.tensor([2, 3, 4])), 0)["loss"].backward()
    learned = module.context_encoder.weight.grad.abs().sum(dim=1) > 0
    assert learned.nonzero().flatten().tolist() == [1, 2, 3, 4]


def test_the_regulariser_sees_the_embeddings_it_is_told_to():
    seen = []
    regularizer = lambda h: seen.append(h) or h.sum() * 0
    words = nn.Embedding(20, 4)
    x, y = torch.tensor([1, 2]), torch.tensor([3, 4])
    for regularize, ids in (("context", x), ("target", y)):
        module = JEPA(
            words, nn.Linear(4, 4), regularizer=regularizer, weight=1.0, regularize=regularize
        )
        module.training_step((x, y), 0)
        assert torch.equal(seen[-1], words(ids))


def test_target_encoder_gets_a_gradient():
    torch.manual_seed(0)
    words = nn.Embedding(20, 4)
    module = JEPA(WindowEncoder(words, window=3, hidden=8), nn.Linear(4, 4), target_encoder=words)
    context, target = torch.zeros(5, 3, dtype=torch.long), torch.full((5,), 7)
    module.training_step((context, target), 0)["loss"].backward()
    assert words.weight.grad[7].abs().sum() > 0 and words.weight.grad[0].abs().sum() > 0


def test_objective_compares_predictions_with_targets():
    seen = []
    module = two_encoders(objective=lambda p, h: seen.append((p, h)) or (p * h).sum())
    x, y = points(5), points(9)[4:]
    losses = module.training_step((x, y), 0)
    ((prediction, target),) = seen
    assert torch.equal(prediction, module.predictor(module.context_encoder(x)))
    assert torch.equal(target, module.target_encoder(y))
    assert torch.equal(losses["loss"], (prediction * target).sum()) and torch.equal(
        losses["prediction"], losses["loss"]
    )


def test_a_learned_temperature_is_trained_with_the_rest():
    module = two_encoders(objective=InfoNCE(0.5, learn_temperature=True))
    assert len(module.configure_optimizers().param_groups[0]["params"]) == 7
    fit(module, pairs(), epochs=2, seed=0, progress=False)
    assert module.objective.log_temperature.item() != pytest.approx(math.log(0.5), abs=1e-3)


def test_stop_gradient_stops_it_and_changes_no_loss():
    x, y = points(5), points(9)[4:]
    free, stopped = two_encoders(), two_encoders(stop_gradient=True)
    losses = [module.training_step((x, y), 0)["loss"] for module in (free, stopped)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert free.target_encoder.weight.grad.abs().sum() > 0
    assert stopped.target_encoder.weight.grad is None
    assert torch.equal(stopped.context_encoder.weight.grad, free.context_encoder.weight.grad)
    assert torch.equal(stopped.predictor.weight.grad, free.predictor.weight.grad)


def test_stop_gradient_of_a_shared_encoder_leaves_the_context_side():
    torch.manual_seed(0)
    words = nn.Embedding(20, 4)
    module = JEPA(words, nn.Linear(4, 4), stop_gradient=True)
    module.training_step((torch.tensor([1, 2]), torch.tensor([3, 4])), 0)["loss"].backward()
    assert (words.weight.grad[[3, 4]] == 0).all() and (words.weight.grad[[1, 2]] != 0).any()


def test_target_follows_the_context_encoder_as_written_out():
    module = ema_module(
        objective=lambda p, h: (
            averages.append(weights(module.target_encoder).cpu()) or ((p - h) ** 2).mean()
        )
    )
    averages, contexts = [], []
    expected = start = weights(module.target_encoder)
    step = module.on_train_batch_end
    module.on_train_batch_end = lambda *args: (
        contexts.append(weights(module.context_encoder).cpu()) or step(*args)
    )
    fit(module, pairs(), epochs=2, seed=0, progress=False)
    assert len(contexts) == len(averages) == 8
    for before, context in zip(averages, contexts):
        assert torch.allclose(before, expected, atol=1e-6)  # what the step saw
        expected = 0.9 * expected + 0.1 * context
    assert torch.allclose(weights(module.target_encoder), expected, atol=1e-6)
    assert not torch.allclose(expected, start, atol=1e-3) and not torch.allclose(
        expected, contexts[-1], atol=1e-3
    )


def test_moving_average_gets_no_gradient_and_is_not_optimised():
    module = ema_module(regularizer=SIGReg(num_slices=8), weight=0.1)
    module.training_step((points(5), points(9)[4:]), 0)["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in module.target_encoder.parameters())
    assert module.context_encoder.weight.grad.abs().sum() > 0
    learning = {
        id(p) for group in module.configure_optimizers().param_groups for p in group["params"]
    }
    assert learning == {
        id(p) for part in (module.context_encoder, module.predictor) for p in part.parameters()
    }


@pytest.mark.parametrize("make_module", [two_encoders, ema_module])
def test_no_regulariser_where_no_gradient_comes(make_module):
    change = dict(regularizer=SIGReg(num_slices=8), regularize="target")
    stop = {} if make_module is ema_module else dict(stop_gradient=True)
    with pytest.raises(ValueError, match=r"regularize.*'target'"):
        make_module(**change, **stop, weight=0.1)
    make_module(**change, **stop, weight=0.0)
    make_module(**change | dict(regularize="context"), **stop, weight=0.1)


class Pooled(nn.Module):
    """Mean of the vectors of visible tokens: an encoder of two arguments."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)

    def forward(self, ids, visible):
        return (self.words(ids) * visible[..., None]).sum(dim=1) / visible.sum(dim=1, keepdim=True)


def halves(rows=6):
    ids = torch.randint(20, (rows, 5), generator=torch.Generator().manual_seed(3))
    later = torch.arange(5).expand(rows, 5) >= 2
    return (ids, ~later), (ids, later)


@pytest.mark.parametrize("kind", [tuple, list])  # a DataLoader makes lists of tuples
def test_a_tuple_is_passed_as_several_arguments(kind):
    torch.manual_seed(0)
    encoder, other = Pooled(), Pooled()
    seen = []
    objective = lambda p, h: seen.append((p, h)) or ((p - h) ** 2).sum()
    module = JEPA(encoder, nn.Identity(), target_encoder=other, objective=objective)
    context, target = halves()
    module.training_step((kind(context), kind(target)), 0)
    ids = context[0]
    ((h_x, h_y),) = seen
    assert torch.allclose(h_x, encoder.words.weight[ids[:, :2]].mean(dim=1), atol=1e-6)
    assert torch.allclose(h_y, other.words.weight[ids[:, 2:]].mean(dim=1), atol=1e-6)


@pytest.mark.parametrize(
    "regularize, sides", [("context", (1, 0)), ("target", (0, 1)), ("both", (0.5, 0.5))]
)
def test_regularising_both_is_the_mean_of_the_two_values(regularize, sides):
    torch.manual_seed(0)
    directions = torch.eye(4)
    regularizer = lambda h: sigreg(h, directions=directions)
    encoder = Pooled()
    module = JEPA(
        encoder, nn.Linear(4, 4), regularizer=regularizer, weight=0.3, regularize=regularize
    )
    context, target = halves()
    losses = module.training_step((context, target), 0)
    h_x, h_y = encoder(*context), encoder(*target)
    values = regularizer(h_x), regularizer(h_y)
    assert abs(values[0] - values[1]) > 0.01
    expected = sides[0] * values[0] + sides[1] * values[1]
    prediction = ((module.predictor(h_x) - h_y) ** 2).mean()
    assert torch.allclose(losses["regularizer"], expected) and torch.allclose(
        losses["loss"], prediction + 0.3 * expected
    )
    assert not losses["regularizer"].requires_grad
    # the gradient too
    losses["loss"].backward()
    found = encoder.words.weight.grad.clone()
    encoder.zero_grad()
    (prediction + 0.3 * expected).backward()
    assert torch.allclose(found, encoder.words.weight.grad, atol=1e-6)


@pytest.mark.parametrize("make_module", [two_encoders, ema_module])
def test_both_cannot_be_regularised_where_no_gradient_comes(make_module):
    stop = {} if make_module is ema_module else dict(stop_gradient=True)
    with pytest.raises(ValueError, match=r"regularize.*'both'"):
        make_module(regularizer=SIGReg(num_slices=8), regularize="both", weight=0.1, **stop)
    make_module(regularizer=SIGReg(num_slices=8), regularize="both", weight=0.0, **stop)
    two_encoders(regularizer=SIGReg(num_slices=8), regularize="both", weight=0.1)


def test_a_row_without_target_is_an_error():
    ids, later = torch.zeros(4, 12, dtype=torch.long), torch.arange(12).expand(4, 12) >= 5
    later = later & (torch.arange(4) != 2)[:, None]  # the third row is all context
    with pytest.raises(ValueError, match=r"at least one token.*rows \[2\]"):
        text_module().training_step(((ids, ~later), (ids, later)), 0)


MASKS = PatchMasks(
    torch.tensor([[0, 3, 5], [1, 2, 15]]), torch.tensor([[[1, 2], [2, 6]], [[8, 9], [12, 13]]])
)


def parts(module, x):
    """Predicted and wanted tokens of the hidden places, image by image."""
    predicted, wanted = [], []
    for row in range(2):
        seen, hidden = MASKS.context[row : row + 1], MASKS.targets[row : row + 1].flatten(1)
        predicted.append(module.predictor(module.encoder(x[row : row + 1], seen), seen, hidden)[0])
        wanted.append(module.target_encoder(x[row : row + 1])[0, hidden[0]])
    return torch.stack(predicted), torch.stack(wanted)


def test_ijepa_predicts_standardised_tokens_of_the_whole_image():
    module, x = small(), torch.randn(2, 3, 32, 32)
    predicted, wanted = parts(module, x)
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / (
        wanted.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    gap = (predicted - wanted).abs()
    by_hand = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()
    loss = module.losses(x, MASKS)
    torch.testing.assert_close(loss["loss"], by_hand)
    loss["loss"].backward()
    assert all(p.grad is None for p in module.target_encoder.parameters())
    assert all(p.grad is not None for p in module.predictor.parameters())


def test_the_rival_predicts_standardised_pixels_of_the_hidden_patches():
    module, x = small(target="pixels", outputs=3 * 8 * 8), torch.randn(2, 3, 32, 32)
    predicted, wanted = [], []
    for row in range(2):
        seen, hidden = MASKS.context[row : row + 1], MASKS.targets[row].flatten()
        predicted.append(
            module.predictor(module.encoder(x[row : row + 1], seen), seen, hidden[None])[0]
        )
        corners = [(8 * (place // 4), 8 * (place % 4)) for place in hidden.tolist()]
        wanted.append(
            torch.stack(
                [x[row, :, top : top + 8, left : left + 8].flatten() for top, left in corners]
            )
        )
    predicted, wanted = torch.stack(predicted), torch.stack(wanted)
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / (
        wanted.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    gap = (predicted - wanted).abs()
    loss = module.losses(x, MASKS)["loss"]
    torch.testing.assert_close(loss, torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
    assert module.trained is module.encoder


@pytest.mark.parametrize(
    "target, outputs, wanted", [("pixels", None, 192), ("ema", 192, 16), ("encoder", 15, 16)]
)
def test_a_predictor_that_is_not_as_wide_as_its_target_is_refused(target, outputs, wanted):
    with pytest.raises(
        ValueError,
        match=f"predictor must give {wanted} outputs for target='{target}', got {outputs or 16}",
    ):
        small(target=target, outputs=outputs)


def test_sigreg_looks_at_each_place_of_the_grid_by_itself():
    module, x = small(target="encoder", sigreg_weight=0.3, num_slices=8), torch.randn(2, 3, 32, 32)
    predicted, wanted = parts(module, x)
    torch.manual_seed(5)
    losses = module.losses(x, MASKS)
    torch.manual_seed(5)
    regularizer = sigreg(module.encoder(x).transpose(0, 1), num_slices=8)
    torch.testing.assert_close(losses["regularizer"], regularizer)
    torch.testing.assert_close(
        losses["loss"], (predicted - wanted).square().mean() + 0.3 * regularizer
    )


def test_tokens_that_are_equal_at_every_image_are_no_round_cloud():
    x = normalize(torch.full((32, 3, 32, 32), 0.5))  # the same image: tokens differ by place alone
    module = small(target="encoder", sigreg_weight=1.0)
    masks = multiblock_masks(32, (4, 4))
    assert module.losses(x, masks)["regularizer"] > 0.2 * 32  # that of points: 0.409 N or more


def test_views_loss_by_hand(pictures):
    torch.manual_seed(0)
    module = ViewJEPA(
        ViT(patch=8, dimensions=16, layers=1, heads=2), views=3, sigreg_weight=0.1, num_slices=8
    )
    torch.manual_seed(1)
    losses = module.training_step(pictures, 0)
    torch.manual_seed(1)
    shown = torch.cat([augmented_view(pictures[0]) for _ in range(3)])
    torch.rand(len(shown), 16)  # the order of the patches, all of which are seen
    clouds = module.projector(module.encoder(shown).mean(dim=1)).chunk(3)
    centre = sum(clouds) / 3
    prediction = sum((z - centre).square().mean() for z in clouds) / 3
    regularizer = sigreg(torch.stack(clouds), num_slices=8)
    torch.testing.assert_close(losses["prediction"], prediction.detach())
    torch.testing.assert_close(losses["regularizer"], regularizer.detach())
    torch.testing.assert_close(losses["loss"], 0.9 * prediction + 0.1 * regularizer)
    losses["loss"].backward()
    assert module.encoder.embed.weight.grad.abs().sum() > 0


def test_moving_average_follows_as_the_schedule_says(pictures):
    module = small(ema_decay=0.5, learning_rate=0.01)
    average, decays = copy.deepcopy(module.encoder), []
    update = module.target_encoder.update

    def follow(network, decay):
        decays.append(decay)
        for a, b in zip(average.parameters(), network.parameters(), strict=True):
            a.data = decay * a.data + (1 - decay) * b.data
        update(network, decay)

    module.target_encoder.update = follow
    fit(module, ImageDataModule(*pictures, batch_size=24), epochs=1, seed=0, progress=False)
    assert decays == pytest.approx([0.625, 0.75, 0.875, 1.0])
    torch.testing.assert_close(weights(module.target_encoder), weights(average))
    assert not torch.equal(weights(module.target_encoder), weights(module.encoder))


def test_frozen_target_never_moves(pictures):
    module = small(target="frozen")
    before = weights(module.target_encoder)
    fit(module, ImageDataModule(*pictures, batch_size=48), epochs=2, seed=0, progress=False)
    assert torch.equal(weights(module.target_encoder), before) and not torch.equal(
        weights(module.encoder), before
    )


def spread_after(pictures, **options):
    module = small(learning_rate=3e-3, **options)
    fit(module, ImageDataModule(*pictures, batch_size=48), epochs=60, seed=0, progress=False)
    with torch.no_grad():  # over images, at each place: places alone are no spread
        return module.encoder(normalize(pictures[0])).std(dim=0).mean().item()


def test_without_anything_it_collapses_and_with_sigreg_it_does_not(pictures):
    nothing, with_sigreg = (
        spread_after(pictures, target="encoder"),
        spread_after(pictures, target="encoder", sigreg_weight=0.05),
    )
    assert nothing < 0.1 < 0.5 < with_sigreg


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(target="both"), "target must be"),
        (dict(sigreg_weight=0.1), "sigreg_weight must be 0, or positive with target='encoder'"),
        (dict(sigreg_weight=-0.1, target="encoder"), "sigreg_weight"),
        (dict(learning_rate=0), "learning_rate must be positive"),
        (dict(weight_decay=-1), "weight_decay"),
        (dict(warmup=1), "warmup must be a share"),
        (dict(learning_rate=math.nan), "learning_rate must be positive and finite, got nan"),
        (dict(learning_rate=True), "learning_rate must be positive and finite, got True"),
        (dict(learning_rate="1"), "learning_rate must be positive and finite, got '1'"),
        (dict(weight_decay=math.nan), "weight_decay must be 0 or positive, .* got nan"),
        (dict(sigreg_weight=math.nan, target="encoder"), "sigreg_weight must be 0, .* got nan"),
        (dict(num_slices=0), "num_slices must be an integer of at least 1, got 0"),
        (dict(num_slices=8.0), "num_slices must be an integer of at least 1, got 8.0"),
        (dict(crop=(0.5, 0.2)), r"crop must be two shares .* got \(0.5, 0.2\)"),
        (dict(crop=0.5), "crop must be two shares .* got 0.5"),
        (dict(ema_decay=2), "decay must be between"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_other_arguments_out_of_range(pictures):
    encoder, (images, labels) = ViT(patch=8, dimensions=16, layers=1, heads=2), pictures
    for build, message in (
        (lambda: ViewJEPA(encoder, views=1), "views must be an integer of at least 2, got 1"),
        (lambda: ViewJEPA(encoder, views=True), "views must be .* got True"),
        (lambda: ViewJEPA(encoder, sigreg_weight=2), "sigreg_weight must be between 0 and 1"),
        (lambda: ViewJEPA(encoder, keep=math.nan), "keep must be a share .* got nan"),
        (lambda: ViewJEPA(encoder, projection=0), "projection must be an integer of at least 1"),
        (lambda: ViewJEPA(encoder, keep=0.01), "keep must be a share of the 16 patches"),
        (lambda: ViewJEPA(encoder, keep=1.1), "keep must be a share of the 16 patches"),
        (lambda: ClassTraining(encoder, classes=1), "classes must be an integer of at least 2"),
        (lambda: ClassTraining(encoder, classes=2, crop=(0, 1)), "crop must be two shares"),
        (lambda: ImageDataModule(images, labels[1:], batch_size=2), "labels must be as many"),
        (lambda: ImageDataModule(images, labels, batch_size=97), "batch_size must be between"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_masks_of_the_other_kind_fit_as_well():
    module, x = small(target="encoder"), torch.randn(6, 3, 32, 32)
    masks = random_masks(6, (4, 4))
    seen, hidden = masks.context, masks.targets[:, 0]
    wanted = torch.stack([module.encoder(x)[row, hidden[row]] for row in range(6)])
    predicted = module.predictor(module.encoder(x, seen), seen, hidden)
    loss = module.losses(x, masks)["loss"]
    torch.testing.assert_close(loss, (predicted - wanted).square().mean())


@pytest.fixture
def cross():
    torch.manual_seed(0)
    return CrossPredictor(D, E, GRID, width=24, layers=2, heads=3)


def test_groups_reach_the_objective_as_positives():
    torch.manual_seed(0)
    encoder = TextEncoder(30, dimensions=8, layers=0, dropout=0.0)
    reader = nn.Sequential(nn.Flatten(), nn.Linear(4 * D, 8))
    module = JEPA(reader, nn.Identity(), target_encoder=encoder, objective=InfoNCE())
    tokens, (ids, visible) = (
        torch.randn(6, 4, D),
        (torch.randint(30, (6, 5)), torch.ones(6, 5, dtype=torch.bool)),
    )
    groups = torch.tensor([0, 0, 1, 2, 1, 3])
    loss = module.training_step(((tokens,), (ids, visible), groups), 0)["loss"]
    same = groups.unsqueeze(1) == groups
    torch.testing.assert_close(
        loss, info_nce(reader(tokens), encoder(ids, visible), positives=same)
    )
    alone = module.training_step(((tokens,), (ids, visible)), 0)["loss"]
    torch.testing.assert_close(alone, info_nce(reader(tokens), encoder(ids, visible)))


def test_pairs_of_image_and_text_come_together():
    tokens, captions, kinds = colours()
    head, text = pair()
    data = CaptionDataModule(tokens, captions, groups=kinds, batch_size=50)
    module, history = train_pair(head, text, data, epochs=8, seed=0, learning_rate=1e-2)
    losses = history.losses["loss"]
    assert len(losses) == 8 and losses[-1] < 0.3 * losses[0]
    assert module.context_encoder is head and module.target_encoder is text
    assert not any(part.training for part in module.modules())
    assert not torch.equal(
        module.objective.log_temperature, InfoNCE().log_temperature
    )  # by default it learns
    found = (
        embed(head, tokens)
        @ embed(text, torch.arange(1, 5).unsqueeze(1), torch.ones(4, 1, dtype=torch.bool)).T
    )
    assert torch.equal(found.argmax(dim=1), kinds)


def test_a_trained_pair_trains_on_under_another_rule():
    tokens, captions, _ = colours()
    head, text = pair()
    data, how = CaptionDataModule(tokens, captions, batch_size=50), dict(epochs=1, seed=0)
    train_pair(head, text, data, **how)
    active = []
    head.register_forward_hook(lambda *_: active.append(head.training))
    rule = dict(
        objective=nn.functional.mse_loss, regularizer=SIGReg(8), weight=0.1, regularize="both"
    )
    _, history = train_pair(head, text, data, **how, **rule)
    assert active == [True] * 4
    losses = {name: values[0] for name, values in history.losses.items()}
    assert losses["loss"] == pytest.approx(
        losses["prediction"] + 0.1 * losses["regularizer"], rel=1e-4
    )


@pytest.mark.parametrize("text, better", [("own", True), ("shuffled", False), ("none", False)])
def test_text_helps_where_only_it_knows(text, better):
    """All tokens of an image but its hidden ones are noise, and the hidden ones are told by the caption alone."""
    tokens, captions, _ = colours()
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    masks = multiblock_masks(1, GRID, generator=torch.Generator().manual_seed(2))
    hidden = masks.targets.flatten()
    mixed = noise.clone()
    mixed[:, hidden] = tokens[:, hidden]

    def one_mask(batch, grid):
        return type(masks)(masks.context.expand(batch, -1), masks.targets.expand(batch, -1, -1))

    torch.manual_seed(0)
    module = TokenJEPA(
        CrossPredictor(D, E, GRID, width=24, layers=1), nn.Embedding(6, E), masks=one_mask,
        objective=nn.functional.mse_loss, text=text, learning_rate=3e-3,
    )  # fmt: skip
    history = fit(
        module, CaptionDataModule(mixed, captions, batch_size=50), epochs=15, seed=0, progress=False
    )
    assert (history.losses["loss"][-1] < 0.3) is better


@pytest.mark.parametrize(
    "change, message",
    [(dict(text="all"), "text must be"), (dict(learning_rate=0), "learning_rate must be")],
)
def test_token_training_refuses_bad_settings(cross, change, message):
    arguments = dict(masks=multiblock_masks, objective=nn.functional.mse_loss)
    with pytest.raises(ValueError, match=message):
        TokenJEPA(cross, nn.Embedding(6, E), **arguments | change)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(weight=math.nan), "weight must be 0 or positive, .* got nan"),
        (dict(weight=math.inf), "weight must be 0 or positive, .* got inf"),
        (dict(learning_rate=math.inf), "learning_rate must be positive and finite, got inf"),
    ],
)
def test_numbers_that_are_none_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        JEPA(nn.Identity(), nn.Identity(), **dict(regularizer=SIGReg(8)) | change)


def test_numbers_of_numpy_are_numbers():
    module = JEPA(nn.Identity(), nn.Identity(), learning_rate=np.float32(0.5), weight=np.int64(0))
    assert module.learning_rate == 0.5 and type(module.learning_rate) is float
    view = ViewJEPA(ViT(patch=8, dimensions=16, layers=1, heads=2), views=np.int64(3))
    assert view.views == 3 and type(view.views) is int
