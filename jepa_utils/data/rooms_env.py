"""The two rooms as an environment of gymnasium, one episode at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from jepa_utils.data.rooms import Rooms

__all__ = ["RoomsEnv"]

_OPTIONS = ("layout", "position", "goal")


class RoomsEnv(gymnasium.Env):
    """Bring the dot to the goal, from pictures.

    An observation is the picture (2, S, S) of `Rooms.render` as uint8, from 0 to 255. An action is
    as in `Rooms.step`. The reward is minus the length of the shortest way to the goal after the
    step, in sides. An episode ends where the goal is reached; there is no limit of time.

    The information beside each observation: ``position``, ``goal`` and ``layout`` (2,),
    ``goal_image`` as an observation, ``distance`` as in the reward, and ``success``.

    Parameters
    ----------
    rooms : Rooms, optional
        By default one with all defaults.
    held_out : bool, default False
        Draw layouts from those held out from training.
    """

    def __init__(self, rooms: Rooms | None = None, *, held_out: bool = False) -> None:
        self.rooms, self.held_out = rooms or Rooms(), held_out
        shape = (2, self.rooms.size, self.rooms.size)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self._position: Tensor | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Parameters
        ----------
        seed : int, optional
            Of all that follows, until the next seed.
        options : dict, optional
            Any of ``layout``, ``position`` and ``goal``, two numbers each, in sides; what is not
            given is drawn.

        Returns
        -------
        observation : ndarray of uint8, shape (2, S, S)
        info : dict

        Raises
        ------
        ValueError
            If an option is unknown, or a position or goal is not free.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        if unknown := [name for name in given if name not in _OPTIONS]:
            raise ValueError(f"options must be among {', '.join(_OPTIONS)}; got {unknown}")
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**62)))
        # Drawn whether or not they are used: an option leaves the other draws as they are.
        layout = self.rooms.layouts(1, generator, held_out=self.held_out)[0]
        self._layout = _pair("layout", given.get("layout", layout))
        position = self.rooms.random_positions(self._layout, generator)
        goal = self.rooms.random_positions(self._layout, generator)
        self._position = _pair("position", given.get("position", position))
        self._goal = _pair("goal", given.get("goal", goal))
        return self._picture(self._position), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the dot.

        Parameters
        ----------
        action : array, shape (2,)
            In units of the longest step.

        Returns
        -------
        observation : ndarray of uint8, shape (2, S, S)
        reward : float
        terminated : bool
            Whether the goal is reached.
        truncated : bool
            Never.
        info : dict

        Raises
        ------
        ValueError
            If the action has a wrong shape or is not finite.
        RuntimeError
            If there was no `reset`.
        """
        if self._position is None:
            raise RuntimeError("step needs an episode; call reset first")
        self._position = self.rooms.step(self._position, _pair("action", action), self._layout)
        info = self._info()
        return self._picture(self._position), -info["distance"], info["success"], False, info

    def _picture(self, position: Tensor) -> np.ndarray:
        picture = self.rooms.render(position, self._layout)
        return (255 * picture).round().to(torch.uint8).numpy()

    def _info(self) -> dict[str, Any]:
        distance = self.rooms.shortest_path(self._position, self._goal, self._layout).item()
        return {
            "position": self._position.numpy().copy(),
            "goal": self._goal.numpy().copy(),
            "layout": self._layout.numpy().copy(),
            "goal_image": self._picture(self._goal),
            "distance": distance,
            "success": distance <= self.rooms.reach,
        }


def _pair(name: str, value: Any) -> Tensor:
    """Two numbers as float32."""
    pair = torch.as_tensor(value, dtype=torch.float32)
    if pair.shape != (2,):
        raise ValueError(f"{name} must be two numbers, got shape {tuple(pair.shape)}")
    return pair
