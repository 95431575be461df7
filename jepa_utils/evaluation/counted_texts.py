"""Vectors of texts from counting: TF-IDF, LSA, and weighted means of token vectors.

Whoever counts is given documents without padding, token ids (P, L), and returns a function of ids
and visible, both (P, L), to vectors (P, D): hidden tokens do not count.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.arguments import check_count, whole
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.word_vectors import ppmi_svd

__all__ = [
    "Vectors",
    "document_frequencies",
    "inverse_document_frequencies",
    "lsa_vectors",
    "mean_of_tokens",
    "ppmi_vectors",
    "random_vectors",
    "tfidf_accuracy",
    "tfidf_vectors",
]

#: Token ids and which of them are visible, (P, L) both, to vectors (P, D).
Vectors = Callable[[Tensor, Tensor], Tensor]


def document_frequencies(documents: Tensor, vocabulary: int) -> Tensor:
    """In how many of the documents each token occurs.

    Parameters
    ----------
    documents : Tensor of int64, shape (P, L)
        Token ids.
    vocabulary : int
        Number of token ids V.

    Returns
    -------
    Tensor of int64, shape (V,)

    Raises
    ------
    ValueError
        If `documents` are not token ids of that shape below `vocabulary`.
    """
    vocabulary = check_count("vocabulary", vocabulary)
    _check_documents(documents, vocabulary)
    ids = documents.sort(dim=1).values
    first = torch.ones_like(ids, dtype=torch.bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    return torch.bincount(ids[first], minlength=vocabulary)


def inverse_document_frequencies(documents: Tensor, vocabulary: int) -> Tensor:
    """What each token tells about a document (IDF), as scikit-learn has it.

    The logarithm of the number of documents by the number with the token, both raised by 1 so that
    no token has none, plus 1 so that no token counts nothing.

    Parameters
    ----------
    documents, vocabulary
        As for `document_frequencies`.

    Returns
    -------
    Tensor, shape (V,)
        From 1, for a token of all documents, upwards.

    Raises
    ------
    ValueError
        As `document_frequencies`.

    References
    ----------
    Spärck Jones, "A statistical interpretation of term specificity and its application in
    retrieval" (1972).
    """
    found = document_frequencies(documents, vocabulary)
    return torch.log((1 + len(documents)) / (1 + found)) + 1


def mean_of_tokens(
    ids: Tensor,
    visible: Tensor,
    table: Tensor,
    *,
    weights: Tensor | None = None,
    sublinear: bool = False,
) -> Tensor:
    """Weighted means of the vectors of visible tokens.

    Parameters
    ----------
    ids : Tensor of int64, shape (P, L)
        Token ids.
    visible : Tensor of bool, shape (P, L)
        The tokens that count, at least one in each row.
    table : Tensor, shape (V, D)
        A vector for each token id.
    weights : Tensor, shape (V,), optional
        What each token counts, such as inverse document frequencies; by default all count alike.
    sublinear : bool, default False
        Let a token that a text has n times count 1 + log(n) times, not n times.

    Returns
    -------
    Tensor, shape (P, D)

    Raises
    ------
    ValueError
        If shapes do not fit, or a row has no visible token.
    """
    _check_visible(ids, visible)
    if table.dim() != 2 or (weights is not None and weights.shape != table.shape[:1]):
        got = "" if weights is None else f" and {tuple(weights.shape)}"
        raise ValueError(
            f"table must have shape (V, D), and weights (V,), got {tuple(table.shape)}{got}"
        )
    share = visible.float()
    if weights is not None:
        share = share * weights[ids]
    if sublinear:
        same = (ids.unsqueeze(1) == ids.unsqueeze(2)) & visible.unsqueeze(1)  # (P, L, L)
        count = same.sum(dim=2).clamp(min=1)
        share = share * (1 + count.log()) / count
    total = torch.einsum("pl,pld->pd", share, table[ids])
    return total / share.sum(dim=1, keepdim=True)


def random_vectors(
    documents: Tensor, vocabulary: int, *, dimensions: int, seed: int = 0
) -> Vectors:
    """A random vector for each token; a text is their mean, weighted as TF-IDF weighs.

    Parameters
    ----------
    documents : Tensor of int64, shape (P, L)
        Token ids, for the frequencies.
    vocabulary : int
        Number of token ids V.
    dimensions : int
        Dimensions D.
    seed : int, default 0
        Of the vectors.

    Returns
    -------
    callable
        Ids and visible (P, L) to vectors (P, D).

    Raises
    ------
    ValueError
        If a number is out of range, or as `document_frequencies`.

    References
    ----------
    Kanerva et al., "Random indexing of text samples for latent semantic analysis" (2000).
    """
    weights = inverse_document_frequencies(documents, vocabulary)
    draw = torch.Generator().manual_seed(whole("seed", seed))
    table = torch.randn(vocabulary, check_count("dimensions", dimensions), generator=draw)
    return _means(table, weights=weights, sublinear=True)


def ppmi_vectors(documents: Tensor, vocabulary: int, *, dimensions: int, seed: int = 0) -> Vectors:
    """Word vectors of `ppmi_svd`, five tokens to either side, at length 1; a text is their mean.

    Parameters
    ----------
    documents : Tensor of int64, shape (P, L)
        Token ids of running text, which goes on from row to row.
    vocabulary, dimensions
        As for `random_vectors`.
    seed : int, default 0
        Of the decomposition.

    Returns
    -------
    callable
        Ids and visible (P, L) to vectors (P, D).

    Raises
    ------
    ValueError
        As `ppmi_svd` and `document_frequencies`.
    """
    _check_documents(documents, check_count("vocabulary", vocabulary))
    how = dict(size=vocabulary, dimensions=dimensions, window=5, seed=seed)
    table = torch.tensor(ppmi_svd(documents.flatten().numpy(), **how)).float()
    return _means(F.normalize(table, dim=1))


def tfidf_vectors(documents: Tensor) -> Vectors:
    """TF-IDF: a number for each token that the documents have.

    A token that a text has n times counts 1 + log(n), times its inverse document frequency; each
    vector is scaled to length 1.

    Parameters
    ----------
    documents : Tensor of int64, shape (P, L)
        Token ids, for the frequencies.

    Returns
    -------
    callable
        Ids and visible (P, L) to vectors, with a column for each token of the documents by
        ascending id. Other tokens do not count; a text with no other has zeros.

    Raises
    ------
    ValueError
        If `documents` are no token ids of that shape.

    References
    ----------
    Salton and Buckley, "Term-weighting approaches in automatic text retrieval" (1988).
    """
    counts = _counts_of(documents)

    def vectors(ids: Tensor, visible: Tensor) -> Tensor:
        rows = counts.transform(_lists(ids, visible))
        return torch.tensor(rows.toarray(), dtype=torch.float32)

    return vectors


def lsa_vectors(documents: Tensor, *, dimensions: int, seed: int = 0) -> Vectors:
    """Latent semantic analysis: TF-IDF in as many directions as tell most about the documents.

    Parameters
    ----------
    documents : Tensor of int64, shape (P, L)
        Token ids.
    dimensions : int
        Dimensions D, at most the number of different tokens.
    seed : int, default 0
        Of the decomposition.

    Returns
    -------
    callable
        Ids and visible (P, L) to vectors (P, D).

    Raises
    ------
    ValueError
        If `documents` are no token ids of that shape, or a number is out of range.

    References
    ----------
    Deerwester et al., "Indexing by latent semantic analysis" (1990).
    """
    counts = _counts_of(documents)
    limit = len(counts.vocabulary_)
    dimensions = check_count("dimensions", dimensions, limit, "number of tokens")
    svd = TruncatedSVD(dimensions, random_state=whole("seed", seed))
    svd.fit(counts.transform(documents.tolist()))

    def vectors(ids: Tensor, visible: Tensor) -> Tensor:
        return torch.tensor(svd.transform(counts.transform(_lists(ids, visible)))).float()

    return vectors


def tfidf_accuracy(
    texts: tuple[Tensor, Tensor],
    labels: Tensor,
    test_texts: tuple[Tensor, Tensor],
    test_labels: Tensor,
) -> float:
    """Accuracy on test texts of a logistic regression on TF-IDF, fitted to texts and labels.

    The frequencies are those of the texts. The penalty is chosen on the first fifth of them, then
    all are fitted.

    Parameters
    ----------
    texts, test_texts : tuple of Tensors, shapes (N, L) and (M, L)
        Token ids, and which of them are visible.
    labels, test_labels : Tensor of int64, shapes (N,) and (M,)
        Classes.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If shapes do not fit, a text has no visible token, or the texts to fit are of one class.
    """
    for name, given, wanted in (
        ("labels", labels, len(texts[0])),
        ("test_labels", test_labels, len(test_texts[0])),
    ):
        if given.shape != (wanted,):
            raise ValueError(f"{name} must have shape ({wanted},), got {tuple(given.shape)}")
    lists, test_lists = _lists(*texts), _lists(*test_texts)
    labels, test_labels = labels.numpy(), test_labels.numpy()
    cut = max(1, len(lists) // 5)
    if len(known := set(labels[cut:].tolist())) < 2:
        raise ValueError(f"labels must name two classes behind the first fifth, got {known}")

    def accuracy(strength: float, start: int, asked: list[list[int]], right: Tensor) -> float:
        counts = TfidfVectorizer(analyzer=_as_it_is, sublinear_tf=True)
        line = LogisticRegression(C=strength, max_iter=1000)
        line.fit(counts.fit_transform(lists[start:]), labels[start:])
        return float(line.score(counts.transform(asked), right))

    strengths = (0.3, 1.0, 3.0, 10.0)
    chosen = max(strengths, key=lambda strength: accuracy(strength, cut, lists[:cut], labels[:cut]))
    return accuracy(chosen, 0, test_lists, test_labels)


def _means(table: Tensor, **how: object) -> Vectors:
    def means(ids: Tensor, visible: Tensor) -> Tensor:
        return mean_of_tokens(ids, visible, table, **how)

    # some rows at a time: a row takes L vectors
    return lambda ids, visible: embed(means, ids, visible, batch_size=200)


def _counts_of(documents: Tensor) -> TfidfVectorizer:
    _check_documents(documents)
    counts = TfidfVectorizer(analyzer=_as_it_is, sublinear_tf=True)
    return counts.fit(documents.tolist())


def _as_it_is(ids: list[int]) -> list[int]:
    return ids


def _lists(ids: Tensor, visible: Tensor) -> list[list[int]]:
    _check_visible(ids, visible)
    return [row[seen].tolist() for row, seen in zip(ids, visible, strict=True)]


def _check_documents(documents: Tensor, vocabulary: int | None = None) -> None:
    wants = "documents must be token ids of shape (P, L)"
    if documents.dim() != 2 or documents.dtype != torch.int64 or not documents.numel():
        raise ValueError(f"{wants}, got {tuple(documents.shape)} of {documents.dtype}")
    least, most = int(documents.min()), int(documents.max())
    if least < 0 or (vocabulary is not None and most >= vocabulary):
        below = "" if vocabulary is None else f" below vocabulary = {vocabulary}"
        raise ValueError(f"{wants}, from 0{below}, got {least} to {most}")


def _check_visible(ids: Tensor, visible: Tensor) -> None:
    if ids.dim() != 2 or ids.shape != visible.shape or visible.dtype != torch.bool:
        raise ValueError(
            f"ids and visible must have one shape (P, L), visible of bool, got "
            f"{tuple(ids.shape)} and {tuple(visible.shape)} of {visible.dtype}"
        )
    if empty := (~visible.any(dim=1)).nonzero().flatten().tolist():
        raise ValueError(
            f"visible must show at least one token of every row, got none in rows {empty[:8]}"
        )
