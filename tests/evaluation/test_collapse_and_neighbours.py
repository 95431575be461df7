"""Collapse measures, neighbours and classical baselines on clouds and texts whose answer is known."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch

from jepa_utils.evaluation import neighbours
from jepa_utils.evaluation.collapse import collapse_report, effective_rank, isotropy
from jepa_utils.evaluation.neighbours import base_rate, nearest_neighbours, neighbour_purity
from jepa_utils.evaluation.word_vectors import cca_vectors, ppmi_svd, word2vec


def orthogonal_columns(n=64, d=8):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(x - x.mean(dim=0))[0]  # centred (up to rounding) and equally long


def test_effective_rank_of_known_spectra():
    q = orthogonal_columns()
    assert effective_rank(q) == pytest.approx(8, rel=1e-6)
    assert effective_rank(q[:, :1] @ torch.ones(1, 8, dtype=q.dtype)) == pytest.approx(1, rel=1e-6)
    scales = torch.tensor([4.0, 2, 1, 1], dtype=q.dtype)
    p = scales / scales.sum()
    assert effective_rank(q[:, :4] * scales) == pytest.approx(
        math.exp(-(p * p.log()).sum()), rel=1e-6
    )
    assert effective_rank(q * 1e-9 + 0.0) == pytest.approx(8, rel=1e-6)  # scale does not matter
    assert effective_rank(torch.full((50, 8), 0.1)) == 0  # full collapse, off the origin


def test_collapse_report_tells_clouds_apart():
    gaussian = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    good = collapse_report(gaussian)
    assert (
        good.std == pytest.approx(1, abs=0.03)
        and good.effective_rank > 5.9
        and 0.6 < good.sigreg < 1.6
    )
    point = collapse_report(torch.zeros(4000, 6))
    assert point.std == point.min_std == point.effective_rank == 0
    assert point.sigreg == pytest.approx(0.409 * 4000, rel=2e-3)
    line = collapse_report(gaussian[:, :1] @ torch.ones(1, 6))
    assert line.effective_rank == pytest.approx(1) and line.sigreg > 10 * good.sigreg
    assert collapse_report(gaussian) == good  # fixed directions
    assert set(good.to_dict()) == {"std", "min_std", "effective_rank", "sigreg"}


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(5), torch.zeros(1, 5), torch.full((5, 2), math.nan), [[1.0]], torch.zeros(0, 3)],
)
def test_collapse_measures_reject_bad_input(bad):
    for measure in (effective_rank, collapse_report):
        with pytest.raises(ValueError, match="embeddings"):
            measure(bad)


def test_collapse_report_rejects_no_slices():
    with pytest.raises(ValueError, match="num_slices"):
        collapse_report(torch.randn(5, 2), num_slices=0)


POINTS = np.array([[0.0, 1], [0, 1.1], [0, 1.3], [5, 0], [5.1, 0], [5.4, 0]])


def test_nearest_neighbours_in_order_without_the_query():
    found, distances = nearest_neighbours(POINTS, [0, 4], k=2)
    assert found.tolist() == [[1, 2], [3, 5]]
    assert distances[0] == pytest.approx([0.1, 0.3])
    found, _ = nearest_neighbours(
        np.array([[1.0, 0], [10, 1], [0.9, 0.3]]), [0], k=1, metric="cosine"
    )
    assert found.tolist() == [[1]]
    duplicates = np.zeros((4, 2))
    found, _ = nearest_neighbours(duplicates, [3], k=3)
    assert sorted(found[0]) == [0, 1, 2]
    # among many equal rows a query need not come up as its own neighbour; it is left out all the
    # same
    found, _ = nearest_neighbours(np.zeros((20, 2)), range(20), k=3)
    assert found.shape == (20, 3) and all(query not in row for query, row in enumerate(found))


def test_purity_of_known_arrangements():
    assert neighbour_purity(POINTS, {"up": [0, 1, 2], "right": [3, 4, 5]}, k=2) == {
        "up": 1.0,
        "right": 1.0,
    }
    assert neighbour_purity(POINTS, {"mixed": [0, 3]}, k=2) == {"mixed": 0.0}
    # rows of no class count as misses
    assert neighbour_purity(POINTS, {"two of three": [0, 1]}, k=2) == {"two of three": 0.5}


def test_the_base_rate_leaves_the_query_out():
    assert base_rate({"a": [0, 1, 2], "b": [3, 4, 5, 6]}, 11) == {"a": 0.2, "b": 0.3}


def test_random_vectors_score_the_base_rate():
    rng = np.random.default_rng(0)
    classes = {"a": range(0, 100), "b": range(100, 150)}
    scores = [neighbour_purity(rng.normal(size=(500, 10)), classes) for _ in range(10)]
    for name, rate in base_rate(classes, 500).items():
        assert np.mean([score[name] for score in scores]) == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize(
    "change, word",
    [
        (dict(k=0), "k must"),
        (dict(k=6), "k must"),
        (dict(metric="manhattan"), "metric"),
        (dict(queries=[6]), "queries"),
        (dict(queries=[-1]), "queries"),
        (dict(embeddings=POINTS[0]), "embeddings"),
        (dict(embeddings=POINTS * math.nan), "embeddings"),
    ],
)
def test_neighbours_reject_bad_input(change, word):
    arguments = dict(embeddings=POINTS, queries=[0], k=2) | change
    with pytest.raises(ValueError, match=word):
        nearest_neighbours(arguments.pop("embeddings"), arguments.pop("queries"), **arguments)


def test_purity_rejects_a_class_of_one():
    with pytest.raises(ValueError, match="lonely"):
        neighbour_purity(POINTS, {"lonely": [0]}, k=2)


def in_every_order(x, rows, k):
    """Purity as the mean over all orders of the items, where equally near ones follow that order."""
    shares = []
    for order in permutations(range(len(x))):
        for query in rows:
            far = {i: round(float(np.linalg.norm(x[query] - x[i])), 9) for i in order if i != query}
            shares += [i in rows for i in sorted(far, key=far.get)[:k]]
    return np.mean(shares)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_items_equally_near_share_the_places(k):
    # distances 0.1 and 0.2 - 0.1 differ in their last digit, as do those of the turned rows
    line = np.array([[0.0], [0.1], [0.2], [0.3], [0.3], [0.5]]) @ np.array([[0.6, 0.8]])
    rows = [0, 2, 3]
    expected = in_every_order(line, rows, k)
    for x in (line, line * 1e-200, line * 1e200, line + 0.7):
        assert neighbour_purity(x, {"a": rows}, k=k)["a"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, 1e30, 0.1])
def test_a_collapsed_cloud_scores_the_base_rate(metric, value):
    classes = {"first": range(10), "rest": np.arange(30) >= 10}
    x = np.full((30, 4), value)
    found = neighbour_purity(x, classes, metric=metric)
    assert found == pytest.approx({"first": 9 / 29, "rest": 19 / 29}, rel=1e-12)
    assert found == pytest.approx(base_rate(classes, 30), rel=1e-12)
    if metric == "cosine":  # one direction at many lengths
        x = np.linspace(1, 50, 30)[:, None] * np.array([[0.3, -0.1, 0.7, value]])
        assert neighbour_purity(x, classes, metric=metric) == pytest.approx(found, rel=1e-12)


def test_what_is_nearer_by_little_is_no_tie():
    x = 1 + 1e-9 * np.array([[0.0], [1], [-1.001], [5], [6]])
    assert neighbour_purity(x, {"a": [0, 1]}, k=1) == {"a": 1.0}
    assert neighbour_purity(x, {"a": [0, 2]}, k=1) == {"a": 0.5}


def test_masks_are_the_rows_they_mark():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(12, 3)), np.arange(12) % 3 == 0
    rows = np.flatnonzero(mask)
    expected = neighbour_purity(x, {"a": rows}, k=3)
    for same in (mask, mask.tolist(), torch.from_numpy(mask)):
        assert neighbour_purity(x, {"a": same}, k=3) == expected
        assert base_rate({"a": same}, 12) == {"a": 3 / 11}
        assert np.array_equal(nearest_neighbours(x, same, k=3), nearest_neighbours(x, rows, k=3))


@pytest.mark.parametrize(
    "rows, words",
    [
        ([True, False, True], "mask of 6 rows"),
        ([0.0, 1.0], "row numbers"),
        ([[0, 1]], "row numbers"),
        ([0, 6], "between 0 and 5"),
        ([-1, 0], "between 0 and 5"),
        ([0, 0, 1], "once"),
        ({0, 1}, "numbers"),
        (["0", "1"], "numbers"),
        ([], "at least 2"),
    ],
)
def test_other_rows_of_a_class_are_refused(rows, words):
    for call in (lambda c: neighbour_purity(POINTS, c, k=2), lambda c: base_rate(c, 6)):
        with pytest.raises(ValueError, match=rf"^classes\['odd'\].*{words}"):
            call({"even": [0, 2], "odd": rows})


def test_distances_at_any_scale_and_of_any_kind_of_numbers():
    for scale in (1e-300, 1e-20, 1.0, 1e20, 1e300):
        found, distances = nearest_neighbours(POINTS * scale, [0, 4], k=np.int64(2))
        assert found.tolist() == [[1, 2], [3, 5]]
        assert distances / scale == pytest.approx(np.array([[0.1, 0.3], [0.1, 0.3]]))
        found, distances = nearest_neighbours(POINTS * scale, [5], k=3, metric="cosine")
        assert found.tolist() == [[3, 4, 0]]
        assert distances[0] == pytest.approx([0, 0, 1], abs=1e-15)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        x = torch.tensor(POINTS, dtype=kind).requires_grad_()
        assert nearest_neighbours(x, torch.tensor([0, 4]), k=2)[0].tolist() == [[1, 2], [3, 5]]
    assert nearest_neighbours(POINTS.tolist(), [0], k=2)[0].tolist() == [[1, 2]]
    assert [part.shape for part in nearest_neighbours(POINTS, [], k=2)] == [(0, 2), (0, 2)]
    assert neighbour_purity(POINTS, {}, k=2) == {}


def test_zeros_are_at_right_angles_to_all():
    x = np.array([[1.0, 0], [0, 0], [-1, 0], [1, 1]])
    found, distances = nearest_neighbours(x, [0, 1], k=3, metric="cosine")
    assert found[0].tolist() == [3, 1, 2] and distances[0] == pytest.approx([1 - 0.5**0.5, 1, 2])
    assert distances[1] == pytest.approx([1, 1, 1])


def test_many_chunks_equal_one(monkeypatch):
    x, classes = np.random.default_rng(0).normal(size=(40, 3)), {"a": range(9), "b": range(5, 20)}
    expected = neighbour_purity(x, classes), nearest_neighbours(x, range(30))
    monkeypatch.setattr(neighbours, "CHUNK", 130)
    assert neighbour_purity(x, classes) == expected[0]
    assert np.array_equal(nearest_neighbours(x, range(30)), expected[1])


@pytest.mark.parametrize("k", [True, 2.0, "2", np.bool_(True)])
def test_neighbours_are_counted_in_integers(k):
    for call in (nearest_neighbours, neighbour_purity):
        with pytest.raises(ValueError, match="^k must be an integer between 1 and V - 1 = 5"):
            call(POINTS, [0] if call is nearest_neighbours else {"a": [0, 1]}, k=k)


@pytest.mark.parametrize("size", [0, 2.5, True])
def test_the_base_rate_is_of_a_whole_number_of_rows(size):
    with pytest.raises(ValueError, match="^size must be an integer"):
        base_rate({"a": [0, 1]}, size)


def toy_text(length=20_000, seed=0):
    """Two classes of 10 words that take turns at random: a word of A is followed by one of B more often than not."""
    rng = np.random.default_rng(seed)
    kind = (np.arange(length) + (rng.random(length) < 0.1)) % 2
    return kind * 10 + rng.integers(10, size=length)


def test_counted_vectors_take_ppmi_apart():
    """All dimensions kept, the products of the vectors are the symmetric matrix's absolute value."""
    ids, size, window = [0, 1, 2, 1, 3, 0, 1, 4, 4, 2, 0], 6, 2  # the sixth word never occurs
    counts = np.zeros((size, size))
    for i, word in enumerate(ids):
        for j, other in enumerate(ids):
            counts[word, other] += 1 <= abs(i - j) <= window
    totals = counts.sum(axis=1)
    ppmi = np.zeros((size, size))
    for i, j in zip(*counts.nonzero(), strict=True):
        ppmi[i, j] = max(math.log(counts[i, j] * counts.sum() / (totals[i] * totals[j])), 0)
    values, vectors = np.linalg.eigh(ppmi)
    found = ppmi_svd(ids, size=size, dimensions=size - 1, window=window)
    assert np.allclose(found @ found.T, vectors * abs(values) @ vectors.T)


