"""TODO"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from jepa_utils.files import write_whole

__all__ = [
    "RecordError",
    "digest",
    "open_record",
    "read_record",
    "run_facts",
    "settings_of",
    "write_record",
]


PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "datasets", "pillow")


class RecordError(RuntimeError):
    """A record is missing, damaged, or of other settings than those asked for."""


def read_record(path: Path | str) -> dict[str, Any]:
    """Read a record.

    Parameters
    ----------
    path : path
        The JSON file.

    Returns
    -------
    dict
        "profile", "settings" and "data" (checksum), and "runs", a list of dicts.

    Raises
    ------
    RecordError
        If it is missing or no record.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise RecordError(
            f"no record: {path.name} is missing; 'jepa pretrain' or 'jepa captions' makes it"
        ) from problem
    except ValueError as problem:
        raise RecordError(f"{path.name} is damaged: {problem}") from problem
    if not isinstance(record, dict) or not isinstance(record.get("runs"), list):
        raise RecordError(f"{path.name} is no record: it has no list of runs")
    return record


def settings_of(recipe: Any) -> dict[str, Any]:
    """A recipe's fields as JSON has them, without ``num_seeds``: how many runs there are does not change what one of them is."""
    return {
        name: value
        for name, value in json.loads(json.dumps(asdict(recipe))).items()
        if name != "num_seeds"
    }


def open_record(path: Path, profile: str, head: dict[str, Any]) -> dict[str, Any]:
    """The record to go on with, or a new one.

    Parameters
    ----------
    path : Path
        The JSON file.
    profile : str
        Its profile.
    head : dict
        What all its runs must share: "settings" and "data".

    Raises
    ------
    RecordError
        If the record that is there is damaged, or has another head.
    """
    record = read_record(path) if path.exists() else {"profile": profile, **head, "runs": []}
    if different := [key for key in head if record.get(key) != head[key]]:
        raise RecordError(
            f"{path.name} was made with other {' and '.join(different)}; move it away to begin anew"
        )
    return record


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all."""
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())


def run_facts() -> dict[str, Any]:
    """What has to be known of a run beside its scores: hardware, date, commit, package versions."""
    return {
        "hardware": _hardware(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }


def digest(head: dict[str, Any]) -> str:
    """Eight letters that differ where settings or data do."""
    return hashlib.sha256(json.dumps(head).encode()).hexdigest()[:8]


def _hardware() -> str:
    if (
        torch.cuda.is_available()
    ):  # then Lightning trains there; afterwards the module is back on the CPU
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _commit() -> str:
    """The commit, with a plus where files that git tracks were changed since, other than records."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", ":(top)", ":(top,exclude)results"], check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + "+" * bool(changed)
