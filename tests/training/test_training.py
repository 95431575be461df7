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

from jepa_utils.data.batches import SpanDataModule, neighbour_batches, tensor_batches
from jepa_utils.models.ema import EMA
from jepa_utils.models.text import TextEncoder, WindowEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.baselines import MaskedLM
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA


def make(seed=0, weight=0.1, regularizer=None):
    torch.manual_seed(seed)
    regularizer = regularizer or SIGReg(num_slices=16)
    return JEPA(
        nn.Embedding(20, 4),
        nn.Linear(4, 4),
        regularizer=regularizer,
        weight=weight,
        learning_rate=0.01,
    )


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
    monitor = lambda: seen.append(torch.rand(1)) or {"norm": float(weights(first).norm())}
    history = fit(first, data(), epochs=3, seed=0, monitor=monitor, progress=False)
    fit(second, data(), epochs=3, seed=0, progress=False)
    fit(other, data(), epochs=3, seed=1, progress=False)
    assert torch.equal(
        weights(first), weights(second)
    )  # also: a monitor that draws random numbers changes nothing
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
            # before training, then after epochs 1, 2, 3: dies in epoch 3, before its checkpoint
            if epochs == 4:
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
    with pytest.raises(ValueError, match=r"run.pt"):
        fit(make(), data(), epochs=1, seed=0, checkpoint="run.pt")
    with pytest.raises(ValueError, match="weight"):
        make(weight=-1)
    with pytest.raises(ValueError, match="weight"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), weight=1.0)
    with pytest.raises(ValueError, match=r"regularize.*neither"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), regularize="neither")
    with pytest.raises(ValueError, match="learning_rate"):
        JEPA(nn.Embedding(5, 2), nn.Linear(2, 2), learning_rate=0)


def test_a_loss_that_explodes_is_reported():
    module = make(weight=1.0, regularizer=lambda h: h.sum() * math.inf)
    with pytest.raises(ValueError, match="finite"):
        fit(module, data(), epochs=1, seed=0, progress=False)


# ---- other objectives, and targets without gradient
# ---------------------------------------------------------------------


def points(n=50):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(2))


def pairs():
    """Points and the next four, around the corner."""
    return neighbour_batches(
        points(), (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50, batch_size=16
    )


def two_encoders(**change):
    torch.manual_seed(0)
    context, target, predictor = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 4)
    return JEPA(context, predictor, **dict(target_encoder=target, learning_rate=0.01) | change)


def ema_module(seed=0, **change):
    torch.manual_seed(seed)
    context = nn.Linear(3, 4)
    return JEPA(
        context,
        nn.Linear(4, 4),
        target_encoder=EMA(context, decay=0.9),
        learning_rate=0.01,
        **change,
    )


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


# ---- neighbours as batches
# --------------------------------------------------------------------------------------------------


def drawn(batches):
    """Index of each point and of its partner, in the order of one pass over points that are their own index."""
    x, y = zip(*batches)
    assert all(len(a) == len(b) for a, b in zip(x, y))
    return torch.cat(x).tolist(), torch.cat(y).tolist()


