"""Retrieval: does a query find its own key among many?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.arguments import check_count

__all__ = ["label_precision", "recall_at_k"]

# Similarities formed at once: the memory bound.
_CHUNK = 2**23


def directions(x: Tensor) -> Tensor:
    """Rows (N, D) at length 1, but for those of zeros; any scale, as squares stay in range."""
    size = x.abs().amax(dim=1, keepdim=True)
    # only where it is called for, as a division rounds
    usual = (size == 0) | ((1e-6 < size) & (size < 1e6))
    return F.normalize(x / size.masked_fill(usual, 1), dim=1)


def recall_at_k(
    queries: Tensor,
    keys: Tensor,
    *,
    ks: Sequence[int] = (1, 5, 10),
    positives: Tensor | None = None,
) -> dict[int, float]:
    """Share of queries with a right key among the k most similar ones, by cosine.

    Parameters
    ----------
    queries : Tensor, shape (N, D)
        What is looked for.
    keys : Tensor, shape (N, D)
        The gallery. Row i is the right answer to query i; chance is k / N. With `positives` there
        may be another number of keys, (M, D).
    ks : sequence of int, default (1, 5, 10)
        Sizes of the list looked at.
    positives : Tensor of bool, shape (N, M), optional
        Which keys are right answers to which query, where that is not the diagonal; one of them
        among the first k is enough. Chance for a query with R right keys is ``1 - C(M - R, k) /
        C(M, k)``. For the way back give the transpose.

    Returns
    -------
    dict of int to float
        Recall between 0 and 1 for each k. Ties count with the chance that a random order puts a
        right one among the first k, so a collapsed encoder scores the chance level. A vector of
        zeros is at a right angle to every other.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, a k is no integer between 1 and the number of
        keys, or `positives` leaves a query without a right key.

    Examples
    --------
    Images with five captions each, one after another:

    >>> images, captions = torch.eye(3), torch.eye(3).repeat_interleave(5, dim=0)
    >>> positives = torch.eye(3, dtype=torch.bool).repeat_interleave(5, dim=1)
    >>> recall_at_k(images, captions, ks=(1,), positives=positives)
    {1: 1.0}
    >>> recall_at_k(captions, images, ks=(1,), positives=positives.T)
    {1: 1.0}
    """
    for name, x in (("queries", queries), ("keys", keys)):
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(x).__name__}")
    fits = (
        queries.dim() == keys.dim() == 2
        and queries.shape[1] == keys.shape[1]
        and min(*queries.shape, *keys.shape) > 0
    )
    if not fits or (positives is None and len(queries) != len(keys)):
        wanted = "one shape (N, D)" if positives is None else "shapes (N, D) and (M, D)"
        raise ValueError(
            f"queries and keys must have {wanted}, "
            f"got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    _check_finite(queries, keys)
    limit = "N" if positives is None else "M"
    if not isinstance(ks, Iterable) or not list(ks):
        raise ValueError(f"ks must hold numbers between 1 and {limit} = {len(keys)}, got {ks!r}")
    ks = [check_count("ks", k, len(keys), limit) for k in ks]
    if positives is None:
        positives = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
    elif (
        not isinstance(positives, Tensor)
        or positives.dtype != torch.bool
        or positives.shape != (len(queries), len(keys))
    ):
        got = (
            f"{positives.dtype}, {tuple(positives.shape)}"
            if isinstance(positives, Tensor)
            else type(positives).__name__
        )
        raise ValueError(
            f"positives must be a boolean tensor of shape {(len(queries), len(keys))}, got {got}"
        )
    elif not positives.any(dim=1).all():
        raise ValueError("positives must name a right key of every query, got one without")
    queries, keys = (directions(x.detach().double()) for x in (queries, keys))
    rows = max(1, _CHUNK // len(keys))
    counts = [
        _counts(part @ keys.T, right)
        for part, right in zip(queries.split(rows), positives.split(rows))
    ]
    closer, tied, right = (torch.cat(column) for column in zip(*counts))
    return {k: float(_hit_chance(k - closer, tied, right).mean()) for k in ks}


def label_precision(queries: Tensor, keys: Tensor, labels: Tensor, *, k: int = 10) -> float:
    """Share of the k keys most similar to a query, by cosine, that have its label.

    Parameters
    ----------
    queries, keys : Tensor, shapes (N, D)
        Row i of both has label i.
    labels : Tensor, shape (N,)
        Such as the article that a passage is from.
    k : int, default 10
        Length of the list looked at.

    Returns
    -------
    float
        Between 0 and 1. Less than 1 can be reached where a label has fewer than k keys.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or `k` is no integer between 1 and N.
    """
    if queries.dim() != 2 or queries.shape != keys.shape or labels.shape != keys.shape[:1]:
        raise ValueError(
            f"queries and keys must have one shape (N, D), and labels (N,), got "
            f"{tuple(queries.shape)}, {tuple(keys.shape)} and {tuple(labels.shape)}"
        )
    _check_finite(queries, keys)
    k = check_count("k", k, len(keys), "N")
    queries, keys = (directions(x.detach().double()) for x in (queries, keys))
    nearest = (queries @ keys.T).topk(k, dim=1).indices  # (N, k)
    return float((labels[nearest] == labels[:, None]).double().mean())


def _check_finite(queries: Tensor, keys: Tensor) -> None:
    for name, x in (("queries", queries), ("keys", keys)):
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")


def _counts(similarity: Tensor, positives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each row (n, M): keys above the best right one, tied with it, and right of these."""
    best = similarity.masked_fill(~positives, -torch.inf).amax(dim=1, keepdim=True)
    rounding = 1e-12
    tied = (similarity - best).abs() <= rounding
    return (similarity > best + rounding).sum(dim=1), tied.sum(dim=1), (tied & positives).sum(dim=1)


def _hit_chance(places: Tensor, tied: Tensor, right: Tensor) -> Tensor:
    """Chance that one of the `right` among `tied` keys is among the first `places` at random."""
    places = places.clamp(min=0)
    miss = torch.ones(len(tied), dtype=torch.float64, device=tied.device)
    for i in range(
        int(right.max())
    ):  # place the right ones one after another, each behind the first places
        behind = (tied - places - i).clamp(min=0) / (tied - i).double()
        miss = torch.where(i < right, miss * behind, miss)
    return 1 - miss
