"""Stretches of trajectories: what belongs together stays together, and draws repeat."""

import pytest
import torch

from jepa_utils.data.batches import TrajectoryDataModule

NUMBER, TOTAL = 7, 10


def states_and_actions():
    """A state names its trajectory and time, and so does the action that follows."""
    times = torch.arange(TOTAL + 1.0).expand(NUMBER, -1)
    rows = torch.arange(NUMBER * 1.0)[:, None].expand_as(times)
    states = torch.stack([rows, times], dim=-1)
    return states, states[:, :-1] * 100


def module(show=lambda states: states, **changes):
    how = dict(length=4, batch_size=5, steps=3) | changes
    return TrajectoryDataModule(*states_and_actions(), show, **how)


def test_frames_and_actions_are_of_one_stretch():
    for frames, actions in module().batches(0):
        assert frames.shape == (5, 5, 2) and actions.shape == (5, 4, 2)
        assert torch.equal(frames[:, :-1] * 100, actions)
        assert (frames[:, :, 0].diff(dim=1) == 0).all() and (frames[:, :, 1].diff(dim=1) == 1).all()


def test_every_place_is_drawn_the_last_one_too():
    drawn = torch.cat([frames[:, 0] for frames, _ in module(steps=200).batches(0)])
    wanted = {(row, time) for row in range(NUMBER) for time in range(TOTAL - 4 + 1)}
    assert {tuple(map(int, place)) for place in drawn} == wanted


def test_a_stretch_may_be_all_of_a_trajectory():
    frames, _ = next(module(length=TOTAL).batches(0))
    assert (frames[:, 0, 1] == 0).all() and (frames[:, -1, 1] == TOTAL).all()


def test_frames_are_shown_as_they_are_drawn():
    shown = []

    def show(states):
        shown.append(len(states))
        return states.sum(dim=-1)

    frames, _ = next(module(show).batches(0))
    assert frames.shape == (5, 5) and shown == [5]


def test_an_epoch_depends_on_seed_and_number_alone():
    first, again = ([f for f, _ in module(seed=3).batches(2)] for _ in range(2))
    assert all(map(torch.equal, first, again))
    for other in (module(seed=4).batches(2), module(seed=3).batches(1)):
        assert not torch.equal(first[0], next(other)[0])


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_batch_of_one(processes):
    whole = list(module().batches(1))
    parts = [list(module().batches(1, rank=r, world_size=processes)) for r in range(processes)]
    for step, (frames, actions) in enumerate(whole):
        assert torch.equal(torch.cat([part[step][0] for part in parts]), frames)
        assert torch.equal(torch.cat([part[step][1] for part in parts]), actions)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(length=11), "length must be .*T.*got 11"),
        (dict(length=0), "length must be"),
        (dict(batch_size=0), "batch_size must be"),
        (dict(steps=0), "steps must be"),
    ],
)
def test_numbers_out_of_range_are_said(changes, said):
    with pytest.raises(ValueError, match=said):
        module(**changes)


def test_shapes_that_do_not_fit_are_said():
    states, actions = states_and_actions()
    how = dict(length=2, batch_size=2, steps=1)
    for pair in ((states[:, :-1], actions), (states[0], actions[0]), (states[:3], actions)):
        with pytest.raises(ValueError, match="states must be .* and actions"):
            TrajectoryDataModule(*pair, lambda s: s, **how)
