"""Drift of rollouts and what corrects it, on worlds small enough to know the answer."""

import pytest
import torch
from torch import nn

from jepa_utils.evaluation.drift import Corrected, drift, hindsight_correction, nearest_correction
from jepa_utils.models.world import rollout


class Moves(nn.Module):
    """The next place is this place plus the action, times a factor and plus an error."""

    def __init__(self, factor=1.0, error=0.0):
        super().__init__()
        self.factor, self.error = factor, error

    def forward(self, embeddings, action):
        return self.factor * (embeddings[..., -1, :] + action) + self.error


def places(number, horizon, seed=0):
    """Walks on a circle: true embeddings (N, H+1, 2) and the actions between them."""
    draw = torch.Generator().manual_seed(seed)
    start = 6.28 * torch.rand(number, 1, generator=draw)
    turns = 0.4 * torch.randn(number, horizon, generator=draw)
    angles = torch.cat([start, start + turns.cumsum(dim=1)], dim=1)
    h = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return h, h.diff(dim=1)


def test_errors_are_those_by_hand():
    h, actions = places(50, 6)
    predicted = rollout(Moves(error=0.1), h[:, 0], actions)
    found = drift(predicted, h[:, 1:], h[:, 0], places(400, 1, seed=1)[0].flatten(0, 1))
    variance = h[:, 1:].reshape(-1, 2).var(dim=0, correction=0).sum()
    step = torch.arange(1.0, 7)  # each adds 0.1 to both numbers
    torch.testing.assert_close(found.error, 2 * (0.1 * step) ** 2 / variance)
    copied = (h[:, 1:] - h[:, :1]).square().sum(dim=-1).mean(dim=0) / variance
    torch.testing.assert_close(found.copied, copied)


def test_what_leaves_the_circle_is_away_and_what_stays_is_not():
    h, actions = places(200, 10)
    bank = places(500, 3, seed=1)[0].flatten(0, 1)
    true = rollout(Moves(), h[:, 0], actions)
    torch.testing.assert_close(
        drift(true, h[:, 1:], h[:, 0], bank).away, torch.ones(10), atol=2e-3, rtol=0
    )
    out = drift(rollout(Moves(1.05), h[:, 0], actions), h[:, 1:], h[:, 0], bank).away
    assert out[0] > 3 and (out.diff() > 0).all()


def test_projection_brings_back_to_the_bank_and_leaves_what_is_in_it():
    bank = places(2000, 1, seed=1)[0].flatten(0, 1)
    correct = nearest_correction(bank)
    torch.testing.assert_close(correct(bank[:20]), bank[:20], atol=1e-4, rtol=0)
    far = 1.3 * places(40, 1, seed=2)[0]
    back = correct(far)
    assert back.shape == far.shape
    torch.testing.assert_close(back, far / 1.3, atol=0.01, rtol=0)


def test_a_nearer_neighbour_counts_for_more():
    bank = torch.tensor([[0.0], [4.0]])
    assert nearest_correction(bank, neighbours=2)(torch.tensor([1.0])).item() == pytest.approx(1.0)
    assert nearest_correction(bank, neighbours=1)(torch.tensor([1.0])).item() == 0


def test_hindsight_learns_what_the_predictor_always_gets_wrong():
    torch.manual_seed(0)
    wrong = Moves(1.05, 0.05)

    def batches():
        seed = 10
        while True:
            seed += 1
            yield places(64, 8, seed)

    network = hindsight_correction(wrong, batches(), updates=300, hidden=64)
    h, actions = places(200, 8, seed=1)

    def last_error(predictor):
        bank = h.flatten(0, 1)
        return drift(rollout(predictor, h[:, 0], actions), h[:, 1:], h[:, 0], bank).error[-1]

    assert last_error(Corrected(wrong, network)) < 0.1 * last_error(wrong)
    assert not any(p.requires_grad for p in network.parameters())
    random = hindsight_correction(wrong, batches(), updates=1, hidden=64)
    assert last_error(Corrected(wrong, random)) > 0.8 * last_error(wrong)


def test_bad_input_is_said():
    h, actions = places(5, 3)
    bank = h.flatten(0, 1)
    for wrong in ((h[:, 1:], h, h[:, 0], bank), (h, h, h[:, 0], bank[:, :1]), (h, h, h, bank)):
        with pytest.raises(ValueError, match=r"predicted and true must be \(N, H, D\)"):
            drift(*wrong)
    with pytest.raises(ValueError, match="true must hold different"):
        drift(torch.ones_like(h), torch.ones_like(h), h[:, 0], bank)
    with pytest.raises(ValueError, match="bank must be .* at least 30 rows"):
        nearest_correction(bank, neighbours=30)
    with pytest.raises(ValueError, match="batches must be at least updates = 3, got 1"):
        hindsight_correction(Moves(), iter([(h, actions)]), updates=3)
    with pytest.raises(ValueError, match="updates"):
        hindsight_correction(Moves(), iter([(h, actions)]), updates=0)
