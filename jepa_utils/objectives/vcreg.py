"""VICReg's two penalties on one cloud of embeddings, where there is no second view."""

from __future__ import annotations

from torch import Tensor, nn

from jepa_utils.objectives._checks import check_not_negative
from jepa_utils.objectives.vicreg import _hinge, _moments, _off_diagonal

__all__ = ["VCReg", "vcreg"]


def vcreg(
    embeddings: Tensor,
    *,
    variance: float = 25.0,
    covariance: float = 1.0,
    target_std: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """``variance * variance_penalty + covariance * covariance_penalty``.

    Parameters
    ----------
    embeddings : Tensor, shape (..., N, D)
        N embeddings of D dimensions; leading axes are independent batches, averaged.
    variance, covariance : float, default 25.0, 1.0
        Factors of the two; VICReg's by default.
    target_std, eps : float
        See `variance_penalty`.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    TypeError, ValueError
        As `variance_penalty`, and if a factor is negative.

    Notes
    -----
    Distributed runs follow the convention of `sigreg`.

    References
    ----------
    Zhu et al., "Variance-Covariance Regularization Improves Representation Learning", arXiv
    2306.13292; the penalties are those of Bardes, Ponce and LeCun, arXiv 2105.04906.
    """
    factors = dict(variance=variance, covariance=covariance)
    moments = _moments(embeddings, **factors, target_std=target_std, eps=eps)
    spread = _hinge(moments, float(target_std), float(eps))
    # as Python's floats: a NumPy scalar on the left would make an array of the tensor
    return float(variance) * spread + float(covariance) * _off_diagonal(moments)


vcreg.distributed = True


class VCReg(nn.Module):
    """`vcreg` as a module with fixed factors.

    Parameters
    ----------
    variance, covariance, target_std, eps
        See `vcreg`.
    """

    distributed = True

    def __init__(
        self,
        variance: float = 25.0,
        covariance: float = 1.0,
        target_std: float = 1.0,
        eps: float = 1e-4,
    ):
        super().__init__()
        self.factors = dict(
            variance=variance, covariance=covariance, target_std=target_std, eps=eps
        )
        check_not_negative(**self.factors)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (..., N, D) to a scalar."""
        return vcreg(embeddings, **self.factors)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.factors.items())
