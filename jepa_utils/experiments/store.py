"""Records: stored results of trainings that a page cannot wait for, one file for each recipe.

``results/EXPERIMENT/RECIPE.json`` holds the recipe's settings, checksums of the data, and the runs;
beside it lie the weights of the first seed. A run that was interrupted goes on from its last epoch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch

from jepa_utils.arguments import whole
from jepa_utils.files import write_whole
from jepa_utils.objectives._distributed import alone
from jepa_utils.training import fit

__all__ = ["Outcome", "RecordError", "Run", "complete_record", "read_record", "settings_of"]

PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "datasets", "pillow")

AWAY = "move it away to begin anew"

# Set by Lightning, torchrun and Slurm for each process of a training.
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


class RecordError(RuntimeError):
    """A record is missing, damaged, or of other settings than those asked for."""


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes
    ----------
    entry : dict
        What goes into the record: "scores" first, "seconds", and what else there is.
    save : callable, optional
        Writes networks to a path, with a model card.
    card : dict
        What the card says beside the entry; without "curves", which are long.
    """

    entry: dict[str, Any]
    save: Callable[[Path, dict[str, Any]], None] | None = None
    card: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """One row of an experiment's table, to be done with several seeds.

    Attributes
    ----------
    key : dict of str to str
        What tells it from the others, such as ``{"method": "views"}``.
    do : callable
        Seed and checkpoint paths, one for each training of the run, to `Outcome`.
    stages : int, default 1
        Trainings of the run.
    """

    key: dict[str, str]
    do: Callable[[int, list[Path]], Outcome]
    stages: int = 1


