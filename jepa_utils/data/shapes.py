"""Flat shapes drawn on pixels, by their distance to the shape's border.

Only sums, products, remainders and square roots of doubles: they round the same on every machine.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Proportions", "cover"]


class Proportions(NamedTuple):
    """How the shapes are built, in units of their half extent."""

    square: float  # half of the side
    triangle: float  # from the middle down to the base
    ring: float  # radius of the middle of the band
    band: float  # half of its width
    bar: float  # half of the width of a cross's bars


def cover(
    shape: str,
    x: np.ndarray,
    y: np.ndarray,
    r: np.ndarray,
    proportions: Proportions,
    way: np.ndarray | int = 0,
) -> np.ndarray:
    """How much of each pixel a shape covers, between 0 and 1.

    Parameters
    ----------
    shape : str
        Circle, square, triangle, ring, cross, horizontal bars, vertical bars, diagonal stripes,
        checker or two discs; a disc is a circle.
    x, y : ndarray
        Places of the pixels' middles, in pixels right of and below the shape's own middle.
    r : ndarray
        Half extent in pixels.
    proportions : Proportions
    way : ndarray of int, default 0
        From 0 to 3: the direction of stripes and of pairs.

    Returns
    -------
    ndarray
        Of the shape that the others broadcast to.

    Raises
    ------
    ValueError
        If the shape is unknown.
    """
    return np.clip(0.5 - _distance(shape, x, y, r, proportions, way), 0, 1)


def _distance(
    shape: str,
    x: np.ndarray,
    y: np.ndarray,
    r: np.ndarray,
    proportions: Proportions,
    way: np.ndarray | int,
) -> np.ndarray:
    """Distance of points from a shape's border, in pixels; negative inside."""
    side, base, ring, band, bar = proportions
    middle = np.sqrt(x * x + y * y)
    reach = np.maximum(abs(x), abs(y))
    box = reach - r

    def bars(along: np.ndarray, width: np.ndarray) -> np.ndarray:
        return abs((along + r) % (2 * width) - width / 2) - width / 2

    match shape:
        case "circle" | "disc":
            return middle - r
        case "square":
            return reach - side * r
        case "triangle":
            return np.maximum(y - base * r, (2 * abs(x) - y - r) / np.sqrt(5))
        case "ring":
            return abs(middle - ring * r) - band * r
        case "cross":
            return np.maximum(box, np.minimum(abs(x), abs(y)) - bar * r)
        case "horizontal bars":
            return np.maximum(box, bars(y, 0.4 * r))
        case "vertical bars":
            return np.maximum(box, bars(x, 0.4 * r))
        case "diagonal stripes":
            return np.maximum(box, bars((x + np.where(way % 2, y, -y)) / np.sqrt(2), 0.4 * r))
        case "checker":
            columns, lines = bars(x, 0.5 * r), bars(y, 0.5 * r)
            squares = np.minimum(np.maximum(columns, lines), np.maximum(-columns, -lines))
            return np.maximum(box, squares)
        case "two discs":
            right = np.sqrt([1, 0, 0.5, 0.5])[way]
            down = (np.sqrt([0, 1, 0.5, 0.5]) * [1, 1, 1, -1])[way]
            right, down = 0.56 * r * right, 0.56 * r * down
            ends = [(x - end * right) ** 2 + (y - end * down) ** 2 for end in (1, -1)]
            return np.sqrt(np.minimum(*ends)) - 0.44 * r
    raise ValueError(f"shape must be a known one, such as 'circle'; got {shape!r}")
