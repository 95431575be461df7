"""Generated scenes of two objects with captions that say what is where, and the truth behind them.

What a caption says is composed of parts, so that a test can ask for new wholes of known parts: see
`scenes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jepa_utils.arguments import whole
from jepa_utils.data._texts import check_many
from jepa_utils.data.shapes import Proportions, cover

__all__ = [
    "ATTRIBUTES",
    "COLOURS",
    "HELD_OUT",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Scenes",
    "altered_captions",
    "every_caption",
    "scene_caption",
    "scene_contents",
    "scene_questions",
    "scenes",
]

SIZES = ("small", "large")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
SHAPES = ("circle", "square", "triangle", "cross", "ring")
RELATIONS = (
    "left of",
    "right of",
    "above",
    "below",
)  # neighbours are each other's mirror: number ^ 1
ATTRIBUTES = ("size 1", "colour 1", "shape 1", "relation", "size 2", "colour 2", "shape 2")
SPLITS = ("train", "seen", "unseen")
HELD_OUT = tuple(
    (colour, SHAPES[i % len(SHAPES)]) for i, colour in enumerate(COLOURS)
)  # one shape of each colour

_VALUES = (SIZES, COLOURS, SHAPES, RELATIONS, SIZES, COLOURS, SHAPES)
_MIRROR = [4, 5, 6, 3, 0, 1, 2]  # columns of ATTRIBUTES when the other object is named first
_RGB = np.array(
    [
        (210, 35, 45),
        (45, 170, 60),
        (45, 85, 235),
        (245, 230, 60),
        (165, 50, 200),
        (250, 125, 20),
        (240, 240, 240),
        (50, 210, 225),
    ]
)
# In units of the image's side. The largest two objects, the gap and two margins add up to less than
# 1.
_HALF_EXTENT = np.array([(0.115, 0.13), (0.195, 0.215)])  # from, to; of SIZES
_PROPORTIONS = Proportions(square=0.9, triangle=0.85, ring=0.77, band=0.23, bar=0.3)
_MARGIN, _GAP = 0.03, 0.04  # to the border, between the objects
_SMALLEST = 32  # pixels; below, a small cross and a small ring blur


@dataclass(frozen=True)
class Scenes:
    """Pictures, captions, and what both were made from.

    Attributes
    ----------
    images : Tensor of uint8, shape (N, 3, S, S)
        RGB, 0 to 255.
    captions : list of str
        One for each picture, as ``"a small red circle left of a large blue square"``.
    attributes : Tensor of int64, shape (N, 7)
        In the order of the caption: column j is ``ATTRIBUTES[j]``, as a place in ``SIZES``,
        ``COLOURS``, ``SHAPES`` or ``RELATIONS``.
    """

    images: Tensor
    captions: list[str]
    attributes: Tensor


def scenes(number: int, *, split: str = "train", image_size: int = 32, seed: int = 0) -> Scenes:
    """Draw scenes of two flat objects on a grey ground, each with a caption.

    An object has one of 2 sizes, 8 colours and 5 shapes; the two of a scene differ in at least one
    of them. They do not overlap, and lie further apart along the axis of their relation than across
    it, by a factor of at least 2.5.

    A content is what a scene shows: two objects and their relation, no matter which is named first
    ("A left of B" is "B right of A"). The caption's order is drawn at random. Each of the 12,640
    contents belongs to one split, whatever the seed:

    - ``"unseen"``, 4576 contents: at least one object has a held-out pair of colour and shape
      (``HELD_OUT``: red circle, green square, blue triangle, yellow cross, purple ring, orange
      circle, white square, cyan triangle).
    - ``"seen"``, 1152 contents: one in seven of those without a held-out pair. New wholes, made of
      pairs that training shows.
    - ``"train"``, 6912 contents: the rest.

    Parameters
    ----------
    number : int
        Number of scenes N.
    split : {"train", "seen", "unseen"}, default "train"
        Contents of ``"train"`` are drawn with replacement. Those of the other two are all distinct,
        so that each caption has exactly one right picture among the N.
    image_size : int, default 32
        Side S of the pictures in pixels, at least 32.
    seed : int, default 0
        Of the draw: contents, order of the captions, places and pixels. It does not change the
        splits.

    Returns
    -------
    Scenes

    Raises
    ------
    ValueError
        If `split` is unknown, `image_size` is too small, or `number` is not positive or more than
        the contents of a split that does not repeat them.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    number, image_size = whole("number", number), whole("image_size", image_size)
    seed = whole("seed", seed)
    if image_size < _SMALLEST:
        raise ValueError(f"image_size must be at least {_SMALLEST} pixels, got {image_size}")
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    contents = _contents(split)
    repeat = split == "train"
    if number > len(contents) and not repeat:
        raise ValueError(
            f"number must be at most {len(contents)}, the distinct contents of split "
            f"{split!r}, got {number}"
        )
    rng = np.random.default_rng(seed)
    attributes = contents[rng.choice(len(contents), number, replace=repeat)]
    swapped = rng.random(number) < 0.5
    attributes[swapped] = attributes[swapped][:, _MIRROR]
    attributes[swapped, 3] ^= 1
    images = np.empty((number, 3, image_size, image_size), np.uint8)
    for start in range(0, number, 500):  # doubles of all scenes at once would fill the memory
        images[start : start + 500] = _pictures(rng, attributes[start : start + 500], image_size)
    captions = [_caption(row) for row in attributes.tolist()]
    return Scenes(
        images=torch.from_numpy(images), captions=captions, attributes=torch.from_numpy(attributes)
    )


