"""InfoNCE: tell the right partner from the wrong ones; and the two things it asks for, alignment and uniformity.

With unit vectors q_i and k_j, temperature tau and partners on the diagonal::

    loss = -mean_i log( exp(q_i . k_i / tau) / sum_j exp(q_i . k_j / tau) )
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from jepa_utils.objectives._batch import BatchGroup, check_pair, check_points

__all__ = ["InfoNCE", "alignment", "info_nce", "uniformity"]


def _normalised(name: str, x: Tensor) -> Tensor:
    size = x.detach().abs().amax(dim=1, keepdim=True)  # out first: squares of very long or short vectors leave the range
    if (size == 0).any():
        raise ValueError(f"{name} must have no zero vector, which has no direction, got {int((size == 0).sum())} of {len(x)}")
    x = x / size
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _check_temperature(temperature: float | Tensor) -> None:
    number = temperature.item() if isinstance(temperature, Tensor) and temperature.numel() == 1 else temperature
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise ValueError(f"temperature must be a positive finite number, got {temperature!r}")


def _check_positives(positives: Tensor, shape: tuple[int, int], symmetric: bool) -> None:
    if not isinstance(positives, Tensor) or positives.dtype != torch.bool or tuple(positives.shape) != shape:
        got = (positives.dtype, tuple(positives.shape)) if isinstance(positives, Tensor) else type(positives).__name__
        raise ValueError(f"positives must be a boolean tensor of shape {shape}, queries by keys, got {got}")
    if not positives.any(dim=1).all() or (symmetric and not positives.any(dim=0).all()):
        raise ValueError(f"positives must name a partner of every query{' and key' if symmetric else ''}, got one without")


def _cross_entropy(logits: Tensor, positives: Tensor | None, first: int) -> Tensor:
    """Mean over rows; row i's partner is column first + i, or those in `positives`, each of them against the negatives alone."""
    if positives is None:
        return F.cross_entropy(logits, torch.arange(first, first + len(logits), device=logits.device))
    negatives = logits.masked_fill(positives, -math.inf).logsumexp(dim=1, keepdim=True)
    # log(1 + exp(negatives - positive)), which is 0 without any negative
    losses = F.softplus(negatives - logits).masked_fill(~positives, 0)
    return (losses.sum(dim=1) / positives.sum(dim=1)).mean()


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    symmetric: bool = True,
    positives: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of finding each query's partner among all keys, by cosine similarity.

    Parameters
    ----------
    queries : Tensor, shape (N, D)
        Of any length but 0: they are normalised here.
    keys : Tensor, shape (N, D)
        Row i is the partner of query i. With `positives` there may be another number of them, (M, D).
    temperature : float or scalar Tensor, default 0.07
        Divides the cosines; a tensor may be learned.
    symmetric : bool, default True
        Average with the loss of finding each key's query.
    positives : Tensor of bool, shape (N, M), optional
        Which keys are partners of which query, where there are several. Each partner then competes with the non-partners
        alone, and a query's loss is the mean over its partners.

    Returns
    -------
    Tensor, scalar
        In nats: 0 at best; log N for a query whose keys are all equal.

    Raises
    ------
    TypeError
        If queries or keys are no floating-point tensors.
    ValueError
        If shapes do not fit, a vector is 0, NaN or infinite, `temperature` is not positive, or `positives` leaves a query (or
        key, where `symmetric`) without a partner.

    Notes
    -----
    In a distributed run the keys (and queries) of all processes compete; every process must bring equally many, and
    `positives` is not available. Each process gets the loss of its own rows.

    References
    ----------
    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748, equation 4;
    several positives: each against the negatives alone, a choice of this book.
    """
    queries, keys = check_pair(queries, keys, ("queries", "keys"), same_length=positives is None)
    _check_temperature(temperature)
    if positives is not None:
        _check_positives(positives, (len(queries), len(keys)), symmetric)
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = _normalised("queries", queries), _normalised("keys", keys)
        group = BatchGroup.of(len(queries), queries.device)
        if group is None:
            logits = queries @ keys.T / temperature  # (N, M)
            loss = _cross_entropy(logits, positives, 0)
            if symmetric:
                loss = (loss + _cross_entropy(logits.T, None if positives is None else positives.T, 0)) / 2
            return loss
        if positives is not None:
            raise ValueError("positives must be None in a distributed run, got a tensor")
        if group.largest * group.ranks != group.total:
            raise ValueError(
                f"queries must be equally many on every process, got {len(queries)} here of {group.total} on {group.ranks}"
            )
        first = dist.get_rank() * len(queries)
        all_keys = torch.cat(all_gather(keys))  # its backward sums over processes
        loss = _cross_entropy(queries @ all_keys.T / temperature, None, first)
        if symmetric:
            all_queries = torch.cat(all_gather(queries))
            loss = (loss + _cross_entropy(keys @ all_queries.T / temperature, None, first)) / 2
        return loss


class InfoNCE(nn.Module):
    """`info_nce` as a module, with a fixed or a learned temperature.

    Parameters
    ----------
    temperature : float, default 0.07
        Where it starts, or stays.
    learn_temperature : bool, default False
        Make its logarithm a parameter.
    symmetric : bool, default True
        See `info_nce`.
    """

    def __init__(self, temperature: float = 0.07, *, learn_temperature: bool = False, symmetric: bool = True):
        super().__init__()
        _check_temperature(temperature)
        log = torch.tensor(math.log(temperature))
        if learn_temperature:
            self.log_temperature = nn.Parameter(log)
        else:
            self.register_buffer("log_temperature", log)
        self.symmetric = symmetric

    def forward(self, queries: Tensor, keys: Tensor, *, positives: Tensor | None = None) -> Tensor:
        """Two batches (N, D) to a scalar; arguments and errors as for `info_nce`."""
        temperature = self.log_temperature.exp()
        return info_nce(queries, keys, temperature=temperature, symmetric=self.symmetric, positives=positives)

    def extra_repr(self) -> str:
        return f"temperature={self.log_temperature.exp().item():.4g}, symmetric={self.symmetric}"


def alignment(first: Tensor, second: Tensor, *, power: float = 2.0) -> Tensor:
    """How far partners lie apart on the unit sphere: the mean of ``|first_i - second_i| ** power``.

    Parameters
    ----------
    first, second : Tensor, shape (N, D)
        Partners, row by row; normalised here.
    power : float, default 2.0
        Exponent. Below 2 the gradient is undefined where partners coincide.

    Returns
    -------
    Tensor, scalar
        0 where all partners coincide; with power 2, 2 for unrelated and 4 for opposite directions.

    Raises
    ------
    TypeError, ValueError
        As `info_nce`; also if `power` is not positive.

    References
    ----------
    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere",
    ICML 2020, arXiv 2005.10242.
    """
    first, second = check_pair(first, second, ("first", "second"))
    if isinstance(power, bool) or not 0 < power < math.inf:
        raise ValueError(f"power must be a positive finite number, got {power!r}")
    gap = _normalised("first", first) - _normalised("second", second)
    return gap.square().sum(dim=1).pow(power / 2).mean()


def uniformity(embeddings: Tensor, *, t: float = 2.0) -> Tensor:
    """How evenly directions cover the sphere: ``log mean_{i<j} exp(-t |x_i - x_j|**2)``.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        Normalised here.
    t : float, default 2.0
        Sharpness of the kernel.

    Returns
    -------
    Tensor, scalar
        0 where all directions are equal, more negative the more evenly they are spread.

    Raises
    ------
    TypeError
        If `embeddings` is no floating-point tensor.
    ValueError
        If it is not (N, D) with N >= 2, holds a zero vector, NaN or infinity, or if `t` is not positive.

    References
    ----------
    Wang and Isola, arXiv 2005.10242.
    """
    x = check_points("embeddings", embeddings, wants="(N, D)", min_dim=2, count_axis=0)
    if x.dim() != 2:
        raise ValueError(f"embeddings must have shape (N, D), got {tuple(x.shape)}")
    if isinstance(t, bool) or not 0 < t < math.inf:
        raise ValueError(f"t must be a positive finite number, got {t!r}")
    distances = torch.pdist(_normalised("embeddings", x)).square()  # (N (N - 1) / 2,)
    return (-t * distances).logsumexp(dim=0) - math.log(len(distances))
