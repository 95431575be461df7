"""The performance table of `make bench`.

SIGReg against the formulas that it replaces, against those of other packages and against other
objectives, and compiled against plain steps, in pairs.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from jepa_utils.experiments.cifar10 import VisionRecipe
from jepa_utils.files import write_whole
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.objectives.vicreg import covariance_penalty, variance_penalty
from jepa_utils.objectives.visreg import visreg

SHAPES = [(2048, 10, 256), (1024, 256, 1024), (4096, 64, 1024)]  # (N, D, slices)
# What the book promises; None where nothing is promised.
BOUNDS = {
    "times the source's formula": (30, 25, 50),
    "times the half-range formula": (5, 5, 8),
    "of the floor": (None, 4, 4),
    "extra peak memory, arrays of N x slices": (4, 4, 4),
}
THREADS = 2
COMPILED = ("I-JEPA", "views", "labels")  # steps of chapter 4
RECIPE = VisionRecipe.one_pass  # whose steps are compiled
WARM_STEPS = 20


def complex_formula(
    x: Tensor, directions: Tensor, *, knots: int = 17, t_max: float = 5.0
) -> Tensor:
    """SIGReg with complex exponentials at all knots, as chapter 1's source and LeJEPA write it."""
    t = torch.linspace(-t_max, t_max, knots)
    phi = torch.exp(-0.5 * t**2)
    empirical = torch.exp(-1j * (x @ directions).unsqueeze(-1) * t).mean(dim=0)  # (slices, knots)
    return len(x) * torch.trapezoid((empirical - phi).abs() ** 2 * phi, t, dim=1).mean()


