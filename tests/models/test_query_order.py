"""Predictors that see the order of a question's words."""

import pytest
import torch

from jepa_utils.models.query_order import CausalQueryPredictor, OrderedQueryPredictor
from jepa_utils.models.vision_language import QueryPredictor

GRID, D = (8, 8), 12


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def question(rows=3):
    visible = torch.ones(rows, 4, dtype=torch.bool)
    visible[0, 2:] = False
    return torch.randint(20, (rows, 4), generator=torch.Generator().manual_seed(1)), visible


def in_order(kind):
    torch.manual_seed(0)
    sizes = dict(vocabulary=20, places=6, width=24, layers=2, heads=3, dropout=0.0)
    return kind(D, GRID, 7, **sizes)


def test_the_order_of_words_is_seen_where_they_have_places(draw):
    torch.manual_seed(0)
    asking = QueryPredictor(D, GRID, 7, vocabulary=20, width=24, layers=2, heads=3, dropout=0.0)
    tokens, (ids, visible) = torch.randn(3, 64, D, generator=draw), question()
    turned = ids.clone()
    turned[1:] = ids[1:].flip(1)
    torch.testing.assert_close(asking(tokens, turned, visible), asking(tokens, ids, visible))
    for kind in (OrderedQueryPredictor, CausalQueryPredictor):
        predictor = in_order(kind)
        away = (predictor(tokens, turned, visible) - predictor(tokens, ids, visible)).abs()
        assert away[0].max() == 0 and away[1:].amax(dim=1).min() > 1e-4


def test_a_predictor_takes_no_more_words_than_it_has_places():
    predictor, long = in_order(OrderedQueryPredictor), torch.ones(2, 7, dtype=torch.int64)
    with pytest.raises(ValueError, match="ids must have at most places = 6 columns, got 7"):
        predictor(torch.zeros(2, 64, D), long, long.bool())
    for name in ("places", "vocabulary"):
        with pytest.raises(ValueError, match=name):
            OrderedQueryPredictor(D, GRID, 7, **(dict(vocabulary=20, places=6) | {name: 0}))


# ---- the same with causal attention


def test_a_causal_predictor_has_the_same_parameters_and_another_answer(draw):
    both, causal = in_order(OrderedQueryPredictor), in_order(CausalQueryPredictor)
    assert all(map(torch.equal, both.state_dict().values(), causal.state_dict().values()))
    tokens, words = torch.randn(3, 64, D, generator=draw), question()
    assert (both(tokens, *words) - causal(tokens, *words)).abs().amax(dim=1).min() > 1e-3


def test_a_causal_predictor_reads_from_the_last_word_which_sees_all(draw):
    predictor = in_order(CausalQueryPredictor)
    tokens = torch.randn(3, 64, D, generator=draw).requires_grad_()
    ids, visible = question()
    answers = predictor(tokens, ids, visible)
    answers.sum().backward()
    assert (tokens.grad.abs().sum(dim=2) > 0).all()
    other = ids.clone()
    other[0, 2:] = (ids[0, 2:] + 1) % 20  # padding
    torch.testing.assert_close(predictor(tokens, other, visible), answers)
    other[0, 0] = (ids[0, 0] + 1) % 20
    assert (predictor(tokens, other, visible)[0] - answers[0]).abs().max() > 1e-4


def test_what_comes_before_does_not_see_what_comes_after(draw):
    predictor, states = in_order(CausalQueryPredictor), []
    predictor.layers[-1].register_forward_hook(lambda *parts: states.append(parts[2]))
    tokens, (ids, visible) = torch.randn(3, 64, D, generator=draw), question()
    predictor(tokens, ids, visible)
    changed = tokens.clone()
    changed[:, 40, 0] += 1
    predictor(changed, (ids + 1) % 20, visible)
    away = (states[0] - states[1]).abs().amax(dim=2)
    assert away[:, :40].max() < 1e-6 and away[:, 40:64].min() > 1e-4
    with pytest.raises(ValueError, match="visible must show a word of each of 3 questions"):
        predictor(tokens, ids, torch.zeros_like(visible))
