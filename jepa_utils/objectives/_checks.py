"""Checks of what objectives are given."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor


def check_points(
    name: str, points: Tensor, *, wants: str, min_dim: int, count_axis: int, at_least: int = 2
) -> Tensor:
    """Return `points` in float32 or float64, or say what is wrong with them."""
    if not isinstance(points, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of shape {wants}, got {type(points).__name__}"
        )
    if not points.dtype.is_floating_point:
        raise TypeError(f"{name} must have a floating-point dtype, got {points.dtype}")
    if points.layout != torch.strided or points.is_meta:
        raise TypeError(
            f"{name} must be a dense tensor with values, got {points.layout} on {points.device}"
        )
    if points.dim() < min_dim:
        raise ValueError(
            f"{name} must have shape {wants}, got a tensor of shape {tuple(points.shape)}"
        )
    if points.shape[count_axis] < at_least:
        raise ValueError(f"{name} needs at least 2 samples, got shape {tuple(points.shape)}")
    if points.numel() == 0 and points.shape[count_axis] > 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(points.shape)}")
    points = points if points.dtype == torch.float64 else points.float()
    # A sum reads the points once, many times faster than looking at each. It is no number where one
    # of them is none; it may also overflow.
    if not math.isfinite(points.detach().sum()):
        bad = int((~torch.isfinite(points)).sum())
        if bad:
            raise ValueError(
                f"{name} must be finite, got {bad} NaN or infinite values of {points.numel()}"
            )
    return points


def check_embeddings(embeddings: Tensor, at_least: int = 2) -> Tensor:
    """Return embeddings (..., N, D) in float32 or float64, or say what is wrong with them."""
    return check_points(
        "embeddings", embeddings, wants="(..., N, D)", min_dim=2, count_axis=-2, at_least=at_least
    )


def check_differentiated_once(name: str) -> None:
    """Raise RuntimeError in a backward whose result will be differentiated again.

    torch's own once_differentiable lets that pass where the incoming gradient is a constant, and
    the second gradient is wrong.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} can be differentiated once, not twice: create_graph must be False, got True"
        )


def check_not_negative(**numbers: float) -> None:
    """Raise ValueError for the first number that is negative, infinite or no number."""
    for name, value in numbers.items():
        if not is_number(value) or value < 0:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a positive finite number."""
    if not is_number(value) or value <= 0:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")


def is_number(value: object) -> bool:
    """Whether it is a finite number, NumPy's included, and no bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def check_rows(name: str, x: Tensor, *, at_least: int = 2) -> Tensor:
    """A batch (N, D) in float32 or float64."""
    if isinstance(x, Tensor) and x.dim() != 2:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(x.shape)}")
    return check_points(name, x, wants="(N, D)", min_dim=2, count_axis=0, at_least=at_least)


def check_pair(
    first: Tensor,
    second: Tensor,
    names: tuple[str, str],
    *,
    at_least: int = 2,
    same_length: bool = True,
) -> tuple[Tensor, Tensor]:
    """Two batches (N, D) in float32 or float64 that belong together, row by row."""
    first, second = (
        check_rows(name, x, at_least=at_least)
        for name, x in zip(names, (first, second), strict=True)
    )
    if first.shape[1] != second.shape[1] or (same_length and len(first) != len(second)):
        equal = "equal shapes" if same_length else "equally many dimensions"
        raise ValueError(
            f"{names[0]} and {names[1]} must have {equal}, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise ValueError(
            f"{names[0]} and {names[1]} must be on one device, "
            f"got {first.device} and {second.device}"
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def check_positives(
    positives: Tensor, queries: int, keys: int | None, device: torch.device
) -> None:
    """Raise ValueError unless `positives` (queries, keys) names a partner of every query."""
    is_tensor = isinstance(positives, Tensor)
    shape = tuple(positives.shape) if is_tensor else ()
    fits = len(shape) == 2 and shape[0] == queries and keys in (None, shape[1])
    if not is_tensor or positives.dtype != torch.bool or not fits:
        got = (positives.dtype, shape) if is_tensor else type(positives).__name__
        wants = f"({queries}, {'keys of all ranks' if keys is None else keys})"
        raise ValueError(
            f"positives must be a boolean tensor of shape {wants}, queries by keys, got {got}"
        )
    if positives.device != device:
        raise ValueError(
            f"positives must be on the device of the queries, {device}, got {positives.device}"
        )
    if not positives.any(dim=1).all():
        raise ValueError("positives must name a partner of every query, got one without")
