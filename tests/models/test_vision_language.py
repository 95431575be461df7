"""Predictors over images and text, and the tokens, batches and rules that train them."""

import pytest
import torch
from torch import nn

from jepa_utils import (
    JEPA,
    InfoNCE,
    SIGReg,
    TextDecoder,
    TextEncoder,
    ViT,
    fit,
    info_nce,
    multiblock_masks,
    normalize,
)
from jepa_utils.data.batches import CaptionDataModule
from jepa_utils.evaluation.encode import embed, frozen_tokens, photo_tokens
from jepa_utils.models.vision_language import CrossPredictor, ImageHead, QueryPredictor
from jepa_utils.training.baselines import CaptionTraining
from jepa_utils.training.jepa import TokenJEPA, train_pair

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
# ----------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ImageHead(**dict(places=64, dimensions=D) | {name: 0})


# ---- hidden tokens from visible ones and a text
# --------------------------------------------------------------------------


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
# ----------------------------------------------------------------


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
    with pytest.raises(ValueError, match="vocabulary must be 0 or more, got -1"):
        QueryPredictor(D, GRID, 7, vocabulary=-1)


# ---- frozen tokens
# -------------------------------------------------------------------------------------------------------


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return ViT(image_size=32, patch=8, dimensions=8, layers=1, heads=2).eval()  # a grid of 4x4


def pictures(draw, *shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=draw)


def test_frozen_tokens_are_the_encoders_output_in_half_precision(vit, draw):
    images = pictures(draw, 501, 3, 32, 32)  # more than are encoded at a time
    tokens = frozen_tokens(vit, images)
    assert tokens.dtype == torch.float16 and not tokens.requires_grad and not vit.training
    torch.testing.assert_close(tokens, vit(normalize(images)).half(), atol=2e-3, rtol=2e-3)