def ring(batch_size=16):
    return neighbour_batches(
        torch.arange(50),
        (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50,
        batch_size=batch_size,
    )


def test_each_point_comes_once_with_one_of_its_neighbours():
    batches = ring()
    for _ in range(3):
        x, y = drawn(batches)
        assert sorted(x) == list(range(50)) != x
        assert all((b - a) % 50 in (1, 2, 3, 4) for a, b in zip(x, y))


@pytest.mark.parametrize(
    "size, lengths", [(16, [16, 16, 16, 2]), (25, [25, 25]), (80, [50]), (1, [1] * 50)]
)
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
        module = two_encoders(
            objective=lambda p, h: batches.append((p.detach(), h.detach())) or ((p - h) ** 2).mean()
        )
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
def test_neighbour_batches_resume_in_the_middle_of_an_epoch_to_the_same_weights(
    make_module, tmp_path
):
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
    assert torch.equal(weights(whole), weights(resumed)) and not torch.equal(
        weights(whole), weights(restarted)
    )
    assert history.losses["loss"] == expected.losses["loss"] and len(history.losses["loss"]) == 5


# ---- text: contexts of several arguments, and a regulariser of both sides
# ------------------------------------------------


@pytest.fixture
def one_thread(monkeypatch):
    """On a busy machine each small operation waits for the second one: minutes instead of seconds."""
    monkeypatch.setattr("jepa_utils.training.fit.THREADS", 1)


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


def text_encoder(seed=0, **change):
    torch.manual_seed(seed)
    return TextEncoder(
        30, **dict(dimensions=8, heads=2, layers=1, max_length=12, dropout=0.0) | change
    )


def text_module(seed=0, dropout=0.0, **change):
    encoder = text_encoder(seed, dropout=dropout)
    change = (
        dict(regularizer=SIGReg(num_slices=8), weight=0.1, regularize="both", learning_rate=0.01)
        | change
    )
    return JEPA(encoder, nn.Linear(8, 8), **change)


def spans(**change):
    chunks = torch.randint(28, (50, 12), generator=torch.Generator().manual_seed(4))
    return SpanDataModule(
        chunks, **dict(batch_size=8, min_length=3, either_side=True, seed=7) | change
    )


def test_a_row_without_target_is_an_error():
    ids, later = torch.zeros(4, 12, dtype=torch.long), torch.arange(12).expand(4, 12) >= 5
    later = later & (torch.arange(4) != 2)[:, None]  # the third row is all context
    with pytest.raises(ValueError, match=r"at least one token.*rows \[2\]"):
        text_module().training_step(((ids, ~later), (ids, later)), 0)


# ---- masked language model
# -----------------------------------------------------------------------------------------------


CANDIDATES = torch.tensor([0, 1, 3, 5, 6, 7, 11, 12, 20, 27])


def masked_lm(**change):
    module = MaskedLM(text_encoder(), **dict(mask_id=29, candidates=CANDIDATES, share=0.3) | change)
    nn.init.normal_(module.bias)  # zeros would hide a bias without them
    return module


def masked_batch():
    ids = CANDIDATES[torch.randint(10, (6, 12), generator=torch.Generator().manual_seed(5))]
    return (ids, None), (ids, None)  # nobody looks at the masks


def test_masked_loss_equals_the_written_out_one():
    module, batch = masked_lm(), masked_batch()
    torch.manual_seed(8)
    loss = module.training_step(batch, 0)["loss"]
    torch.manual_seed(8)
    ids, hidden = batch[0][0], torch.rand(6, 12) < 0.3
    h = module.encoder.encode_tokens(
        torch.where(hidden, 29, ids), torch.ones(6, 12, dtype=torch.bool)
    )
    vectors, surprise = module.encoder.tokens.weight, []
    for row, column in hidden.nonzero().tolist():
        scores = {
            c: h[row, column] @ vectors[c] + bias
            for c, bias in zip(CANDIDATES.tolist(), module.bias)
        }
        surprise.append(
            torch.logsumexp(torch.stack(list(scores.values())), dim=0)
            - scores[int(ids[row, column])]
        )
    assert 10 < len(surprise) < 40
    assert torch.allclose(loss, torch.stack(surprise).mean(), rtol=1e-5)
    module.bias.data += 1  # a softmax does not see this
    torch.manual_seed(8)
    assert torch.allclose(module.training_step(batch, 0)["loss"], loss, rtol=1e-5)


def test_the_encoder_is_not_shown_what_is_hidden():
    module, ids, seen = masked_lm(share=0.5), masked_batch()[0][0], []
    encode = module.encoder.encode_tokens
    module.encoder.encode_tokens = lambda *inputs: seen.append(inputs) or encode(*inputs)
    for _ in range(20):
        module.training_step(((ids, None), (ids, None)), 0)
    shown, visible = (torch.stack(x) for x in zip(*seen))
    hidden = shown == 29
    assert visible.all() and torch.equal(shown, torch.where(hidden, 29, ids.expand(20, 6, 12)))
    assert hidden.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / (20 * 6 * 12) ** 0.5)
    assert not torch.equal(hidden[0], hidden[1])  # drawn anew
    assert not (ids == 29).any()


def test_only_candidates_can_be_predicted():
    module = masked_lm()

    def loss():
        torch.manual_seed(8)
        return module.training_step(masked_batch(), 0)["loss"]

    before = loss()
    before.backward()
    others = [i for i in range(29) if i not in CANDIDATES.tolist()]
    grad = module.encoder.tokens.weight.grad
    assert (
        (grad[others] == 0).all()
        and (grad[CANDIDATES] != 0).any(dim=1).all()
        and (grad[29] != 0).any()
    )
    module.encoder.tokens.weight.data[others] = 1e3
    assert torch.equal(loss(), before)


def test_masked_lm_learns_a_text_that_repeats(one_thread):
    chunks = torch.stack([(torch.arange(12) + start) % 6 for start in range(6)]).repeat(8, 1)
    data = SpanDataModule(chunks, batch_size=16, min_length=3)
    module = MaskedLM(
        text_encoder(dimensions=16, token_std=0.5),
        mask_id=29,
        candidates=torch.arange(6),
        learning_rate=0.01,
    )
    losses = fit(module, data, epochs=30, seed=0, progress=False).losses["loss"]
    assert losses[-1] < 0.5 * math.log(6) < losses[0]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(share=0.0), "share.*0"),
        (dict(share=1.0), "share.*1"),
        (dict(learning_rate=0.0), "learning_rate.*0"),
        (dict(candidates=torch.tensor([3, 1])), r"candidates.*ascending.*\(2,\)"),
        (dict(candidates=torch.tensor([1, 3, 3])), "candidates.*ascending"),
        (dict(candidates=torch.tensor([[1, 3]])), r"candidates.*\(1, 2\)"),
        (dict(candidates=torch.tensor([], dtype=torch.int64)), "candidates"),
        (dict(candidates=torch.tensor([1.0, 2.0])), "candidates.*float32"),
        (dict(candidates=torch.tensor([1, 30])), "candidates.*below 30"),
        (dict(mask_id=int(CANDIDATES[0])), "candidates.*mask_id"),
        (dict(mask_id=30), "mask_id.*got 30"),
    ],
)
def test_masked_lm_rejects_bad_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        masked_lm(**change)