@pytest.mark.parametrize("power, pseudo_count", [(1.0, 0.0), (0.5, 0.0), (1.0, 30.0)])
def test_cca_is_that_of_one_hot_words_and_their_neighbours(power, pseudo_count):
    size, ids = 21, toy_text(2000)  # the 21st word never occurs
    counts = np.zeros((size, 2 * size))
    for left, right in pairwise(ids.tolist()):
        counts[left, right] += 1
        counts[right, size + left] += 1
    counts **= power
    scale = 1 / np.sqrt(np.maximum(counts.sum(axis=1) + pseudo_count, 1e-300))
    scale[counts.sum(axis=1) + pseudo_count == 0] = 0
    across = counts.sum(axis=0) + pseudo_count
    across = np.divide(1, np.sqrt(across), out=np.zeros(2 * size), where=across > 0)
    left, values, _ = np.linalg.svd(scale[:, None] * counts * across)
    found = cca_vectors(ids, size=size, dimensions=4, power=power, pseudo_count=pseudo_count)
    expected = scale[:, None] * left[:, 1:5] * math.sqrt(counts.sum() + size * pseudo_count)
    signs = np.sign((found * expected).sum(axis=0))
    assert np.allclose(found, signs * expected, atol=1e-4) and values[1] > values[2]


