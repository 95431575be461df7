"""Images as tensors, and batched random views of them.

Everything but `image_tensor` and `decode_images` works on whole batches, on the device where they
lie, and every image of a batch gets a draw of its own. Draws come from torch's global generator of
that device, so `torch.manual_seed` repeats them.

Where several processes share a batch, each draws for all of it and applies what falls to its own
rows: `part` holds the number of its first row in the whole batch, and the whole batch's rows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.arguments import whole

if TYPE_CHECKING:  # slow to import
    import datasets
    import pyarrow

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "augmented_view",
    "caption_table",
    "color_jitter",
    "decode_images",
    "denormalize",
    "image_tensor",
    "normalize",
    "random_flip",
    "random_grayscale",
    "random_resized_crop",
]

Part = tuple[int, int]

# Of each colour over all pixels of CIFAR-10's training images, as the field states them.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

# Rows: luma, and the two axes of chroma, after the television standard NTSC. A grey pixel has no
# chroma.
_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]],
    dtype=torch.float64,
)
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


def image_tensor(
    table: datasets.Dataset, *, image: str = "img", label: str = "label"
) -> tuple[Tensor, Tensor]:
    """Decode a table of image files into memory, once, as `decode_images` does.

    Parameters
    ----------
    table : datasets.Dataset
        One split, of images that all have the same size; any format that Pillow reads.
    image, label : str
        Names of its columns.

    Returns
    -------
    images : Tensor of uint8, shape (N, 3, H, W)
        Red, green, blue.
    labels : Tensor of int64, shape (N,)

    Raises
    ------
    ValueError
        If a column is missing or of the wrong type, the table is empty, or an image cannot be
        decoded or differs in size from the first; the message names its row.
    """
    import pyarrow

    labels = arrow_column(table, "label", label)
    if not pyarrow.types.is_integer(labels.type) or labels.null_count:
        raise ValueError(
            f"label must be a column of whole numbers, got {label!r} of type {labels.type} with "
            f"{labels.null_count} missing"
        )
    return decode_images(table, image), torch.from_numpy(labels.to_numpy().astype(np.int64))


def decode_images(table: datasets.Dataset, image: str, *, size: int | None = None) -> Tensor:
    """Decode one column of image files into memory, once.

    Images stand upright, as their EXIF orientation says. Grey of 16 bits is scaled to 8, and
    transparency is left out.

    Parameters
    ----------
    table : datasets.Dataset
        One split; any image format that Pillow reads.
    image : str
        Name of the column.
    size : int, optional
        Height and width of the result S: the largest square in the middle of each image is resized,
        bicubically. None leaves the images as they are; then all must have the same size.

    Returns
    -------
    Tensor of uint8, shape (N, 3, H, W) or (N, 3, S, S)
        Red, green, blue.

    Raises
    ------
    ValueError
        If the column is missing or of the wrong type, the table is empty, `size` is below 1, or an
        image cannot be decoded or differs in size from the first; the message names its row and
        column.
    """
    import pyarrow
    import pyarrow.compute

    files = arrow_column(table, "image", image)
    size = None if size is None else whole("size", size)
    if size is not None and size < 1:
        raise ValueError(f"size must be None or at least 1, got {size}")
    if pyarrow.types.is_struct(files.type) and files.type.get_field_index("bytes") >= 0:
        files = pyarrow.compute.struct_field(files, "bytes")
    if not (pyarrow.types.is_binary(files.type) or pyarrow.types.is_large_binary(files.type)):
        raise ValueError(
            f"image must be a column of image files, got {image!r} of type {files.type}"
        )
    pixels = None
    # not in threads: for small images they cost more than they save
    for row, file in enumerate(files):
        decoded = _decoded(file.as_py(), row, image)
        if size is not None:
            decoded = ImageOps.fit(decoded, (size, size))
        width, height = decoded.size
        if pixels is None:
            pixels = np.empty((len(files), height, width, 3), np.uint8)
        if pixels.shape[1:3] != (height, width):
            raise ValueError(
                f"row {row} of column {image!r} must have height and width {pixels.shape[1:3]} as "
                f"row 0, "
                f"got {(height, width)}"
            )
        pixels[row] = np.frombuffer(decoded.tobytes(), np.uint8).reshape(height, width, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def arrow_column(table: datasets.Dataset, argument: str, name: str) -> pyarrow.ChunkedArray:
    """A column as it is stored, image files not decoded; `argument` is what the caller calls it."""
    names = getattr(table, "column_names", None)
    if not isinstance(names, list):  # of a DatasetDict it is a dictionary
        raise ValueError(f"table must be a datasets.Dataset, one split; got {type(table).__name__}")
    if name not in names:
        raise ValueError(
            f"{argument} must be one of the table's columns {', '.join(names)}; got {name!r}"
        )
    if not len(table):
        raise ValueError("table must have at least one row, got none")
    return table.select_columns([name]).with_format("arrow")[:][name]


def _decoded(content: bytes | None, row: int, column: str) -> Image.Image:
    try:
        if content is None:
            raise ValueError("there is no file in it")
        with Image.open(io.BytesIO(content)) as file:
            return _eight_bits(file, _upright(file)).convert("RGB")
    except Exception as problem:  # Pillow's decoders raise errors of many kinds
        # whose message is an address in memory
        unknown = isinstance(problem, UnidentifiedImageError)
        reason = "no image of a known format, or its head is damaged" if unknown else problem
        raise ValueError(f"row {row} of column {column!r} cannot be decoded: {reason}") from problem


def _upright(file: Image.Image) -> Image.Image:
    file.load()  # what tells the orientation may stand after the pixels
    try:
        file.getexif()
    except SyntaxError:  # so Pillow calls damaged EXIF data; the pixels may be good
        return file
    return ImageOps.exif_transpose(file)


def _eight_bits(file: Image.Image, image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, which Pillow would clip at 255, scaled to 8; others as they are."""
    if image.mode == "F":
        raise ValueError("its mode F (floating point) has no fixed range")
    if not image.mode.startswith("I"):
        return image
    values, tags = np.asarray(image).astype(np.int64), getattr(file, "tag_v2", {})
    # Also in mode I it is 16 bits that files have (PNG, PGM). A TIFF file may have 12.
    most = 4095 if tags.get(BITSPERSAMPLE) == (12,) else 65535
    low, high = values.min(), values.max()
    if low < 0 or high > most:
        raise ValueError(
            f"its mode {image.mode} has no fixed range; values must be from 0 to {most}, "
            f"got {low} to {high}"
        )
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is 0
        values = most - values
    return Image.fromarray(((values * 255 + most // 2) // most).astype(np.uint8))


def caption_table(
    table: datasets.Dataset,
    *,
    image: str = "image",
    captions: Sequence[str] = ("caption_0", "caption_1", "caption_2", "caption_3", "caption_4"),
    size: int | None = None,
) -> tuple[Tensor, list[list[str]]]:
    """Decode a table of captioned images into memory, once.

    Parameters
    ----------
    table : datasets.Dataset
        One split, laid out as Flickr8k.
    image : str
        Name of the column of image files.
    captions : sequence of str
        Names of the columns of captions.
    size : int, optional
        Height and width of the result S, as in `decode_images`: the photographs of the hub's
        Flickr8k are of many sizes. None leaves the images as they are; then all must have the same
        size.

    Returns
    -------
    images : Tensor of uint8, shape (N, 3, H, W) or (N, 3, S, S)
        Red, green, blue.
    captions : list of N lists of str
        Of each image those in the columns asked for, in that order.

    Raises
    ------
    ValueError
        As `decode_images`; also if a column of captions is missing or holds no text, or a caption
        is missing or blank; the message names its row and column.
    """
    import pyarrow

    if isinstance(captions, (str, bytes)) or not captions:
        raise ValueError(f"captions must be the names of one column or more, got {captions!r}")
    columns = []
    for name in captions:
        column = arrow_column(table, "captions", name)
        if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
            raise ValueError(
                f"captions must be columns of text, got {name!r} of type {column.type}"
            )
        columns.append(column.to_pylist())
        for row, caption in enumerate(columns[-1]):
            if caption is None or not caption.strip():
                raise ValueError(
                    f"row {row} of column {name!r} must hold a caption, got {caption!r}"
                )
    return decode_images(table, image, size=size), [list(row) for row in zip(*columns, strict=True)]


def normalize(
    images: Tensor, mean: Sequence[float] = CIFAR10_MEAN, std: Sequence[float] = CIFAR10_STD
) -> Tensor:
    """Standardise the colours of images.

    Parameters
    ----------
    images : Tensor, shape (B, 3, H, W)
        uint8, or floating point from 0 to 1.
    mean, std : sequence of three float
        Of red, green and blue, on the scale from 0 to 1.

    Returns
    -------
    Tensor of floating point, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        If `images` has another shape or type, or `mean` or `std` is not three numbers, `std`
        positive ones.
    """
    images = _as_float(images)
    mean, std = _colours(images, mean, std)
    return (images - mean) / std


def denormalize(
    images: Tensor, mean: Sequence[float] = CIFAR10_MEAN, std: Sequence[float] = CIFAR10_STD
) -> Tensor:
    """Undo `normalize`, for pictures: floating point from 0 to 1, what lies outside is clipped.

    Parameters
    ----------
    images : Tensor of floating point, shape (B, 3, H, W)
    mean, std : sequence of three float
        As given to `normalize`.

    Returns
    -------
    Tensor of floating point, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        As `normalize`.
    """
    _check_float(images)
    mean, std = _colours(images, mean, std)
    return (images * std + mean).clamp(0, 1)


def random_flip(images: Tensor, *, part: Part | None = None) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Parameters
    ----------
    images : Tensor of floating point, shape (B, 3, H, W)

    Returns
    -------
    Tensor, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        If `images` has another shape or type.
    """
    _check_float(images)
    return torch.where(_chosen(images, 0.5, part), images.flip(-1), images)


def random_resized_crop(
    images: Tensor,
    *,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: int | None = None,
    part: Part | None = None,
) -> Tensor:
    """Cut a random rectangle out of each image and resize it (Szegedy et al., 2015).

    Bilinearly, and without smoothing.

    The rectangle need not lie on whole pixels. Where a drawn side is longer than the image's, it is
    cut to the image's; the reference implementations draw again.

    Parameters
    ----------
    images : Tensor of floating point from 0 to 1, shape (B, 3, H, W)
    scale : tuple of float
        Lower and upper bound of the rectangle's area, as a part of the image's; drawn uniformly.
    ratio : tuple of float
        Bounds of width over height; its logarithm is drawn uniformly.
    size : int, optional
        Height and width of the result S. None keeps those of the images.

    Returns
    -------
    Tensor, shape (B, 3, H, W) or (B, 3, S, S)

    Raises
    ------
    ValueError
        If `images` has another shape or type, or another argument is out of range.
    """
    _check_float(images)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(
            f"scale must be a lower and an upper bound above 0 and up to 1, got {scale}"
        )
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio must be a lower and an upper bound above 0, got {ratio}")
    size = None if size is None else whole("size", size)
    if size is not None and size < 1:
        raise ValueError(f"size must be None or at least 1, got {size}")
    batch, _, height, width = images.shape
    area = _uniform(images, *scale, part) * (height * width)
    ratios = _uniform(images, math.log(ratio[0]), math.log(ratio[1]), part).exp()
    # the rectangle's sides, as parts of the image's
    across = ((area * ratios).sqrt() / width).clamp(max=1)
    down = ((area / ratios).sqrt() / height).clamp(max=1)
    first, total = part or (0, batch)
    corner = torch.rand(2, total, device=images.device).to(images.dtype)[:, first : first + batch]
    where = images.new_zeros(batch, 2, 3)  # of each output place, -1 to 1, in the image
    where[:, 0, 0], where[:, 1, 1] = across, down
    where[:, 0, 2] = (2 * corner[0] - 1) * (1 - across)
    where[:, 1, 2] = (2 * corner[1] - 1) * (1 - down)
    shape = (height, width) if size is None else (size, size)
    grid = F.affine_grid(where, (batch, 3, *shape), align_corners=False)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.clamp(0, 1)  # rounding can leave the range


def color_jitter(
    images: Tensor,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
    probability: float = 0.8,
    part: Part | None = None,
) -> Tensor:
    """Change the colours of each image at random (Chen et al., 2020, appendix A).

    By default as much as Grill et al. (2020).
    In this order, always: brightness, contrast, saturation, hue. The hue turns in the plane of the
    two chroma axes of YIQ, which keeps the luma, and not in HSV as in the reference
    implementations. So all four are one affine map of an image's colours, and values are clipped
    once, at the end.

    Parameters
    ----------
    images : Tensor of floating point from 0 to 1, shape (B, 3, H, W)
    brightness, contrast, saturation : float
        The factor is drawn uniformly from 1 minus this (0 at least) to 1 plus this.
    hue : float
        The hue turns by up to this part of the circle, either way; at most 0.5.
    probability : float
        Of an image to be changed at all.

    Returns
    -------
    Tensor of floating point from 0 to 1, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        If `images` has another shape or type, or another argument is out of range.
    """
    _check_float(images)
    if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
        raise ValueError(
            f"brightness, contrast and saturation must be at least 0, and hue from 0 to 0.5; got "
            f"brightness={brightness}, "
            f"contrast={contrast}, saturation={saturation}, hue={hue}"
        )
    chosen = _chosen(images, probability, part)
    bright, sharp, full = (
        _uniform(images, max(0, 1 - change), 1 + change, part)
        for change in (brightness, contrast, saturation)
    )
    angle = _uniform(images, -hue, hue, part) * (2 * math.pi)
    turn = images.new_zeros(len(images), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = full * angle.cos()
    turn[:, 2, 1] = full * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    mix = _FROM_YIQ.to(images) @ turn @ _TO_YIQ.to(images) * (bright * sharp)[:, None, None]
    # Contrast draws towards the mean grey, which neither saturation nor hue changes: it stays a
    # constant for each image.
    constant = _gray(images).mean((1, 2, 3)) * bright * (1 - sharp)
    changed = torch.baddbmm(constant[:, None, None], mix, images.flatten(2)).view(images.shape)
    return torch.where(chosen, changed.clamp(0, 1), images)


def random_grayscale(
    images: Tensor, probability: float = 0.2, *, part: Part | None = None
) -> Tensor:
    """Take the colour from some of the images, leaving their luma in all three channels.

    Parameters
    ----------
    images : Tensor of floating point from 0 to 1, shape (B, 3, H, W)
    probability : float
        Of an image to be changed.

    Returns
    -------
    Tensor of floating point from 0 to 1, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        If `images` has another shape or type, or `probability` is out of range.
    """
    _check_float(images)
    return torch.where(_chosen(images, probability, part), _gray(images), images)


def augmented_view(images: Tensor, *, part: Part | None = None) -> Tensor:
    """A random view of each image, standardised.

    A crop of 0.2 to 1 of its area, flip, colour jitter, grayscale.
    The steps of Chen et al. (2020) without blur, as they left it out for CIFAR-10; the strengths
    are the defaults here.

    Parameters
    ----------
    images : Tensor, shape (B, 3, H, W)
        uint8, or floating point from 0 to 1.

    Returns
    -------
    Tensor of floating point, shape (B, 3, H, W)
        Standardised with CIFAR-10's mean and deviation, as `normalize` does.

    Raises
    ------
    ValueError
        If `images` has another shape or type.
    """
    crops = random_resized_crop(_as_float(images), scale=(0.2, 1.0), part=part)
    views = color_jitter(random_flip(crops, part=part), part=part)
    return normalize(random_grayscale(views, part=part))


def _is_batch(images: Tensor) -> bool:
    return images.dim() == 4 and images.shape[1] == 3


def _check_float(images: Tensor) -> None:
    if not _is_batch(images) or not images.is_floating_point():
        raise ValueError(
            f"images must be floating point of shape (B, 3, H, W), got {tuple(images.shape)} of "
            f"{images.dtype}"
        )


def _as_float(images: Tensor) -> Tensor:
    if not _is_batch(images) or not (images.is_floating_point() or images.dtype == torch.uint8):
        raise ValueError(
            f"images must be uint8 or floating point of shape (B, 3, H, W), got "
            f"{tuple(images.shape)} of {images.dtype}"
        )
    return images if images.is_floating_point() else images / 255


def _colours(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(
            f"mean and std must be three numbers each, those of std positive; got mean={mean}, "
            f"std={std}"
        )
    mean, std = (
        torch.tensor(values, dtype=images.dtype, device=images.device).view(3, 1, 1)
        for values in (mean, std)
    )
    return mean, std


def _uniform(images: Tensor, low: float, high: float, part: Part | None) -> Tensor:
    """One number for each image."""
    first, total = part or (0, len(images))
    return images.new_empty(total).uniform_(low, high)[first : first + len(images)]


def _chosen(images: Tensor, probability: float, part: Part | None) -> Tensor:
    """Whether each image is changed, shape (B, 1, 1, 1)."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}")
    first, total = part or (0, len(images))
    draws = torch.rand(total, 1, 1, 1, device=images.device)
    return draws[first : first + len(images)] < probability


def _gray(images: Tensor) -> Tensor:
    """Luma, shape (B, 1, H, W)."""
    return (images * _TO_YIQ[0].to(images).view(3, 1, 1)).sum(1, keepdim=True)
