"""Counts and seeds: NumPy's whole numbers are as good as Python's, and nothing else is."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from jepa_utils.data.batches import (
    CaptionDataModule,
    ImageDataModule,
    SpanDataModule,
    neighbour_batches,
    tensor_batches,
)
from jepa_utils.data.images import decode_images, random_resized_crop
from jepa_utils.data.masking import multiblock_masks, random_masks
from jepa_utils.data.samples import (
    sample_articles,
    sample_images,
    sample_photos,
    sample_reviews,
    sample_shakespeare,
)
from jepa_utils.data.scenes import altered_captions, scenes
from jepa_utils.data.spiral import curve_neighbours, space_neighbours, spiral
from jepa_utils.data.tokens import CaptionTokenizer, span_mask, stream_chunks, stream_data
from jepa_utils.data.words import Vocabulary, context_windows

CHUNKS = torch.arange(12 * 8).view(12, 8)
WORDS = torch.ones(12, 2, 3, dtype=torch.long), torch.ones(12, 2, 3, dtype=torch.bool)
POINTS = torch.linspace(0, 1, 12).view(12, 1)
WORLD = scenes(8)
PICTURE = {"img": [sample_images(train=1, test=1)[0]["test"]["img"][0]["bytes"]]}


def letters(lines, add_special_tokens=True):
    return {"input_ids": [list(line.encode()) for line in lines]}


def seeded(function):
    """With the same global draws each time."""

    def call(**numbers):
        torch.manual_seed(0)
        return function(**numbers)

    return call


def span_batches(batch_size, min_length, seed, epoch, rank, world_size):
    data = SpanDataModule(CHUNKS, batch_size=batch_size, min_length=min_length, seed=seed)
    return list(data.batches(epoch, rank=rank, world_size=world_size))


def stream_batches(chunks_per_epoch, batch_size, epoch):
    def chunks(rank, world_size):
        return iter(CHUNKS)

    data = SpanDataModule(
        chunks, batch_size=batch_size, min_length=2, chunks_per_epoch=chunks_per_epoch
    )
    return list(data.batches(epoch))


def caption_batches(batch_size, seed, epoch):
    data = CaptionDataModule(CHUNKS[:, :, None], WORDS, batch_size=batch_size, seed=seed)
    return list(data.batches(epoch))


def image_batches(batch_size, seed, epoch):
    data = ImageDataModule(CHUNKS, torch.arange(12), batch_size=batch_size, seed=seed)
    return list(data.batches(epoch))


def masks(function):
    def call(height, width, **numbers):
        return vars(function(grid=(height, width), **numbers))

    return call


def tokenizer_of(min_count, max_length):
    made = CaptionTokenizer.from_captions(
        ["a dog runs", "a cat"], min_count=min_count, max_length=max_length
    )
    return [made.words, made(["a dog runs far"]), type(made.max_length)]


def rows(rank, world_size):
    return stream_data("fineweb-edu", rank=rank, world_size=world_size, source="mirror")


CALLS = {
    "spans": (
        span_batches,
        dict(batch_size=4, min_length=2, seed=3, epoch=1, rank=1, world_size=2),
    ),
    "stream": (stream_batches, dict(chunks_per_epoch=4, batch_size=2, epoch=1)),
    "captions": (caption_batches, dict(batch_size=4, seed=3, epoch=1)),
    "images": (image_batches, dict(batch_size=4, seed=3, epoch=1)),
    "tensors": (
        lambda batch_size: list(tensor_batches(POINTS, batch_size=batch_size)),
        dict(batch_size=5),
    ),
    "neighbours": (
        lambda batch_size: list(
            neighbour_batches(POINTS, CHUNKS[:, :1] // 8, batch_size=batch_size)
        ),
        dict(batch_size=5),
    ),
    "decode": (
        lambda size: decode_images(Dataset.from_dict(PICTURE), "img", size=size),
        dict(size=8),
    ),
    "crop": (lambda size: random_resized_crop(torch.rand(2, 3, 6, 6), size=size), dict(size=4)),
    "random masks": (masks(random_masks), dict(batch=2, height=4, width=5)),
    "block masks": (
        masks(multiblock_masks),
        dict(batch=2, height=6, width=7, num_targets=2, min_context=3),
    ),
    "play": (sample_shakespeare, dict(seed=3, num_speeches=5)),
    "articles": (lambda seed, n: sample_articles(seed, num_articles=(n, n, n)), dict(seed=3, n=2)),
    "reviews": (lambda seed, n: sample_reviews(seed, num_reviews=(n, n, n)), dict(seed=3, n=2)),
    "pictures": (sample_images, dict(seed=3, train=2, test=1)),
    "photos": (lambda seed, n: sample_photos(seed, numbers=(n, n, n)), dict(seed=3, n=2)),
    "scenes": (lambda **numbers: vars(scenes(**numbers)), dict(number=3, image_size=32, seed=3)),
    "altered": (lambda seed: altered_captions(WORLD, "colour 1", seed=seed), dict(seed=3)),
    "spiral": (
        lambda **numbers: vars(spiral(**numbers)),
        dict(count=9, dimensions=4, seed=3, lift_seed=2),
    ),
    "curve": (lambda **n: curve_neighbours(POINTS[:, 0], width=0.2, **n), dict(count=3, seed=3)),
    "space": (lambda count: space_neighbours(POINTS, count=count), dict(count=3)),
    "span mask": (lambda length: span_mask(torch.tensor([1, 2]), length), dict(length=4)),
    "chunks": (
        lambda **numbers: list(stream_chunks(["abcdef"] * 4, letters, **numbers)),
        dict(length=4, batch_size=2),
    ),
    "captions' words": (tokenizer_of, dict(min_count=1, max_length=3)),
    "vocabulary": (lambda min_count: Vocabulary.build(list("aab"), min_count), dict(min_count=2)),
    "windows": (lambda size: context_windows([1, 2, 3, 4], size), dict(size=2)),
}


def same(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize(("function", "numbers"), CALLS.values(), ids=CALLS)
def test_numbers_of_numpy_are_as_good(function, numbers):
    call = seeded(function)
    for kind in (np.int64, np.int32, np.uint8):
        given = {name: kind(value) for name, value in numbers.items()}
        assert same(call(**numbers), call(**given))


@pytest.mark.parametrize("wrong", [True, 2.0, np.float64(2), np.bool_(True), "2", None], ids=repr)
@pytest.mark.parametrize(
    ("function", "numbers", "name"),
    [
        pytest.param(function, numbers, name, id=f"{call} {name}")
        for call, (function, numbers) in (
            CALLS | {"rows": (rows, dict(rank=0, world_size=1))}
        ).items()
        for name in numbers
    ],
)
def test_nothing_else_is_a_number(function, numbers, name, wrong):
    if wrong is None and name in ("size", "chunks_per_epoch"):
        return  # None has a meaning here
    with pytest.raises(ValueError, match="must be (an integer|two whole numbers)"):
        function(**numbers | {name: wrong})
