"""Predictors over images and text, and the batches and rules that train them."""

import pytest
import torch
from torch import nn

from jepa_utils import JEPA, InfoNCE, TextDecoder, TextEncoder, fit, info_nce, multiblock_masks
from jepa_utils.models.vision_language import CrossPredictor, QueryPredictor
from jepa_utils.training.captions import CaptionDataModule, CaptionTraining, TokenJEPA

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
    order = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(row)) for row in range(rows)])
    return order[:, :20], order[:, 20:26]


# ---- hidden tokens from visible ones and a text --------------------------------------------------------------------------


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
    arguments = dict(context=torch.zeros(3, 20, D), seen=seen, wanted=wanted, words=vectors, visible=visible)
    with pytest.raises(ValueError, match=message):
        cross(**arguments | change)


# ---- the embedding of a text from an image and a question ----------------------------------------------------------------


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


@pytest.mark.parametrize("change", [dict(layers=0), dict(heads=0), dict(heads=5), dict(width=22), dict(embedding=0), dict(dimensions=0)])
def test_sizes_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        QueryPredictor(**dict(dimensions=D, grid=GRID, embedding=7, width=24, heads=3) | change)


@pytest.mark.parametrize("change", [dict(layers=0), dict(heads=5), dict(word_dimensions=0)])
def test_sizes_of_cross_predictor_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CrossPredictor(**dict(dimensions=D, word_dimensions=E, grid=GRID, width=24, heads=3) | change)


def test_negative_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocabulary must be 0 or more, got -1"):
        QueryPredictor(D, GRID, 7, vocabulary=-1)


# ---- batches -------------------------------------------------------------------------------------------------------------


def captioned(number=50, captions=3, length=6):
    """Captions that say which image they belong to, and which of its captions they are."""
    ids = torch.arange(number).view(-1, 1, 1) * 10 + torch.arange(captions).view(-1, 1)
    ids = ids.expand(-1, -1, length).clone()
    return torch.arange(number, dtype=torch.float16).view(-1, 1, 1).expand(-1, 4, D), (ids, torch.ones_like(ids, dtype=torch.bool))


def test_every_image_comes_once_an_epoch_with_one_of_its_own_captions():
    tokens, captions = captioned()
    questions = (captions[0] + 5, captions[1])
    data = CaptionDataModule(tokens, captions, questions=questions, groups=torch.arange(50) % 7, batch_size=10)
    rows, chosen = [], []
    for (x, asked, shown), (ids, visible), groups in data.batches(0):
        assert x.dtype == torch.float32 and shown.all() and visible.all()
        row = x[:, 0, 0].long()
        assert torch.equal(ids[:, 0] // 10, row) and torch.equal(asked, ids + 5) and torch.equal(groups, row % 7)
        rows.append(row)
        chosen.append(ids[:, 0] % 10)
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(50))
    assert len(torch.cat(chosen).unique()) == 3


def test_batches_depend_on_seed_and_epoch_alone():
    tokens, captions = captioned()

    def drawn(seed, epoch):
        torch.rand(3)
        return torch.cat([ids[:, 0] for _, (ids, _) in CaptionDataModule(tokens, captions, batch_size=20, seed=seed).batches(epoch)])

    assert len(drawn(0, 0)) == 40  # the incomplete batch is left out
    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 0), drawn(0, 1)) and not torch.equal(drawn(0, 0), drawn(1, 0))


def test_the_loader_draws_nothing_from_torchs_own_generator():
    data = CaptionDataModule(*captioned(), batch_size=20)
    before = torch.get_rng_state()
    assert len(list(data.train_dataloader())) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_bytes_stay_bytes():
    _, captions = captioned(4)
    ((x,), _), *_ = CaptionDataModule(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), captions, batch_size=2).batches(0)
    assert x.dtype == torch.uint8


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(tokens=torch.zeros(49, 4, D)), "captions must be"),
        (dict(questions=captioned(49)[1]), "questions must be"),
        (dict(questions=captioned(captions=2)[1]), "questions must be 3"),
        (dict(groups=torch.zeros(49)), "groups must have shape"),
        (dict(batch_size=51), "batch_size must be between 1 and"),
        (dict(batch_size=0), "batch_size must be between 1 and"),
    ],
)
def test_batches_that_do_not_fit(change, message):
    tokens, captions = captioned()
    with pytest.raises(ValueError, match=message):
        CaptionDataModule(**dict(tokens=tokens, captions=captions, batch_size=10) | change)


# ---- training ------------------------------------------------------------------------------------------------------------


def test_groups_reach_the_objective_as_positives():
    torch.manual_seed(0)
    encoder = TextEncoder(30, dimensions=8, layers=0, dropout=0.0)
    reader = nn.Sequential(nn.Flatten(), nn.Linear(4 * D, 8))
    module = JEPA(reader, nn.Identity(), target_encoder=encoder, objective=InfoNCE())
    tokens, (ids, visible) = torch.randn(6, 4, D), (torch.randint(30, (6, 5)), torch.ones(6, 5, dtype=torch.bool))
    groups = torch.tensor([0, 0, 1, 2, 1, 3])
    loss = module.training_step(((tokens,), (ids, visible), groups), 0)["loss"]
    same = groups.unsqueeze(1) == groups
    torch.testing.assert_close(loss, info_nce(reader(tokens), encoder(ids, visible), positives=same))
    alone = module.training_step(((tokens,), (ids, visible)), 0)["loss"]
    torch.testing.assert_close(alone, info_nce(reader(tokens), encoder(ids, visible)))