def test_cca_vectors_are_white_over_the_text():
    ids = toy_text()
    vectors = cca_vectors(ids, size=20, dimensions=4)[ids]
    assert np.allclose(vectors.mean(axis=0), 0, atol=0.02)
    assert np.allclose(vectors.T @ vectors / len(ids), np.eye(4), atol=0.02)


@pytest.mark.parametrize("bad", [dict(power=0), dict(power=1.5), dict(pseudo_count=-1)])
def test_cca_says_what_it_wants(bad):
    with pytest.raises(ValueError, match=r"power must lie in \(0, 1\] and pseudo_count be 0 or"):
        cca_vectors(toy_text(200), size=20, dimensions=4, **bad)


def test_smoothing_makes_rare_contexts_count_for_less():
    ids, how = toy_text(2000), dict(size=21, dimensions=4)
    assert np.array_equal(ppmi_svd(ids, **how), ppmi_svd(ids, **how, smoothing=1))
    assert not np.allclose(ppmi_svd(ids, **how), ppmi_svd(ids, **how, smoothing=0.75))
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1\], got 2"):
        ppmi_svd(ids, **how, smoothing=2)


@pytest.mark.parametrize("negative", [0, True, 1.5])
def test_word2vec_rejects_no_random_words(negative):
    with pytest.raises(ValueError, match="^negative must be an integer"):
        word2vec(toy_text(200), size=20, dimensions=4, negative=negative)


