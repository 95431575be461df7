"""Classical word vectors to compare with: CCA, PPMI + SVD and word2vec, on the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD

from jepa_utils.arguments import check_count, whole
from jepa_utils.evaluation._arrays import as_numbers

__all__ = ["cca_vectors", "ppmi_svd", "word2vec"]


def _check(ids: Sequence[int], size: int, dimensions: int, window: int) -> np.ndarray:
    size = check_count("size", size)
    check_count("dimensions", dimensions, size - 1, "size - 1")
    check_count("window", window)
    ids = as_numbers("ids", ids)
    if (
        ids.ndim != 1
        or len(ids) < 2
        or ids.dtype.kind not in "iu"
        or not 0 <= ids.min() <= ids.max() < size
    ):
        raise ValueError(
            f"ids must be a sequence of at least 2 token ids below size = {size}, "
            f"got {ids.dtype} of shape {ids.shape}"
        )
    return ids.astype(np.int64)


def cca_vectors(
    ids: Sequence[int],
    *,
    size: int,
    dimensions: int,
    power: float = 1.0,
    pseudo_count: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Word vectors of canonical correlation: what a word tells about its neighbours, and no more.

    Where words are one-hot, covariances are counts, so the canonical directions are singular
    vectors of ``A**-1/2 @ N @ B**-1/2``: N holds how often each word stands before and after each
    other, A and B its sums over columns and rows. The first pair is constant and left out.

    Parameters
    ----------
    ids, size, dimensions, seed
        As for `ppmi_svd`, with the two words beside each as context, left and right apart.
    power : float, default 1.0
        Of the counts, above 0; 0.5 evens out their variances.
    pseudo_count : float, default 0.0
        Added to the sums A and B, 0 or positive: the ridge of a regularised CCA. It keeps words
        with few counts near the middle.

    Returns
    -------
    array, shape (V, D)
        Of covariance 1 over the text where power is 1 and pseudo_count 0. Where there are fewer
        than D correlations above zero, the other columns are zero.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Dhillon et al., "Multi-view learning of word embeddings via CCA" (2011); for the power, Stratos
    et al., "Model-based word embeddings from decompositions of count matrices" (2015).
    """
    ids, seed = _check(ids, size, dimensions, 1), whole("seed", seed)
    if not 0 < power <= 1 or not 0 <= pseudo_count < np.inf:
        raise ValueError(
            f"power must lie in (0, 1] and pseudo_count be 0 or positive, got {power} and "
            f"{pseudo_count}"
        )
    after = csr_matrix(coo_matrix((np.ones(len(ids) - 1), (ids[:-1], ids[1:])), shape=(size, size)))
    counts = hstack([after, after.T]).tocsr().power(power)  # (V, 2V)
    words, contexts = (
        np.asarray(counts.sum(axis=axis)).ravel() + pseudo_count for axis in (1, 0)
    )  # A and B
    shrink, narrow = (
        np.divide(1, np.sqrt(sums), out=np.zeros(len(sums)), where=sums > 0)
        for sums in (words, contexts)
    )
    correlation = counts.multiply(shrink[:, None]).multiply(narrow).tocsr()
    decomposition = TruncatedSVD(dimensions + 1, random_state=seed, n_iter=20).fit(correlation)
    values = decomposition.singular_values_
    kept = values > values[0] * size * np.finfo(float).eps
    directions = np.zeros((size, dimensions + 1))
    directions[:, kept] = decomposition.transform(correlation)[:, kept] / values[kept]
    return directions[:, 1:] * (shrink * np.sqrt(words.sum()))[:, None]


def ppmi_svd(
    ids: Sequence[int],
    *,
    size: int,
    dimensions: int,
    window: int = 1,
    smoothing: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Word vectors from counting: a truncated SVD of positive pointwise mutual information.

    Parameters
    ----------
    ids : sequence of int
        The text as token ids.
    size : int
        Vocabulary size V.
    dimensions : int
        Dimensions D of the vectors.
    window : int, default 1
        How many words to either side count as context.
    smoothing : float, default 1.0
        Power of the contexts' counts, from 0 to 1: below 1 rare contexts count for less.
    seed : int, default 0
        Seed of the randomised decomposition.

    Returns
    -------
    array, shape (V, D)
        Left singular vectors times the square root of the singular values. Where there are fewer
        than D singular values above zero, the other columns are zero.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Bullinaria and Levy (2007); Levy and Goldberg, "Neural word embedding as implicit matrix
    factorization" (2014); for the smoothing, Levy et al. (2015).
    """
    ids, seed = _check(ids, size, dimensions, window), whole("seed", seed)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
    left = np.concatenate([ids[:-gap] for gap in range(1, window + 1)])
    right = np.concatenate([ids[gap:] for gap in range(1, window + 1)])
    rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
    counts = csr_matrix(coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size)))
    totals = np.asarray(counts.sum(axis=1)).ravel()
    pairs = counts.tocoo()
    contexts = totals**smoothing
    information = np.log(pairs.data * contexts.sum() / (totals[pairs.row] * contexts[pairs.col]))
    ppmi = csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=(size, size))
    vectors = np.zeros((size, dimensions))
    if ppmi.max() == 0:  # no word tells of another: nothing to decompose
        return vectors
    decomposition = TruncatedSVD(dimensions, random_state=seed, n_iter=10).fit(ppmi)
    values = decomposition.singular_values_
    kept = values > values[0] * size * np.finfo(float).eps  # the rest are zeros, but for rounding
    vectors[:, kept] = decomposition.transform(ppmi)[:, kept] / np.sqrt(values[kept])
    return vectors


def word2vec(
    ids: Sequence[int],
    *,
    size: int,
    dimensions: int,
    window: int = 1,
    epochs: int = 10,
    negative: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Word vectors of skip-gram with negative sampling, trained by gensim.

    Parameters
    ----------
    ids : sequence of int
        The text as token ids.
    size, dimensions, window, seed
        As for `ppmi_svd`.
    epochs : int, default 10
        Passes over the text.
    negative : int, default 5
        Random words that each true neighbour is to be told from.

    Returns
    -------
    array, shape (V, D)
        Zero rows for tokens that do not occur.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Mikolov et al., "Distributed representations of words and phrases and their compositionality"
    (2013).
    """
    from gensim.models import Word2Vec  # slow to import, and only this function needs it

    ids, seed = _check(ids, size, dimensions, window), whole("seed", seed)
    check_count("epochs", epochs)
    check_count("negative", negative)
    words = [str(i) for i in ids]
    sentences = [words[start : start + 1000] for start in range(0, len(words), 1000)]
    # One worker and a fixed hash: the result depends on the seed alone. No subsampling of frequent
    # words: it takes neighbours apart, which costs a narrow window dearly (measured on Shakespeare:
    # purity 0.44 with gensim's 1e-3, 0.52 without).
    model = Word2Vec(
        sentences,
        vector_size=dimensions,
        window=window,
        sg=1,
        negative=negative,
        min_count=1,
        sample=0,
        epochs=epochs,
        workers=1,
        seed=seed,
        hashfxn=lambda word: int(word) if word.isdigit() else 0,
    )
    vectors = np.zeros((size, dimensions))
    for i in np.unique(ids):
        vectors[i] = model.wv[str(i)]
    return vectors