def scene_caption(attributes: Tensor) -> str:
    """Caption of one scene, as ``"a small red circle left of a large blue square"``.

    Parameters
    ----------
    attributes : Tensor of int64, shape (7,)
        A row of `Scenes.attributes`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the shape is another, or a value is not a whole number in its attribute's range.
    """
    if attributes.shape != (len(ATTRIBUTES),) or attributes.is_floating_point():
        raise ValueError(
            f"attributes must be whole numbers of shape (7,), got {attributes.dtype} of "
            f"{tuple(attributes.shape)}"
        )
    row = attributes.tolist()
    for name, values, value in zip(ATTRIBUTES, _VALUES, row, strict=True):
        if not 0 <= value < len(values):
            raise ValueError(
                f"attributes: {name} must be between 0 and {len(values) - 1}, got {value}"
            )
    return _caption(row)


def every_caption() -> list[str]:
    """All 25,280 captions that a scene can have: each content, with either object named first.

    Returns
    -------
    list of str
    """
    rows = np.concatenate([_contents(split) for split in SPLITS])
    mirrored = rows[:, _MIRROR]
    mirrored[:, 3] ^= 1
    return [_caption(row) for row in np.concatenate([rows, mirrored]).tolist()]


def altered_captions(world: Scenes, attribute: str, *, seed: int = 0) -> list[str]:
    """Captions that are wrong in one thing.

    Parameters
    ----------
    world : Scenes
        Scenes N.
    attribute : str
        One of `ATTRIBUTES`, which gets another value, drawn at random; or ``"word order"``: the two
        objects change places in the sentence, the relation between them stays.
    seed : int, default 0
        Of the draw.

    Returns
    -------
    list of N str

    Raises
    ------
    ValueError
        If `attribute` is none of these.
    """
    seed = whole("seed", seed)
    if attribute == "word order":
        changed = world.attributes[:, _MIRROR]
    elif attribute in ATTRIBUTES:
        column = ATTRIBUTES.index(attribute)
        changed, values = world.attributes.clone(), len(_VALUES[column])
        shift = torch.randint(
            1, values, (len(changed),), generator=torch.Generator().manual_seed(seed)
        )
        changed[:, column] = (changed[:, column] + shift) % values
    else:
        raise ValueError(
            f"attribute must be 'word order' or one of {', '.join(ATTRIBUTES)}, got {attribute!r}"
        )
    return [_caption(row) for row in changed.tolist()]


def scene_contents(attributes: Tensor) -> Tensor:
    """A number for what each scene shows: equal for the same two objects in the same relation.

    No matter which object a caption names first: "A left of B" and "B right of A" are one content.

    Parameters
    ----------
    attributes : Tensor of int64, shape (N, 7)
        As in `Scenes`.

    Returns
    -------
    Tensor of int64, shape (N,)
    """
    objects = len(COLOURS) * len(SHAPES) * len(SIZES)
    place = torch.tensor([len(COLOURS) * len(SHAPES), len(SHAPES), 1])
    first, second, relation = (
        (attributes[:, :3] * place).sum(1),
        (attributes[:, 4:] * place).sum(1),
        attributes[:, 3],
    )
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    return (low * objects + high) * len(RELATIONS) + torch.where(
        first > second, relation ^ 1, relation
    )


