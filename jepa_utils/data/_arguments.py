"""Checks of what the functions of this folder are given."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral


def whole(name: str, value: int) -> int:
    """A whole number as an int, NumPy's too; `ValueError` for anything else, also True or 2.0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def check_many(name: str, texts: Iterable[str]) -> None:
    """Raise TypeError for one text where many are wanted: it would be taken for its letters."""
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be several strings, such as a list, got one: {texts[:40]!r}")
