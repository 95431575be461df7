"""The generated data: the same everywhere, in the form of the real data, and showing what its truth says."""

import hashlib
import io
import time

import numpy as np
import pytest
from datasets import Features, Image, Value
from PIL import Image as Picture
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from jepa_utils.data.load import load_data
from jepa_utils.data.samples import (
    _PHOTO_COLOURS,
    _PHOTO_PLACES,
    _PHOTO_WORDS,
    IMAGE_LABELS,
    sample_articles,
    sample_images,
    sample_photos,
    sample_reviews,
)
from jepa_utils.data.tokens import CaptionTokenizer

COLUMNS = [f"caption_{number}" for number in range(5)]


@pytest.fixture(scope="module")
def images():
    return sample_images()


@pytest.fixture(scope="module")
def photos():
    return sample_photos()


def pixels(columns: dict[str, list]) -> np.ndarray:
    files = columns.get("img") or columns["image"]
    return np.stack([np.asarray(Picture.open(io.BytesIO(file["bytes"]))) for file in files])


# ---- images
# --------------------------------------------------------------------------------------------------------------


def test_sample_of_images_repeats_with_its_seed(images):
    start = time.process_time()
    assert sample_images() == images
    assert time.process_time() - start < 4  # 0.7 s on one core
    drawn = hashlib.sha256(
        pixels(images[0]["train"]).tobytes() + pixels(images[0]["test"]).tobytes()
    ).hexdigest()
    assert drawn[:12] == "18a10423af7f"  # the same on every machine
    small = [sample_images(seed, train=30, test=10) for seed in (0, 0, 1)]
    assert small[0] == small[1] != small[2]


