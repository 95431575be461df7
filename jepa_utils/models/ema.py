"""The moving average of a network: a target that follows slowly, and gets no gradient."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA(nn.Module):
    """Exponential moving average of a network's parameters.

    Calling it calls the averaged network, without gradient.

    ``average <- decay * average + (1 - decay) * network`` at each `update`.

    Parameters
    ----------
    network : nn.Module
        Copied as the first average. It is not kept: hand it to `update` again.
    decay : float, default 0.99
        Share of the old average that stays, from 0 (copy) to 1 (never moves).

    Raises
    ------
    ValueError
        If `decay` is outside 0 to 1.

    References
    ----------
    Grill et al., "Bootstrap your own latent", arXiv 2006.07733; as the target encoder of I-JEPA,
    arXiv 2301.08243.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99):
        super().__init__()
        self.decay = self._check(decay)
        self.average = copy.deepcopy(network).requires_grad_(False)

    @staticmethod
    def _check(decay: float) -> float:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        return decay

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float | None = None) -> None:
        """Move the average towards `network`.

        Parameters
        ----------
        network : nn.Module
            The network that learns. Its buffers are copied, not averaged.
        decay : float, optional
            For this step; schedules give it.

        Raises
        ------
        ValueError
            If `network` has other parameters or buffers than the average, or `decay` is outside 0
            to 1; nothing moves then.
        """
        decay = self.decay if decay is None else self._check(decay)
        ours, theirs = self.average.state_dict(keep_vars=True), network.state_dict(keep_vars=True)
        shapes = [
            {name: tuple(tensor.shape) for name, tensor in state.items()}
            for state in (ours, theirs)
        ]
        if shapes[0] != shapes[1]:
            odd = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))[:3]
            raise ValueError(
                f"network must have the parameters and buffers of the average, "
                f"got differences in {odd}"
            )
        for name, tensor in ours.items():
            if isinstance(tensor, nn.Parameter):
                tensor.lerp_(theirs[name].to(tensor), 1 - decay)
            else:
                tensor.copy_(theirs[name])

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        """What the averaged network says."""
        return self.average(*inputs)