def test_tokens_of_a_photograph_are_those_of_its_quarters_row_by_row(vit, draw):
    photographs = pictures(draw, 3, 3, 64, 64)
    expected = torch.zeros(3, 4, 4, 8)
    for row in range(2):
        for column in range(2):
            quarter = photographs[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            grid = vit(normalize(quarter)).unflatten(1, (4, 4))
            for i in range(2):
                for j in range(2):
                    few = grid[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(1, 2))
                    expected[:, 2 * row + i, 2 * column + j] = few.detach()
    tokens = photo_tokens(vit, photographs)
    assert tokens.shape == (3, 16, 8) and tokens.dtype == torch.float16 and not vit.training
    torch.testing.assert_close(tokens, expected.flatten(1, 2).half(), atol=2e-3, rtol=2e-3)
    larger = photographs.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(photo_tokens(vit, larger), tokens, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "row, column, places",
    [(0, 0, [0, 1, 4, 5]), (0, 1, [2, 3, 6, 7]), (1, 0, [8, 9, 12, 13]), (1, 1, [10, 11, 14, 15])],
)
def test_a_bright_quarter_is_seen_by_its_own_tokens_alone(vit, row, column, places):
    photographs = torch.full((2, 3, 96, 96), 60, dtype=torch.uint8)
    photographs[1, :, 48 * row : 48 * row + 48, 48 * column : 48 * column + 48] = 250
    dark, bright = photo_tokens(vit, photographs).float()
    assert ((bright - dark).abs().amax(dim=1) > 0.01).nonzero().flatten().tolist() == places


@pytest.mark.parametrize("shape", [(1, 3, 63, 63), (1, 3, 64, 32), (3, 64, 64)])
def test_photographs_of_another_shape(vit, shape):
    with pytest.raises(
        ValueError, match=r"photographs must have shape \(N, 3, S, S\), S even, got"
    ):
        photo_tokens(vit, torch.zeros(shape, dtype=torch.uint8))


def test_embeddings_in_parts_are_those_in_one_go(draw):
    head, text = ImageHead(4, D, embedding=8), TextEncoder(20, dimensions=8, layers=0, dropout=0.0)
    tokens, (ids, visible) = torch.randn(7, 4, D, generator=draw).half(), question(rows=7)
    seen = embed(head, tokens, batch_size=3)
    assert not seen.requires_grad
    torch.testing.assert_close(seen, head(tokens.float()))
    torch.testing.assert_close(embed(text, ids, visible, batch_size=3), text(ids, visible))
    both = embed(
        QueryPredictor(D, (2, 2), 7, vocabulary=20, width=24, heads=3).eval(),
        tokens,
        ids,
        visible,
        batch_size=2,
    )
    assert both.shape == (7, 7) and both.dtype == torch.float32


# ---- batches
# -------------------------------------------------------------------------------------------------------------


def captioned(number=50, captions=3, length=6):
    """Captions that say which image they belong to, and which of its captions they are."""
    ids = torch.arange(number).view(-1, 1, 1) * 10 + torch.arange(captions).view(-1, 1)
    ids = ids.expand(-1, -1, length).clone()
    return torch.arange(number, dtype=torch.float16).view(-1, 1, 1).expand(-1, 4, D), (
        ids,
        torch.ones_like(ids, dtype=torch.bool),
    )


def test_every_image_comes_once_an_epoch_with_one_of_its_own_captions():
    tokens, captions = captioned()
    questions = (captions[0] + 5, captions[1])
    data = CaptionDataModule(
        tokens, captions, questions=questions, groups=torch.arange(50) % 7, batch_size=10
    )
    rows, chosen = [], []
    for (x, asked, shown), (ids, visible), groups in data.batches(0):
        assert x.dtype == torch.float32 and shown.all() and visible.all()
        row = x[:, 0, 0].long()
        assert (
            torch.equal(ids[:, 0] // 10, row)
            and torch.equal(asked, ids + 5)
            and torch.equal(groups, row % 7)
        )
        rows.append(row)
        chosen.append(ids[:, 0] % 10)
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(50))
    assert len(torch.cat(chosen).unique()) == 3


def test_batches_depend_on_seed_and_epoch_alone():
    tokens, captions = captioned()

    def drawn(seed, epoch):
        torch.rand(3)
        return torch.cat(
            [
                ids[:, 0]
                for _, (ids, _) in CaptionDataModule(
                    tokens, captions, batch_size=20, seed=seed
                ).batches(epoch)
            ]
        )

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
    ((x,), _), *_ = CaptionDataModule(
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8), captions, batch_size=2
    ).batches(0)
    assert x.dtype == torch.uint8


def in_order(look_alikes, *, epoch=0, seed=0, batch_size=12):
    """Numbers of the images in the order in which they are drawn; each brings a caption of its own."""
    data = CaptionDataModule(
        *captioned(len(look_alikes)), look_alikes=look_alikes, batch_size=batch_size, seed=seed
    )
    rows = []
    for (x,), (ids, _) in data.batches(epoch):
        rows.append(x[:, 0, 0].long())
        assert len(x) == batch_size and torch.equal(ids[:, 0] // 10, rows[-1])
    return torch.cat(rows)


def test_images_that_look_alike_come_four_at_a_time():
    numbers = torch.arange(48) * 7 % 6  # eight of each
    order = in_order(numbers)
    assert torch.equal(order.sort().values, torch.arange(48))
    runs = numbers[order].view(12, 4)
    assert (runs == runs[:, :1]).all()
    assert not torch.equal(runs[:, 0], runs[:, 0].sort().values)
    partners = {
        frozenset(four)
        for epoch in range(5)
        for four in in_order(numbers, epoch=epoch).view(12, 4).tolist()
    }
    assert len(partners) > 24  # not the same four each time


def test_order_of_look_alikes_depends_on_seed_and_epoch_alone():
    numbers = torch.arange(48) % 6
    first = in_order(numbers)
    torch.rand(3)
    assert torch.equal(first, in_order(numbers))
    assert not torch.equal(first, in_order(numbers, epoch=1)) and not torch.equal(
        first, in_order(numbers, seed=1)
    )


def test_images_with_few_look_alikes_come_as_well():
    numbers = torch.tensor(
        [3] * 1 + [5] * 2 + [8] * 6 + [9] * 11
    )  # runs of 1; 2; 4 and 2; 4, 4 and 3
    order = in_order(numbers, batch_size=10)
    assert torch.equal(order.sort().values, torch.arange(20))
    assert len(numbers[order].unique_consecutive()) <= 7


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(tokens=torch.zeros(49, 4, D)), "captions must be"),
        (dict(questions=captioned(49)[1]), "questions must be"),
        (dict(questions=captioned(captions=2)[1]), "questions must be 3"),
        (dict(groups=torch.zeros(49)), "groups must have shape"),
        (
            dict(look_alikes=torch.zeros(50, 1)),
            r"look_alikes must have shape \(50,\), got \(50, 1\)",
        ),
        (dict(batch_size=51), "batch_size must be between 1 and"),
        (dict(batch_size=0), "batch_size must be between 1 and"),
    ],
)
def test_batches_that_do_not_fit(change, message):
    tokens, captions = captioned()
    with pytest.raises(ValueError, match=message):
        CaptionDataModule(**dict(tokens=tokens, captions=captions, batch_size=10) | change)