def test_sample_of_images_has_the_form_of_cifar10(images):
    splits, truth = images
    assert len(IMAGE_LABELS) == 10 and list(splits) == list(truth) == ["train", "test"]
    for split, number in (("train", 2000), ("test", 500)):
        drawn = pixels(splits[split])
        assert drawn.shape == (number, 32, 32, 3) and drawn.dtype == np.uint8
        assert np.bincount(splits[split]["label"]).tolist() == [number // 10] * 10
        assert {len(rows) for rows in truth[split].values()} == {number}
    files = [image["bytes"] for columns in splits.values() for image in columns["img"]]
    assert len(set(files)) == 2500  # no image twice, so none in both splits


def test_sample_of_images_shows_what_its_truth_says(images):
    splits, truth = images
    for split, known in truth.items():
        named = set(zip(splits[split]["label"], known["shape"], strict=True))
        assert len(named) == 10 and len({shape for _, shape in named}) == 10  # a label is a shape
    drawn, known = (
        pixels(splits["test"]).astype(float),
        {key: np.array(rows) for key, rows in truth["test"].items()},
    )
    place = np.arange(32) + 0.5
    offset = (
        np.stack(np.broadcast_arrays(place, place[:, None]), -1) - known["centre"][:, None, None]
    )
    inside = abs(offset).max(-1) <= known["size"][:, None, None] + 1
    colour, ground = known["colour"][:, None, None], known["background"][:, None, None]
    assert (abs(known["colour"] - known["background"]) >= 80).all()
    assert ((known["centre"] > 6.9) & (known["centre"] < 25.1)).all() and (known["size"] >= 7).all()
    # Nearer to the shape's colour than to the background's: only inside, and there in every image.
    shape = abs(drawn - colour).sum(-1) < abs(drawn - ground).sum(-1)
    assert (shape & ~inside).mean() < 0.002
    part = (shape & inside).sum((1, 2)) / inside.sum((1, 2))
    assert part.min() > 0.15 and part.max() < 0.9
    middle = abs(offset).max(-1) < 1.5
    solid, ring = (
        np.isin(known["shape"], ["disc", "square", "triangle", "cross"]),
        known["shape"] == "ring",
    )
    assert shape[solid][middle[solid]].mean() > 0.99 and shape[ring][middle[ring]].mean() < 0.01


def test_sample_of_images_is_not_told_by_its_colours(images):
    splits, _ = images
    train, test = (pixels(splits[split]).mean((1, 2)) / 255 for split in ("train", "test"))
    probe = LogisticRegression().fit(train, splits["train"]["label"])
    assert probe.score(test, splits["test"]["label"]) < 0.2


@pytest.mark.parametrize("numbers", [{"train": 0, "test": 5}, {"train": 5, "test": -1}])
def test_sample_of_images_refuses_empty_splits(numbers):
    with pytest.raises(
        ValueError, match=f"at least 1, got train={numbers['train']}, test={numbers['test']}"
    ):
        sample_images(**numbers)


# ---- photographs
# ---------------------------------------------------------------------------------------------------------


def captions(columns: dict[str, list]) -> list[tuple[str, ...]]:
    return list(zip(*(columns[name] for name in COLUMNS), strict=True))


def test_sample_of_photos_repeats_with_its_seed(photos):
    start = time.perf_counter()
    assert sample_photos() == photos
    assert time.perf_counter() - start < 2  # 0.2 s on one core
    drawn = hashlib.sha256()
    for columns in photos[0].values():
        drawn.update(pixels(columns).tobytes() + repr(captions(columns)).encode())
    assert drawn.hexdigest()[:12] == "ca38e9f08d13"  # the same on every machine
    small = [sample_photos(seed, numbers=(30, 5, 10)) for seed in (0, 0, 1)]
    assert small[0] == small[1] != small[2]


def test_sample_of_photos_has_the_form_of_flickr8k(photos):
    splits, truth = photos
    assert list(splits) == list(truth) == ["train", "validation", "test"]
    for split, number in (("train", 600), ("validation", 100), ("test", 200)):
        assert list(splits[split]) == ["image", *COLUMNS]
        images = pixels(splits[split])
        assert images.shape == (number, 32, 32, 3) and images.dtype == np.uint8
        assert {len(rows) for rows in [*splits[split].values(), *truth[split].values()]} == {number}
        assert {image["path"] for image in splits[split]["image"]} == {None}
    shown = [row for known in truth.values() for row in zip(*known.values(), strict=True)]
    assert (
        len(set(shown)) == len(shown) == 900
    )  # every picture shows something else, so each has its own captions
    features = load_data("flickr8k", source="sample").data["test"].features
    assert features == Features(image=Image(), **{name: Value("string") for name in COLUMNS})


def test_every_caption_tells_all_of_the_truth(photos):
    """Each of the five names shape, colour, place, size and background, and nothing that is not there."""
    splits, truth = photos
    for split, columns in splits.items():
        for row, sentences in enumerate(captions(columns)):
            for sentence in sentences:
                text = f" {sentence.lower()} "
                told = {
                    thing: [
                        name
                        for name, words in names.items()
                        if any(f" {word} " in text for word in words)
                    ]
                    for thing, names in _PHOTO_WORDS.items()
                }
                assert told == {thing: [known[row]] for thing, known in truth[split].items()}
            assert len(set(sentences)) == 5
    first = [sentences[0] for sentences in captions(splits["train"])]
    assert (
        len({sentence.split()[-2] for sentence in first}) > 5
    )  # a column holds sentences of all kinds
    tokenizer = CaptionTokenizer.from_captions(
        [caption for row in captions(splits["train"]) for caption in row]
    )
    ids, visible = tokenizer([caption for row in captions(splits["test"]) for caption in row])
    assert (
        (ids[visible] > 0).all()
        and len(tokenizer) < 100
        and visible.sum(1).max() <= tokenizer.max_length
    )


def seen(columns: dict[str, list], known: dict[str, list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Where the shape is, by its colour: pixels (N, 32, 32), and the middle (x, y) of each, 0 to 32."""
    images = pixels(columns).astype(float)
    colour, ground = (
        np.array([_PHOTO_COLOURS[name] for name in known[thing]])
        for thing in ("colour", "background")
    )
    shape = abs(images - colour[:, None, None]).sum(-1) < 0.5 * abs(
        images - ground[:, None, None]
    ).sum(-1)
    place = np.arange(32) + 0.5
    count = shape.sum((1, 2))
    middle = (
        np.stack([(shape * place).sum((1, 2)), (shape * place[:, None]).sum((1, 2))], 1)
        / count[:, None]
    )
    return shape, middle


def test_pictures_show_what_the_captions_say(photos):
    splits, truth = photos
    shape, middle = seen(splits["train"], truth["train"])
    images, known = pixels(splits["train"]).astype(float), truth["train"]
    colours = [name for name in _PHOTO_COLOURS if name in _PHOTO_WORDS["colour"]]
    painted = (images * shape[..., None]).sum((1, 2)) / shape.sum((1, 2))[:, None]
    nearest = (
        abs(painted[:, None] - np.array([_PHOTO_COLOURS[name] for name in colours]))
        .sum(-1)
        .argmin(1)
    )
    assert [colours[index] for index in nearest] == known["colour"]
    grounds = list(_PHOTO_WORDS["background"])
    median = np.median(images.reshape(len(images), -1), axis=1)  # most of a picture is background
    nearest = abs(median[:, None] - np.array([_PHOTO_COLOURS[name][0] for name in grounds])).argmin(
        1
    )
    assert [grounds[index] for index in nearest] == known["background"]
    places = list(_PHOTO_PLACES)
    corner = 16 + 9 * (2 * np.array([_PHOTO_PLACES[name] for name in places]) - 1)
    nearest = abs(middle[:, None] - corner).sum(-1).argmin(1)
    assert (
        np.mean(
            [places[index] == name for index, name in zip(nearest, known["place"], strict=True)]
        )
        > 0.99
    )
    extent = shape.any(1).sum(1)
    small = np.array(known["size"]) == "small"
    assert np.mean((extent < 12) == small) > 0.97


def test_shapes_can_be_told_apart(photos):
    splits, truth = photos
    parts = {}
    for split in ("train", "test"):
        shape, middle = seen(splits[split], truth[split])
        extent = np.sqrt(shape.sum((1, 2)))
        steps = np.linspace(-1, 1, 9)
        places = [
            (middle[:, axis, None] + steps * extent[:, None]).clip(0, 31).astype(int)
            for axis in (1, 0)
        ]
        parts[split] = np.stack(
            [image[np.ix_(y, x)].ravel() for image, y, x in zip(shape, *places, strict=True)]
        )
    probe = LogisticRegression(max_iter=1000).fit(parts["train"], truth["train"]["shape"])
    assert probe.score(parts["test"], truth["test"]["shape"]) > 0.95


@pytest.mark.parametrize("numbers", [(0, 5, 5), (5, 5, -1)])
def test_sample_of_photos_refuses_empty_splits(numbers):
    with pytest.raises(ValueError, match="numbers must be at least 1 for each split"):
        sample_photos(numbers=numbers)


# ---- texts
# ---------------------------------------------------------------------------------------------------------------


def test_sample_articles():
    start = time.monotonic()
    splits, topics = sample_articles()
    assert time.monotonic() - start < 1
    assert (splits, topics) == sample_articles() != sample_articles(1)
    words = {
        split: sum(len(line.split()) for line in columns["text"])
        for split, columns in splits.items()
    }
    assert words["train"] > 25_000 and 50_000 < words["validation"] + words["test"] < 70_000
    assert len(set(topics.values())) == 8
    titles = []
    for columns in splits.values():
        lines = columns["text"]
        assert lines[0] == "" and all(
            line == "" or (line.startswith(" ") and line.endswith(" \n")) for line in lines
        )
        assert lines.count(" = = History = = \n") == sum(
            line.startswith(" = ") and line[3] != "=" for line in lines
        )
        titles += [line[3:-4] for line in lines if line.startswith(" = ") and line[3] != "="]
    assert titles == list(topics)


def test_halves_of_an_articles_passage_have_words_in_common():
    """What chapter 2 rests on: the second half of an article is told by the first among other articles' halves."""
    blocks = []
    for line in sample_articles()[0]["test"]["text"]:
        if line.startswith(" = ") and line[3] != "=":
            blocks.append([])
        elif line:
            blocks[-1] += line.split()
    halves = [(set(block[:200]), set(block[200:400])) for block in blocks]
    told = [
        len(first & second) == max(len(first & other) for _, other in halves)
        for first, second in halves
    ]
    assert len(told) == 38 and sum(told) / len(told) > 0.9


def test_sample_reviews():
    splits, cues = sample_reviews()
    assert (splits, cues) == sample_reviews() != sample_reviews(1)
    assert {split: len(columns["label"]) for split, columns in splits.items()} == {
        "train": 800,
        "validation": 100,
        "test": 200,
    }
    assert sum(splits["test"]["label"]) == 100 and not set(cues["neg"]) & set(cues["pos"])
    bag = CountVectorizer().fit(splits["train"]["text"])
    probe = LogisticRegression().fit(
        bag.transform(splits["train"]["text"]), splits["train"]["label"]
    )
    assert 0.7 < probe.score(bag.transform(splits["test"]["text"]), splits["test"]["label"]) < 0.9
    assert all(text == text.lower() for text in splits["train"]["text"])


@pytest.mark.parametrize("sample", [sample_articles, sample_reviews])
def test_samples_refuse_empty_splits(sample):
    with pytest.raises(ValueError, match=r"at least 1 for each split, got \(1, 0, 1\)"):
        sample(0, **{f"num_{sample.__name__.removeprefix('sample_')}": (1, 0, 1)})


def test_samples_are_the_same_everywhere(recwarn):
    """Pinned: the same on every machine and Python version."""
    first = {
        name: load_data(name, source="sample").provenance.sha256[:12]
        for name in ("wikitext-2", "rotten-tomatoes")
    }
    assert first == {"wikitext-2": "3b9ce8d561e3", "rotten-tomatoes": "5e28368a5b29"}
    assert not recwarn.list  # asked for, so no notice
