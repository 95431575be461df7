"""Two rooms, a wall with a door between them, and a dot that moves: a world to plan in.

Places are in units of the picture's side: x to the right, y down, (0, 0) the upper left corner. So
a walk does not depend on the resolution at which it is drawn. Everything works on batches of any
shape, and on the device of what it is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from jepa_utils.arguments import check_count, whole

__all__ = ["DOORS", "WALLS", "Rooms", "Walks"]

# Multiples of 1/32, so that a picture of 32 pixels shows walls and doors with sharp edges.
WALLS = tuple(x / 32 for x in range(10, 23, 2))  # x of the wall's middle
DOORS = tuple(y / 32 for y in range(6, 27, 2))  # y of the door's middle

_TURN = 0.3  # radians per step: standard deviation of how far a walk's heading turns
_SLOWEST = 0.25  # of a walk's steps, in units of the longest
_SLACK = 1e-5  # sides; a place that deep inside a wall is there by rounding


@dataclass(frozen=True)
class Walks:
    """Random walks, and where they took place.

    Attributes
    ----------
    positions : Tensor, shape (N, T + 1, 2)
        Of the dot, x and y in sides of the picture.
    actions : Tensor, shape (N, T, 2)
        What was asked for, in units of the longest step; norm at most 1. Where the wall or the
        border stopped the dot, it moved less.
    layouts : Tensor, shape (N, 2)
        x of the wall and y of the door.
    """

    positions: Tensor
    actions: Tensor
    layouts: Tensor


@dataclass(frozen=True)
class Rooms:
    """A square of two rooms, with what is the same in all of its layouts.

    A layout is a pair: x of the wall's middle and y of the door's middle. The dot collides as an
    upright square of half side `radius`; so its middle stops `radius` before the wall's drawn edge,
    and has ``door - 2 * radius`` to pass the door.

    Attributes
    ----------
    size : int
        Side S of pictures in pixels, at least 16.
    thickness : float
        Of the wall, in sides, at most 1/4.
    door : float
        Width of the opening, in sides, at most 3/8 and more than the dot's.
    radius : float
        Of the dot, in sides: standard deviation of the blob that is drawn.
    max_step : float
        Length of the longest step, in sides.
    reach : float
        A goal is reached where the way to it is no longer, in sides.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    size: int = 32
    thickness: float = 2 / 32
    door: float = 8 / 32
    radius: float = 1.5 / 32
    max_step: float = 2.5 / 32
    reach: float = 2 / 32

    def __post_init__(self) -> None:
        whole("size", self.size, 16)
        for name in ("radius", "max_step", "reach"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)!r}")
        if not 0 < self.thickness <= 1 / 4:  # leaves two rooms in every layout
            raise ValueError(
                f"thickness must be above 0 and at most 0.25 sides, got {self.thickness!r}"
            )
        if not 2 * self.radius < self.door <= 3 / 8:  # leaves wall on both sides of every door
            raise ValueError(
                f"door must be above 2 * radius = {2 * self.radius} and at most 0.375 sides, "
                f"got {self.door!r}"
            )

    # ---- layouts

    @staticmethod
    def layout_grid(held_out: bool = False) -> Tensor:
        """All layouts for training, or all that are held out from it.

        The grid is `WALLS` by `DOORS`. One combination in five is held out, a knight's move from
        the next, so that each wall and each door occurs on both sides, but never the same pair.

        Parameters
        ----------
        held_out : bool, default False

        Returns
        -------
        Tensor, shape (M, 2)
            M is 61, or 16 of those held out.
        """
        return torch.tensor(
            [
                (wall, door)
                for i, wall in enumerate(WALLS)
                for j, door in enumerate(DOORS)
                if ((i - 2 * j) % 5 == 0) == held_out
            ]
        )

    @classmethod
    def layouts(cls, number: int, generator: torch.Generator, *, held_out: bool = False) -> Tensor:
        """Draw layouts with replacement.

        Parameters
        ----------
        number : int
            Number of layouts N.
        generator : torch.Generator
        held_out : bool, default False
            From those held out from training.

        Returns
        -------
        Tensor, shape (N, 2)

        Raises
        ------
        ValueError
            If `number` is not a positive integer.
        """
        number = check_count("number", number)
        grid = cls.layout_grid(held_out).to(generator.device)
        return grid[
            torch.randint(len(grid), (number,), generator=generator, device=generator.device)
        ]

    @staticmethod
    def fixed_layout(number: int = 1) -> Tensor:
        """One layout over and over, for a world in which only the dot differs.

        Parameters
        ----------
        number : int, default 1
            How often N.

        Returns
        -------
        Tensor, shape (N, 2)
            The wall in the middle, the door above it. It is one of the layouts for training.

        Raises
        ------
        ValueError
            If `number` is not a positive integer.
        """
        return torch.tensor([WALLS[3], DOORS[2]]).expand(check_count("number", number), 2)

    # ---- motion

    def step(self, positions: Tensor, actions: Tensor, layouts: Tensor) -> Tensor:
        """Move each dot by ``max_step * action``, as far as walls let it.

        The whole way is tested, not only its end: no step jumps over the wall. At the wall, a jamb
        of the door or the border the dot slides: it goes on along what it hit with the rest of its
        move in that direction, and stays where that is blocked, too.

        Parameters
        ----------
        positions : Tensor, shape (..., 2)
            In sides; free.
        actions : Tensor, shape (..., 2)
            In units of the longest step. One that is longer than 1 is shortened to 1.
        layouts : Tensor, shape (..., 2)
            The three shapes are broadcast.

        Returns
        -------
        Tensor, shape (..., 2)
            New positions.

        Raises
        ------
        ValueError
            If a shape or type is wrong, an action is not finite, or a position is not free.
        """
        positions, actions, layouts = _same_shape(
            positions=positions, actions=actions, layouts=layouts
        )
        if not torch.isfinite(actions).all():
            raise ValueError("actions must be finite, got some that are not")
        self._require_free("positions", positions, layouts)
        moves = self.max_step * actions / actions.norm(dim=-1, keepdim=True).clamp(min=1)
        ends = self._slide(self._settle(positions, layouts), moves, layouts)
        return self._settle(ends, layouts)

    def is_free(self, positions: Tensor, layouts: Tensor) -> Tensor:
        """Whether the dot fits there: inside of the border, outside of the wall.

        Parameters
        ----------
        positions, layouts : Tensor, shape (..., 2)
            In sides; broadcast.

        Returns
        -------
        Tensor of bool, shape (...)

        Raises
        ------
        ValueError
            If a shape or type is wrong.
        """
        positions, layouts = _same_shape(positions=positions, layouts=layouts)
        left, right, top, bottom = self._faces(layouts)
        x, y = positions.unbind(-1)
        low, high = self.radius - _SLACK, 1 - self.radius + _SLACK
        inside = ((positions >= low) & (positions <= high)).all(dim=-1)
        in_door = (y >= top - _SLACK) & (y <= bottom + _SLACK)
        return inside & ((x <= left + _SLACK) | (x >= right - _SLACK) | in_door)

    def random_positions(self, layouts: Tensor, generator: torch.Generator) -> Tensor:
        """Draw places evenly from all that are free, the door's among them.

        Parameters
        ----------
        layouts : Tensor, shape (..., 2)
        generator : torch.Generator

        Returns
        -------
        Tensor, shape (..., 2)
            In sides.

        Raises
        ------
        ValueError
            If `layouts` has a wrong shape or type, or a wall leaves no room beside it.
        """
        (layouts,) = _same_shape(layouts=layouts)
        left, right, top, bottom = self._faces(layouts)
        low, high = torch.full_like(left, self.radius), torch.full_like(left, 1 - self.radius)
        # Left room, right room, doorway: three rectangles by their corners, (..., 3, 2) each.
        start = torch.stack([low, low, right, low, left, top], dim=-1).unflatten(-1, (3, 2))
        stop = torch.stack([left, high, high, high, right, bottom], dim=-1).unflatten(-1, (3, 2))
        fine = (start < stop).flatten(-2).all(dim=-1)
        if not fine.all():
            raise ValueError(
                f"layouts must leave two rooms and a door, got {layouts[~fine][0].tolist()}"
            )
        share = (stop - start).prod(dim=-1).cumsum(dim=-1)
        u = _uniform((*layouts.shape[:-1], 3), generator, layouts)
        which = (u[..., :1] * share[..., -1:] >= share[..., :2]).sum(dim=-1)
        which = which[..., None, None].expand(*layouts.shape[:-1], 1, 2)
        start, stop = start.gather(-2, which).squeeze(-2), stop.gather(-2, which).squeeze(-2)
        return start + u[..., 1:] * (stop - start)

    def random_walks(self, layouts: Tensor, length: int, generator: torch.Generator) -> Walks:
        """Walks from random places, with a heading that turns a little at each step.

        What blocks the dot turns it back: the heading's part in that direction changes its sign.

        Parameters
        ----------
        layouts : Tensor, shape (N, 2)
            One for each walk.
        length : int
            Steps of a walk T.
        generator : torch.Generator

        Returns
        -------
        Walks

        Raises
        ------
        ValueError
            If `length` is not a positive integer, or `layouts` has a wrong shape or type.
        """
        length = check_count("length", length)
        (layouts,) = _same_shape(layouts=layouts)
        if layouts.dim() != 2:
            raise ValueError(f"layouts must have shape (N, 2), got {tuple(layouts.shape)}")
        shape = (len(layouts), length)
        turns = _TURN * torch.randn(shape, generator=generator, device=generator.device).to(layouts)
        speeds = _SLOWEST + (1 - _SLOWEST) * _uniform(shape, generator, layouts)
        angle = 2 * math.pi * _uniform(shape[:1], generator, layouts)
        heading = torch.stack([angle.cos(), angle.sin()], dim=-1)
        positions, actions = [self.random_positions(layouts, generator)], []
        for turn, speed in zip(turns.unbind(dim=1), speeds.unbind(dim=1), strict=True):
            x, y = heading.unbind(-1)
            across = torch.stack([-y, x], dim=-1)
            heading = turn.cos()[:, None] * heading + turn.sin()[:, None] * across
            actions.append(speed[:, None] * heading)
            positions.append(self.step(positions[-1], actions[-1], layouts))
            missing = positions[-2] + self.max_step * actions[-1] - positions[-1]
            heading = torch.where(missing.abs() > _SLACK, -heading, heading)
        return Walks(torch.stack(positions, dim=1), torch.stack(actions, dim=1), layouts)

    # ---- pictures

    def render(self, positions: Tensor, layouts: Tensor) -> Tensor:
        """Draw the dot as a smooth blob in one channel, and the wall in another.

        Parameters
        ----------
        positions, layouts : Tensor, shape (..., 2)
            In sides; broadcast.

        Returns
        -------
        Tensor, shape (..., 2, S, S)
            From 0 to 1. Channel 0: a Gaussian with its peak of 1 at the dot. Channel 1: how much of
            a pixel is wall.

        Raises
        ------
        ValueError
            If a shape or type is wrong.
        """
        positions, layouts = _same_shape(positions=positions, layouts=layouts)
        pixels = torch.arange(self.size, dtype=positions.dtype, device=positions.device)
        middles = (pixels + 0.5) / self.size
        profile = ((middles - positions[..., None]) / self.radius).square().div(-2).exp()
        dot = profile[..., 1, :, None] * profile[..., 0, None, :]

        def cover(middle: Tensor, width: float) -> Tensor:
            """How much of each pixel lies within an interval, (..., S)."""
            start, stop = (middle - width / 2) * self.size, (middle + width / 2) * self.size
            return (
                torch.minimum(stop[..., None], pixels + 1) - torch.maximum(start[..., None], pixels)
            ).clamp(min=0)

        opening = cover(layouts[..., 1], self.door)
        wall = (1 - opening)[..., :, None] * cover(layouts[..., 0], self.thickness)[..., None, :]
        return torch.stack([dot, wall], dim=-3)

    # ---- the truth

    def room_of(self, positions: Tensor, layouts: Tensor) -> Tensor:
        """Which side of the wall's middle the dot is on.

        Parameters
        ----------
        positions, layouts : Tensor, shape (..., 2)
            In sides; broadcast.

        Returns
        -------
        Tensor of int64, shape (...)
            0 for the left room, 1 for the right one.

        Raises
        ------
        ValueError
            If a shape or type is wrong.
        """
        positions, layouts = _same_shape(positions=positions, layouts=layouts)
        return (positions[..., 0] >= layouts[..., 0]).long()

    def crosses(self, starts: Tensor, ends: Tensor, layouts: Tensor) -> Tensor:
        """Whether the straight way from start to end leads through the wall.

        Parameters
        ----------
        starts, ends, layouts : Tensor, shape (..., 2)
            In sides; broadcast.

        Returns
        -------
        Tensor of bool, shape (...)
            The dot's width counts: a way that touches the wall does not cross it.

        Raises
        ------
        ValueError
            If a shape or type is wrong.
        """
        starts, ends, layouts = _same_shape(starts=starts, ends=ends, layouts=layouts)
        left, right, top, bottom = self._faces(layouts)
        left, right = left + _SLACK, right - _SLACK
        (x, y), (dx, dy) = starts.unbind(-1), (ends - starts).unbind(-1)
        # From which share of the way to which the dot is between the wall's faces. An upright way
        # divides by zero, and the infinities say the right thing.
        first, last = (left - x) / dx, (right - x) / dx
        enter = torch.minimum(first, last).clamp(0, 1)
        leave = torch.maximum(first, last).clamp(0, 1)
        at = torch.stack([y + enter * dy, y + leave * dy])
        in_door = ((at >= top - _SLACK) & (at <= bottom + _SLACK)).all(dim=0)
        return (enter < leave) & ~in_door

    def shortest_path(self, starts: Tensor, goals: Tensor, layouts: Tensor) -> Tensor:
        """Length of the shortest way: straight, or around one or two corners of the door.

        Parameters
        ----------
        starts, goals, layouts : Tensor, shape (..., 2)
            In sides; broadcast. Starts and goals are free.

        Returns
        -------
        Tensor, shape (...)
            In sides.

        Raises
        ------
        ValueError
            If a shape or type is wrong, or a start or goal is not free.
        """
        starts, goals, layouts = _same_shape(starts=starts, goals=goals, layouts=layouts)
        self._require_free("starts", starts, layouts)
        self._require_free("goals", goals, layouts)
        swapped = (starts[..., :1] > goals[..., :1]).expand(starts.shape)
        starts, goals = torch.where(swapped, goals, starts), torch.where(swapped, starts, goals)
        left, right, top, bottom = self._faces(layouts)
        corners = [torch.stack([x, y], dim=-1) for x in (left, right) for y in (top, bottom)]
        lefts, rights = corners[:2], corners[2:]
        ways = [[starts, goals], *([starts, corner, goals] for corner in corners)]
        ways += [[starts, a, b, goals] for a in lefts for b in rights]
        lengths = []
        for way in ways:
            legs = list(pairwise(way))
            length = sum((b - a).norm(dim=-1) for a, b in legs)
            blocked = torch.stack([self.crosses(a, b, layouts) for a, b in legs]).any(dim=0)
            lengths.append(torch.where(blocked, math.inf, length))
        return torch.stack(lengths).amin(dim=0)

    # ---- geometry: below, the dot is a point and the wall is wider by its radius

    def _faces(self, layouts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x of the wall's two faces and y of the door's two jambs, (...) each."""
        wall, door = layouts.unbind(-1)
        half = self.thickness / 2 + self.radius
        gap = self.door / 2 - self.radius
        return wall - half, wall + half, door - gap, door + gap

    def _require_free(self, name: str, positions: Tensor, layouts: Tensor) -> None:
        blocked = ~self.is_free(positions, layouts)
        if blocked.any():
            raise ValueError(
                f"{name} must be free, got {positions[blocked][0].tolist()} in layout "
                f"{layouts[blocked][0].tolist()}, and {int(blocked.sum())} in all that are not"
            )

    def _settle(self, positions: Tensor, layouts: Tensor) -> Tensor:
        """Back inside of the border, and out of the wall where rounding put it there."""
        near = torch.full_like(positions, self.radius)
        x, y = positions.clamp(near, 1 - near).unbind(-1)
        left, right, top, bottom = self._faces(layouts)
        door = y.clamp(top, bottom)
        inside = (x > left) & (x < right) & (y != door)
        nearest = torch.stack([x - left, right - x, (y - door).abs()]).argmin(dim=0)
        x = torch.where(inside & (nearest == 0), left, x)
        x = torch.where(inside & (nearest == 1), right, x)
        y = torch.where(inside & (nearest == 2), door, y)
        return torch.stack([x, y], dim=-1)

    def _slide(self, starts: Tensor, moves: Tensor, layouts: Tensor) -> Tensor:
        """Ends of moves that stop along one axis at the first face of the wall that they meet.

        What is left then runs along that face, where nothing else is in the way. The border is left
        to `_settle`: beyond it, the wall goes on as inside.
        """
        left, right, top, bottom = self._faces(layouts)
        far = torch.full_like(left, math.inf)
        # The wall above the door and the wall below it, by their corners, (..., 2, 2) each.
        low = torch.stack([left, -far, left, bottom], dim=-1).unflatten(-1, (2, 2))
        high = torch.stack([right, top, right, far], dim=-1).unflatten(-1, (2, 2))
        place, move = starts[..., None, :], moves[..., None, :]
        front, back = torch.where(move > 0, low, high), torch.where(move > 0, high, low)
        # Along each axis, the shares of the move at which the dot enters a box and leaves it.
        still, between = move == 0, (place > low) & (place < high)
        always = torch.where(between, -math.inf, math.inf)
        enter = torch.where(still, always, (front - place) / move)
        leave = torch.where(still, math.inf, (back - place) / move)
        time, axis = enter.max(dim=-1)  # in the box on both axes, (..., 2)
        hit = (time >= 0) & (time < leave.amin(dim=-1))
        time, box = torch.where(hit, time, math.inf).min(dim=-1)
        axis = axis.gather(-1, box[..., None])
        face = front.gather(-2, box[..., None, None].expand(*box.shape, 1, 2)).squeeze(-2)
        blocked = (time < 1)[..., None] & (axis == torch.arange(2, device=axis.device))
        return torch.where(blocked, face, starts + moves)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from 0 to 1 of the type and on the device of `like`."""
    place = dict(dtype=like.dtype, device=generator.device)
    return torch.rand(shape, generator=generator, **place).to(like.device)


def _same_shape(**points: Tensor) -> tuple[Tensor, ...]:
    """Points (..., 2) of one floating-point type, broadcast to one shape."""
    kinds = {value.dtype for value in points.values()}
    for name, value in points.items():
        if value.dim() < 1 or value.shape[-1] != 2 or not value.is_floating_point():
            raise ValueError(
                f"{name} must be floating-point numbers of shape (..., 2), got {value.dtype} of "
                f"{tuple(value.shape)}"
            )
    shapes = ", ".join(f"{name} {tuple(v.shape)} {v.dtype}" for name, v in points.items())
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(points)} must be of one type, got {shapes}")
    try:
        return torch.broadcast_tensors(*points.values())
    except RuntimeError:
        raise ValueError(
            f"{' and '.join(points)} must have shapes that broadcast, got {shapes}"
        ) from None
