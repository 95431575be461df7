"""Numbers that trainings are given: right, or an error that names them."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from torch import Tensor


def number(name: str, value: float, wants: str, fits: Callable[[float], bool]) -> float:
    """A finite number, also one of NumPy's, as one of Python's; or say what is wrong with it."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not fits(value):
        raise ValueError(f"{name} must be {wants}, got {value!r}")
    return value.item() if hasattr(value, "item") else value


def rate(value: float) -> float:
    """A learning rate."""
    return number("learning_rate", value, "positive and finite", lambda rate: rate > 0)


def shares_of(crop: tuple[float, float]) -> tuple[float, float]:
    """The least and the largest share of an image in a crop."""
    wants = "crop must be two shares of the area, the least and the largest, above 0 and up to 1"
    try:
        least, most = crop
        fits = 0 < least <= most <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{wants}, got {crop!r}")
    return float(least), float(most)


def problem_with(name: str, ids: Tensor, size: int) -> str | None:
    """What is wrong with whole numbers that should lie from 0 to below `size`, if anything is."""
    wants = f"{name} must be whole numbers from 0 to {size - 1}"
    if ids.is_floating_point() or ids.is_complex():
        return f"{wants}, got {ids.dtype}"
    if ids.numel() == 0:
        return f"{wants}, got none: shape {tuple(ids.shape)}"
    least, most = ids.min().item(), ids.max().item()
    return None if 0 <= least and most < size else f"{wants}, got {least} to {most}"