def test_dimensions_beyond_the_rank_are_zero():
    vectors = ppmi_svd([0, 1] * 50, size=10, dimensions=5)
    expected = np.zeros((10, 10))
    expected[:2, :2] = np.log(2) * np.eye(2)  # each of the two words predicts the other
    assert np.allclose(vectors @ vectors.T, expected)
    assert (abs(vectors).sum(0) > 0).tolist() == [True, True, False, False, False]


@pytest.mark.filterwarnings("error")
def test_a_text_that_tells_nothing_gives_zeros():
    assert np.array_equal(ppmi_svd([0] * 50, size=10, dimensions=5), np.zeros((10, 5)))


@pytest.mark.parametrize("method", [ppmi_svd, word2vec])
def test_baselines_take_numpy_numbers(method):
    numbers = dict(size=21, dimensions=4, window=1, seed=3)
    given = {name: np.int64(value) for name, value in numbers.items()}
    assert np.array_equal(method(toy_text(), **numbers), method(toy_text(), **given))


@pytest.mark.parametrize("method", [ppmi_svd, word2vec])
def test_baselines_find_the_classes_of_a_toy_text(method):
    vectors = method(toy_text(), size=21, dimensions=4, window=1)
    assert vectors.shape == (21, 4)  # the 21st word never occurs
    assert np.allclose(vectors[20], 0)
    purity = neighbour_purity(
        vectors[:20], {"a": range(10), "b": range(10, 20)}, k=5, metric="cosine"
    )
    assert min(purity.values()) > 0.9
    assert np.array_equal(
        vectors, method(toy_text(), size=21, dimensions=4, window=1)
    )  # repeatable
    shuffled = np.random.default_rng(1).permutation(toy_text())
    control = neighbour_purity(
        method(shuffled, size=21, dimensions=4)[:20],
        {"a": range(10), "b": range(10, 20)},
        metric="cosine",
    )
    assert np.mean(list(control.values())) < 0.75  # the order of the words is what they learn from


