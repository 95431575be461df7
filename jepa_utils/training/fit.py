"""Run a LightningModule: seeds, threads, losses, monitors; resumable, on one process or many."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from jepa_utils.objectives._distributed import alone

__all__ = ["History", "fit"]


# As on the book's machine; more changes rounding, and with it the last digits.
THREADS = int(os.environ.get("JEPA_THREADS", "2"))


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

    def __init__(self, monitor: Callable[[], dict[str, float]] | None):
        self.history = History()
        self.monitor = monitor
        self.rng: tuple[Tensor, list[Tensor]] | None = None  # of the CPU and of each GPU

    def _watch(self) -> None:
        if self.monitor is not None:
            # Looking must not change the run: the random numbers go on as if nobody had looked.
            with torch.random.fork_rng(), torch.no_grad(), alone():
                self.history.monitors.append(self.monitor())

    def on_fit_start(self, trainer, module):
        if self.rng is None:
            self._watch()
        else:
            cpu, cuda = self.rng
            torch.set_rng_state(cpu)
            torch.cuda.set_rng_state_all(cuda)

    def on_train_epoch_start(self, trainer, module):
        self.started = time.perf_counter()
        self.sums: dict[str, Tensor] = {}

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
        for name, value in outputs.items():
            self.sums[name] = (
                self.sums.get(name, 0) + value.detach()
            )  # stays on the device: no wait per step

    def on_train_epoch_end(self, trainer, module):
        for name, total in self.sums.items():
            total = trainer.strategy.reduce(total, reduce_op="mean")  # over processes
            self.history.losses.setdefault(name, []).append(
                float(total) / trainer.num_training_batches
            )
        self.history.seconds += time.perf_counter() - self.started
        self._watch()

    def state_dict(self):
        return {
            "losses": self.history.losses,
            "monitors": self.history.monitors,
            "seconds": self.history.seconds,
            "rng": (
                torch.get_rng_state(),
                torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            ),
        }

    def load_state_dict(self, state):
        self.rng = state.pop("rng")
        self.history = History(**state)


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
        Of everything random during training. (Weights are drawn by whoever makes the module.)
    monitor : callable, optional
        Called before training and after each epoch; its numbers land in `History.monitors`.
    checkpoint : path, optional
        File ``*.ckpt`` that is rewritten after each epoch. If it exists, training goes on from it
        and ends with the weights that an uninterrupted run has. It is a pickle: open only your own.
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
    ValueError
        If `epochs`, `devices` or `nodes` is below 1, `checkpoint` has another suffix, several
        processes are to share a DataLoader, or the loss stops being finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    for name, number in (("devices", devices), ("nodes", nodes)):
        if number < 1 or (number > 1 and isinstance(batches, DataLoader)):
            raise ValueError(
                f"{name} must be 1, or more with a LightningDataModule as batches, got {number}"
            )
    torch.set_num_threads(THREADS)
    _quiet_lightning()
    L.seed_everything(seed, verbose=False)
    recorder = _Recorder(monitor)
    callbacks: list[Callback] = [recorder]
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        if checkpoint.suffix != ModelCheckpoint.FILE_EXTENSION:
            raise ValueError(
                f"checkpoint must be a file named *{ModelCheckpoint.FILE_EXTENSION}, "
                f"got {checkpoint}"
            )
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
    losses = recorder.history.losses["loss"]
    if not all(map(_finite, losses)):
        raise ValueError(f"the loss stopped being finite: mean per epoch {losses}")
    return recorder.history


def _finite(value: float) -> bool:
    return value - value == 0


def _quiet_lightning() -> None:
    """Lightning's notes on devices and tips are not the reader's concern."""
    noisy = (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
    )
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)
