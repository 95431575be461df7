"""Planners on worlds whose best plans are known, the loop around them, and an interval."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from jepa_utils.evaluation.planning import (
    goal_cost,
    plan_cem,
    plan_gradient,
    plan_mppi,
    run_episodes,
    wilson_interval,
)

HORIZON, LONGEST = 6, 0.3  # so goals up to 1.8 away can be reached
GOALS = torch.tensor([[1.0, 0], [0, -0.9], [0.6, 0.6], [-1.2, 0.3], [0.02, -0.05]])
PLANNERS = {
    "cem": partial(plan_cem, samples=100, elites=10, iterations=10, initial_std=0.2),
    "mppi": partial(plan_mppi, samples=200, temperature=0.1, iterations=10, std=0.05),
    "gradient": partial(
        plan_gradient, restarts=3, iterations=80, learning_rate=0.02, initial_std=0.1
    ),
}
every_planner = pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mass(goals, kind="endpoint", origin=0.0):
    """Cost of a point that moves by its actions, without walls."""
    return lambda actions: goal_cost(origin + actions.cumsum(dim=2), goals, kind=kind)


def search(planner, cost, episodes=5, horizon=HORIZON, actions=2, seed=0, **options):
    options = {"max_norm": LONGEST, "generator": seeded(seed)} | options
    return planner(cost, episodes, horizon, actions, **options)


def recorded(cost):
    """The same cost, and a list of the plans that it was asked about."""
    seen = []

    def asked(actions):
        seen.append(actions.detach().clone())
        return cost(actions)

    return asked, seen


def of_one(cost, plan):
    """Costs (E,) of one plan per episode."""
    return cost(plan[:, None])[:, 0]


# ---- costs


def test_costs_by_hand():
    predicted = torch.tensor([[[[3.0, 4], [0, 1], [2, 0]], [[0, 0], [1, 1], [0, 3]]]])
    goal = torch.zeros(1, 2)
    # squared lengths: 25, 1, 4 and 0, 2, 9
    assert goal_cost(predicted, goal, kind="endpoint").tolist() == [[4, 9]]
    assert goal_cost(predicted, goal, kind="summed").tolist() == [[30, 11]]
    assert goal_cost(predicted, goal, kind="closest").tolist() == [[1, 0]]
    # each episode has its own goal
    both = goal_cost(
        predicted.expand(2, 2, 3, 2), torch.tensor([[0.0, 0], [2, 0]]), kind="endpoint"
    )
    assert both.tolist() == [[4, 9], [0, 13]]


def test_costs_want_different_plans():
    # through the goal and on, straight there late, there at once and resting
    through, late, soon = [0.5, 1, 1.5], [0.0, 0, 1], [1.0, 1, 1]
    plans = torch.tensor([[through, late, soon]])[..., None]
    found = {
        k: goal_cost(plans, torch.ones(1, 1), kind=k)[0] for k in ("endpoint", "summed", "closest")
    }
    assert found["closest"].tolist() == [0, 0, 0]
    assert found["endpoint"].tolist() == [0.25, 0, 0]
    assert found["summed"].tolist() == [0.5, 2, 0]


def test_a_sum_makes_haste():
    near = {}
    for kind in ("endpoint", "summed"):
        path = search(PLANNERS["gradient"], mass(GOALS, kind)).cumsum(dim=1)
        near[kind] = (path[:, 2] - GOALS).norm(dim=1)[
            :3
        ]  # half way; the goals are 3 to 4 steps off
    assert (near["summed"] < near["endpoint"] - 0.1).all()


@pytest.mark.parametrize(
    "predicted, goal, kind, words",
    [
        ((2, 3, 4), (2, 4), "summed", r"\(E, S, H, D\).*\(2, 3, 4\) and \(2, 4\)"),
        ((2, 3, 4, 5), (3, 5), "summed", r"\(2, 3, 4, 5\) and \(3, 5\)"),
        ((2, 3, 4, 5), (2, 4), "summed", r"\(2, 3, 4, 5\) and \(2, 4\)"),
        ((2, 3, 0, 5), (2, 5), "closest", r"\(2, 3, 0, 5\)"),
        ((2, 3, 4, 5), (2, 5), "last", "kind must be one of endpoint, summed, closest, got 'last'"),
    ],
)
def test_bad_arguments_of_costs(predicted, goal, kind, words):
    with pytest.raises(ValueError, match=words):
        goal_cost(torch.ones(predicted), torch.ones(goal), kind=kind)


# ---- what all planners do


@every_planner
def test_a_point_mass_reaches_its_goal(planner):
    plan = search(planner, mass(GOALS))
    assert plan.shape == (5, HORIZON, 2) and not plan.requires_grad
    assert (plan.sum(dim=1) - GOALS).norm(dim=1).max() < 0.05


@every_planner
@pytest.mark.parametrize("actions", [1, 2, 7])
@pytest.mark.parametrize("longest", [0.3, 1e-3, 7.0])
def test_no_action_is_too_long(planner, actions, longest):
    goals = torch.full((2, actions), 100 * longest)  # as far as the actions reach, and farther
    cost, seen = recorded(mass(goals))
    start = torch.full((2, 4, actions), 3 * longest)
    plan = search(planner, cost, 2, 4, actions, max_norm=longest, start=start)
    for plans in (*seen, plan):
        assert plans.double().norm(dim=-1).max() <= longest
    assert plan.norm(dim=-1).min() > 0.5 * longest  # they go where they can
    first = seen[0][:, 0]
    assert torch.allclose(first, start * longest / start.norm(dim=-1, keepdim=True))


@every_planner
def test_a_start_is_gone_on_from(planner):
    start = 0.05 * torch.randn(5, HORIZON, 2, generator=seeded(3))
    first = []
    for given in (start, None):
        cost, seen = recorded(mass(GOALS))
        search(planner, cost, start=given, max_norm=100.0)
        first.append(seen[0])
    assert torch.allclose(first[0], first[1] + start[:, None], atol=1e-6)
    assert torch.allclose(first[0][:, 0], start) and not first[1][:, 0].any()


@pytest.mark.parametrize(
    "planner",
    [
        partial(plan_cem, samples=3, elites=2, iterations=1, initial_std=0.1),
        partial(plan_mppi, samples=3, temperature=1e-6, iterations=1, std=0.1),
        partial(plan_gradient, restarts=1, iterations=2, learning_rate=0.3, initial_std=0.1),
    ],
    ids=PLANNERS,
)
def test_the_best_plan_is_not_lost(planner):
    best = (GOALS / HORIZON)[:, None].expand(5, HORIZON, 2)
    assert of_one(mass(GOALS), search(planner, mass(GOALS), start=best)).max() < 1e-10
    assert of_one(mass(GOALS), search(planner, mass(GOALS))).max() > 0.1  # too little to find it


@every_planner
def test_one_seed_one_plan(planner):
    one, same, other = (search(planner, mass(GOALS), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other).all()


@every_planner
def test_the_global_generator_is_left_alone(planner):
    before = torch.get_rng_state()
    search(planner, mass(GOALS))
    assert torch.equal(before, torch.get_rng_state())


@every_planner
def test_episodes_do_not_see_each_other(planner):
    others = GOALS.clone()
    others[1:] = torch.tensor([[-50.0, 0], [0, 0], [0, 1], [3, 3]])
    one, two = search(planner, mass(GOALS)), search(planner, mass(others))
    assert torch.equal(one[0], two[0])
    assert all(not torch.equal(one[e], two[e]) for e in range(1, 5))
    # alike as they are, each has draws of its own
    cost, seen = recorded(mass(GOALS[:1].expand(5, 2)))
    search(planner, cost)
    assert not torch.isclose(seen[0][1:, 1:], seen[0][:1, 1:]).all(dim=-1).any()


@every_planner
def test_numbers_are_as_precise_as_the_start(planner):
    start = torch.zeros(5, HORIZON, 2, dtype=torch.float64)
    assert search(planner, mass(GOALS), start=start).dtype == torch.float64
    assert search(planner, mass(GOALS.double())).dtype == torch.float32


BAD = [
    ({"episodes": 0}, "episodes must be an integer of at least 1, got 0"),
    ({"horizon": 2.0}, "horizon must be an integer.*got 2.0"),
    ({"actions": True}, "actions must be an integer.*got True"),
    ({"iterations": 0}, "iterations must.*got 0"),
    ({"max_norm": 0}, "max_norm must be a positive number, got 0"),
    ({"max_norm": math.inf}, "max_norm.*got inf"),
    ({"max_norm": "1"}, "max_norm.*got '1'"),
    ({"max_norm": True}, "max_norm.*got True"),
    ({"generator": 0}, "generator must be a torch.Generator, got int"),
    ({"start": torch.zeros(5, 6, 3)}, r"start must.*\(5, 6, 2\), got torch.float32, \(5, 6, 3\)"),
    ({"start": torch.zeros(5, 6, 2).long()}, "start must.*real numbers.*int64"),
    ({"start": [0.0]}, "start must.*got list"),
    ({"start": torch.full((5, 6, 2), torch.nan)}, "start must be finite"),
    ({"cost": lambda a: a.sum(dim=(1, 2, 3))}, r"cost must give.*\(5, \d+\), got \(5,\)"),
    ({"cost": lambda a: 0.0}, r"cost must give.*got float"),
    ({"cost": lambda a: a.sum(dim=(2, 3)) * math.nan}, "cost must give finite numbers"),
    ({"cost": lambda a: a.sum(dim=(2, 3)) + math.inf}, "cost must give finite numbers"),
]


@every_planner
@pytest.mark.parametrize("options, words", BAD)
def test_bad_arguments_of_planners(planner, options, words):
    with pytest.raises(ValueError, match=words):
        search(planner, **({"cost": mass(GOALS)} | options))


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("cem", {"samples": 0}, "samples must.*at least 1, got 0"),
        ("cem", {"elites": 1}, "elites must be an integer between 2 and samples = 100, got 1"),
        ("cem", {"elites": 101}, "elites.*samples = 100, got 101"),
        ("cem", {"initial_std": 0}, "initial_std must be a positive number, got 0"),
        ("mppi", {"samples": 1.5}, "samples must.*got 1.5"),
        ("mppi", {"temperature": 0}, "temperature must be a positive number, got 0"),
        ("mppi", {"std": -1}, "std must be a positive number, got -1"),
        ("gradient", {"restarts": 0}, "restarts must.*got 0"),
        ("gradient", {"learning_rate": math.nan}, "learning_rate must.*got nan"),
        ("gradient", {"initial_std": 0}, "initial_std must.*got 0"),
        ("gradient", {"cost": lambda a: a.detach().sum(dim=(2, 3))}, "cost must be differentiable"),
        (
            "gradient",
            {"cost": lambda a: torch.ones(a.shape[:2], requires_grad=True)},
            "cost must be differentiable",
        ),
    ],
)
def test_bad_arguments_of_one_planner(name, options, words):
    with pytest.raises(ValueError, match=words):
        search(PLANNERS[name], **({"cost": mass(GOALS)} | options))


# ---- what each does


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_drawing_anew_beats_as_many_draws_at_once(name):
    cost, planner = mass(GOALS), PLANNERS[name]
    draws = planner.keywords["samples"] * planner.keywords["iterations"]
    shooting = partial(plan_cem, samples=draws, elites=2, iterations=1, initial_std=0.2)
    anew, at_once = (of_one(cost, search(p, cost)).mean() for p in (planner, shooting))
    assert anew < at_once / 3


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_samples_need_no_gradient(name):
    weight = torch.ones(2, requires_grad=True)

    def cost(actions):
        assert not torch.is_grad_enabled()
        return mass(GOALS)(actions * weight)

    assert not search(PLANNERS[name], cost).requires_grad


def test_cem_fits_the_elites():
    cost, seen = recorded(mass(GOALS))
    planner = partial(plan_cem, samples=4000, elites=400, iterations=2, initial_std=0.05)
    search(planner, cost, horizon=1, max_norm=100)
    costs = mass(GOALS)(seen[0])
    for e in range(len(GOALS)):
        kept = seen[0][e, costs[e].argsort()[:400]]
        assert torch.allclose(seen[1][e, 0], kept.mean(dim=0), atol=1e-6)
        assert torch.allclose(seen[1][e].std(dim=0), kept.std(dim=0), rtol=0.1)
        assert torch.allclose(seen[0][e].std(dim=0), torch.tensor(0.05), rtol=0.1)


def test_cem_gives_the_best_plan_that_it_saw():
    cost, seen = recorded(mass(GOALS))
    plan = search(PLANNERS["cem"], cost)
    assert len(seen) == 10 and {tuple(plans.shape) for plans in seen} == {(5, 100, HORIZON, 2)}
    lowest = torch.stack([mass(GOALS)(plans).amin(dim=1) for plans in seen]).amin(dim=0)
    assert torch.allclose(of_one(mass(GOALS), plan), lowest)


def weighted(temperature, **options):
    cost, seen = recorded(options.pop("cost", mass(GOALS)))
    planner = partial(plan_mppi, samples=50, iterations=1, std=0.1)
    return search(planner, cost, temperature=temperature, **options), seen[0]


def test_a_cold_mppi_takes_the_best_sample():
    plan, seen = weighted(1e-9)
    best = mass(GOALS)(seen).argmin(dim=1)
    assert torch.allclose(plan, seen[torch.arange(5), best], atol=1e-6)
    assert (best > 0).any()


def test_a_hot_mppi_takes_the_mean():
    plan, seen = weighted(1e9)
    assert torch.allclose(plan, seen.mean(dim=1), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_mppi_between(temperature):
    plan, seen = weighted(temperature)
    costs, seen = mass(GOALS)(seen).double().numpy(), seen.double().numpy()
    for e in range(len(GOALS)):
        weights = np.exp(-costs[e] / (temperature * costs[e].std()))
        expected = np.average(seen[e], axis=0, weights=weights)
        assert plan[e].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_the_scale_of_the_cost_does_not_matter_to_mppi(scale):
    expected = weighted(0.3)[0]
    found = weighted(0.3, cost=lambda actions: scale * mass(GOALS)(actions))[0]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-30, 1.0])
def test_mppi_of_equal_costs_is_the_mean(temperature):
    plan, seen = weighted(temperature, cost=lambda a: torch.full(a.shape[:2], 7.0))
    assert torch.allclose(plan, seen.mean(dim=1), atol=1e-6)


def test_mppi_draws_always_equally_far():
    cost, seen = recorded(mass(GOALS))
    search(PLANNERS["mppi"], cost, max_norm=100)
    assert len(seen) == 10
    for plans in seen:
        assert float((plans[:, 1:] - plans[:, :1]).std()) == pytest.approx(0.05, rel=0.05)


def wells(actions):
    """Two wells: one at 1 and, lower, one at -1."""
    x = actions[..., 0, 0]
    return (x**2 - 1) ** 2 + 0.3 * x


@pytest.mark.parametrize("restarts, side", [(1, 1), (16, -1)])
def test_restarts_leave_a_poor_valley(restarts, side):
    planner = partial(plan_gradient, restarts=restarts, iterations=60, learning_rate=0.05)
    start = torch.full((3, 1, 1), 0.6)
    plan = search(planner, wells, 3, 1, 1, start=start, max_norm=2.0, initial_std=1.0)
    assert plan.flatten().tolist() == pytest.approx([side] * 3, abs=0.1)


def test_gradients_go_to_actions_alone_also_where_they_are_off():
    weight = torch.ones(2, requires_grad=True)
    cost, seen = recorded(lambda actions: mass(GOALS)(actions * weight))
    with torch.no_grad():
        plan = search(PLANNERS["gradient"], cost)
    assert weight.grad is None and not plan.requires_grad
    assert len(seen) == 81
    assert of_one(mass(GOALS), plan).max() < 1e-3
    assert of_one(mass(GOALS), plan).tolist() == pytest.approx(
        torch.stack([mass(GOALS)(plans).amin(dim=1) for plans in seen]).amin(dim=0).tolist()
    )


def test_a_step_of_adam_is_as_long_as_the_learning_rate():
    cost, seen = recorded(mass(GOALS + 0.01))
    search(PLANNERS["gradient"], cost, iterations=1, max_norm=100)
    assert torch.allclose((seen[1] - seen[0]).abs(), torch.tensor(0.02), rtol=1e-3)


# ---- the loop


def counting(goals, moves=(1.0, 1.0, 1.0), **options):
    """Episodes that go up, by one a step unless told, towards a number; what was observed, and what was left."""
    looks, lefts = [], []

    def plan(observation, left):
        looks.append(observation.flatten().tolist())
        lefts.append(left)
        return torch.tensor(moves).expand(len(goals), 3)[..., None]

    goals = torch.tensor(goals)[:, None]
    found = run_episodes(
        plan,
        lambda state, action: state + action,
        lambda state: 10 * state,
        lambda state: (state == goals).flatten(),
        torch.zeros(len(goals), 1),
        **options,
    )
    return found, looks, lefts


def test_whoever_is_there_stands_still():
    found, looks, _ = counting([0.0, 2, 9], budget=5, execute=2)
    assert found.success.tolist() == [True, True, False]
    assert found.steps.tolist() == [0, 2, 5] and found.steps.dtype == torch.int64
    assert found.paths[..., 0].tolist() == [[0] * 6, [0, 1, 2, 2, 2, 2], [0, 1, 2, 3, 4, 5]]
    assert looks == [[0, 0, 0], [0, 20, 20], [0, 20, 40]]  # every second step


@pytest.mark.parametrize("execute, looks", [(1, 5), (2, 3), (3, 2)])
def test_plans_are_made_after_as_many_steps_as_told(execute, looks):
    found, seen, _ = counting([9.0], budget=5, execute=execute)
    assert len(seen) == looks and found.paths.shape == (1, 6, 1)


def test_what_is_left_of_a_plan_is_handed_on():
    for execute, rest in ((1, [2, 3, 0]), (2, [3, 0, 0]), (3, [0, 0, 0])):
        lefts = counting([99.0, 99.0], (1.0, 2.0, 3.0), budget=6, execute=execute)[2]
        assert lefts[0] is None
        assert all(left[..., 0].tolist() == [rest, rest] for left in lefts[1:])


def test_nobody_plans_when_all_are_there():
    found, looks, _ = counting([2.0, 1], budget=50, execute=1)
    assert len(looks) == 2 and found.paths.shape == (2, 51, 1)
    assert found.steps.tolist() == [2, 1] and found.paths[:, -1].flatten().tolist() == [2, 1]
    assert counting([0.0], budget=5, execute=1)[1] == []


def test_the_last_step_counts():
    assert counting([5.0], budget=5, execute=2)[0].success.all()
    assert not counting([5.0], budget=4, execute=2)[0].success.any()


def test_states_of_any_shape():
    found = run_episodes(
        lambda observation, left: torch.ones(2, 1, 3),
        lambda state, action: state + action[:, None],
        lambda state: None,
        lambda state: torch.stack([state[0].sum() > 20, state[1].sum() > 200]),
        torch.zeros(2, 4, 3),
        budget=3,
        execute=1,
    )
    assert found.paths.shape == (2, 4, 4, 3) and found.paths[:, -1].sum(dim=(1, 2)).tolist() == [
        24,
        36,
    ]


def far_from_the_model(speed, execute):
    """Ten steps towards GOALS in a world where an action takes a point `speed` times as far."""
    generator, goals = seeded(), GOALS[:4]

    def plan(here, left):
        cost = mass(goals, "summed", here[:, None, None])
        planner = partial(plan_cem, samples=200, elites=20, iterations=15, initial_std=0.2)
        return search(planner, cost, 4, 10, start=left, generator=generator)

    return run_episodes(
        plan,
        lambda state, action: state + speed * action,
        lambda state: state,
        lambda state: (state - goals).norm(dim=1) < 0.08,
        torch.zeros(4, 2),
        budget=10,
        execute=execute,
    )


def test_looking_again_mends_a_model_that_is_off():
    assert far_from_the_model(1.0, execute=10).success.all()
    blind = far_from_the_model(0.8, execute=10)
    assert not blind.success.any() and blind.steps.tolist() == [10] * 4
    looking = far_from_the_model(0.8, execute=1)
    assert looking.success.all() and (looking.steps < 10).all()
    assert torch.equal(looking.paths, far_from_the_model(0.8, execute=1).paths)


GOOD = dict(
    plan=lambda observation, left: torch.ones(2, 3, 1),
    step=lambda state, action: state + action,
    observe=lambda state: state,
    reached=lambda state: state[:, 0] > 9,
    state=torch.zeros(2, 1),
    budget=4,
    execute=2,
)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"budget": 0}, "budget must.*at least 1, got 0"),
        ({"execute": 0}, "execute must.*at least 1, got 0"),
        ({"execute": 4}, "execute must be an integer between 1 and H = 3, got 4"),
        (
            {"plan": lambda o, left: torch.ones(1, 3, 1)},
            r"plan must give.*\(2, H, A\), got \(1, 3, 1\)",
        ),
        ({"plan": lambda o, left: torch.ones(2, 3)}, r"plan must give.*got \(2, 3\)"),
        ({"step": lambda s, a: s[0]}, r"step must give.*\(2, 1\), got \(1,\)"),
        (
            {"reached": lambda s: s > 9},
            r"reached must give a boolean.*\(2,\), got torch.bool, \(2, 1\)",
        ),
        ({"reached": lambda s: s[:, 0]}, r"reached must give a boolean.*got torch.float32, \(2,\)"),
    ],
)
def test_bad_arguments_of_episodes(options, words):
    assert run_episodes(**GOOD).steps.tolist() == [4, 4]
    with pytest.raises(ValueError, match=words):
        run_episodes(**(GOOD | options))


# ---- the interval


@pytest.mark.parametrize(
    "successes, number, low, high",
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1),
    ],
)
def test_wilson_by_the_book(successes, number, low, high):
    assert wilson_interval(successes, number) == pytest.approx((low, high), abs=5e-5)


def test_wilson_by_its_formula():
    z, rate, n = 1.6448536269514722, 0.3, 50
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    expected = (centre - half, centre + half)
    assert wilson_interval(np.int64(15), np.int64(50), confidence=0.9) == pytest.approx(expected)


@pytest.mark.parametrize(
    "successes, number, confidence, words",
    [
        (1, 0, 0.95, "number must.*at least 1, got 0"),
        (-1, 4, 0.95, "successes must be an integer between 0 and number = 4, got -1"),
        (5, 4, 0.95, "successes.*number = 4, got 5"),
        (0.5, 4, 0.95, "successes.*got 0.5"),
        (1, 4, 0, "confidence must be between 0 and 1, got 0"),
        (1, 4, 1.0, "confidence must be between 0 and 1, got 1.0"),
        (1, 4, 95, "confidence.*got 95"),
    ],
)
def test_bad_arguments_of_wilson(successes, number, confidence, words):
    with pytest.raises(ValueError, match=words):
        wilson_interval(successes, number, confidence=confidence)
