"""The benchmark compares like with like, and says when a bound is missed."""

import json
from types import SimpleNamespace

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


@pytest.mark.parametrize("name", ["LeJEPA's code, LeWorldModel", "EB-JEPA"])
def test_the_losses_of_others_are_ours_at_their_grid(name):
    x, directions = bench._draw((200, 6, 16))
    other, grid = bench.BESIDE[name]
    clouds = [(x * 1.5 + 0.3).requires_grad_() for _ in range(2)]
    values = [other(clouds[0], directions), bench.package(clouds[1], directions, **grid)]
    for value in values:
        value.backward()
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
    assert torch.allclose(clouds[0].grad, clouds[1].grad, rtol=1e-3, atol=1e-6)
    assert values[1].item() != pytest.approx(bench.package(x * 1.5 + 0.3, directions).item())


MISSED = "times the source's formula"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Beside other tests two threads wait for each other; and all later tests would have two."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "THREADS", 1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One benchmark of a tiny shape that any run passes, but for one bound that none does."""
    output = tmp_path_factory.mktemp("bench") / "results" / "bench.json"
    compiled, bounds = [], {}
    for name in bench.BOUNDS:
        bounds[name] = (0,) if name.startswith("times") else (1e9,)
    bounds[MISSED] = (1e9,)
    with pytest.MonkeyPatch.context() as patch:
        printed = bench.Console(record=True, width=250)
        patch.setattr(bench, "Console", lambda: printed)
        patch.setattr(bench, "SHAPES", [(64, 4, 8)])
        patch.setattr(bench, "BOUNDS", bounds)
        patch.setattr(bench, "COMPILED", ("labels",))
        patch.setattr(bench, "RECIPE", bench.VisionRecipe.tiny)
        # It takes half a minute.
        patch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
        # One fresh process is enough; the source's formula is measured in this one.
        peak, parts = bench._extra_peak, {}
        parts["package"] = lambda shape: peak("package", shape)
        parts["source"] = lambda shape: bench._peak_here("source", shape)
        patch.setattr(bench, "_extra_peak", lambda name, shape: parts[name](shape))
        held = bench.run_benchmark(output, pairs=3)
    written = json.loads(output.read_text())
    return SimpleNamespace(
        held=held, written=written, compiled=compiled, text=printed.export_text(), output=output
    )


def test_writes_what_it_measured(run):
    (row,), steps = run.written["rows"], run.written["compiled steps of chapter 4"]
    assert steps.keys() == {"labels"} and all(value > 0 for value in steps["labels"].values())
    assert type(bench.VisionRecipe.tiny().encoder()) in map(type, run.compiled)
    assert (row["N"], row["D"], row["slices"]) == (64, 4, 8)
    assert all(row[name] > 0 for name in bench.BOUNDS if name.startswith(("times", "of")))
    assert row["extra peak memory of the source's formula"] >= 0
    assert row["times as long as SIGReg"].keys() == bench.BESIDE.keys()
    assert all(value > 0 for value in row["times as long as SIGReg"].values())
    assert all(name in run.text for name in bench.BESIDE)
    assert [p.name for p in run.output.parent.iterdir()] == ["bench.json"]


def test_a_missed_bound_is_reported_and_only_that(run):
    assert not run.held
    assert run.text.count("MISSED") == 1 and "(>= 1000000000.0) MISSED" in run.text


def test_bounds_that_hold_and_no_compiler(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        bench, "_paired_ratio", lambda *_, **options: (0.3 if "backward" in options else 99.0, 0.01)
    )
    monkeypatch.setattr(bench, "_extra_peak", lambda *_: 3.0)
    monkeypatch.setattr(bench.shutil, "which", lambda name: None)
    assert bench.run_benchmark(tmp_path / "bench.json", pairs=3)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["compiled steps of chapter 4"] == {}
    assert "needs a C++ compiler" in capsys.readouterr().out


def test_too_few_pairs(tmp_path):
    with pytest.raises(ValueError, match="pairs"):
        bench.run_benchmark(tmp_path / "bench.json", pairs=2)
