"""One text is not several."""

from __future__ import annotations

from collections.abc import Iterable


def check_many(name: str, texts: Iterable[str]) -> None:
    """Raise TypeError for one text where many are wanted: it would be taken for its letters."""
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be several strings, such as a list, got one: {texts[:40]!r}")
