"""Captions: pictures with their sentences, sentences for the names of classes, and sentences as token ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from jepa_utils.data.images import arrow_column, decode_images
from jepa_utils.data.words import Vocabulary, tokenize

if TYPE_CHECKING:  # slow to import
    import datasets

__all__ = ["CLASS_TEMPLATES", "CaptionTokenizer", "caption_table", "class_captions"]

#: Sentences about a thing, for `class_captions`. Several, because one alone may use words that few captions use.
CLASS_TEMPLATES = (
    "a photo of a {}",
    "a picture of a {} outside",
    "there is a {} in the picture",
    "a {} seen from close by",
    "a {} in the distance",
    "one {} in front of a plain background",
    "the {} is in the middle of the photo",
    "a small photo of a {}",
)


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
        Height and width of the result S, as in `decode_images`: the photographs of the hub's Flickr8k are of many sizes.
        None leaves the images as they are; then all must have the same size.

    Returns
    -------
    images : Tensor of uint8, shape (N, 3, H, W) or (N, 3, S, S)
        Red, green, blue.
    captions : list of N lists of str
        Of each image those in the columns asked for, in that order.

    Raises
    ------
    ValueError
        As `decode_images`; also if a column of captions is missing or holds no text, or a caption is missing or blank; the
        message names its row and column.
    """
    import pyarrow

    if isinstance(captions, str) or not captions:
        raise ValueError(f"captions must be the names of one column or more, got {captions!r}")
    columns = []
    for name in captions:
        column = arrow_column(table, "captions", name)
        if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
            raise ValueError(f"captions must be columns of text, got {name!r} of type {column.type}")
        columns.append(column.to_pylist())
        for row, caption in enumerate(columns[-1]):
            if caption is None or not caption.strip():
                raise ValueError(f"row {row} of column {name!r} must hold a caption, got {caption!r}")
    return decode_images(table, image, size=size), [list(row) for row in zip(*columns, strict=True)]


def class_captions(names: Sequence[str], templates: Sequence[str] = CLASS_TEMPLATES) -> list[list[str]]:
    """Captions for the names of classes, to classify images by the nearest caption (zero-shot, Radford et al., 2021).

    Parameters
    ----------
    names : sequence of str, length C
        Such as "airplane".
    templates : sequence of str, length T
        Sentences in which ``{}`` stands for the name. Before a name that begins with a vowel letter, "a {}" becomes
        "an ...".

    Returns
    -------
    list of C lists of T str

    Raises
    ------
    ValueError
        If `names` or `templates` is a single string or empty, a name is blank, or a template has not exactly one ``{}``.
    """
    for argument, values in (("names", names), ("templates", templates)):
        if isinstance(values, str) or not len(values):
            raise ValueError(f"{argument} must be a sequence of at least one string, got {values!r}")
    for name in names:
        if not name.strip():
            raise ValueError(f"names must not be blank, got {name!r}")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"templates must have {{}} once each, got {template!r}")
    return [[_filled(template, name) for template in templates] for name in names]


def _filled(template: str, name: str) -> str:
    if name[0].lower() in "aeiou":
        template = re.sub(r"\b([Aa]) \{\}", r"\1n {}", template)
    return template.replace("{}", name)


@dataclass(frozen=True)
class CaptionTokenizer:
    """Captions as the token ids of their words, for `TextEncoder`.

    A caption is cut into tokens by `tokenize`: lower-case words and single punctuation marks. Called with B captions, the
    tokenizer returns

    - ids, a Tensor of int64, shape (B, L): L is the number of tokens of the longest caption, at most `max_length`; what
      goes beyond is cut off. A word that is not in the vocabulary has id 0, and so has the padding.
    - visible, a Tensor of bool, shape (B, L): true for tokens, unknown words included, and false for padding.

    It raises a ValueError that names the caption if one is no string or has no token, or if there are none.

    Parameters
    ----------
    vocabulary : Vocabulary
        As `from_captions` builds it.
    max_length : int
        Most tokens of a caption.

    Raises
    ------
    ValueError
        If `max_length` is below 1.
    """

    vocabulary: Vocabulary
    max_length: int = 32

    def __post_init__(self):
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {self.max_length}")

    @classmethod
    def from_captions(cls, captions: Sequence[str], *, min_count: int = 1, max_length: int = 32) -> CaptionTokenizer:
        """Build a tokenizer of the words that occur at least ``min_count`` times in the captions, which are for training.

        Raises
        ------
        ValueError
            If `min_count` or `max_length` is below 1, there are no captions, or one is no string or has no token.
        """
        tokens = (token for caption in _tokens(captions) for token in caption)
        return cls(Vocabulary.build(tokens, min_count), max_length)

    @property
    def words(self) -> tuple[str, ...]:
        """The word of each id; ``<unk>``, which stands for all others, first, then by falling count."""
        return self.vocabulary.words

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and their visibility, as described above."""
        ids = [torch.tensor(self.vocabulary.encode(tokens[: self.max_length])) for tokens in _tokens(captions)]
        lengths = torch.tensor([len(row) for row in ids])
        padded = pad_sequence(ids, batch_first=True)  # (B, L)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def _tokens(captions: Sequence[str]) -> list[list[str]]:
    if isinstance(captions, str) or not len(captions):
        raise ValueError(f"captions must be a sequence of at least one string, got {captions!r}")
    tokens = []
    for row, caption in enumerate(captions):
        tokens.append(tokenize(caption) if isinstance(caption, str) else [])
        if not tokens[-1]:
            raise ValueError(f"captions must be strings with at least one word, got {caption!r} as captions[{row}]")
    return tokens
