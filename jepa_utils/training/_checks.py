"""Checks of numbers that trainings are given."""

from __future__ import annotations

import math
from numbers import Integral, Real


def whole(name: str, value: int, least: int, most: float = math.inf) -> int:
    """An integer, also one of NumPy's, as one of Python's; or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value <= most:
        wants = f"at least {least}" if most == math.inf else f"{least} to {most}"
        raise ValueError(f"{name} must be an integer of {wants}, got {value!r}")
    return int(value)


def number(name: str, value: float, wants: str, fits: bool) -> float:
    """A finite number, also one of NumPy's, as one of Python's; or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        fits = False
    if not fits:
        raise ValueError(f"{name} must be {wants}, got {value!r}")
    return float(value)
