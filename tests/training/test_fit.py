"""The loop: runs repeat, and an interrupted run ends like an uninterrupted one."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from trainings import (
    GRID,
    D,
    colours,
    data,
    ema_module,
    make,
    pair,
    pairs,
    small,
    spans,
    stream,
    text_module,
    two_encoders,
    weights,
)

from jepa_utils.data.batches import CaptionDataModule, ImageDataModule
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import QueryPredictor
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA, train_pair

TESTS = os.path.dirname(os.path.dirname(__file__))


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
        sys.path.insert(0, {TESTS!r})
        from trainings import data, make
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


def test_fit_shows_the_batches_of_each_epoch():
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


def test_spans_resume_after_a_kill_to_the_same_weights(tmp_path):
    """Dropout, directions, order and cuts go on where they stood."""
    checkpoint = tmp_path / "run.ckpt"
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {TESTS!r})
        import jepa_utils.training.fit
        from trainings import spans, text_module
        from jepa_utils.training.fit import fit
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


@pytest.mark.parametrize("make_data", [stream, lambda: spans(shift=True)], ids=["stream", "shift"])
def test_streams_and_shifts_resume_where_they_were(make_data, tmp_path):
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


@pytest.mark.parametrize("options", [{}, dict(target="encoder", sigreg_weight=0.1)])
def test_training_on_images_resumes_to_the_same_weights(pictures, tmp_path, options):
    class Stop(Exception):
        pass

    def run(stop_after=None):
        module, seen = small(**options), []

        def monitor():
            seen.append(0)
            if len(seen) == stop_after:
                raise Stop
            return {}

        file = tmp_path / f"{stop_after is not None}.ckpt"
        batches = ImageDataModule(*pictures, batch_size=24)
        fit(module, batches, epochs=4, seed=0, monitor=monitor, checkpoint=file, progress=False)
        return weights(module)

    whole = run()
    (tmp_path / "False.ckpt").rename(tmp_path / "unused")
    with pytest.raises(Stop):
        run(stop_after=4)  # before training and after each epoch: in the third
    resumed = small(**options)
    file = tmp_path / "True.ckpt"
    fit(
        resumed,
        ImageDataModule(*pictures, batch_size=24),
        epochs=4,
        seed=0,
        checkpoint=file,
        progress=False,
    )
    assert torch.equal(weights(resumed), whole)


def test_an_interrupted_pair_ends_with_the_same_weights(tmp_path):
    tokens, captions, kinds = colours()

    def train(file, stop=None):
        data = CaptionDataModule(tokens, captions, groups=kinds, batch_size=50)
        drawn, batches = [], data.batches

        def until(epoch, **process):
            if epoch == stop:
                raise InterruptedError
            drawn.append(epoch)
            yield from batches(epoch, **process)

        data.batches = until
        module, history = train_pair(*pair(), data, epochs=3, seed=0, checkpoint=file)
        return torch.cat([p.detach().flatten() for p in module.parameters()]), history.losses, drawn

    weights, losses, _ = train(tmp_path / "whole.ckpt")
    with pytest.raises(InterruptedError):
        train(tmp_path / "part.ckpt", stop=2)
    again, same, drawn = train(tmp_path / "part.ckpt")
    assert torch.equal(again, weights) and same == losses and drawn == [2]


def test_training_on_captions_resumes_to_the_same_weights(tmp_path):
    tokens, captions, _ = colours()

    def train(file, stop=None):
        torch.manual_seed(0)
        words = TextEncoder(6, dimensions=8, layers=0, dropout=0.1)
        module, calls = (
            JEPA(
                QueryPredictor(D, GRID, 8, width=24, heads=3),
                nn.Identity(),
                target_encoder=words,
                objective=InfoNCE(),
            ),
            [],
        )

        def monitor():
            calls.append(0)
            if len(calls) == stop:
                raise InterruptedError
            return {}

        fit(
            module,
            CaptionDataModule(tokens, captions, batch_size=50),
            epochs=3,
            seed=0,
            monitor=monitor,
            checkpoint=file,
            progress=False,
        )
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    whole = train(tmp_path / "whole.ckpt")
    with pytest.raises(InterruptedError):
        train(tmp_path / "part.ckpt", stop=3)
    assert (tmp_path / "part.ckpt").exists()
    assert torch.equal(train(tmp_path / "part.ckpt"), whole)
