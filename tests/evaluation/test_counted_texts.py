"""Counting rivals: frequencies as scikit-learn's, means by hand, TF-IDF and LSA as chapter 2 fits them."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import nn

from jepa_utils.evaluation.counted_texts import (
    document_frequencies,
    inverse_document_frequencies,
    lsa_vectors,
    mean_of_tokens,
    ppmi_vectors,
    random_vectors,
    tfidf_accuracy,
    tfidf_vectors,
)
from jepa_utils.evaluation.word_vectors import ppmi_svd

FEW = torch.tensor([[1, 1, 2], [2, 0, 2], [3, 1, 0]])

V = 50  # the last ten are of no document


def ids_like_words(*shape, seed):
    """Token ids below 40, small ones more often than large ones."""
    draws = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (40 * draws**2).long()


DOCUMENTS = ids_like_words(60, 20, seed=0)
TEXTS = ids_like_words(30, 15, seed=1)
SEEN = torch.rand(30, 15, generator=torch.Generator().manual_seed(2)) < 0.8

COUNTED = {
    "TF-IDF": lambda seed=0: tfidf_vectors(DOCUMENTS),
    "LSA": lambda seed=0: lsa_vectors(DOCUMENTS, dimensions=8, seed=seed),
    "random": lambda seed=0: random_vectors(DOCUMENTS, V, dimensions=8, seed=seed),
    "PPMI": lambda seed=0: ppmi_vectors(DOCUMENTS, V, dimensions=8, seed=seed),
}


def all_of(ids):
    return ids, torch.ones_like(ids, dtype=torch.bool)


# ---- frequencies


def test_documents_are_counted_once_for_each_token():
    found = document_frequencies(FEW, 6)
    assert found.tolist() == [2, 2, 2, 1, 0, 0] and found.dtype == torch.int64
    assert document_frequencies(FEW[:, :1], 4).tolist() == [0, 1, 1, 1]
    assert FEW.tolist() == [[1, 1, 2], [2, 0, 2], [3, 1, 0]]


def test_inverse_document_frequencies_are_scikit_learns():
    counts = TfidfVectorizer(analyzer=lambda ids: ids).fit(FEW.tolist())
    found = inverse_document_frequencies(FEW, 6)
    assert found[:4].tolist() == pytest.approx(counts.idf_.tolist())
    assert found[4:].tolist() == pytest.approx([math.log(4) + 1] * 2)  # in none of three


# ---- means


def test_means_are_weighted_by_tokens_and_by_logarithms_of_counts():
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    a, b, c = table[1], table[2], table[4]
    weights = torch.tensor([9.0, 0.5, 2.0, 9.0, 3.0, 9.0])
    ids = torch.tensor([[1, 2, 1, 4, 1, 2], [4, 1, 4, 2, 0, 0]])
    visible = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]).bool()  # one 2 is hidden
    three, two = 1 + math.log(3), 1 + math.log(2)
    cases = {
        (None, False): [(3 * a + b + c) / 5, (2 * c + a) / 3],
        (weights, False): [(1.5 * a + 2 * b + 3 * c) / 6.5, (6 * c + 0.5 * a) / 6.5],
        (None, True): [(three * a + b + c) / (three + 2), (two * c + a) / (two + 1)],
        (weights, True): [
            (0.5 * three * a + 2 * b + 3 * c) / (0.5 * three + 5),
            (3 * two * c + 0.5 * a) / (3 * two + 0.5),
        ],
    }
    for (given, sublinear), by_hand in cases.items():
        how = dict(weights=given, sublinear=sublinear)
        torch.testing.assert_close(mean_of_tokens(ids, visible, table, **how), torch.stack(by_hand))
        if sublinear:  # each as often as the others, then all of them twice as often
            even = torch.tensor([[1, 2, 4]])
            twice = mean_of_tokens(*all_of(even.repeat(1, 2)), table, **how)
            torch.testing.assert_close(twice, mean_of_tokens(*all_of(even), table, **how))
        else:
            twice = mean_of_tokens(ids.repeat(1, 2), visible.repeat(1, 2), table, **how)
            torch.testing.assert_close(twice, mean_of_tokens(ids, visible, table, **how))


def test_random_vectors_are_weighted_as_tfidf_weighs():
    table = torch.randn(V, 8, generator=torch.Generator().manual_seed(3))
    weights = inverse_document_frequencies(DOCUMENTS, V)
    expected = mean_of_tokens(TEXTS, SEEN, table, weights=weights, sublinear=True)
    found = random_vectors(DOCUMENTS, V, dimensions=8, seed=3)(TEXTS, SEEN)
    torch.testing.assert_close(found, expected)


def test_ppmi_vectors_are_plain_means_of_directions():
    table = ppmi_svd(DOCUMENTS.flatten().numpy(), size=V, dimensions=8, window=5, seed=3)
    table = nn.functional.normalize(torch.tensor(table).float(), dim=1)
    expected = mean_of_tokens(TEXTS, SEEN, table)
    found = ppmi_vectors(DOCUMENTS, V, dimensions=8, seed=3)(TEXTS, SEEN)
    torch.testing.assert_close(found, expected)


# ---- all of them


@pytest.mark.parametrize("counted", COUNTED)
def test_padding_does_not_count(counted):
    vectors = COUNTED[counted]()
    alone = vectors(*all_of(TEXTS[:4]))
    assert len(alone) == 4 and alone.dtype == torch.float32
    if counted != "TF-IDF":
        assert alone.shape == (4, 8) and alone.std(dim=0).min() > 0
    padded = torch.cat([TEXTS[:4], torch.full((4, 9), V - 1)], dim=1)
    visible = torch.arange(24).expand(4, 24) < 15
    torch.testing.assert_close(vectors(padded, visible), alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(vectors(TEXTS[:4], SEEN[:4]), alone, atol=1e-2)


@pytest.mark.parametrize("counted", ["random", "LSA", "PPMI"])
def test_the_seed_is_what_is_drawn(counted):
    first, same, other = (COUNTED[counted](seed)(TEXTS, SEEN) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)
    if counted == "random":
        assert not torch.allclose(first, other, atol=1e-2)


def test_long_galleries_are_taken_some_rows_at_a_time():
    vectors, many = COUNTED["random"](), TEXTS.repeat(15, 1)  # 450 rows
    torch.testing.assert_close(
        vectors(many, SEEN.repeat(15, 1)), vectors(TEXTS, SEEN).repeat(15, 1)
    )


# ---- as chapter 2 fits them, in plain sight


def test_tfidf_and_lsa_are_those_of_the_page():
    counting = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True)
    rows = counting.fit_transform(DOCUMENTS.tolist())  # (P, V)
    lsa = TruncatedSVD(8, random_state=4).fit(rows)

    asked = counting.transform(TEXTS.tolist())
    by_tfidf = torch.tensor(asked.toarray()).float()
    by_lsa = torch.tensor(lsa.transform(asked)).float()
    assert by_tfidf.count_nonzero() > 200 and by_lsa.std(dim=0).min() > 0.01

    everything = all_of(TEXTS)
    assert torch.equal(tfidf_vectors(DOCUMENTS)(*everything), by_tfidf)
    assert torch.equal(lsa_vectors(DOCUMENTS, dimensions=8, seed=4)(*everything), by_lsa)


def test_tfidf_has_a_column_for_each_token_of_the_documents():
    found = tfidf_vectors(FEW)(torch.tensor([[1, 1, 1, 0], [5, 5, 5, 5]]), torch.ones(2, 4) > 0)
    idf = inverse_document_frequencies(FEW, 4)
    row = torch.tensor([idf[0], (1 + math.log(3)) * idf[1], 0, 0])
    torch.testing.assert_close(found, torch.stack([row / row.norm(), 0 * row]))


# ---- a line on counts


def test_a_line_tells_texts_by_their_tokens():
    def texts(number, seed):  # a label decides the parity of two tokens in three
        draw = np.random.default_rng(seed)
        labels = draw.integers(2, size=number)
        ids = 2 * draw.integers(15, size=(number, 12)) + labels[:, None]
        ids = np.where(draw.random((number, 12)) < 0.3, draw.integers(30, size=(number, 12)), ids)
        return torch.tensor(ids), torch.tensor(labels)

    (ids, labels), (test_ids, test_labels) = texts(100, 0), texts(60, 1)
    found = tfidf_accuracy(all_of(ids), labels, all_of(test_ids), test_labels)
    assert found > 0.8
    turned = tfidf_accuracy(all_of(ids), labels, all_of(test_ids), 1 - test_labels)
    assert turned == pytest.approx(1 - found)
    hidden = torch.arange(12).expand(60, 12) < 1  # one token says less
    assert tfidf_accuracy(all_of(ids), labels, (test_ids, hidden), test_labels) < found


def test_the_penalty_is_chosen_on_the_first_fifth():
    draw = np.random.default_rng(107)  # such that the two differ in what is best
    labels = draw.integers(2, size=100)
    other = draw.random((100, 6)) < 0.2
    ids = np.where(other, labels[:, None], draw.integers(2, 30, size=(100, 6)))
    (ids, test_ids), (labels, test_labels) = (np.split(x, [70]) for x in (ids, labels))

    def accuracy(strength, start, asked, right):
        counts = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True)
        line = LogisticRegression(C=strength, max_iter=1000)
        line.fit(counts.fit_transform(ids[start:].tolist()), labels[start:])
        return line.score(counts.transform(asked.tolist()), right)

    strengths = (0.3, 1.0, 3.0, 10.0)
    held_out = [accuracy(c, 14, ids[:14], labels[:14]) for c in strengths]
    after = [accuracy(c, 0, test_ids, test_labels) for c in strengths]
    best = held_out.index(max(held_out))
    assert best == 2 and held_out[3] == held_out[2] and len(set(after)) == 4
    ids, labels, test_ids, test_labels = map(torch.tensor, (ids, labels, test_ids, test_labels))
    assert tfidf_accuracy(all_of(ids), labels, all_of(test_ids), test_labels) == after[best]


# ---- what does not fit


@pytest.mark.parametrize(
    "documents, words",
    [
        (FEW[0], r"documents must be token ids of shape \(P, L\), got \(3,\) of torch.int64"),
        (FEW.float(), "documents.*of torch.float32"),
        (FEW[:0], r"documents.*got \(0, 3\)"),
        (FEW - 1, "documents.*from 0.*got -1 to 2"),
    ],
)
def test_documents_are_token_ids(documents, words):
    for count in (
        lambda: document_frequencies(documents, 6),
        lambda: inverse_document_frequencies(documents, 6),
        lambda: tfidf_vectors(documents),
        lambda: lsa_vectors(documents, dimensions=2),
        lambda: random_vectors(documents, 6, dimensions=2),
        lambda: ppmi_vectors(documents, 6, dimensions=2),
    ):
        with pytest.raises(ValueError, match=words):
            count()


@pytest.mark.parametrize(
    "count, words",
    [
        (lambda: document_frequencies(FEW, 3), "documents.*below vocabulary = 3, got 0 to 3"),
        (lambda: document_frequencies(FEW, 0), "vocabulary must be an integer of at least 1"),
        (lambda: ppmi_vectors(FEW, 3, dimensions=2), "documents.*below vocabulary = 3"),
        (lambda: ppmi_vectors(FEW, 4, dimensions=4), "dimensions must be.*size - 1 = 3, got 4"),
        (lambda: lsa_vectors(FEW, dimensions=5), "dimensions.*number of tokens = 4, got 5"),
        (lambda: random_vectors(FEW, 4, dimensions=0), "dimensions must be.*got 0"),
        (lambda: random_vectors(FEW, 4, dimensions=2, seed=0.5), "seed must be.*got 0.5"),
        (lambda: lsa_vectors(FEW, dimensions=2, seed=0.5), "seed must be.*got 0.5"),
    ],
)
def test_numbers_lie_in_range(count, words):
    with pytest.raises(ValueError, match=words):
        count()


def test_each_text_shows_a_token():
    none = SEEN.clone()
    none[7] = False
    for vectors in (made() for made in COUNTED.values()):
        with pytest.raises(ValueError, match=r"visible must show.*got none in rows \[7\]"):
            vectors(TEXTS, none)
        with pytest.raises(ValueError, match="ids and visible must have one shape"):
            vectors(TEXTS, SEEN[:, :-1])
        with pytest.raises(ValueError, match="visible of bool.*of torch.int64"):
            vectors(TEXTS, SEEN.long())


def test_tables_and_labels_fit():
    table = torch.zeros(V, 3)
    with pytest.raises(ValueError, match=r"weights \(V,\), got \(50, 3\) and \(49,\)"):
        mean_of_tokens(TEXTS, SEEN, table, weights=torch.ones(V - 1))
    with pytest.raises(ValueError, match=r"table must have shape \(V, D\).*got \(50,\)"):
        mean_of_tokens(TEXTS, SEEN, table[:, 0])
    texts, labels = (TEXTS, SEEN), torch.arange(30) % 2
    with pytest.raises(ValueError, match=r"^labels must have shape \(30,\), got \(29,\)"):
        tfidf_accuracy(texts, labels[1:], texts, labels)
    with pytest.raises(ValueError, match=r"^test_labels must have shape \(30,\), got \(29,\)"):
        tfidf_accuracy(texts, labels, texts, labels[1:])
    with pytest.raises(ValueError, match=r"two classes behind the first fifth, got \{0\}"):
        tfidf_accuracy(texts, 0 * labels, texts, labels)
