"""The rivals of a JEPA: labels, hidden words, captions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trainings import GRID, D, colours, spans, text_encoder, text_module

from jepa_utils.data.batches import CaptionDataModule, ImageDataModule, SpanDataModule
from jepa_utils.models.ema import EMA
from jepa_utils.models.text import TextDecoder
from jepa_utils.models.vision_language import QueryPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.training.baselines import (
    CaptionTraining,
    ClassTraining,
    DecoderTraining,
    HybridTraining,
    MaskedLM,
)
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import Schedule

CANDIDATES = torch.tensor([0, 1, 3, 5, 6, 7, 11, 12, 20, 27])


def masked_lm(**change):
    module = MaskedLM(text_encoder(), **dict(mask_id=29, candidates=CANDIDATES, share=0.3) | change)
    nn.init.normal_(module.bias)  # zeros would hide a bias without them
    return module


def masked_batch():
    ids = CANDIDATES[torch.randint(10, (6, 12), generator=torch.Generator().manual_seed(5))]
    return (ids, None), (ids, None)  # nobody looks at the masks


def test_masked_loss_equals_the_written_out_one():
    module, batch = masked_lm(), masked_batch()
    torch.manual_seed(8)
    loss = module.training_step(batch, 0)["loss"]
    torch.manual_seed(8)
    ids, hidden = batch[0][0], torch.rand(6, 12) < 0.3
    h = module.encoder.encode_tokens(
        torch.where(hidden, 29, ids), torch.ones(6, 12, dtype=torch.bool)
    )
    vectors, surprise = module.encoder.tokens.weight, []
    for row, column in hidden.nonzero().tolist():
        scores = {
            c: h[row, column] @ vectors[c] + bias
            for c, bias in zip(CANDIDATES.tolist(), module.bias)
        }
        surprise.append(
            torch.logsumexp(torch.stack(list(scores.values())), dim=0)
            - scores[int(ids[row, column])]
        )
    assert 10 < len(surprise) < 40
    assert torch.allclose(loss, torch.stack(surprise).mean(), rtol=1e-5)
    module.bias.data += 1  # a softmax does not see this
    torch.manual_seed(8)
    assert torch.allclose(module.training_step(batch, 0)["loss"], loss, rtol=1e-5)


def test_the_encoder_is_not_shown_what_is_hidden():
    module, ids, seen = masked_lm(share=0.5), masked_batch()[0][0], []
    encode = module.encoder.encode_tokens
    module.encoder.encode_tokens = lambda *inputs: seen.append(inputs) or encode(*inputs)
    for _ in range(20):
        module.training_step(((ids, None), (ids, None)), 0)
    shown, visible = (torch.stack(x) for x in zip(*seen))
    hidden = shown == 29
    assert visible.all() and torch.equal(shown, torch.where(hidden, 29, ids.expand(20, 6, 12)))
    assert hidden.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / (20 * 6 * 12) ** 0.5)
    assert not torch.equal(hidden[0], hidden[1])  # drawn anew
    assert not (ids == 29).any()


def test_only_candidates_can_be_predicted():
    module = masked_lm()

    def loss():
        torch.manual_seed(8)
        return module.training_step(masked_batch(), 0)["loss"]

    before = loss()
    before.backward()
    others = [i for i in range(29) if i not in CANDIDATES.tolist()]
    grad = module.encoder.tokens.weight.grad
    assert (
        (grad[others] == 0).all()
        and (grad[CANDIDATES] != 0).any(dim=1).all()
        and (grad[29] != 0).any()
    )
    module.encoder.tokens.weight.data[others] = 1e3
    assert torch.equal(loss(), before)


def test_masked_lm_learns_a_text_that_repeats():
    chunks = torch.stack([(torch.arange(12) + start) % 6 for start in range(6)]).repeat(8, 1)
    data = SpanDataModule(chunks, batch_size=16, min_length=3)
    module = MaskedLM(
        text_encoder(dimensions=16, token_std=0.5),
        mask_id=29,
        candidates=torch.arange(6),
        learning_rate=0.01,
    )
    losses = fit(module, data, epochs=30, seed=0, progress=False).losses["loss"]
    assert losses[-1] < 0.5 * math.log(6) < losses[0]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(share=0.0), "share.*0"),
        (dict(share=1.0), "share.*1"),
        (dict(learning_rate=0.0), "learning_rate.*0"),
        (dict(candidates=torch.tensor([3, 1])), r"candidates.*ascending.*\(2,\)"),
        (dict(candidates=torch.tensor([1, 3, 3])), "candidates.*ascending"),
        (dict(candidates=torch.tensor([[1, 3]])), r"candidates.*\(1, 2\)"),
        (dict(candidates=torch.tensor([], dtype=torch.int64)), "candidates"),
        (dict(candidates=torch.tensor([1.0, 2.0])), "candidates.*float32"),
        (dict(candidates=torch.tensor([1, 30])), "candidates.*below 30"),
        (dict(mask_id=int(CANDIDATES[0])), "candidates.*mask_id"),
        (dict(mask_id=30), "mask_id.*got 30"),
        (dict(mask_id=29.0), "mask_id must be an integer between 0 and 29, got 29.0"),
        (dict(candidates=[1, 3]), "candidates must be ascending .* got list"),
        (dict(learning_rate=math.nan), "learning_rate.*nan"),
    ],
)
def test_masked_lm_rejects_bad_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        masked_lm(**change)


def test_a_hidden_token_that_is_no_candidate_is_an_error():
    for outsider in (4, 28):  # between candidates, and above them
        assert outsider not in CANDIDATES
        ids = torch.full((2, 12), outsider)
        with pytest.raises(ValueError, match="candidates"):
            masked_lm().training_step(((ids, None), (ids, None)), 0)


def test_at_least_one_token_is_hidden():
    module, ids = masked_lm(share=1e-9), CANDIDATES[:2].view(1, 2)
    torch.manual_seed(8)
    loss = module.training_step(((ids, None), (ids, None)), 0)["loss"]
    torch.manual_seed(8)
    place = int(torch.rand(1, 2).argmin())
    shown = ids.clone()
    shown[0, place] = 29
    h = module.encoder.encode_tokens(shown, torch.ones(1, 2, dtype=torch.bool))[0, place]
    scores = module.encoder.tokens.weight[CANDIDATES] @ h + module.bias
    torch.testing.assert_close(loss, scores.logsumexp(dim=0) - scores[place])


COUNTS = torch.tensor([1, 2, 3, 5, 8, 13, 21, 34, 55, 1000])


def test_with_frequencies_the_first_loss_is_what_can_be_said_without_reading():
    encoder, batch = text_encoder(), masked_batch()
    encoder.tokens.weight.data.zero_()
    ids = batch[0][0]
    torch.manual_seed(8)
    hidden = ids[torch.rand(6, 12) < 0.3]
    count = dict(zip(CANDIDATES.tolist(), COUNTS.tolist()))
    unigram = -sum(math.log(count[i] / 1142) for i in hidden.tolist()) / len(hidden)
    assert int(COUNTS.sum()) == 1142 and 2 < unigram
    for frequencies, loss in ((COUNTS, unigram), (COUNTS / 7.0, unigram), (None, math.log(10))):
        module = MaskedLM(
            encoder, mask_id=29, candidates=CANDIDATES, share=0.3, frequencies=frequencies
        )
        torch.manual_seed(8)
        found = module.training_step(batch, 0)["loss"]
        assert found.item() == pytest.approx(loss, rel=1e-5)
        assert module.bias.requires_grad and module.bias.dtype == torch.float32


@pytest.mark.parametrize(
    "frequencies, got",
    [
        (COUNTS[1:], r"got \(9,\) from 2"),
        (COUNTS[None], r"got \(1, 10\) from 1"),
        (torch.ones(0), r"got \(0,\)"),
        (COUNTS - 1, r"got \(10,\) from 0"),
        (-COUNTS, r"got \(10,\) from -1000"),
        (COUNTS * math.nan, r"got \(10,\) from nan"),
        (COUNTS * torch.tensor([1.0] * 9 + [math.inf]), r"got \(10,\) from 1"),
    ],
)
def test_frequencies_must_be_positive_numbers_one_a_candidate(frequencies, got):
    with pytest.raises(ValueError, match=f"frequencies must be 10 positive.*numbers.*{got}"):
        masked_lm(frequencies=frequencies)


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def precision(request):
    torch.set_default_dtype(request.param)
    yield {torch.float32: dict(rtol=1e-4, atol=1e-6), torch.float64: dict(rtol=1e-10, atol=1e-12)}[
        request.param
    ]
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("rows", [1, 22, 45])  # one chunk of hidden tokens, two, and four
def test_the_loss_in_chunks_is_that_of_all_logits(precision, rows):
    module = masked_lm(share=0.9)
    ids = CANDIDATES[torch.randint(10, (rows, 12), generator=torch.Generator().manual_seed(5))]
    torch.manual_seed(8)
    loss = module.training_step(((ids, None),) * 2, 0)["loss"]
    loss.backward()
    found = [p.grad.clone() for p in module.parameters()]
    torch.manual_seed(8)
    hidden = torch.rand(rows, 12) < 0.9
    assert len(hidden[hidden]) > {1: 4, 22: 128, 45: 384}[rows]
    h = module.encoder.encode_tokens(
        torch.where(hidden, 29, ids), torch.ones(rows, 12, dtype=torch.bool)
    )[hidden]
    logits = h @ module.encoder.tokens.weight[CANDIDATES].T + module.bias
    whole = F.cross_entropy(logits, torch.searchsorted(CANDIDATES, ids[hidden]))
    torch.testing.assert_close(loss, whole, **precision)
    module.zero_grad()
    whole.backward()
    for grad, parameter in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, **precision)


def test_a_masked_models_schedule_is_kept():
    assert type(masked_lm().configure_optimizers()) is torch.optim.Adam
    rates, module = [], masked_lm(schedule=Schedule(warmup=0.0), learning_rate=0.02)
    module.on_train_batch_start = lambda *_: rates.append(module.optimizers().param_groups[0]["lr"])
    module.candidates = torch.arange(28)
    module.bias = nn.Parameter(torch.zeros(28))
    fit(module, spans(), epochs=1, seed=0, progress=False)
    assert rates[0] == 0.02 > rates[-1] > 0 and rates == sorted(rates, reverse=True)


def hybrid(**change):
    jepa = text_module(**change)
    ids = torch.arange(28)
    return HybridTraining(jepa, MaskedLM(jepa.context_encoder, mask_id=29, candidates=ids))


def test_a_hybrids_loss_is_the_sum():
    module, batch = hybrid(), next(iter(spans().train_dataloader()))
    torch.manual_seed(8)
    losses = module.training_step(batch, 0)
    torch.manual_seed(8)  # SIGReg draws first, then the masked model
    jepa = module.jepa.training_step(batch, 0)["loss"]
    masked = module.masked.training_step(batch, 0)["loss"]
    assert torch.equal(losses["jepa"], jepa) and torch.equal(losses["masked"], masked)
    torch.testing.assert_close(losses["loss"], jepa + masked)
    assert jepa > 0.01 and masked > 0.01
    assert losses["loss"].requires_grad
    assert not losses["jepa"].requires_grad and not losses["masked"].requires_grad


def test_a_hybrid_trains_all_its_parts_by_the_jepas_rule():
    chunks = torch.stack([(torch.arange(12) + start) % 6 for start in range(6)]).repeat(8, 1)
    schedule = Schedule(warmup=0.0, layer_rate=0.01)
    module = hybrid(learning_rate=0.03, schedule=schedule)
    before = {name: p.clone() for name, p in module.named_parameters()}
    spans_of = SpanDataModule(chunks, batch_size=16, min_length=3)
    history = fit(module, spans_of, epochs=15, seed=0, progress=False)
    assert set(history.losses) == {"loss", "jepa", "masked"}
    assert history.losses["masked"][-1] < 0.6 * history.losses["masked"][0]
    assert history.losses["jepa"][-1] < 0.8 * history.losses["jepa"][0]
    # A vector added to all keys changes nothing.
    still = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert len(before) == len(list(module.jepa.parameters())) + 1  # the encoder's are shared
    groups = module.optimizers().param_groups
    assert [group["initial_lr"] for group in groups] == [0.01, 0.01, 0.03, 0.03]


def test_a_hybrids_moving_average_follows():
    encoder = text_encoder()
    jepa = JEPA(encoder, nn.Linear(8, 8), target_encoder=EMA(encoder, 0.5), learning_rate=0.01)
    module = HybridTraining(jepa, MaskedLM(encoder, mask_id=29, candidates=torch.arange(28)))
    before = jepa.target_encoder.average.tokens.weight.clone()
    fit(module, spans(), epochs=1, seed=0, progress=False)
    after, now = jepa.target_encoder.average.tokens.weight, encoder.tokens.weight
    assert not torch.equal(after, before) and not torch.equal(after, now)
    assert (after - now).abs().mean() < (before - now).abs().mean()


def test_a_hybrid_refuses_two_encoders():
    jepa = text_module()
    twin = MaskedLM(text_encoder(), mask_id=29, candidates=CANDIDATES)
    with pytest.raises(ValueError, match="masked must have the encoder of jepa, got another one"):
        HybridTraining(jepa, twin)


def test_labels_are_learned(pictures):
    images, _labels = pictures
    torch.manual_seed(0)
    module = ClassTraining(
        ViT(patch=8, dimensions=16, layers=1, heads=2), classes=10, learning_rate=3e-3
    )
    bright = (images.float().mean(dim=(1, 2, 3)) > 128).long()
    history = fit(
        module, ImageDataModule(images, bright, batch_size=16), epochs=8, seed=0, progress=False
    )
    assert history.losses["loss"][-1] < 0.5 * history.losses["loss"][0]


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


def test_caption_training_refuses_a_learning_rate_of_zero():
    with pytest.raises(ValueError, match="learning_rate must be positive and finite, got 0"):
        CaptionTraining(nn.Identity(), TextDecoder(6, embedding=8), learning_rate=0)


@pytest.mark.parametrize(
    "change, got",
    [
        (dict(ids=torch.full((2, 12), 30)), "got 30 to 30"),
        (dict(ids=torch.tensor([[0, -1, 1]])), "got -1 to 1"),
        (dict(ids=torch.zeros(0, 12, dtype=torch.int64)), r"got none: shape \(0, 12\)"),
        (dict(ids=torch.zeros(2, 12)), "got torch.float32"),
    ],
)
def test_tokens_that_are_none_are_named(change, got):
    ids = change["ids"]
    with pytest.raises(ValueError, match=f"tokens must be whole numbers from 0 to 29, {got}"):
        masked_lm().training_step(((ids, None), (ids, None)), 0)


@pytest.mark.parametrize(
    "labels, got",
    [
        ([0, 1, 2], "got 0 to 2"),
        ([0, 1, -100], "got -100 to 1"),  # torch would leave it out
        ([0.0, 1.0, 0.0], "got torch.float32"),
    ],
)
def test_labels_that_are_no_classes_are_named(pictures, labels, got):
    module = ClassTraining(ViT(patch=8, dimensions=16, layers=1, heads=2), classes=2)
    with pytest.raises(ValueError, match=f"labels must be whole numbers from 0 to 1, {got}"):
        module.training_step((pictures[0][:3], torch.tensor(labels)), 0)


def test_captions_without_words_and_with_unknown_ones_are_named():
    module = CaptionTraining(nn.Identity(), TextDecoder(6, embedding=8))
    embeddings, ids = (torch.randn(2, 8),), torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="captions must hold at least one word per batch"):
        module.training_step((embeddings, (ids, ids > 1)), 0)
    with pytest.raises(ValueError, match="captions must be whole numbers from 0 to 5, got 6 to 6"):
        module.training_step((embeddings, (ids * 6, ids > 0)), 0)


def test_a_decoders_tokens_are_checked():
    module = DecoderTraining(TextDecoder(6, embedding=8))
    with pytest.raises(ValueError, match="tokens must be whole numbers from 0 to 5, got 1 to 6"):
        module.training_step((torch.randn(2, 8), torch.tensor([[1], [6]])), 0)
