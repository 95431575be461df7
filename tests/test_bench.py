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


@pytest.fixture
def small(monkeypatch):
    """One tiny shape, with bounds that any run meets."""
    monkeypatch.setattr(bench, "SHAPES", [(64, 4, 8)])
    easy = {name: (0,) if name.startswith("times") else (1e9,) for name in bench.BOUNDS}
    monkeypatch.setattr(bench, "BOUNDS", easy)
    return easy


def test_writes_what_it_measured(small, tmp_path):
    output = tmp_path / "results" / "bench.json"
    assert bench.run_benchmark(output, pairs=3)
    (row,) = json.loads(output.read_text())["rows"]
    assert (row["N"], row["D"], row["slices"]) == (64, 4, 8)
    assert all(row[name] > 0 for name in small if name.startswith(("times", "of")))
    assert [p.name for p in output.parent.iterdir()] == ["bench.json"]


def test_a_missed_bound_is_reported(small, tmp_path, capsys):
    small["times the source's formula"] = (1e9,)
    assert not bench.run_benchmark(tmp_path / "bench.json", pairs=3)
    assert "MISSED" in capsys.readouterr().out


def test_too_few_pairs(tmp_path):
    with pytest.raises(ValueError, match="pairs"):
        bench.run_benchmark(tmp_path / "bench.json", pairs=2)
