"""The environment keeps gymnasium's contract, and is the world of the torch functions."""

import warnings

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from jepa_utils.data.rooms import Rooms
from jepa_utils.data.rooms_env import RoomsEnv

START = {"layout": (0.5, 0.5), "position": (0.2, 0.5), "goal": (0.5, 0.5)}


@pytest.mark.parametrize("rooms, held_out", [(None, False), (Rooms(size=65), True)])
def test_gymnasium_finds_nothing_to_warn_of(rooms, held_out):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(RoomsEnv(rooms, held_out=held_out), skip_render_check=True)  # it renders nothing


def episode(seed: int, **options) -> list:
    env = RoomsEnv()
    observation, info = env.reset(seed=seed, options=options)
    env.action_space.seed(seed)
    seen = [(observation, info)]
    for _ in range(5):
        observation, _, _, _, info = env.step(env.action_space.sample())
        seen.append((observation, info))
    return seen


def test_seeds_repeat_and_differ():
    first, again, other = (episode(seed) for seed in (0, 0, 1))
    for (image, info), (image2, info2) in zip(first, again, strict=True):
        assert np.array_equal(image, image2)
        assert all(np.array_equal(info[name], info2[name]) for name in info)
    assert not np.array_equal(first[0][0], other[0][0])
    env = RoomsEnv()
    places = [env.reset(seed=0 if k == 0 else None)[1]["position"] for k in range(3)]
    assert len({tuple(place) for place in places}) == 3  # a seed is of all episodes that follow


def test_an_option_leaves_what_else_is_drawn_as_it_was():
    free, given = (RoomsEnv().reset(seed=3, options=o)[1] for o in ({}, {"goal": (0.1, 0.1)}))
    assert np.array_equal(free["position"], given["position"])
    assert given["goal"].tolist() == pytest.approx([0.1, 0.1])


def test_steps_pictures_and_rewards_are_those_of_rooms():
    env, rooms = RoomsEnv(), Rooms()
    observation, info = env.reset(seed=0)
    place, goal, layout = (torch.tensor(info[name]) for name in ("position", "goal", "layout"))
    env.action_space.seed(0)
    assert info["distance"] == rooms.shortest_path(place, goal, layout).item()
    for _ in range(20):
        assert observation.dtype == np.uint8 and observation.shape == (2, 32, 32)
        picture = 255 * rooms.render(place, layout).numpy()
        assert np.abs(observation - picture).max() <= 0.5 + 1e-4
        assert np.abs(info["goal_image"] - 255 * rooms.render(goal, layout).numpy()).max() < 0.501
        action = env.action_space.sample()
        place = rooms.step(place, torch.tensor(action), layout)
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.array_equal(info["position"], place.numpy())
        assert reward == -rooms.shortest_path(place, goal, layout).item()
        assert terminated == info["success"] == (-reward <= rooms.reach) and not truncated


def test_the_goal_is_reached_within_its_radius():
    env = RoomsEnv()
    env.reset(seed=0, options=START)
    distances = []
    for _ in range(4):
        _, reward, terminated, _, info = env.step(np.array([1.0, 0.0], np.float32))
        distances.append(-reward)
        assert terminated == (-reward <= env.rooms.reach)
    assert distances == pytest.approx([0.3 - k * env.rooms.max_step for k in (1, 2, 3)] + [0.0125])
    assert terminated and info["success"]


def test_layouts_are_those_of_the_chosen_side():
    for held_out in (False, True):
        env, grid = RoomsEnv(held_out=held_out), Rooms.layout_grid(held_out).tolist()
        drawn = [env.reset(seed=seed)[1]["layout"].tolist() for seed in range(30)]
        assert all(layout in grid for layout in drawn) and len(set(map(tuple, drawn))) > 5


@pytest.mark.parametrize(
    "options, words",
    [
        ({"layuot": (0.5, 0.5)}, "options.*layuot"),
        ({"layout": (0.5, 0.5, 0.5)}, r"layout.*\(3,\)"),
        (START | {"position": (0.5, 0.1)}, "starts must be free"),
        (START | {"goal": (0.5, 0.1)}, "goals must be free"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        RoomsEnv().reset(seed=0, options=options)


def test_a_step_needs_an_episode_and_a_whole_action():
    env = RoomsEnv()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action.*\(3,\)"):
        env.step(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="action.*finite"):
        env.step(np.full(2, np.nan, np.float32))