@pytest.mark.parametrize("method", [ppmi_svd, word2vec])
@pytest.mark.parametrize(
    "change, word",
    [
        (dict(size=5), "size = 5"),
        (dict(dimensions=0), "dimensions"),
        (dict(window=0), "window"),
        (dict(ids=[1]), "ids"),
        (dict(ids=[1.5, 2.0]), "ids"),
        (dict(ids=[math.nan, 1]), "ids"),
        (dict(ids=[True, False]), "ids"),
        (dict(ids=[-1, 2]), "ids"),
        (dict(ids=[]), "ids"),
        (dict(size=True), "size"),
        (dict(size=20.0), "size"),
        (dict(window=1.0), "window"),
        (dict(dimensions=True), "dimensions"),
        (dict(dimensions=20), "size - 1 = 19"),
        (dict(ids=["0", "1"]), "ids"),
        (dict(seed=0.5), "seed must be an integer, got 0.5"),
    ],
)
def test_baselines_reject_bad_input(method, change, word):
    arguments = dict(ids=toy_text(200), size=20, dimensions=4, window=1) | change
    with pytest.raises(ValueError, match=word):
        method(arguments.pop("ids"), **arguments)


@pytest.mark.parametrize("epochs", [0, True, 1.5])
def test_word2vec_rejects_no_epochs(epochs):
    with pytest.raises(ValueError, match="^epochs must be an integer"):
        word2vec(toy_text(200), size=20, dimensions=4, epochs=epochs)


