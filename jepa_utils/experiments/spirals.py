"""Chapter 3's experiment: the spiral's two rules, epoch by epoch, and what may replace the second.

The networks are tiny, so many of them share a process: all see the same batches, and each takes its
own steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import neighbour_batches
from jepa_utils.data.spiral import Spiral, curve_neighbours, space_neighbours, spiral
from jepa_utils.evaluation.collapse import collapse_report, isotropy
from jepa_utils.evaluation.probes import linear_probe
from jepa_utils.experiments.store import Outcome, Run, complete_record
from jepa_utils.models.ema import EMA
from jepa_utils.models.mlp import MLP
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley
from jepa_utils.objectives.vicreg import VICReg
from jepa_utils.objectives.visreg import VISReg
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import adam

__all__ = [
    "OBJECTIVES",
    "PARTS",
    "SPIRAL_RECIPES",
    "SpiralRecipe",
    "share_of_bells",
    "spiral_record",
    "waves_read",
]

SPIRAL_RECIPES = ("tiny", "page", "long")  # constructors of SpiralRecipe

INPUTS = 50  # dimensions that the spiral is hidden in
WAVES = 32  # questions that are asked of an embedding beside t
FEW = 32  # labels of a probe that has few
LINES = 1000  # random directions behind the share of bells
SHOWN = 512  # points behind each of its shadows


@dataclass(frozen=True)
class SpiralRecipe:
    """Settings of the trainings behind chapter 3."""

    num_points: int = 4096  # to train on; as many to choose on, and to test on
    noise: float = 0.05  # standard deviation per dimension; the spiral's own is 1
    hard_noise: float = 0.2  # the same, where objectives are compared
    width: float = 0.1  # a neighbour's t differs by at most this, in radians
    hidden: int = 64  # width of the encoder's two hidden layers
    batch_size: int = 256  # N, pairs per step
    learning_rate: float = 3e-3  # of Adam
    weight: float = 0.01  # lambda, the factor of SIGReg
    num_slices: int = 64  # M, random directions per step
    dimensions: tuple[int, ...] = (2, 4, 6, 8, 16, 32)  # D, each with a network of its own
    # epochs after which a network is measured; the last one is the end
    looks: tuple[int, ...] = (0, 1, 3, 6, 12, 25, 50, 100, 200, 400)
    weights: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-1, 1.0)  # other lambdas
    weights_dimensions: tuple[int, ...] = (6, 32)  # where they are tried
    weights_looks: tuple[int, ...] = (0, 12, 25)
    objective_looks: tuple[int, ...] = (0, 3, 6, 12, 25)
    start_sizes: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)  # to escape from
    escape_looks: tuple[int, ...] = (0, 1, 2, 4, 8)
    num_seeds: int = 3  # runs of each part

    @classmethod
    def tiny(cls) -> SpiralRecipe:
        """For tests: seconds."""
        sizes = dict(num_points=256, width=0.5, hidden=16, batch_size=64, num_slices=8)
        few = dict(dimensions=(2, 6), weights_dimensions=(6,), weights=(1.0,))
        few |= dict(looks=(0, 1, 3), weights_looks=(0, 1), objective_looks=(0, 1))
        few |= dict(start_sizes=(1e-2, 0.0), escape_looks=(0, 1))
        return cls(**sizes, **few, num_seeds=1)

    @classmethod
    def page(cls) -> SpiralRecipe:
        """As on the page."""
        return cls()

    @classmethod
    def long(cls) -> SpiralRecipe:
        """Four times as many epochs of the curves: half an hour on one thread of its own."""
        return cls(looks=(*cls().looks, 800, 1600))


# ---- many encoders, with both rules or one of them


@dataclass(frozen=True)
class Rules:
    """What one encoder is trained with: its width, whether it predicts, and SIGReg's lambda."""

    name: str
    dimensions: int
    predicts: bool
    weight: float


