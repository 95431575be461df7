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

from jepa_utils.models.text import WindowEncoder
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.fit import fit, tensor_batches
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
