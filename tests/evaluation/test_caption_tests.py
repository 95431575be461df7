"""What a model knows of captions, measured on models of which that is known."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jepa_utils import CrossPredictor, InfoNCE, TokenJEPA, random_masks, scenes
from jepa_utils.data.scenes import ATTRIBUTES
from jepa_utils.evaluation.caption_tests import (
    hidden_token_recall,
    photo_scores,
    true_caption_preferred,
)

GRID, D = (4, 4), 8


# ---- scores of photographs
# -----------------------------------------------------------------------------------------------


def scores_of(shift):
    """Twelve photographs at right angles; each of their five sentences means the photograph that is so many places on."""
    places = (torch.arange(12).unsqueeze(1) + torch.tensor(shift)) % 12
    means = SimpleNamespace(
        context_encoder=nn.Identity(), target_encoder=lambda ids, visible: torch.eye(12)[ids[:, 0]]
    )
    return photo_scores(
        means, torch.eye(12).half(), (places.unsqueeze(2), torch.ones(12, 5, 1, dtype=torch.bool))
    )


def test_sentences_that_mean_their_photograph_find_it():
    scores = scores_of([0, 0, 0, 0, 0])
    assert {
        scores.pop(f"{way} @{k}") for way in ("text to image", "image to text") for k in (1, 5, 10)
    } == {1.0}
    assert scores == pytest.approx(
        {"alignment": 0, "uniformity": -4, "effective rank": 11}, abs=1e-5
    )


def test_sentences_that_mean_another_photograph_do_not():
    scores = scores_of([1, 1, 1, 1, 1])
    assert scores["text to image @1"] == scores["image to text @1"] == 0 and scores[
        "alignment"
    ] == pytest.approx(2)
    assert scores["text to image @5"] == pytest.approx(
        4 / 11
    )  # one is before it, ten are as far away


def test_each_photograph_has_five_sentences_of_its_own():
    scores = scores_of([0, 1, 2, 3, 4])
    assert scores["text to image @1"] == pytest.approx(0.2)  # the first alone means its own
    assert (
        scores["image to text @1"] == pytest.approx(0.2) and scores["image to text @5"] == 1
    )  # one of five that mean it
    assert scores["alignment"] == pytest.approx(0, abs=1e-5)


# ---- captions that are wrong in one thing
# --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return scenes(200, split="seen")


@pytest.mark.parametrize(
    "right, wrong, share",
    [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.3, 0.3, 0.5)],
    ids=["knows", "anti", "blind"],
)
def test_who_knows_the_caption_always_prefers_it_and_who_knows_nothing_is_at_chance(
    world, right, wrong, share
):
    score = lambda captions: torch.tensor(
        [right if own == c else wrong for own, c in zip(world.captions, captions, strict=True)]
    )
    assert true_caption_preferred(score, world) == dict.fromkeys((*ATTRIBUTES, "word order"), share)


def test_a_bag_of_words_knows_all_but_the_order(world):
    bags = [sorted(caption.split()) for caption in world.captions]
    score = lambda captions: torch.tensor(
        [float(sorted(c.split()) == bag) for c, bag in zip(captions, bags, strict=True)]
    )
    assert true_caption_preferred(score, world, ["colour 1", "word order"]) == {
        "colour 1": 1.0,
        "word order": 0.5,
    }


def test_what_is_wrong_depends_on_the_seed_alone(world):
    blue = lambda captions: torch.tensor([float(" blue " in caption) for caption in captions])
    first, again, other = (
        true_caption_preferred(blue, world, ["colour 1"], seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


# ---- hidden tokens
# -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens():
    return torch.randn(50, 16, D, generator=torch.Generator().manual_seed(0)).half()


@pytest.fixture
def caption():
    ids = torch.arange(50).unsqueeze(1).expand(-1, 3)
    return ids, torch.ones_like(ids, dtype=torch.bool)


def oracle(change=lambda true: true):
    """A module that knows the true tokens and says something of them; and what it was asked."""
    asked = []

    def predict(tokens, caption, masks):
        asked.append((tokens, caption, masks))
        true = torch.stack(
            [image[hidden] for image, hidden in zip(tokens, masks.targets.flatten(1), strict=True)]
        )
        return change(true), true

    return SimpleNamespace(
        predict=predict,
        masks=partial(random_masks, share=0.5),
        predictor=SimpleNamespace(grid=GRID),
    ), asked


def test_who_knows_the_hidden_tokens_finds_all_and_who_takes_a_neighbours_none(tokens, caption):
    assert hidden_token_recall(oracle()[0], tokens, caption) == 1.0
    assert hidden_token_recall(oracle(lambda true: true.roll(1, 0))[0], tokens, caption) < 0.02
    assert hidden_token_recall(oracle(torch.zeros_like)[0], tokens, caption) == pytest.approx(
        1 / (20 * 8)
    )


def test_batches_are_whole_and_rows_stay_with_their_captions(tokens, caption):
    module, asked = oracle()
    hidden_token_recall(module, tokens, caption)
    assert len(asked) == 2  # of 20; the last ten are left out
    for number, (some, (ids, visible), masks) in enumerate(asked):
        assert some.dtype == torch.float32 and torch.equal(
            some, tokens[20 * number : 20 * number + 20].float()
        )
        assert (
            ids[:, 0].tolist() == list(range(20 * number, 20 * number + 20))
            and visible.shape == ids.shape
        )
        assert masks.targets.shape == (20, 1, 8)
    assert not torch.equal(asked[0][2].targets, asked[1][2].targets)


def test_masks_are_the_same_at_every_call_and_nobody_elses_are_moved(tokens, caption):
    torch.manual_seed(1)
    predictor = CrossPredictor(D, 4, GRID, width=12, layers=1, heads=3)
    masks = partial(random_masks, share=0.5)
    module = TokenJEPA(predictor, nn.Embedding(50, 4), masks=masks, objective=InfoNCE()).eval()
    before = torch.get_rng_state()
    first = hidden_token_recall(module, tokens, caption, batch_size=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert 0 < first < 0.1 and hidden_token_recall(module, tokens, caption, batch_size=5) == first


@pytest.mark.parametrize("batch_size", [0, 51])
def test_batches_that_do_not_fit(tokens, caption, batch_size):
    with pytest.raises(
        ValueError,
        match=f"batch_size must be between 1 and the number of scenes, 50, got {batch_size}",
    ):
        hidden_token_recall(oracle()[0], tokens, caption, batch_size=batch_size)
