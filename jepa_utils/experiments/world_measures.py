"""What all rows of chapter 6's experiment are measured by: places, drift, plans that succeed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jepa_utils.data.batches import TrajectoryDataModule
from jepa_utils.data.rooms import Rooms
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.drift import Corrected, drift, hindsight_correction, nearest_correction
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.planning import goal_cost, plan_cem, plan_mppi, run_episodes
from jepa_utils.models.world import rollout

if TYPE_CHECKING:
    from jepa_utils.experiments.worlds import WorldRecipe, WorldRow

__all__ = ["Seen", "WorldData", "by_model", "by_truth", "look", "world_scores"]

_NEAR = 8 / 32  # sides: a shorter way is no task


@dataclass(frozen=True)
class WorldData:
    """Walks to train on, and others to measure by, as states (N, T+1, 4): dot, wall and door."""

    rooms: Rooms
    row: WorldRow
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, recipe: WorldRecipe, row: WorldRow) -> WorldData:
        rooms, draw = Rooms(size=recipe.size), torch.Generator().manual_seed(0)

        def walks(number: int, length: int, held_out: bool) -> tuple[Tensor, Tensor]:
            layouts = _layouts(rooms, row, number, draw, held_out)
            made = rooms.random_walks(layouts, length, draw)
            return _states(made.positions, layouts[:, None]), made.actions

        train = walks(recipe.walks, recipe.walk_length, held_out=False)
        return cls(rooms, row, train, walks(recipe.test_walks, recipe.horizon, held_out=True))

    def show(self, states: Tensor) -> Tensor:
        """What a row sees of states (..., 4)."""
        if self.row.sees == "state":
            return states
        return self.rooms.render(states[..., :2], states[..., 2:])


def _states(positions: Tensor, layouts: Tensor) -> Tensor:
    return torch.cat([positions, layouts.expand_as(positions)], dim=-1)


def _layouts(
    rooms: Rooms, row: WorldRow, number: int, draw: torch.Generator, held_out: bool
) -> Tensor:
    if row.fixed:
        return rooms.fixed_layout(number)
    return rooms.layouts(number, draw, held_out=held_out)


def _embed(module: nn.Module, world: WorldData, states: Tensor) -> Tensor:
    return embed(lambda part: module.encoder(world.show(part)), states, batch_size=50)


def _line(h: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
    """Least squares with an intercept and a little ridge: (..., D) to (..., K)."""
    mean, std = h.mean(dim=0), h.std(dim=0).clamp(min=1e-9)
    x = (h - mean) / std
    ridge = 1e-3 * len(x) * torch.eye(x.shape[1])
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (wanted - wanted.mean(dim=0)))
    return lambda h: (h - mean) / std @ weights + wanted.mean(dim=0)


@dataclass(frozen=True)
class Seen:
    """What a trained model makes of the walks."""

    bank: Tensor  # (M, D), of walks to train on
    test: Tensor  # (N, H+1, D)
    line: Callable[[Tensor], Tensor]  # embeddings to states, fitted to the bank

    @classmethod
    def of(cls, module: nn.Module, world: WorldData, recipe: WorldRecipe) -> Seen:
        states = world.train[0][:, ::5].flatten(0, 1)
        order = torch.randperm(len(states), generator=torch.Generator().manual_seed(0))
        states = states[order[: recipe.bank]]
        bank = _embed(module, world, states)
        return cls(bank, _embed(module, world, world.test[0]), _line(bank, states))


def _pixels(found: Tensor, states: Tensor, size: int) -> Tensor:
    """Mean distance of places that a line reads, in pixels; over all but the second axis."""
    return size * (found[..., :2] - states[..., :2]).norm(dim=-1).mean(dim=0)


@torch.no_grad()
def _drifts(predictor: nn.Module, seen: Seen, world: WorldData) -> dict[str, list[float]]:
    """Curves over the horizon."""
    (states, actions), start = world.test, seen.test[:, 0]
    rolled, states = rollout(predictor, start, actions), states[:, 1:]
    found = drift(rolled, seen.test[:, 1:], start, seen.bank)
    size = world.rooms.size
    curves = {
        "error": found.error,
        "copied": found.copied,
        "away": found.away,
        "pixels": _pixels(seen.line(rolled), states, size),
        "pixels copied": _pixels(world.test[0][:, :1].expand_as(states), states, size),
        "pixels encoded": _pixels(seen.line(seen.test[:, 1:]), states, size),
    }
    return {name: [round(float(x), 5) for x in curve] for name, curve in curves.items()}


def _corrections(
    module: nn.Module, seen: Seen, world: WorldData, recipe: WorldRecipe
) -> dict[str, nn.Module]:
    """Predictors whose rollouts are pulled back."""
    states, actions = world.train
    data = TrajectoryDataModule(
        states,
        actions,
        world.show,
        length=min(30, actions.shape[1]),
        batch_size=recipe.batch_size,
        steps=recipe.correction_updates,
        seed=1,
    )

    def batches():
        for shown, done in data.batches(0):
            with torch.no_grad():
                h = module.encoder(shown)
            yield h, done

    network = hindsight_correction(
        module.predictor, batches(), updates=recipe.correction_updates, hidden=recipe.hidden
    )
    return {
        "hindsight": Corrected(module.predictor, network),
        "nearest": Corrected(module.predictor, nearest_correction(seen.bank)),
    }


# Planning


def _planner(name: str, recipe: WorldRecipe) -> Callable[..., Tensor]:
    how = dict(samples=recipe.samples, iterations=recipe.iterations, max_norm=1.0)
    if name == "CEM":
        return partial(plan_cem, elites=recipe.elites, initial_std=0.7, **how)
    return partial(plan_mppi, temperature=0.05, std=0.5, **how)


def _episodes(world: WorldData, recipe: WorldRecipe) -> tuple[Tensor, Tensor]:
    """First states and goals' states, (E, 4) each: in different rooms, and not near each other."""
    rooms, draw, number = world.rooms, torch.Generator().manual_seed(1), recipe.episodes
    layouts = _layouts(rooms, world.row, number, draw, held_out=True)
    start, goal = (rooms.random_positions(layouts, draw) for _ in range(2))

    def easy() -> Tensor:
        near = rooms.shortest_path(start, goal, layouts) < _NEAR
        return near | (rooms.room_of(start, layouts) == rooms.room_of(goal, layouts))

    while easy().any():
        goal = torch.where(easy()[:, None], rooms.random_positions(layouts, draw), goal)
    return _states(start, layouts), _states(goal, layouts)


