"""Optimisers and schedules."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from trainings import data, interrupted, make, small, spans, text_encoder, text_module, weights

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.models.checkpoints import CheckpointError
from jepa_utils.models.text import WindowEncoder
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import Schedule


def test_learning_rate_rises_and_falls(pictures):
    rates = []
    module = small(learning_rate=0.02, warmup=0.25)
    module.on_train_batch_start = lambda batch, index: rates.append(
        module.optimizers().param_groups[0]["lr"]
    )
    fit(module, ImageDataModule(*pictures, batch_size=12), epochs=2, seed=0, progress=False)
    assert (
        len(rates) == 16
        and rates[0] == pytest.approx(0.02 / 5)
        and max(rates) == pytest.approx(0.02)
    )
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.001


# ---- the schedule that a JEPA is given

STEPS = 12  # two epochs of six batches


def rates_of(schedule, **change):
    """Learning rates of each group in each step, and the trained module."""
    rates, module = [], text_module(schedule=schedule, **change)
    module.on_train_batch_start = lambda batch, index: rates.append(
        [group["lr"] for group in module.optimizers().param_groups]
    )
    fit(module, spans(), epochs=2, seed=0, progress=False)
    return list(zip(*rates, strict=True)), module


def factors(warmup, falling):
    """Of the rate, by the definition: a line in which the full rate is the next step, a cosine."""
    first = round(warmup * STEPS)
    rising = [(step + 1) / (first + 1) for step in range(first)]
    after = [step / (STEPS - first) for step in range(STEPS - first)]
    return rising + [(1 + math.cos(math.pi * x)) / 2 if falling else 1.0 for x in after]


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("falling", [True, False])
def test_rates_rise_in_a_line_and_fall_as_a_cosine_or_stay(warmup, falling):
    schedule = Schedule(falling=falling, warmup=warmup, layer_rate=0.3)
    (layers, their_biases, others, biases), module = rates_of(schedule, learning_rate=0.02)
    wanted = factors(warmup, falling)
    assert len(wanted) == STEPS and max(wanted) == 1
    assert others == biases == pytest.approx([0.02 * factor for factor in wanted])
    assert layers == their_biases == pytest.approx([0.3 * factor for factor in wanted])
    end = 0 if falling else 1
    last = module.lr_schedulers().get_last_lr()
    assert last == pytest.approx([0.3 * end, 0.3 * end, 0.02 * end, 0.02 * end])


def test_a_rising_rate_that_does_not_fall_ends_at_the_full_one():
    (rates, *_), _ = rates_of(Schedule(falling=False, warmup=0.99), learning_rate=0.02)
    assert list(rates) == sorted(rates) and 0 < rates[0] < rates[-1] < 0.02


def groups_of(module, schedule):
    module.schedule = schedule
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.optimizers._steps", lambda module: STEPS)
        return module.configure_optimizers()["optimizer"]


def names(module, group):
    of = {id(p): name for name, p in module.named_parameters()}
    return {of[id(p)] for p in group["params"]}


def test_layers_have_their_rate_and_biases_and_norms_no_decay():
    encoder = text_encoder(weights=torch.arange(30) + 1.0)
    predictor = nn.TransformerEncoderLayer(8, 2, 16)  # wherever layers are
    module = JEPA(encoder, nn.Sequential(nn.Linear(8, 8), predictor), learning_rate=0.02)
    optimizer = groups_of(module, Schedule(weight_decay=0.3, layer_rate=0.5))
    assert type(optimizer) is torch.optim.AdamW
    parameters = dict(module.named_parameters())
    inside = {name for name in parameters if re.search(r"encoder\.layers|predictor\.1", name)}
    big = {name for name, p in parameters.items() if p.dim() > 1}
    found = [names(module, group) for group in optimizer.param_groups]
    assert found == [inside & big, inside - big, big - inside, set(parameters) - inside - big]
    tables = {f"context_encoder.{name}.weight" for name in ("tokens", "positions", "weights")}
    assert found[2] == tables | {"predictor.0.weight"}
    assert "context_encoder.norm.weight" in found[3]
    assert len(inside) == 2 * len(predictor.state_dict())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0, 0.3, 0.0]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.5, 0.5, 0.02, 0.02]


def test_layers_have_the_rate_of_all_others_by_default():
    optimizer = groups_of(text_module(learning_rate=0.02), Schedule())
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.02] * 4
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_a_shared_table_is_one_and_what_is_frozen_or_empty_is_left_out():
    words = nn.Embedding(9, 4)
    module = JEPA(WindowEncoder(words, window=2, hidden=8), nn.Identity(), target_encoder=words)
    weights, biases = groups_of(module, Schedule(layer_rate=0.5)).param_groups  # no layers
    assert [p is words.weight for p in weights["params"]].count(True) == 1
    assert weights["initial_lr"] == biases["initial_lr"] == module.learning_rate
    words.requires_grad_(False)
    left = groups_of(module, Schedule()).param_groups
    assert [len(group["params"]) for group in left] == [2, 2]
    assert all(p is not words.weight for group in left for p in group["params"])
    (alone,) = groups_of(JEPA(nn.Embedding(9, 4), nn.Identity()), Schedule()).param_groups
    assert len(alone["params"]) == 1


def test_vectors_of_words_that_never_come_decay_and_do_nothing_else():
    schedule = Schedule(weight_decay=0.4, layer_rate=0.02)
    (_, _, others, _), module = rates_of(schedule, learning_rate=0.3)
    fresh, trained = text_encoder().tokens.weight, module.context_encoder.tokens.weight
    left = math.prod(1 - rate * 0.4 for rate in others)
    assert left < 0.7
    torch.testing.assert_close(trained[28:], left * fresh[28:])  # 0 to 27 come
    assert not torch.allclose(trained[:28], left * fresh[:28], atol=0.1)


def test_without_a_schedule_it_is_adam_with_one_rate():
    module = text_module(learning_rate=0.02)
    assert module.schedule is None
    optimizer = module.configure_optimizers()
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam and group["weight_decay"] == 0
    assert {id(p) for p in group["params"]} == {id(p) for p in module.parameters()}
    ((rates,), _) = rates_of(None, learning_rate=0.02)
    assert set(rates) == {0.02}


@pytest.mark.parametrize(
    "change, words",
    [
        (
            dict(warmup=-1e-9),
            "warmup must be a share of the training, from 0 to below 1, got -1e-09",
        ),
        (dict(warmup=1), "warmup.*got 1"),
        (dict(warmup=math.nan), "warmup.*got nan"),
        (dict(warmup="0.1"), "warmup.*got '0.1'"),
        (dict(weight_decay=-1e-9), "weight_decay must be 0 or positive, and finite, got -1e-09"),
        (dict(weight_decay=math.inf), "weight_decay.*got inf"),
        (dict(layer_rate=0), "layer_rate must be positive and finite, or None, got 0"),
        (dict(layer_rate=-0.1), "layer_rate.*got -0.1"),
        (dict(layer_rate=math.inf), "layer_rate.*got inf"),
        (dict(layer_rate=True), "layer_rate.*got True"),
    ],
)
def test_a_schedule_rejects_bad_numbers(change, words):
    with pytest.raises(ValueError, match=words):
        Schedule(**change)


def test_the_ends_of_the_ranges_are_allowed():
    schedule = Schedule(warmup=0, weight_decay=0, layer_rate=1e-12)
    assert replace(schedule, warmup=1 - 1e-9, weight_decay=1e9).warmup < 1


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(2, dtype=torch.int64),) * 2])


def test_a_schedule_needs_the_number_of_steps():
    module = make()
    module.schedule = Schedule()
    with pytest.raises(ValueError, match="batches must have a length.*batches without"):
        fit(module, DataLoader(Endless(), batch_size=None), epochs=1, seed=0, progress=False)


def test_an_interrupted_training_with_a_schedule_ends_with_the_same_weights(tmp_path):
    """Both the loader and SIGReg draw of torch's own numbers."""

    def train(**how):
        module = text_module(schedule=Schedule(warmup=0.25, layer_rate=0.02))
        return fit(module, spans(), epochs=4, seed=0, progress=False, **how), weights(module)

    state = tmp_path / "run.ckpt"
    with pytest.raises(InterruptedError):
        train(checkpoint=state, monitor=interrupted(after=2))
    (resumed, found), (whole, wanted) = train(checkpoint=state), train()
    assert resumed.losses == whole.losses and torch.equal(found, wanted)


def test_a_training_does_not_go_on_with_another_schedule(tmp_path):
    def train(schedule):
        module, state = make(), tmp_path / "run.ckpt"
        module.schedule = schedule
        fit(module, data(), epochs=1, seed=0, checkpoint=state, progress=False)

    train(Schedule())
    train(Schedule())
    for other in (None, Schedule(falling=False), Schedule(layer_rate=0.1)):
        with pytest.raises(CheckpointError, match="other settings: schedule"):
            train(other)
