"""Losses of world models: next embeddings, the actions between them, and how straight they run.

All are means over everything, so that a trajectory's length and a batch's size change no scale.
None of them keeps embeddings apart: the first and the last are 0 where all embeddings are equal.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

__all__ = ["inverse_dynamics_loss", "next_embedding_loss", "smoothness_penalty"]


def next_embedding_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of predicted embeddings.

    LeWorldModel's loss is this plus ``lambda * SIGReg``, with gradient to the targets, too.

    Parameters
    ----------
    predicted : Tensor, shape (..., H, D)
        Predicted embeddings of H steps.
    targets : Tensor, shape (..., H, D)
        Embeddings of the frames that came.

    Returns
    -------
    Tensor, scalar
        Mean over trajectories, steps and dimensions, in squared units of the embedding.

    Raises
    ------
    ValueError
        If the shapes differ or are empty.

    References
    ----------
    Maes et al., "LeWorldModel: Stable End-to-End Joint-Embedding Predictive Architecture from
    Pixels", arXiv 2603.19312.
    """
    if predicted.shape != targets.shape or predicted.dim() < 2 or predicted.numel() == 0:
        raise ValueError(
            "predicted and targets must be of one shape (..., H, D), got "
            f"{tuple(predicted.shape)} and {tuple(targets.shape)}"
        )
    return F.mse_loss(predicted, targets)


def inverse_dynamics_loss(
    embeddings: Tensor, actions: Tensor, head: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean squared error of the actions that a head reads from each two consecutive embeddings.

    Parameters
    ----------
    embeddings : Tensor, shape (..., T+1, D)
        Embeddings of trajectories.
    actions : Tensor, shape (..., T, A)
        The action between each two.
    head : callable
        Embeddings and those one step later, (..., T, D) each, to actions (..., T, A), such as
        `InverseDynamics`.

    Returns
    -------
    Tensor, scalar
        Mean over trajectories, times and the action's numbers.

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no action.

    References
    ----------
    Sobal et al., "Learning from Reward-Free Offline Data: A Case for Planning with Latent Dynamics
    Models" (PLDM), arXiv 2502.14819, beside VICReg's penalties; Ivashkov et al., "Sensorimotor
    World Models", arXiv 2606.20104, as the only thing against collapse.
    """
    fits = min(embeddings.dim(), actions.dim()) >= 2 and actions.numel() > 0
    steps = (*actions.shape[:-2], actions.shape[-2] + 1) if fits else ()
    if not fits or embeddings.shape[:-1] != steps:
        raise ValueError(
            "embeddings must be (..., T+1, D) and actions (..., T, A), got "
            f"{tuple(embeddings.shape)} and {tuple(actions.shape)}"
        )
    guessed = head(embeddings[..., :-1, :], embeddings[..., 1:, :])
    if guessed.shape != actions.shape:
        raise ValueError(
            f"head must give actions {tuple(actions.shape)}, got {tuple(guessed.shape)}"
        )
    return F.mse_loss(guessed, actions)


def smoothness_penalty(embeddings: Tensor) -> Tensor:
    """Mean square of the second differences along time: 0 for a straight line at even speed.

    Parameters
    ----------
    embeddings : Tensor, shape (..., T+1, D)
        Embeddings of trajectories, of three frames at least.

    Returns
    -------
    Tensor, scalar
        Mean of ``(h[t+1] - 2 h[t] + h[t-1])**2`` over trajectories, times and dimensions.

    Raises
    ------
    ValueError
        If there are fewer than three frames.
    """
    if embeddings.dim() < 2 or embeddings.shape[-2] < 3 or embeddings.numel() == 0:
        raise ValueError(
            "embeddings must be (..., T+1, D) with at least 3 frames, got "
            f"{tuple(embeddings.shape)}"
        )
    return embeddings.diff(n=2, dim=-2).square().mean()
