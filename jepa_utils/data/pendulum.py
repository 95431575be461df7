"""A pendulum with a motor too weak to lift it at once, seen in pictures that do not show its speed.

The physics are those of gymnasium's ``Pendulum-v1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_utils.arguments import whole

__all__ = ["Pendulum"]

_LENGTH = 0.4  # of the drawn rod, in sides
_BREADTH = 1.5 / 32  # of the drawn rod, in sides: standard deviation across it


@dataclass(frozen=True)
class Pendulum:
    """A rod of 1 m and 1 kg, turned by a motor at one end.

    A state is a pair: the angle in radians, 0 upright and positive counterclockwise, and the
    angular velocity in radians per second. Angles are not wrapped.

    Attributes
    ----------
    size : int
        Side S of pictures in pixels, at least 16.
    gravity : float
        In metres per square second.
    interval : float
        Between two steps, in seconds.
    max_torque : float
        In newton metres; what is asked for beyond it is cut.
    max_speed : float
        In radians per second.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 16.
    """

    size: int = 32
    gravity: float = 10.0
    interval: float = 0.05
    max_torque: float = 2.0
    max_speed: float = 8.0

    def __post_init__(self) -> None:
        whole("size", self.size, 16)

    def step(self, states: Tensor, torques: Tensor) -> Tensor:
        """States one interval later.

        Parameters
        ----------
        states : Tensor, shape (..., 2)
            Angle and angular velocity.
        torques : Tensor, shape (..., 1)
            In newton metres, counterclockwise.

        Returns
        -------
        Tensor, shape (..., 2)

        Raises
        ------
        ValueError
            If a shape is wrong.
        """
        _check("states", states, 2)
        _check("torques", torques, 1)
        if states.shape[:-1] != torques.shape[:-1]:
            raise ValueError(
                f"states and torques must be equally many, got {tuple(states.shape)} and "
                f"{tuple(torques.shape)}"
            )
        angle, speed = states.unbind(-1)
        torque = torques[..., 0].clamp(-self.max_torque, self.max_torque)
        speed = speed + (1.5 * self.gravity * angle.sin() + 3 * torque) * self.interval
        speed = speed.clamp(-self.max_speed, self.max_speed)
        return torch.stack([angle + speed * self.interval, speed], dim=-1)

    def render(self, states: Tensor) -> Tensor:
        """Draw the rod, smooth at its edges, from the middle of the picture to its free end.

        Parameters
        ----------
        states : Tensor, shape (..., 2)
            Only the angle shows.

        Returns
        -------
        Tensor, shape (..., 1, S, S)
            From 0 to 1: a Gaussian of the distance to the rod.

        Raises
        ------
        ValueError
            If the shape is wrong.
        """
        _check("states", states, 2)
        angle = states[..., 0, None, None]
        pixels = torch.arange(self.size, dtype=states.dtype, device=states.device)
        middles = (pixels + 0.5) / self.size - 0.5
        right, down = middles[None, :], middles[:, None]
        along = -right * angle.sin() - down * angle.cos()
        across = right * angle.cos() - down * angle.sin()
        beyond = along - along.clamp(0, _LENGTH)
        distance = (across.square() + beyond.square()) / _BREADTH**2
        return distance.div(-2).exp()[..., None, :, :]


def _check(name: str, value: Tensor, last: int) -> None:
    if value.dim() < 1 or value.shape[-1] != last or not value.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point numbers of shape (..., {last}), got {value.dtype} of "
            f"{tuple(value.shape)}"
        )
