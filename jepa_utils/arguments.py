"""Checks of numbers that functions are given, for all rooms."""

from __future__ import annotations

from numbers import Integral


def whole(
    name: str, value: int, least: int | None = None, most: int | None = None, limit: str = ""
) -> int:
    """An integer, also one of NumPy's, as one of Python's; or `ValueError` naming it.

    True and 2.0 are no integers. Where there is a `most`, there is a `least`; `limit` says in words
    what the `most` is. A size kept as NumPy's int8 would overflow when multiplied.
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if fits and (least is None or value >= least) and (most is None or value <= most):
        return int(value)
    wants = "" if least is None else f" of at least {least}"
    if most is not None:
        wants = f" between {least} and {f'{limit} = ' if limit else ''}{most}"
    raise ValueError(f"{name} must be an integer{wants}, got {value!r}")


def check_count(name: str, value: int, most: int | None = None, limit: str = "") -> int:
    """The same of at least 1."""
    return whole(name, value, 1, most, limit)
