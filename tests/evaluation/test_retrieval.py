"""Recall against cases counted by hand, against chance, and with ties."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from jepa_utils.evaluation import retrieval
from jepa_utils.evaluation.retrieval import label_precision, recall_at_k

# Similarities to the four keys can be read off a query; the right ones lie on the diagonal: at rank
# 1, 2, 4, 1.
QUERIES = torch.tensor([[9.0, 1, 2, 3], [8, 7, 1, 2], [5, 4, 1, 3], [0, 0, 0, 1]])


def random(n, seed):
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


def test_counted_by_hand():
    assert recall_at_k(QUERIES, torch.eye(4), ks=(1, 2, 3, 4)) == {1: 0.5, 2: 0.75, 3: 0.75, 4: 1.0}


def test_queries_look_among_keys_and_not_the_other_way_round():
    queries = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    keys = torch.tensor([[1.0, 0], [2, 1], [0, 1]])
    # cosines: [1, .89, 0], [0, .45, 1], [.71, .95, .71]: ranks 1, 2, and 2 tied with 3
    assert recall_at_k(queries, keys, ks=(1, 2, 3)) == pytest.approx({1: 1 / 3, 2: 2.5 / 3, 3: 1.0})
    # columns: [1, 0, .71], [.89, .45, .95], [0, 1, .71]: ranks 1, 3, 2
    assert recall_at_k(keys, queries, ks=(1, 2, 3)) == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 1.0})


def test_looks_at_1_5_and_10_by_default():
    assert recall_at_k(random(20, 0), random(20, 0)) == {1: 1.0, 5: 1.0, 10: 1.0}


def test_random_embeddings_are_found_by_chance():
    recall = recall_at_k(random(1000, 0), random(1000, 1), ks=(10, 100, 500))
    for k, value in recall.items():
        chance = k / 1000
        assert value == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 1000) ** 0.5)


@pytest.mark.parametrize("n", [3, 7, 64])
@pytest.mark.parametrize(
    "row", [torch.zeros(16), torch.ones(16), random(1, 2)[0]], ids=["zeros", "ones", "random"]
)
def test_a_collapsed_encoder_scores_k_of_n(row, n):
    same = row.expand(n, 16)
    assert recall_at_k(same, same * 3, ks=(1, 2, n)) == pytest.approx(
        {1: 1 / n, 2: 2 / n, n: 1.0}, rel=1e-6
    )


def test_ties_count_with_the_chance_that_a_random_order_puts_the_right_one_first():
    queries = torch.tensor([[3.0, 1, 2, 0]]).expand(5, 4)
    keys = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 1, 0], [0, 1, 0, 0]])
    # every query wants: first the second key, then the first, third and fourth in any order, then
    # the last
    assert recall_at_k(queries, keys, ks=(1, 2, 3, 4, 5)) == pytest.approx(
        {k: k / 5 for k in (1, 2, 3, 4, 5)}, rel=1e-6
    )
    queries = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    keys = torch.tensor([[1.0, 0], [1, 0], [-1, 0]])
    # one of two alike; all three at a right angle; found
    expected = {1: (1 / 2 + 1 / 3 + 1) / 3, 2: (1 + 2 / 3 + 1) / 3, 3: 1.0}
    assert recall_at_k(queries, keys, ks=(1, 2, 3)) == pytest.approx(expected, rel=1e-6)


def test_a_nearly_right_answer_is_no_tie():
    queries = torch.tensor([[1.0, 0], [0, 1]])
    keys = torch.tensor(
        [[1.0, 1e-4], [1, 0]]
    )  # cosines with the first query: 1 - 5e-9, less than float32 can tell, and 1
    assert recall_at_k(queries, keys, ks=(1, 2)) == {1: 0.0, 2: 1.0}


def test_rounding_breaks_no_tie():
    # the same direction at many lengths: normalised, the copies differ in their last digits
    same = random(1, 2) * torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None]
    assert len((same / same.norm(dim=1, keepdim=True)).unique(dim=0)) > 1
    assert recall_at_k(same, same.flip(0), ks=(1, 20)) == pytest.approx(
        {1: 1 / 200, 20: 0.1}, rel=1e-6
    )


def test_lengths_do_not_matter():
    queries, keys = random(50, 0), random(50, 0) + random(50, 1)
    scale = torch.logspace(-3, 3, 50)[:, None]
    expected = recall_at_k(queries, keys)
    assert 0.3 < expected[1] < 1
    assert recall_at_k(queries * scale, keys * scale.flip(0)) == expected
    assert recall_at_k(-queries, keys)[1] < 0.1  # but signs do


@pytest.mark.parametrize("scale", [1e-300, 1e-45, 1e-20, 1e-7, 1e7, 1e20, 1e38, 1e300])
def test_no_scale_is_too_small_or_too_large(scale):
    kind = torch.float32 if 1e-46 < scale < 1e39 else torch.float64
    queries, keys = QUERIES.clamp(max=3).to(kind), torch.eye(4, dtype=kind)
    expected = recall_at_k(queries, keys, ks=(1, 2, 3, 4))
    for q, k in ((queries * scale, keys), (queries, keys * scale), (queries * scale, keys * scale)):
        assert q.isfinite().all() and (q != 0).sum() == (queries != 0).sum()
        assert recall_at_k(q, k, ks=(1, 2, 3, 4)) == expected
    own = random(50, 0).double() * (scale / 8 if scale > 1 else scale)
    assert recall_at_k(own, own, ks=(1,)) == {1: 1.0}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int64])
def test_numbers_of_any_kind(kind):
    same = (random(20, 0) * 100).to(kind)
    assert recall_at_k(same, same, ks=(1,)) == {1: 1.0}
    small = same[:, :1] * 0 + torch.tensor([6e-8, 0]).to(kind)  # the smallest of half precision
    assert recall_at_k(small, small, ks=(1,))[1] == pytest.approx(1 / 20)


def test_zeros_among_others_are_at_right_angles_to_all():
    queries = torch.tensor([[1.0, 0], [0, 0], [-1, 0]])
    keys = torch.tensor([[0.0, 0], [1, 0], [2, 0]])
    # first: behind two; zeros: one of three; last: behind the zeros, one of two
    expected = {1: 1 / 9, 2: (0 + 2 / 3 + 1 / 2) / 3, 3: 1.0}
    assert recall_at_k(queries, keys, ks=(1, 2, 3)) == pytest.approx(expected)


def test_numpys_integers_count():
    found = recall_at_k(QUERIES, torch.eye(4), ks=np.array([1, 2]))
    assert found == {1: 0.5, 2: 0.75} and all(type(k) is int for k in found)


# ---- several right keys


def by_captions(images, captions=5):
    """Which captions (columns, one image's after another's) belong to which image."""
    return torch.eye(images, dtype=torch.bool).repeat_interleave(captions, dim=1)


def test_the_best_right_key_counts():
    positives = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]).bool()
    # best right keys at rank 1, 3, 4, and at 2, 3 or 4 of which two are right: at 2 or 3
    found = recall_at_k(QUERIES, torch.eye(4), ks=(1, 2, 3, 4), positives=positives)
    assert found == pytest.approx({1: 1 / 4, 2: (1 + 2 / 3) / 4, 3: 3 / 4, 4: 1.0})


def test_images_and_captions_both_ways():
    images = torch.eye(3)
    captions = images.repeat_interleave(5, dim=0)
    captions[5:9] = images[0]  # four captions of the second image are as the first image
    captions[10:] = torch.tensor(
        [0.6, 0, 0.7]
    )  # those of the third are near it, and the first image next
    there = recall_at_k(images, captions, ks=(1, 5, 10), positives=by_captions(3))
    # the first image: 5 of its 9 best alike are right; the second and third find a right one at
    # once
    assert there == pytest.approx({1: (5 / 9 + 2) / 3, 5: (1 - 0 + 2) / 3, 10: 1.0})
    back = recall_at_k(captions, images, ks=(1, 2, 3), positives=by_captions(3).T)
    # 11 captions find their image at once, four look at right angles to it, tied with the third
    assert back == pytest.approx({1: 11 / 15, 2: (11 + 4 / 2) / 15, 3: 1.0})


def in_every_order(similarity, positives, k):
    hits = 0
    for order in permutations(range(len(similarity))):
        ranked = sorted(order, key=lambda j: -similarity[j])  # ties stay in the order drawn
        hits += any(positives[j] for j in ranked[:k])
    return hits / math.factorial(len(similarity))


def test_ties_count_as_the_mean_over_all_orders():
    m = 6
    g = torch.Generator().manual_seed(0)
    queries = torch.randint(
        -1, 2, (40, m), generator=g
    )  # similarities to the rows of the identity, many alike
    positives = torch.rand(40, m, generator=g) < 0.3
    positives[torch.arange(40), torch.randint(0, m, (40,), generator=g)] = True
    assert {1, 2, 3, 4} <= set(positives.sum(dim=1).tolist())
    found = {k: [] for k in range(1, m + 1)}
    for query, right in zip(queries, positives):
        recall = recall_at_k(query[None], torch.eye(m), ks=tuple(found), positives=right[None])
        for k in found:
            found[k].append(recall[k])
            assert recall[k] == pytest.approx(
                in_every_order(query.tolist(), right.tolist(), k), abs=1e-12
            )
    whole = recall_at_k(queries, torch.eye(m), ks=tuple(found), positives=positives)
    assert whole == pytest.approx({k: sum(values) / 40 for k, values in found.items()})


@pytest.mark.parametrize(
    "row", [torch.zeros(16), torch.ones(16), random(1, 2)[0]], ids=["zeros", "ones", "random"]
)
def test_a_collapsed_encoder_scores_chance_with_several_right_keys(row):
    positives = by_captions(3)
    draws = {k: list(combinations(range(15), k)) for k in (1, 2, 4)}
    chance = {
        k: sum(min(draw) < 5 for draw in all_draws) / len(all_draws)
        for k, all_draws in draws.items()
    }
    chance |= {10: 1 - 1 / math.comb(15, 10), 11: 1.0, 15: 1.0}  # ten are wrong
    captions = row * torch.linspace(1, 3, 15)[:, None]
    found = recall_at_k(row.expand(3, 16), captions, ks=tuple(chance), positives=positives)
    assert found == pytest.approx(chance, rel=1e-12)
    back = recall_at_k(captions, row.expand(3, 16), ks=(1, 2, 3), positives=positives.T)
    assert back == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 1.0}, rel=1e-12)


def test_a_collapsed_encoder_scores_chance_on_a_large_gallery():
    positives = torch.arange(1000)[:, None] == torch.arange(5000)[None] // 5
    found = recall_at_k(torch.ones(1000, 2), torch.ones(5000, 2), positives=positives)
    assert found == pytest.approx(
        {k: 1 - math.comb(4995, k) / math.comb(5000, k) for k in (1, 5, 10)}, rel=1e-9
    )
    positives[:, :3000] = True  # thousands of right keys
    found = recall_at_k(torch.ones(1000, 2), torch.ones(5000, 2), ks=(1, 2), positives=positives)
    several = positives.sum(dim=1).tolist()
    for k in (1, 2):
        expected = sum(1 - math.comb(5000 - r, k) / math.comb(5000, k) for r in several) / 1000
        assert found[k] == pytest.approx(expected, rel=1e-9)


def test_random_embeddings_are_found_by_chance_with_several_right_keys():
    found = recall_at_k(random(400, 0), random(2000, 1), ks=(40, 400), positives=by_captions(400))
    for k, value in found.items():
        chance = 1 - math.comb(1995, k) / math.comb(2000, k)
        assert value == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 400) ** 0.5)


def test_one_right_key_each_is_the_plain_recall():
    queries, keys = random(50, 0), random(50, 0) + random(50, 1)
    keys[20:30] = keys[20]
    expected = recall_at_k(queries, keys)
    assert recall_at_k(queries, keys, positives=torch.eye(50, dtype=torch.bool)) == expected
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    assert recall_at_k(
        queries, keys[order], positives=torch.eye(50, dtype=torch.bool)[:, order]
    ) == pytest.approx(expected)


def test_keys_that_nobody_wants_are_in_the_gallery():
    queries = torch.eye(3)
    positives = torch.eye(3, dtype=torch.bool)
    more = torch.cat([queries, queries[:1], random(5, 0)[:, :3]])
    wider = torch.cat([positives, torch.zeros(3, 6, dtype=torch.bool)], dim=1)
    assert recall_at_k(queries, more, ks=(1, 2), positives=wider) == pytest.approx(
        {1: 2.5 / 3, 2: 1.0}
    )


@pytest.mark.parametrize("chunk", [1, 35, 36, 10**6])
def test_many_chunks_equal_one(chunk, monkeypatch):
    images, captions = random(11, 0), random(33, 1) + random(11, 0).repeat_interleave(3, dim=0)
    captions[4:12] = captions[4]
    positives = by_captions(11, 3)
    sides = [(images, captions, positives), (captions, images, positives.T)]
    expected = [recall_at_k(q, k, ks=(1, 2, 5), positives=right) for q, k, right in sides]
    monkeypatch.setattr(retrieval, "_CHUNK", chunk)
    for (q, k, right), one in zip(sides, expected):
        assert recall_at_k(q, k, ks=(1, 2, 5), positives=right) == pytest.approx(one, rel=1e-12)


def test_no_gradient_is_kept_and_nothing_is_changed():
    queries = QUERIES.clone().requires_grad_()
    assert recall_at_k(queries, torch.eye(4), ks=(1,)) == {1: 0.5}
    assert torch.equal(queries, QUERIES)


@pytest.mark.parametrize(
    "queries, keys, ks, words",
    [
        (torch.ones(4), torch.ones(4), (1,), r"\(4,\)"),
        (torch.ones(4, 2), torch.ones(3, 2), (1,), r"\(4, 2\).*\(3, 2\)"),
        (torch.ones(4, 2), torch.ones(4, 3), (1,), r"\(4, 2\).*\(4, 3\)"),
        (torch.ones(0, 2), torch.ones(0, 2), (1,), r"\(0, 2\)"),
        (torch.full((4, 2), torch.nan), torch.ones(4, 2), (1,), "queries.*finite"),
        (torch.ones(4, 2), torch.full((4, 2), torch.inf), (1,), "keys.*finite"),
        (torch.ones(4, 2), torch.ones(4, 2), (), r"ks.*N = 4.*\(\)"),
        (torch.ones(4, 2), torch.ones(4, 2), (1, 5), r"ks.*N = 4, got 5"),
        (torch.ones(4, 2), torch.ones(4, 2), (0,), r"ks.*N = 4, got 0"),
        (torch.ones(4, 2), torch.ones(4, 2), (1, -1), r"ks.*N = 4, got -1"),
        (torch.ones(4, 2), torch.ones(4, 2), 2, r"ks.*N = 4, got 2"),
        (torch.ones(4, 2), torch.ones(4, 2), (1, True), r"ks.*integer.*got True"),
        (torch.ones(4, 2), torch.ones(4, 2), (1.0,), r"ks.*integer.*got 1.0"),
        (torch.ones(4, 2), torch.ones(4, 2), (math.nan,), r"ks.*integer.*got nan"),
        (torch.ones(4, 2), torch.ones(4, 2), ("1",), r"ks.*integer.*got '1'"),
        (torch.ones(4, 0), torch.ones(4, 0), (1,), r"\(4, 0\)"),
        ([[1.0, 2]], torch.ones(1, 2), (1,), "^queries must be a tensor, got list"),
        (torch.ones(1, 2), np.ones((1, 2)), (1,), "^keys must be a tensor, got ndarray"),
    ],
)
def test_bad_arguments(queries, keys, ks, words):
    with pytest.raises(ValueError, match=words):
        recall_at_k(queries, keys, ks=ks)


ROW = torch.ones(2, 5, dtype=torch.bool)
LONELY = ROW.clone()
LONELY[1] = False


@pytest.mark.parametrize(
    "queries, keys, ks, positives, words",
    [
        (
            torch.ones(2, 3),
            torch.ones(5, 4),
            (1,),
            ROW,
            r"shapes \(N, D\) and \(M, D\).*\(2, 3\) and \(5, 4\)",
        ),
        (torch.ones(2, 3), torch.ones(0, 3), (1,), ROW, r"\(0, 3\)"),
        (torch.ones(2, 3), torch.ones(5), (1,), ROW, r"\(5,\)"),
        (torch.ones(2, 3), torch.ones(5, 3), (6,), ROW, r"ks.*M = 5, got 6"),
        (torch.ones(2, 3), torch.ones(5, 3), (1,), ROW.T, r"positives.*\(2, 5\).*\(5, 2\)"),
        (torch.ones(2, 3), torch.ones(5, 3), (1,), ROW.float(), "positives.*boolean.*float32"),
        (torch.ones(2, 3), torch.ones(5, 3), (1,), [0, 1], "positives.*boolean.*list"),
        (
            torch.ones(2, 3),
            torch.ones(5, 3),
            (1,),
            LONELY,
            "positives.*every query, got one without",
        ),
    ],
)
def test_bad_arguments_with_several_right_keys(queries, keys, ks, positives, words):
    with pytest.raises(ValueError, match=words):
        recall_at_k(queries, keys, ks=ks, positives=positives)


# ---- neighbours with the same label

CLEAR = torch.cat([QUERIES[:3], torch.tensor([[0.0, 1, 2, 9]])])  # without ties
HALVES = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    "k, expected", [(1, 3 / 4), (2, 2.5 / 4), (3, (1 / 3 + 2 / 3 + 1 / 3 + 2 / 3) / 4), (4, 1 / 2)]
)
def test_precision_counted_by_hand(k, expected):
    # the nearest keys: 0, 3, 2, 1; 0, 1, 3, 2; 0, 1, 3, 2; 3, 2, 1, 0
    assert label_precision(CLEAR, torch.eye(4), HALVES, k=k) == pytest.approx(expected)
    names = torch.tensor([7, 7, -2, -2])  # numbers are names
    assert label_precision(CLEAR, torch.eye(4), names, k=k) == pytest.approx(expected)


def test_precision_is_of_the_keys_that_queries_find():
    queries = torch.tensor([[1.0, 0], [1, 0.1], [0, 1]])
    keys = torch.tensor([[0.0, 1], [1, 0], [1, 0.3]])
    labels = torch.tensor([0, 0, 1])
    # there: second, second, first key; back: third, first, second query
    assert label_precision(queries, keys, labels, k=1) == pytest.approx(2 / 3)
    assert label_precision(keys, queries, labels, k=1) == pytest.approx(1 / 3)


def test_precision_looks_at_ten_by_default_and_at_directions_alone():
    x, labels = random(40, 0), torch.arange(40) % 3
    ten = label_precision(x, x, labels)
    assert ten == label_precision(x, x, labels, k=10) != label_precision(x, x, labels, k=9)
    scale = torch.logspace(-3, 3, 40)[:, None]
    assert label_precision(x * scale, x * scale.flip(0), labels) == ten
    assert label_precision(x * 1e30, x * 1e-30, labels) == ten


def test_precision_without_others_of_a_label_is_one_of_k():
    x = random(20, 0)
    assert label_precision(x, x, torch.arange(20), k=1) == 1
    assert label_precision(x, x, torch.arange(20), k=20) == pytest.approx(1 / 20)
    assert label_precision(x, x, torch.zeros(20), k=20) == 1


def test_precision_keeps_no_gradient():
    queries = CLEAR.clone().requires_grad_()
    assert label_precision(queries, torch.eye(4), HALVES, k=1) == 3 / 4


@pytest.mark.parametrize(
    "queries, keys, labels, k, words",
    [
        (torch.ones(4), torch.ones(4), HALVES, 1, r"\(N, D\).*\(4,\), \(4,\) and \(4,\)"),
        (CLEAR, torch.eye(4)[:3], HALVES, 1, r"\(4, 4\), \(3, 4\)"),
        (CLEAR, torch.eye(4)[:, :3], HALVES, 1, r"\(4, 4\), \(4, 3\)"),
        (CLEAR, torch.eye(4), HALVES[:3], 1, r"and \(3,\)"),
        (CLEAR, torch.eye(4), HALVES[:, None], 1, r"and \(4, 1\)"),
        (CLEAR, torch.eye(4), HALVES, 0, "k must be an integer between 1 and N = 4, got 0"),
        (CLEAR, torch.eye(4), HALVES, 5, "k must.*N = 4, got 5"),
        (CLEAR, torch.eye(4), HALVES, 2.0, "k must be an integer.*got 2.0"),
        (CLEAR, torch.eye(4), HALVES, True, "k must be an integer.*got True"),
        (CLEAR * math.nan, torch.eye(4), HALVES, 1, "queries must be finite"),
        (CLEAR, torch.eye(4) / 0, HALVES, 1, "keys must be finite"),
    ],
)
def test_bad_arguments_of_precision(queries, keys, labels, k, words):
    with pytest.raises(ValueError, match=words):
        label_precision(queries, keys, labels, k=k)


def test_ten_neighbours_of_four_are_too_many():
    with pytest.raises(ValueError, match="k must.*N = 4, got 10"):
        label_precision(CLEAR, torch.eye(4), HALVES)
