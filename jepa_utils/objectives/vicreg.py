"""VICReg: two views close, every dimension spread, different dimensions uncorrelated.

With the covariance matrix C of N embeddings of D dimensions::

    variance penalty   = mean_j max(0, 1 - sqrt(C_jj + eps))
    covariance penalty = sum_{i != j} C_ij**2 / D

Only second moments are looked at: a cloud on a ring, or in two clumps, may have both penalties at
0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.objectives._checks import check_embeddings, check_not_negative, check_pair
from jepa_utils.objectives._distributed import BatchGroup, join, total
from jepa_utils.objectives._distributed import covariance as covariance_of

__all__ = ["VICReg", "covariance_penalty", "variance_penalty", "vicreg"]


def _moments(embeddings: Tensor, **numbers: float) -> Tensor:
    """Covariance (..., D, D), once embeddings and numbers are found to be in order."""

    def check(at_least: int):
        check_not_negative(**numbers)
        points = check_embeddings(embeddings, at_least)
        return {"embeddings": points}, numbers

    (points,), (group,) = join(check)
    return _covariance("embeddings", points, group)


def _covariance(name: str, points: Tensor, group: BatchGroup | None) -> Tensor:
    with torch.autocast(points.device.type, enabled=False):
        return covariance_of(name, points, group)


def _hinge(c: Tensor, target_std: float, eps: float) -> Tensor:
    return F.relu(target_std - torch.sqrt(c.diagonal(dim1=-2, dim2=-1) + eps)).mean()


def _off_diagonal(c: Tensor) -> Tensor:
    dimensions = c.shape[-1]
    same = torch.eye(dimensions, dtype=torch.bool, device=c.device)
    return c.masked_fill(same, 0).square().sum(dim=(-2, -1)).mean() / dimensions


def variance_penalty(embeddings: Tensor, *, target_std: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far the standard deviations fall short of their target (VICReg's variance term).

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions; leading axes are independent batches, averaged.
    target_std : float, default 1.0
        What each standard deviation should reach, in units of the embedding; more is not punished.
    eps : float, default 1e-4
        Added to each variance. Below a standard deviation of sqrt(eps) the gradient fades; with 0
        it is undefined at collapse.

    Returns
    -------
    Tensor, scalar
        Mean shortfall over dimensions, in units of the embedding: from 0 to target_std - sqrt(eps).

    Raises
    ------
    TypeError
        If `embeddings` is no floating-point tensor.
    ValueError
        If `embeddings` has fewer than two axes or two samples, NaN or infinity; if a number is
        negative.

    Notes
    -----
    Distributed runs follow the convention of `sigreg`: the moments run over the samples of all
    processes.

    References
    ----------
    Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning", ICLR 2022, arXiv 2105.04906, equation 1.
    """
    moments = _moments(embeddings, target_std=target_std, eps=eps)
    return _hinge(moments, float(target_std), float(eps))


variance_penalty.distributed = True


def covariance_penalty(embeddings: Tensor) -> Tensor:
    """Sum of the squared covariances of different dimensions, over D (VICReg's covariance term).

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions; leading axes are independent batches, averaged.

    Returns
    -------
    Tensor, scalar
        In units of the embedding to the fourth power; 0 where dimensions are uncorrelated.

    Raises
    ------
    TypeError, ValueError
        As `variance_penalty`.

    References
    ----------
    Bardes, Ponce and LeCun, arXiv 2105.04906, equations 3 and 4.
    """
    return _off_diagonal(_moments(embeddings))


covariance_penalty.distributed = True


def vicreg(
    first: Tensor,
    second: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    target_std: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """VICReg's loss of the embeddings of two views.

    ``invariance * MSE(first, second) + variance * mean of both variance penalties + covariance *
    sum of both covariance penalties``, as the authors' code has it. (Their equation 6 sums the
    variance penalties and does not average the squared error over dimensions.)

    Parameters
    ----------
    first, second : Tensor, shape (N, D)
        Embeddings of two views, row by row; or a prediction and what it should predict.
    invariance, variance, covariance : float
        Factors of the three terms.
    target_std, eps : float
        See `variance_penalty`.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    TypeError
        If one of the two is no floating-point tensor.
    ValueError
        If their shapes differ or are not (N, D) with N >= 2, if they hold NaN or infinity, or if a
        number is negative.

    Notes
    -----
    Distributed runs follow the convention of `sigreg`.

    References
    ----------
    Bardes, Ponce and LeCun, arXiv 2105.04906, equations 1 to 6.
    """
    numbers = dict(
        invariance=invariance,
        variance=variance,
        covariance=covariance,
        target_std=target_std,
        eps=eps,
    )

    def check(at_least: int):
        check_not_negative(**numbers)
        pair = check_pair(first, second, ("first", "second"), at_least=at_least)
        return dict(zip(("first", "second"), pair, strict=True)), numbers

    (first_points, second_points), (group, _) = join(check)
    moments = [
        _covariance(name, x, group)
        for name, x in zip(("first", "second"), (first_points, second_points))
    ]
    spread = sum(_hinge(c, float(target_std), float(eps)) for c in moments) / 2
    correlation = sum(_off_diagonal(c) for c in moments)
    if group is None:
        error = F.mse_loss(first_points, second_points)
    else:
        squares = F.mse_loss(first_points, second_points, reduction="sum")
        error = total(squares, group) / (group.total * first_points.shape[1])
    # as Python's floats: a NumPy scalar on the left would make an array of the tensor
    factors = float(invariance), float(variance), float(covariance)
    return factors[0] * error + factors[1] * spread + factors[2] * correlation


vicreg.distributed = True


class VICReg(nn.Module):
    """`vicreg` as a module with fixed factors.

    Parameters
    ----------
    invariance, variance, covariance, target_std, eps
        See `vicreg`.
    """

    distributed = True

    def __init__(
        self,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        target_std: float = 1.0,
        eps: float = 1e-4,
    ):
        super().__init__()
        self.factors = dict(
            invariance=invariance,
            variance=variance,
            covariance=covariance,
            target_std=target_std,
            eps=eps,
        )
        check_not_negative(**self.factors)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two batches (N, D) to a scalar."""
        return vicreg(first, second, **self.factors)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.factors.items())
