"""Drift: how far a rollout of embeddings leaves what really comes, and what pulls it back.

A correction is a function from embeddings (..., D) to embeddings (..., D). Put behind a predictor
by `Corrected`, it acts on every step of a rollout, in a planner, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count
from jepa_utils.models.mlp import MLP
from jepa_utils.models.world import rollout

__all__ = ["Corrected", "Drift", "drift", "hindsight_correction", "nearest_correction"]

Correction = Callable[[Tensor], Tensor]
_ROWS = 4096  # of distances at a time


@dataclass(frozen=True)
class Drift:
    """Errors of open-loop rollouts by horizon; all have shape (H,).

    Attributes
    ----------
    error : Tensor
        Mean squared error of predicted embeddings over the variance of true ones: 1 is as bad as
        their mean.
    copied : Tensor
        The same of a prediction that nothing changes.
    away : Tensor
        Mean distance of predicted embeddings to the nearest of a bank of real ones, over that of
        the true embeddings: 1 is as near as what is real.
    """

    error: Tensor
    copied: Tensor
    away: Tensor


def drift(predicted: Tensor, true: Tensor, start: Tensor, bank: Tensor) -> Drift:
    """Measure how far rollouts leave what came.

    Parameters
    ----------
    predicted : Tensor, shape (N, H, D)
        Embeddings that were rolled out.
    true : Tensor, shape (N, H, D)
        Embeddings of the frames that came.
    start : Tensor, shape (N, D)
        Embeddings from which the rollouts began.
    bank : Tensor, shape (M, D)
        Embeddings of other frames.

    Returns
    -------
    Drift

    Raises
    ------
    ValueError
        If shapes do not fit, or all true embeddings are one.
    """
    number, _, dimensions = true.shape if true.dim() == 3 else (0, 0, 0)
    if (
        true.numel() == 0
        or predicted.shape != true.shape
        or start.shape != (number, dimensions)
        or bank.shape[1:] != (dimensions,)
        or len(bank) == 0
    ):
        raise ValueError(
            "predicted and true must be (N, H, D), start (N, D) and bank (M, D), got "
            f"{', '.join(str(tuple(x.shape)) for x in (predicted, true, start, bank))}"
        )
    variance = true.flatten(0, 1).var(dim=0, correction=0).sum()
    if not variance > 0:
        raise ValueError("true must hold different embeddings, got one over and over")

    def error(guess: Tensor) -> Tensor:
        return (guess - true).square().sum(dim=-1).mean(dim=0) / variance

    near, real = (_nearest(x, bank, 1)[0].mean(dim=(0, 2)) for x in (predicted, true))
    return Drift(error(predicted), error(start.unsqueeze(1).expand_as(true)), near / real)


def _nearest(h: Tensor, bank: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Distances to the nearest of a bank, (..., number), and which rows they are."""
    rows = h.reshape(-1, h.shape[-1])
    found = [
        torch.cdist(part, bank).topk(number, dim=1, largest=False).indices
        for part in rows.split(_ROWS)
    ]
    places = torch.cat(found).view(*h.shape[:-1], number)
    # Anew, for those of all pairs are rounded where they are small.
    return (h.unsqueeze(-2) - bank[places]).norm(dim=-1), places


class Corrected(nn.Module):
    """A predictor, and a correction of what it predicts.

    Parameters
    ----------
    predictor : nn.Module
        Embeddings (..., history, D) and an action (..., A) to the next embedding (..., D).
    correction : callable
        Embeddings (..., D) to embeddings (..., D).
    """

    def __init__(self, predictor: nn.Module, correction: Correction):
        super().__init__()
        self.predictor, self.correction = predictor, correction

    def forward(self, embeddings: Tensor, action: Tensor) -> Tensor:
        """The next embedding, corrected."""
        return self.correction(self.predictor(embeddings, action))


def nearest_correction(bank: Tensor, *, neighbours: int = 5) -> Correction:
    """Projection onto real embeddings: the mean of the nearest ones, near ones counting for more.

    Parameters
    ----------
    bank : Tensor, shape (M, D)
        Real embeddings.
    neighbours : int, default 5
        How many are averaged, each by the inverse of its distance.

    Returns
    -------
    callable
        Embeddings (..., D) to embeddings (..., D).

    Raises
    ------
    ValueError
        If `bank` has no two axes, or fewer rows than `neighbours`.
    """
    neighbours = check_count("neighbours", neighbours)
    if bank.dim() != 2 or len(bank) < neighbours:
        raise ValueError(
            f"bank must be (M, D) with at least {neighbours} rows, got {tuple(bank.shape)}"
        )

    def correct(h: Tensor) -> Tensor:
        distances, places = _nearest(h, bank, neighbours)
        weights = 1 / distances.clamp(min=1e-9)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return torch.einsum("...k,...kd->...d", weights, bank[places])

    return correct


class _Hindsight(nn.Module):
    """An embedding, and what an MLP adds to it."""

    def __init__(self, dimensions: int, hidden: int):
        super().__init__()
        self.change = MLP(dimensions, hidden, dimensions)
        nn.init.zeros_(self.change[-1].weight)  # at first it changes nothing
        nn.init.zeros_(self.change[-1].bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.change(h)


def hindsight_correction(
    predictor: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    updates: int,
    hidden: int = 256,
    learning_rate: float = 1e-3,
) -> nn.Module:
    """Train a network to turn what was rolled out into what came, known in hindsight.

    The predictor stays as it is. Rollouts are made with the correction as far as it is trained, and
    each step is corrected for itself: no gradient runs back through the rollout.

    Parameters
    ----------
    predictor : nn.Module
        Of one embedding and an action.
    batches : iterator of (Tensor, Tensor)
        True embeddings (B, H+1, D) and actions (B, H, A), at least `updates` times.
    updates : int
        Steps of Adam.
    hidden : int, default 256
        Width of the two hidden layers.
    learning_rate : float, default 1e-3
        It falls to 0 on a cosine.

    Returns
    -------
    nn.Module
        Embeddings (..., D) to embeddings (..., D), without gradient to its weights.

    Raises
    ------
    ValueError
        If `updates` is less than 1, or there are fewer batches.
    """
    updates, network = check_count("updates", updates), None
    for update in range(updates):
        try:
            embeddings, actions = next(batches)
        except StopIteration:
            raise ValueError(
                f"batches must be at least updates = {updates}, got {update}"
            ) from None
        if network is None:
            network = _Hindsight(embeddings.shape[-1], hidden)
            adam = torch.optim.Adam(network.parameters(), lr=learning_rate)
            rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)
        seen: list[Tensor] = []

        def correct(h: Tensor, network=network, seen=seen) -> Tensor:
            seen.append(h)
            return network(h)

        with torch.no_grad():
            rollout(Corrected(predictor, correct), embeddings[:, 0], actions)
        loss = (network(torch.stack(seen, dim=1)) - embeddings[:, 1:]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        rates.step()
    return network.requires_grad_(False)