def complete_record(
    experiment: str,
    name: str,
    *,
    recipe: Any,
    data: Any,
    runs: Iterable[Run],
    folder: Path | str,
    checkpoints: Path | str,
    seeds: Sequence[int] | None = None,
    seeds_outside: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Do each run once per seed, and write the record after every one; what is there stays.

    Several commands may add runs to one record at a time. Where several processes share a training,
    all of them call this, all measure, and the first one writes.

    Parameters
    ----------
    experiment, name : str
        The record is ``folder/experiment/name.json``; `name` is the recipe's.
    recipe : dataclass
        Settings, which all runs share; its ``num_seeds`` says how many seeds there are.
    data : object
        Checksums of the data, as JSON has them.
    runs : iterable of Run
        The table.
    folder : path
        Where records lie.
    checkpoints : path
        Where the state of a run in progress goes, which is removed when the run is done.
    seeds : sequence of int, optional
        In place of the recipe's; from 0 to 2**32 - 1, each once.
    seeds_outside : bool, default True
        First all runs with one seed, then with the next; else all seeds of a run, then the next.
    say : callable
        Told a line after each run.

    Returns
    -------
    dict
        The record: "recipe", "settings", "data", "runs".

    Raises
    ------
    ValueError
        If `seeds` are none, no such numbers, or named twice, or two of the `runs` have one key.
    RecordError
        If the record that is there is damaged, or has other settings or data.
    """
    path, runs = Path(folder) / experiment / f"{name}.json", list(runs)
    seeds = _checked_seeds(range(recipe.num_seeds) if seeds is None else seeds)
    if len({tuple(run.key.items()) for run in runs}) < len(runs):
        raise ValueError(f"runs must differ in their keys, got {[run.key for run in runs]}")
    head = {"settings": settings_of(recipe), "data": data}
    record = _open(path, name, head)
    path.parent.mkdir(parents=True, exist_ok=True)
    if seeds_outside:
        wanted = [(run, seed) for seed in seeds for run in runs]
    else:
        wanted = [(run, seed) for run in runs for seed in seeds]
    # Decided once: what other processes of this training find later is no longer what it was.
    for run, seed in [(run, seed) for run, seed in wanted if not _has(record, run, seed)]:
        # What is left of a run with other settings must not be gone on with.
        slug = "_".join(map(_slug, run.key.values()))
        states = [
            Path(checkpoints) / f"{experiment}-{name}-{slug}-{seed}-{_digest(head)}-{stage}.ckpt"
            for stage in range(run.stages)
        ]
        torch.set_num_threads(fit.THREADS)
        L.seed_everything(seed, verbose=False)
        outcome = run.do(seed, states)
        entry = {**run.key, "seed": seed, **outcome.entry, **_facts()}
        if _rank():
            record["runs"].append(entry)
            continue
        record = _open(path, name, head)  # another command may have added to it meanwhile
        if outcome.save is not None and seed == 0:
            short = {key: value for key, value in entry.items() if key != "curves"}
            weights = path.with_name(f"{name}_{_slug(next(iter(run.key.values())))}.safetensors")
            outcome.save(weights, {**(outcome.card or {}), **head, **short})
        if not _has(record, run, seed):
            record["runs"].append(entry)
        write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
        for state in states:
            state.unlink(missing_ok=True)
        score, value = next(iter(entry["scores"].items()))
        words = ", ".join(run.key.values())
        say(f"{words}, seed {seed}: {score} {value:.3f}, {entry['seconds']:.0f} s")
    return record


def measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that looks at what all processes of a training have, without sharing anything."""

    def measure(*arguments, **options):
        with alone():
            return function(*arguments, **options)

    return measure


def read_record(path: Path | str) -> dict[str, Any]:
    """Read a record.

    Parameters
    ----------
    path : path
        The JSON file.

    Returns
    -------
    dict
        "recipe" (its name), "settings", "data" (checksums), and "runs", a list of dicts.

    Raises
    ------
    RecordError
        If it is missing or no record.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise RecordError(f"no record: {path.name} is missing; 'jepa train' makes it") from problem
    except (ValueError, OSError) as problem:
        raise RecordError(f"{path.name} is damaged: {problem}; {AWAY}") from problem
    if problem := _problem(record):
        raise RecordError(f"{path.name} is no record: {problem}; {AWAY}")
    return record


def _problem(record: Any) -> str | None:
    """What a record lacks that it must have, if anything."""
    if not isinstance(record, dict) or not isinstance(record.get("runs"), list):
        return "it has no list of runs"
    if missing := [key for key in ("recipe", "settings", "data") if key not in record]:
        return f"it has no {missing[0]}"
    for number, run in enumerate(record["runs"]):
        if not isinstance(run, dict):
            return f"run {number} is no dict"
        if type(run.get("seed")) is not int:
            return f"run {number} has no seed"
        scores = run.get("scores")
        numbers = scores.values() if isinstance(scores, dict) else [None]
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers):
            return f"run {number} has no scores by name"
    return None


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    seeds = [whole("seeds", seed, 0, 2**32 - 1) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be one at least, and each only once, got {seeds}")
    return seeds


def settings_of(recipe: Any) -> dict[str, Any]:
    """A recipe's fields as JSON has them, without ``num_seeds``.

    How many runs there are does not change what one of them is.
    """
    settings = json.loads(json.dumps(asdict(recipe)))
    return {name: value for name, value in settings.items() if name != "num_seeds"}


def _open(path: Path, name: str, head: dict[str, Any]) -> dict[str, Any]:
    """The record to go on with, or a new one."""
    record = read_record(path) if path.exists() else {"recipe": name, **head, "runs": []}
    if different := [key for key in head if record.get(key) != head[key]]:
        raise RecordError(f"{path.name} was made with other {' and '.join(different)}; {AWAY}")
    return record


def _has(record: dict[str, Any], run: Run, seed: int) -> bool:
    return any((run.key | {"seed": seed}).items() <= entry.items() for entry in record["runs"])


def _rank() -> int:
    """Number of this process over all nodes, 0 where it is alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)


def _slug(text: str) -> str:
    return text.lower().replace(" ", "_").replace("-", "").replace(",", "").replace("/", "")


def _digest(head: dict[str, Any]) -> str:
    """Eight letters that differ where settings or data do."""
    return hashlib.sha256(json.dumps(head).encode()).hexdigest()[:8]


def _facts() -> dict[str, Any]:
    """What has to be known of a run beside its scores."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "hardware": _hardware(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "packages": packages | {"python": platform.python_version()},
    }


def _hardware() -> str:
    if torch.cuda.is_available():  # Lightning trains there; afterwards the module is on the CPU
        one = torch.cuda.get_device_name()
    else:
        one = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if not torch.distributed.is_initialized():
        return one
    return f"{torch.distributed.get_world_size()} processes, each with {one}"


def _commit() -> str:
    """The commit, with a plus where files that git tracks were changed, other than records."""
    others = ["--", ":(top)", ":(top,exclude)results"]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", *others], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + "+" * bool(changed.returncode)
