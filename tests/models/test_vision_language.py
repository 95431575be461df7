"""Predictors over images and text."""

import pytest
import torch

from jepa_utils.models.vision_language import (
    CausalQueryPredictor,
    CrossPredictor,
    ImageHead,
    QueryPredictor,
)

GRID, D, E = (8, 8), 12, 10


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def cross():
    torch.manual_seed(0)
    return CrossPredictor(D, E, GRID, width=24, layers=2, heads=3)


@pytest.fixture
def asking():
    torch.manual_seed(0)
    return QueryPredictor(D, GRID, 7, vocabulary=20, width=24, layers=2, heads=3, dropout=0.0)


def words(draw, rows=3, length=5):
    visible = torch.ones(rows, length, dtype=torch.bool)
    visible[0, 3:] = False
    return torch.randn(rows, length, E, generator=draw), visible


def places(rows=3):
    order = torch.stack(
        [torch.randperm(64, generator=torch.Generator().manual_seed(row)) for row in range(rows)]
    )
    return order[:, :20], order[:, 20:26]


# ---- an embedding from the tokens of an image


def test_image_head_knows_where_a_token_stands(draw):
    head, tokens = (
        ImageHead(64, D, width=3, hidden=20, embedding=7),
        torch.randn(5, 64, D, generator=draw),
    )
    embeddings = head(tokens)
    assert embeddings.shape == (5, 7)
    exchanged = tokens[:, [1, 0, *range(2, 64)]]
    assert (head(exchanged) - embeddings).abs().amax(dim=1).min() > 1e-5
    torch.testing.assert_close(head(tokens[:1]), embeddings[:1])  # each image for itself


def test_image_head_drops_only_while_it_trains(draw):
    head, tokens = ImageHead(64, D, dropout=0.5), torch.randn(2, 64, D, generator=draw)
    assert not torch.equal(head(tokens), head(tokens))
    head.eval()
    assert torch.equal(head(tokens), head(tokens))
    still = ImageHead(64, D)  # by default nothing is dropped
    assert torch.equal(still(tokens), still(tokens))


@pytest.mark.parametrize("name", ["places", "dimensions", "width", "hidden", "embedding"])
def test_sizes_of_image_head_out_of_range(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        ImageHead(**dict(places=64, dimensions=D) | {name: 0})


# ---- hidden tokens from visible ones and a text


def test_cross_predictor_answers_each_place_it_is_asked_for(cross, draw):
    seen, wanted = places()
    context = torch.randn(3, 20, D, generator=draw)
    text = words(draw)
    answers = cross(context, seen, wanted, *text)
    assert answers.shape == (3, 6, D)
    back = torch.tensor([5, 4, 3, 2, 1, 0])
    torch.testing.assert_close(cross(context, seen, wanted[:, back], *text), answers[:, back])
    assert (answers[:, 0] - answers[:, 1]).abs().max() > 1e-3  # places differ


def test_words_matter_to_cross_predictor_and_missing_ones_do_not(cross, draw):
    seen, wanted = places()
    context, (vectors, visible) = torch.randn(3, 20, D, generator=draw), words(draw)
    answers = cross(context, seen, wanted, vectors, visible)
    other = vectors.clone()
    other[0, 3:] += 100  # not visible
    torch.testing.assert_close(cross(context, seen, wanted, other, visible), answers)
    other[0, 0] += 1
    changed = cross(context, seen, wanted, other, visible)
    assert (changed[0] - answers[0]).abs().max() > 1e-4
    torch.testing.assert_close(changed[1:], answers[1:])  # other rows have texts of their own


def test_cross_predictor_sees_the_context_from_every_place(cross, draw):
    seen, wanted = places()
    context = torch.randn(3, 20, D, generator=draw).requires_grad_()
    cross(context, seen, wanted, *words(draw))[:, 0].sum().backward()
    assert (context.grad.abs().sum(dim=2) > 0).all()


def test_cross_predictor_without_text_has_a_vector_for_that(cross, draw):
    seen, wanted = places()
    cross(torch.randn(3, 20, D, generator=draw), seen, wanted).sum().backward()
    assert cross.no_text.grad.abs().sum() > 0 and cross.read_words.weight.grad is None


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(context=torch.zeros(3, 19, D)), "context must be"),
        (dict(context=torch.zeros(3, 20, D + 1)), "context must be"),
        (dict(wanted=torch.zeros(2, 6, dtype=torch.int64)), "wanted"),
        (dict(words=None), "together"),
        (dict(visible=None), "together"),
        (dict(words=torch.zeros(2, 5, E)), "3 rows"),
        (dict(visible=torch.ones(3, 4, dtype=torch.bool)), "as long"),
        (dict(visible=torch.ones(3, 5)), "of bool"),
        (dict(visible=torch.zeros(3, 5, dtype=torch.bool)), "at least one word"),
    ],
)
def test_cross_predictor_refuses_what_does_not_fit(cross, draw, change, message):
    seen, wanted = places()
    vectors, visible = words(draw)
    arguments = dict(
        context=torch.zeros(3, 20, D), seen=seen, wanted=wanted, words=vectors, visible=visible
    )
    with pytest.raises(ValueError, match=message):
        cross(**arguments | change)


