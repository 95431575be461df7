"""What rows of chapter 2's experiment are measured by: one standard, nats, the share of the cut."""

import math

import pytest
import torch
from torch import nn

from jepa_utils.experiments.text_measures import (
    TextData,
    held_out_nats,
    look,
    share_of_the_cut,
    text_scores,
    tfidf_scores,
    vectors_of,
)
from jepa_utils.models.text import TextEncoder
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.training.baselines import MaskedLM
from jepa_utils.training.jepa import JEPA

V, MASK = 60, 59


@pytest.fixture(scope="module")
def data():
    """Random tokens; some of the test passages' are of no training passage."""
    draw = torch.Generator().manual_seed(0)

    def ids(*shape, most=50):
        return torch.randint(most, shape, generator=draw)

    def texts(number):
        return ids(number, 9), torch.arange(9).expand(number, 9) < 7

    return TextData(
        train=ids(40, 16),
        sides={
            "validation": (ids(12, 8), ids(12, 8)),
            "test": (ids(12, 8, most=55), ids(12, 8, most=55)),
        },
        articles={split: torch.arange(12) // 4 for split in ("validation", "test")},
        captions=(texts(12), texts(12)),
        reviews={"train": texts(30), "test": texts(10)},
        labels={"train": torch.arange(30) % 2, "test": torch.arange(10) % 2},
        tokenizer=range(V),
        mask_id=MASK,
    )


@pytest.fixture(scope="module")
def vectors():
    """A bag of tokens."""
    table = torch.randn(V, 6, generator=torch.Generator().manual_seed(1))
    return lambda ids, visible: (table[ids] * visible.unsqueeze(-1)).sum(dim=1)


def test_dense_vectors_are_standardised(data, vectors):
    how = dict(labels=(20,), seed=0)
    found = text_scores(data, vectors, **how)
    assert set(found) == {
        *(f"recall@{k}" for k in (1, 5, 10)),
        *("validation", "article", "effective rank", "captions", "reviews, 20", "reviews, all"),
    }
    scale, shift = torch.tensor([1.0, 100.0, 0.01, 3.0, 7.0, 0.5]), torch.arange(6.0)
    moved = text_scores(data, lambda *texts: vectors(*texts) * scale + shift, **how)
    assert moved == pytest.approx(found, rel=1e-3)


def test_tfidf_is_taken_as_it_is(data, vectors):
    scale = torch.tensor([1.0, 100.0, 0.01, 3.0, 7.0, 0.5])
    found, scaled = (
        tfidf_scores(data, given, labels=(20,), seed=0)
        for given in (vectors, lambda *texts: vectors(*texts) * scale)
    )
    dense = text_scores(data, vectors, labels=(20,), seed=0)
    assert set(found) == set(dense) - {"effective rank"}
    search = ("recall@1", "recall@5", "recall@10", "validation", "article", "captions")
    assert [found[key] for key in search] != [scaled[key] for key in search]
    on_reviews = ("reviews, 20", "reviews, all")  # a line on the reviews' own counts
    assert [found[key] for key in on_reviews] == [scaled[key] for key in on_reviews]


def test_a_half_that_says_all_is_found(data):
    first, second = data.sides["test"]
    which = {tuple(ids.tolist()): i for side in (first, second) for i, ids in enumerate(side)}
    places = torch.randn(13, 6, generator=torch.Generator().manual_seed(2))

    def known(ids, visible):  # the place of the passage in the gallery; all others are one
        return places[[which.get(tuple(row.tolist()), 12) for row in ids]]

    found = tfidf_scores(data, known, labels=(), seed=0)
    assert found["recall@1"] == 1 and found["validation"] == pytest.approx(10 / 12)
    assert found["captions"] == pytest.approx(10 / 12)


def test_more_reviews_are_those_before_and_some_more(data, vectors, monkeypatch):
    asked = []

    class Probe:
        score = 0.5

    def probe(h, labels, *_, strengths):
        asked.append((h, labels))
        return Probe

    monkeypatch.setattr("jepa_utils.experiments.text_measures.linear_probe", probe)
    text_scores(data, vectors, labels=(5, 20), seed=3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    for number, (h, labels) in zip((5, 20, 30), asked, strict=True):
        rows = order[:number]
        ids, visible = data.reviews["train"]
        assert torch.equal(h, vectors(ids, visible)[rows])
        assert torch.equal(labels, data.labels["train"][rows])


def test_the_share_of_the_cut_is_what_the_number_of_tokens_tells(data, vectors):
    class Length(nn.Module):
        def forward(self, ids, visible):
            return visible.sum(dim=1, keepdim=True).float()

    assert share_of_the_cut(Length(), data.train.repeat(25, 3), 2) > 0.95
    noise = lambda ids, visible: torch.randn(
        len(ids), 6, generator=torch.Generator().manual_seed(int(ids[0, 0]))
    )
    assert share_of_the_cut(noise, data.train.repeat(25, 3), 2) < 0.1


def test_a_look_keeps_loss_and_spread_of_both_sides(data):
    torch.manual_seed(0)
    encoder = TextEncoder(V, dimensions=8, layers=0, dropout=0.0)
    module = JEPA(encoder, nn.Identity(), regularizer=SIGReg(num_slices=8), weight=0.1)
    with torch.no_grad():
        seen = look(data, vectors_of(encoder), module)
        halves = [encoder(ids, torch.ones(12, 8) > 0) for ids in data.sides["validation"]]
        late = torch.cat(data.sides["validation"], dim=1), torch.arange(16).expand(12, 16) >= 8
        spread = encoder(*late).std(dim=0).mean()
    assert set(seen) == {
        *("validation", "test", "effective rank", "std", "target std", "validation loss")
    }
    loss = (halves[0] - halves[1]).square().mean()
    assert seen["validation loss"] == pytest.approx(float(loss), rel=1e-5)
    assert seen["std"] == pytest.approx(float(halves[0].std(dim=0).mean()), rel=1e-5)
    assert seen["target std"] == pytest.approx(float(spread), rel=1e-5)


def test_nats_are_the_frequencies_where_nothing_is_read(data):
    text = data.train
    encoder = TextEncoder(data.vocabulary, dimensions=8, layers=1, dropout=0.5)
    encoder.tokens.weight.data.zero_()
    ids, counts = text.unique(return_counts=True)
    module = MaskedLM(
        encoder, mask_id=data.mask_id, candidates=ids, frequencies=counts, share=1 - 1e-6
    )
    found = held_out_nats(data, module.train(), text)
    often, known = dict(zip(ids.tolist(), counts.tolist())), data.sides["test"][0].flatten()
    surprise = [-math.log(often[i] / text.numel()) for i in known.tolist() if i in often]
    assert len(surprise) < len(known)  # some tokens are of the test alone
    assert found["unigram nats"] == pytest.approx(sum(surprise) / len(surprise), rel=1e-5)
    assert found["nats"] == pytest.approx(found["unigram nats"], rel=1e-4)  # all are hidden
    assert module.training
