"""A spiral in disguise: one hidden number per point, a curve, lifted into many dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from jepa_utils.arguments import whole

__all__ = ["Spiral", "curve_neighbours", "space_neighbours", "spiral"]


@dataclass(frozen=True)
class Spiral:
    """Points on a spiral, and what a model must not see.

    Attributes
    ----------
    t : Tensor, shape (N,)
        The hidden number, an angle in radians.
    plane : Tensor, shape (N, 2)
        The clean spiral, in units of its standard deviation per axis.
    points : Tensor, shape (N, dimensions)
        What a model sees: rotated, and with noise.
    lift : Tensor, shape (dimensions, 2)
        The rotation; orthonormal columns.
    """

    t: Tensor
    plane: Tensor
    points: Tensor
    lift: Tensor


def spiral(
    count: int,
    *,
    noise: float = 0.05,
    dimensions: int = 50,
    start: float = 1.5 * math.pi,
    stop: float = 4.5 * math.pi,
    seed: int = 0,
    lift_seed: int = 0,
) -> Spiral:
    """Draw points from the spiral ``(t cos t, t sin t)``, and hide them in a larger space.

    Parameters
    ----------
    count : int
        Number of points N.
    noise : float, default 0.05
        Standard deviation of Gaussian noise in every dimension, in units of the spiral's own per
        axis.
    dimensions : int, default 50
        Of the space that the spiral is rotated into.
    start, stop : float
        Range of t in radians; by default the one and a half turns of the usual Swiss roll.
    seed : int, default 0
        Of the points and the noise.
    lift_seed : int, default 0
        Of the rotation. Training and test points need the same.

    Returns
    -------
    Spiral

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    count, dimensions = whole("count", count), whole("dimensions", dimensions)
    seed, lift_seed = whole("seed", seed), whole("lift_seed", lift_seed)
    if count < 2 or dimensions < 2:
        raise ValueError(
            f"count and dimensions must be at least 2, got count={count}, dimensions={dimensions}"
        )
    if noise < 0:
        raise ValueError(f"noise must be 0 or positive, got {noise}")
    if not 0 <= start < stop:
        raise ValueError(
            f"start must be 0 or positive and below stop, got start={start}, stop={stop}"
        )
    generator = torch.Generator().manual_seed(seed)
    t = start + (stop - start) * torch.rand(count, generator=generator)
    plane = torch.stack([t * t.cos(), t * t.sin()], dim=1) / _spread(start, stop)
    lift = torch.linalg.qr(
        torch.randn(dimensions, 2, generator=torch.Generator().manual_seed(lift_seed))
    )[0]
    points = plane @ lift.T + noise * torch.randn(count, dimensions, generator=generator)
    return Spiral(t=t, plane=plane, points=points, lift=lift)


def _spread(start: float, stop: float) -> float:
    """Standard deviation per axis of the unscaled spiral."""
    t = torch.linspace(start, stop, 10_001, dtype=torch.float64)
    curve = torch.stack([t * t.cos(), t * t.sin()], dim=1)
    return float((curve - curve.mean(dim=0)).square().sum(dim=1).mean().div(2).sqrt())


def curve_neighbours(t: Tensor, *, width: float, count: int = 16, seed: int = 0) -> Tensor:
    """Partners along the curve: for each point, some whose t differs by at most `width`.

    This needs the hidden number, as a record of who came after whom would give it;
    `space_neighbours` does without.

    Parameters
    ----------
    t : Tensor, shape (N,)
        Hidden numbers.
    width : float
        Largest difference, in the units of t.
    count : int, default 16
        Partners per point K, drawn with replacement.
    seed : int, default 0
        Of the draw.

    Returns
    -------
    Tensor of int64, shape (N, K)
        Indices of partners; never the point itself.

    Raises
    ------
    ValueError
        If `t` is not (N,), `width` or `count` is not positive, or a point has no partner within
        `width`.
    """
    if t.dim() != 1 or not torch.isfinite(t).all():
        raise ValueError(f"t must have shape (N,) and be finite, got shape {tuple(t.shape)}")
    count, seed = whole("count", count), whole("seed", seed)
    if width <= 0 or count < 1:
        raise ValueError(
            f"width must be positive and count at least 1, got width={width}, count={count}"
        )
    ordered, order = t.sort()
    low = torch.searchsorted(ordered, ordered - width)  # (N,) first partner, in the order of t
    high = torch.searchsorted(ordered, ordered + width, right=True)  # (N,) one past the last
    here = torch.arange(len(t))
    others = high - low - 1
    if (others == 0).any():
        raise ValueError(
            f"width must reach another point from every point, got {width}: "
            f"{int((others == 0).sum())} have none"
        )
    u = torch.rand(len(t), count, generator=torch.Generator().manual_seed(seed))
    pick = low[:, None] + (u * others[:, None]).long().clamp(max=others[:, None] - 1)
    pick += pick >= here[:, None]  # step over the point itself
    partners = torch.empty_like(pick)
    partners[order] = order[pick]
    return partners


def space_neighbours(points: Tensor, *, count: int = 16) -> Tensor:
    """Partners in space: for each point, its nearest others.

    Parameters
    ----------
    points : Tensor, shape (N, D)
        What a model sees.
    count : int, default 16
        Partners per point K.

    Returns
    -------
    Tensor of int64, shape (N, K)
        Indices of partners, nearest first; never the point itself.

    Raises
    ------
    ValueError
        If `points` is not (N, D) or has no `count` others.
    """
    count = whole("count", count)
    if points.dim() != 2 or not 1 <= count < len(points):
        raise ValueError(
            f"points must have shape (N, D) with N above count, got {tuple(points.shape)} "
            f"and count={count}"
        )
    search = NearestNeighbors(n_neighbors=count).fit(points.detach().cpu().numpy())
    return torch.from_numpy(
        search.kneighbors(return_distance=False)
    )  # without arguments, a point is not its own neighbour