def test_a_hidden_token_that_is_no_candidate_is_an_error():
    for outsider in (4, 28):  # between candidates, and above them
        assert outsider not in CANDIDATES
        ids = torch.full((2, 12), outsider)
        with pytest.raises(ValueError, match="candidates"):
            masked_lm().training_step(((ids, None), (ids, None)), 0)


def test_at_least_one_token_is_hidden():
    module, ids = masked_lm(share=1e-9), CANDIDATES[:2].view(1, 2)
    torch.manual_seed(8)
    loss = module.training_step(((ids, None), (ids, None)), 0)["loss"]
    torch.manual_seed(8)
    place = int(torch.rand(1, 2).argmin())
    shown = ids.clone()
    shown[0, place] = 29
    h = module.encoder.encode_tokens(shown, torch.ones(1, 2, dtype=torch.bool))[0, place]
    scores = module.encoder.tokens.weight[CANDIDATES] @ h + module.bias
    torch.testing.assert_close(loss, scores.logsumexp(dim=0) - scores[place])


# ---- spans in fit: epochs, interruption, several processes
# ---------------------------------------------------------------


def test_fit_shows_the_batches_of_each_epoch(one_thread):
    seen = []
    module, data = text_module(), spans()
    step = module.training_step
    watch = lambda batch: seen.append([x.cpu() for part in batch for x in part])
    module.training_step = lambda batch, batch_idx: watch(batch) or step(batch, batch_idx)
    history = fit(module, data, epochs=3, seed=0, progress=False)
    expected = [batch for number in range(3) for batch in data.batches(number)]
    assert len(seen) == len(expected) == 18
    for found, batch in zip(seen, expected):
        assert all(
            torch.equal(a, b)
            for a, b in zip(found, [x for part in batch for x in part], strict=True)
        )
    assert len(history.losses["loss"]) == 3


def test_spans_resume_after_a_kill_to_the_same_weights(one_thread, tmp_path):
    """Dropout, directions, order and cuts go on where they stood."""
    checkpoint = tmp_path / "run.ckpt"
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import jepa_utils.training.fit
        from test_training import fit, spans, text_module
        jepa_utils.training.fit.THREADS = 1
        module, steps = text_module(dropout=0.1), 0
        step = module.training_step
        def dying(batch, batch_idx):
            global steps
            steps += 1
            if steps == 15:  # 6 an epoch: dies in the middle of the third
                os.kill(os.getpid(), signal.SIGKILL)
            return step(batch, batch_idx)
        module.training_step = dying
        fit(module, spans(), epochs=4, seed=0, checkpoint={str(checkpoint)!r}, progress=False)
        """
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.ckpt"]

    whole, resumed, restarted = (
        text_module(dropout=0.1),
        text_module(dropout=0.1, seed=5),
        text_module(dropout=0.1),
    )
    expected = fit(whole, spans(), epochs=4, seed=0, progress=False)
    history = fit(resumed, spans(), epochs=4, seed=0, checkpoint=checkpoint, progress=False)
    fit(restarted, spans(), epochs=2, seed=0, progress=False)
    assert torch.equal(weights(whole), weights(resumed)) and not torch.equal(
        weights(whole), weights(restarted)
    )
    assert history.losses == expected.losses and len(history.losses["loss"]) == 4


def stream():
    chunks = spans().chunks
    return SpanDataModule(
        lambda rank, world_size: chunks[rank::world_size],
        batch_size=4,
        min_length=3,
        chunks_per_epoch=12,
    )


@pytest.mark.parametrize("make_data", [stream, lambda: spans(shift=True)], ids=["stream", "shift"])
def test_streams_and_shifts_resume_where_they_were(one_thread, make_data, tmp_path):
    def run(**how):
        module = text_module(dropout=0.1)
        for epochs in how.pop("until"):
            history = fit(module, make_data(), epochs=epochs, seed=0, progress=False, **how)
        return weights(module), history.losses

    whole, resumed = run(until=[4]), run(until=[2, 4], checkpoint=tmp_path / "run.ckpt")
    assert (
        torch.equal(whole[0], resumed[0]) and whole[1] == resumed[1] and len(whole[1]["loss"]) == 4
    )
    assert len(set(whole[1]["loss"])) == 4


def test_several_devices_need_a_data_module(monkeypatch):
    monkeypatch.setattr(
        "lightning.Trainer", lambda **settings: pytest.fail("it would start this script once more")
    )
    with pytest.raises(ValueError, match=r"devices.*LightningDataModule.*2"):
        fit(make(), data(), epochs=1, seed=0, devices=2)
    with pytest.raises(ValueError, match=r"devices.*0"):
        fit(text_module(), spans(), epochs=1, seed=0, devices=0)