class Stack(nn.Module):
    """Encoders side by side: each is an `MLP`, and one product does a layer of all of them.

    Parameters
    ----------
    inputs, hidden : int
        See `MLP`.
    outputs : sequence of int
        Dimensions of each encoder.
    seed : int
        Each encoder is the `MLP` that is drawn with this seed; those of equal width are equal.
    """

    def __init__(self, inputs: int, hidden: int, outputs: Sequence[int], seed: int):
        super().__init__()
        layers = []
        for width in outputs:
            torch.manual_seed(seed)
            layers.append([part for part in MLP(inputs, hidden, width) if hasattr(part, "weight")])
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for same in zip(*layers, strict=True):  # one layer of each encoder
            widest = max(layer.out_features for layer in same)
            wide = [(0, widest - layer.out_features) for layer in same]
            kernels = [F.pad(m.weight.detach().T, w) for m, w in zip(same, wide, strict=True)]
            offsets = [F.pad(m.bias.detach(), w) for m, w in zip(same, wide, strict=True)]
            self.weights.append(nn.Parameter(torch.stack(kernels)))  # (R, inputs, widest)
            self.biases.append(nn.Parameter(torch.stack(offsets).unsqueeze(1)))  # (R, 1, widest)

    def forward(self, points: Tensor, first: int | None = None) -> Tensor:
        """Points (B, inputs) to embeddings (R, B, widest) of the first encoders, or of all.

        Beyond an encoder's own dimensions they are 0.
        """
        weights, biases = ([p[:first] for p in group] for group in (self.weights, self.biases))
        h = points.expand(len(weights[0]), *points.shape)
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            h = torch.baddbmm(bias, F.gelu(h) if number else h, weight)
        return h


