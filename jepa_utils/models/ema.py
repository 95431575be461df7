"""The moving average of a network: a target that follows slowly, and gets no gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

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

    Notes
    -----
    `average` stays in float32 at least, whatever the network is in and wherever the module is
    moved: in half precision its small steps would be rounded away. Calling the module computes in
    the network's own precision, or the one that it was moved to.

    References
    ----------
    Grill et al., "Bootstrap your own latent", arXiv 2006.07733; as the target encoder of I-JEPA,
    arXiv 2301.08243.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99):
        super().__init__()
        self.decay = self._check(decay)
        self.average = copy.deepcopy(network).requires_grad_(False)
        named = _tensors(self.average)
        self._dtypes = {name: tensor.dtype for name, tensor in named.items()}  # to compute in
        self._widen()

    @staticmethod
    def _check(decay: float) -> float:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        return float(decay)

    def _widen(self) -> None:
        for tensor in _tensors(self.average).values():
            if _is_half(tensor):
                tensor.data = tensor.data.float()  # in place: what is tied stays tied

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EMA:
        # behind .to, .cuda, .half ...: a lower precision is for computing, not for the average
        for name, tensor in _tensors(self.average).items():
            self._dtypes[name] = fn(tensor.new_empty(0, dtype=self._dtypes[name])).dtype

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if _is_half(moved) else moved

        return super()._apply(move, recurse)

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
            If `network` has other parameters or buffers than the average, or does not share those
            that the average shares, or `decay` is outside 0 to 1; nothing moves then.
        """
        decay = self.decay if decay is None else self._check(decay)
        ours, theirs = (_tensors(x) for x in (self.average, network))
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
        first: dict[int, str] = {}  # tensors that go by several names move once
        for name, tensor in ours.items():
            if theirs[first.setdefault(id(tensor), name)] is not theirs[name]:
                raise ValueError(
                    f"network must share what the average shares, "
                    f"got two tensors for {first[id(tensor)]} and {name}"
                )
        self._widen()  # somebody may have lowered `average` itself
        for name in first.values():
            tensor, new = ours[name], theirs[name]
            if isinstance(tensor, nn.Parameter):
                tensor.lerp_(new.to(tensor), 1 - decay)
            else:
                tensor.copy_(new)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        """What the averaged network says."""
        lower = {
            name: tensor.to(self._dtypes[name])
            for name, tensor in _tensors(self.average).items()
            if tensor.dtype != self._dtypes[name]
        }
        if not lower:
            return self.average(*inputs)
        return functional_call(self.average, lower, inputs, tie_weights=False)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of each module, tied ones under all their names.

    A module that occurs twice is looked at once: `functional_call` would not put back what it
    swaps twice.
    """
    return {
        f"{path}.{name}".lstrip("."): tensor
        for path, module in network.named_modules()
        for kind in (module.named_parameters, module.named_buffers)
        for name, tensor in kind(recurse=False, remove_duplicate=False)
    }


def _is_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.itemsize < 4
