"""A scene shows what its caption says, and no content is in two splits."""

import hashlib
import time
from collections import Counter

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv
from scipy import ndimage

from jepa_utils.data.scenes import (
    ATTRIBUTES,
    COLOURS,
    HELD_OUT,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    altered_captions,
    scene_caption,
    scene_contents,
    scene_questions,
    scenes,
)

VALUES = (SIZES, COLOURS, SHAPES, RELATIONS, SIZES, COLOURS, SHAPES)
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TOTAL = {"train": 6912, "seen": 1152, "unseen": 4576}
HUES = {
    "red": 356,
    "orange": 27,
    "yellow": 56,
    "green": 127,
    "cyan": 185,
    "blue": 227,
    "purple": 286,
}  # degrees


@pytest.fixture(scope="module")
def drawn():
    """Of each split many scenes; of the galleries all there are."""
    return {
        split: scenes(20_000 if split == "train" else TOTAL[split], split=split) for split in SPLITS
    }


def parse(caption: str) -> tuple:
    """Two objects (size, colour, shape) and the relation between them, from the words alone."""
    words = caption.split()
    assert words[0] == "a" and words[-4] == "a"
    return tuple(words[1:4]), " ".join(words[4:-4]), tuple(words[-3:])


def content(first: tuple, relation: str, second: tuple) -> tuple:
    """What a scene shows, whichever object is named first."""
    return min((first, relation, second), (second, OPPOSITE[relation], first))


def contents(found) -> list[tuple]:
    return [content(*parse(caption)) for caption in found.captions]


# ---- captions
# ------------------------------------------------------------------------------------------------------------


def test_a_caption_names_the_attributes_in_order():
    row = torch.tensor(
        [
            0,
            COLOURS.index("red"),
            SHAPES.index("circle"),
            0,
            1,
            COLOURS.index("blue"),
            SHAPES.index("square"),
        ]
    )
    assert scene_caption(row) == "a small red circle left of a large blue square"
    row = torch.tensor(
        [
            1,
            COLOURS.index("cyan"),
            SHAPES.index("ring"),
            3,
            1,
            COLOURS.index("white"),
            SHAPES.index("cross"),
        ]
    )
    assert scene_caption(row) == "a large cyan ring below a large white cross"


@pytest.mark.parametrize("split", SPLITS)
def test_captions_parse_back_to_the_attributes(drawn, split):
    found = drawn[split]
    assert (
        found.attributes.shape == (len(found.captions), len(ATTRIBUTES))
        and found.attributes.dtype == torch.int64
    )
    for caption, row in zip(found.captions, found.attributes, strict=True):
        first, relation, second = parse(caption)
        words = (*first, relation, *second)
        assert [
            values.index(word) for values, word in zip(VALUES, words, strict=True)
        ] == row.tolist()
        assert scene_caption(row) == caption


@pytest.mark.parametrize(
    "attributes, words",
    [
        (torch.zeros(6, dtype=torch.int64), r"\(6,\)"),
        (torch.zeros(1, 7, dtype=torch.int64), r"\(1, 7\)"),
        (torch.zeros(7), "float32"),
        (torch.tensor([0, 8, 0, 0, 0, 0, 0]), "colour 1 must be between 0 and 7, got 8"),
        (torch.tensor([0, 0, 0, -1, 0, 0, 0]), "relation must be between 0 and 3, got -1"),
        (torch.tensor([0, 0, 0, 0, 2, 0, 0]), "size 2 must be between 0 and 1, got 2"),
    ],
)
def test_scene_caption_rejects_what_is_no_scene(attributes, words):
    with pytest.raises(ValueError, match=words):
        scene_caption(attributes)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_altered_caption_is_wrong_in_one_thing(drawn, attribute):
    column, changes = ATTRIBUTES.index(attribute), set()
    for true, wrong in zip(
        drawn["seen"].captions, altered_captions(drawn["seen"], attribute), strict=True
    ):
        parts = [
            (*first, relation, *second) for first, relation, second in (parse(true), parse(wrong))
        ]
        assert [column] == [
            place for place, (old, new) in enumerate(zip(*parts, strict=True)) if old != new
        ]
        changes.add((parts[0][column], parts[1][column]))
    values = len(VALUES[column])
    assert len(changes) == values * (values - 1)  # any other value may take its place


