"""Generated scenes of three objects in a line, and questions that want the relation to be read.

The object in the middle has a neighbour on either side, so "what is left of the blue square" and
"what is right of the blue square" have different answers in the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jepa_utils.arguments import whole
from jepa_utils.data.scenes import _GAP, _MARGIN, _PROPORTIONS, _RGB, _SMALLEST, COLOURS, SHAPES
from jepa_utils.data.shapes import cover

__all__ = ["Questions", "Triples", "object_questions", "relation_questions", "triples"]

SPLITS = ("train", "validation", "test")
_HELD_OUT = 10  # one in so many sets of three objects for validation, and as many for the test
_HALF_EXTENT = (0.11, 0.125)  # from, to, of the image's side: three objects fit side by side
_SIDES = (("left", "right"), ("above", "below"))  # of a row, of a column
_BESIDE = (("left of", "right of"), ("above", "below"))


@dataclass(frozen=True)
class Triples:
    """Pictures of three objects in a line, and what they were made from.

    Attributes
    ----------
    images : Tensor of uint8, shape (N, 3, S, S)
        RGB, 0 to 255.
    objects : Tensor of int64, shape (N, 3, 2)
        Colour and shape of each, as places in ``COLOURS`` and ``SHAPES``, from left to right in a
        row and from top to bottom in a column.
    columns : Tensor of bool, shape (N,)
        Whether they stand in a column; else in a row.
    """

    images: Tensor
    objects: Tensor
    columns: Tensor

    def name(self, scene: int, place: int) -> str:
        """An object as ``"blue square"``: the first, second or third (0 to 2) of a scene."""
        colour, shape = self.objects[scene, place].tolist()
        return f"{COLOURS[colour]} {SHAPES[shape]}"


@dataclass(frozen=True)
class Questions:
    """A question about each of N scenes, and the same question with the relation inverted.

    Attributes
    ----------
    questions, answers : list of str
        What is asked, and what is right.
    inverted, rivals : list of str
        The same question the other way round, and what is right then: never the same answer.
    """

    questions: list[str]
    answers: list[str]
    inverted: list[str]
    rivals: list[str]


def triples(number: int, *, split: str = "train", image_size: int = 32, seed: int = 0) -> Triples:
    """Draw scenes of three flat objects in a row or a column on a grey ground.

    An object has one of 8 colours and 5 shapes, as in `scenes`, and all have about one size. The
    three of a scene differ in colour or shape, do not overlap, and neighbours lie at least 2.5
    times as far apart along the line as across it.

    Each of the 9,880 sets of three objects belongs to one split, whatever the seed, in all its
    orders: 988 to ``"validation"``, 988 to ``"test"``, the rest to ``"train"``. A set makes 12
    contents: six orders, in a row and in a column.

    Parameters
    ----------
    number : int
        Number of scenes N.
    split : {"train", "validation", "test"}, default "train"
        Contents of ``"train"`` are drawn with replacement; those of the others are all distinct.
    image_size : int, default 32
        Side S of the pictures in pixels, at least 32.
    seed : int, default 0
        Of the draw: contents, places and pixels. It does not change the splits.

    Returns
    -------
    Triples

    Raises
    ------
    ValueError
        If `split` is unknown, `image_size` is too small, or `number` is not positive or more than
        the contents of a split that does not repeat them.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    number, image_size = whole("number", number, 1), whole("image_size", image_size)
    seed = whole("seed", seed)
    if image_size < _SMALLEST:
        raise ValueError(f"image_size must be at least {_SMALLEST} pixels, got {image_size}")
    sets, repeat = _sets(split), split == "train"
    orders = np.array([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    contents = 2 * len(orders) * len(sets)
    if number > contents and not repeat:
        raise ValueError(
            f"number must be at most {contents}, the distinct contents of split {split!r}, got "
            f"{number}"
        )
    rng = np.random.default_rng(seed)
    content = rng.choice(contents, number, replace=repeat)
    columns, content = content % 2 == 1, content // 2
    order = orders[content % len(orders)]
    codes = np.take_along_axis(sets[content // len(orders)], order, axis=1)  # (N, 3)
    objects = np.stack([codes // len(SHAPES), codes % len(SHAPES)], axis=-1)
    images = np.empty((number, 3, image_size, image_size), np.uint8)
    for start in range(0, number, 500):  # doubles of all scenes at once would fill the memory
        some = slice(start, start + 500)
        images[some] = _pictures(rng, objects[some], columns[some], image_size)
    return Triples(*map(torch.from_numpy, (images, objects, columns)))


def object_questions(world: Triples, *, seed: int = 0) -> Questions:
    """What stands on one side of the object in the middle?

    Parameters
    ----------
    world : Triples
        Scenes N.
    seed : int, default 0
        Of the side that is asked for.

    Returns
    -------
    Questions
        As ``"what is left of the blue square"``, answered by ``"a red circle"``. Inverted it asks
        for the other side, and the rival is the object there.
    """
    draw = np.random.default_rng(whole("seed", seed))
    parts = [], [], [], []
    for scene, side in enumerate(draw.integers(2, size=len(world.objects)).tolist()):
        words, middle = _BESIDE[int(world.columns[scene])], world.name(scene, 1)
        for j, which in enumerate((side, 1 - side)):
            parts[2 * j].append(f"what is {words[which]} the {middle}")
            name = world.name(scene, 2 * which)
            parts[2 * j + 1].append(f"an {name}" if name.startswith("orange") else f"a {name}")
    return Questions(*parts)


def relation_questions(world: Triples, *, seed: int = 0) -> Questions:
    """On which side of one object does another one stand?

    Parameters
    ----------
    world : Triples
        Scenes N.
    seed : int, default 0
        Of the two objects that are named, any two of the three in either order.

    Returns
    -------
    Questions
        As ``"where is the red circle from the blue square"``, answered by ``"left"``, one of four.
        Inverted the two objects change places in the question, and the rival is the other side.
    """
    draw = np.random.default_rng(whole("seed", seed))
    one = draw.integers(3, size=len(world.objects))
    other = (one + draw.integers(1, 3, size=len(one))) % 3
    parts = [], [], [], []
    for scene, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
        for j, (what, whence) in enumerate(((a, b), (b, a))):
            names = world.name(scene, what), world.name(scene, whence)
            parts[2 * j].append("where is the {} from the {}".format(*names))
            parts[2 * j + 1].append(_SIDES[int(world.columns[scene])][int(what > whence)])
    return Questions(*parts)


def _sets(split: str) -> np.ndarray:
    """All sets of three objects of a split (M, 3): numbers of colour and shape, ascending."""
    kinds = len(COLOURS) * len(SHAPES)
    every = np.array(
        [(a, b, c) for a in range(kinds) for b in range(a + 1, kinds) for c in range(b + 1, kinds)]
    )
    every = every[np.random.default_rng(0).permutation(len(every))]
    few = len(every) // _HELD_OUT
    return {"validation": every[:few], "test": every[few : 2 * few], "train": every[2 * few :]}[
        split
    ]


# Only sums and products of doubles below, and what `cover` does: they round alike everywhere.


def _pictures(
    rng: np.random.Generator, objects: np.ndarray, columns: np.ndarray, side: int
) -> np.ndarray:
    """Pixels (number, 3, side, side)."""
    number = len(objects)
    extent = side * rng.uniform(*_HALF_EXTENT, (number, 3))
    centre = _centres(rng, columns, extent, side)
    rgb = _RGB[objects[..., 0]] + rng.integers(-10, 11, (number, 3, 3))
    place = np.arange(side) + 0.5
    slope = rng.uniform(-20, 20, (number, 2, 1, 1)) / side
    shading = slope[:, 0] * (place - side / 2) + slope[:, 1] * (place - side / 2)[:, None]
    grey = rng.uniform(40, 75, (number, 1, 1)) + shading
    pixels = grey[:, None].repeat(3, axis=1)
    for i in range(3):
        for kind, name in enumerate(SHAPES):
            rows = np.flatnonzero(objects[:, i, 1] == kind)
            x = place - centre[rows, i, 0, None, None]
            y = place[:, None] - centre[rows, i, 1, None, None]
            covers = cover(name, x, y, extent[rows, i, None, None], _PROPORTIONS)[:, None]
            pixels[rows] += covers * (rgb[rows, i, :, None, None] - pixels[rows])
    pixels += rng.integers(-8, 9, pixels.shape, dtype=np.int8)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _centres(
    rng: np.random.Generator, columns: np.ndarray, extent: np.ndarray, side: int
) -> np.ndarray:
    """Centres (number, 3 objects, x and y) in pixels from the upper left."""
    margin, gap = _MARGIN * side, _GAP * side
    free = side - 2 * margin - 2 * gap - 2 * extent.sum(axis=1)  # what is left along the line
    cuts = np.sort(rng.random((len(extent), 3)), axis=1) * free[:, None]
    before = np.cumsum(2 * extent, axis=1) - extent  # to the middle, from the first one's edge
    along = margin + cuts + before + gap * np.arange(3)
    across = np.empty_like(along)
    low, high = margin + extent, side - margin - extent
    across[:, 1] = rng.uniform(low[:, 1], high[:, 1])
    for i in (0, 2):
        reach = 0.4 * abs(along[:, i] - along[:, 1])
        least = np.maximum(low[:, i], across[:, 1] - reach)
        across[:, i] = rng.uniform(least, np.minimum(high[:, i], across[:, 1] + reach))
    line = np.stack([along, across], axis=-1)
    return np.where(columns[:, None, None], line[..., ::-1], line)
