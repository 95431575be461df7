"""The loop: runs repeat, and an interrupted run ends like an uninterrupted one."""

import math
import os
import random
import signal
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from processes import exit_code
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset
from trainings import (
    GRID,
    D,
    colours,
    data,
    ema_module,
    interrupted,
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

from jepa_utils.data.batches import CaptionDataModule, ImageDataModule, tensor_batches
from jepa_utils.models.checkpoints import CheckpointError
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import QueryPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.training.baselines import ClassTraining, MaskedLM
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA, ViewJEPA, train_pair


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


def killed_after_an_epoch(checkpoint):
    module, epochs = make(), 0

    def monitor():
        nonlocal epochs
        epochs += 1
        # before training, then after epochs 1, 2, 3: dies in epoch 3, before its checkpoint
        if epochs == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"epoch": epochs}

    how = dict(monitor=monitor, checkpoint=checkpoint, progress=False)
    fit(module, data(), epochs=5, seed=0, **how)


def test_resumes_after_a_kill_to_the_same_weights(tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    assert exit_code(killed_after_an_epoch, checkpoint) == -signal.SIGKILL
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
    with pytest.raises(FloatingPointError, match="finite"):
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


def killed_within_an_epoch(checkpoint):
    module, steps = text_module(dropout=0.1), 0
    step = module.training_step

    def dying(batch, batch_idx):
        nonlocal steps
        steps += 1
        if steps == 15:  # 6 an epoch: dies in the middle of the third
            os.kill(os.getpid(), signal.SIGKILL)
        return step(batch, batch_idx)

    module.training_step = dying
    fit(module, spans(), epochs=4, seed=0, checkpoint=checkpoint, progress=False)


def test_spans_resume_after_a_kill_to_the_same_weights(tmp_path):
    """Dropout, directions, order and cuts go on where they stood."""
    checkpoint = tmp_path / "run.ckpt"
    assert exit_code(killed_within_an_epoch, checkpoint) == -signal.SIGKILL
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
        history = fit(module, make_data(), epochs=4, seed=0, progress=False, **how)
        return weights(module), history.losses

    whole, file = run(), tmp_path / "run.ckpt"
    with pytest.raises(InterruptedError):
        run(checkpoint=file, monitor=interrupted(after=3))
    resumed = run(checkpoint=file)
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


# ---- batches: as many as there are


class Counted(IterableDataset):
    """Batches that say how many they are, rightly or not; or nothing, where `promised` is None."""

    def __init__(self, batches, promised=None):
        self.batches, self.promised = list(batches), promised

    def __len__(self):
        if self.promised is None:
            raise TypeError
        return self.promised

    def __iter__(self):
        return iter(self.batches)


def counted(batches, promised=None):
    return DataLoader(Counted(batches, promised), batch_size=None)


class Reading(L.LightningModule):
    """Its loss is what the batch holds."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        return {"loss": self.factor * batch}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("promised", [None, 3])
def test_losses_are_means_over_the_batches_that_were_seen(promised):
    batches = counted(torch.tensor([1.0, 2.0, 6.0]), promised)
    history = fit(Reading(), batches, epochs=2, seed=0, progress=False)
    assert history.losses["loss"] == [3.0, 3.0]


@pytest.mark.parametrize(
    "number, promised, words",
    [
        (3, 5, "batches must be as many as their length 5 says, got 3"),
        (3, 2, "batches must be as many as their length 2 says, got more"),
        (0, 2, "batches must hold at least one batch, got none"),
        (0, 0, "batches must hold at least one batch, got none"),
        (0, None, "batches must hold at least one batch, got none"),
    ],
)
def test_a_wrong_number_of_batches_is_an_error(number, promised, words, tmp_path):
    batches, file = counted(torch.ones(number), promised), tmp_path / "run.ckpt"
    with pytest.raises(ValueError, match=words):
        fit(Reading(), batches, epochs=2, seed=0, progress=False, checkpoint=file)
    assert not file.exists()


def test_a_data_modules_wrong_length_is_an_error():
    whole = spans()
    whole.steps -= 1  # what its loader says
    whole.batches = lambda epoch, **process: spans().batches(epoch, **process)
    with pytest.raises(ValueError, match="as many as their length 5 says, got more"):
        fit(text_module(), whole, epochs=1, seed=0, progress=False)


def words_module():
    torch.manual_seed(0)
    candidates = torch.arange(28)
    return MaskedLM(TextEncoder(30, dimensions=8, heads=2), mask_id=29, candidates=candidates)


@pytest.mark.parametrize("make_module", [text_module, words_module])
def test_without_a_schedule_no_length_is_needed(make_module):
    batches = list(spans().batches(0))
    first, second = make_module(), make_module()
    told = fit(first, counted(batches, len(batches)), epochs=2, seed=0, progress=False)
    not_told = fit(second, counted(batches), epochs=2, seed=0, progress=False)
    assert told.losses == not_told.losses and torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("kind", ["masked", "views", "labels"])
@pytest.mark.parametrize("promised, got", [(None, "batches without"), (0, "none")])
def test_a_schedule_needs_a_length(pictures, kind, promised, got):
    vit = ViT(patch=8, dimensions=16, layers=1, heads=2)
    module = {
        "masked": small,
        "views": lambda: ViewJEPA(vit, num_slices=8),
        "labels": lambda: ClassTraining(vit, classes=10),
    }[kind]()
    module.training_step = lambda *_: pytest.fail("training began")
    with pytest.raises(ValueError, match=f"batches must have a length of at least 1.*got {got}"):
        fit(module, counted([pictures] * 3, promised), epochs=2, seed=0, progress=False)


# ---- numbers


def test_integers_of_numpy_are_integers():
    first, second = make(), make()
    fit(first, data(), epochs=2, seed=3, progress=False)
    numbers = dict(epochs=np.int64(2), seed=np.int64(3), devices=np.int32(1), nodes=np.uint8(1))
    fit(second, data(), **numbers, progress=False)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("name", ["epochs", "seed", "devices", "nodes"])
@pytest.mark.parametrize("value", [True, 1.0, np.float64(1), np.bool_(True), -1, "1", None])
def test_what_is_no_count_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer .*, got "):
        fit(make(), data(), **dict(epochs=1, seed=0) | {name: value})


@pytest.mark.parametrize("name, value", [("epochs", 0), ("seed", 2**32), ("nodes", 0)])
def test_a_count_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer .*, got {value}"):
        fit(make(), data(), **dict(epochs=1, seed=0) | {name: value})


# ---- checkpoints of something else


def with_slices(slices):
    return make(regularizer=SIGReg(num_slices=slices))


def with_objective(objective):
    module = make()
    module.objective = objective
    return module


def fitted(module, file, batches=None, **how):
    how = dict(epochs=2, seed=0, progress=False) | how
    return fit(module, batches or data(), checkpoint=file, **how)


def test_a_run_with_the_same_settings_goes_on(tmp_path):
    module, again = make(), make(seed=5)
    first = fitted(module, tmp_path / "run.ckpt")
    second = fitted(again, tmp_path / "run.ckpt", seed=np.int64(0))
    assert first.losses == second.losses and torch.equal(weights(module), weights(again))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(seed=1), "seed 0, now 1;"),
        (dict(epochs=1), "epochs 2, now 1;"),
        (dict(epochs=3, seed=2), "seed 0, now 2; epochs 2, now 3;"),
        (dict(module=lambda: make(weight=0.2)), "weight 0.1, now 0.2;"),
        (dict(module=lambda: with_slices(32)), "regularizer.num_slices 16, now 32;"),
        (dict(module=lambda: with_objective(F.l1_loss)), "objective 'mse_loss', now 'l1_loss';"),
        (
            dict(module=lambda: with_objective(partial(F.huber_loss, delta=2.0))),
            r"objective 'mse_loss', now \('huber_loss', 'delta', 2.0\);",
        ),
    ],
)
def test_a_checkpoint_with_other_settings_is_refused(tmp_path, change, words):
    file = tmp_path / "run.ckpt"
    fitted(make(), file)
    before = file.read_bytes()
    module = change.pop("module", make)()
    start = weights(module)
    with pytest.raises(CheckpointError, match=f"run.ckpt was made with other settings: {words}"):
        fitted(module, file, **change)
    assert file.read_bytes() == before and torch.equal(weights(module), start)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(batch_size=10), "batches.batch_size 8, now 10"),
        (dict(cut="middle"), "batches.cut 'chunk', now 'middle'"),
    ],
)
def test_a_checkpoint_with_other_batches_is_refused(tmp_path, change, words):
    fitted(text_module(), tmp_path / "run.ckpt", spans())
    with pytest.raises(CheckpointError, match=words):
        fitted(text_module(), tmp_path / "run.ckpt", spans(**change))


def test_a_checkpoint_with_other_rows_a_step_is_refused(tmp_path):
    rows = torch.arange(12)
    loader = lambda size: tensor_batches(rows, rows, batch_size=size)
    fitted(make(), tmp_path / "run.ckpt", loader(4))
    with pytest.raises(CheckpointError, match="length of batches 3, now 2"):
        fitted(make(), tmp_path / "run.ckpt", loader(6))


def test_a_moving_averages_settings_are_compared_too(pictures, tmp_path):
    batches = lambda: ImageDataModule(*pictures, batch_size=48)
    fitted(small(ema_decay=0.9), tmp_path / "run.ckpt", batches())
    with pytest.raises(CheckpointError, match=r"ema_decay 0\.9, now 0\.8"):
        fitted(small(ema_decay=0.8), tmp_path / "run.ckpt", batches())
    with pytest.raises(CheckpointError, match=r"crop \(0\.5, 1\.0\), now \(0\.2, 1\.0\)"):
        fitted(small(ema_decay=0.9, crop=(0.2, 1.0)), tmp_path / "run.ckpt", batches())


@pytest.mark.parametrize("harm", ["empty", "cut", "text", "of torch"])
def test_a_damaged_checkpoint_is_named_and_kept(tmp_path, harm):
    file = tmp_path / "run.ckpt"
    fitted(make(), file)
    if harm == "of torch":
        torch.save(make().state_dict(), file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no"}[harm])
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="run.ckpt is damaged, or .* move it away to begin"):
        fitted(make(), file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "other, names",
    [
        (lambda: JEPA(nn.Embedding(20, 5), nn.Linear(5, 5)), "context_encoder.weight, predictor"),
        (lambda: JEPA(nn.Embedding(20, 4), nn.Identity()), "predictor.bias, predictor.weight"),
        (lambda: make().double(), "context_encoder.weight, predictor"),
    ],
)
def test_a_checkpoint_of_another_module_is_refused(tmp_path, other, names):
    file = tmp_path / "run.ckpt"
    fitted(make(), file)
    with pytest.raises(CheckpointError, match=f"run.ckpt is of another module: {names}"):
        fitted(other(), file)


@pytest.mark.parametrize("place", ["folder.ckpt", "file/run.ckpt"])
def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(tmp_path, place):
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "file").write_text("kept")
    module = make()
    module.training_step = lambda *_: pytest.fail("training began")
    with pytest.raises(ValueError, match="checkpoint must "):
        fitted(module, tmp_path / place)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_checkpoint_is_written_beside_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "run.ckpt"
    with pytest.raises(InterruptedError):
        fitted(make(), file, monitor=interrupted(after=2))
    before = file.read_bytes()

    def stop(source, target):
        raise KeyError("power cut")

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyError, match="power cut"):
        fitted(make(), file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


# ---- what is no longer finite


def dying(step, harm):
    """A module whose prediction is harmed in one step."""
    steps = []

    def objective(predicted, true):
        steps.append(0)
        loss = F.mse_loss(predicted, true)
        return harm(loss) if len(steps) == step else loss

    return with_objective(objective)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_at_once(tmp_path, value):
    file = tmp_path / "run.ckpt"
    module, good = dying(10, lambda loss: loss * value), make()  # 8 steps an epoch
    good.objective = module.objective
    words = "^loss, prediction stopped being finite in step 2 of epoch 2;"
    with pytest.raises(FloatingPointError, match=words):
        fitted(module, file, epochs=4)
    stored = torch.load(file)
    assert stored["epoch"] == 0 and all(x.isfinite().all() for x in stored["state_dict"].values())
    assert module.trainer.global_step == 10
    history = fitted(good, file, epochs=4)  # the step that was harmed has gone by
    whole = with_objective(module.objective)
    expected = fit(whole, data(), epochs=4, seed=0, progress=False)
    assert history.losses == expected.losses and torch.equal(weights(good), weights(whole))


def test_a_part_of_the_loss_is_named():
    module = make(weight=0.1, regularizer=lambda h: h.sum() / 0)
    with pytest.raises(FloatingPointError, match="^loss, regularizer stopped .* step 1 of epoch 1"):
        fit(module, data(), epochs=2, seed=0, progress=False)


def test_weights_that_are_not_finite_reach_no_checkpoint(tmp_path):
    file = tmp_path / "run.ckpt"
    # A root whose slope at 0 is infinite, in the last step of the second epoch.
    module = dying(16, lambda loss: loss + (loss - loss.detach()).abs().sqrt() * 0)
    words = r"^context_encoder.weight, predictor.weight, predictor.bias stopped being finite after"
    with pytest.raises(FloatingPointError, match=words):
        fitted(module, file, epochs=4)
    assert torch.load(file)["epoch"] == 0


# ---- monitors look on


class Normed(nn.Module):
    """A frozen batch norm between two layers."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(20, 4), nn.BatchNorm1d(4).eval()

    def forward(self, ids):
        return F.dropout(self.norm(self.words(ids)), 0.5, self.training)


def test_a_monitor_changes_no_mode():
    def run(monitor):
        torch.manual_seed(0)
        module, modes = JEPA(Normed(), nn.Linear(4, 4)), []
        module.on_train_batch_start = lambda batch, index: modes.append(
            (module.context_encoder.training, module.context_encoder.norm.training)
        )
        watch = lambda: {"norm": float(weights(monitor(module)).norm())}
        fit(module, data(), epochs=2, seed=0, monitor=watch, progress=False)
        assert set(modes) == {(True, False)}
        assert module.training and not module.context_encoder.norm.training
        return weights(module)

    same = run(lambda module: module)
    assert torch.equal(run(lambda module: module.eval()), same)
    assert torch.equal(run(lambda module: module.train()), same)


def test_modes_are_as_they_were_after_a_monitor_that_fails():
    module = make()

    def monitor():
        module.eval()
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(module, data(), epochs=1, seed=0, monitor=monitor, progress=False)
    assert all(part.training for part in module.modules())


def test_a_monitor_changes_no_random_numbers_of_numpy_or_python():
    def run(monitor):
        drawn, module = [], make()
        module.on_train_batch_start = lambda batch, index: drawn.append(
            (np.random.rand(), random.random())
        )
        fit(module, data(), epochs=2, seed=0, monitor=monitor, progress=False)
        return drawn

    assert run(lambda: {"a": np.random.rand(), "b": random.random()}) == run(None)


def test_a_monitors_numbers_can_be_stored_and_read(tmp_path):
    same = {}

    def monitor():
        same["value"] = same.get("value", np.float64(0.5)) + 1
        return same | {"tensor": torch.tensor(2)}

    first = fitted(make(), tmp_path / "run.ckpt", monitor=monitor)
    assert first.monitors == [{"value": value, "tensor": 2} for value in (1.5, 2.5, 3.5)]
    assert {type(x) for row in first.monitors for x in row.values()} == {float, int}
    assert fitted(make(), tmp_path / "run.ckpt").monitors == first.monitors


def test_a_monitor_without_numbers_is_an_error():
    with pytest.raises(TypeError, match="monitor must return a dict of numbers, got NoneType"):
        fit(make(), data(), epochs=1, seed=0, monitor=lambda: None, progress=False)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(module=nn.Linear(2, 2)), "module must be a LightningModule, got Linear"),
        (dict(batches=[1.0]), "batches must be a DataLoader or LightningDataModule, got list"),
    ],
)
def test_arguments_of_another_kind_are_named(change, words):
    with pytest.raises(TypeError, match=words):
        fit(**dict(module=make(), batches=data(), epochs=1, seed=0) | change)