def scene_questions(captions: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands there in relation to the second object? The first one.

    Parameters
    ----------
    captions : sequence of str
        Of scenes, as ``"a small red circle left of a large blue square"``.

    Returns
    -------
    questions : list of str
        As ``"what is left of a large blue square"``.
    answers : list of str
        As ``"a small red circle"``.

    Raises
    ------
    TypeError
        If `captions` is a single string.
    """
    check_many("captions", captions)
    parts = [caption.split(" ") for caption in captions]
    return ["what is " + " ".join(part[4:]) for part in parts], [
        " ".join(part[:4]) for part in parts
    ]


def _caption(row: Sequence[int]) -> str:
    return "a {} {} {} {} a {} {} {}".format(
        *(values[value] for values, value in zip(_VALUES, row, strict=True))
    )


def _contents(split: str) -> np.ndarray:
    """All contents of a split (M, 7), each once, in one of its two orders."""
    objects = np.array(list(np.ndindex(len(SIZES), len(COLOURS), len(SHAPES))))
    held_out = np.array(
        [(COLOURS[colour], SHAPES[shape]) in HELD_OUT for _, colour, shape in objects]
    )
    first, second = (index.repeat(len(RELATIONS)) for index in np.triu_indices(len(objects), k=1))
    relation = np.arange(len(first)) % len(RELATIONS)
    contents = np.column_stack([objects[first], relation, objects[second]]).astype(np.int64)
    unseen = held_out[first] | held_out[second]
    if split == "unseen":
        return contents[unseen]
    known = contents[~unseen]
    known = known[np.random.default_rng(0).permutation(len(known))]
    return known[: len(known) // 7] if split == "seen" else known[len(known) // 7 :]


# Only sums, products and square roots of doubles below: they round the same on every machine.


def _pictures(rng: np.random.Generator, attributes: np.ndarray, side: int) -> np.ndarray:
    """Pixels (number, 3, side, side)."""
    return _paint(rng, attributes[:, [2, 6]], *_layout(rng, attributes, side), side)


def _layout(rng: np.random.Generator, attributes: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """What a caption leaves open: extents (number, 2), centres (number, 2, 2), colours (number, 2,
    3), and the ground (number, side, side)."""
    number = len(attributes)
    size, colour = (
        attributes[:, [column, column + 4]] for column in range(2)
    )  # (number, 2 objects) each
    extent = side * rng.uniform(*np.moveaxis(_HALF_EXTENT[size], -1, 0))
    centre = _centres(rng, attributes[:, 3], extent, side)
    rgb = _RGB[colour] + rng.integers(-10, 11, (number, 2, 3))
    place = np.arange(side) + 0.5
    slope = rng.uniform(-20, 20, (number, 2, 1, 1)) / side
    shading = slope[:, 0] * (place - side / 2) + slope[:, 1] * (place - side / 2)[:, None]
    return extent, centre, rgb, rng.uniform(40, 75, (number, 1, 1)) + shading


def _paint(
    rng: np.random.Generator,
    shape: np.ndarray,
    extent: np.ndarray,
    centre: np.ndarray,
    rgb: np.ndarray,
    grey: np.ndarray,
    side: int,
) -> np.ndarray:
    """Pixels of shapes (number, 2 objects) laid out so, with noise of their own."""
    place = np.arange(side) + 0.5
    pixels = grey[:, None].repeat(3, axis=1)
    for i in range(2):
        for kind, name in enumerate(SHAPES):
            rows = np.flatnonzero(shape[:, i] == kind)
            x, y = (
                place - centre[rows, i, 0, None, None],
                place[:, None] - centre[rows, i, 1, None, None],
            )
            covers = cover(name, x, y, extent[rows, i, None, None], _PROPORTIONS)[:, None]
            pixels[rows] += covers * (rgb[rows, i, :, None, None] - pixels[rows])
    pixels += rng.integers(-8, 9, pixels.shape, dtype=np.int8)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _centres(
    rng: np.random.Generator, relation: np.ndarray, extent: np.ndarray, side: int
) -> np.ndarray:
    """Centres (number, 2 objects, x and y) in pixels from the upper left: where both fit."""
    first, second = extent[:, :1], extent[:, 1:]
    both = extent.sum(axis=1)
    along = rng.uniform(both + _GAP * side, (1 - 2 * _MARGIN) * side - both)
    across = rng.uniform(-0.4, 0.4, len(along)) * along
    along = np.where(
        relation % 2, -along, along
    )  # from the first to the second: right or down, unless mirrored
    offset = np.where(
        (relation < 2)[:, None], np.column_stack([along, across]), np.column_stack([across, along])
    )
    low = _MARGIN * side + np.maximum(first, second - offset)
    high = (1 - _MARGIN) * side - np.maximum(first, second + offset)
    place = rng.uniform(low, high)
    return np.stack([place, place + offset], axis=1)
