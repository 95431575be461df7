"""Planning: which actions lead to a goal, by a cost that a model of the world predicts?

A planner knows nothing of models. It is given a function ``cost(actions)`` that takes S candidate
plans of H actions for each of E episodes, shape (E, S, H, A), and gives a number for each, (E, S).
All episodes are planned at once and none has an influence on another. Every action is a vector of
at most the length `max_norm`; what is longer is scaled down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from scipy.stats import binomtest
from torch import Tensor

from jepa_utils.arguments import check_count, whole

__all__ = [
    "Episodes",
    "goal_cost",
    "plan_cem",
    "plan_gradient",
    "plan_mppi",
    "run_episodes",
    "wilson_interval",
]

KINDS = ("endpoint", "summed", "closest")


def goal_cost(predicted: Tensor, goal: Tensor, *, kind: str) -> Tensor:
    """Squared distances between predicted embeddings and that of a goal, one number per plan.

    Parameters
    ----------
    predicted : Tensor, shape (E, S, H, D)
        Embeddings after each of the H actions of S plans, in E episodes.
    goal : Tensor, shape (E, D)
        Embedding of each episode's goal.
    kind : {"endpoint", "summed", "closest"}
        The distance after the last action; the sum over all steps, which rewards haste; or the
        smallest of all steps, which lets a plan pass the goal and go on.

    Returns
    -------
    Tensor, shape (E, S)
        In squared units of the embedding, summed over its dimensions. It can be differentiated.

    Raises
    ------
    ValueError
        If shapes do not fit, or `kind` is none of the three.
    """
    if (
        predicted.dim() != 4
        or predicted.numel() == 0
        or tuple(goal.shape) != (predicted.shape[0], predicted.shape[3])
    ):
        raise ValueError(
            f"predicted and goal must have shapes (E, S, H, D) and (E, D), "
            f"got {tuple(predicted.shape)} and {tuple(goal.shape)}"
        )
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "endpoint":
        predicted = predicted[:, :, -1:]
    distances = (predicted - goal[:, None, None]).square().sum(dim=-1)  # (E, S, H)
    return distances.amin(dim=2) if kind == "closest" else distances.sum(dim=2)


@torch.no_grad()
def plan_cem(
    cost: Callable[[Tensor], Tensor],
    episodes: int,
    horizon: int,
    actions: int,
    *,
    samples: int,
    elites: int,
    iterations: int,
    max_norm: float,
    initial_std: float,
    start: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Search plans by the cross-entropy method: draw, keep the best, draw anew around these.

    Every action has a normal distribution of its own, without correlations. The first sample of
    each iteration is the mean.

    Parameters
    ----------
    cost : callable
        From plans, shape (E, S, H, A), to a finite number for each, (E, S); the lowest is best. It
        is called once per iteration, without gradients.
    episodes, horizon, actions : int
        Number of episodes E, actions per plan H, and dimensions of an action A.
    samples : int
        Plans S per episode and iteration.
    elites : int
        How many of these the next distribution is fitted to, at least 2.
    iterations : int
        How often plans are drawn.
    max_norm : float
        Largest length of an action, in its own units.
    initial_std : float
        Standard deviation of the first iteration, per dimension, in the units of an action.
    start : Tensor, shape (E, H, A), optional
        Mean of the first iteration, such as what is left of the last plan; by default zeros.
    generator : torch.Generator
        All draws come from it, and plans are made on its device.

    Returns
    -------
    Tensor, shape (E, H, A)
        Of all plans drawn, each episode's with the lowest cost; never worse than `start`.

    Raises
    ------
    ValueError
        If a number is out of range, `start` does not fit, or `cost` gives another shape, NaN or
        infinity.

    References
    ----------
    Rubinstein (1999), "The cross-entropy method for combinatorial and continuous optimization",
    Methodology and Computing in Applied Probability 1.
    """
    samples, iterations = check_count("samples", samples), check_count("iterations", iterations)
    elites = whole("elites", elites, 2, samples, "samples")
    std = _positive("initial_std", initial_std)
    mean = _first_mean(episodes, horizon, actions, max_norm, start, generator)
    best, lowest = mean, mean.new_full((len(mean),), torch.inf)
    for _ in range(iterations):
        plans = _draw(mean, std, samples, max_norm, generator)
        costs = _costs(cost, plans)
        best, lowest = _better(best, lowest, plans, costs)
        kept = _pick(plans, costs.topk(elites, dim=1, largest=False).indices)
        mean, std = kept.mean(dim=1), kept.std(dim=1, correction=0)[:, None]
    return best


