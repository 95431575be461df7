"""What the playground "photo_search" works on: photographs, and an encoder of sentences.

The page finds photographs by typed words: it holds the words of a `TextEncoder` without layers, the
photographs' embeddings, and a sheet of thumbnails.
"""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from jepa_utils.arguments import check_count
from jepa_utils.data.words import tokenize
from jepa_utils.figures.style import COLOURS, figure_style
from jepa_utils.models.text import TextEncoder

if TYPE_CHECKING:
    from jepa_utils.data.tokens import CaptionTokenizer

__all__ = ["photo_search_data", "photo_search_still", "search_photographs"]

STEPS = 127  # whole numbers on either side of 0 in which a row is stored: a byte each
ACROSS = 40  # thumbnails in a row of the sheet
FINDS = 5  # photographs of a query in the still


def photo_search_data(
    photographs: Tensor,
    captions: Sequence[Sequence[str]],
    pictures: Tensor,
    *,
    tokenizer: CaptionTokenizer,
    encoder: TextEncoder,
    examples: Sequence[str | tuple[int, int]],
    side: int = 64,
    quality: int = 50,
) -> dict[str, object]:
    """Photographs and an encoder of sentences, for ``show_play("photo_search", ...)``.

    Parameters
    ----------
    photographs : Tensor of uint8, shape (N, 3, S, S)
        Red, green, blue.
    captions : sequence of N sequences of str
        What each photograph is known by. A query that is one of them has a right answer, which the
        page marks.
    pictures : Tensor, shape (N, D)
        Embeddings of the photographs, of any length: the search is by cosine.
    tokenizer : CaptionTokenizer
        Cuts sentences into words.
    encoder : TextEncoder
        Embeds them in D dimensions; without layers, with or without positions and weights. It is
        read as in evaluation, without dropout.
    examples : sequence of str or (int, int)
        Queries for buttons: words, or the numbers of a photograph and of one of its captions. The
        first one is searched at once.
    side : int, default 64
        Height and width of a thumbnail in pixels.
    quality : int, default 50
        Quality of the thumbnails as WebP, 1 to 100.

    Returns
    -------
    dict
        For V words and captions of at most L tokens: ``words`` and ``captions`` as UTF-8, tables of
        bytes ``tokens`` (V, D), ``positions`` (L, D) or None and ``pictures`` (N, D), the units of
        their rows ``tokenUnit`` (V,) and ``positionUnit`` (L,) or None, ``gain`` and ``bias`` (D,)
        and ``eps`` of the normalisation, ``weights`` (V,) or None, ``longest`` L, ``examples`` as
        texts, and ``sheet``, a picture of all thumbnails in rows of ``across``.

    Raises
    ------
    ValueError
        If shapes do not fit, an embedding is zero or not finite, a photograph has no caption, the
        encoder has layers or knows other words than the tokenizer, an example has no known word or
        does not exist, or a number is out of range. The argument is named.
    """
    side, quality = check_count("side", side), check_count("quality", quality, 100)
    _check_photographs(photographs, captions)
    _check_encoder(encoder, tokenizer)
    dimensions = encoder.tokens.embedding_dim
    if tuple(pictures.shape) != (len(photographs), dimensions):
        raise ValueError(
            f"pictures must have shape ({len(photographs)}, {dimensions}), a row a photograph and "
            f"a column a number of the encoder's, got {tuple(pictures.shape)}"
        )
    table = pictures.detach().double().cpu().numpy()
    if not np.isfinite(table).all() or not table.any(axis=1).all():
        raise ValueError("pictures must be finite and no row zero: a zero has no direction")
    longest, positions = tokenizer.max_length, (None, None)
    with torch.no_grad():
        tokens = _in_steps(encoder.tokens.weight)
        if encoder.positions is not None:
            positions = _in_steps(encoder.positions.weight[:longest])
        weights = None
        if encoder.weights is not None:
            weights = encoder.weights.weight.double().exp().squeeze(1).cpu().numpy()
        norm = {
            name: part.double().cpu().numpy()
            for name, part in (("gain", encoder.norm.weight), ("bias", encoder.norm.bias))
        }
    lines = ["\t".join(map(_tidy, row)) for row in captions]
    data = {
        "words": _bytes("\n".join(tokenizer.words)),
        "captions": _bytes("\n".join(lines)),
        "tokens": tokens[0],
        "tokenUnit": tokens[1],
        "positions": positions[0],
        "positionUnit": positions[1],
        **norm,
        "eps": encoder.norm.eps,
        "weights": weights,
        "pictures": _in_steps(torch.from_numpy(table))[0],  # a cosine does not see the unit
        "longest": longest,
        "examples": [_example(query, captions) for query in examples],
        "sheet": _sheet(photographs, side, quality),
        "side": side,
        "across": ACROSS,
    }
    if not data["examples"]:
        raise ValueError("examples must hold at least one query")
    words = _words(data)
    for query in data["examples"]:
        if not any(token in words for token in tokenize(query)[:longest]):
            raise ValueError(f"examples must have words that the tokenizer knows, got {query!r}")
    return data


