"""Run a LightningModule: seeds, threads, losses, monitors; resumable, on one process or many."""

from __future__ import annotations

import io
import logging
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader

from jepa_utils.arguments import whole
from jepa_utils.files import write_whole
from jepa_utils.models.checkpoints import CheckpointError
from jepa_utils.models.modes import modes_kept
from jepa_utils.objectives._distributed import alone

__all__ = ["History", "fit"]


# As on the book's machine; more changes rounding, and with it the last digits.
THREADS = int(os.environ.get("JEPA_THREADS") or 2)


@dataclass
class History:
    """What a run left behind.

    Attributes
    ----------
    losses : dict of str to list of float
        Mean of each training loss over the batches of each epoch: "loss" and its parts.
    monitors : list of dict of str to float
        What `monitor` returned: before training, then after each epoch.
    seconds : float
        Training time, monitors left out.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    monitors: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class _Recorder(Callback):
    """Collects losses, monitor values and the random numbers' state, for checkpoints, too."""

    def __init__(
        self,
        module: L.LightningModule,
        settings: dict[str, Any],
        monitor: Callable[[], dict[str, float]] | None,
    ):
        self.history = History()
        self.module = module
        self.settings = settings
        self.monitor = monitor
        self.resumed = False

    def _watch(self) -> None:
        """Look at the module; the run must go on as if nobody had looked."""
        if self.monitor is None:
            return
        with modes_kept(self.module), isolate_rng(), torch.no_grad(), alone():
            seen = self.monitor()
        if not isinstance(seen, dict):
            raise TypeError(f"monitor must return a dict of numbers, got {type(seen).__name__}")
        # NumPy's numbers and tensors would make a checkpoint that cannot be read again.
        self.history.monitors.append({name: _plain(value) for name, value in seen.items()})

    def on_fit_start(self, trainer, module):
        if not self.resumed:
            self._watch()

    def on_train_epoch_start(self, trainer, module):
        self.started = time.perf_counter()
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        # Each process draws for the whole batch. Dropout draws for its own rows: where they are
        # not as many everywhere, it would set the processes apart.
        if trainer.world_size > 1:
            state = torch.get_rng_state().to(module.device)
            torch.distributed.broadcast(state, src=0)
            torch.set_rng_state(state.cpu())
            if module.device.type == "cuda":
                state = torch.cuda.get_rng_state(module.device).to(module.device)
                torch.distributed.broadcast(state, src=0)
                torch.cuda.set_rng_state(state.cpu(), module.device)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps += 1
        if outputs:  # nothing of a step that was left out
            _stop_unless_finite(trainer, outputs, f"in step {self.steps}")
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def on_train_epoch_end(self, trainer, module):
        _check_length(trainer, self.steps)
        # Finite losses can have gradients that are not; nothing of that must reach a checkpoint.
        learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
        _stop_unless_finite(trainer, learning, "after the last step")
        for name, total in self.sums.items():
            total = trainer.strategy.reduce(total, reduce_op="mean")  # over processes
            self.history.losses.setdefault(name, []).append(float(total) / self.steps)
        self.history.seconds += time.perf_counter() - self.started
        self._watch()

    def state_dict(self):
        return {
            "losses": self.history.losses,
            "monitors": self.history.monitors,
            "seconds": self.history.seconds,
            "settings": self.settings,
            "rng": (
                torch.get_rng_state(),
                torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            ),
        }

    def load_state_dict(self, state):
        # Here, before optimisers are made: a schedule asks for the number of batches, for which
        # Lightning begins the loader, and that may draw a number.
        cpu, cuda = state["rng"]  # of the CPU and of each GPU
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(cuda)
        self.resumed = True
        self.history = History(state["losses"], state["monitors"], state["seconds"])