@torch.no_grad()
def plan_mppi(
    cost: Callable[[Tensor], Tensor],
    episodes: int,
    horizon: int,
    actions: int,
    *,
    samples: int,
    temperature: float,
    iterations: int,
    max_norm: float,
    std: float,
    start: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Search plans by model predictive path integrals: a mean in which cheap plans weigh most.

    Plans are drawn around the last mean, always equally far, and their weights are
    ``softmax(-cost / (temperature * spread))``. The spread is the standard deviation of an
    episode's costs: a temperature then means the same whatever the scale of an embedding. In the
    paper it is in units of the cost, and there is a cost of control, which we leave out. The first
    sample of each iteration is the mean.

    Parameters
    ----------
    cost : callable
        From plans, shape (E, S, H, A), to a finite number for each, (E, S); the lowest is best. It
        is called once per iteration, without gradients.
    episodes, horizon, actions : int
        Number of episodes E, actions per plan H, and dimensions of an action A.
    samples : int
        Plans S per episode and iteration.
    temperature : float
        In standard deviations of the cost. Towards 0 the best sample has all the weight, towards
        infinity all samples have the same.
    iterations : int
        How often plans are drawn.
    max_norm : float
        Largest length of an action, in its own units.
    std : float
        Standard deviation of all iterations, per dimension, in the units of an action.
    start : Tensor, shape (E, H, A), optional
        Mean of the first iteration, such as what is left of the last plan; by default zeros.
    generator : torch.Generator
        All draws come from it, and plans are made on its device.

    Returns
    -------
    Tensor, shape (E, H, A)
        The last mean. Its own cost was not asked for.

    Raises
    ------
    ValueError
        If a number is out of range, `start` does not fit, or `cost` gives another shape, NaN or
        infinity.

    References
    ----------
    Williams et al. (2017), "Information theoretic MPC for model-based reinforcement learning",
    ICRA.
    """
    samples, iterations = check_count("samples", samples), check_count("iterations", iterations)
    temperature, std = _positive("temperature", temperature), _positive("std", std)
    mean = _first_mean(episodes, horizon, actions, max_norm, start, generator)
    for _ in range(iterations):
        plans = _draw(mean, std, samples, max_norm, generator)
        costs = _costs(cost, plans)
        spread = costs.std(dim=1, correction=0, keepdim=True)
        # equal costs have no spread, and equal weights
        scale = (temperature * spread).clamp(min=torch.finfo(costs.dtype).tiny)
        weights = ((costs.amin(dim=1, keepdim=True) - costs) / scale).softmax(dim=1)
        mean = torch.einsum("es,esha->eha", weights.to(plans.dtype), plans)
    return _project(mean, max_norm)


def plan_gradient(
    cost: Callable[[Tensor], Tensor],
    episodes: int,
    horizon: int,
    actions: int,
    *,
    restarts: int,
    iterations: int,
    learning_rate: float,
    max_norm: float,
    initial_std: float,
    start: Tensor | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Search plans by gradient descent on the actions, with Adam, from several starting points.

    After each step, actions that are too long are scaled down. Gradients go to the actions alone:
    those of a model's weights are left as they are.

    Parameters
    ----------
    cost : callable
        From plans, shape (E, R, H, A), to a finite number for each, (E, R); the lowest is best, and
        the plans of one episode must not change the cost of another. It has to be differentiable,
        and is called once more than there are iterations.
    episodes, horizon, actions : int
        Number of episodes E, actions per plan H, and dimensions of an action A.
    restarts : int
        Starting points R per episode.
    iterations : int
        Steps of Adam.
    learning_rate : float
        About the size of a step, in the units of an action.
    max_norm : float
        Largest length of an action, in its own units.
    initial_std : float
        Standard deviation of starting points around `start`, per dimension, in the units of an
        action. The first is `start` itself.
    start : Tensor, shape (E, H, A), optional
        Such as what is left of the last plan; by default zeros.
    generator : torch.Generator
        All draws come from it, and plans are made on its device.

    Returns
    -------
    Tensor, shape (E, H, A)
        Of all plans on the way, each episode's with the lowest cost; never worse than `start`.

    Raises
    ------
    ValueError
        If a number is out of range, `start` does not fit, or `cost` gives another shape, NaN or
        infinity, or no gradient.
    """
    restarts, iterations = check_count("restarts", restarts), check_count("iterations", iterations)
    learning_rate = _positive("learning_rate", learning_rate)
    std = _positive("initial_std", initial_std)
    mean = _first_mean(episodes, horizon, actions, max_norm, start, generator)
    plans = _draw(mean, std, restarts, max_norm, generator).requires_grad_()
    adam = torch.optim.Adam([plans], lr=learning_rate)
    best, lowest = mean, mean.new_full((len(mean),), torch.inf)
    for _ in range(iterations):
        with torch.enable_grad():
            costs = _costs(cost, plans)
            plans.grad = _slope(costs, plans)
        best, lowest = _better(best, lowest, plans.detach(), costs.detach())
        adam.step()
        with torch.no_grad():
            plans.copy_(_project(plans, max_norm))
    with torch.no_grad():
        return _better(best, lowest, plans.detach(), _costs(cost, plans))[0]


@dataclass(frozen=True)
class Episodes:
    """What became of episodes in the world.

    Attributes
    ----------
    success : Tensor of bool, shape (E,)
        Whether the goal was reached within the budget.
    steps : Tensor of int64, shape (E,)
        Steps until then; the whole budget where it was not reached.
    paths : Tensor, shape (E, budget + 1, ...)
        The states, from the first on. After success, the state stays the one that reached the goal.
    """

    success: Tensor
    steps: Tensor
    paths: Tensor


@torch.no_grad()
def run_episodes(
    plan: Callable[[object, Tensor | None], Tensor],
    step: Callable[[Tensor, Tensor], Tensor],
    observe: Callable[[Tensor], object],
    reached: Callable[[Tensor], Tensor],
    state: Tensor,
    *,
    budget: int,
    execute: int,
) -> Episodes:
    """Act in the world by plans: make one, do its first actions, look, make the next.

    All episodes go on in step. One that has reached its goal stands still from then on; it is still
    handed to `plan`, so that the number of episodes stays the same.

    Parameters
    ----------
    plan : callable
        From an observation, and what is left of the last plan (with zeros for what was done), to a
        plan, shape (E, H, A). At first nothing is left, and it gets None.
    step : callable
        The world: from states (E, ...) and actions (E, A) to the next states.
    observe : callable
        From states to what `plan` gets, such as pictures or their embeddings.
    reached : callable
        From states to whether each is at its goal, bool of shape (E,). Asked before the first step
        and after each.
    state : Tensor, shape (E, ...)
        The first states.
    budget : int
        Most steps that an episode may take.
    execute : int
        Actions done before the next look, at most H. With `execute` and `budget` of H, one plan is
        carried out blindly.

    Returns
    -------
    Episodes

    Raises
    ------
    ValueError
        If `budget` or `execute` is less than 1, or a function gives another shape.
    """
    budget, execute = check_count("budget", budget), check_count("execute", execute)
    success = _reached(reached, state)
    steps = torch.zeros_like(success, dtype=torch.int64)
    path, left = [state], None
    while len(path) <= budget and not success.all():
        actions = plan(observe(state), left)
        if actions.dim() != 3 or len(actions) != len(state):
            raise ValueError(
                f"plan must give a tensor of shape ({len(state)}, H, A), got {tuple(actions.shape)}"
            )
        whole("execute", execute, 1, actions.shape[1], "H")
        for action in actions[:, : min(execute, budget + 1 - len(path))].unbind(dim=1):
            after = step(state, action)
            if after.shape != state.shape:
                raise ValueError(
                    f"step must give a tensor of shape {tuple(state.shape)}, "
                    f"got {tuple(after.shape)}"
                )
            still = success.view(-1, *[1] * (state.dim() - 1))
            state = torch.where(still, state, after)
            steps += ~success
            success = success | _reached(reached, state)
            path.append(state)
        left = torch.cat([actions[:, execute:], torch.zeros_like(actions[:, :execute])], dim=1)
    path += [state] * (budget + 1 - len(path))
    return Episodes(success=success, steps=steps, paths=torch.stack(path, dim=1))


def wilson_interval(
    successes: int, number: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """An interval for the rate of success, by Wilson's score; sound for few episodes, too.

    Parameters
    ----------
    successes : int
        How many episodes succeeded.
    number : int
        Out of how many, independent of each other.
    confidence : float, default 0.95
        Share of such intervals that hold the true rate; 0.95 is z = 1.96.

    Returns
    -------
    tuple of float
        Lower and upper bound, between 0 and 1.

    Raises
    ------
    ValueError
        If `successes` is no integer between 0 and `number`, `number` is less than 1, or
        `confidence` is not between 0 and 1.

    References
    ----------
    Wilson (1927), "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22.
    """
    number = check_count("number", number)
    successes = whole("successes", successes, 0, number, "number")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
    found = binomtest(successes, number).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def _positive(name: str, value: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def _first_mean(
    episodes: int,
    horizon: int,
    actions: int,
    max_norm: float,
    start: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """`start`, checked and within bounds, or zeros: (E, H, A)."""
    names = {"episodes": episodes, "horizon": horizon, "actions": actions}
    shape = tuple(check_count(name, value) for name, value in names.items())
    max_norm = _positive("max_norm", max_norm)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if start is None:
        return torch.zeros(shape, device=generator.device)
    if (
        not isinstance(start, Tensor)
        or tuple(start.shape) != shape
        or not start.is_floating_point()
    ):
        got = (
            f"{start.dtype}, {tuple(start.shape)}"
            if isinstance(start, Tensor)
            else type(start).__name__
        )
        raise ValueError(f"start must be a tensor of real numbers of shape {shape}, got {got}")
    if not torch.isfinite(start).all():
        raise ValueError("start must be finite, got NaN or infinity")
    return _project(start.detach().to(generator.device), max_norm)


def _project(actions: Tensor, max_norm: float) -> Tensor:
    """Actions (..., A) scaled down to `max_norm` where they are longer."""
    # A hair less, so that rounding of the scaled ones, or of their length, is never past the bound.
    limit = max_norm * (1 - (4 + actions.shape[-1]) * torch.finfo(actions.dtype).eps)
    return actions * (limit / actions.norm(dim=-1, keepdim=True)).clamp(max=1)


def _draw(
    mean: Tensor, std: float | Tensor, number: int, max_norm: float, generator: torch.Generator
) -> Tensor:
    """Plans (E, number, H, A) around a mean (E, H, A), which is the first of them."""
    noise = torch.randn(
        len(mean), number, *mean.shape[1:], generator=generator, device=mean.device
    ).to(mean.dtype)
    noise[:, 0] = 0
    return _project(mean[:, None] + std * noise, max_norm)


def _costs(cost: Callable[[Tensor], Tensor], plans: Tensor) -> Tensor:
    costs = cost(plans)
    wanted = tuple(plans.shape[:2])
    if not isinstance(costs, Tensor) or tuple(costs.shape) != wanted:
        got = tuple(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
        raise ValueError(f"cost must give a tensor of shape {wanted}, got {got}")
    if not torch.isfinite(costs).all():
        raise ValueError("cost must give finite numbers, got NaN or infinity")
    return costs


def _pick(plans: Tensor, indices: Tensor) -> Tensor:
    """The plans (E, K, H, A) that indices (E, K) name, each episode's among its own."""
    return plans[torch.arange(len(plans), device=plans.device)[:, None], indices]


def _better(best: Tensor, lowest: Tensor, plans: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    """The best plan of each episode so far and its cost, after a look at more plans."""
    cheapest, index = costs.min(dim=1)
    improved = cheapest < lowest
    best = torch.where(improved[:, None, None], _pick(plans, index[:, None])[:, 0], best)
    return best, torch.where(improved, cheapest, lowest)


def _slope(costs: Tensor, plans: Tensor) -> Tensor:
    """Gradient of the costs with respect to the plans, and to nothing else."""
    found = (None,)
    if costs.requires_grad:
        found = torch.autograd.grad(costs.sum(), plans, allow_unused=True)
    if found[0] is None:
        raise ValueError("cost must be differentiable in the actions, got one without a gradient")
    return found[0]


def _reached(reached: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    found = reached(state)
    if found.dtype != torch.bool or tuple(found.shape) != (len(state),):
        raise ValueError(
            f"reached must give a boolean tensor of shape ({len(state)},), "
            f"got {found.dtype}, {tuple(found.shape)}"
        )
    return found