# ---- training
# ------------------------------------------------------------------------------------------------------------


def test_groups_reach_the_objective_as_positives():
    torch.manual_seed(0)
    encoder = TextEncoder(30, dimensions=8, layers=0, dropout=0.0)
    reader = nn.Sequential(nn.Flatten(), nn.Linear(4 * D, 8))
    module = JEPA(reader, nn.Identity(), target_encoder=encoder, objective=InfoNCE())
    tokens, (ids, visible) = (
        torch.randn(6, 4, D),
        (torch.randint(30, (6, 5)), torch.ones(6, 5, dtype=torch.bool)),
    )
    groups = torch.tensor([0, 0, 1, 2, 1, 3])
    loss = module.training_step(((tokens,), (ids, visible), groups), 0)["loss"]
    same = groups.unsqueeze(1) == groups
    torch.testing.assert_close(
        loss, info_nce(reader(tokens), encoder(ids, visible), positives=same)
    )
    alone = module.training_step(((tokens,), (ids, visible)), 0)["loss"]
    torch.testing.assert_close(alone, info_nce(reader(tokens), encoder(ids, visible)))


def colours(number=200):
    """Images whose tokens are one of four vectors, and whose caption is its number."""
    draw = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (number,), generator=draw)
    tokens = torch.randn(4, 1, D, generator=draw)[kinds].expand(-1, 64, -1) + 0.1 * torch.randn(
        number, 64, D, generator=draw
    )
    return tokens, (kinds.view(-1, 1, 1) + 1, torch.ones(number, 1, 1, dtype=torch.bool)), kinds


def pair():
    torch.manual_seed(0)
    return ImageHead(64, D, width=4, hidden=16, embedding=8, dropout=0.1), TextEncoder(
        6, dimensions=8, layers=0, dropout=0.1
    )


def test_pairs_of_image_and_text_come_together():
    tokens, captions, kinds = colours()
    head, text = pair()
    data = CaptionDataModule(tokens, captions, groups=kinds, batch_size=50)
    module, history = train_pair(head, text, data, epochs=8, seed=0, learning_rate=1e-2)
    losses = history.losses["loss"]
    assert len(losses) == 8 and losses[-1] < 0.3 * losses[0]
    assert module.context_encoder is head and module.target_encoder is text
    assert not any(part.training for part in module.modules())
    assert not torch.equal(
        module.objective.log_temperature, InfoNCE().log_temperature
    )  # by default it learns
    found = (
        embed(head, tokens)
        @ embed(text, torch.arange(1, 5).unsqueeze(1), torch.ones(4, 1, dtype=torch.bool)).T
    )
    assert torch.equal(found.argmax(dim=1), kinds)


