"""Training: the loss is the written-out one, runs repeat, and an interrupted run ends like an uninterrupted one."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from jepa_utils.models.ema import EMA
from jepa_utils.models.text import WindowEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.fit import fit, neighbour_batches, tensor_batches
from jepa_utils.training.modules import JEPA


def make(seed=0, weight=0.1, regularizer=None):
    torch.manual_seed(seed)
    regularizer = regularizer or SIGReg(num_slices=16)
    return JEPA(nn.Embedding(20, 4), nn.Linear(4, 4), regularizer=regularizer, weight=weight, learning_rate=0.01)


def data():
    ids = torch.randint(20, (500,), generator=torch.Generator().manual_seed(1))
    return tensor_batches(ids[:-1], ids[1:], batch_size=64)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_loss_is_prediction_plus_weighted_regulariser():
    directions = torch.eye(4)
    module = make(weight=0.5, regularizer=lambda h: sigreg(h, directions=directions))
    x, y = next(iter(data()))
    losses = module.training_step((x, y), 0)
    h_x, h_y = module.context_encoder(x), module.context_encoder(y)
    prediction = ((h_x @ module.predictor.weight.T + module.predictor.bias - h_y) ** 2).mean()
    assert torch.allclose(losses["prediction"], prediction)
    assert torch.allclose(losses["loss"], prediction + 0.5 * sigreg(h_x, directions=directions))
    losses["loss"].backward()
    # no stop-gradient: words that are only targets learn too
    only_targets = set(y.tolist()) - set(x.tolist())
    if only_targets:
        assert module.context_encoder.weight.grad[list(only_targets)].abs().sum() > 0


def test_the_regulariser_sees_the_embeddings_it_is_told_to():
    seen = []
    regularizer = lambda h: seen.append(h) or h.sum() * 0  # noqa: E731
    words = nn.Embedding(20, 4)
    x, y = torch.tensor([1, 2]), torch.tensor([3, 4])
    for regularize, ids in (("context", x), ("target", y)):
        module = JEPA(words, nn.Linear(4, 4), regularizer=regularizer, weight=1.0, regularize=regularize)
        module.training_step((x, y), 0)
        assert torch.equal(seen[-1], words(ids))


def test_target_encoder_gets_a_gradient():
    torch.manual_seed(0)
    words = nn.Embedding(20, 4)
    module = JEPA(WindowEncoder(words, window=3, hidden=8), nn.Linear(4, 4), target_encoder=words)
    context, target = torch.zeros(5, 3, dtype=torch.long), torch.full((5,), 7)
    module.training_step((context, target), 0)["loss"].backward()
    assert words.weight.grad[7].abs().sum() > 0 and words.weight.grad[0].abs().sum() > 0


def test_window_encoder_sees_every_place():
    torch.manual_seed(0)
    encoder = WindowEncoder(nn.Embedding(20, 4), window=3, hidden=8)
    context = torch.tensor([[1, 2, 3]])
    out = encoder(context)
    assert out.shape == (1, 4)
    assert not torch.allclose(out, encoder(torch.tensor([[3, 2, 1]])))  # order matters
    with pytest.raises(ValueError, match="window=0"):
        WindowEncoder(nn.Embedding(20, 4), window=0, hidden=8)


def test_batches_are_in_order_and_the_last_is_short():
    batches = list(tensor_batches(torch.arange(10), torch.arange(10) + 1, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    assert torch.cat([x for x, _ in batches]).tolist() == list(range(10))
    with pytest.raises(ValueError, match=r"lengths \[10, 9\]"):
        tensor_batches(torch.arange(10), torch.arange(9), batch_size=4)
    with pytest.raises(ValueError, match="batch_size"):
        tensor_batches(torch.arange(10), batch_size=0)


def test_history_and_repeatability():
    first, second, other = make(), make(), make()
    seen = []
    monitor = lambda: seen.append(torch.rand(1)) or {"norm": float(weights(first).norm())}  # noqa: E731
    history = fit(first, data(), epochs=3, seed=0, monitor=monitor, progress=False)
    fit(second, data(), epochs=3, seed=0, progress=False)
    fit(other, data(), epochs=3, seed=1, progress=False)
    assert torch.equal(weights(first), weights(second))  # also: a monitor that draws random numbers changes nothing
    assert not torch.equal(weights(first), weights(other))
    assert len(history.losses["loss"]) == 3 and len(history.monitors) == 4 and history.seconds > 0
    expected = history.losses["prediction"][-1] + 0.1 * history.losses["regularizer"][-1]
    assert history.losses["loss"][-1] == pytest.approx(expected, rel=1e-5)
    assert history.losses["loss"][-1] < history.losses["loss"][0]


def test_resumes_after_a_kill_to_the_same_weights(tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_training import data, make
        from jepa_utils.training.fit import fit
        module, epochs = make(), 0
        def monitor():
            global epochs
            epochs += 1
            if epochs == 4:  # before training, then after epochs 1, 2, 3: dies in epoch 3, before its checkpoint
                os.kill(os.getpid(), signal.SIGKILL)
            return {{"epoch": epochs}}
        fit(module, data(), epochs=5, seed=0, monitor=monitor, checkpoint={str(checkpoint)!r}, progress=False)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.ckpt"]

    whole, resumed = make(), make(seed=5)
    expected = fit(whole, data(), epochs=5, seed=0, progress=False)
    history = fit(resumed, data(), epochs=5, seed=0, checkpoint=checkpoint, progress=False)
    assert torch.equal(weights(whole), weights(resumed))
    assert history.losses["loss"] == expected.losses["loss"]
    assert len(history.monitors) == 3  # those of the killed run; the resumed one had no monitor


def test_bad_arguments():
    with pytest.raises(ValueError, match="epochs"):
        fit(make(), data(), epochs=0, seed=0)
    with pytest.raises(ValueError, match="run.pt"):
        fit(make(), data(), epochs=1, seed=0, checkpoint="run.pt")
    with pytest.raises(ValueError, match="weight"):
        make(weight=-1)
    with pytest.raises(ValueError, match="weight"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), weight=1.0)
    with pytest.raises(ValueError, match="regularize.*both"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), regularize="both")
    with pytest.raises(ValueError, match="learning_rate"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), learning_rate=0)


def test_a_loss_that_explodes_is_reported():
    module = make(weight=1.0, regularizer=lambda h: h.sum() * math.inf)
    with pytest.raises(ValueError, match="finite"):
        fit(module, data(), epochs=1, seed=0, progress=False)


# ---- other objectives, and targets without gradient ---------------------------------------------------------------------


def points(n=50):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(2))


def pairs():
    """Points and the next four, around the corner."""
    return neighbour_batches(points(), (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50, batch_size=16)


def two_encoders(**change):
    torch.manual_seed(0)
    context, target, predictor = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 4)
    return JEPA(context, predictor, **dict(target_encoder=target, learning_rate=0.01) | change)


def ema_module(seed=0, **change):
    torch.manual_seed(seed)
    context = nn.Linear(3, 4)
    return JEPA(context, nn.Linear(4, 4), target_encoder=EMA(context, decay=0.9), learning_rate=0.01, **change)


def test_objective_compares_predictions_with_targets():
    seen = []
    module = two_encoders(objective=lambda p, h: seen.append((p, h)) or (p * h).sum())
    x, y = points(5), points(9)[4:]
    losses = module.training_step((x, y), 0)
    ((prediction, target),) = seen
    assert torch.equal(prediction, module.predictor(module.context_encoder(x)))
    assert torch.equal(target, module.target_encoder(y))
    assert torch.equal(losses["loss"], (prediction * target).sum()) and torch.equal(losses["prediction"], losses["loss"])


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
    module = ema_module(objective=lambda p, h: averages.append(weights(module.target_encoder).cpu()) or ((p - h) ** 2).mean())
    averages, contexts = [], []
    expected = start = weights(module.target_encoder)
    step = module.on_train_batch_end
    module.on_train_batch_end = lambda *args: contexts.append(weights(module.context_encoder).cpu()) or step(*args)
    fit(module, pairs(), epochs=2, seed=0, progress=False)
    assert len(contexts) == len(averages) == 8
    for before, context in zip(averages, contexts):
        assert torch.allclose(before, expected, atol=1e-6)  # what the step saw
        expected = 0.9 * expected + 0.1 * context
    assert torch.allclose(weights(module.target_encoder), expected, atol=1e-6)
    assert not torch.allclose(expected, start, atol=1e-3) and not torch.allclose(expected, contexts[-1], atol=1e-3)


def test_moving_average_gets_no_gradient_and_is_not_optimised():
    module = ema_module(regularizer=SIGReg(num_slices=8), weight=0.1)
    module.training_step((points(5), points(9)[4:]), 0)["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in module.target_encoder.parameters())
    assert module.context_encoder.weight.grad.abs().sum() > 0
    learning = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert learning == {id(p) for part in (module.context_encoder, module.predictor) for p in part.parameters()}


@pytest.mark.parametrize("make_module", [two_encoders, ema_module])
def test_no_regulariser_where_no_gradient_comes(make_module):
    change = dict(regularizer=SIGReg(num_slices=8), regularize="target")
    stop = {} if make_module is ema_module else dict(stop_gradient=True)
    with pytest.raises(ValueError, match="regularize.*'target'"):
        make_module(**change, **stop, weight=0.1)
    make_module(**change, **stop, weight=0.0)
    make_module(**change | dict(regularize="context"), **stop, weight=0.1)


# ---- neighbours as batches --------------------------------------------------------------------------------------------------


def drawn(batches):
    """Index of each point and of its partner, in the order of one pass over points that are their own index."""
    x, y = zip(*batches)
    assert all(len(a) == len(b) for a, b in zip(x, y))
    return torch.cat(x).tolist(), torch.cat(y).tolist()


def ring(batch_size=16):
    return neighbour_batches(torch.arange(50), (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50, batch_size=batch_size)


def test_each_point_comes_once_with_one_of_its_neighbours():
    batches = ring()
    for _ in range(3):
        x, y = drawn(batches)
        assert sorted(x) == list(range(50)) != x
        assert all((b - a) % 50 in (1, 2, 3, 4) for a, b in zip(x, y))


@pytest.mark.parametrize("size, lengths", [(16, [16, 16, 16, 2]), (25, [25, 25]), (80, [50]), (1, [1] * 50)])
def test_the_last_batch_is_short(size, lengths):
    batches = ring(batch_size=size)
    assert len(batches) == len(lengths) and [len(x) for x, _ in batches] == lengths


def test_partners_and_order_are_drawn_anew_each_pass():
    batches = ring()
    (x1, y1), (x2, y2) = drawn(batches), drawn(batches)
    first, second = dict(zip(x1, y1)), dict(zip(x2, y2))
    assert x1 != x2 and 10 < sum(first[i] != second[i] for i in range(50)) < 50
    steps = {(b - a) % 50 for _ in range(10) for a, b in zip(*drawn(batches))}
    assert steps == {1, 2, 3, 4}


def test_pairs_repeat_under_the_seed_of_fit():
    def seen(seed):
        batches = []
        module = two_encoders(objective=lambda p, h: batches.append((p.detach(), h.detach())) or ((p - h) ** 2).mean())
        fit(module, pairs(), epochs=2, seed=seed, progress=False)
        return torch.cat([torch.cat(batch) for batch in batches])

    first, again, other = seen(0), seen(0), seen(1)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    "neighbours, size, words",
    [
        (torch.zeros(5, 2, dtype=torch.long), 0, "batch_size.*0"),
        (torch.zeros(4, 2, dtype=torch.long), 2, r"neighbours.*\(5, K\).*\(4, 2\)"),
        (torch.zeros(5, dtype=torch.long), 2, r"neighbours.*\(5,\)"),
        (torch.zeros(5, 0, dtype=torch.long), 2, r"neighbours.*\(5, 0\)"),
        (torch.full((5, 2), 5), 2, "neighbours.*below 5.*5 to 5"),
        (torch.tensor([[0], [1], [-1], [0], [0]]), 2, "neighbours.*-1 to 1"),
    ],
)
def test_neighbour_batches_reject_bad_input(neighbours, size, words):
    with pytest.raises(ValueError, match=words):
        neighbour_batches(torch.zeros(5, 3), neighbours, batch_size=size)


@pytest.mark.parametrize("make_module", [two_encoders, ema_module])
def test_neighbour_batches_resume_in_the_middle_of_an_epoch_to_the_same_weights(make_module, tmp_path):
    """The pairs of each epoch, the moving average and the learned temperature go on where they stood."""

    class Interrupted(Exception):
        pass

    class Dying(InfoNCE):
        steps = 0

        def forward(self, *embeddings):
            self.steps += 1
            if self.steps == 11:  # 4 a pass: in the third epoch
                raise Interrupted
            return super().forward(*embeddings)

    def module(objective=InfoNCE):
        return make_module(objective=objective(0.5, learn_temperature=True))

    checkpoint = tmp_path / "run.ckpt"
    with pytest.raises(Interrupted):
        fit(module(Dying), pairs(), epochs=5, seed=0, checkpoint=checkpoint, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.ckpt"]
    whole, resumed, restarted = module(), module(), module()
    expected = fit(whole, pairs(), epochs=5, seed=0, progress=False)
    history = fit(resumed, pairs(), epochs=5, seed=0, checkpoint=checkpoint, progress=False)
    fit(restarted, pairs(), epochs=2, seed=0, progress=False)
    assert torch.equal(weights(whole), weights(resumed)) and not torch.equal(weights(whole), weights(restarted))
    assert history.losses["loss"] == expected.losses["loss"] and len(history.losses["loss"]) == 5
