"""Recall against cases counted by hand, against chance, and with ties."""

import pytest
import torch

from jepa_utils.evaluation.retrieval import recall_at_k

# Similarities to the four keys can be read off a query; the right ones lie on the diagonal: at rank 1, 2, 4, 1.
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
@pytest.mark.parametrize("row", [torch.zeros(16), torch.ones(16), random(1, 2)[0]], ids=["zeros", "ones", "random"])
def test_a_collapsed_encoder_scores_k_of_n(row, n):
    same = row.expand(n, 16)
    assert recall_at_k(same, same * 3, ks=(1, 2, n)) == pytest.approx({1: 1 / n, 2: 2 / n, n: 1.0}, rel=1e-6)


def test_ties_count_with_the_chance_that_a_random_order_puts_the_right_one_first():
    queries = torch.tensor([[3.0, 1, 2, 0]]).expand(5, 4)
    keys = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 1, 0], [0, 1, 0, 0]])
    # every query wants: first the second key, then the first, third and fourth in any order, then the last
    assert recall_at_k(queries, keys, ks=(1, 2, 3, 4, 5)) == pytest.approx({k: k / 5 for k in (1, 2, 3, 4, 5)}, rel=1e-6)
    queries = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    keys = torch.tensor([[1.0, 0], [1, 0], [-1, 0]])
    # one of two alike; all three at a right angle; found
    expected = {1: (1 / 2 + 1 / 3 + 1) / 3, 2: (1 + 2 / 3 + 1) / 3, 3: 1.0}
    assert recall_at_k(queries, keys, ks=(1, 2, 3)) == pytest.approx(expected, rel=1e-6)


def test_a_nearly_right_answer_is_no_tie():
    queries = torch.tensor([[1.0, 0], [0, 1]])
    keys = torch.tensor([[1.0, 1e-4], [1, 0]])  # cosines with the first query: 1 - 5e-9, less than float32 can tell, and 1
    assert recall_at_k(queries, keys, ks=(1, 2)) == {1: 0.0, 2: 1.0}


def test_rounding_breaks_no_tie():
    # the same direction at many lengths: normalised, the copies differ in their last digits
    same = random(1, 2) * torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None]
    assert len((same / same.norm(dim=1, keepdim=True)).unique(dim=0)) > 1
    assert recall_at_k(same, same.flip(0), ks=(1, 20)) == pytest.approx({1: 1 / 200, 20: 0.1}, rel=1e-6)


def test_lengths_do_not_matter():
    queries, keys = random(50, 0), random(50, 0) + random(50, 1)
    scale = torch.logspace(-3, 3, 50)[:, None]
    expected = recall_at_k(queries, keys)
    assert 0.3 < expected[1] < 1
    assert recall_at_k(queries * scale, keys * scale.flip(0)) == expected
    assert recall_at_k(-queries, keys)[1] < 0.1  # but signs do


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
        (torch.ones(4, 2), torch.ones(4, 2), (1, 5), r"ks.*N = 4.*\(1, 5\)"),
        (torch.ones(4, 2), torch.ones(4, 2), (0,), r"ks.*\(0,\)"),
    ],
)
def test_bad_arguments(queries, keys, ks, words):
    with pytest.raises(ValueError, match=words):
        recall_at_k(queries, keys, ks=ks)