def test_in_another_word_order_the_objects_change_places_and_the_relation_stays(drawn):
    for true, wrong in zip(
        drawn["seen"].captions, altered_captions(drawn["seen"], "word order"), strict=True
    ):
        assert parse(wrong) == parse(true)[::-1] and content(*parse(wrong)) != content(*parse(true))


def test_altered_captions_repeat_with_their_seed_and_leave_the_scenes_alone(drawn):
    world = drawn["seen"]
    before = world.attributes.clone()
    first, again, other = (altered_captions(world, "colour 2", seed=seed) for seed in (0, 0, 1))
    assert first == again != other and torch.equal(world.attributes, before)
    with pytest.raises(
        ValueError, match="attribute must be 'word order' or one of size 1, .*, got 'colour'"
    ):
        altered_captions(world, "colour")


def test_questions_ask_for_the_first_object():
    captions = [
        "a small red circle left of a large blue square",
        "a large cyan ring below a large white cross",
    ]
    questions, answers = scene_questions(captions)
    assert questions == ["what is left of a large blue square", "what is below a large white cross"]
    assert answers == ["a small red circle", "a large cyan ring"]


# ---- splits
# --------------------------------------------------------------------------------------------------------------


def test_splits_share_no_content_and_galleries_repeat_none(drawn):
    found = {split: contents(drawn[split]) for split in SPLITS}
    for split in ("seen", "unseen"):
        assert len(set(found[split])) == len(found[split]) == TOTAL[split] >= 1000
    assert not set(found["train"]) & set(found["seen"]) and not set(found["unseen"]) & {
        *found["train"],
        *found["seen"],
    }
    expected = TOTAL["train"] * (
        1 - (1 - 1 / TOTAL["train"]) ** 20_000
    )  # drawn with replacement, all equally likely
    assert len(set(found["train"])) == pytest.approx(expected, abs=80)
    objects = len(SIZES) * len(COLOURS) * len(SHAPES)
    assert sum(TOTAL.values()) == objects * (objects - 1) // 2 * len(RELATIONS)


def test_held_out_pairs_are_in_unseen_scenes_only(drawn):
    assert Counter(colour for colour, _ in HELD_OUT) == dict.fromkeys(COLOURS, 1)
    assert set(Counter(shape for _, shape in HELD_OUT).values()) == {1, 2} and {
        shape for _, shape in HELD_OUT
    } == set(SHAPES)
    for split in SPLITS:
        objects = [(parse(caption)[0], parse(caption)[2]) for caption in drawn[split].captions]
        assert all(first != second for first, second in objects)
        held_out = [sum(thing[1:] in HELD_OUT for thing in pair) for pair in objects]
        assert set(held_out) == ({1, 2} if split == "unseen" else {0})
    seen = {thing[1:] for caption in drawn["seen"].captions for thing in parse(caption)[::2]}
    train = {thing[1:] for caption in drawn["train"].captions for thing in parse(caption)[::2]}
    assert (
        seen == train == {(colour, shape) for colour in COLOURS for shape in SHAPES} - set(HELD_OUT)
    )


def test_contents_of_the_splits_do_not_change():
    """Not with the seed, nor with the version of numpy: an encoder's training must not leak into a later gallery."""
    first, other = (contents(scenes(1152, split="seen", seed=seed)) for seed in (0, 5))
    assert first != other and sorted(first) == sorted(other)
    assert hashlib.sha256(repr(sorted(first)).encode()).hexdigest()[:12] == "2635f9365862"


