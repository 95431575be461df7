"""Retrieval: does a query find its own key among many?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["recall_at_k"]


def recall_at_k(queries: Tensor, keys: Tensor, *, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries whose own key is among the k most similar ones, by cosine.

    Parameters
    ----------
    queries, keys : Tensor, shape (N, D)
        Row i of `keys` is the right answer to row i of `queries`. The gallery is all N keys; chance is k / N.
    ks : sequence of int, default (1, 5, 10)
        Sizes of the list looked at.

    Returns
    -------
    dict of int to float
        Recall between 0 and 1 for each k. Ties count with the chance that a random order puts the right one first, so a
        collapsed encoder scores k / N.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a k is not between 1 and N.
    """
    if queries.dim() != 2 or queries.shape != keys.shape or len(queries) == 0:
        raise ValueError(f"queries and keys must have one shape (N, D), got {tuple(queries.shape)} and {tuple(keys.shape)}")
    for name, x in (("queries", queries), ("keys", keys)):
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if len(ks) == 0 or not all(k == int(k) and 1 <= k <= len(keys) for k in ks):
        raise ValueError(f"ks must be numbers between 1 and N = {len(keys)}, got {tuple(ks)}")
    queries, keys = (F.normalize(x.detach().double(), dim=1) for x in (queries, keys))
    similarity = queries @ keys.T  # (N, N)
    own = similarity.diagonal().unsqueeze(1)
    rounding = 1e-12
    closer = (similarity > own + rounding).sum(dim=1).double()
    tied = ((similarity - own).abs() <= rounding).sum(dim=1)  # the right one among them
    return {k: float(((k - closer) / tied).clamp(0, 1).mean()) for k in ks}
