"""The pendulum moves as gymnasium's, and its picture shows the angle and nothing else."""

import math

import gymnasium
import numpy as np
import pytest
import torch

from jepa_utils.data.pendulum import Pendulum


@pytest.mark.parametrize("seed", range(3))
def test_it_moves_as_gymnasiums_pendulum(seed):
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    pendulum = Pendulum()
    fast = 0
    for k in range(300):
        if k % 50 == 0:
            env.state = np.array([rng.uniform(-4, 4), rng.uniform(-8, 8)])
        state, torque = env.state, rng.uniform(-4, 4, 1)  # half of them beyond the motor's
        observation = env.step(torque)[0]
        for dtype in (torch.float64, torch.float32):
            found = pendulum.step(
                torch.tensor(state, dtype=dtype), torch.tensor(torque, dtype=dtype)
            )
            assert found.dtype == dtype
            assert np.abs(found.numpy() - env.state).max() < 1e-5
        assert np.abs([found[0].cos(), found[0].sin(), found[1]] - observation).max() < 1e-5
        fast += abs(env.state[1]) == 8
    assert fast > 0  # the limit of speed was met


def test_many_are_moved_as_one():
    states, torques = torch.randn(3, 4, 2), torch.randn(3, 4, 1)
    after = Pendulum().step(states, torques)
    assert after.shape == (3, 4, 2)
    assert torch.equal(after[1, 2], Pendulum().step(states[1, 2], torques[1, 2]))
    assert Pendulum(size=20).render(states).shape == (3, 4, 1, 20, 20)


def test_settings_are_used():
    state, torque = torch.tensor([math.pi / 2, 0.0]), torch.tensor([1.0])
    settings = dict(gravity=4.0, interval=0.5, max_torque=0.5, max_speed=3.0)
    speed = (6.0 + 3 * 0.5) * 0.5
    for changed, expected in ((settings, 3.0), (settings | {"max_speed": 9.0}, speed)):
        after = Pendulum(**changed).step(state, torque)
        assert after.tolist() == pytest.approx([math.pi / 2 + 0.5 * expected, expected])


@pytest.mark.parametrize("size", [32, 65])
def test_the_rod_points_where_the_angle_says(size):
    angles = torch.linspace(-math.pi, math.pi, 73)
    images = Pendulum(size=size).render(torch.stack([angles, torch.zeros(73)], dim=1))
    assert images.shape == (73, 1, size, size) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and images.amax(dim=(1, 2, 3)).min() > 0.9
    middles = (torch.arange(size) + 0.5) / size - 0.5
    mass = images.sum(dim=(1, 2, 3))
    right = (images[:, 0].sum(dim=1) * middles).sum(dim=1) / mass
    up = -(images[:, 0].sum(dim=2) * middles).sum(dim=1) / mass
    # Half of a rod of 0.4 sides; upright at 0, and positive to the left, as gymnasium draws it.
    assert torch.allclose(right, -0.2 * angles.sin(), atol=0.005)
    assert torch.allclose(up, 0.2 * angles.cos(), atol=0.005)
    assert torch.allclose(images[0], images[-1], atol=1e-4)
    border = torch.stack([images[..., 0, :], images[..., -1, :]])
    assert border.max() < 0.2


def test_the_rod_has_round_smooth_edges():
    image = Pendulum(size=32).render(torch.tensor([0.0, 0.0]))[0]
    across = torch.tensor([0.5, 1.5, 2.5]) / 1.5
    assert torch.allclose(image[10, 16:19], across.square().div(-2).exp(), atol=1e-5)
    assert torch.equal(image, image.flip(1))
    free_end = 16 - 0.4 * 32
    beyond = ((free_end - 1.5) ** 2 + 0.5**2) / 1.5**2
    assert image[1, 16].item() == pytest.approx(math.exp(-beyond / 2), abs=1e-5)
    assert image[18, 16].item() == pytest.approx(
        math.exp(-(2.5**2 + 0.5**2) / 1.5**2 / 2), abs=1e-5
    )


def test_speed_cannot_be_seen():
    angles = torch.linspace(-4, 4, 50)
    slow, fast = (torch.stack([angles, torch.full((50,), v)], dim=1) for v in (0.0, 8.0))
    assert torch.equal(Pendulum().render(slow), Pendulum().render(fast))
    torque = torch.zeros(50, 1)
    after = [Pendulum().render(Pendulum().step(state, torque)) for state in (slow, fast)]
    assert (after[0] - after[1]).abs().amax(dim=(1, 2, 3)).min() > 0.3  # but a second picture tells


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Pendulum(size=15), "size.*15"),
        (lambda: Pendulum().step(torch.zeros(3), torch.zeros(1)), r"states.*\(3,\)"),
        (lambda: Pendulum().step(torch.zeros(4, 2), torch.zeros(4)), r"torques.*\(4,\)"),
        (lambda: Pendulum().step(torch.zeros(4, 2), torch.zeros(3, 1)), r"\(4, 2\) and \(3, 1\)"),
        (lambda: Pendulum().step(torch.zeros(2).long(), torch.zeros(1)), "states.*int64"),
        (lambda: Pendulum().render(torch.zeros(2, 1)), r"states.*\(2, 1\)"),
        (lambda: Pendulum().render(torch.tensor(1.0)), r"states.*\(\)"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