def test_values_are_about_equally_frequent(drawn):
    for split, tolerance in (
        ("train", 0.15),
        ("seen", 0.3),
        ("unseen", 0.3),
    ):  # held-out pairs tilt the shapes
        for column, values in zip(drawn[split].attributes.T, VALUES, strict=True):
            part = torch.bincount(column, minlength=len(values)) / len(column) * len(values)
            assert len(part) == len(values) and (part - 1).abs().max() < tolerance


def test_either_object_is_named_first(drawn):
    for split in SPLITS:
        named = [parse(caption) for caption in drawn[split].captions]
        assert np.mean([first < second for first, _, second in named]) == pytest.approx(
            0.5, abs=0.05
        )
        assert np.mean([content(*scene) == scene for scene in named]) == pytest.approx(
            0.5, abs=0.05
        )


def test_numbers_of_contents_are_equal_where_the_contents_are(drawn):
    attributes = torch.cat([drawn[split].attributes for split in SPLITS])
    numbers = scene_contents(attributes)
    told = [parse(caption) for split in SPLITS for caption in drawn[split].captions]
    whole = [content(*scene) for scene in told]
    assert (
        len(set(whole))
        == len(set(numbers.tolist()))
        == len(set(zip(whole, numbers.tolist(), strict=True)))
    )
    pairs, objects = (numbers // len(RELATIONS)).tolist(), [frozenset(scene[::2]) for scene in told]
    assert len(set(objects)) == len(set(pairs)) == len(set(zip(objects, pairs, strict=True)))
    assert len(scene_contents(drawn["seen"].attributes).unique()) == TOTAL["seen"]


def test_a_content_has_one_number_whichever_object_is_named_first(drawn):
    attributes = drawn["seen"].attributes
    mirror = attributes[:, [4, 5, 6, 3, 0, 1, 2]]
    mirror[:, 3] = torch.tensor(
        [RELATIONS.index(OPPOSITE[RELATIONS[relation]]) for relation in attributes[:, 3]]
    )
    assert torch.equal(scene_contents(mirror), scene_contents(attributes))


# ---- pictures
# ------------------------------------------------------------------------------------------------------------


def read(image: np.ndarray) -> tuple[list[dict], np.ndarray]:
    """Objects of one picture (S, S, 3), by eye: where it is bright or colourful, how wide, which hue, which outline."""
    pixels = image.astype(float) / 255
    filled = (np.ptp(pixels, axis=-1) > 0.3) | (pixels.min(axis=-1) > 0.6)
    labels, number = ndimage.label(filled, np.ones((3, 3)))
    ground = np.median(pixels[~filled], axis=0)
    found = []
    for i in range(1, number + 1):
        own = labels == i
        middle = np.median(pixels[own], axis=0)
        hue, saturation, _ = rgb_to_hsv(middle)
        away = {
            name: min((360 * hue - degrees) % 360, (degrees - 360 * hue) % 360)
            for name, degrees in HUES.items()
        }
        colour = "white" if saturation < 0.2 else min(away, key=away.get)
        # How much of each pixel it covers, those at its edge in part.
        cover = np.clip(
            (pixels - ground) @ (middle - ground) / np.square(middle - ground).sum(), 0, 1
        )
        cover = np.where(
            ndimage.binary_dilation(own, np.ones((3, 3))) & (own | ~filled) & (cover > 0.15),
            cover,
            0,
        )
        area, lines, columns = cover.sum(), cover.sum(axis=1), cover.sum(axis=0)
        place = np.arange(len(image))
        y, x = place @ lines / area, place @ columns / area
        height, width = columns.max(), lines.max()  # not counting a ring's hole
        if cover[round(y), round(x)] < 0.5:
            shape = "ring"
        elif (place - y) ** 3 @ lines / area < -0.004 * max(
            height, width
        ) ** 3:  # a tip above, the mass below
            shape = "triangle"
        else:
            fill = area / (height * width)  # 1 of a square, pi / 4 of a circle, 0.51 of a cross
            shape = "square" if fill > 0.89 else "circle" if fill > 0.7 else "cross"
        size = "large" if max(height, width) > 0.285 * len(image) else "small"
        found.append({"name": (size, colour, shape), "x": x, "y": y, "area": area})
    return found, filled


@pytest.mark.parametrize(
    "split, image_size", [("train", 32), ("seen", 32), ("unseen", 32), ("unseen", 48)]
)
def test_pictures_show_what_the_captions_say(split, image_size):
    """The whole content is read from the pixels, and equals the caption's."""
    found = scenes(1000, split=split, image_size=image_size, seed=3)
    assert (
        found.images.shape == (1000, 3, image_size, image_size)
        and found.images.dtype == torch.uint8
    )
    areas, across = {}, []
    for image, caption in zip(
        found.images.permute(0, 2, 3, 1).numpy(), found.captions, strict=True
    ):
        objects, filled = read(image)
        assert len(objects) == 2  # apart from each other, and each in one piece
        assert not (filled[[0, -1]].any() or filled[:, [0, -1]].any())  # none is cut off
        a, b = objects
        right, down = b["x"] - a["x"], b["y"] - a["y"]
        if abs(right) > abs(down):
            relation = "left of" if right > 0 else "right of"
        else:
            relation = "above" if down > 0 else "below"
        assert content(a["name"], relation, b["name"]) == content(*parse(caption))
        across.append(min(abs(right), abs(down)))
        assert (
            max(abs(right), abs(down)) > 1.8 * across[-1]
        )  # less than between centres: a triangle's mass is lower
        for thing in objects:
            size, _, shape = thing["name"]
            areas.setdefault((shape, size), []).append(thing["area"])
    assert all(min(areas[shape, "large"]) > 1.5 * max(areas[shape, "small"]) for shape in SHAPES)
    assert max(across) > 0.1 * image_size  # places are not on one line


def test_no_picture_is_drawn_twice(drawn):
    assert max(Counter(drawn["train"].captions).values()) > 1  # though captions are
    assert len({image.tobytes() for image in drawn["train"].images.numpy()}) == 20_000


# ---- draws
# ---------------------------------------------------------------------------------------------------------------


def test_a_draw_repeats_with_its_seed():
    start = time.perf_counter()
    first, again, other = (scenes(600, seed=seed) for seed in (0, 0, 1))
    assert time.perf_counter() - start < 4  # 0.3 s on one core
    assert torch.equal(first.images, again.images) and torch.equal(
        first.attributes, again.attributes
    )
    assert first.captions == again.captions != other.captions
    assert not torch.equal(first.images, other.images) and not torch.equal(
        first.attributes, other.attributes
    )
    drawn = hashlib.sha256(
        first.images.numpy().tobytes() + first.attributes.numpy().tobytes()
    ).hexdigest()
    assert drawn[:12] == "7a15f135333f"  # the same on every machine


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(number=0), "number.*at least 1, got 0"),
        (dict(number=1153, split="seen"), "number.*at most 1152.*'seen', got 1153"),
        (dict(number=4577, split="unseen"), "number.*at most 4576.*'unseen', got 4577"),
        (dict(split="test"), "split.*train, seen, unseen; got 'test'"),
        (dict(image_size=31), "image_size.*at least 32 pixels, got 31"),
    ],
)
def test_scenes_reject_what_cannot_be_drawn(change, words):
    with pytest.raises(ValueError, match=words):
        scenes(**dict(number=5) | change)


@pytest.mark.parametrize("caption", ["a small red circle left of a large blue square", b"a"])
def test_one_caption_is_not_asked_for_letter_by_letter(caption):
    with pytest.raises(TypeError, match="captions must be several strings.*got one: .*'a"):
        scene_questions(caption)
