"""VISReg: centre, spread and shape of a cloud of embeddings, each with a term of its own.

With the mean ``mu_j`` and the standard deviation ``s_j`` of dimension j over N embeddings, M unit
directions ``a_m``, and the N quantiles ``q_i`` of the standard normal at ``i / (N + 1)``::

    centre = mean_j mu_j**2
    scale  = mean_j (1 - s_j)**2
    shape  = mean_m mean_i (u_(i)m - q_i)**2,   u_m = sum_j a_jm (h_j - mu_j) / s_j, sorted

The shape term is the squared Wasserstein distance of each shadow from the bell: sorted numbers
against sorted numbers. In it ``s_j`` counts as a constant, so that the spread is the scale term's
business alone. The gradient of the scale term keeps its size however small the cloud is.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count
from jepa_utils.objectives._checks import check_embeddings, check_not_negative
from jepa_utils.objectives._directions import check_directions, directions_for
from jepa_utils.objectives._distributed import gather, join, total

__all__ = ["VISReg", "visreg"]

# Standard deviations below this one do not enlarge the cloud any further in the shape term.
_FLOOR = 1e-6


@lru_cache(maxsize=32)
def _quantiles(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of the standard normal at i / (n + 1), i = 1..n."""
    places = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
    return torch.special.ndtri(places).to(dtype).to(device)


def _shape(cloud: Tensor, directions: Tensor) -> Tensor:
    """Squared distances of sorted shadows from the quantiles: sum over slices, mean over the rest.

    cloud (..., N, D) has mean 0 and standard deviation 1; directions (D, M).
    """
    shadows = directions.T @ cloud.transpose(-1, -2)  # (..., M, N): what is sorted is contiguous
    order = shadows.detach().argsort(dim=-1, stable=True)
    quantiles = _quantiles(cloud.shape[-2], cloud.dtype, cloud.device).expand_as(shadows)
    targets = torch.empty_like(shadows).scatter_(-1, order, quantiles)  # each point's quantile
    return (shadows - targets).square().mean(dim=-1).sum(dim=-1).mean()