@torch.no_grad()
def _planned(
    world: WorldData,
    recipe: WorldRecipe,
    see: Callable[[Tensor], Tensor],
    imagine: Callable[[Tensor, Tensor], Tensor],
    *,
    planner: str,
    cost: str,
) -> dict[str, float]:
    """Success of a planner that imagines (E, S, H, A) from what it sees of the present (E, D)."""
    rooms, draw = world.rooms, torch.Generator().manual_seed(2)
    start, goal = _episodes(world, recipe)
    seen_goal = see(goal)

    def plan(now: Tensor, left: Tensor | None) -> Tensor:
        return _planner(planner, recipe)(
            lambda actions: goal_cost(imagine(now, actions), seen_goal, kind=cost),
            len(start),
            recipe.plan_horizon,
            2,
            start=left,
            generator=draw,
        )

    def step(states: Tensor, actions: Tensor) -> Tensor:
        moved = rooms.step(states[:, :2], actions, states[:, 2:])
        return torch.cat([moved, states[:, 2:]], dim=1)

    def reached(states: Tensor) -> Tensor:
        way = rooms.shortest_path(states[:, :2], goal[:, :2], states[:, 2:])
        return way <= rooms.reach

    done = run_episodes(
        plan, step, see, reached, start, budget=recipe.budget, execute=recipe.execute
    )
    return {
        "success": float(done.success.float().mean()),
        "steps": float(done.steps.float().mean()),
    }


