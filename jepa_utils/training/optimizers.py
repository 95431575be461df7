"""Optimisers and schedules that trainings share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from jepa_utils.data.images import normalize, random_flip, random_resized_crop
from jepa_utils.objectives._distributed import BatchGroup
from jepa_utils.training._numbers import number, rate
from jepa_utils.training.parallel import batch_group


@dataclass(frozen=True)
class Schedule:
    """AdamW instead of Adam: a learning rate that rises in a line and falls as a cosine to 0.

    Attributes
    ----------
    falling : bool, default True
        Whether it falls; else it stays.
    warmup : float, default 0.1
        Share of the training in which the learning rate rises.
    weight_decay : float, default 0.0
        Of all that are no biases and no norms.
    layer_rate : float, optional
        Learning rate of transformer layers, which stand less than tables of token vectors, whose
        rows get few gradients each; by default that of all others.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    falling: bool = True
    warmup: float = 0.1
    weight_decay: float = 0.0
    layer_rate: float | None = None

    def __post_init__(self) -> None:
        _check_schedule(self.warmup, self.weight_decay)
        if self.layer_rate is not None:
            wants = "positive and finite, or None"
            number("layer_rate", self.layer_rate, wants, lambda rate: rate > 0)


class ImageTraining(L.LightningModule):
    """Random crops, AdamW with warm-up and cosine decay, clipped gradients, bfloat16 on GPUs."""

    crop: tuple[float, float]  # least and largest share of the image's area

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float):
        super().__init__()
        self.learning_rate = rate(learning_rate)
        self.warmup, self.weight_decay = _check_schedule(warmup, weight_decay)

    def crops(self, images: Tensor) -> tuple[Tensor, BatchGroup]:
        """A standardised crop of each image (B, 3, S, S) of uint8, and who shares the batch."""
        group = batch_group(len(images), images.device)
        part = group.first, group.total
        crops = random_resized_crop(images / 255, scale=self.crop, part=part)
        return normalize(random_flip(crops, part=part)), group

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    @property
    def progress(self) -> float:
        """Share of the training that is done, from 0 to 1."""
        return min(self.trainer.global_step / self.steps, 1.0)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return _steps(self)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 3.0)

    def configure_optimizers(self) -> dict:
        learning = [p for p in self.parameters() if p.requires_grad]
        groups = [  # biases, norms and the mask token are not decayed
            {"params": [p for p in learning if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.95), fused=True)
        return _scheduled(optimizer, self.steps, self.warmup)


def _check_schedule(warmup: float, weight_decay: float) -> tuple[float, float]:
    wants = "a share of the training, from 0 to below 1"
    warmup = number("warmup", warmup, wants, lambda x: 0 <= x < 1)
    wants = "0 or positive, and finite"
    return warmup, number("weight_decay", weight_decay, wants, lambda x: x >= 0)


def _steps(module: L.LightningModule) -> int:
    steps = module.trainer.estimated_stepping_batches
    if steps < 1:  # Lightning's word for unknown is -1
        got = "none" if steps == 0 else "batches without"
        raise ValueError(
            f"batches must have a length of at least 1, which the schedule needs, got {got}"
        )
    return steps


def _scheduled(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float, falling: bool = True
) -> dict[str, Any]:
    factor = partial(_rate, total=steps, warmup=warmup, falling=falling)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def at_least_float(x: Tensor) -> Tensor:
    """Half precision to float32."""
    return x.float() if x.itemsize < 4 else x


def _rate(step: int, total: int, warmup: float, falling: bool = True) -> float:
    """Share of the full learning rate: a line up, then half a cosine down to 0."""
    done = min(step / total, 1.0)
    if done < warmup:
        return (step + 1) / (warmup * total + 1)
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2 if falling else 1.0


def adam(module: L.LightningModule) -> torch.optim.Optimizer:
    """Adam over all parameters that learn; fused: same steps, a third of the time."""
    learning = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.Adam(learning, lr=module.learning_rate, fused=True)


def optimizer_of(module: L.LightningModule) -> torch.optim.Optimizer | dict[str, Any]:
    """`adam`, or AdamW by the module's `schedule` where it has one."""
    how: Schedule | None = module.schedule
    if how is None:
        return adam(module)
    layers = {
        id(p)
        for layer in module.modules()
        if isinstance(layer, nn.TransformerEncoderLayer)
        for p in layer.parameters()
    }
    learning = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in learning if (id(p) in layers) == inside and (p.dim() > 1) == big],
            "lr": how.layer_rate if inside and how.layer_rate else module.learning_rate,
            "weight_decay": how.weight_decay if big else 0.0,  # not of biases and norms
        }
        for inside in (True, False)
        for big in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=module.learning_rate, fused=True)
    return _scheduled(optimizer, _steps(module), how.warmup, how.falling)
