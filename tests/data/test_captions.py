"""Captions: decoded beside their pictures or refused by row, of classes, as token ids, and the generated ones."""

import hashlib
import io
import os
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Picture
from sklearn.linear_model import LogisticRegression

from jepa_utils.data.images import caption_table
from jepa_utils.data.load import load_data
from jepa_utils.data.samples import _PHOTO_COLOURS, _PHOTO_PLACES, _PHOTO_WORDS, sample_photos
from jepa_utils.data.tokens import CLASS_TEMPLATES, CaptionTokenizer, class_captions
from jepa_utils.data.words import Vocabulary
from jepa_utils.models.text import TextEncoder

MIRROR = os.environ.get("JEPA_DATA_MIRROR")
COLUMNS = [f"caption_{number}" for number in range(5)]


@pytest.fixture(scope="module")
def sample():
    return sample_photos()


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(files: list[bytes | None], **captions: list) -> Dataset:
    """Pictures with captions "a 0" of row 0 and so on in two columns, unless told otherwise."""
    rows = range(len(files))
    columns = {"image": [{"bytes": file, "path": None} for file in files]}
    columns |= {"a": [f"a {row}" for row in rows], "b": [f"b {row}" for row in rows]} | captions
    struct = {"bytes": Value("binary"), "path": Value("string")}
    return Dataset.from_dict(
        columns, Features({"image": struct, "a": Value("string"), "b": Value("string")})
    )


# ---- tables
# --------------------------------------------------------------------------------------------------------------


def test_pictures_and_captions_stay_together():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    whole = table([encoded(image) for image in pixels])
    images, captions = caption_table(whole.select([2, 0, 3]), captions=["b", "a"])
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 6, 5)
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), pixels[[2, 0, 3]])
    assert captions == [["b 2", "a 2"], ["b 0", "a 0"], ["b 3", "a 3"]]
    assert caption_table(whole, captions=["a"])[1] == [["a 0"], ["a 1"], ["a 2"], ["a 3"]]


def test_pictures_of_many_sizes_become_one(sample):
    wide, high = np.zeros((20, 40, 3), np.uint8), np.zeros((50, 10, 3), np.uint8)
    wide[:, 10:30], high[20:30] = (200, 40, 90), (10, 20, 30)  # the square in the middle
    images, captions = caption_table(
        table([encoded(wide), encoded(high)]), captions=["a", "b"], size=8
    )
    assert images.shape == (2, 3, 8, 8) and captions == [["a 0", "b 0"], ["a 1", "b 1"]]
    inside = torch.tensor([(200, 40, 90), (10, 20, 30)])[:, :, None, None].expand(-1, -1, 8, 8)
    torch.testing.assert_close(
        images[:, :, 2:6, 2:6].long(), inside[:, :, 2:6, 2:6], atol=0, rtol=0
    )
    torch.testing.assert_close(
        images.long(), inside, atol=25, rtol=0
    )  # at the border pixels beyond it count a little
    square = Dataset.from_dict(sample[0]["validation"])
    assert torch.equal(
        caption_table(square, size=32)[0], caption_table(square)[0]
    )  # of that size already: untouched


@pytest.mark.parametrize("missing", [None, "", " \n"])
def test_a_caption_that_is_missing_is_named(missing):
    good = encoded(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"row 2 of column 'b' must hold a caption, got (None|''|' \\n')"
    ):
        caption_table(table([good] * 4, b=["b", "b", missing, "b"]), captions=["a", "b"])


def test_a_picture_that_is_damaged_is_named():
    good = encoded(np.zeros((2, 2, 3), np.uint8))
    for damaged, reason in ((b"no image", "no image of a known format"), (None, "no file in it")):
        with pytest.raises(
            ValueError, match=rf"row 1 of column 'image' cannot be decoded: .*{reason}"
        ):
            caption_table(table([good, damaged]), captions=["a"])
    with pytest.raises(
        ValueError, match=r"row 1 of column 'image' must have .* \(2, 2\) as row 0, got \(3, 2\)"
    ):
        caption_table(table([good, encoded(np.zeros((3, 2, 3), np.uint8))]), captions=["a"])


