"""Chapter 6's experiment: rows that differ in what they say, and plans that a world allows."""

from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch

from jepa_utils.experiments import worlds as experiment
from jepa_utils.experiments.store import read_record
from jepa_utils.experiments.world_measures import WorldData, _episodes, by_model, by_truth
from jepa_utils.experiments.worlds import MODELS, WorldRecipe, WorldRow, world_record

TINY = WorldRecipe.tiny()


def train(folder, **how):
    places = dict(name="tiny", folder=folder, checkpoints=folder / "c", say=lambda _: None)
    return world_record(TINY, **places | how)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return train(tmp_path_factory.mktemp("worlds"), parts=["models"])


def test_every_model_is_trained_and_measured(record):
    runs = {run["row"]: run for run in record["runs"]}
    assert list(runs) == [*MODELS, "one layout"]
    for run in runs.values():
        scores = run["scores"]
        assert all(torch.isfinite(torch.tensor(list(scores.values()))))
        for way in ("none", "hindsight", "nearest"):
            assert len(run["curves"][way]["error"]) == TINY.horizon
            assert scores[f"{way}, error at 30"] == run["curves"][way]["error"][-1]
            assert 0 <= scores[f"{way}, success"] <= 1
        assert 0 <= scores["truth, success"] <= 1
        looks = run["curves"]["looks"]
        assert len(looks) == 1 + TINY.looks and looks[0] != looks[-1]
        assert looks[-1]["position"] == pytest.approx(scores["position"], abs=1e-5)


def test_the_state_is_read_without_an_error_and_pixels_are_not(record):
    runs = {run["row"]: run for run in record["runs"]}
    assert runs["state"]["scores"]["position"] < 0.05  # pixels; the line has a little ridge
    assert runs["LeWorldModel"]["scores"]["position"] > 0.5
    assert runs["state"]["parameters"] < runs["LeWorldModel"]["parameters"]


def test_each_method_is_searched_as_often_as_the_others():
    rows = WorldRecipe.page().rows("search")
    models = [name.rsplit(", ", 1)[0] for name in rows]
    assert set(Counter(models).values()) == {4}
    assert set(models) == set(MODELS) - {"nothing", "state"}  # which have nothing to choose
    for name, row in rows.items():
        model, value = name.rsplit(", ", 1)
        now, was = asdict(row), asdict(MODELS[model])
        differ = {key for key in now if now[key] != was[key]}
        assert len(differ) <= 1 and all(f"{now[key]:g}" == value for key in differ)


@pytest.mark.parametrize("part", ["lambdas", "steps"])
def test_a_sweep_changes_what_it_says_and_nothing_else(part):
    for name, row in WorldRecipe.page().rows(part).items():
        now, was = asdict(row), asdict(WorldRow())
        (changed,) = {key for key in now if now[key] != was[key]}
        assert f"{now[changed]:g}" in name.split()
        assert changed == {"lambda": "weight", "smoothness": "smoothness"}.get(
            name.split()[0], "steps"
        )


def test_layouts_that_are_planned_in_were_not_trained_on():
    def layouts(states):
        return {tuple(place) for place in states[:, 0, 2:].tolist()}

    varied = WorldData.of(replace(TINY, walks=300, test_walks=100), WorldRow())
    assert not layouts(varied.train[0]) & layouts(varied.test[0])
    one = WorldData.of(TINY, WorldRow(fixed=True))
    assert len(layouts(one.train[0]) | layouts(one.test[0])) == 1


def test_episodes_lead_through_the_door_of_layouts_that_are_new():
    world = WorldData.of(TINY, WorldRow())
    start, goal = _episodes(world, replace(TINY, episodes=200))
    layouts = start[:, 2:]
    assert torch.equal(layouts, goal[:, 2:])
    held_out = set(map(tuple, world.rooms.layout_grid(held_out=True).tolist()))
    assert set(map(tuple, layouts.tolist())) <= held_out
    rooms = [world.rooms.room_of(states[:, :2], layouts) for states in (start, goal)]
    assert (rooms[0] != rooms[1]).all()
    assert (world.rooms.shortest_path(start[:, :2], goal[:, :2], layouts) >= 8 / 32).all()


@pytest.mark.parametrize("planner", ["CEM", "MPPI"])
def test_the_world_itself_finds_the_way_and_an_untrained_model_does_not(planner):
    recipe = replace(
        TINY, episodes=12, budget=40, plan_horizon=20, samples=100, elites=10, iterations=2
    )
    world = WorldData.of(recipe, WorldRow())
    found = by_truth(world, recipe, planner=planner, cost="summed")
    assert found["success"] > 0.6 and found["steps"] < 40
    torch.manual_seed(0)
    module = experiment.world_training(WorldRow(), recipe)
    blind = by_model(module, world, recipe, module.predictor, planner=planner, cost="summed")
    assert blind["success"] < 0.4


def test_an_interrupted_training_ends_with_the_same_scores(tmp_path, monkeypatch):
    def dying(*arguments):
        calls.append(0)
        if len(calls) == 3:  # after the second of two epochs
            raise InterruptedError
        return look(*arguments)

    calls, look = [], experiment.look
    only = {"LeWorldModel, 0.1": WorldRow()}
    monkeypatch.setattr(WorldRecipe, "rows", lambda self, part: only)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "look", dying)
        with pytest.raises(InterruptedError):
            train(tmp_path, parts=["search"])
    (resumed,) = train(tmp_path, parts=["search"])["runs"]
    (whole,) = train(tmp_path / "whole", parts=["search"])["runs"]
    assert resumed["scores"] == whole["scores"] and resumed["curves"] == whole["curves"]
    assert read_record(tmp_path / "worlds" / "tiny.json")["runs"] == [resumed]


def test_what_cannot_be_done_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of search.*got \['magic'\]"):
        train(tmp_path, parts=["magic"])
    for name in ("sees", "predicts", "regularizer", "target"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*got 'magic'"):
            WorldRow(**{name: "magic"})