def visreg(
    embeddings: Tensor,
    *,
    num_slices: int = 256,
    scale: float = 1.0,
    shape: float = 1.0,
    center: float = 1.0,
    directions: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How far a cloud of embeddings is from an isotropic Gaussian in centre, spread and shape.

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions. Leading axes are independent batches (views, time steps),
        averaged. float16 and bfloat16 are computed in float32.
    num_slices : int, default 256
        Random directions drawn anew at every call; not used where `directions` is given.
    scale, shape, center : float, default 1.0
        Factors of the three terms.
    directions : Tensor, shape (D, num_slices), optional
        Directions to project on, columns of length 1. No gradient flows to them.
    generator : torch.Generator, optional
        Source of the random directions; torch's own by default.

    Returns
    -------
    Tensor, scalar
        ``scale * mean_j (1 - s_j)**2 + shape * mean (u_(i) - q_i)**2 + center * mean_j mu_j**2``.
        It does not grow with N. About 2 where all points are 0: 1 from the scale, and from the
        shape the mean square of the quantiles, which is a little below 1. A Gaussian sample gets
        little, but not 0.

    Raises
    ------
    TypeError
        If `embeddings` is no floating-point tensor.
    ValueError
        If `embeddings` has fewer than two axes or two samples, NaN or infinity; if `directions`
        does not fit; if a number is out of range.

    Notes
    -----
    This is the regulariser alone. The paper's loss is ``(1 - lambda) * error + lambda * visreg``,
    where the error is the mean squared distance of all views from the mean of the global ones; it
    advises a lambda of 0.6 on small data sets and trains on ImageNet with 0.7 to 0.9.

    *Gradient at collapse.* The gradient of the scale term has the norm ``2 (1 - s) / sqrt(N D)``
    for a cloud of standard deviation s: it does not fade where SIGReg's does. That of the shape
    term grows like ``1 / s``, because the cloud is enlarged to standard deviation 1 before it is
    looked at; below s = 1e-6 it is enlarged no further. Equal points get their quantiles in the
    order of the rows, so even points all on one spot are pushed apart, to arbitrary sides and very
    strongly: clip gradients there, as the paper's training does. With ``shape=0`` nothing moves
    them apart.

    *What the paper leaves open*, and what is done here. Its algorithm 1 averages, as here; its
    equations sum the shape term over samples and the centre term over dimensions, which is N and D
    times as much. The equation of the shape term adds an epsilon to the standard deviation and
    does not say which; the authors' code of July 2026 takes the larger of the deviation and 1e-6,
    in the scale term too, whose gradient is then 0 below 1e-6; here in the shape term only. The
    number of directions is 64 in algorithm 1, 256 by default in their code, and 2048 to 4096 in
    the paper's training, where every GPU draws its own. The formula was checked against their code
    and project page; what is said of equations, algorithm and training is as others quote them.

    In a distributed run (``torch.distributed`` initialised) every process must call it. As with
    `sigreg`, each process gets the value of one process with the concatenated batch, the
    directions are those of rank 0, and what is wrong on one process is raised on all. Each sorts
    its share of the slices.

    References
    ----------
    Wu, Balestriero and Levine, "VISReg: Variance-Invariance-Sketching Regularization for JEPA
    training", arXiv 2606.02572, algorithm 1.
    """
    factors = dict(scale=scale, shape=shape, center=center)

    def check(at_least: int):
        check_not_negative(**factors)
        points = check_embeddings(embeddings, at_least)
        lines = check_directions(directions, num_slices, points.shape[-1])
        return {"embeddings": points}, {"directions": lines} | factors

    (points,), (group,) = join(check)
    directions = directions_for(points, directions, num_slices, generator)
    slices = directions.shape[1]
    if group is not None:
        directions = directions[:, group.rank :: group.ranks]
    with torch.autocast(points.device.type, enabled=False):
        cloud = gather(points, group)
        mean = cloud.mean(dim=-2, keepdim=True)
        centred = cloud - mean
        variance = centred.square().mean(dim=-2, keepdim=True)
        # A root has no gradient at 0; of points all on one spot it is none, and no NaN.
        std = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
        round_cloud = centred / std.detach().clamp_min(_FLOOR)
        terms = {
            "scale": (1 - std).square().mean(),
            "shape": total(_shape(round_cloud, directions), group) / slices,
            "center": mean.square().mean(),
        }
    value = sum(float(factor) * terms[name] for name, factor in factors.items())
    if not torch.isfinite(value):
        raise ValueError(
            f"embeddings must be small enough for their squares in {points.dtype}, "
            f"got a value of {float(value)}"
        )
    return value


visreg.distributed = True


class VISReg(nn.Module):
    """`visreg` as a module with fixed settings.

    Parameters
    ----------
    num_slices, scale, shape, center
        See `visreg`.

    Examples
    --------
    >>> loss = 0.4 * prediction_loss + 0.6 * VISReg()(embeddings)    # doctest: +SKIP
    """

    distributed = True

    def __init__(
        self, num_slices: int = 256, scale: float = 1.0, shape: float = 1.0, center: float = 1.0
    ):
        super().__init__()
        self.num_slices = check_count("num_slices", num_slices)
        self.factors = dict(scale=scale, shape=shape, center=center)
        check_not_negative(**self.factors)

    def forward(
        self,
        embeddings: Tensor,
        *,
        directions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Embeddings (..., N, D) to a scalar; arguments and errors as for `visreg`."""
        return visreg(
            embeddings,
            num_slices=self.num_slices,
            directions=directions,
            generator=generator,
            **self.factors,
        )

    def extra_repr(self) -> str:
        settings = {"num_slices": self.num_slices} | self.factors
        return ", ".join(f"{name}={value}" for name, value in settings.items())
