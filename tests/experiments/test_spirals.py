"""Chapter 3's experiment: many small trainings in one are what each would be by itself."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from jepa_utils.data.batches import neighbour_batches
from jepa_utils.data.spiral import curve_neighbours, spiral
from jepa_utils.evaluation.collapse import isotropy
from jepa_utils.experiments import spirals as experiment
from jepa_utils.experiments.spirals import (
    ESCAPES,
    OBJECTIVES,
    PARTS,
    Rules,
    SpiralRecipe,
    Stack,
    StackTraining,
    Together,
    share_of_bells,
    spiral_record,
    waves_read,
)
from jepa_utils.experiments.store import read_record
from jepa_utils.models.mlp import MLP
from jepa_utils.objectives.sigreg import sigreg
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA

TINY = replace(SpiralRecipe.tiny(), looks=(0, 1))


def batches():
    points = spiral(200, noise=0.05, seed=3)
    partners = curve_neighbours(points.t, width=0.5)
    return neighbour_batches(points.points, partners, batch_size=64), points.points


def by_itself(dimensions, predicts, weight, directions):
    torch.manual_seed(7)
    encoder = MLP(50, 16, dimensions)
    regularizer = partial(sigreg, directions=directions)
    rule = dict(regularizer=regularizer, weight=weight) if weight else {}
    if not predicts:
        rule |= dict(objective=lambda predicted, target: 0 * predicted.sum())
    return JEPA(encoder, nn.Identity(), learning_rate=0.01, **rule)


def stacked(*rules):
    encoders = Stack(50, 16, [rule.dimensions for rule in rules], seed=7)
    return StackTraining(encoders, rules, num_slices=8, learning_rate=0.01)


@pytest.mark.parametrize(
    "dimensions, predicts, weight", [(6, True, 0.1), (2, True, 0.0), (4, False, 0.1)]
)
def test_an_encoder_of_a_stack_has_the_gradient_of_the_pages_jepa(
    monkeypatch, dimensions, predicts, weight
):
    others = [Rules("more", 8, True, 0.3), Rules("less", 2, False, 1.0)]
    rules = [others[0], Rules("this", dimensions, predicts, weight), others[1]]
    together = stacked(*rules)
    points, neighbours = next(iter(batches()[0]))
    lines = together.directions()
    assert lines.norm(dim=1).allclose(torch.ones(()), atol=1e-5)
    monkeypatch.setattr(together, "directions", lambda: lines)
    alone = by_itself(dimensions, predicts, weight, lines[1, :dimensions])
    for module in (together, alone):
        module.training_step((points, neighbours), 0)["loss"].backward()
    layers = [part for part in alone.context_encoder if hasattr(part, "weight")]
    for layer, weights, biases in zip(
        layers, together.encoders.weights, together.encoders.biases, strict=True
    ):
        width = layer.out_features
        torch.testing.assert_close(weights.grad[1, :, :width], layer.weight.grad.T)
        torch.testing.assert_close(biases.grad[1, 0, :width], layer.bias.grad)
        assert layer.weight.grad.any() and not weights.grad[1, :, width:].any()


def test_a_narrow_encoder_of_a_stack_is_zero_beyond_its_width():
    rules = Rules("both", 6, True, 0.1), Rules("two", 2, True, 0.1)
    module, (data, points) = stacked(*rules), batches()
    fit(module, data, epochs=1, seed=0, progress=False)
    with torch.no_grad():
        h = module.encoders(points)
    assert h.shape == (2, 200, 6) and not h[1, :, 2:].any() and h[1, :, :2].abs().min() > 0


def test_trainings_together_are_what_they_are_by_themselves():
    def members(names):
        return [experiment._jepa(name, OBJECTIVES[name][1][2], TINY, 0) for name in names]

    names, (data, points) = ("VICReg", "InfoNCE", "EMA + stop-gradient"), batches()
    together = Together(members(names))
    fit(together, data, epochs=2, seed=0, progress=False)
    for name, member in zip(names, together.members, strict=True):
        (alone,) = members([name])
        fit(alone, data, epochs=2, seed=0, progress=False)
        with torch.no_grad():
            got, wanted = (m.eval().context_encoder(points) for m in (member, alone))
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4, msg=name)
    average = together.members[2].target_encoder.average
    assert not torch.equal(average[0].weight, together.members[2].context_encoder[0].weight)


def test_a_share_of_bells_tells_bells_from_others():
    draw = torch.Generator().manual_seed(5)
    ball = torch.randn(2000, 6, generator=draw)
    assert 0.9 < share_of_bells(3 * ball + 1) <= 1  # wherever it is, and however large
    assert share_of_bells(ball * torch.tensor([3.0, 1, 1, 1, 1, 1])) < 0.7
    assert share_of_bells(ball[:, :2].sign()) < 0.5


def test_waves_that_a_line_reads_are_counted():
    t = torch.linspace(2, 5, 400)
    u = torch.pi * (t - 2)[:, None] / 3
    three = torch.cos(u * torch.tensor([1.0, 4, 9]))
    assert waves_read(three, t, three, t) == pytest.approx(3, abs=0.05)
    turned = three @ torch.tensor([[1.0, 2, 0], [0, 1, 0.1], [0.5, 0, 1]])  # a line does not mind
    assert waves_read(turned, t, turned, t) == pytest.approx(3, abs=0.05)
    noise = torch.randn(800, 3, generator=torch.Generator().manual_seed(0))
    assert waves_read(noise[:400], t, noise[400:], t) < 0.3


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spiral")
    spiral_record(TINY, name="tiny", folder=folder, checkpoints=folder / "c", say=lambda _: None)
    return read_record(folder / "spiral" / "tiny.json")


def test_each_part_has_curves_from_before_training_to_its_end(record):
    runs = {run["part"]: run for run in record["runs"]}
    assert list(runs) == list(PARTS)
    compared = [run["objective"] for run in record["runs"] if run["part"] == "objectives"]
    assert compared == list(OBJECTIVES)
    for run in record["runs"]:
        epochs = run["curves"].pop("epochs")
        assert epochs == [0, 1]
        assert set(run["curves"]) == set(run["scores"]) - {"raw"}
        for name, curve in run["curves"].items():
            assert all(len(values) == 2 for values in curve.values())
            assert run["scores"][name] == pytest.approx(curve["R²"][-1], abs=1e-4)
            chosen_by = curve.get("R² to choose by")
            assert curve["R²"] != chosen_by and (chosen_by is None) == (run["part"] == "curves")
    both, alone = (
        runs["curves"]["curves"][f"{rules}, D = 6"] for rules in ("both rules", "SIGReg alone")
    )
    assert both["R²"][0] == alone["R²"][0] and both["R²"][1] != alone["R²"][1]
    untrained = Stack(50, TINY.hidden, [6], seed=0)
    points = experiment.Points.draw(TINY, TINY.noise, 0)
    with torch.no_grad():
        h = untrained(points.test.points)[0]
    assert both["isotropy"][0] == pytest.approx(isotropy(h), rel=1e-3)
    assert len({"train", "choose", "test"}) == 3
    assert not torch.equal(points.choose.t, points.test.t)


def test_clouds_to_escape_from_have_the_size_that_they_are_said_to_have(record):
    escapes = {run["objective"]: run["curves"] for run in record["runs"] if run["part"] == "escape"}
    assert list(escapes) == list(ESCAPES)
    for name, escape in escapes.items():
        assert escape["0.01"]["spread"][0] == pytest.approx(0.01, rel=0.1)
        assert escape["0"]["spread"][0] == 0
        moves = name.startswith(
            "VISReg"
        )  # ties between equal points are broken, whatever their order
        assert (escape["0"]["spread"][1] > 0) == moves


def test_a_part_that_was_stopped_goes_on_to_the_same_curves(tmp_path, monkeypatch, record):
    def dying(*args):
        calls.append(0)
        if len(calls) > 8:  # in the look after the first epoch
            raise InterruptedError
        return report(*args)

    calls, report = [], experiment.collapse_report
    recipe = replace(TINY, looks=(0, 1, 2))
    places = dict(name="tiny", folder=tmp_path, checkpoints=tmp_path / "c", say=lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "collapse_report", dying)
        with pytest.raises(InterruptedError):
            spiral_record(recipe, parts=["curves"], **places)
    resumed = spiral_record(recipe, parts=["curves"], **places)
    places |= dict(folder=tmp_path / "whole", checkpoints=tmp_path / "d")
    whole = spiral_record(recipe, parts=["curves"], **places)
    assert resumed["runs"][0]["curves"] == whole["runs"][0]["curves"]


def test_what_cannot_be_done_is_named(tmp_path):
    places = dict(name="tiny", folder=tmp_path, checkpoints=tmp_path)
    with pytest.raises(ValueError, match="parts must be some of curves.*got .'magic'."):
        spiral_record(TINY, parts=["magic"], **places)
    with pytest.raises(ValueError, match="devices and nodes must be 1, got 2 and 1"):
        spiral_record(TINY, devices=2, **places)