def search_photographs(data: Mapping[str, Any], query: str | int) -> np.ndarray:
    """The cosine of a query and each photograph, as the page computes it.

    Parameters
    ----------
    data : mapping
        From `photo_search_data`.
    query : str or int
        Words, or the number of a photograph, by which others like it are found. A word outside the
        vocabulary is read as the encoder reads all of those; what goes beyond the longest caption
        is cut off.

    Returns
    -------
    array, shape (N,)

    Raises
    ------
    ValueError
        If no word is known, or there is no such photograph.
    """
    pictures = data["pictures"].astype(float)
    if isinstance(query, str):
        asked = _sentence(data, query)
    elif 0 <= query < len(pictures):
        asked = pictures[query]
    else:
        raise ValueError(f"query must number photographs 0 to {len(pictures) - 1}, got {query}")
    near = pictures @ asked / np.linalg.norm(pictures, axis=1)
    return near / (np.linalg.norm(asked) or 1.0)


def photo_search_still(data: Mapping[str, Any], queries: Sequence[str] | None = None) -> Figure:
    """A picture of the photographs found for some queries, where scripts are off.

    Parameters
    ----------
    data : mapping
        From `photo_search_data`.
    queries : sequence of str, optional
        Words; by default the first four examples.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each query: its first finds with their similarity, and in a last column, framed,
        the photograph that was meant, with its place, where the query is a caption.
    """
    queries = data["examples"][:4] if queries is None else queries
    meant_by = _meant(data)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["sheet"].partition(",")[2]))))
    height = 1.7 * len(queries)
    edge = 0.25 / height
    # placed by hand: a title that runs on over other panels would make its own one wide
    places = dict(left=0.01, right=0.99, bottom=edge, top=1 - edge, wspace=0.08, hspace=0.32)
    with figure_style():
        fig, axes = plt.subplots(
            len(queries),
            FINDS + 1,
            figsize=(8, height),
            squeeze=False,
            layout="none",
            gridspec_kw=places,
        )
    for row, query in zip(axes, queries, strict=True):
        near = search_photographs(data, query)
        order = np.argsort(-near, kind="stable")
        meant = meant_by.get(tuple(tokenize(query)), [])
        said = textwrap.shorten(f"“{query}”", 90, placeholder=" …”").replace("$", r"\$")
        row[0].set_title(said, loc="left", fontsize=8)
        for ax, photo in zip(row, order[:FINDS], strict=False):
            _draw(ax, data, sheet, photo, f"{near[photo]:.2f}", photo in meant)
        place = min((int(np.flatnonzero(order == photo)[0]) for photo in meant), default=None)
        if place is None:
            row[-1].set_visible(False)
        else:
            _draw(row[-1], data, sheet, order[place], f"place {place + 1}", True)
        for ax in row[len(order) : FINDS]:
            ax.set_visible(False)
    return fig


def _draw(ax, data: Mapping[str, Any], sheet: np.ndarray, photo: int, words: str, meant: bool):
    side = data["side"]
    top, left = (side * part for part in divmod(int(photo), data["across"]))
    ax.imshow(sheet[top : top + side, left : left + side], interpolation="bicubic")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.set_xlabel(words, fontsize=7.5)
    ax.spines[:].set_visible(meant)
    ax.spines[:].set(color=COLOURS[1], linewidth=3)


