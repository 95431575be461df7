"""Chapter 6's experiment: world models from pixels and their rivals, all measured alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepa_utils.data.batches import TrajectoryDataModule
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.experiments.world_measures import WorldData, look, world_scores
from jepa_utils.models.world import ActionPredictor, WorldDecoder, WorldEncoder
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vcreg import VCReg
from jepa_utils.objectives.visreg import VISReg
from jepa_utils.training.fit import fit
from jepa_utils.training.optimizers import Schedule
from jepa_utils.training.world_models import PixelWorld, WorldJEPA

__all__ = [
    "WORLD_PARTS",
    "WORLD_RECIPES",
    "WorldRecipe",
    "WorldRow",
    "world_record",
    "world_training",
]

WORLD_RECIPES = ("tiny", "page")  # constructors of WorldRecipe

WORLD_PARTS = ("search", "models", "lambdas", "steps")

REGULARIZERS: dict[str, Callable[[], nn.Module]] = {
    "SIGReg": SIGReg,
    "VCReg": VCReg,
    "VISReg": VISReg,
}


@dataclass(frozen=True)
class WorldRow:
    """How a world model is made. The defaults are LeWorldModel's idea."""

    fixed: bool = False  # one layout; else walls and doors vary, and some are held out
    sees: str = "pixels"  # or the "state": places of dot, wall and door
    predicts: str = "embeddings"  # or "pixels"
    regularizer: str = "SIGReg"  # of REGULARIZERS, or "none"
    weight: float = 0.1  # its factor, lambda
    shape: float = 0.1  # of VISReg's shape term; at 1, as in the paper, small clouds collapse
    inverse: float = 0.0  # factor of inverse dynamics
    target: str = "same"  # or "ema"
    decay: float = 0.99  # of the moving average
    steps: int = 1  # that each frame predicts
    smoothness: float = 0.0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name, choices in (
            ("sees", ("pixels", "state")),
            ("predicts", ("embeddings", "pixels")),
            ("regularizer", (*REGULARIZERS, "none")),
            ("target", ("same", "ema")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )


NOTHING = WorldRow(regularizer="none", weight=0.0)
MODELS = {
    "LeWorldModel": WorldRow(),
    "VICReg + inverse dynamics": WorldRow(regularizer="VCReg", weight=1.0, inverse=1.0),
    "VISReg": WorldRow(regularizer="VISReg", weight=1.0),
    "inverse dynamics": replace(NOTHING, inverse=1.0),
    "moving average": replace(NOTHING, target="ema"),
    "nothing": NOTHING,
    "pixels": replace(NOTHING, predicts="pixels"),
    "state": replace(NOTHING, sees="state"),
}


@dataclass(frozen=True)
class WorldRecipe:
    """Settings that all rows share."""

    size: int = 32  # S, pixels
    dimensions: int = 32  # D of an embedding
    width: int = 16  # channels of the encoder's first map
    hidden: int = 256  # of the predictor
    num_slices: int = 256  # SIGReg's directions
    walks: int = 4000  # to train on
    walk_length: int = 40
    length: int = 8  # actions of a stretch in a batch
    batch_size: int = 64  # stretches
    updates: int = 4000
    search_updates: int = 1000
    looks: int = 4  # measurements during a training
    test_walks: int = 300
    horizon: int = 50  # of rollouts
    bank: int = 5000  # real embeddings
    correction_updates: int = 1000
    episodes: int = 100
    budget: int = 60  # steps of an episode
    plan_horizon: int = 20
    execute: int = 2  # actions of a plan that are done before the next one
    samples: int = 200  # plans drawn
    elites: int = 20  # of CEM
    iterations: int = 3  # how often plans are drawn
    num_seeds: int = 5

    @classmethod
    def tiny(cls) -> WorldRecipe:
        """For tests: seconds."""
        small = dict(size=16, dimensions=8, width=4, hidden=16, num_slices=8, walks=30)
        few = dict(walk_length=10, length=4, batch_size=8, updates=4, search_updates=2, looks=2)
        less = dict(test_walks=10, horizon=10, bank=50, correction_updates=2, episodes=4)
        plans = dict(budget=4, plan_horizon=4, samples=6, elites=3, iterations=1)
        return cls(**small, **few, **less, **plans, num_seeds=1)

    @classmethod
    def page(cls) -> WorldRecipe:
        """As on the page."""
        return cls()

    def rows(self, part: str) -> dict[str, WorldRow]:
        """The rows of a part by name."""
        if part == "search":
            grids = {
                "LeWorldModel": ("weight", (0.01, 0.1, 1.0, 10.0)),
                "VICReg + inverse dynamics": ("weight", (0.1, 1.0, 10.0, 100.0)),
                "VISReg": ("shape", (0.03, 0.1, 0.3, 1.0)),
                "moving average": ("decay", (0.9, 0.97, 0.99, 0.997)),
                "inverse dynamics": ("inverse", (0.1, 1.0, 10.0, 100.0)),
                "pixels": ("learning_rate", (3e-4, 1e-3, 3e-3, 1e-2)),
            }
            return {
                f"{model}, {value:g}": replace(MODELS[model], **{name: value})
                for model, (name, values) in grids.items()
                for value in values
            }
        lewm = MODELS["LeWorldModel"]
        if part == "lambdas":
            values = (1e-4, 1e-3, 1e-2, 1.0, 10.0)
            return {f"lambda {value:g}": replace(lewm, weight=value) for value in values}
        if part == "steps":
            rows = {f"{steps} steps": replace(lewm, steps=steps) for steps in (2, 4, 8)}
            return rows | {
                f"smoothness {x:g}": replace(lewm, smoothness=x) for x in (0.1, 1.0, 10.0)
            }
        return dict(MODELS) | {"one layout": replace(lewm, fixed=True)}


class _State(nn.Module):
    """In place of an encoder: what is true, as it is."""

    dimensions = 4

    def forward(self, states: Tensor) -> Tensor:
        return states


def world_training(row: WorldRow, recipe: WorldRecipe) -> WorldJEPA | PixelWorld:
    """A new training with new weights.

    Parameters
    ----------
    row : WorldRow
        Its settings.
    recipe : WorldRecipe
        What all rows share.

    Returns
    -------
    LightningModule
    """
    sizes = dict(size=recipe.size, dimensions=recipe.dimensions, width=recipe.width)
    encoder = _State() if row.sees == "state" else WorldEncoder(**sizes)
    predictor = ActionPredictor(encoder.dimensions, hidden=recipe.hidden)
    how = dict(steps=row.steps, learning_rate=row.learning_rate, schedule=Schedule())
    if row.predicts == "pixels":
        return PixelWorld(encoder, predictor, WorldDecoder(**sizes), **how)
    slices = dict(num_slices=recipe.num_slices)
    options = {"SIGReg": slices, "VISReg": slices | dict(shape=row.shape)}.get(row.regularizer, {})
    regularizer = None if row.regularizer == "none" else REGULARIZERS[row.regularizer](**options)
    return WorldJEPA(
        encoder,
        predictor,
        regularizer=regularizer,
        weight=row.weight,
        inverse=row.inverse,
        smoothness=row.smoothness,
        target=row.target,
        ema_decay=row.decay,
        **how,
    )


# The record


def world_record(
    recipe: WorldRecipe,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = WORLD_PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train world models in all ways, and measure them; the record is written after every run.

    Parameters
    ----------
    recipe : WorldRecipe
        Settings.
    name : str
        Name of the recipe: the record is ``folder/worlds/name.json``.
    parts : sequence of str
        Of `WORLD_PARTS`.
    folder, checkpoints, seeds, say
        See `complete_record`. The search has one seed.
    devices, nodes : int, default 1
        See `fit`.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a part is unknown.
    RecordError
        If the record that is there has other settings.
    """
    if unknown := [part for part in parts if part not in WORLD_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(WORLD_PARTS)}, got {unknown}")
    how, record = dict(devices=devices, nodes=nodes, progress=False), {}
    for part in [part for part in WORLD_PARTS if part in parts]:
        record = complete_record(
            "worlds",
            name,
            recipe=recipe,
            data="made by jepa_utils.data.rooms",
            runs=[
                Run({"part": part, "row": row}, partial(_run, recipe, settings, part, how))
                for row, settings in recipe.rows(part).items()
            ],
            folder=folder,
            checkpoints=checkpoints,
            seeds=range(1) if part == "search" else seeds,
            say=say,
        )
    return record


def _run(
    recipe: WorldRecipe,
    row: WorldRow,
    part: str,
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    torch.manual_seed(seed)
    world, module = WorldData.of(recipe, row), world_training(row, recipe)
    updates = recipe.search_updates if part == "search" else recipe.updates
    data = TrajectoryDataModule(
        *world.train,
        world.show,
        length=max(recipe.length, row.steps),
        batch_size=recipe.batch_size,
        steps=max(1, updates // recipe.looks),
        seed=seed,
    )

    began = time.process_time()
    history = fit(
        module,
        data,
        epochs=recipe.looks,
        seed=seed,
        monitor=partial(look, module, world, recipe),
        checkpoint=states[0],
        **how,
    )
    module.cpu().eval()
    scores, curves = measured(world_scores)(module, world, recipe, part)
    entry = {
        "scores": {name: round(value, 5) for name, value in scores.items()},
        "seconds": round(time.process_time() - began, 1),  # of one core, looks among them
        "updates": data.steps * recipe.looks,
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "curves": curves | {"looks": history.monitors, "losses": history.losses},
        "row settings": asdict(row),
    }
    return Outcome(entry)
