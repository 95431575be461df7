"""Sketched isotropic Gaussian regularization (SIGReg) and its relatives.

SIGReg asks of a cloud of embeddings one thing: that its shadow on any line look like a standard
normal. It draws random unit directions, projects, and measures each shadow's distance to the bell
with the Epps-Pulley statistic.

With ``u`` the N projections on one direction, ``phi(t) = exp(-t**2 / 2)`` and trapezoid
weights ``w_k``::

    T = N * sum_k w_k phi(t_k) * [(mean cos(t_k u) - phi(t_k))**2 + (mean sin(t_k u))**2]

**How it is computed**: value and gradient in one pass, with no array of size N x slices x knots.
The integrand is even and zero at ``t = 0``, so only positive knots count, and those are multiples
``k * base`` of one base frequency. With ``a = base * u``, one cosine and one sine per projection
serve all of them, for every ``cos ka`` and ``sin ka`` is a sum of products of two *planes*::

    [cos a, sin a, cos a sin a, cos 2a]  x  [cos 2a, 1, cos 4a, cos 6a, ...]

Only these planes are formed, about half as many as knots. The means over samples are one batched
matrix product of the left ones with the right ones. The gradient is a trigonometric polynomial in
``a`` and hence a sum of the same products: a second matrix product, then left times right.
``_Grid.expansion`` holds those linear relations, read one way for the value and the other for the
gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jepa_utils.arguments import check_count, whole
from jepa_utils.objectives._checks import (
    check_differentiated_once,
    check_embeddings,
    check_points,
    check_positive,
)
from jepa_utils.objectives._directions import check_directions, directions_for, random_directions
from jepa_utils.objectives._distributed import BatchGroup, covariance, join

__all__ = ["SIGReg", "WeakSIGReg", "epps_pulley", "sigreg", "weak_sigreg"]

# Numbers per plane in one chunk on a CPU: the planes of two threads stay near their cores, and fit
# in the memory bound.
_CPU_CHUNK = 128 * 1024
_LEFT = 4  # planes on the left: cos a, sin a, cos a sin a, cos 2a


def _check_grid(knots: int, t_max: float) -> tuple[int, float]:
    check_positive("t_max", t_max)
    return whole("knots", knots, 2), float(t_max)


# The statistic of every row, and its gradient


@dataclass(frozen=True)
class _Grid:
    """The positive knots ``k * base`` for k = 1..H, as tensors ready for use."""

    base: float
    right: int  # planes on the right: even cosines, see `_form_`
    weight: Tensor  # (2H,)  w_k phi(t_k), for the cosines and again for the sines
    target: Tensor  # (2H,)  phi(t_k), then zeros: what the means of a standard normal are
    slope: Tensor  # (2H,)  derivative factors, see `_statistic_`
    expansion: Tensor  # (2H, 4 * right)  harmonics from products of a left and a right plane
    constant: Tensor  # (2H,)  what has to be added to that


@lru_cache(maxsize=32)
def _grid(knots: int, t_max: float, dtype: torch.dtype, device: torch.device) -> _Grid:
    step = 2 * t_max / (knots - 1)
    # An odd number of knots has one at 0 (it adds nothing) and the others at multiples of the step;
    # an even number has its knots at odd multiples of half a step: even harmonics then get weight
    # 0.
    odd = knots % 2 == 1
    base, harmonics = (step, (knots - 1) // 2) if odd else (step / 2, knots - 1)
    k = torch.arange(1, harmonics + 1, dtype=torch.float64)
    t = k * base
    phi = torch.exp(-0.5 * t**2)
    weight = torch.full_like(t, 2 * step)  # both signs of t
    weight[-1] = step  # the trapezoid halves the ends
    if not odd:
        weight[1::2] = 0
    weight = weight * phi
    expansion, constant = _expand(harmonics)

    def ready(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).to(device)  # in this order: not every device has double precision

    return _Grid(
        base=base,
        right=expansion.shape[-1],
        weight=ready(torch.cat([weight, weight])),
        target=ready(torch.cat([phi, torch.zeros_like(phi)])),
        slope=ready(torch.cat([2 * weight * t, -2 * weight * t])),
        expansion=ready(expansion.view(2 * harmonics, -1)),
        constant=ready(constant),
    )


def _expand(harmonics: int) -> tuple[Tensor, Tensor]:
    """``cos ka``, then ``sin ka``, for k = 1..H: products (2H, 4, right) and constants (2H,).

    Solved for the highest harmonic, one after the other::

        cos a       cos 2ja = (cos (2j+1)a + cos (2j-1)a) / 2
        sin a       cos 2ja = (sin (2j+1)a - sin (2j-1)a) / 2
        cos a sin a cos 2ja = (sin (2j+2)a - sin (2j-2)a) / 4
        cos 2a      cos 2ja = (cos (2j+2)a + cos (2j-2)a) / 2
    """
    right = max(2, (harmonics + 1) // 2)
    cos = torch.zeros(2 * right + 1, _LEFT, right, dtype=torch.float64)
    sin, constant = torch.zeros_like(cos), torch.zeros(2 * right + 1, dtype=torch.float64)
    constant[0] = 1  # cos 0
    for j in range(right):
        plane, sign = _place(j)
        for row, (high, factor, kind) in enumerate(
            ((1, 2, cos), (1, 2, sin), (2, 4, sin), (2, 2, cos))
        ):
            k = 2 * j + high
            kind[k, row, plane] = sign * (factor if j else factor / 2)  # j = 0: the two are one
            if j:
                turn = -1 if kind is cos else 1
                kind[k] += turn * kind[k - 2 * high]
                constant[k] += turn * constant[k - 2 * high] if kind is cos else 0
    keep = slice(1, harmonics + 1)
    return torch.cat([cos[keep], sin[keep]]), torch.cat([constant[keep], 0 * constant[keep]])


def _place(j: int) -> tuple[int, int]:
    """Which plane on the right is ``cos 2ja``, and its sign there; see `_form_`."""
    return (1, 0)[j] if j < 2 else j, (1, 1, -1, -1)[j % 4]


def _form_(angles: Tensor, planes: tuple[Tensor, ...]) -> None:
    """Fill cos a, sin a, cos a sin a, cos 2a, (1), -cos 4a, -cos 6a, cos 8a, cos 10a, ..."""
    cos, sin, both, double, one, *even = planes
    torch.cos(angles, out=cos)
    torch.sin(angles, out=sin)
    torch.mul(cos, sin, out=both)
    torch.addcmul(one, sin, sin, value=-2, out=double)
    last, before = double, one
    for j, plane in enumerate(even):  # cos (2j+2)a = 2 cos 2a cos 2ja - cos (2j-2)a, in one pass
        torch.addcmul(before, double, last, value=2 if j % 2 else -2, out=plane)
        last, before = plane, last


def _statistic_(
    angles: Tensor, grid: _Grid, *, count: int, group: BatchGroup | None, gradient: bool
) -> Tensor:
    """Epps-Pulley statistic of every row; `angles` is overwritten by its gradient.

    angles (R, N) is ``base * u``; it comes back as dT/du where `gradient`, and as it was
    otherwise. Returns T (R,)."""
    rows, n = angles.shape
    harmonics = grid.target.numel() // 2
    chunk = _chunk_rows(rows, n if group is None else group.largest, angles.device)
    basis = angles.new_empty(_LEFT - 1 + grid.right, chunk, n)
    basis[_LEFT] = 1
    waves = angles.new_empty(chunk, _LEFT, n) if gradient else None
    statistic = angles.new_empty(rows)
    target = grid.target - grid.constant
    r = 0
    for start in range(0, rows, chunk):
        a = angles[start : start + chunk]  # (r, N)
        if len(a) != r:  # at the start, and for what is left at the end
            r = len(a)
            planes = basis[:, :r].unbind()
            of_row = basis[:, :r].transpose(0, 1)  # (r, planes, N)
            left, right = of_row[:, :_LEFT], of_row[:, _LEFT - 1 :]
        _form_(a, planes)
        products = torch.bmm(left, right.transpose(1, 2))  # (r, 4, right)
        sums = products.view(r, -1) @ grid.expansion.T  # (r, 2H)
        if group is not None:
            dist.all_reduce(sums)
        gap = sums / count - target
        torch.mv(gap * gap, grid.weight, out=statistic[start : start + r])
        if gradient:
            # d cos(k a)/du = -t sin(k a) and d sin(k a)/du = t cos(k a): the two halves change
            # places.
            slopes = gap.roll(harmonics, dims=1) * grid.slope
            coefficients = (slopes @ grid.expansion).view(r, _LEFT, -1)
            torch.bmm(coefficients, right, out=waves[:r])
            torch.addcmul((slopes @ grid.constant)[:, None], left[:, 0], waves[:r, 0], out=a)
            for i in range(1, _LEFT):
                a.addcmul_(left[:, i], waves[:r, i])
    return statistic.mul_(count)


def _chunk_rows(rows: int, n: int, device: torch.device) -> int:
    """How many rows to take at once: cache-sized on a CPU, elsewhere a quarter (in 4 arrays)."""
    numbers = _CPU_CHUNK if device.type == "cpu" else rows * n // 4
    return max(1, min(rows, numbers // n))


class _SlicedStatistic(torch.autograd.Function):
    """Mean over slices of the statistic of ``embeddings @ directions``.

    Keeps only the gradient, (L, N, D).
    """

    @staticmethod
    def forward(
        ctx, embeddings: Tensor, directions: Tensor, grid: _Grid, group: BatchGroup | None
    ) -> Tensor:
        batches, n, dimensions = embeddings.shape
        slices = directions.shape[1]
        points = embeddings.reshape(-1, dimensions)  # (L N, D)
        gradient = ctx.needs_input_grad[0]
        count = n if group is None else group.total
        with torch.autocast(embeddings.device.type, enabled=False):
            angles = (directions * grid.base).T @ points.T  # (M, L N)
            statistic = _statistic_(
                angles.view(batches * slices, n), grid, count=count, group=group, gradient=gradient
            )  # (M L,)
            if gradient:
                scale = (1 if group is None else group.ranks) / (batches * slices)
                # (D, M) @ (M, L N) is several times faster than its transpose where D is small
                ctx.save_for_backward((directions @ angles).mul_(scale).T.reshape(embeddings.shape))
        return statistic.mean()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        check_differentiated_once("sigreg")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None


class _RowStatistic(torch.autograd.Function):
    """The statistic of every row of samples (R, N) -> (R,)."""

    @staticmethod
    def forward(ctx, samples: Tensor, grid: _Grid) -> Tensor:
        angles = samples * grid.base
        gradient = ctx.needs_input_grad[0]
        with torch.autocast(samples.device.type, enabled=False):
            statistic = _statistic_(
                angles, grid, count=samples.shape[1], group=None, gradient=gradient
            )
        if gradient:
            ctx.save_for_backward(angles)
        return statistic

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        check_differentiated_once("epps_pulley")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.unsqueeze(-1), None


# Public functions


def epps_pulley(
    samples: Tensor, *, knots: int = 17, t_max: float = 5.0, exact: bool = False
) -> Tensor:
    """Distance of one-dimensional samples from the standard normal (Epps-Pulley statistic).

    Parameters
    ----------
    samples : Tensor, shape (..., N)
        Each row along the last axis is one sample of N numbers. float16 and bfloat16 are computed
        in float32.
    knots : int, default 17
        Points of the trapezoid rule on [-t_max, t_max]; at least 2.
    t_max : float, default 5.0
        End of the integration range, in units of 1 / (standard deviation of the target), which is
        1.
    exact : bool, default False
        Use the closed form of the integral over the whole line instead of the quadrature. Costs
        N**2 per row.

    Returns
    -------
    Tensor, shape (...)
        The statistic, a pure number: about 1.06 for samples of the standard normal whatever N;
        grows like N otherwise.

    Raises
    ------
    TypeError
        If `samples` is no floating-point tensor.
    ValueError
        If `samples` is a scalar, has fewer than 2 numbers per row, NaN or infinity; if `knots` or
        `t_max` is out of range.

    Notes
    -----
    The statistic is that of this process alone, also in distributed training. A coarse grid repeats
    itself: with 17 knots on [-5, 5] a cluster far from 0 can look nearer than it is, see the
    notation page.

    It can be differentiated once: ``create_graph=True`` is a RuntimeError, unless `exact`.

    References
    ----------
    Epps and Pulley, "A test for normality based on the empirical characteristic function",
    Biometrika 70 (1983).
    """
    points = check_points("samples", samples, wants="(..., N)", min_dim=1, count_axis=-1)
    knots, t_max = _check_grid(knots, t_max)
    rows = points.reshape(-1, points.shape[-1])
    if exact:
        statistic = _exact_statistic(rows)
    else:
        statistic = _RowStatistic.apply(rows, _grid(knots, t_max, rows.dtype, rows.device))
    return statistic.view(points.shape[:-1])


def _exact_statistic(rows: Tensor) -> Tensor:
    n = rows.shape[-1]
    # mean over pairs, a block of rows against all at a time: N x N x R at once would not fit
    block = max(1, 2**22 // rows.numel())
    pairs = sum(
        torch.exp(-0.5 * (part.unsqueeze(-1) - rows.unsqueeze(-2)) ** 2).sum(dim=(-1, -2))
        for part in rows.split(block, dim=-1)
    )
    single = torch.exp(-0.25 * rows**2).mean(dim=-1)
    return n * math.sqrt(2 * math.pi) * (pairs / n**2 - math.sqrt(2) * single + 1 / math.sqrt(3))


def sigreg(
    embeddings: Tensor,
    *,
    num_slices: int = 256,
    knots: int = 17,
    t_max: float = 5.0,
    directions: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How far a cloud of embeddings is from an isotropic Gaussian (SIGReg).

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions. Leading axes are independent batches (views, time steps),
        averaged. float16 and bfloat16 are computed in float32.
    num_slices : int, default 256
        Random directions drawn anew at every call; not used where `directions` is given.
    knots, t_max
        Integration grid, see `epps_pulley`.
    directions : Tensor, shape (D, num_slices), optional
        Directions to project on, columns of length 1. No gradient flows to them.
    generator : torch.Generator, optional
        Source of the random directions; torch's own by default.

    Returns
    -------
    Tensor, scalar
        The Epps-Pulley statistic averaged over directions, a pure number: about 1.06 for a perfect
        Gaussian cloud, and 0.409 N where all points are 0 (default grid).

    Raises
    ------
    TypeError
        If `embeddings` is no floating-point tensor.
    ValueError
        If `embeddings` has fewer than two axes or two samples, NaN or infinity; if `directions`
        does not fit; if a number is out of range.

    Notes
    -----
    In a distributed run (``torch.distributed`` initialised) every process must call it. The means
    run over the samples of all processes, the directions are those of rank 0, and each process
    gets the value of one process with the concatenated batch. The local gradient is multiplied by
    the number of processes, so that the average that DistributedDataParallel takes is the gradient
    of that one process. A process may have any number of samples, if all together have two; what
    is wrong on one of them is raised on all.

    It can be differentiated once: ``create_graph=True`` is a RuntimeError.

    References
    ----------
    Balestriero and LeCun, "LeJEPA", arXiv 2511.08544, algorithm 1; the default grid is that of
    Czinner (2026).
    """
    return _sigreg(embeddings, num_slices, knots, t_max, directions, generator, scale_by_n=True)


