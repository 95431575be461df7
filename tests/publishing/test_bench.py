"""The benchmark compares like with like, and says when a bound is missed."""

import json

import pytest
import torch

from jepa_utils.publishing import bench


def test_the_compared_formulas_are_the_same_function():
    x, directions = bench._draw((200, 6, 16))
    losses = (bench.complex_formula, bench.half_range_formula, bench.package)
    results = []
    for loss in losses:
        cloud = (x * 1.5 + 0.3).requires_grad_()
        value = loss(cloud, directions)
        results.append((value.item(), *torch.autograd.grad(value, cloud)))
    for value, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-5)
        assert torch.allclose(gradient, results[0][1], rtol=1e-3, atol=1e-6)


class Easy(dict):
    """Bounds, and the networks that were to be compiled."""

    def __init__(self, bounds):
        super().__init__(bounds)
        self.compiled = []


@pytest.fixture
def small(monkeypatch):
    """One tiny shape, with bounds that any run meets."""
    monkeypatch.setattr(bench, "SHAPES", [(64, 4, 8)])
    easy = Easy({name: (0,) if name.startswith("times") else (1e9,) for name in bench.BOUNDS})
    monkeypatch.setattr(bench, "BOUNDS", easy)
    monkeypatch.setattr(bench, "COMPILED", ("labels",))
    monkeypatch.setattr(bench.VisionRecipe, "laptop", bench.VisionRecipe.smoke)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: easy.compiled.append(self)
    )  # it takes half a minute
    return easy


def test_writes_what_it_measured(small, tmp_path):
    output = tmp_path / "results" / "bench.json"
    assert bench.run_benchmark(output, pairs=3)
    written = json.loads(output.read_text())
    (row,), steps = written["rows"], written["compiled steps of chapter 4"]
    assert steps.keys() == {"labels"} and all(value > 0 for value in steps["labels"].values())
    assert any(
        isinstance(network, bench.VisionRecipe.smoke().encoder().__class__)
        for network in small.compiled
    )
    assert (row["N"], row["D"], row["slices"]) == (64, 4, 8)
    assert all(row[name] > 0 for name in small if name.startswith(("times", "of")))
    assert [p.name for p in output.parent.iterdir()] == ["bench.json"]


def test_a_missed_bound_is_reported(small, tmp_path, capsys):
    small["times the source's formula"] = (1e9,)
    assert not bench.run_benchmark(tmp_path / "bench.json", pairs=3)
    assert "MISSED" in capsys.readouterr().out


def test_without_a_compiler_the_compiled_steps_are_left_out(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.shutil, "which", lambda name: None)
    assert bench.run_benchmark(tmp_path / "bench.json", pairs=3)
    assert (
        json.loads((tmp_path / "bench.json").read_text())["compiled steps of chapter 4"] == {}
        and not small.compiled
    )
    assert "needs a C++ compiler" in capsys.readouterr().out


def test_too_few_pairs(tmp_path):
    with pytest.raises(ValueError, match="pairs"):
        bench.run_benchmark(tmp_path / "bench.json", pairs=2)