def _check_photographs(photographs: Tensor, captions: Sequence[Sequence[str]]) -> None:
    shape = tuple(photographs.shape)
    if len(shape) != 4 or 0 in shape or shape[1] != 3 or photographs.dtype != torch.uint8:
        raise ValueError(
            f"photographs must be of uint8 and shape (N, 3, S, S), not empty, got "
            f"{photographs.dtype} {shape}"
        )
    if len(captions) != shape[0]:
        raise ValueError(
            f"captions must be {shape[0]} lists, one a photograph, got {len(captions)}"
        )
    for place, row in enumerate(captions):
        if (
            isinstance(row, str)
            or not row
            or not all(isinstance(c, str) and c.strip() for c in row)
        ):
            raise ValueError(
                f"captions must be lists of texts, none empty, got {row!r} as captions[{place}]"
            )


def _check_encoder(encoder: TextEncoder, tokenizer: CaptionTokenizer) -> None:
    if not isinstance(encoder, TextEncoder):
        raise ValueError(f"encoder must be a TextEncoder, got {type(encoder).__name__}")
    if len(encoder.layers):
        raise ValueError(f"encoder must have no layers, got {len(encoder.layers)}")
    if encoder.tokens.num_embeddings != len(tokenizer):
        raise ValueError(
            f"encoder must know the {len(tokenizer)} words of the tokenizer, got one of "
            f"{encoder.tokens.num_embeddings}"
        )
    if encoder.positions is not None and tokenizer.max_length > encoder.max_length:
        raise ValueError(
            f"tokenizer must have a max_length of at most the encoder's {encoder.max_length}, got "
            f"{tokenizer.max_length}"
        )


def _example(query: str | tuple[int, int], captions: Sequence[Sequence[str]]) -> str:
    if isinstance(query, str):
        return _tidy(query)
    photo, place = query
    if not 0 <= photo < len(captions) or not 0 <= place < len(captions[photo]):
        raise ValueError(
            f"examples must number a photograph of {len(captions)} and one of its captions, got "
            f"{query}"
        )
    return _tidy(captions[photo][place])


def _tidy(caption: str) -> str:
    """A caption as it is read, cut into the same words and signs."""
    return re.sub(r" (?=[.,;:!?)])", "", " ".join(caption.split()))


def _in_steps(table: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A table in whole numbers of a byte each, and the unit of each row."""
    values = table.double().cpu().numpy()
    unit = np.abs(values).max(axis=1) / STEPS
    unit[unit == 0] = 1.0
    return np.rint(values / unit[:, None]).astype(np.int8), unit


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _text(array: np.ndarray) -> str:
    return array.tobytes().decode()


def _sheet(photographs: Tensor, side: int, quality: int) -> str:
    """All photographs, small, in one picture, as a data address."""
    pixels = photographs.permute(0, 2, 3, 1).cpu().numpy()  # (N, S, S, 3)
    across = min(ACROSS, len(pixels))
    sheet = Image.new("RGB", (across * side, math.ceil(len(pixels) / ACROSS) * side))
    for number, photo in enumerate(pixels):
        small = Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS)
        down, right = divmod(number, ACROSS)
        sheet.paste(small, (right * side, down * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "webp", quality=quality, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# The search, as the script does it


def _words(data: Mapping[str, Any]) -> dict[str, int]:
    return {word: number for number, word in enumerate(_text(data["words"]).split("\n"))}


def _sentence(data: Mapping[str, Any], query: str) -> np.ndarray:
    """What the encoder makes of a sentence, (D,)."""
    words = _words(data)
    ids = [words.get(token, 0) for token in tokenize(query)[: data["longest"]]]
    if not any(ids):
        raise ValueError(f"query must have a word that the captions use, got {query!r}")
    x = data["tokens"][ids] * data["tokenUnit"][ids][:, None]  # (L, D)
    if data["positions"] is not None:
        x = x + (data["positions"] * data["positionUnit"][:, None])[: len(ids)]
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt(x.var(axis=1, keepdims=True) + data["eps"])
    x = x * data["gain"] + data["bias"]
    return np.average(x, axis=0, weights=None if data["weights"] is None else data["weights"][ids])


def _meant(data: Mapping[str, Any]) -> dict[tuple[str, ...], list[int]]:
    """The photographs that each caption belongs to."""
    found: dict[tuple[str, ...], list[int]] = {}
    for photo, line in enumerate(_text(data["captions"]).split("\n")):
        for caption in line.split("\t"):
            photos = found.setdefault(tuple(tokenize(caption)), [])
            if photo not in photos:
                photos.append(photo)
    return found
