"""What the playground "passages" works on: a gallery of text, and three ways to search it.

A passage is a chunk of text in two halves. The page finds second halves by the first half of a
passage or by typed words, as a bag of tokens trained by LeJEPA does, as LSA, and as TF-IDF.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jepa_utils.figures.style import figure_style
from jepa_utils.models.text import TextEncoder

if TYPE_CHECKING:  # slow to import, and whoever calls has them
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

__all__ = ["ENCODERS", "passage_data", "passage_still", "search_passages"]

#: Keys of what `search_passages` finds, with their names on the page.
ENCODERS = {"lejepa": "LeJEPA", "lsa": "LSA", "tfidf": "TF-IDF"}

STEPS = 127  # whole numbers on either side of 0 in which a table is stored: a byte each


def passage_data(
    chunks: Tensor,
    articles: Sequence[int] | Tensor,
    titles: Sequence[str],
    *,
    tokenizer: Any,
    encoder: TextEncoder,
    counts: TfidfVectorizer,
    svd: TruncatedSVD,
    encoder_standard: tuple[Tensor, Tensor],
    svd_standard: tuple[Tensor, Tensor],
    examples: Sequence[str | int],
) -> dict[str, object]:
    """A gallery and what three encoders know of its tokens, for ``show_play("passages", ...)``.

    Parameters
    ----------
    chunks : Tensor of int64, shape (G, L)
        The gallery: token ids of passages, L even. Each is cut in the middle.
    articles : sequence of int, length G
        Number of each passage's article, an index into `titles`.
    titles : sequence of str
        Names of articles.
    tokenizer : transformers tokenizer
        The one that made the ids.
    encoder : TextEncoder
        A bag of tokens: without layers and positions.
    counts : TfidfVectorizer
        Fitted on lists of token ids with ``analyzer=lambda ids: ids, sublinear_tf=True``.
    svd : TruncatedSVD
        LSA: fitted on what `counts` makes of those lists.
    encoder_standard, svd_standard : pair of Tensor, each of shape (D,)
        Mean and standard deviation, from the training text, by which embeddings of the encoder and
        of LSA are standardised before their cosine is taken.
    examples : sequence of str or int
        Queries for buttons: words, or the number of a passage. The first one is searched at once.

    Returns
    -------
    dict
        Per token of the gallery (T tokens): ``strings``, two tables of bytes ``lejepa`` and ``lsa``
        (T, D), ``lejepaWeight``, ``lsaWeight`` and ``idf`` (T,); ``lsaMean`` (D,), ``ids`` (G, L)
        of tokens, ``articles`` (G,), ``titles`` and ``examples``.

    Raises
    ------
    ValueError
        If shapes do not fit, the encoder is no bag of tokens, or an example has no word that the
        gallery has. The argument is named.
    """
    if chunks.dim() != 2 or not len(chunks) or chunks.shape[1] < 2 or chunks.shape[1] % 2:
        raise ValueError(
            f"chunks must have shape (G, L), not empty, L even, got {tuple(chunks.shape)}"
        )
    of = np.asarray(articles)
    if of.shape != (len(chunks),) or of.dtype.kind not in "iu":
        raise ValueError(
            f"articles must be {len(chunks)} whole numbers, one a chunk, got {of.shape}"
        )
    if of.min() < 0 or of.max() >= len(titles):
        raise ValueError(
            f"titles must name articles {of.min()} to {of.max()}, got {len(titles)} names"
        )
    _check_bag(encoder)
    vocabulary = encoder.tokens.num_embeddings
    if not 0 <= int(chunks.min()) <= int(chunks.max()) < vocabulary:
        raise ValueError(
            f"encoder must know all tokens of chunks, got {vocabulary} tokens and ids "
            f"{int(chunks.min())} to {int(chunks.max())}"
        )
    _check_counts(counts, svd)
    tokens, ids = np.unique(chunks.cpu().numpy(), return_inverse=True)
    with torch.no_grad():
        there = torch.as_tensor(tokens, device=encoder.tokens.weight.device)
        vectors = encoder.norm(encoder.tokens(there)).double().cpu().numpy()  # (T, D)
        weight = np.ones(len(tokens))
        if encoder.weights is not None:
            weight = encoder.weights(there).squeeze(1).double().exp().cpu().numpy()
    mean, std = _standard("encoder_standard", encoder_standard, vectors.shape[1])
    # A weighted mean may be standardised token by token: mean and deviation need not travel, and a
    # cosine does not see the tables' unit.
    lejepa, _ = _in_steps((vectors - mean) / std)

    # Tokens that the counting encoders have not seen count 0.
    column = np.array([counts.vocabulary_.get(token, -1) for token in tokens.tolist()])
    seen = column >= 0
    idf = np.where(seen, counts.idf_[column], 0.0)
    mean, std = _standard("svd_standard", svd_standard, len(svd.components_))
    components = np.where(seen[:, None], svd.components_.T[column] / std, 0.0)  # (T, D)
    # Rows of frequent tokens are far longer than others: each in steps of its own length.
    length = np.abs(components).max(axis=1)
    lsa, unit = _in_steps(components / np.where(length > 0, length, 1)[:, None])
    numbers = np.unique(of)
    data = {
        "strings": [tokenizer.decode([token]) for token in tokens.tolist()],
        "ids": ids.reshape(chunks.shape),
        "articles": np.searchsorted(numbers, of),
        "titles": [_title(titles[number], number) for number in numbers],
        "lejepa": lejepa,
        "lejepaWeight": weight,
        "lsa": lsa,
        "lsaWeight": length * unit,
        "lsaMean": mean / std,
        "idf": idf,
        "examples": list(examples),
    }
    _check_examples(data)
    return data


def search_passages(data: Mapping[str, Any], query: str | int) -> dict[str, np.ndarray]:
    """The cosine of a query and each second half, as the page computes it.

    Parameters
    ----------
    data : mapping
        From `passage_data`.
    query : str or int
        Words, or the number of the passage whose first half is the query.

    Returns
    -------
    dict of str to array (G,)
        By the keys of `ENCODERS`. An encoder that knows none of the words has zeros.
    """
    ids = data["ids"]
    half = ids.shape[1] // 2
    text = _tokens_of(data, query) if isinstance(query, str) else ids[query, :half]
    found, sides = _vectors(data, text), [_vectors(data, row[half:]) for row in ids]
    return {key: np.array([_cosine(found[key], side[key]) for side in sides]) for key in ENCODERS}


def passage_still(data: Mapping[str, Any], query: str | int | None = None) -> Figure:
    """A picture of the first three second halves by each encoder, where scripts are off.

    Parameters
    ----------
    data : mapping
        From `passage_data`.
    query : str or int, optional
        As for `search_passages`; by default the first example, with which the page begins.

    Returns
    -------
    matplotlib.figure.Figure
    """
    query = data["examples"][0] if query is None else query
    found, half = search_passages(data, query), data["ids"].shape[1] // 2
    with figure_style():
        fig, axes = plt.subplots(1, len(ENCODERS), figsize=(9, 3.1))
    if isinstance(query, str):
        fig.suptitle(f"Second halves found for “{query}”")
    else:
        title = data["titles"][data["articles"][query]]
        fig.suptitle(f"Second halves found for a first half of “{title}”".replace("$", r"\$"))
    for ax, (key, name) in zip(axes, ENCODERS.items(), strict=True):
        best = np.argsort(-found[key], kind="stable")[:3]
        parts = []
        for place, i in enumerate(best, start=1):
            article = data["articles"][i]
            mark = ""
            if not isinstance(query, str) and article == data["articles"][query]:
                mark = "own half: " if i == query else "same article: "
            text = "".join(data["strings"][t] for t in data["ids"][i, half:])
            snippet = textwrap.shorten(_plain(text), 130, placeholder="\xa0…")
            title = textwrap.shorten(data["titles"][article], 41 - len(mark), placeholder="\xa0…")
            parts.append("\n".join([f"{place}. {mark}{title}", *textwrap.wrap(f"… {snippet}", 44)]))
        ax.grid(False)
        ax.spines[:].set_visible(False)
        # A label, though of a blank: a panel of text needs the whole width of a phone.
        ax.set_xticks([0], [" "])
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.set_title(name)
        words = "\n\n".join(parts).replace("$", r"\$")  # no formula
        ax.text(0, 1, words, va="top", fontsize=8, transform=ax.transAxes)
    return fig


def _check_bag(encoder: TextEncoder) -> None:
    if len(encoder.layers) or encoder.positions is not None:
        raise ValueError(
            f"encoder must have no layers and no positions, got {len(encoder.layers)} layers"
            f"{'' if encoder.positions is None else ' and positions'}"
        )


def _check_counts(counts: TfidfVectorizer, svd: TruncatedSVD) -> None:
    if not counts.sublinear_tf or counts.norm != "l2":
        raise ValueError(
            f"counts must have sublinear_tf=True and norm='l2', got {counts.sublinear_tf} and "
            f"{counts.norm!r}"
        )
    if svd.components_.shape[1] != len(counts.vocabulary_):
        raise ValueError(
            f"svd must have a column for each of the {len(counts.vocabulary_)} tokens of counts, "
            f"got {svd.components_.shape}"
        )


def _check_examples(data: Mapping[str, Any]) -> None:
    if not data["examples"]:
        raise ValueError("examples must hold at least one query")
    for query in data["examples"]:
        if isinstance(query, str):
            if not len(_tokens_of(data, query)):
                raise ValueError(f"examples must have words of the gallery, got {query!r}")
        elif not 0 <= query < len(data["ids"]):
            raise ValueError(
                f"examples must number passages from 0 to {len(data['ids']) - 1}, got {query}"
            )


def _standard(name: str, pair: tuple[Tensor, Tensor], dimensions: int) -> list[np.ndarray]:
    """Mean and standard deviation as arrays, if they fit."""
    shapes = [tuple(part.shape) for part in pair]
    if shapes != [(dimensions,)] * 2 or not bool((pair[1] > 0).all()):
        raise ValueError(
            f"{name} must be a mean and a positive deviation of shape ({dimensions},), got {shapes}"
        )
    return [np.asarray(part.detach().cpu() if torch.is_tensor(part) else part) for part in pair]


def _in_steps(table: np.ndarray) -> tuple[np.ndarray, float]:
    """A table in whole numbers of a byte each, which travel as they are, and their unit."""
    unit = float(np.abs(table).max()) / STEPS or 1.0
    return np.rint(table / unit).astype(np.int8), unit


# The search, as the script does it


def _vectors(data: Mapping[str, Any], text: Sequence[int]) -> dict[str, np.ndarray]:
    """What each encoder makes of a text, given as numbers of tokens."""
    tokens, times = np.unique(np.asarray(text, dtype=int), return_counts=True)
    share = 1 + np.log(times)
    weight = data["lejepaWeight"][tokens] * times
    rows = {key: data[key][tokens].astype(float) for key in ("lejepa", "lsa")}
    sparse = np.zeros(len(data["strings"]))
    sparse[tokens] = data["idf"][tokens] * share
    length = np.linalg.norm(sparse)
    dense = np.zeros(rows["lsa"].shape[1])
    if length > 0:
        sparse /= length
        dense = (sparse[tokens] * data["lsaWeight"][tokens]) @ rows["lsa"] - data["lsaMean"]
    return {"lejepa": weight @ rows["lejepa"], "lsa": dense, "tfidf": sparse}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else 0.0


def _bare(word: str) -> str:
    """A word without the signs around it."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", word)