def test_tables_that_do_not_fit():
    good = table([encoded(np.zeros((2, 2, 3), np.uint8))])
    with pytest.raises(
        ValueError, match="captions must be one of the table's columns image, a, b; got 'caption_0'"
    ):
        caption_table(good)
    with pytest.raises(
        ValueError, match="image must be one of the table's columns image, a, b; got 'img'"
    ):
        caption_table(good, image="img", captions=["a"])
    with pytest.raises(
        ValueError, match="captions must be columns of text, got 'image' of type struct"
    ):
        caption_table(good, captions=["a", "image"])
    with pytest.raises(
        ValueError, match="image must be a column of image files, got 'b' of type string"
    ):
        caption_table(good, image="b", captions=["a"])
    for none in ("a", []):
        with pytest.raises(
            ValueError, match=r"captions must be the names of one column or more, got ('a'|\[\])"
        ):
            caption_table(good, captions=none)
    with pytest.raises(
        ValueError, match="table must be a datasets.Dataset, one split; got DatasetDict"
    ):
        caption_table(DatasetDict(test=good), captions=["a"])
    with pytest.raises(ValueError, match="at least one row, got none"):
        caption_table(good.select([]), captions=["a"])
    with pytest.raises(ValueError, match="size must be None or at least 1, got 0"):
        caption_table(good, captions=["a"], size=0)


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_the_real_photographs():
    data = load_data("flickr8k", source="mirror", splits=["train", "test"]).data
    images, captions = caption_table(data["test"], size=24)
    assert (
        images.shape == (1000, 3, 24, 24)
        and len({image.numpy().tobytes() for image in images}) == 1000
    )
    assert {len(row) for row in captions} == {5}
    assert data["test"].select_columns(COLUMNS)[999] == dict(
        zip(COLUMNS, captions[999], strict=True)
    )
    train = [caption for column in COLUMNS for caption in data["train"][column]]
    tokenizer = CaptionTokenizer.from_captions(train, min_count=5)
    ids, visible = tokenizer([caption for row in captions for caption in row])
    assert (
        2000 < len(tokenizer) < 4000 and (ids[visible] == 0).float().mean() < 0.03
    )  # few words are unknown
    assert (
        visible.sum(1).float().mean() > 10 and visible[:, -1].float().mean() < 0.01
    )  # and few captions are cut


# ---- classes
# -------------------------------------------------------------------------------------------------------------


def test_captions_of_classes():
    captions = class_captions(
        ["dog", "airplane", "Airedale terrier"], ["a {}", "A {} and a cat", "one {}"]
    )
    assert captions == [
        ["a dog", "A dog and a cat", "one dog"],
        ["an airplane", "An airplane and a cat", "one airplane"],
        ["an Airedale terrier", "An Airedale terrier and a cat", "one Airedale terrier"],
    ]