def half_range_formula(
    x: Tensor, directions: Tensor, *, knots: int = 17, t_max: float = 5.0
) -> Tensor:
    """The same value from cosines and sines at the knots from 0 on, and autograd."""
    t = torch.linspace(0, t_max, (knots + 1) // 2)
    phi = torch.exp(-0.5 * t**2)
    angles = (x @ directions).unsqueeze(-1) * t  # (N, slices, knots)
    gap = (angles.cos().mean(dim=0) - phi) ** 2 + angles.sin().mean(dim=0) ** 2
    return 2 * len(x) * torch.trapezoid(gap * phi, t, dim=1).mean()


def vicreg_penalties(x: Tensor, directions: Tensor) -> Tensor:
    """What VICReg asks of one cloud; it needs no directions."""
    return 25 * variance_penalty(x) + covariance_penalty(x)


def floor(x: Tensor, directions: Tensor) -> Tensor:
    """The least that anybody must do: two matrix products, one sine, one cosine, N x slices."""
    u = x @ directions
    u.sin(), u.cos()
    return u @ directions.T


def _draw(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    n, d, slices = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    directions = torch.randn(d, slices, generator=generator)
    return x, directions / directions.norm(dim=0)


def _seconds(
    loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, directions: Tensor, *, backward: bool
) -> float:
    x = x.clone().requires_grad_(backward)
    started = time.perf_counter()
    value = loss(x, directions)
    if backward:
        value.backward()
    return time.perf_counter() - started


def package(x: Tensor, directions: Tensor, **grid: float) -> Tensor:
    """The package's SIGReg on given directions."""
    return sigreg(x, directions=directions, **grid)


# Losses of other packages, in their formulas, against ours at their grid; then other objectives.
# LeJEPA's reference code, LeWorldModel, stable-pretraining and lightly share one formula.
_LEJEPA, _EB_JEPA = (
    {"knots": preset["knots"], "t_max": preset["t_max"]}
    for preset in (SIGReg.PRESETS["lejepa"], SIGReg.PRESETS["eb_jepa"])
)
BESIDE = {
    "LeJEPA's code, LeWorldModel": (partial(half_range_formula, **_LEJEPA), _LEJEPA),
    "EB-JEPA": (partial(complex_formula, **_EB_JEPA), _EB_JEPA),
    "VISReg": (lambda x, directions: visreg(x, directions=directions), {}),
    "VICReg's penalties": (vicreg_penalties, {}),
}


def _paired_ratio(
    other: Callable,
    shape: tuple[int, int, int],
    *,
    pairs: int,
    backward: bool = True,
    ours: Callable = package,
) -> tuple[float, float]:
    """Median of other / package over pairs timed in turn, and the package's median seconds."""
    x, directions = _draw(shape)
    ratios, seconds = [], []
    for pair in range(pairs + 2):
        mine = _seconds(ours, x, directions, backward=True)
        theirs = _seconds(other, x, directions, backward=backward)
        if pair >= 2:  # the first two warm caches and allocator
            ratios.append(theirs / mine)
            seconds.append(mine)
    return statistics.median(ratios), statistics.median(seconds)


def _extra_peak(name: str, shape: tuple[int, int, int]) -> float:
    """Peak memory of one forward and backward above what was there, in arrays of N x slices.

    Measured in a fresh process from the kernel's high-water mark, after one small call that loads
    all code."""
    script = (
        "import sys\n"
        "from jepa_utils.publishing import bench\n"
        "print(bench._peak_here(sys.argv[1], tuple(int(a) for a in sys.argv[2:])))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, name, *map(str, shape)],
        capture_output=True, text=True, check=True, env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    n, _, slices = shape
    return float(answer.stdout.strip().splitlines()[-1]) / (n * slices * 4)


def _peak_here(name: str, shape: tuple[int, int, int]) -> int:
    torch.set_num_threads(THREADS)
    loss = {"package": package, "source": complex_formula}[name]
    _seconds(loss, *_draw((64, shape[1], 64)), backward=True)
    x, directions = _draw(shape)
    x.requires_grad_()
    gc.collect()
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # sets the high-water mark back to the present size
    before = _status("VmRSS")
    loss(x, directions).backward()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(field)
    )
    return int(line.split()[1]) * 1024


def _compiled_step(method: str, *, pairs: int) -> dict[str, float]:
    """How many times as fast `torch.compile` makes a step of chapter 4, and what it costs."""
    recipe = RECIPE()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        256, (recipe.batch_size, 3, 32, 32), dtype=torch.uint8, generator=generator
    )
    labels = torch.randint(10, (recipe.batch_size,), generator=generator)
    plain, compiled = (recipe.training(method) for _ in range(2))
    for network in compiled.children():
        network.compile()

    def seconds(module: torch.nn.Module) -> float:
        started = time.perf_counter()
        module.training_step((images, labels), 0)["loss"].backward()
        return time.perf_counter() - started

    first = sum(
        seconds(compiled) for _ in range(WARM_STEPS)
    )  # masks change the number of tokens: several shapes are compiled
    for _ in range(WARM_STEPS):
        seconds(plain)
    ratios = [seconds(plain) / seconds(compiled) for _ in range(pairs)]
    return {
        "times as fast": statistics.median(ratios),
        f"seconds of the first {WARM_STEPS} steps": first,
    }


def run_benchmark(output: Path, *, pairs: int = 15) -> bool:
    """Time SIGReg, and chapter 4's steps with `torch.compile`; print tables, write JSON.

    Parameters
    ----------
    output : Path
        Where the JSON goes; written beside and renamed.
    pairs : int, default 15
        Timed pairs for each ratio (a third as many for the source's formula, which is slow, and for
        what stands beside; twice as many steps).

    Returns
    -------
    bool
        Whether every bound held.
    """
    if pairs < 3:
        raise ValueError(f"pairs must be at least 3, got {pairs}")
    torch.set_num_threads(THREADS)
    console = Console()
    memory = Path("/proc/self/clear_refs").exists()
    if not memory:
        console.print("peak memory is measured on Linux only: left out")
    table = Table(
        "N, D, slices",
        "milliseconds",
        *BOUNDS,
        title=f"SIGReg, forward and backward, {THREADS} threads",
    )
    beside_table = Table("N, D, slices", *BESIDE, title="times as long as SIGReg at the same grid")
    rows, held = [], True
    for index, shape in enumerate(SHAPES):
        console.print(f"timing {shape} ...")
        source, _ = _paired_ratio(complex_formula, shape, pairs=max(3, pairs // 3))
        half, ours = _paired_ratio(half_range_formula, shape, pairs=pairs)
        least, _ = _paired_ratio(floor, shape, pairs=pairs, backward=False)
        measured = {
            "times the source's formula": source,
            "times the half-range formula": half,
            "of the floor": 1 / least,
            "extra peak memory, arrays of N x slices": _extra_peak("package", shape)
            if memory
            else math.nan,
        }
        beside = {
            name: _paired_ratio(
                other, shape, pairs=max(3, pairs // 3), ours=partial(package, **grid)
            )[0]
            for name, (other, grid) in BESIDE.items()
        }
        beside_table.add_row(str(shape), *(f"{value:.1f}" for value in beside.values()))
        cells = []
        for name, value in measured.items():
            bound = BOUNDS[name][index]
            good = (
                bound is None
                or math.isnan(value)
                or (value >= bound if name.startswith("times") else value <= bound)
            )
            held &= good
            sign = (
                "" if bound is None else f" ({'>=' if name.startswith('times') else '<='} {bound})"
            )
            cells.append(f"{value:.1f}{sign}" + ("" if good else " MISSED"))
        table.add_row(str(shape), f"{1e3 * ours:.1f}", *cells)
        rows.append(
            {
                "N": shape[0],
                "D": shape[1],
                "slices": shape[2],
                "milliseconds": 1e3 * ours,
                **measured,
                "times as long as SIGReg": {k: round(v, 3) for k, v in beside.items()},
            }
        )
    if memory:
        rows[0]["extra peak memory of the source's formula"] = _extra_peak("source", SHAPES[0])
    console.print(table)
    console.print(beside_table)
    steps = {}
    if shutil.which("c++"):
        steps_table = Table(
            "method",
            "times as fast",
            f"seconds of the first {WARM_STEPS} steps",
            title="torch.compile, a step of chapter 4",
        )
        for method in COMPILED:
            console.print(f"compiling {method} ...")
            steps[method] = _compiled_step(method, pairs=2 * pairs)
            steps_table.add_row(method, *(f"{value:.2f}" for value in steps[method].values()))
        console.print(steps_table)
    else:
        console.print("torch.compile needs a C++ compiler, named c++: left out")
    _write(output, rows, steps)
    console.print(f"written to {output}")
    return held


def _write(output: Path, rows: list[dict], steps: dict[str, dict[str, float]]) -> None:
    record = {
        "what": "SIGReg, forward and backward: median ratios over pairs timed in turn in one run",
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "packages": {"python": platform.python_version(), "torch": torch.__version__},
        "rows": [
            {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        ],
        "compiled steps of chapter 4": {
            name: {k: round(v, 3) for k, v in step.items()} for name, step in steps.items()
        },
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, (json.dumps(record, indent=1) + "\n").encode())
