"""Losses of world models against loops over trajectories, times and dimensions."""

import re

import pytest
import torch

from jepa_utils.objectives.dynamics import (
    inverse_dynamics_loss,
    next_embedding_loss,
    smoothness_penalty,
)

B, T, D, A = 3, 4, 5, 2


def draw(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def head(first, second):
    """Not the same of both, and of another size than an embedding."""
    return (2 * second - first)[..., :A]


def test_next_embedding_loss_is_the_mean_of_all_squares():
    predicted, targets = draw(B, T, D), draw(B, T, D, seed=1)
    squares = [
        (predicted[b, t, d] - targets[b, t, d]).item() ** 2
        for b in range(B)
        for t in range(T)
        for d in range(D)
    ]
    value = next_embedding_loss(predicted, targets).item()
    assert value == pytest.approx(sum(squares) / (B * T * D), rel=1e-12)
    assert next_embedding_loss(predicted[0], targets[0]).item() != value
    assert next_embedding_loss(targets, targets) == 0


def test_gradient_reaches_predictions_and_targets():
    predicted, targets = draw(B, T, D).requires_grad_(), draw(B, T, D, seed=1).requires_grad_()
    next_embedding_loss(predicted, targets).backward()
    expected = 2 * (predicted - targets).detach() / (B * T * D)
    torch.testing.assert_close(predicted.grad, expected)
    torch.testing.assert_close(targets.grad, -expected)


@pytest.mark.parametrize("before", [(), (B,), (2, B)], ids=str)
def test_inverse_dynamics_loss_compares_the_actions_between_two_embeddings(before):
    h, actions = draw(*before, T + 1, D), draw(*before, T, A, seed=1)
    squares = []
    for row, told in zip(h.view(-1, T + 1, D), actions.view(-1, T, A), strict=True):
        for t in range(T):
            squares += [(x - y) ** 2 for x, y in zip(head(row[t], row[t + 1]), told[t])]
    expected = float(sum(squares)) / len(squares)
    assert inverse_dynamics_loss(h, actions, head).item() == pytest.approx(expected, rel=1e-12)


def test_smoothness_is_the_mean_square_of_second_differences():
    h = draw(B, T + 1, D)
    squares = [
        (h[b, t + 1, d] - 2 * h[b, t, d] + h[b, t - 1, d]).item() ** 2
        for b in range(B)
        for t in range(1, T)
        for d in range(D)
    ]
    assert smoothness_penalty(h).item() == pytest.approx(sum(squares) / len(squares), rel=1e-12)


def test_a_straight_line_at_even_speed_is_smooth_and_a_turn_is_not():
    times = torch.arange(T + 1, dtype=torch.float64)[:, None]
    line = 3 + times * draw(D)
    assert smoothness_penalty(line).item() == pytest.approx(0, abs=1e-20)
    assert smoothness_penalty(line * times) > 0.1
    assert smoothness_penalty(line[[0, 1, 0]]) > 0.1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: next_embedding_loss(draw(B, T, D), draw(B, 1, D)), "(3, 4, 5) and (3, 1, 5)"),
        (lambda: next_embedding_loss(draw(D), draw(D)), "(..., H, D), got (5,)"),
        (lambda: next_embedding_loss(draw(B, 0, D), draw(B, 0, D)), "(3, 0, 5)"),
        (lambda: inverse_dynamics_loss(draw(B, T, D), draw(B, T, A), head), "(..., T+1, D)"),
        (lambda: inverse_dynamics_loss(draw(2, T + 1, D), draw(B, T, A), head), "(2, 5, 5)"),
        (lambda: inverse_dynamics_loss(draw(B, 1, D), draw(B, 0, A), head), "(3, 0, 2)"),
        (lambda: inverse_dynamics_loss(draw(D), draw(A), head), "got (5,) and (2,)"),
        (
            lambda: inverse_dynamics_loss(draw(B, T + 1, D), draw(B, T, 1), head),
            "head must give actions (3, 4, 1), got (3, 4, 2)",
        ),
        (lambda: smoothness_penalty(draw(B, 2, D)), "at least 3 frames, got (3, 2, 5)"),
        (lambda: smoothness_penalty(draw(0, 3, D)), "(0, 3, 5)"),
        (lambda: smoothness_penalty(draw(D)), "(5,)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
