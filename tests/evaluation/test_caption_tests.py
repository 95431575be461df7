"""What a model knows of captions, measured on models of which that is known."""

from functools import partial
from types import SimpleNamespace

import numpy as np
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


@pytest.mark.parametrize("scale", [1e-20, 1e-30, 1e20])
def test_scores_of_photographs_are_blind_to_scale(scale):
    ids = torch.arange(12).view(12, 1, 1).expand(12, 5, 1)
    visible = torch.ones(12, 5, 1, dtype=torch.bool)
    means = SimpleNamespace(
        context_encoder=nn.Identity(), target_encoder=lambda ids, _: torch.eye(12)[ids[:, 0]]
    )
    expected = photo_scores(means, torch.eye(12), (ids, visible))
    means.target_encoder = lambda ids, _: scale * torch.eye(12)[ids[:, 0]]
    assert photo_scores(means, scale * torch.eye(12), (ids, visible)) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(
    "count, shape, words",
    [
        (9, (9, 5, 1), "^tokens must be of at least 10 photographs, got 9"),
        (12, (11, 5, 1), r"^sentences must be .*\(12, C, L\), got \(11, 5, 1\)"),
        (12, (12, 0, 1), r"^sentences .*\(12, 0, 1\)"),
        (12, (12, 5), r"^sentences .*\(12, 5\)"),
    ],
)
def test_photographs_and_sentences_that_do_not_fit(count, shape, words):
    means = SimpleNamespace(context_encoder=nn.Identity(), target_encoder=lambda ids, _: ids)
    sentences = torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.bool)
    with pytest.raises(ValueError, match=words):
        photo_scores(means, torch.eye(count), sentences)


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


def test_scores_that_differ_by_rounding_are_tied(world):
    """As of a sum of the same words in another order."""
    vectors = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    number = {
        word: index for index, word in enumerate(sorted(set(" ".join(world.captions).split())))
    }

    def score(captions):
        sums = torch.zeros(len(captions))
        for row, caption in enumerate(captions):
            for word in caption.split():
                sums[row] += 3 + vectors[number[word]]
        return sums

    plain = score(world.captions)
    mirrored = true_caption_preferred(score, world, ["word order"])
    assert mirrored == {"word order": 0.5} and plain.unique().numel() > 50
    # but not what is more than that, nor in numbers that tell more
    ahead = [plain * (1 + 2e-6 * (torch.arange(200) % 2)), plain]
    assert true_caption_preferred(lambda _: ahead.pop(0), world, ["word order"])["word order"] == (
        pytest.approx(0.75)
    )
    ahead = [1 + torch.full((200,), 1e-12).double(), torch.ones(200).double()]
    assert true_caption_preferred(lambda _: ahead.pop(0), world, ["relation"]) == {"relation": 1.0}


@pytest.mark.parametrize(
    "right, wrong, share",
    [
        (0.0, -torch.inf, 1.0),
        (-torch.inf, 0.0, 0.0),
        (-torch.inf, -torch.inf, 0.5),
        (3, 2, 1.0),
        (3, 3, 0.5),
        (2**40 + 1, 2**40, 1.0),
    ],
)
def test_impossible_captions_and_whole_numbers(world, right, wrong, share):
    ahead = [torch.full((200,), right), torch.full((200,), wrong)]
    found = true_caption_preferred(lambda _: ahead.pop(0), world, ["relation"])
    assert found == {"relation": share}


@pytest.mark.parametrize(
    "score, words",
    [
        (lambda c: torch.full((len(c),), torch.nan), "NaN"),
        (lambda c: torch.zeros(3), r"200 numbers.*\(3,\)"),
        (lambda c: torch.zeros(len(c), 1), r"200 numbers.*\(200, 1\)"),
        (lambda c: [0.0] * len(c), "200 numbers.*list"),
    ],
)
def test_other_scores_are_refused(world, score, words):
    with pytest.raises(ValueError, match=f"^score must give.*{words}"):
        true_caption_preferred(score, world)


def test_no_scenes_have_no_share(world):
    none = type(world)(world.images[:0], [], world.attributes[:0])
    with pytest.raises(ValueError, match="^world must hold"):
        true_caption_preferred(lambda c: torch.zeros(len(c)), none)


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


@pytest.mark.parametrize("batch_size", [0, 51, True, 2.0])
def test_batches_that_do_not_fit(tokens, caption, batch_size):
    with pytest.raises(
        ValueError,
        match=f"batch_size must be an integer between 1 and the number of scenes = 50, got {batch_size}",
    ):
        hidden_token_recall(oracle()[0], tokens, caption, batch_size=batch_size)


def test_a_module_is_asked_in_evaluation_mode_and_left_as_it_was(tokens, caption):
    predictor = CrossPredictor(D, 4, GRID, width=12, layers=1, heads=3)
    masks = partial(random_masks, share=0.5)
    module = TokenJEPA(predictor, nn.Embedding(50, 4), masks=masks, objective=InfoNCE())
    module.train()
    predictor.eval()  # as its owner wants it
    before = {name: part.training for name, part in module.named_modules()}
    asked = []
    module.predict = lambda tokens, *_: asked.append(module.training) or (tokens, tokens)
    assert hidden_token_recall(module, tokens, caption, batch_size=np.int64(5)) == 1.0
    assert not any(asked)
    module.predict = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        hidden_token_recall(module, tokens, caption, batch_size=5)
    assert {name: part.training for name, part in module.named_modules()} == before


def test_captions_of_other_scenes_are_refused(tokens, caption):
    with pytest.raises(ValueError, match=r"^caption must be of as many scenes.*50, got \[49, 50\]"):
        hidden_token_recall(oracle()[0], tokens, (caption[0][:49], caption[1]))
