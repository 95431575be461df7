"""Training on images and their captions: pairs, hidden tokens, captions."""

import pytest
import torch
from torch import nn

from jepa_utils import (
    JEPA,
    InfoNCE,
    SIGReg,
    TextDecoder,
    TextEncoder,
    fit,
    info_nce,
    multiblock_masks,
)
from jepa_utils.data.batches import CaptionDataModule
from jepa_utils.evaluation.encode import embed
from jepa_utils.models.vision_language import CrossPredictor, ImageHead, QueryPredictor
from jepa_utils.training.baselines import CaptionTraining
from jepa_utils.training.jepa import TokenJEPA, train_pair

GRID, D, E = (8, 8), 12, 10


@pytest.fixture
def cross():
    torch.manual_seed(0)
    return CrossPredictor(D, E, GRID, width=24, layers=2, heads=3)


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

        def until(epoch, **process):
            if epoch == stop:
                raise InterruptedError
            drawn.append(epoch)
            yield from batches(epoch, **process)

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
    tokens, captions, _ = colours()
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
