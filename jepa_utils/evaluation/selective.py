"""When to put an embedding into words: decode at each k-th frame, or only when it has moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.arguments import whole

__all__ = [
    "decodings_needed",
    "latest_decoding",
    "moved_moments",
    "random_moments",
    "uniform_moments",
]


def uniform_moments(frames: int, every: int, *, first: int = 0) -> Tensor:
    """Decode every k-th frame, and the first one.

    Parameters
    ----------
    frames : int
        Number of frames N.
    every : int
        Interval k.
    first : int, default 0
        Frame from which the intervals are counted.

    Returns
    -------
    Tensor of bool, shape (N,)

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    frames, every = whole("frames", frames, 1), whole("every", every, 1)
    number = torch.arange(frames)
    return ((number - whole("first", first, 0)) % every == 0) | (number == 0)


def random_moments(frames: int, number: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Decode the first frame, and others at random.

    Parameters
    ----------
    frames : int
        Number of frames N.
    number : int
        How many are decoded, the first one included.
    generator : torch.Generator, optional
        Draws them; torch's own by default.

    Returns
    -------
    Tensor of bool, shape (N,)

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    frames = whole("frames", frames, 1)
    number = whole("number", number, 1, frames, "the number of frames")
    decode = torch.zeros(frames, dtype=torch.bool)
    decode[0] = True
    decode[1 + torch.randperm(frames - 1, generator=generator)[: number - 1]] = True
    return decode


def moved_moments(embeddings: Tensor, threshold: float) -> Tensor:
    """Decode the first frame, and then whenever the embedding has moved.

    Each frame is compared with the mean direction of those since the last decoding. Where the
    cosine between both is further than `threshold` from 1, the frame is decoded, and the mean
    begins anew.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
        One for each frame, in their order.
    threshold : float
        Cosine distance, from 0 to 2.

    Returns
    -------
    Tensor of bool, shape (N,)

    Raises
    ------
    ValueError
        If `embeddings` has another shape or no rows, or `threshold` is out of range.
    """
    if embeddings.dim() != 2 or not len(embeddings):
        raise ValueError(f"embeddings must have shape (N, D), got {tuple(embeddings.shape)}")
    if not 0 <= threshold <= 2:
        raise ValueError(f"threshold must be from 0 to 2, got {threshold}")
    directions = F.normalize(embeddings.double(), dim=1).numpy()  # a loop of few numbers each
    decode = torch.zeros(len(directions), dtype=torch.bool)
    total = np.zeros_like(directions[0])
    for number, direction in enumerate(directions):
        length = np.sqrt(total @ total)
        if number == 0 or total @ direction < (1 - threshold) * length:
            decode[number], total = True, np.zeros_like(total)
        total = total + direction
    return decode


def latest_decoding(decode: Tensor) -> Tensor:
    """Of each frame: the number of the last frame up to it that was decoded.

    Parameters
    ----------
    decode : Tensor of bool, shape (N,)
        Which frames are decoded; the first one is.

    Returns
    -------
    Tensor of int64, shape (N,)

    Raises
    ------
    ValueError
        If `decode` is not of bool and one dimension, or does not begin with the first frame.
    """
    if decode.dim() != 1 or decode.dtype != torch.bool or not len(decode) or not decode[0]:
        raise ValueError(
            "decode must be of bool, with the first frame among those decoded, "
            f"got {decode.dtype} of {tuple(decode.shape)}"
        )
    return (torch.arange(len(decode)) * decode).cummax(dim=0).values


def decodings_needed(curve: Sequence[Sequence[float]], score: float) -> float:
    """How many decodings a policy needs for a score, read from its curve.

    Parameters
    ----------
    curve : sequence of (decodings, score, ...)
        Points of the policy, in any order. Between two of them the line counts. A point that is no
        better than one with fewer decodings is passed over.
    score : float
        The score wanted.

    Returns
    -------
    float
        The most decodings of the curve where the score is beyond it, the fewest where it is below.

    Raises
    ------
    ValueError
        If the curve has no points.
    """
    if not len(curve):
        raise ValueError(f"curve must have at least one point, got {curve!r}")
    rising: list[tuple[float, float]] = []
    for number, reached, *_ in sorted(map(tuple, curve)):
        if not rising or reached > rising[-1][1]:
            rising.append((number, reached))
    if score > rising[-1][1]:
        return float(max(point[0] for point in curve))
    numbers, scores = zip(*rising, strict=True)
    return float(np.interp(score, scores, numbers))
