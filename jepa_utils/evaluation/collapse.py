"""Is a cloud of embeddings collapsing? Spread, effective rank and distance from a Gaussian."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from jepa_utils.arguments import check_count
from jepa_utils.objectives.sigreg import epps_pulley

__all__ = ["CollapseReport", "collapse_report", "effective_rank", "isotropy"]


def _check_embeddings(embeddings: Tensor) -> Tensor:
    if (
        not isinstance(embeddings, Tensor)
        or embeddings.dim() != 2
        or min(embeddings.shape, default=0) == 0
    ):
        got = (
            tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
        )
        raise ValueError(f"embeddings must be a tensor of shape (N, D), got {got}")
    if len(embeddings) < 2:
        raise ValueError(
            f"embeddings needs at least 2 samples, got shape {tuple(embeddings.shape)}"
        )
    if not torch.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite, got NaN or infinity")
    return embeddings.detach().cpu().double()  # not every accelerator has double precision


def effective_rank(embeddings: Tensor) -> float:
    """How many dimensions a cloud of embeddings really uses.

    The exponential of the entropy of the normalised singular values of the centred embeddings.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        N embeddings.

    Returns
    -------
    float
        Between 1 (a line) and min(N - 1, D) (equal spread in every direction); 0 where all
        embeddings are equal.

    Raises
    ------
    ValueError
        If `embeddings` is not a finite (N, D) tensor with N >= 2.

    References
    ----------
    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    values = _singular_values(_check_embeddings(embeddings))
    if len(values) == 0:
        return 0.0
    p = values / values.sum()
    return float(torch.exp(-(p * p.log()).sum()))


def isotropy(embeddings: Tensor) -> float:
    """How round a cloud is: the participation ratio of its covariance's eigenvalues, over D.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        N embeddings.

    Returns
    -------
    float
        ``(sum l)**2 / (D sum l**2)`` of the eigenvalues l: from 1/D (a line) to 1 (equal spread in
        every direction); 0 where all embeddings are equal. It is blind to scale, and to shape
        beyond second moments.

    Raises
    ------
    ValueError
        If `embeddings` is not a finite (N, D) tensor with N >= 2.
    """
    x = _check_embeddings(embeddings)
    values = _singular_values(x).square()
    return float(values.sum() ** 2 / (x.shape[1] * values.square().sum())) if len(values) else 0.0


def _down(x: Tensor) -> float:
    """A power of two, which rounds nothing, that brings the largest number near 1.

    Squares then stay in range."""
    exponent = math.frexp(float(x.abs().max()))[1]
    return math.ldexp(1.0, max(-1000, min(1000, -exponent)))


def _singular_values(x: Tensor) -> Tensor:
    """Those of the centred embeddings (N, D) that are more than rounding, up to a common factor."""
    x = x * _down(x)
    # Equal points may differ from their mean by rounding: that is no spread.
    rounding = 1e-12 * x.abs().max() * max(x.shape) ** 0.5
    values = torch.linalg.svdvals(x - x.mean(dim=0))
    return values[values > rounding]


@dataclass(frozen=True)
class CollapseReport:
    """What `collapse_report` measures.

    Attributes
    ----------
    std : float
        Standard deviation per dimension, averaged over dimensions, in units of the embedding.
    min_std : float
        The smallest of them.
    effective_rank : float
        See `effective_rank`.
    sigreg : float
        SIGReg value: about 1.06 for an isotropic Gaussian cloud.
    """

    std: float
    min_std: float
    effective_rank: float
    sigreg: float

    def to_dict(self) -> dict[str, float]:
        """The four numbers by name."""
        return asdict(self)


def collapse_report(embeddings: Tensor, *, num_slices: int = 512, seed: int = 0) -> CollapseReport:
    """Measure the signs of collapse of a cloud of embeddings.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        N embeddings.
    num_slices : int, default 512
        Directions for the SIGReg value; fixed by `seed`, so that values over training compare.
    seed : int, default 0
        Seed of the directions.

    Returns
    -------
    CollapseReport

    Raises
    ------
    ValueError
        If `embeddings` is not a finite (N, D) tensor with N >= 2, or `num_slices` is below 1.

    Notes
    -----
    Describes the samples of this process; it makes no collective call, so any one process may call
    it.
    """
    x = _check_embeddings(embeddings)
    num_slices = check_count("num_slices", num_slices)
    directions = torch.randn(
        x.shape[1], num_slices, generator=torch.Generator().manual_seed(int(seed)), dtype=x.dtype
    )
    directions = directions / directions.norm(dim=0)
    std = (x * _down(x)).std(dim=0) / _down(x)
    # Single precision holds no more; so far out the value no longer depends on the scale.
    shown = x if float(x.abs().max()) < 2.0**100 else x * _down(x) * 2.0**100
    return CollapseReport(
        std=float(std.mean()),
        min_std=float(std.min()),
        effective_rank=effective_rank(x),
        sigreg=float(epps_pulley((shown @ directions).T.float()).mean()),
    )
