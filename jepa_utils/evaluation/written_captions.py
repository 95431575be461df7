"""Captions of scenes that a network has written: how much of them is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jepa_utils.data._texts import check_many
from jepa_utils.data.scenes import ATTRIBUTES, COLOURS, RELATIONS, SHAPES, SIZES

__all__ = ["attributes_right", "read_captions", "written_captions"]

_VALUES = (SIZES, COLOURS, SHAPES, RELATIONS, SIZES, COLOURS, SHAPES)
_MIRROR = [4, 5, 6, 3, 0, 1, 2]  # columns of ATTRIBUTES when the other object is named first


def written_captions(ids: Tensor, words: Sequence[str]) -> list[str]:
    """Captions from the token ids that a decoder wrote, each up to its first 0, which ends it.

    Parameters
    ----------
    ids : Tensor of int64, shape (N, L)
        As `TextDecoder.write` returns them.
    words : sequence of str
        The word of each id, as `CaptionTokenizer.words`.

    Returns
    -------
    list of N str

    Raises
    ------
    ValueError
        If `ids` has another shape or type, or there is no word for one of them.
    """
    if ids.dim() != 2 or ids.is_floating_point():
        raise ValueError(f"ids must be whole numbers (N, L), got {ids.dtype} {tuple(ids.shape)}")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(words):
        raise ValueError(
            f"ids must be from 0 to {len(words) - 1}, got {int(ids.min())} to {int(ids.max())}"
        )
    rows = ids.tolist()
    ends = [row.index(0) if 0 in row else len(row) for row in rows]
    return [" ".join(words[i] for i in row[:end]) for row, end in zip(rows, ends, strict=True)]


def read_captions(captions: Sequence[str]) -> Tensor:
    """Attributes that captions speak of, word by word.

    Parameters
    ----------
    captions : sequence of N str
        Right or wrong ones, as ``"a small red circle left of a large blue square"``.

    Returns
    -------
    Tensor of int64, shape (N, 7)
        As `Scenes.attributes`; -1 where there is no such word at its place, and everywhere if the
        caption is no sentence of two objects.

    Raises
    ------
    TypeError
        If `captions` is a single string.
    """
    check_many("captions", captions)
    return torch.tensor([_read(caption.split(" ")) for caption in captions]).view(-1, 7)


def _read(words: list[str]) -> list[int]:
    if len(words) < 9 or words[0] != "a" or words[-4] != "a":
        return [-1] * len(ATTRIBUTES)
    parts = [*words[1:4], " ".join(words[4:-4]), *words[-3:]]
    return [
        values.index(part) if part in values else -1
        for part, values in zip(parts, _VALUES, strict=True)
    ]


def attributes_right(said: Tensor, true: Tensor) -> Tensor:
    """Share of the seven attributes that a caption has right, whichever object it names first.

    Parameters
    ----------
    said : Tensor of int64, shape (..., 7)
        What captions say, from `read_captions`.
    true : Tensor of int64, shape (..., 7)
        What the scenes show, as `Scenes.attributes`. "A left of B" and "B right of A" are both
        right.

    Returns
    -------
    Tensor, shape (...)
        From 0 to 1; 1 if the whole caption is right.

    Raises
    ------
    ValueError
        If the last dimension of either is not 7.
    """
    for name, x in (("said", said), ("true", true)):
        if x.dim() < 1 or x.shape[-1] != len(ATTRIBUTES):
            raise ValueError(f"{name} must have shape (..., 7), got {tuple(x.shape)}")
    other = true[..., _MIRROR]
    other = torch.cat([other[..., :3], other[..., 3:4] ^ 1, other[..., 4:]], dim=-1)
    return torch.maximum((said == true).float().mean(-1), (said == other).float().mean(-1))
