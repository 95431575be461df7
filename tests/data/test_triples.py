"""A scene of three shows what its questions ask, and inverting the relation changes the answer."""

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv
from scipy import ndimage

from jepa_utils.data.scenes import COLOURS, SHAPES
from jepa_utils.data.triples import object_questions, relation_questions, triples

SPLITS = ("train", "validation", "test")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
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
    return {split: triples(2000, split=split, seed=5) for split in SPLITS}


def contents(world):
    return [
        (tuple(map(tuple, row)), column)
        for row, column in zip(world.objects.tolist(), world.columns.tolist(), strict=True)
    ]


def whole_of(row):
    return frozenset(row[0])


# ---- splits


def test_no_set_of_three_is_in_two_splits(drawn):
    sets = {split: {whole_of(row) for row in contents(world)} for split, world in drawn.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not sets[one] & sets[other]
    for split in ("validation", "test"):
        assert len(set(contents(drawn[split]))) == 2000  # all distinct
    assert all(len(three) == 3 for found in sets.values() for three in found)


def test_splits_hold_as_much_as_they_say_whatever_the_seed():
    every = triples(11_856, split="test", seed=1)
    assert len(set(contents(every))) == 11_856
    assert len({whole_of(row) for row in contents(every)}) == 988
    again = triples(11_856, split="test", seed=2)
    assert set(contents(again)) == set(contents(every)) and contents(again) != contents(every)
    digest = hashlib.sha256(repr(sorted(contents(every))).encode()).hexdigest()
    assert digest[:12] == "a4bee0b80e31"


def test_colours_shapes_places_and_lines_are_about_equally_frequent(drawn):
    world = drawn["train"]
    for place in range(3):
        for column, names in enumerate((COLOURS, SHAPES)):
            part = torch.bincount(world.objects[:, place, column], minlength=len(names))
            assert (part / 2000 * len(names) - 1).abs().max() < 0.3
    assert abs(float(world.columns.double().mean()) - 0.5) < 0.05


# ---- questions


def object_names(world, scene):
    return [world.name(scene, place) for place in range(3)]


def test_what_is_asked_for_lies_where_the_question_says(drawn):
    world = drawn["test"]
    asked, sides = object_questions(world), Counter()
    for scene, (question, answer, inverted, rival) in enumerate(
        zip(asked.questions, asked.answers, asked.inverted, asked.rivals, strict=True)
    ):
        first, middle, last = object_names(world, scene)
        words = ("above", "below") if world.columns[scene] else ("left of", "right of")
        told = {
            f"what is {word} the {middle}": name
            for word, name in zip(words, (first, last), strict=True)
        }
        assert told[question] == answer.split(" ", 1)[1]
        assert told[inverted] == rival.split(" ", 1)[1] and inverted != question
        assert answer.split()[0] == ("an" if answer.split()[1][0] in "aeiou" else "a")
        sides[answer.split(" ", 1)[1] == first] += 1
    assert abs(sides[True] / 2000 - 0.5) < 0.05


def test_where_one_is_from_the_other(drawn):
    world = drawn["test"]
    asked, pairs = relation_questions(world), Counter()
    for scene, (question, answer, inverted, rival) in enumerate(
        zip(asked.questions, asked.answers, asked.inverted, asked.rivals, strict=True)
    ):
        names = object_names(world, scene)
        one, other = question.removeprefix("where is the ").split(" from the ")
        places = names.index(one), names.index(other)
        words = ("above", "below") if world.columns[scene] else ("left", "right")
        assert answer == words[places[0] > places[1]] and rival == OPPOSITE[answer]
        assert inverted == f"where is the {other} from the {one}"
        pairs[places] += 1
    assert len(pairs) == 6 and min(pairs.values()) > 250


def test_questions_repeat_with_their_seed(drawn):
    for ask in (object_questions, relation_questions):
        first, again, other = (ask(drawn["test"], seed=seed) for seed in (0, 0, 1))
        assert first == again and first.questions != other.questions


# ---- pictures


def seen(image):
    """Objects of a picture (S, S, 3), by eye: hue, outline and place of each."""
    pixels = image.astype(float) / 255
    filled = (np.ptp(pixels, axis=-1) > 0.3) | (pixels.min(axis=-1) > 0.6)
    labels, number = ndimage.label(filled)
    found = []
    for i in range(1, number + 1):
        own = labels == i
        if own.sum() < 6:  # the tip of a triangle
            continue
        hue, saturation, _ = rgb_to_hsv(np.median(pixels[own], axis=0))
        away = {
            name: min((360 * hue - degrees) % 360, (degrees - 360 * hue) % 360)
            for name, degrees in HUES.items()
        }
        y, x = (float(places.mean()) for places in np.nonzero(own))
        colour = "white" if saturation < 0.2 else min(away, key=away.get)
        hollow = not own[round(y), round(x)]
        found.append({"colour": colour, "hollow": hollow, "x": x, "y": y})
    return found, filled


@pytest.mark.parametrize("image_size", [32, 48])
def test_pictures_show_three_objects_in_their_order(image_size):
    world = triples(400, split="validation", image_size=image_size, seed=3)
    assert world.images.shape == (400, 3, image_size, image_size)
    assert world.images.dtype == torch.uint8
    wide, touching = [], 0
    for scene, image in enumerate(world.images.permute(0, 2, 3, 1).numpy()):
        found, filled = seen(image)
        if len(found) < 3:  # two of one colour whose soft edges meet
            touching += 1
            continue
        assert len(found) == 3  # each in one piece
        assert not (filled[[0, -1]].any() or filled[:, [0, -1]].any())  # none is cut off
        along, across = ("y", "x") if world.columns[scene] else ("x", "y")
        found.sort(key=lambda thing: thing[along])
        names = [name.split() for name in object_names(world, scene)]
        assert [thing["colour"] for thing in found] == [colour for colour, _ in names]
        assert [thing["hollow"] for thing in found] == [shape == "ring" for _, shape in names]
        for one, other in ((0, 1), (1, 2)):
            apart = found[other][along] - found[one][along]
            aside = abs(found[other][across] - found[one][across])
            assert apart > 1.6 * aside  # less than between centres: a triangle's mass is lower
            wide.append(aside)
    assert touching <= 4
    assert max(wide) > 0.06 * image_size  # places are not on one line


def test_a_draw_repeats_with_its_seed_on_every_machine():
    first, again, other = (triples(200, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and torch.equal(first.objects, again.objects)
    assert not torch.equal(first.images, other.images)
    pixels = hashlib.sha256(first.images.numpy().tobytes()).hexdigest()
    assert pixels[:12] == "0d74e93a0c92"


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(number=0), "number must be an integer of at least 1, got 0"),
        (dict(number=11_857, split="test"), "number must be at most 11856.*'test', got 11857"),
        (dict(split="seen"), "split must be one of train, validation, test; got 'seen'"),
        (dict(image_size=31), "image_size must be at least 32 pixels, got 31"),
        (dict(seed=0.5), "seed must be an integer, got 0.5"),
    ],
)
def test_triples_reject_what_cannot_be_drawn(change, words):
    with pytest.raises(ValueError, match=words):
        triples(**dict(number=5) | change)