# ---- the embedding of a text from an image and a question


def question(rows=3):
    visible = torch.ones(rows, 4, dtype=torch.bool)
    visible[0, 2:] = False
    return torch.randint(20, (rows, 4), generator=torch.Generator().manual_seed(1)), visible


def test_query_predictor_hears_the_question_and_no_padding(asking, draw):
    tokens, (ids, visible) = torch.randn(3, 64, D, generator=draw), question()
    answers = asking(tokens, ids, visible)
    assert answers.shape == (3, 7)
    other = ids.clone()
    other[0, 2:] = (ids[0, 2:] + 1) % 20  # padding
    torch.testing.assert_close(asking(tokens, other, visible), answers)
    short = asking(tokens[:1], ids[:1, :2], visible[:1, :2])
    torch.testing.assert_close(short, answers[:1])
    other[0, 0] = (ids[0, 0] + 1) % 20
    assert (asking(tokens, other, visible)[0] - answers[0]).abs().max() > 1e-4
    assert (asking(tokens) - answers).abs().max() > 1e-4  # no question at all


def test_query_predictor_knows_where_a_token_stands(asking, draw):
    tokens = torch.randn(2, 64, D, generator=draw)
    assert (asking(tokens.flip(1)) - asking(tokens)).abs().max() > 1e-4


@pytest.mark.parametrize(
    "tokens, ids, visible, message",
    [
        (torch.zeros(3, 63, D), None, None, "tokens must have shape"),
        (torch.zeros(64, D), None, None, "tokens must have shape"),
        (torch.zeros(3, 64, D + 1), None, None, "tokens must have shape"),
        (torch.zeros(3, 64, D), question()[0], None, "ids and visible must be given together"),
        (torch.zeros(3, 64, D), None, question()[1], "ids and visible must be given together"),
        (torch.zeros(2, 64, D), *question(), "ids must be given for 2 rows"),
    ],
)
def test_query_predictor_refuses_what_does_not_fit(asking, tokens, ids, visible, message):
    with pytest.raises(ValueError, match=message):
        asking(tokens, ids, visible)


def test_predictor_without_vocabulary_takes_no_question():
    silent = QueryPredictor(D, GRID, 7, width=24, heads=3)
    assert silent(torch.zeros(2, 64, D)).shape == (2, 7)
    with pytest.raises(ValueError, match="vocabulary=0"):
        silent(torch.zeros(3, 64, D), *question())


def in_order(kind):
    torch.manual_seed(0)
    sizes = dict(vocabulary=20, places=6, width=24, layers=2, heads=3, dropout=0.0)
    return kind(D, GRID, 7, **sizes)


def test_the_order_of_words_is_seen_where_they_have_places(asking, draw):
    tokens, (ids, visible) = torch.randn(3, 64, D, generator=draw), question()
    turned = ids.clone()
    turned[1:] = ids[1:].flip(1)
    torch.testing.assert_close(asking(tokens, turned, visible), asking(tokens, ids, visible))
    for kind in (QueryPredictor, CausalQueryPredictor):
        predictor = in_order(kind)
        away = (predictor(tokens, turned, visible) - predictor(tokens, ids, visible)).abs()
        assert away[0].max() == 0 and away[1:].amax(dim=1).min() > 1e-4


def test_a_predictor_takes_no_more_words_than_it_has_places():
    predictor, long = in_order(QueryPredictor), torch.ones(2, 7, dtype=torch.int64)
    with pytest.raises(ValueError, match="ids must have at most places = 6 columns, got 7"):
        predictor(torch.zeros(2, 64, D), long, long.bool())
    with pytest.raises(ValueError, match="places must be 0 for a predictor with vocabulary=0"):
        QueryPredictor(D, GRID, 7, places=6)


# ---- the same with causal attention


def test_a_causal_predictor_has_the_same_parameters_and_another_answer(draw):
    both, causal = in_order(QueryPredictor), in_order(CausalQueryPredictor)
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
    answers = predictor(tokens)  # without a question: from the last visual token
    torch.testing.assert_close(answers, predictor.write(states[-1][:, -1]))


@pytest.mark.parametrize(
    "change",
    [
        dict(layers=0),
        dict(heads=0),
        dict(heads=5),
        dict(width=22),
        dict(embedding=0),
        dict(dimensions=0),
    ],
)
def test_sizes_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        QueryPredictor(**dict(dimensions=D, grid=GRID, embedding=7, width=24, heads=3) | change)


@pytest.mark.parametrize("change", [dict(layers=0), dict(heads=5), dict(word_dimensions=0)])
def test_sizes_of_cross_predictor_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CrossPredictor(
            **dict(dimensions=D, word_dimensions=E, grid=GRID, width=24, heads=3) | change
        )


def test_negative_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocabulary must be an integer of at least 0, got -1"):
        QueryPredictor(D, GRID, 7, vocabulary=-1)
