"""Nearest neighbours of embeddings, and how often they share a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist

from jepa_utils.arguments import check_count
from jepa_utils.evaluation._arrays import as_numbers, as_rows

__all__ = ["base_rate", "nearest_neighbours", "neighbour_purity"]

METRICS = ("euclidean", "cosine")

# Distances formed at once: the memory bound.
CHUNK = 2**23


def nearest_neighbours(
    embeddings: np.ndarray, queries: Sequence[int], *, k: int = 5, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows to each queried row, itself left out.

    Parameters
    ----------
    embeddings : array, shape (V, D)
        One row per item.
    queries : sequence of int, length Q, or mask of V bools
        Rows to look up.
    k : int, default 5
        Neighbours per query; at most V - 1.
    metric : {"euclidean", "cosine"}, default "euclidean"
        Distance to rank by. A row of zeros is at a right angle to every other.

    Returns
    -------
    indices, distances : arrays, shape (Q, k)
        Nearest first; identical rows in their order.

    Raises
    ------
    ValueError
        If a shape, `k`, `metric` or a query is out of range.
    """
    x, k = _check(embeddings, k, metric)
    queries = as_rows("queries", queries, len(x))
    found, distances = np.empty((2, len(queries), k))
    for part, near, _ in _distances(x, queries, metric):
        found[part] = order = near.argsort(axis=1, kind="stable")[:, :k]
        distances[part] = np.take_along_axis(near, order, axis=1)
    if metric == "cosine":
        distances = distances**2 / 2
    else:
        distances = np.ldexp(distances, _exponent(x))
    return found.astype(np.int64), distances


def _check(embeddings: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, int]:
    x = as_numbers("embeddings", embeddings).astype(np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"embeddings must be a finite array of shape (V, D), got shape {x.shape}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    return x, check_count("k", k, len(x) - 1, "V - 1")


def _exponent(x: np.ndarray) -> int:
    return int(np.frexp(np.abs(x).max(initial=0.0))[1])


def _distances(
    x: np.ndarray, queries: np.ndarray, metric: str
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Some queries at a time: which, their distances (n, V) to all rows, and lengths (n,).

    Itself is infinitely far. Euclidean distances are over ``2**_exponent(x)``, a division that
    rounds nothing and keeps squares in range; in place of cosines stand distances on the unit
    sphere, which also rank those that are near.
    """
    if metric == "cosine":
        x = x / _or_one(np.abs(x).max(axis=1, keepdims=True, initial=0.0))
        x = x / _or_one(np.linalg.norm(x, axis=1, keepdims=True))
    else:
        x = np.ldexp(x, -_exponent(x))
    length = np.linalg.norm(x, axis=1)
    rows = max(1, CHUNK // len(x))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        asked = queries[part]
        # From differences, not products: equal for equal rows, to the last digit.
        near = cdist(x[asked], x)
        if metric == "cosine":
            near[length[asked] == 0] = near[:, length == 0] = np.sqrt(2)
        near[np.arange(len(asked)), asked] = np.inf
        yield part, near, length[asked]


def _or_one(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 1.0, x)


def shared_places(distances: np.ndarray, lengths: np.ndarray, k: int) -> np.ndarray:
    """How much of the k places near each query every row takes: the mean over all orders of ties.

    Parameters
    ----------
    distances : array, shape (Q, V)
        From queries to rows.
    lengths : array, shape (Q,)
        Norms of the queries.
    k : int
        Places.

    Returns
    -------
    array, shape (Q, V)
        1 for rows nearer than the k-th, 0 for those farther off; those as far share what is left.
    """
    last = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
    # What rounding makes of equal distances: of sums a part of the distance, and of coordinates a
    # part of their size.
    rounding = 1e-12 * last + 16 * np.finfo(np.float64).eps * lengths[:, None]
    nearer, tied = distances < last - rounding, np.abs(distances - last) <= rounding
    places = k - nearer.sum(axis=1, keepdims=True)
    return nearer + tied * (places / tied.sum(axis=1, keepdims=True))


def neighbour_purity(
    embeddings: np.ndarray,
    classes: Mapping[str, Sequence[int]],
    *,
    k: int = 5,
    metric: str = "euclidean",
) -> dict[str, float]:
    """Share of the k nearest neighbours that belong to the same class, for each class.

    Neighbours are sought among all rows, also those of no class: they count as misses. A random
    ranking therefore scores the base rate (size - 1) / (V - 1), see `base_rate`. So does a
    collapsed cloud, for rows equally near share the places that they are tied for.

    Parameters
    ----------
    embeddings : array, shape (V, D)
        One row per item.
    classes : mapping of str to sequence of int, or to mask of V bools
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
        If a class has fewer than two rows or names one twice, or as `nearest_neighbours`.
    """
    x, k = _check(embeddings, k, metric)
    rows = _class_rows(classes, len(x))
    members = np.zeros((len(x), len(rows)))  # (V, classes)
    for number, own in enumerate(rows.values()):
        members[own, number] = 1
    queries = np.flatnonzero(members.any(axis=1))
    hits = np.zeros(members.shape)
    for part, near, lengths in _distances(x, queries, metric):
        hits[queries[part]] = shared_places(near, lengths, k) @ members
    return {
        name: float(hits[own, number].sum() / (len(own) * k))
        for number, (name, own) in enumerate(rows.items())
    }


def base_rate(classes: Mapping[str, Sequence[int]], size: int) -> dict[str, float]:
    """Purity that a random ranking of `size` rows has, for each class as in `neighbour_purity`."""
    size = check_count("size", size)
    return {name: (len(rows) - 1) / (size - 1) for name, rows in _class_rows(classes, size).items()}


def _class_rows(classes: Mapping[str, Sequence[int]], size: int) -> dict[str, np.ndarray]:
    found = {name: as_rows(f"classes[{name!r}]", rows, size) for name, rows in classes.items()}
    for name, rows in found.items():
        if len(rows) < 2:
            raise ValueError(f"classes[{name!r}] needs at least 2 rows, got {len(rows)}")
        if len(np.unique(rows)) < len(rows):
            raise ValueError(f"classes[{name!r}] must name each row once, got {rows.tolist()}")
    return found