class StackTraining(L.LightningModule):
    """Each encoder by its own rules; their losses are added up, so each gets its own gradient.

    Parameters
    ----------
    encoders : Stack
        One for each of the rules.
    rules : sequence of Rules
        What each is trained with; those that predict come first.
    num_slices : int
        SIGReg's directions, which each encoder draws for itself.
    learning_rate : float
        Of Adam.
    """

    def __init__(
        self, encoders: Stack, rules: Sequence[Rules], *, num_slices: int, learning_rate: float
    ):
        super().__init__()
        self.encoders, self.num_slices, self.learning_rate = encoders, num_slices, learning_rate
        self.predicting = sum(rule.predicts for rule in rules)
        self.shaped = [number for number, rule in enumerate(rules) if rule.weight]
        widths = torch.tensor([rule.dimensions for rule in rules])
        weights = torch.tensor([rules[number].weight for number in self.shaped])
        inside = torch.arange(int(widths.max())) < widths[self.shaped].unsqueeze(1)
        for name, value in dict(widths=widths, weights=weights, inside=inside).items():
            self.register_buffer(name, value, persistent=False)

    def directions(self) -> Tensor:
        """Unit directions (R, D, M) of the encoders under SIGReg; 0 beyond an encoder's own D."""
        draw = torch.randn(*self.inside.shape, self.num_slices, device=self.device)
        return F.normalize(draw * self.inside.unsqueeze(2), dim=1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Sum of all losses on points and their neighbours, (B, inputs) each."""
        points, neighbours = batch
        h = self.encoders(points)
        gap = h[: self.predicting] - self.encoders(neighbours, self.predicting)
        widths = self.widths[: self.predicting]
        loss = (gap.square().sum(dim=(1, 2)) / widths).sum() / len(points)
        shadows = h[self.shaped] @ self.directions()  # (R, B, M)
        penalties = epps_pulley(shadows.transpose(1, 2)).mean(dim=1)  # of each encoder: SIGReg
        return {"loss": loss + (self.weights * penalties).sum()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all of them."""
        return adam(self)


# ---- objectives, each with settings to choose from

# Options of a `JEPA` from a setting, the recipe and the encoder.
Options = Callable[[float, SpiralRecipe, nn.Module], dict[str, Any]]


def _nothing(predicted: Tensor, target: Tensor) -> Tensor:
    return 0 * predicted.sum()


def _predictor(recipe: SpiralRecipe) -> MLP:
    width = max(recipe.dimensions)
    return MLP(width, recipe.hidden, width, layers=1)


def _sigreg(weight: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(regularizer=SIGReg(recipe.num_slices), weight=weight)


def _sigreg_alone(weight: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(objective=_nothing, **_sigreg(weight, recipe, encoder))


def _weak(weight: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(regularizer=WeakSIGReg(), weight=weight)


def _vicreg(weight: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(objective=VICReg(invariance=25, variance=25 * weight, covariance=weight))


def _visreg(weight: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(regularizer=VISReg(recipe.num_slices), weight=weight)


def _weaker_shape(shape: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(regularizer=VISReg(recipe.num_slices, shape=shape), weight=1.0)


def _infonce(temperature: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(objective=InfoNCE(temperature=temperature))


def _ema(decay: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(predictor=_predictor(recipe), target_encoder=EMA(encoder, decay))


def _no_ema(_: float, recipe: SpiralRecipe, encoder: nn.Module) -> dict[str, Any]:
    return dict(predictor=_predictor(recipe))


# Each with the five settings that it may choose from: a factor of ten apart, or spread over a range
# where there is one. The last two are controls, which have nothing to choose.
OBJECTIVES: dict[str, tuple[Options, tuple[float, ...]]] = {
    "SIGReg": (_sigreg, (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    "Weak-SIGReg": (_weak, (1e-3, 1e-2, 1e-1, 1.0, 10.0)),
    "VICReg": (_vicreg, (1e-2, 1e-1, 1.0, 10.0, 100.0)),
    "VISReg": (_visreg, (1e-2, 1e-1, 1.0, 10.0, 100.0)),
    # its terms are published with equal factors; here that of the shape is chosen
    "VISReg, weaker shape": (_weaker_shape, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    "InfoNCE": (_infonce, (0.02, 0.07, 0.2, 0.5, 1.0)),
    "EMA + stop-gradient": (_ema, (0.9, 0.97, 0.99, 0.997, 0.999)),
    "SIGReg alone": (_sigreg_alone, (1.0,)),
    "predictor, no EMA": (_no_ema, (0.0,)),
}

ESCAPES = {
    "SIGReg": 0.01,
    "VICReg": 1.0,
    "VISReg": 1.0,
    "VISReg, weaker shape": 1e-3,
}  # with which setting


def _jepa(objective: str, setting: float, recipe: SpiralRecipe, seed: int) -> JEPA:
    torch.manual_seed(seed)
    encoder = MLP(INPUTS, recipe.hidden, max(recipe.dimensions))
    options = OBJECTIVES[objective][0](setting, recipe, encoder)
    options = dict(predictor=nn.Identity()) | options
    return JEPA(encoder, learning_rate=recipe.learning_rate, **options)


class Together(L.LightningModule):
    """Trainings that share their batches, and nothing else.

    Parameters
    ----------
    members : sequence of JEPA
        Each with networks of its own, and one learning rate for all.
    """

    def __init__(self, members: Sequence[JEPA]):
        super().__init__()
        self.members, self.learning_rate = nn.ModuleList(members), members[0].learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Sum of all losses."""
        return {"loss": sum(m.training_step(batch, batch_idx)["loss"] for m in self.members)}

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: Any, batch_idx: int) -> None:
        """Let moving averages follow."""
        for member in self.members:
            member.on_train_batch_end(outputs, batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all of them."""
        return adam(self)


# ---- what is measured


def share_of_bells(embeddings: Tensor) -> float:
    """How many shadows of a cloud look like a bell, once it is scaled to width 1.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        A cloud.

    Returns
    -------
    float
        Share of 1,000 random directions in which the Epps-Pulley statistic of the first 512
        embeddings is below what 95 % of genuine bells stay below: 0.95 for a round Gaussian.
    """
    cloud = embeddings[:SHOWN]
    cloud = (cloud - embeddings.mean(dim=0)) / embeddings.std(dim=0).mean()
    draw = torch.Generator().manual_seed(1)
    lines = F.normalize(torch.randn(cloud.shape[1], LINES, generator=draw), dim=0)
    return float((epps_pulley((cloud @ lines).T) <= _limit(len(cloud))).float().mean())


@cache
def _limit(count: int) -> float:
    """What the statistic of 95 % of genuine bells of so many points stays below."""
    bells = torch.randn(LINES, count, generator=torch.Generator().manual_seed(0))
    return float(epps_pulley(bells).quantile(0.95))


@dataclass(frozen=True)
class Points:
    """Points to train on, to choose settings on, and to test on, hidden in the same way."""

    train: Spiral
    choose: Spiral
    test: Spiral

    @classmethod
    def draw(cls, recipe: SpiralRecipe, noise: float, seed: int) -> Points:
        seeds = (seed, 2000 + seed, 1000 + seed)
        return cls(*(spiral(recipe.num_points, noise=noise, seed=s) for s in seeds))

    def measure(self, train: Tensor, choose: Tensor, test: Tensor, whole: bool) -> dict[str, float]:
        """What a line reads, and the cloud's shape.

        In part, what is needed to choose a setting; on the `whole`, the shape of shadows, what a
        line reads when it has few labels, and how much else it reads beside t.
        """

        def probe(features: Tensor, of: Spiral, labels: int | None = None) -> float:
            known = train[:labels], self.train.t[:labels]
            return linear_probe(*known, features, of.t).score

        report = collapse_report(test)
        found = {
            "R²": probe(test, self.test),
            "isotropy": isotropy(test),
            "spread": report.std,
            "effective rank": report.effective_rank,
            "SIGReg": report.sigreg,
        }
        if not whole:
            return found | {"R² to choose by": probe(choose, self.choose)}
        waves = waves_read(train, self.train.t, test, self.test.t)
        few = probe(test, self.test, labels=FEW)
        return found | {"R² of few labels": few, "bells": share_of_bells(test), "waves": waves}


def waves_read(features: Tensor, t: Tensor, test_features: Tensor, test_t: Tensor) -> float:
    """How many of 32 other questions a line answers: the sum of R² over waves along the curve.

    The k-th wave is the cosine with k half periods between the least and the largest t: together
    they are a basis of what can be asked about t. (No R² counts as less than 0.)

    Parameters
    ----------
    features, test_features : Tensor, shapes (N, D) and (M, D)
        Embeddings to fit on, and to score on.
    t, test_t : Tensor, shapes (N,) and (M,)
        The hidden number.

    Returns
    -------
    float
        From 0 to the smaller one of D and 32.
    """
    low, high = t.min(), t.max()

    def asked(t: Tensor) -> Tensor:
        return torch.cos(
            torch.pi * torch.arange(1, WAVES + 1) * ((t - low) / (high - low))[:, None]
        )

    model = make_pipeline(StandardScaler(), Ridge(alpha=1e-3 * len(features)))
    model.fit(features.double().numpy(), asked(t).numpy())
    wanted, read = asked(test_t).numpy(), model.predict(test_features.double().numpy())
    return float(np.clip(r2_score(wanted, read, multioutput="raw_values"), 0, None).sum())


class Watch:
    """Measures every network of a training at the epochs to look at, for `fit`."""

    def __init__(
        self,
        module: L.LightningModule,
        names: Sequence[str],
        embed: Callable[[Tensor], list[Tensor]],
        points: Points,
        looks: Sequence[int],
        steps: int,
        whole: bool,
    ):
        self.module, self.names, self.embed, self.points = module, names, embed, points
        self.looks, self.steps, self.whole = looks, steps, whole

    def __call__(self) -> dict[str, float]:
        epoch = self.module.global_step // self.steps
        if epoch not in self.looks:
            return {}
        splits = (self.points.train, self.points.choose, self.points.test)
        clouds = zip(*(self.embed(split.points) for split in splits), strict=True)
        return {
            f"{name}|{key}": float(f"{value:.5g}")
            for name, parts in zip(self.names, clouds, strict=True)
            for key, value in self.points.measure(*parts, self.whole).items()
        }

    def curves(self, monitors: list[dict[str, float]]) -> dict[str, dict[str, list[float]]]:
        """Values by network and measure, one for each look."""
        curves: dict[str, dict[str, list[float]]] = {}
        for row in monitors:
            for key, value in row.items():
                name, measure = key.split("|")
                curves.setdefault(name, {}).setdefault(measure, []).append(value)
        return curves


# ---- the parts


def _rules(recipe: SpiralRecipe) -> list[Rules]:
    sizes, widest = recipe.dimensions, max(recipe.dimensions)
    both = [Rules(f"both rules, D = {d}", d, True, recipe.weight) for d in sizes]
    alone = [Rules(f"SIGReg alone, D = {d}", d, False, recipe.weight) for d in sizes]
    return [*both, Rules(f"prediction alone, D = {widest}", widest, True, 0.0), *alone]


def _stack(
    rules: Sequence[Rules], looks: Sequence[int], recipe: SpiralRecipe, whole: bool
) -> Callable[[int, list[Path]], Outcome]:
    def do(seed: int, states: list[Path]) -> Outcome:
        points = Points.draw(recipe, recipe.noise, seed)
        encoders = Stack(INPUTS, recipe.hidden, [rule.dimensions for rule in rules], seed)
        how = dict(num_slices=recipe.num_slices, learning_rate=recipe.learning_rate)
        module = StackTraining(encoders, rules, **how)

        def embed(x: Tensor) -> list[Tensor]:
            return [h[:, : r.dimensions] for h, r in zip(encoders(x), rules, strict=True)]

        partners = curve_neighbours(points.train.t, width=recipe.width)
        names = [rule.name for rule in rules]
        return _train(module, names, embed, points, partners, looks, seed, states, recipe, whole)

    return do


def _together(
    objective: str, recipe: SpiralRecipe, *, space: bool = False
) -> Callable[[int, list[Path]], Outcome]:
    settings, looks = OBJECTIVES[objective][1], recipe.objective_looks

    def do(seed: int, states: list[Path]) -> Outcome:
        points = Points.draw(recipe, recipe.hard_noise, seed)
        members = [_jepa(objective, setting, recipe, seed) for setting in settings]
        if space:
            partners = space_neighbours(points.train.points)
        else:
            partners = curve_neighbours(points.train.t, width=recipe.width)
        first = slice(recipe.batch_size)
        x, y = points.train.points[first], points.train.points[partners[first, 0]]
        spent = _seconds_per_step(_jepa(objective, settings[0], recipe, seed), x, y)
        names = [f"{setting:g}" for setting in settings]
        done = _train_members(members, names, points, partners, looks, seed, states, recipe)
        done.entry["seconds per step"] = spent
        return done

    return do


def _escape(objective: str, recipe: SpiralRecipe) -> Callable[[int, list[Path]], Outcome]:
    sizes, looks = recipe.start_sizes, recipe.escape_looks

    def do(seed: int, states: list[Path]) -> Outcome:
        points = Points.draw(recipe, recipe.noise, seed)
        members = [_jepa(objective, ESCAPES[objective], recipe, seed) for _ in sizes]
        for member, size in zip(members, sizes, strict=True):
            _shrink(member.context_encoder, points.train.points, size)
        partners = curve_neighbours(points.train.t, width=recipe.width)
        names = [f"{size:g}" for size in sizes]
        return _train_members(members, names, points, partners, looks, seed, states, recipe)

    return do


def _train_members(members: list[JEPA], names: list[str], points: Points, *how: Any) -> Outcome:
    def embed(x: Tensor) -> list[Tensor]:
        return [member.context_encoder(x) for member in members]

    return _train(Together(members), names, embed, points, *how, False)


@torch.no_grad()
def _shrink(encoder: MLP, points: Tensor, size: float) -> None:
    """Let the embeddings lie about 0, with the standard deviation `size`, by the last layer."""
    last, h = encoder[-1], encoder(points)
    last.bias -= h.mean(dim=0)
    for parameter in (last.weight, last.bias):
        parameter *= size / h.std(dim=0).mean()


def _seconds_per_step(module: JEPA, points: Tensor, neighbours: Tensor, steps: int = 20) -> float:
    """Median time of forward and backward pass of one training by itself."""
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        module.training_step((points, neighbours), 0)["loss"].backward()
        taken.append(time.perf_counter() - start)
    return float(f"{sorted(taken)[steps // 2]:.3g}")


def _train(
    module: L.LightningModule,
    names: Sequence[str],
    embed: Callable[[Tensor], list[Tensor]],
    points: Points,
    partners: Tensor,
    looks: Sequence[int],
    seed: int,
    states: list[Path],
    recipe: SpiralRecipe,
    whole: bool,
) -> Outcome:
    batches = neighbour_batches(points.train.points, partners, batch_size=recipe.batch_size)
    watch = Watch(module, names, embed, points, looks, len(batches), whole)
    how = dict(seed=seed, checkpoint=states[0], monitor=watch, progress=False)
    history = fit(module, batches, epochs=looks[-1], **how)
    curves = watch.curves(history.monitors)
    raw = points.measure(points.train.points, points.choose.points, points.test.points, False)
    scores = {name: round(curve["R²"][-1], 4) for name, curve in curves.items()}
    entry = {
        "scores": scores | {"raw": round(raw["R²"], 4)},
        "seconds": round(history.seconds, 1),
        "steps per epoch": len(batches),
        "curves": {"epochs": list(looks), **curves},
    }
    return Outcome(entry)


PARTS = {
    "curves": "both rules, SIGReg alone and prediction alone, in each dimension",
    "weights": "both rules with other lambdas",
    "escape": "starts from clouds that are nearly, or quite, a point",
    "objectives": "what may stand in the second rule's place, each with settings to choose from",
    "space": "SIGReg with neighbours found in the space that the model sees",
}


def _runs(recipe: SpiralRecipe) -> list[Run]:
    weights = [
        Rules(f"lambda {weight:g}, D = {d}", d, True, weight)
        for d in recipe.weights_dimensions
        for weight in recipe.weights
    ]

    def run(part: str, do: Callable[[int, list[Path]], Outcome], objective: str = "") -> Run:
        return Run({"part": part} | ({"objective": objective} if objective else {}), do)

    return [
        run("curves", _stack(_rules(recipe), recipe.looks, recipe, whole=True)),
        run("weights", _stack(weights, recipe.weights_looks, recipe, whole=False)),
        *[run("escape", _escape(name, recipe), name) for name in ESCAPES],
        *[run("objectives", _together(name, recipe), name) for name in OBJECTIVES],
        run("space", _together("SIGReg", recipe, space=True), "SIGReg"),
    ]


def spiral_record(
    recipe: SpiralRecipe,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = tuple(PARTS),
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Do each part once per seed; the record is written after every one.

    Parameters
    ----------
    recipe : SpiralRecipe
        Settings.
    name : str
        Name of the recipe: the record is ``folder/spiral/name.json``.
    parts : sequence of str
        Of `PARTS`.
    folder, checkpoints, seeds, say
        See `complete_record`.
    devices, nodes : int, default 1
        Only 1: the networks are too small to be shared.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a part is unknown, or `devices` or `nodes` is not 1.
    RecordError
        If the record that is there has other settings.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {unknown}")
    if (devices, nodes) != (1, 1):
        raise ValueError(f"devices and nodes must be 1, got {devices} and {nodes}")
    return complete_record(
        "spiral",
        name,
        recipe=recipe,
        data="generated",
        runs=[run for run in _runs(recipe) if run.key["part"] in parts],
        folder=folder,
        checkpoints=checkpoints,
        seeds=seeds,
        say=say,
    )
