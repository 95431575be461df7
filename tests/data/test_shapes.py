"""Shapes on pixels: they cover what geometry says they cover, and look as their names say."""

import math

import numpy as np
import pytest

from jepa_utils.data.samples import _PROPORTIONS, _SHAPES
from jepa_utils.data.shapes import Proportions, cover

SIDE, R = 200, 60.3
FORM = Proportions(square=0.8, triangle=0.7, ring=0.7, band=0.3, bar=0.25)
PLACE = np.arange(SIDE) + 0.5 - SIDE / 2


def drawn(shape: str, way: int = 0, form: Proportions = FORM) -> np.ndarray:
    return cover(shape, PLACE, PLACE[:, None], np.array(R), form, np.array(way))


AREAS = {
    "circle": math.pi,
    "disc": math.pi,
    "square": (2 * 0.8) ** 2,
    "triangle": 0.5 * (1.7) * (1.7),  # height 1 + 0.7, base as wide
    "ring": math.pi * (1.0**2 - 0.4**2),
    "cross": 2 * (2 * 0.5) - 0.5**2,
    "horizontal bars": 2.0 * 0.4 * 3,  # three bars of 0.4, with gaps of 0.4 between
    "vertical bars": 2.0 * 0.4 * 3,
    "checker": 4 * 0.5,
    "two discs": 2 * math.pi * 0.44**2,
}


@pytest.mark.parametrize("shape", AREAS)
def test_a_shape_covers_its_area(shape):
    assert drawn(shape).sum() / R**2 == pytest.approx(AREAS[shape], rel=0.02)


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("way", range(4))
def test_covers_are_shares_and_lie_within_the_extent(shape, way):
    found = drawn(shape, way, _PROPORTIONS)
    assert found.min() == 0 and found.max() == 1 and found.shape == (SIDE, SIDE)
    outside = np.maximum(abs(PLACE), abs(PLACE[:, None])) > R + 1
    assert not found[outside].any()
    assert ((found > 0) & (found < 1)).any()  # smooth borders


def test_shapes_differ_and_ways_turn_stripes_and_pairs():
    assert len({drawn(shape).tobytes() for shape in _SHAPES}) == len(_SHAPES)
    assert len({drawn("two discs", way).tobytes() for way in range(4)}) == 4
    assert len({drawn("diagonal stripes", way).tobytes() for way in range(4)}) == 2
    assert len({drawn("disc", way).tobytes() for way in range(4)}) == 1
    np.testing.assert_array_equal(drawn("vertical bars"), drawn("horizontal bars").T)


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        ("square", "square"),
        ("triangle", "triangle"),
        ("ring", "ring"),
        ("band", "ring"),
        ("bar", "cross"),
    ],
)
def test_proportions_change_their_shape_alone(part, shape):
    other = FORM._replace(**{part: getattr(FORM, part) * 0.9})
    for name in _SHAPES:
        same = np.array_equal(drawn(name), drawn(name, form=other))
        assert same == (name != shape)


def test_unknown_shape():
    with pytest.raises(ValueError, match="shape must be .*; got 'star'"):
        drawn("star")