sigreg.distributed = True


def _sigreg(
    embeddings, num_slices, knots, t_max, directions, generator, *, scale_by_n: bool
) -> Tensor:
    def check(at_least: int):
        points = check_embeddings(embeddings, at_least)
        grid = _check_grid(knots, t_max)
        lines = check_directions(directions, num_slices, points.shape[-1])
        settings = {"directions": lines, "knots": grid[0], "t_max": grid[1]}
        return {"embeddings": points}, settings | {"scale_by_n": scale_by_n}

    (points,), (group,) = join(check)
    n, dimensions = points.shape[-2:]
    points = points.reshape(math.prod(points.shape[:-2]), n, dimensions)  # (L, N, D)
    directions = directions_for(points, directions, num_slices, generator)
    grid = _grid(*_check_grid(knots, t_max), points.dtype, points.device)
    value = _SlicedStatistic.apply(points, directions, grid, group)
    if not torch.isfinite(value):
        raise ValueError(
            f"embeddings and t_max must be small enough for projections in {points.dtype}, "
            f"got a statistic of {float(value)}"
        )
    return value if scale_by_n else value / (n if group is None else group.total)


class SIGReg(nn.Module):
    """`sigreg` as a module with fixed settings.

    Parameters
    ----------
    num_slices, knots, t_max
        See `sigreg`.
    scale_by_n : bool, default True
        Multiply by the number of samples, as the Epps-Pulley statistic does. Without it the value
        does not grow with the batch, and the same lambda weighs N times less.

    Examples
    --------
    >>> loss = prediction_loss + 0.01 * SIGReg.preset("czinner")(embeddings)    # doctest: +SKIP
    """

    distributed = True
    PRESETS: ClassVar = {
        # S. Czinner, "A Small JEPA Word Embedding Model" (2026): 17 knots on [-5, 5], times N.
        "czinner": dict(num_slices=256, knots=17, t_max=5.0, scale_by_n=True),
        # LeJEPA's reference code: 17 knots on [0, 3] with doubled weights, which is 33 on [-3, 3];
        # times N.
        "lejepa": dict(num_slices=1024, knots=33, t_max=3.0, scale_by_n=True),
        # eb_jepa's BCS loss: 10 knots on [-3, 3], not times N: its lambda 10 at N = 256 is 0.039
        # here.
        "eb_jepa": dict(num_slices=256, knots=10, t_max=3.0, scale_by_n=False),
    }

    def __init__(
        self, num_slices: int = 256, knots: int = 17, t_max: float = 5.0, scale_by_n: bool = True
    ):
        super().__init__()
        self.num_slices = check_count("num_slices", num_slices)
        self.knots, self.t_max = _check_grid(knots, t_max)
        self.scale_by_n = scale_by_n

    @classmethod
    def preset(cls, name: str) -> SIGReg:
        """Settings of a published implementation: "czinner", "lejepa" or "eb_jepa".

        Raises
        ------
        ValueError
            If there is no such preset.
        """
        if name not in cls.PRESETS:
            raise ValueError(f"name must be one of {', '.join(cls.PRESETS)}, got {name!r}")
        return cls(**cls.PRESETS[name])

    def forward(
        self,
        embeddings: Tensor,
        *,
        directions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Embeddings (..., N, D) to a scalar; arguments and errors as for `sigreg`."""
        return _sigreg(
            embeddings,
            self.num_slices,
            self.knots,
            self.t_max,
            directions,
            generator,
            scale_by_n=self.scale_by_n,
        )

    def extra_repr(self) -> str:
        return (
            f"num_slices={self.num_slices}, knots={self.knots}, t_max={self.t_max}, "
            f"scale_by_n={self.scale_by_n}"
        )


def weak_sigreg(
    embeddings: Tensor, *, sketch_dim: int = 64, generator: torch.Generator | None = None
) -> Tensor:
    """Distance of the covariance of embeddings from the identity (Weak-SIGReg).

    Only second moments are compared: the mean may be anywhere and the shape need not be a bell.

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions; leading axes are independent batches, averaged.
    sketch_dim : int, default 64
        Where D is larger, embeddings are first projected on this many random unit directions.
    generator : torch.Generator, optional
        Source of that matrix.

    Returns
    -------
    Tensor, scalar
        Frobenius norm of (covariance - identity): 0 for a perfectly white cloud, sqrt(min(D,
        sketch_dim)) for a collapsed one.

    Raises
    ------
    TypeError, ValueError
        As `sigreg`.

    Notes
    -----
    Distributed runs follow the convention of `sigreg`.

    References
    ----------
    Akbar, "Weak-SIGReg: Covariance Regularization for Stable Deep Learning", arXiv 2603.05924.
    """

    def check(at_least: int):
        points = check_embeddings(embeddings, at_least)
        return {"embeddings": points}, {"sketch_dim": check_count("sketch_dim", sketch_dim)}

    (points,), (group,) = join(check)
    dimensions = points.shape[-1]
    with torch.autocast(points.device.type, enabled=False):
        if dimensions > sketch_dim:
            # the reference's columns have length 1 on average; these exactly, and they are the same
            # on every rank
            points = points @ random_directions(dimensions, sketch_dim, points, generator)
        gap = covariance("embeddings", points, group) - torch.eye(
            min(dimensions, sketch_dim), dtype=points.dtype, device=points.device
        )
        return torch.linalg.matrix_norm(gap).mean()


weak_sigreg.distributed = True


class WeakSIGReg(nn.Module):
    """`weak_sigreg` as a module.

    Parameters
    ----------
    sketch_dim : int, default 64
        See `weak_sigreg`.
    """

    distributed = True

    def __init__(self, sketch_dim: int = 64):
        super().__init__()
        self.sketch_dim = check_count("sketch_dim", sketch_dim)

    def forward(self, embeddings: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Embeddings (..., N, D) to a scalar."""
        return weak_sigreg(embeddings, sketch_dim=self.sketch_dim, generator=generator)

    def extra_repr(self) -> str:
        return f"sketch_dim={self.sketch_dim}"
