"""Images as tensors: decoded exactly, with captions or refused by row, views that stay images and are drawn for each."""

import io
import os
import struct
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Picture

from jepa_utils.data.images import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    _eight_bits,
    augmented_view,
    caption_table,
    color_jitter,
    decode_images,
    denormalize,
    image_tensor,
    normalize,
    random_flip,
    random_grayscale,
    random_resized_crop,
)
from jepa_utils.data.load import load_data
from jepa_utils.data.samples import sample_images, sample_photos

MIRROR = os.environ.get("JEPA_DATA_MIRROR")
AUGMENTATIONS = [random_flip, random_resized_crop, color_jitter, random_grayscale]


@pytest.fixture(scope="module")
def sample():
    return sample_images()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Sixteen times the same image: what differs after is drawn for each."""
    return torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(1)).expand(
        16, -1, -1, -1
    )


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, kind)
    return file.getvalue()


def table(files: list[bytes | None], labels: list | None = None, **features) -> Dataset:
    columns = {
        "img": [{"bytes": file, "path": None} for file in files],
        "label": labels or list(range(len(files))),
    }
    struct = {"bytes": Value("binary"), "path": Value("string")}
    return Dataset.from_dict(columns, Features({"img": struct, "label": Value("int64")} | features))


# ---- decoding
# ------------------------------------------------------------------------------------------------------------


def test_decoding_is_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3)).astype(np.uint8)
    images, labels = image_tensor(table([encoded(image) for image in pixels], [3, 1, 4, 1, 5]))
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64 and images.is_contiguous()
    assert images.shape == (5, 3, 6, 4) and labels.tolist() == [3, 1, 4, 1, 5]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), pixels)
    images[0], labels[0] = 0, 7  # memory of its own


def test_every_format_becomes_red_green_blue():
    flat = np.full((8, 8, 3), (200, 40, 90), np.uint8)
    files = [
        encoded(flat, "JPEG"),
        encoded(flat[..., 0]),
        encoded(np.dstack([flat, flat[..., :1]])),
    ]
    images, _ = image_tensor(table(files))
    for image, wanted in zip(images, [(200, 40, 90), (200,) * 3, (200, 40, 90)], strict=True):
        assert (
            image.view(3, -1).int() - torch.tensor(wanted)[:, None]
        ).abs().max() <= 2  # JPEG is not exact


def stored(image: Picture.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


GREYS = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369  # from 0 to 65535


@pytest.mark.parametrize(
    "content",
    [
        stored(Picture.fromarray(GREYS)),
        stored(Picture.fromarray(GREYS), "TIFF"),
        stored(Picture.frombytes("I;16B", (4, 4), GREYS.astype(">u2").tobytes()), "TIFF"),
        stored(Picture.fromarray(GREYS), "JPEG2000", irreversible=False),
        stored(Picture.fromarray(GREYS.astype(np.int32)), "TIFF"),
        b"P5 4 4 65535\n" + GREYS.astype(">u2").tobytes(),
        stored(Picture.fromarray((GREYS // 257).astype(np.uint8))),
    ],
    ids=["PNG", "TIFF", "TIFF, big-endian", "JPEG 2000", "32 bits", "PGM", "8 bits"],
)
def test_grey_of_every_depth_has_its_whole_range(content):
    image = decode_images(table([content]), "img")[0]
    assert image.flatten(1).tolist() == [list(range(0, 256, 17))] * 3


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N", "I"])
def test_grey_of_16_bits_is_rounded_to_8(mode):
    order = {"I;16B": ">u2", "I": "<i4"}.get(mode, "<u2")
    values = np.array([0, 128, 129, 385, 386, 65406, 65407, 65535])
    image = Picture.frombytes(mode, (8, 1), values.astype(order).tobytes())
    assert list(_eight_bits(image, image).tobytes()) == [0, 0, 1, 1, 2, 254, 255, 255]


def tiff(bits: int, white: int, rows: bytes) -> bytes:
    """A TIFF file of 4 x 1 grey pixels, whose white is 0 or not."""
    tags = [(256, 4), (257, 1), (258, bits), (259, 1), (262, white), (273, 110), (279, len(rows))]
    tags = [*tags[:6], (277, 1), tags[6]]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    body = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    return head + body + bytes(4) + rows


@pytest.mark.parametrize(
    ("bits", "white", "values", "expected"),
    [
        (12, 1, [0, 273, 2184, 4095], [0, 17, 136, 255]),
        (16, 1, [0, 4369, 34952, 65535], [0, 17, 136, 255]),
        (16, 0, [0, 4369, 34952, 65535], [255, 238, 119, 0]),
    ],
)
def test_grey_of_tiff_files(bits, white, values, expected):
    if bits == 12:
        rows = int("".join(f"{value:012b}" for value in values), 2).to_bytes(6, "big")
    else:
        rows = struct.pack("<4H", *values)
    image = decode_images(table([tiff(bits, white, rows)]), "img")
    assert image[0, :, 0].tolist() == [expected] * 3


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("1", (255, 255, 255)),
        ("L", (200, 200, 200)),
        ("LA", (200, 200, 200)),
        ("P", (204, 51, 102)),  # of the web palette
        ("PA", (204, 51, 102)),
        ("RGBA", (200, 40, 90)),
        ("RGBX", (200, 40, 90)),
        ("CMYK", (200, 40, 90)),
        ("YCbCr", (200, 40, 90)),
        ("LAB", (200, 40, 90)),
        ("HSV", (200, 40, 90)),
        ("RGBa", (200, 40, 90)),
    ],
)
def test_every_other_mode_becomes_red_green_blue(mode, wanted):
    grey, colour = (Picture.new("RGB", (2, 2), value) for value in ((200,) * 3, (200, 40, 90)))
    if mode == "RGBa":
        image = colour.convert("RGBA").convert("RGBa")
    else:
        image = (grey if mode in ("1", "L", "LA") else colour).convert(mode, dither=0)
    red_green_blue = np.asarray(_eight_bits(image, image).convert("RGB"))[0, 0]
    np.testing.assert_allclose(red_green_blue, wanted, atol=3)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((2, 2), 0.5, np.float32), r"mode F \(floating point\) has no fixed range"),
        (np.array([[0, 70_000]], np.int32), r"mode I has no .* from 0 to 65535, got 0 to 70000"),
        (np.array([[-1, 9]], np.int32), r"mode I has no .* from 0 to 65535, got -1 to 9"),
    ],
)
def test_values_without_a_range_are_refused(pixels, reason):
    good = encoded(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=f"row 1 of column 'img' cannot be decoded: its {reason}"):
        decode_images(table([good, encoded(pixels, "TIFF")]), "img")


ORIENTED = {  # how the pixels of an upright image are stored, by EXIF's number
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


@pytest.mark.parametrize("number", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "16 bits"])
def test_images_stand_upright(number, kind):
    upright = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
    if kind == "16 bits":
        upright = upright[..., :1].repeat(3, 2)
    lying = ORIENTED[number](upright)
    exif = Picture.Exif()
    exif[274] = number
    if kind == "16 bits":
        content = stored(Picture.fromarray(lying[..., 0].astype(np.uint16) * 257), exif=exif)
    else:
        options = {"lossless": True} if kind == "WEBP" else {}
        content = stored(Picture.fromarray(np.ascontiguousarray(lying)), kind, exif=exif, **options)
    files = table([content]).add_column("caption", ["a word"])
    taken = caption_table(files, image="img", captions=["caption"])[0]
    for images in (decode_images(files, "img"), image_tensor(files)[0], taken):
        np.testing.assert_array_equal(images[0].permute(1, 2, 0), upright)
    assert decode_images(files, "img", size=2).shape == (1, 3, 2, 2)


def test_damaged_notes_on_the_orientation_do_no_harm():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
    content = stored(Picture.fromarray(pixels), exif=b"damaged")
    np.testing.assert_array_equal(
        decode_images(table([content]), "img")[0].permute(1, 2, 0), pixels
    )


def test_rows_as_the_table_orders_them_and_columns_by_name(sample):
    columns = {"picture": sample[0]["test"]["img"][:20], "kind": sample[0]["test"]["label"][:20]}
    whole = Dataset.from_dict(columns, Features(picture=Image(), kind=Value("int8")))
    images, labels = image_tensor(whole, image="picture", label="kind")
    some = whole.select([7, 3, 3]).with_format("torch")
    few, fewer = image_tensor(some, image="picture", label="kind")
    assert torch.equal(few, images[[7, 3, 3]]) and torch.equal(fewer, labels[[7, 3, 3]])
    plain = Dataset.from_dict(
        {"img": [image["bytes"] for image in columns["picture"]], "label": columns["kind"]}
    )
    assert torch.equal(image_tensor(plain)[0], images)


def test_one_column_is_decoded_as_the_whole_table(sample):
    whole = table([image["bytes"] for image in sample[0]["test"]["img"][:5]])
    images = decode_images(whole, "img")
    assert torch.equal(images, image_tensor(whole)[0]) and images.is_contiguous()
    halved = decode_images(whole, "img", size=16)
    assert halved.dtype == torch.uint8 and halved.shape == (5, 3, 16, 16)
    blurred = torch.nn.functional.avg_pool2d(images.float(), 2)
    assert (halved - blurred).abs().mean() < 8  # of 255: the noise is what differs
    with pytest.raises(
        ValueError, match="image must be one of the table's columns img, label; got 'image'"
    ):
        decode_images(whole, "image")
    with pytest.raises(
        ValueError, match="row 1 of column 'img' cannot be decoded: no image of a known format"
    ):
        decode_images(table([encoded(np.zeros((2, 2, 3), np.uint8)), b"no image"]), "img", size=2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image", "no image of a known format"),
        (b"", "no image of a known format"),
        (None, "no file in it"),
        ("cut short", "truncated"),
        ("head", "its head is damaged"),
        ("body", "broken data stream"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named(content, reason):
    good = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    if content == "cut short":
        content = good[: len(good) // 2]
    if content in ("head", "body"):
        place = 20 if content == "head" else 60
        content = good[:place] + bytes([good[place] ^ 255]) * 20 + good[place + 20 :]
    with pytest.raises(
        ValueError, match=rf"row 17 of column 'img' cannot be decoded: .*{reason}"
    ) as caught:
        image_tensor(table([good] * 17 + [content] + [good]))
    assert "0x" not in str(caught.value)


def test_images_of_another_size_are_named():
    sizes = [(4, 6), (4, 6), (6, 4)]
    with pytest.raises(
        ValueError, match=r"row 2 of column 'img' must have .* \(4, 6\) as row 0, got \(6, 4\)"
    ):
        image_tensor(table([encoded(np.zeros((*size, 3), np.uint8)) for size in sizes]))


def test_tables_that_do_not_fit():
    good = table([encoded(np.zeros((2, 2, 3), np.uint8))])
    with pytest.raises(
        ValueError, match="image must be one of the table's columns img, label; got 'image'"
    ):
        image_tensor(good, image="image")
    with pytest.raises(
        ValueError, match="label must be one of the table's columns img, label; got 'fine'"
    ):
        image_tensor(good, label="fine")
    with pytest.raises(
        ValueError, match="image must be a column of image files, got 'label' of type int64"
    ):
        image_tensor(good, image="label")
    with pytest.raises(
        ValueError, match="table must be a datasets.Dataset, one split; got DatasetDict"
    ):
        image_tensor(DatasetDict(test=good))
    with pytest.raises(ValueError, match="at least one row, got none"):
        image_tensor(good.select([]))
    with pytest.raises(
        ValueError, match="whole numbers, got 'label' of type string with 0 missing"
    ):
        image_tensor(table([b""], ["cat"], label=Value("string")))
    with pytest.raises(ValueError, match="whole numbers, got 'label' of type int64 with 1 missing"):
        image_tensor(table([b"", b""], [1, None]))


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_the_constants_are_those_of_the_real_images():
    images, labels = image_tensor(
        load_data("cifar10", source="mirror", splits=["test"]).data["test"]
    )
    assert images.shape == (10_000, 3, 32, 32) and labels.bincount().tolist() == [1000] * 10
    colours = images.transpose(0, 1).flatten(1).double() / 255
    torch.testing.assert_close(
        colours.mean(1), torch.tensor(CIFAR10_MEAN).double(), atol=0.006, rtol=0
    )
    torch.testing.assert_close(
        colours.std(1), torch.tensor(CIFAR10_STD).double(), atol=0.006, rtol=0
    )


# ---- standardising
# -------------------------------------------------------------------------------------------------------


def test_normalize_and_back():
    pixels = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8)
    standard = normalize(pixels)
    assert standard.dtype == torch.float32
    torch.testing.assert_close(standard, normalize(pixels / 255), atol=0, rtol=0)
    torch.testing.assert_close(denormalize(standard), pixels / 255)
    torch.testing.assert_close(
        denormalize(normalize(pixels, (0, 0, 0), (1, 1, 1)), (0, 0, 0), (1, 1, 1)), pixels / 255
    )
    assert normalize(pixels.double() / 255).dtype == torch.float64
    mean = torch.tensor(CIFAR10_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(CIFAR10_STD).view(1, 3, 1, 1)
    torch.testing.assert_close(normalize(mean), torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(normalize(mean + std), torch.ones(1, 3, 1, 1))
    assert (
        denormalize(torch.full((1, 3, 1, 1), 99.0)).max() == 1
        and denormalize(torch.full((1, 3, 1, 1), -99.0)).min() == 0
    )


# ---- views
# ---------------------------------------------------------------------------------------------------------------


def test_crop_of_everything_is_the_identity(images):
    square = images[..., :10, :]
    torch.testing.assert_close(
        random_resized_crop(square, scale=(1, 1), ratio=(1, 1)), square, atol=1e-5, rtol=0
    )
    flat = torch.full((3, 3, 4, 9), 0.25)
    torch.testing.assert_close(random_resized_crop(flat), flat)


def test_crops_are_the_rectangles_they_say():
    """On an image whose values are its coordinates, the result tells the rectangle it was cut from."""
    side = torch.arange(64) / 64
    ramp = torch.stack(
        [side.expand(64, 64), side[:, None].expand(64, 64), torch.zeros(64, 64)]
    ).expand(500, -1, -1, -1)
    crops = random_resized_crop(ramp, scale=(0.3, 0.5), ratio=(0.5, 2.0))
    across = (crops[:, 0, 32, 40] - crops[:, 0, 32, 24]) * 64 / 16  # inside, where no border counts
    down = (crops[:, 1, 40, 32] - crops[:, 1, 24, 32]) * 64 / 16
    area, ratio = across * down, across / down
    assert 0.299 < area.min() < 0.31 and 0.49 < area.max() < 0.501 and abs(area.mean() - 0.4) < 0.01
    assert (
        0.499 < ratio.min() < 0.55 and 1.8 < ratio.max() < 2.001 and abs(ratio.log().mean()) < 0.06
    )
    left, top = (
        crops[:, 0, 32, 31:33].mean(1) + 0.5 / 64 - across / 2,
        crops[:, 1, 31:33, 32].mean(1) + 0.5 / 64 - down / 2,
    )
    for start, extent in ((left, across), (top, down)):
        assert start.min() > -1e-3 and (start + extent).max() < 1.001  # never beyond the image
        assert abs((start / (1 - extent)).mean() - 0.5) < 0.05  # anywhere in it
    assert crops.std(0)[:2].min() > 0.05  # every image its own


def test_crop_takes_the_size_asked_for(images):
    assert random_resized_crop(images).shape == (16, 3, 12, 10)
    assert random_resized_crop(images, size=5).shape == (16, 3, 5, 5)


def test_flip_mirrors_some_and_twice_is_the_identity(images):
    once = random_flip(images)
    flipped = [torch.equal(one, image.flip(-1)) for one, image in zip(once, images, strict=True)]
    kept = [torch.equal(one, image) for one, image in zip(once, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 3 < sum(flipped) < 13
    torch.manual_seed(0)
    assert torch.equal(random_flip(once), images)


def test_jitter_of_nothing_is_the_identity(images):
    none = color_jitter(images, brightness=0, contrast=0, saturation=0, hue=0, probability=1)
    torch.testing.assert_close(none, images, atol=1e-5, rtol=0)
    assert torch.equal(color_jitter(images, probability=0), images)


def test_jitter_does_what_each_word_says():
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    images = torch.rand(64, 3, 6, 6) * 0.2 + 0.4  # far from the bounds, so that nothing is clipped
    luma, gray = (images * weights).sum(1), images.mean(1, keepdim=True).expand(-1, 3, -1, -1)

    def jitter(batch, **change):
        nothing = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "probability": 1}
        return color_jitter(batch, **(nothing | change))

    factor = jitter(images, brightness=0.4) / images
    assert (
        factor.flatten(1).std(1).max() < 1e-4
        and 0.6 <= factor.min() < 0.65
        and 1.35 < factor.max() <= 1.4001
    )
    less = jitter(images, contrast=0.4)
    middle = luma.mean((1, 2)).view(-1, 1, 1, 1)
    factor = (less - middle).flatten(1).norm(dim=1) / (images - middle).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        less - middle, (images - middle) * factor.view(-1, 1, 1, 1), atol=1e-5, rtol=0
    )
    assert 0.6 <= factor.min() + 1e-4 and factor.max() <= 1.4001 and factor.std() > 0.1
    for change in ({"saturation": 0.4}, {"hue": 0.3}):
        after = jitter(images, **change)
        torch.testing.assert_close(
            (after * weights).sum(1), luma, atol=1e-4, rtol=0
        )  # as bright as before
        torch.testing.assert_close(
            jitter(gray, **change), gray, atol=1e-4, rtol=0
        )  # no colour, nothing to change
        assert (after - images).abs().amax((1, 2, 3)).median() > 0.01
    faded = jitter(images, saturation=0.4) - luma.unsqueeze(1)
    factor = faded.flatten(1).norm(dim=1) / (images - luma.unsqueeze(1)).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        faded, (images - luma.unsqueeze(1)) * factor.view(-1, 1, 1, 1), atol=1e-4, rtol=0
    )
    assert factor.min() > 0.5999 and factor.max() < 1.4001


def test_half_a_turn_of_hue_is_the_complement(monkeypatch):
    monkeypatch.setattr(
        "jepa_utils.data.images._uniform",
        lambda images, low, high, *_: images.new_full((len(images),), high),
    )
    red = torch.tensor([0.7, 0.4, 0.4]).view(1, 3, 1, 1)
    luma = 0.3 * 0.299 + 0.4
    turned = color_jitter(red, brightness=0, contrast=0, saturation=0, hue=0.5, probability=1)
    torch.testing.assert_close(turned, 2 * luma - red, atol=1e-4, rtol=0)


def test_grayscale(images):
    gray = random_grayscale(images, 1)
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
    torch.testing.assert_close(
        gray[0, 0], 0.299 * images[0, 0] + 0.587 * images[0, 1] + 0.114 * images[0, 2]
    )
    assert torch.equal(random_grayscale(images, 0), images)
    changed = (
        (random_grayscale(images.repeat(40, 1, 1, 1), 0.25) != images[:1])
        .flatten(1)
        .any(1)
        .float()
        .mean()
    )
    assert abs(changed - 0.25) < 0.06


@pytest.mark.parametrize(
    "change", [*AUGMENTATIONS, augmented_view], ids=lambda change: change.__name__
)
def test_views_repeat_with_the_seed_differ_by_image_and_stay_images(images, change):
    before = images.clone()
    first = change(images)
    assert (
        first.shape == images.shape and first.dtype == images.dtype and torch.equal(images, before)
    )
    assert len({tuple(image.flatten().tolist()) for image in first}) > 1
    assert not torch.equal(change(images), first)
    torch.manual_seed(0)
    assert torch.equal(change(images), first)
    extremes = torch.cat(
        [images, torch.zeros_like(images), torch.ones_like(images), images.round()]
    )
    for seed in range(5):
        torch.manual_seed(seed)
        view = change(extremes)
        assert change is augmented_view or (view.min() >= 0 and view.max() <= 1)
        assert view.isfinite().all()
    assert change(images.double()).dtype == torch.float64
    assert (
        change(images.to("meta")).device.type == "meta"
    )  # what is drawn lies where the images lie
    if change is augmented_view:
        pixels = (images * 255).round().to(torch.uint8)
        torch.manual_seed(0)
        torch.testing.assert_close(change(pixels), first, atol=0.05, rtol=0)
        assert torch.equal(
            normalize(denormalize(first)).isclose(first, atol=1e-5), torch.ones_like(first).bool()
        )


def test_views_are_fast():
    images = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8)
    best = min(_seconds(lambda: augmented_view(images)) for _ in range(5))
    assert best < 0.2  # 22 ms on one core


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# ---- arguments
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [*AUGMENTATIONS, denormalize], ids=lambda change: change.__name__
)
def test_images_must_be_floating_point(change):
    shapes = [(3, 4, 4), (2, 1, 4, 4), (2, 4, 4, 3)]
    for images in [torch.zeros(2, 3, 4, 4, dtype=torch.uint8), *map(torch.zeros, shapes)]:
        with pytest.raises(
            ValueError,
            match=r"images must be floating point of shape \(B, 3, H, W\), got \(.*\) of torch",
        ):
            change(images)


@pytest.mark.parametrize("change", [normalize, augmented_view], ids=lambda change: change.__name__)
def test_images_must_be_bytes_or_floating_point(change):
    for images in (
        torch.zeros(2, 3, 4, 4, dtype=torch.int64),
        torch.zeros(3, 4, 4),
        torch.zeros(2, 4, 4, 3),
    ):
        with pytest.raises(
            ValueError,
            match=r"images must be uint8 or floating point of shape \(B, 3, H, W\), got \(",
        ):
            change(images)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (random_resized_crop, {"scale": (0, 1)}, r"scale must be .* got \(0, 1\)"),
        (random_resized_crop, {"scale": (0.5, 0.4)}, r"scale must be .* got \(0.5, 0.4\)"),
        (random_resized_crop, {"scale": (0.5, 1.1)}, r"scale must be .* got \(0.5, 1.1\)"),
        (random_resized_crop, {"ratio": (0, 1)}, r"ratio must be .* got \(0, 1\)"),
        (random_resized_crop, {"ratio": (2, 1)}, r"ratio must be .* got \(2, 1\)"),
        (random_resized_crop, {"size": 0}, "size must be None or at least 1, got 0"),
        (color_jitter, {"brightness": -0.1}, "at least 0.* got brightness=-0.1"),
        (color_jitter, {"contrast": -1}, "at least 0.*contrast=-1"),
        (color_jitter, {"saturation": -1}, "at least 0.*saturation=-1"),
        (color_jitter, {"hue": 0.6}, "hue from 0 to 0.5; got .*hue=0.6"),
        (color_jitter, {"probability": 1.5}, "probability must lie between 0 and 1, got 1.5"),
        (random_grayscale, {"probability": -1}, "probability must lie between 0 and 1, got -1"),
        (normalize, {"mean": (0.5,)}, r"three numbers each.* got mean=\(0.5,\)"),
        (normalize, {"std": (1, 1, 0)}, r"those of std positive; got .*std=\(1, 1, 0\)"),
        (denormalize, {"std": (1, 1)}, r"three numbers each.*std=\(1, 1\)"),
    ],
)
def test_arguments_out_of_range(change, arguments, message):
    with pytest.raises(ValueError, match=message):
        change(torch.zeros(2, 3, 4, 4), **arguments)


# ---- images with captions
# -----------------------------------------------------------------------------------------------


def captioned(files: list[bytes | None], **captions: list) -> Dataset:
    """Pictures with captions "a 0" of row 0 and so on in two columns, unless told otherwise."""
    rows = range(len(files))
    columns = {"image": [{"bytes": file, "path": None} for file in files]}
    columns |= {"a": [f"a {row}" for row in rows], "b": [f"b {row}" for row in rows]} | captions
    struct = {"bytes": Value("binary"), "path": Value("string")}
    return Dataset.from_dict(
        columns, Features({"image": struct, "a": Value("string"), "b": Value("string")})
    )


def test_pictures_and_captions_stay_together():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    whole = captioned([encoded(image) for image in pixels])
    images, captions = caption_table(whole.select([2, 0, 3]), captions=["b", "a"])
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 6, 5)
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), pixels[[2, 0, 3]])
    assert captions == [["b 2", "a 2"], ["b 0", "a 0"], ["b 3", "a 3"]]
    assert caption_table(whole, captions=["a"])[1] == [["a 0"], ["a 1"], ["a 2"], ["a 3"]]


def test_pictures_of_many_sizes_become_one():
    wide, high = np.zeros((20, 40, 3), np.uint8), np.zeros((50, 10, 3), np.uint8)
    wide[:, 10:30], high[20:30] = (200, 40, 90), (10, 20, 30)  # the square in the middle
    images, captions = caption_table(
        captioned([encoded(wide), encoded(high)]), captions=["a", "b"], size=8
    )
    assert images.shape == (2, 3, 8, 8) and captions == [["a 0", "b 0"], ["a 1", "b 1"]]
    inside = torch.tensor([(200, 40, 90), (10, 20, 30)])[:, :, None, None].expand(-1, -1, 8, 8)
    torch.testing.assert_close(
        images[:, :, 2:6, 2:6].long(), inside[:, :, 2:6, 2:6], atol=0, rtol=0
    )
    torch.testing.assert_close(
        images.long(), inside, atol=25, rtol=0
    )  # at the border pixels beyond it count a little
    square = Dataset.from_dict(sample_photos(numbers=(1, 40, 1))[0]["validation"])
    assert torch.equal(
        caption_table(square, size=32)[0], caption_table(square)[0]
    )  # of that size already: untouched


@pytest.mark.parametrize("missing", [None, "", " \n"])
def test_a_caption_that_is_missing_is_named(missing):
    good = encoded(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"row 2 of column 'b' must hold a caption, got (None|''|' \\n')"
    ):
        caption_table(captioned([good] * 4, b=["b", "b", missing, "b"]), captions=["a", "b"])


def test_a_picture_that_is_damaged_is_named():
    good = encoded(np.zeros((2, 2, 3), np.uint8))
    for damaged, reason in ((b"no image", "no image of a known format"), (None, "no file in it")):
        with pytest.raises(
            ValueError, match=rf"row 1 of column 'image' cannot be decoded: .*{reason}"
        ):
            caption_table(captioned([good, damaged]), captions=["a"])
    with pytest.raises(
        ValueError, match=r"row 1 of column 'image' must have .* \(2, 2\) as row 0, got \(3, 2\)"
    ):
        caption_table(captioned([good, encoded(np.zeros((3, 2, 3), np.uint8))]), captions=["a"])


def test_captioned_tables_that_do_not_fit():
    good = captioned([encoded(np.zeros((2, 2, 3), np.uint8))])
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
    columns = [f"caption_{number}" for number in range(5)]
    data = load_data("flickr8k", source="mirror", splits=["test"]).data
    images, captions = caption_table(data["test"], size=24)
    assert (
        images.shape == (1000, 3, 24, 24)
        and len({image.numpy().tobytes() for image in images}) == 1000
    )
    assert {len(row) for row in captions} == {5}
    assert data["test"].select_columns(columns)[999] == dict(
        zip(columns, captions[999], strict=True)
    )
