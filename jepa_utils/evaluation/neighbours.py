"""Nearest neighbours of embeddings, and how often they share a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors

__all__ = ["base_rate", "nearest_neighbours", "neighbour_purity"]

METRICS = ("euclidean", "cosine")


def nearest_neighbours(
    embeddings: np.ndarray, queries: Sequence[int], *, k: int = 5, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows to each queried row, itself left out.

    Parameters
    ----------
    embeddings : array, shape (V, D)
        One row per item.
    queries : sequence of int, length Q
        Rows to look up.
    k : int, default 5
        Neighbours per query; at most V - 1.
    metric : {"euclidean", "cosine"}, default "euclidean"
        Distance to rank by.

    Returns
    -------
    indices, distances : arrays, shape (Q, k)
        Nearest first.

    Raises
    ------
    ValueError
        If a shape, `k`, `metric` or a query is out of range.
    """
    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"embeddings must be a finite array of shape (V, D), got shape {x.shape}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    if not 1 <= k < len(x):
        raise ValueError(f"k must be between 1 and V - 1 = {len(x) - 1}, got {k}")
    queries = np.asarray(queries, dtype=np.int64)
    if queries.size and not (0 <= queries.min() and queries.max() < len(x)):
        raise ValueError(
            f"queries must lie between 0 and {len(x) - 1}, got {queries.min()} to {queries.max()}"
        )
    distances, found = (
        NearestNeighbors(n_neighbors=k + 1, metric=metric, algorithm="brute")
        .fit(x)
        .kneighbors(x[queries])
    )
    # The query is usually its own first neighbour, but not where another row is identical: drop it
    # wherever it stands.
    others = found != queries[:, None]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(-1, k), distances[others].reshape(-1, k)


def neighbour_purity(
    embeddings: np.ndarray,
    classes: Mapping[str, Sequence[int]],
    *,
    k: int = 5,
    metric: str = "euclidean",
) -> dict[str, float]:
    """Share of the k nearest neighbours that belong to the same class, for each class.

    Neighbours are sought among all rows, also those of no class: they count as misses. A random
    ranking therefore scores the base rate (size - 1) / (V - 1), see `base_rate`.

    Parameters
    ----------
    embeddings : array, shape (V, D)
        One row per item.
    classes : mapping of str to sequence of int
        Rows of each class; every class needs two rows or more.
    k, metric
        See `nearest_neighbours`.

    Returns
    -------
    dict of str to float
        Purity between 0 and 1 for each class.

    Raises
    ------
    ValueError
        If a class has fewer than two rows, or as `nearest_neighbours`.
    """
    for name, rows in classes.items():
        if len(rows) < 2:
            raise ValueError(f"classes[{name!r}] needs at least 2 rows, got {len(rows)}")
    queries = np.unique(np.concatenate([np.asarray(rows) for rows in classes.values()]))  # sorted
    found, _ = nearest_neighbours(embeddings, queries, k=k, metric=metric)
    return {
        name: float(np.isin(found[np.searchsorted(queries, rows)], rows).mean())
        for name, rows in classes.items()
    }


def base_rate(classes: Mapping[str, Sequence[int]], size: int) -> dict[str, float]:
    """Purity that a random ranking of `size` rows has, for each class."""
    return {name: (len(rows) - 1) / (size - 1) for name, rows in classes.items()}