def by_model(
    module: nn.Module, world: WorldData, recipe: WorldRecipe, predictor: nn.Module, **how: Any
) -> dict[str, float]:
    """Share of episodes that a planner solves in a model's head, and the steps that it takes.

    Parameters
    ----------
    module : LightningModule
        Its encoder shows the planner where it is, and where the goal is.
    world, recipe
        Where, and how much is tried.
    predictor : nn.Module
        The module's, corrected or not.
    **how
        "planner", CEM or MPPI, and "cost", a kind of `goal_cost`.
    """

    def imagine(now: Tensor, actions: Tensor) -> Tensor:
        episodes, samples, horizon, _ = actions.shape
        first = now[:, None].expand(-1, samples, -1).reshape(episodes * samples, -1)
        return rollout(predictor, first, actions.flatten(0, 1)).view(episodes, samples, horizon, -1)

    return _planned(world, recipe, lambda s: module.encoder(world.show(s)), imagine, **how)


def by_truth(world: WorldData, recipe: WorldRecipe, **how: Any) -> dict[str, float]:
    """The same with the world itself in the planner's head: what the budget of plans allows."""

    def imagine(now: Tensor, actions: Tensor) -> Tensor:
        place = now[:, None, :2].expand(*actions.shape[:2], 2)
        layouts, places = now[:, None, 2:].expand_as(place), []
        for action in actions.unbind(dim=2):
            place = world.rooms.step(place, action, layouts)
            places.append(_states(place, layouts))
        return torch.stack(places, dim=2)

    return _planned(world, recipe, lambda states: states, imagine, **how)


def _gauges(seen: Seen, world: WorldData) -> dict[str, float]:
    """What a line reads from embeddings of held-out layouts, and whether the cloud collapsed."""
    h, states, size = seen.test.flatten(0, 1), world.test[0].flatten(0, 1), world.rooms.size
    found = seen.line(h)
    return {
        "position": float(size * (found[:, :2] - states[:, :2]).norm(dim=1).mean()),
        "wall": float(size * (found[:, 2] - states[:, 2]).abs().mean()),
        "door": float(size * (found[:, 3] - states[:, 3]).abs().mean()),
        "effective rank": float(effective_rank(h[:5000])),
        "std": float(h.std(dim=0).mean()),
    }


def look(module: nn.Module, world: WorldData, recipe: WorldRecipe) -> dict[str, float]:
    """What is measured during a training: gauges, and where rollouts end."""
    seen = Seen.of(module, world, recipe)
    curves = _drifts(module.predictor, seen, world)
    far = {f"{name} at the end": values[-1] for name, values in curves.items()}
    return _gauges(seen, world) | far


def world_scores(
    module: nn.Module, world: WorldData, recipe: WorldRecipe, part: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of a trained model, and its curves of drift by correction."""
    seen = Seen.of(module, world, recipe)
    scores, curves = _gauges(seen, world), {"none": _drifts(module.predictor, seen, world)}
    predictors = {"none": module.predictor}
    if part == "models":
        predictors |= _corrections(module, seen, world, recipe)
        curves |= {name: _drifts(p, seen, world) for name, p in list(predictors.items())[1:]}
    for name, curve in curves.items():
        at = min(30, len(curve["error"])) - 1
        scores[f"{name}, error at 30"] = curve["error"][at]
        scores[f"{name}, pixels at 30"] = curve["pixels"][at]
    how = dict(planner="MPPI", cost="summed")
    if part != "search":
        for name, predictor in predictors.items():
            found = by_model(module, world, recipe, predictor, **how)
            scores |= {f"{name}, {what}": value for what, value in found.items()}
    if part == "models":
        truth = by_truth(world, recipe, **how)
        scores |= {f"truth, {what}": value for what, value in truth.items()}
    return scores, curves