def test_templates_of_the_book():
    (dog, automobile) = class_captions(["dog", "automobile"])
    assert len(set(dog)) == len(CLASS_TEMPLATES) == 8
    assert all(" dog " in f" {caption} " for caption in dog) and "a photo of a dog" in dog
    assert "a photo of an automobile" in automobile and not any(
        " a automobile" in f" {caption}" for caption in automobile
    )


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], ["a {}"], r"names must be a sequence of at least one string, got \[\]"),
        ("dog", ["a {}"], "names must be a sequence of at least one string, got 'dog'"),
        (["dog", " "], ["a {}"], "names must not be blank, got ' '"),
        (["dog"], [], r"templates must be a sequence of at least one string, got \[\]"),
        (["dog"], "a {}", "templates must be a sequence of at least one string, got 'a {}'"),
        (["dog"], ["a {}", "a dog"], "templates must have {} once each, got 'a dog'"),
        (["dog"], ["a {} and a {}"], "templates must have {} once each, got 'a {} and a {}'"),
    ],
)
def test_classes_and_templates_that_do_not_fit(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_captions(names, templates)


# ---- token ids
# -----------------------------------------------------------------------------------------------------------


def test_words_become_ids():
    tokenizer = CaptionTokenizer.from_captions(["A dog runs .", "a black dog", "A cat !"])
    assert (
        tokenizer.words == ("<unk>", "a", "dog", "runs", ".", "black", "cat", "!")
        and len(tokenizer) == 8
    )
    ids, visible = tokenizer(["A Dog!", "the black cat runs ."])
    assert ids.dtype == torch.int64 and visible.dtype == torch.bool
    assert ids.tolist() == [[1, 2, 7, 0, 0], [0, 5, 6, 3, 4]]
    assert visible.tolist() == [[True, True, True, False, False], [True] * 5]
    assert (
        CaptionTokenizer(Vocabulary(tokenizer.words, tokenizer.vocabulary.counts)) == tokenizer
    )  # from what was saved


def test_rare_words_are_unknown():
    captions = ["a dog", "a dog", "a cat"]
    assert CaptionTokenizer.from_captions(captions, min_count=2).words == ("<unk>", "a", "dog")
    assert CaptionTokenizer.from_captions(captions, min_count=3)(["a cat"])[0].tolist() == [[1, 0]]


def test_a_caption_of_unknown_words_is_seen():
    tokenizer = CaptionTokenizer.from_captions(["a dog"])
    ids, visible = tokenizer(["zebra", "a dog"])
    assert ids.tolist() == [[0, 0], [1, 2]] and visible.tolist() == [[True, False], [True, True]]
    assert TextEncoder(len(tokenizer), dimensions=4)(ids, visible).isfinite().all()


def test_long_captions_are_cut():
    tokenizer = CaptionTokenizer.from_captions(["one two three four five"], max_length=3)
    ids, visible = tokenizer(["one two three four five", "five"])
    assert ids.tolist() == [[1, 2, 3], [5, 0, 0]] and visible.tolist() == [
        [True] * 3,
        [True, False, False],
    ]
    assert CaptionTokenizer(tokenizer.vocabulary)(["one " * 40])[0].shape == (1, 32)


def test_embeddings_do_not_depend_on_the_other_captions():
    tokenizer = CaptionTokenizer.from_captions(["a dog runs", "a cat sleeps on the mat"])
    encoder = TextEncoder(len(tokenizer), dimensions=8, max_length=tokenizer.max_length).eval()
    together = encoder(*tokenizer(["a dog", "a cat on the mat"]))
    torch.testing.assert_close(together[:1], encoder(*tokenizer(["a dog"])))
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], r"captions must be a sequence of at least one string, got \[\]"),
        ("a dog", "captions must be a sequence of at least one string, got 'a dog'"),
        (["a dog", ""], r"strings with at least one word, got '' as captions\[1\]"),
        (["a dog", "a cat", "\n"], r"strings with at least one word, got '\\n' as captions\[2\]"),
        ([["a dog"]], r"strings with at least one word, got \['a dog'\] as captions\[0\]"),
        ([None], r"strings with at least one word, got None as captions\[0\]"),
    ],
)
def test_captions_that_do_not_fit(captions, message):
    tokenizer = CaptionTokenizer.from_captions(["a dog"])
    for take in (CaptionTokenizer.from_captions, tokenizer):
        with pytest.raises(ValueError, match=message):
            take(captions)


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        CaptionTokenizer.from_captions(["a dog"], max_length=0)
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        CaptionTokenizer.from_captions(["a dog"], min_count=0)


# ---- the sample
# ----------------------------------------------------------------------------------------------------------


def pixels(columns: dict[str, list]) -> np.ndarray:
    return np.stack(
        [np.asarray(Picture.open(io.BytesIO(image["bytes"]))) for image in columns["image"]]
    )


def captions(columns: dict[str, list]) -> list[tuple[str, ...]]:
    return list(zip(*(columns[name] for name in COLUMNS), strict=True))


def test_sample_repeats_with_its_seed(sample):
    start = time.perf_counter()
    assert sample_photos() == sample
    assert time.perf_counter() - start < 2  # 0.2 s on one core
    drawn = hashlib.sha256()
    for columns in sample[0].values():
        drawn.update(pixels(columns).tobytes() + repr(captions(columns)).encode())
    assert drawn.hexdigest()[:12] == "ca38e9f08d13"  # the same on every machine
    small = [sample_photos(seed, numbers=(30, 5, 10)) for seed in (0, 0, 1)]
    assert small[0] == small[1] != small[2]


def test_sample_has_the_form_of_flickr8k(sample):
    splits, truth = sample
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


def test_every_caption_tells_all_of_the_truth(sample):
    """Each of the five names shape, colour, place, size and background, and nothing that is not there."""
    splits, truth = sample
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


def test_pictures_show_what_the_captions_say(sample):
    splits, truth = sample
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


def test_shapes_can_be_told_apart(sample):
    splits, truth = sample
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
def test_sample_refuses_empty_splits(numbers):
    with pytest.raises(ValueError, match="numbers must be at least 1 for each split"):
        sample_photos(numbers=numbers)