class _WholeFile(TorchCheckpointIO):
    """Checkpoints that are written beside the old one and renamed."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getvalue())


def fit(
    module: L.LightningModule,
    batches: DataLoader | L.LightningDataModule,
    *,
    epochs: int,
    seed: int,
    monitor: Callable[[], dict[str, float]] | None = None,
    checkpoint: Path | str | None = None,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> History:
    """Train a module whose `training_step` returns its losses as a dict.

    Parameters
    ----------
    module : LightningModule
        Trained in place.
    batches : DataLoader or LightningDataModule
        One pass is one epoch.
    epochs : int
        Passes.
    seed : int
        Of everything random during training, from 0 to 2**32 - 1. (Weights are drawn by whoever
        makes the module.)
    monitor : callable, optional
        Called before training and after each epoch; its numbers land in `History.monitors`. What it
        does to training modes and random numbers is undone.
    checkpoint : path, optional
        File ``*.ckpt`` that is rewritten after each epoch. If it exists, training goes on from it
        and ends with the weights that an uninterrupted run has, if seed, epochs and settings of
        module and batches are those that it was made with. It is a pickle: open only your own.
    progress : bool, default True
        Show a progress bar.
    devices, nodes : int, default 1
        Processes per node, and nodes. All share each batch and train as one (Lightning's "ddp").
        Under ``torchrun`` and Slurm they are there already; else Lightning starts the caller's
        script once more for each: call it from a script, not from a notebook. Only for a data
        module, which gives each process its part.

    Returns
    -------
    History

    Raises
    ------
    TypeError
        If `module` or `batches` is of another kind, or `monitor` returns no dict.
    ValueError
        If `epochs`, `seed`, `devices` or `nodes` is out of range, `checkpoint` has another suffix
        or cannot be written, several processes are to share a DataLoader, or `batches` are none,
        not as many as they say, or of unknown number where the module's schedule needs it.
    CheckpointError
        If `checkpoint` is there, but damaged, or was made with another module or other settings.
    FloatingPointError
        If a loss or a weight stops being finite. A checkpoint stays that of the epoch before.
    """
    if not isinstance(module, L.LightningModule):
        raise TypeError(f"module must be a LightningModule, got {type(module).__name__}")
    if not isinstance(batches, (DataLoader, L.LightningDataModule)):
        got = type(batches).__name__
        raise TypeError(f"batches must be a DataLoader or LightningDataModule, got {got}")
    epochs, seed = whole("epochs", epochs, 1), whole("seed", seed, 0, 2**32 - 1)
    devices, nodes = whole("devices", devices, 1), whole("nodes", nodes, 1)
    for name, number in (("devices", devices), ("nodes", nodes)):
        if number > 1 and isinstance(batches, DataLoader):
            raise ValueError(
                f"{name} must be 1, or more with a LightningDataModule as batches, got {number}"
            )
    settings = {"seed": seed, "epochs": epochs, **_settings(module, batches)}
    if checkpoint is not None:
        checkpoint = _checked(Path(checkpoint), module, settings)
    torch.set_num_threads(THREADS)
    _quiet_lightning()
    L.seed_everything(seed, verbose=False)
    recorder = _Recorder(module, settings, monitor)
    callbacks: list[Callback] = [recorder]
    if checkpoint is not None:
        # Lightning calls it after the recorder, so it holds the losses of its epoch.
        callbacks.append(
            ModelCheckpoint(
                dirpath=checkpoint.parent, filename=checkpoint.stem, enable_version_counter=False
            )
        )
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=100, leave=False))
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        # Not each of the book's modules uses all its parameters.
        strategy="auto" if devices * nodes == 1 else "ddp_find_unused_parameters_true",
        use_distributed_sampler=False,  # the data module deals the rows out
        logger=False,
        enable_checkpointing=checkpoint is not None,
        plugins=[_WholeFile()],
        enable_progress_bar=progress,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Batches lie in memory: worker processes would only cost.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*IterableDataset` has `__len__`.*")
        warnings.filterwarnings(
            "ignore", message=".*exists and is not empty.*"
        )  # it is where we go on
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        trainer.fit(
            module,
            batches,
            ckpt_path=checkpoint if checkpoint is not None and checkpoint.exists() else None,
        )
    if not recorder.history.losses:
        raise ValueError("batches must hold at least one batch, got none")
    return recorder.history


def _stop_unless_finite(trainer: L.Trainer, values: dict[str, Tensor], when: str) -> None:
    """Raise on all processes if one of them has a value that is not finite."""
    bad = torch.stack([~value.detach().isfinite().all() for value in values.values()]).int()
    bad = trainer.strategy.reduce(bad, reduce_op="sum").tolist()
    if names := [name for name, count in zip(values, bad, strict=True) if count]:
        raise FloatingPointError(
            f"{', '.join(names)} stopped being finite {when} of epoch {trainer.current_epoch + 1}; "
            "a checkpoint is still that of the epoch before"
        )


def _check_length(trainer: L.Trainer, seen: int) -> None:
    """Raise ValueError unless `batches` gave as many as they had promised, and one at least."""
    promised = trainer.num_training_batches  # infinite where there was no promise
    if seen == 0:
        raise ValueError("batches must hold at least one batch, got none")
    if seen < promised < math.inf:
        raise ValueError(f"batches must be as many as their length {promised} says, got {seen}")
    if promised < math.inf:
        # Lightning stops there, and would leave the others out of every epoch.
        (rest,) = trainer.fit_loop._combined_loader._iterator.iterators
        if next(rest, None) is not None:
            raise ValueError(f"batches must be as many as their length {promised} says, got more")


def _plain(value: Any) -> Any:
    """A number of NumPy's or a tensor's as one of Python's."""
    return value.item() if hasattr(value, "item") else value


def _described(value: Any) -> Any:
    """A setting as something that can be stored and compared; None where there is no such thing."""
    if isinstance(value, (str, Number)):
        return _plain(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(_described, value))
    if isinstance(value, partial):
        given = [*value.args, *(x for pair in sorted(value.keywords.items()) for x in pair)]
        return (_described(value.func), *map(_described, given))
    if is_dataclass(value) and not isinstance(value, type):  # such as a schedule
        given = [x for part in fields(value) for x in (part.name, getattr(value, part.name))]
        return (type(value).__qualname__, *map(_described, given))
    return getattr(value, "__qualname__", None)  # of a function


def _settings(module: L.LightningModule, batches: DataLoader | L.LightningDataModule) -> dict:
    """Numbers, words and functions that a module, its parts and its batches were made with."""
    parts: Iterable[tuple[str, Any]] = module.named_modules()
    found = {}
    if isinstance(batches, DataLoader):
        found |= {f"batches.{name}": getattr(batches, name) for name in ("batch_size", "drop_last")}
        with suppress(TypeError):  # of an iterable that knows no length
            found["length of batches"] = len(batches)
    else:
        parts = [*parts, ("batches", batches)]
    for prefix, part in parts:
        for name, value in vars(part).items():
            # Of the class: a method that was replaced, and no setting.
            ours = not name.startswith("_") and name != "training" and not hasattr(type(part), name)
            if ours and (setting := _described(value)) is not None:
                found[f"{prefix}.{name}".lstrip(".")] = setting
    return found


def _checked(checkpoint: Path, module: L.LightningModule, settings: dict[str, Any]) -> Path:
    """The path of a checkpoint that can be written, and gone on from if it is there."""
    ending = ModelCheckpoint.FILE_EXTENSION
    if checkpoint.suffix != ending or checkpoint.is_dir():
        raise ValueError(f"checkpoint must be a file named *{ending}, got {checkpoint}")
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=checkpoint.parent).close()
    except OSError as problem:
        raise ValueError(
            f"checkpoint must lie where files can be written, got {checkpoint}: {problem}"
        ) from problem
    if not checkpoint.exists():
        return checkpoint
    anew = "move it away to begin anew"
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights, before = stored["state_dict"], stored["callbacks"]["_Recorder"]["settings"]
    except Exception as problem:  # whatever torch makes of damaged bytes
        raise CheckpointError(
            f"{checkpoint} is damaged, or no checkpoint of fit ({problem!r}); {anew}"
        ) from problem
    shapes, wanted = (
        {name: (tuple(x.shape), x.dtype) for name, x in state.items() if isinstance(x, Tensor)}
        for state in (weights, module.state_dict())
    )
    if other := sorted(name for name in shapes | wanted if shapes.get(name) != wanted.get(name)):
        raise CheckpointError(
            f"{checkpoint} is of another module: {', '.join(other[:5])} are not as here; {anew}"
        )
    if other := [name for name in before | settings if before.get(name) != settings.get(name)]:
        words = [f"{name} {before.get(name)!r}, now {settings.get(name)!r}" for name in other]
        raise CheckpointError(
            f"{checkpoint} was made with other settings: {'; '.join(words)}; {anew}"
        )
    return checkpoint


def _quiet_lightning() -> None:
    """Lightning's notes on devices and tips are not the reader's concern."""
    noisy = (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
    )
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)