def test_word2vec_takes_numpys_integers_and_tensors():
    ids, sizes = toy_text(200), dict(size=20, dimensions=4, window=2, epochs=2, seed=3)
    expected = word2vec(ids.tolist(), **sizes)
    found = word2vec(torch.tensor(ids), **{key: np.int64(value) for key, value in sizes.items()})
    assert np.array_equal(found, expected)


def test_isotropy_of_known_spectra():
    q = orthogonal_columns()
    assert isotropy(q) == pytest.approx(1, rel=1e-6)
    assert isotropy(q[:, :1] @ torch.ones(1, 8, dtype=q.dtype)) == pytest.approx(1 / 8, rel=1e-6)
    assert isotropy(q * (torch.arange(8) < 2)) == pytest.approx(2 / 8, rel=1e-6)
    scales = torch.tensor([4.0, 2, 1, 1], dtype=q.dtype)
    assert isotropy(q[:, :4] * scales) == pytest.approx(
        float(22**2 / (4 * (256 + 16 + 1 + 1))), rel=1e-6
    )


@pytest.mark.parametrize("scale", [2.0**-990, 1e-200, 1e-100, 1e-20, 1e20, 1e100, 1e200, 1e307])
def test_no_scale_is_too_small_or_too_large(scale):
    x = orthogonal_columns() * torch.tensor([4.0, 2, 1, 1, 0.5, 1, 3, 2], dtype=torch.float64)
    assert isotropy(x * scale) == pytest.approx(isotropy(x), rel=1e-12)
    assert effective_rank(x * scale) == pytest.approx(effective_rank(x), rel=1e-12)
    plain, found = collapse_report(x), collapse_report(x * scale)
    assert found.std == pytest.approx(plain.std * scale, rel=1e-12)
    assert found.min_std == pytest.approx(plain.min_std * scale, rel=1e-12)
    if scale < 1:  # a point, to SIGReg
        assert found.sigreg == pytest.approx(0.409 * len(x), rel=2e-3)
    else:  # phases are as good as drawn at random, from some scale on
        assert found.sigreg == pytest.approx(collapse_report(x * 1e6).sigreg, rel=0.05)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int64])
def test_collapse_is_measured_on_numbers_of_any_kind(kind):
    x = torch.tensor([[3, 0], [-3, 0], [0, 1], [0, -1]]).to(kind)
    assert isotropy(x) == pytest.approx((18 + 2) ** 2 / (2 * (18**2 + 2**2)))
    plain = collapse_report(x.double(), num_slices=4, seed=3)
    assert collapse_report(x, num_slices=np.int64(4), seed=np.int64(3)) == plain


@pytest.mark.parametrize("count", [0, True, 2.0])
def test_slices_are_counted_in_integers(count):
    with pytest.raises(ValueError, match="^num_slices must be an integer"):
        collapse_report(torch.randn(5, 2), num_slices=count)


def test_isotropy_of_a_round_cloud_is_about_one():
    gaussian = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    assert 0.99 < isotropy(gaussian) < 1
    ring = torch.nn.functional.normalize(gaussian[:, :2], dim=1)
    assert isotropy(ring) > 0.99  # blind to shape


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_isotropy_of_equal_points_is_zero(value):
    assert isotropy(torch.full((50, 8), value)) == 0


def test_isotropy_is_blind_to_scale_place_and_rotation():
    x = torch.randn(
        100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ) * torch.tensor([3.0, 1, 1, 0.5])
    turn = torch.linalg.qr(
        torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )[0]
    for same in (x * 1e-9, x * 1e9, x + 100, x @ turn, x.flip(0)):
        assert isotropy(same) == pytest.approx(isotropy(x), rel=1e-6)
    assert isotropy(x * torch.tensor([1.0, 3, 3, 6])) > isotropy(x) + 0.3


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(5), torch.zeros(1, 5), torch.full((5, 2), math.nan), [[1.0]], torch.zeros(0, 3)],
)
def test_isotropy_rejects_bad_input(bad):
    with pytest.raises(ValueError, match="embeddings"):
        isotropy(bad)