def _words(data: Mapping[str, Any]) -> dict[str, list[int]]:
    """The tokens of each word that stands whole in the gallery.

    A word begins at a token with a blank before it. What a chunk begins or ends with may be cut.
    """
    strings, known = data["strings"], {}
    for row in data["ids"].tolist():
        starts = [i for i, token in enumerate(row) if strings[token][:1].isspace()]
        for start, end in itertools.pairwise(starts):
            word = row[start:end]
            while word and not _bare(strings[word[0]]):
                word = word[1:]
            while word and not _bare(strings[word[-1]]):
                word = word[:-1]
            text = _bare("".join(strings[token] for token in word))
            # of two ways to write it, that after a blank: words are typed with blanks between
            spaced = bool(word) and strings[word[0]][0] == " "
            if text and (text not in known or (spaced and strings[known[text][0]][0] != " ")):
                known[text] = word
    return known


def _tokens_of(data: Mapping[str, Any], query: str) -> list[int]:
    """The tokens of typed words, without those that the gallery does not have."""
    known = _words(data)
    found: Counter[int] = Counter()
    # also at hyphens: in WikiText they stand alone
    for word in map(_bare, re.split(r"[\s-]+", query)):
        ways = (word, word.capitalize(), word.lower(), word.upper())
        found.update(next((known[way] for way in ways if way in known), []))
    return list(found.elements())


def _plain(text: str) -> str:
    """WikiText without its marks, and a box for each word that it does not tell."""
    text = re.sub(r"<unk>|^(unk)?>|<(unk)?$", "□", text)  # a cut may go through the word
    text = re.sub(r" @(.)@ ", r"\1", text)
    text = re.sub(r"(?<!\S)=(?!\S)", " ", text)
    text = re.sub(r" (?=[,.;:!?)\]%])| (?=['’]\w)", "", text)
    return re.sub(r"\s+", " ", re.sub(r"([(\[]) ", r"\1", text)).strip()


def _title(title: str, number: int) -> str:
    """A title as it is read; of some articles WikiText tells no word of it."""
    plain = _plain(title)
    return plain if _bare(plain) else f"{plain} (article {number})"