def colours(number=200):
    """Images whose tokens are one of four vectors, and whose caption is its number."""
    draw = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (number,), generator=draw)
    tokens = torch.randn(4, 1, D, generator=draw)[kinds].expand(-1, 64, -1) + 0.1 * torch.randn(number, 64, D, generator=draw)
    return tokens, (kinds.view(-1, 1, 1) + 1, torch.ones(number, 1, 1, dtype=torch.bool)), kinds


@pytest.mark.parametrize("text, better", [("own", True), ("shuffled", False), ("none", False)])
def test_text_helps_where_only_it_knows(text, better):
    """All tokens of an image but its hidden ones are noise, and the hidden ones are told by the caption alone."""
    tokens, captions, kinds = colours()
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    masks = multiblock_masks(1, GRID, generator=torch.Generator().manual_seed(2))
    hidden = masks.targets.flatten()
    mixed = noise.clone()
    mixed[:, hidden] = tokens[:, hidden]

    def one_mask(batch, grid):
        return type(masks)(masks.context.expand(batch, -1), masks.targets.expand(batch, -1, -1))

    torch.manual_seed(0)
    module = TokenJEPA(
        CrossPredictor(D, E, GRID, width=24, layers=1), nn.Embedding(6, E), masks=one_mask,
        objective=nn.functional.mse_loss, text=text, learning_rate=3e-3,
    )  # fmt: skip
    history = fit(module, CaptionDataModule(mixed, captions, batch_size=50), epochs=15, seed=0, progress=False)
    assert (history.losses["loss"][-1] < 0.3) is better


def test_caption_training_learns_to_write_and_scores_captions():
    tokens, _, kinds = colours()
    ids = torch.stack([kinds + 1, 5 - kinds, torch.zeros_like(kinds)], dim=1)  # the third is padding
    visible = torch.tensor([True, True, False]).expand_as(ids)
    torch.manual_seed(0)
    reader = QueryPredictor(D, GRID, 8, width=24, heads=3)
    module = CaptionTraining(reader, TextDecoder(6, embedding=8, dimensions=16), learning_rate=1e-2)
    history = fit(module, CaptionDataModule(tokens, (ids.unsqueeze(1), visible.unsqueeze(1)), batch_size=50), epochs=15, seed=0, progress=False)
    assert history.losses["loss"][0] > 0.5 > 0.1 > history.losses["loss"][-1]
    module.eval()
    told = reader(tokens[:20]).detach()
    right, wrong = (module.log_likelihood(told, ids[:20].roll(0 if own else 1, 0), visible[:20]) for own in (True, False))
    differ = kinds[:20] != kinds[:20].roll(1, 0)
    assert (right[differ] > wrong[differ]).all() and differ.any()
    padded = torch.cat([ids[:20], torch.full((20, 2), 3)], dim=1), torch.cat([visible[:20], torch.zeros(20, 2, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(module.log_likelihood(told, *padded), right)


@pytest.mark.parametrize("change, message", [(dict(text="all"), "text must be"), (dict(learning_rate=0), "learning_rate must be")])
def test_token_training_refuses_bad_settings(cross, change, message):
    arguments = dict(masks=multiblock_masks, objective=nn.functional.mse_loss)
    with pytest.raises(ValueError, match=message):
        TokenJEPA(cross, nn.Embedding(6, E), **arguments | change)


def test_caption_training_refuses_a_learning_rate_of_zero():
    with pytest.raises(ValueError, match="learning_rate must be positive, got 0"):
        CaptionTraining(nn.Identity(), TextDecoder(6, embedding=8), learning_rate=0)


def test_interrupted_training_ends_with_the_same_weights(tmp_path):
    tokens, captions, _ = colours()

    def train(file, stop=None):
        torch.manual_seed(0)
        words = TextEncoder(6, dimensions=8, layers=0, dropout=0.1)
        module, calls = JEPA(QueryPredictor(D, GRID, 8, width=24, heads=3), nn.Identity(), target_encoder=words, objective=InfoNCE()), []

        def monitor():
            calls.append(0)
            if len(calls) == stop:
                raise InterruptedError
            return {}

        fit(module, CaptionDataModule(tokens, captions, batch_size=50), epochs=3, seed=0, monitor=monitor, checkpoint=file, progress=False)
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    whole = train(tmp_path / "whole.ckpt")
    with pytest.raises(InterruptedError):
        train(tmp_path / "part.ckpt", stop=3)
    assert (tmp_path / "part.ckpt").exists()
    assert torch.equal(train(tmp_path / "part.ckpt"), whole)