def test_a_trained_pair_trains_on_under_another_rule():
    tokens, captions, _ = colours()
    head, text = pair()
    data, how = CaptionDataModule(tokens, captions, batch_size=50), dict(epochs=1, seed=0)
    train_pair(head, text, data, **how)
    active = []
    head.register_forward_hook(lambda *_: active.append(head.training))
    rule = dict(
        objective=nn.functional.mse_loss, regularizer=SIGReg(8), weight=0.1, regularize="both"
    )
    _, history = train_pair(head, text, data, **how, **rule)
    assert active == [True] * 4
    losses = {name: values[0] for name, values in history.losses.items()}
    assert losses["loss"] == pytest.approx(
        losses["prediction"] + 0.1 * losses["regularizer"], rel=1e-4
    )


def test_an_interrupted_pair_ends_with_the_same_weights(tmp_path):
    tokens, captions, kinds = colours()

    def train(file, stop=None):
        data = CaptionDataModule(tokens, captions, groups=kinds, batch_size=50)
        drawn, batches = [], data.batches

        def until(epoch):
            if epoch == stop:
                raise InterruptedError
            drawn.append(epoch)
            yield from batches(epoch)

        data.batches = until
        module, history = train_pair(*pair(), data, epochs=3, seed=0, checkpoint=file)
        return torch.cat([p.detach().flatten() for p in module.parameters()]), history.losses, drawn

    weights, losses, _ = train(tmp_path / "whole.ckpt")
    with pytest.raises(InterruptedError):
        train(tmp_path / "part.ckpt", stop=2)
    again, same, drawn = train(tmp_path / "part.ckpt")
    assert torch.equal(again, weights) and same == losses and drawn == [2]


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
    history = fit(
        module, CaptionDataModule(mixed, captions, batch_size=50), epochs=15, seed=0, progress=False
    )
    assert (history.losses["loss"][-1] < 0.3) is better


def test_caption_training_learns_to_write_and_scores_captions():
    tokens, _, kinds = colours()
    ids = torch.stack(
        [kinds + 1, 5 - kinds, torch.zeros_like(kinds)], dim=1
    )  # the third is padding
    visible = torch.tensor([True, True, False]).expand_as(ids)
    torch.manual_seed(0)
    reader = QueryPredictor(D, GRID, 8, width=24, heads=3)
    module = CaptionTraining(reader, TextDecoder(6, embedding=8, dimensions=16), learning_rate=1e-2)
    history = fit(
        module,
        CaptionDataModule(tokens, (ids.unsqueeze(1), visible.unsqueeze(1)), batch_size=50),
        epochs=15,
        seed=0,
        progress=False,
    )
    assert history.losses["loss"][0] > 0.5 > 0.1 > history.losses["loss"][-1]
    module.eval()
    told = reader(tokens[:20]).detach()
    right, wrong = (
        module.log_likelihood(told, ids[:20].roll(0 if own else 1, 0), visible[:20])
        for own in (True, False)
    )
    differ = kinds[:20] != kinds[:20].roll(1, 0)
    assert (right[differ] > wrong[differ]).all() and differ.any()
    padded = (
        torch.cat([ids[:20], torch.full((20, 2), 3)], dim=1),
        torch.cat([visible[:20], torch.zeros(20, 2, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(module.log_likelihood(told, *padded), right)


@pytest.mark.parametrize(
    "change, message",
    [(dict(text="all"), "text must be"), (dict(learning_rate=0), "learning_rate must be")],
)
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
        module, calls = (
            JEPA(
                QueryPredictor(D, GRID, 8, width=24, heads=3),
                nn.Identity(),
                target_encoder=words,
                objective=InfoNCE(),
            ),
            [],
        )

        def monitor():
            calls.append(0)
            if len(calls) == stop:
                raise InterruptedError
            return {}

        fit(
            module,
            CaptionDataModule(tokens, captions, batch_size=50),
            epochs=3,
            seed=0,
            monitor=monitor,
            checkpoint=file,
            progress=False,
        )
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    whole = train(tmp_path / "whole.ckpt")
    with pytest.raises(InterruptedError):
        train(tmp_path / "part.ckpt", stop=3)
    assert (tmp_path / "part.ckpt").exists()
    assert torch.equal(train(tmp_path / "part.ckpt"), whole)
