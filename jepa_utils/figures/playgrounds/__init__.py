"""Playgrounds for pages of prose: what goes with their script, in `PLAYGROUNDS`, by name.

``{playground} NAME`` on a page calls ``PLAYGROUNDS[NAME]()`` and hands the result to `play_html`.
"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex

from jepa_utils.figures.style import COLOURS, figure_style
from jepa_utils.objectives.sigreg import sigreg

__all__ = ["PLAYGROUNDS"]

SLICES = 64  # directions, evenly spread over the half circle
ANGLE = 20  # degrees


def _directions(slices: int) -> torch.Tensor:
    """(2, slices): evenly spread over the half circle."""
    angles = torch.arange(slices, dtype=torch.float64) * math.pi / slices
    return torch.stack([angles.cos(), angles.sin()])


def _gradient(points: np.ndarray, slices: int) -> np.ndarray:
    places = torch.tensor(points, requires_grad=True)
    sigreg(places, directions=_directions(slices)).backward()
    return places.grad.numpy()


def _round(count: int) -> np.ndarray:
    """Points (count, 2) that fill a Gaussian evenly: a sunflower's, stretched."""
    order = np.arange(count)
    radius = np.sqrt(-2 * np.log(1 - (order + 0.5) / count))
    turn = order * math.pi * (3 - math.sqrt(5))
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _presets(count: int = 24) -> dict[str, np.ndarray]:
    bell = _round(count)
    side, height = np.where(np.arange(count) % 2, 1, -1), np.where(np.arange(count) // 2 % 2, 1, -1)
    return {
        "round": bell,
        "collapsed": 0.05 * bell + [0.3, 0.2],
        "line": bell[:, :1] * [1.2, 0.8] + bell[:, 1:] * [-0.03, 0.045],
        "clumps": 0.25 * bell + 1.2 * side[:, None] * [1.0, 0.3],
        "corners": 0.15 * bell + 1.1 * np.stack([side, height], axis=1),
        "zero": np.zeros((count, 2)),
    }


def _sigreg() -> dict:
    """SIGReg by hand: points to drag, their shadow, and what the penalties see and want."""
    presets = _presets()
    points = presets["clumps"]
    angle = math.radians(ANGLE)
    shadow = points @ [math.cos(angle), math.sin(angle)]
    descent = -_gradient(points, SLICES) - (points - points.mean(axis=0)) / len(points)
    with figure_style():
        fig, (cloud, bars, waves) = plt.subplots(1, 3, figsize=(9, 3.2))
    cloud.quiver(*points.T, *descent.T, width=0.006)
    cloud.scatter(*points.T, s=20, color=COLOURS[0])
    far = 3.5 * np.array([-1, 1])
    cloud.plot(far * math.cos(angle), far * math.sin(angle), "--", color=COLOURS[1])
    cloud.set(title="the cloud and a direction", xlim=far, ylim=far, aspect="equal")
    u = np.linspace(-5, 5, 201)
    bell = np.exp(-(u**2) / 2)
    bars.hist(shadow, bins=np.arange(-5, 5.1, 0.5), density=True, alpha=0.45, color=COLOURS[1])
    bars.plot(u, bell / math.sqrt(2 * math.pi), color="black")
    bars.set(title="its shadow and the bell", xlabel="place u on the line")
    waves.plot(u, bell, color="black", label="bell")
    waves.plot(u, np.cos(np.outer(u, shadow)).mean(axis=1), "--", label="mean cos tu")
    waves.plot(u, np.sin(np.outer(u, shadow)).mean(axis=1), ":", label="mean sin tu")
    waves.set(title="characteristic functions", xlabel="frequency t")
    waves.legend(fontsize=8)
    return dict(
        data={
            "presets": presets,
            "start": "clumps",
            "angle": ANGLE,
            "limit": 3.5,
            "losses": ["sigreg", "vicreg", "visreg"],
            "lambda": 1,
            "lambdas": [0, 0.02, 0.1, 1],
        },
        still=fig,
        caption="SIGReg by hand. Left, a cloud of points and where gradient descent takes each of "
        "them. Right, the cloud's shadow along the dashed direction, and the characteristic "
        "function of that shadow; SIGReg is the mean, over directions, of its weighted squared "
        "distance from the bell's.",
        alt="Two clumps of points: along the line that joins them the shadow has two humps and its "
        "characteristic function misses the bell's; gradient descent on SIGReg spreads each clump "
        "and lets the two grow together.",
    )


def _hero() -> dict:
    """A cloud that prediction pulls together and SIGReg keeps round, with a slider between them."""
    count, weight, slices = 320, 0.95, 24
    radius = np.sqrt(-2 * np.log(1 - (np.arange(count) + 0.5) / count))  # of a Gaussian
    spiral = radius[:, None] * np.stack([np.cos(4 * radius), np.sin(4 * radius)], axis=1)
    spiral += 0.25 * np.random.default_rng(0).normal(size=(count, 2))
    points = spiral
    for _ in range(60):  # as the script does it
        pull = points - points.mean(axis=0)
        points = points - 0.25 * ((1 - weight) * pull + weight * _gradient(points, slices))
    shade = np.arange(count) * 32 // count
    palette = [to_hex(c) for c in colormaps["viridis"](np.linspace(0.2, 0.9, 32))]
    with figure_style():
        fig, ax = plt.subplots(figsize=(7, 4.2))
    ax.scatter(*points.T, s=40, c=[palette[s] for s in shade])
    ax.set(xlim=(-4.4, 4.4), ylim=(-2.6, 2.6), aspect="equal")
    ax.axis("off")
    return dict(
        data={
            "points": points,
            "spiral": spiral,
            "shade": shade,
            "palette": palette,
            "lambda": weight,
        },
        still=fig,
        caption="Prediction alone pulls all embeddings to one point (λ = 0); SIGReg keeps the "
        "cloud round (λ = 1). Move the slider, or touch the cloud.",
        alt="A round cloud of points, coloured along the spiral that they started from: SIGReg "
        "keeps it from collapsing to the single point that prediction alone would make of it.",
    )


PLAYGROUNDS = {"sigreg": _sigreg, "hero": _hero}
