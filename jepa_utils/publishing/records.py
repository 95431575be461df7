"""Runs of record: trainings that are too long for a page, done once and kept with all that is needed to judge them.

A record is a JSON file in ``results/``: for each run its method, seed, curves, scores, hardware, commit and package
versions, and for all of them the settings and the checksum of the data.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from jepa_utils.files import write_whole
from jepa_utils.data.images import image_tensor
from jepa_utils.data.sources import LoadedData
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.probes import knn_probe, linear_probe
from jepa_utils.models.checkpoints import load_encoder, save_encoder
from jepa_utils.training.fit import THREADS, History, fit
from jepa_utils.training.recipes import METHODS, VisionRecipe
from jepa_utils.training.vision import ImageDataModule, encode_images

__all__ = [
    "RecordError",
    "digest",
    "open_record",
    "pretrain_record",
    "read_record",
    "run_facts",
    "settings_of",
    "write_record",
]

PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "datasets", "pillow")
DEFAULT_METHODS = ("untrained", "I-JEPA", "random masks", "pixels", "views", "labels", "SIGReg", "patch 8")
STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)  # of the penalties that a probe may choose
WATCHED = 2000  # images whose embeddings the monitors look at
PROBED = 20_000  # training images, with their labels, behind the probe at the end
ALL_LABELS = "100 % of labels"  # a probe of all training images takes minutes: for the saved encoders only


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
        raise RecordError(f"no record: {path.name} is missing; 'jepa pretrain' or 'jepa captions' makes it") from problem
    except ValueError as problem:
        raise RecordError(f"{path.name} is damaged: {problem}") from problem
    if not isinstance(record, dict) or not isinstance(record.get("runs"), list):
        raise RecordError(f"{path.name} is no record: it has no list of runs")
    return record


def settings_of(recipe: Any) -> dict[str, Any]:
    """A recipe's fields as JSON has them, without ``num_seeds``: how many runs there are does not change what one of them is."""
    return {name: value for name, value in json.loads(json.dumps(asdict(recipe))).items() if name != "num_seeds"}


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
        raise RecordError(f"{path.name} was made with other {' and '.join(different)}; move it away to begin anew")
    return record


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all."""
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())


def run_facts() -> dict[str, Any]:
    """What has to be known of a run beside its scores: hardware, date, commit, package versions."""
    return {
        "hardware": _hardware(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": _commit(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def pretrain_record(
    recipe: VisionRecipe,
    loaded: LoadedData,
    *,
    profile: str,
    folder: Path | str,
    checkpoints: Path | str,
    methods: Sequence[str] = DEFAULT_METHODS,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Train each method once per seed, and write the record after every run; what is recorded already is not done again.

    An interrupted run goes on from its last epoch. Several processes may add methods to one record, and a recipe with more
    seeds adds their runs. The encoder of each method's first seed is saved beside the record, and it alone is also probed
    with all labels.

    Parameters
    ----------
    recipe : VisionRecipe
        Settings.
    loaded : LoadedData
        CIFAR-10 or its sample, from `load_data`.
    profile : str
        Name of the record: ``cifar10_PROFILE.json``.
    folder : path
        Where the record and the encoders go.
    checkpoints : path
        Where the state of a run in progress goes, which is removed when the run is done.
    methods : sequence of str
        Of `METHODS`.
    say : callable
        Told a line after each run.
    progress : bool, default True
        Show progress bars.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a method is unknown.
    RecordError
        If the record that is there has other settings or data.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, got {unknown}")
    folder, checkpoints = Path(folder), Path(checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"cifar10_{profile}.json"
    head = {"settings": settings_of(recipe), "data": loaded.provenance.sha256}
    record = open_record(path, profile, head)
    splits = {split: image_tensor(loaded.data[split]) for split in ("train", "test")}
    for seed in range(recipe.num_seeds):
        for method in methods:
            if any(run["method"] == method and run["seed"] == seed for run in record["runs"]):
                continue
            # What is left of a run with other settings must not be gone on with.
            state = checkpoints / f"{profile}-{_slug(method)}-{seed}-{digest(head)}.ckpt"
            run, encoder = _run(recipe, method, seed, splits, state, progress)
            record = open_record(path, profile, head)  # another process may have added to it meanwhile
            record["runs"].append(run)
            if seed == 0 and method != "untrained":
                card = {"what": METHODS[method], **head, **{k: v for k, v in run.items() if k != "curves"}}
                save_encoder(encoder, folder / f"cifar10_{profile}_{_slug(method)}.safetensors", card)
            write_record(record, path)
            say(f"{method}, seed {seed}: linear probe {run['scores']['linear probe']:.3f}, {run['seconds']:.0f} s")
    for run in record["runs"]:
        if run["seed"] > 0 or ALL_LABELS in run["scores"]:
            continue
        saved = folder / f"cifar10_{profile}_{_slug(run['method'])}.safetensors"
        if run["method"] == "untrained":
            encoder, card = _seeded_training(recipe, "untrained", 0).encoder, None
        else:
            encoder, card = load_encoder(saved)
        (train, labels), (test, test_labels) = ((encode_images(encoder, x), y) for x, y in splits.values())
        score = round(linear_probe(train, labels, test, test_labels, strengths=STRENGTHS).score, 4)
        record = open_record(path, profile, head)
        run = next(other for other in record["runs"] if (other["method"], other["seed"]) == (run["method"], run["seed"]))
        run["scores"][ALL_LABELS] = score
        if card is not None:
            save_encoder(encoder, saved, {**card, "scores": run["scores"]})
        write_record(record, path)
        say(f"{run['method']}, seed 0: linear probe with all {len(train)} labels {run['scores'][ALL_LABELS]:.3f}")
    return record


def _seeded_training(recipe: VisionRecipe, method: str, seed: int) -> L.LightningModule:
    torch.set_num_threads(THREADS)
    L.seed_everything(seed, verbose=False)
    return recipe.training(method)


def _slug(method: str) -> str:
    return method.lower().replace(" ", "_").replace("-", "")


def digest(head: dict[str, Any]) -> str:
    """Eight letters that differ where settings or data do."""
    return hashlib.sha256(json.dumps(head).encode()).hexdigest()[:8]


def _run(
    recipe: VisionRecipe, method: str, seed: int, splits: dict[str, tuple[Tensor, Tensor]], checkpoint: Path, progress: bool
) -> tuple[dict[str, Any], torch.nn.Module]:
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    module = _seeded_training(recipe, method, seed)
    watched = min(WATCHED, len(images) // 4)  # the last ones; the test split is for the end alone
    fitted = slice(-3 * watched, -watched)

    def monitor() -> dict[str, float]:
        encoder = getattr(module, "trained", module.encoder)
        held_out = encode_images(encoder, images[-watched:])
        train = encode_images(encoder, images[fitted])
        probe = linear_probe(train, labels[fitted], held_out, labels[-watched:], strengths=(1e-2,))
        return {"probe": probe.score, **collapse_report(held_out).to_dict()}

    if method == "untrained":
        history = History(monitors=[monitor()])
    else:
        data = ImageDataModule(images, labels, batch_size=recipe.changed_for(method).batch_size, seed=seed)
        history = fit(module, data, epochs=recipe.epochs, seed=seed, monitor=monitor, checkpoint=checkpoint, progress=progress)
    encoder = getattr(module, "trained", module.encoder)
    train, test = encode_images(encoder, images[:PROBED]), encode_images(encoder, test_images)
    counts = {"linear probe": len(train), "10 % of labels": len(images) // 10, "1 % of labels": len(images) // 100}
    scores = {}
    for name, count in counts.items():
        count = max(20, count)  # the sample is small
        probe = linear_probe(train[:count], labels[:count], test, test_labels, strengths=STRENGTHS)
        scores[name] = probe.score
    scores["nearest neighbours"] = knn_probe(train, labels[:PROBED], test, test_labels, neighbours=(20,)).score
    if encoder is not module.encoder and method != "untrained":
        train, test = encode_images(module.encoder, images[:PROBED]), encode_images(module.encoder, test_images)
        scores["context encoder"] = linear_probe(train, labels[:PROBED], test, test_labels, strengths=STRENGTHS).score
    run = {
        "method": method,
        "seed": seed,
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "seconds": round(history.seconds, 1),
        "images": recipe.epochs * len(images) * (method != "untrained"),
        **run_facts(),
        "curves": {"losses": _rounded(history.losses), "monitors": [_rounded(row) for row in history.monitors]},
    }
    checkpoint.unlink(missing_ok=True)
    return run, encoder


def _rounded(values: dict) -> dict:
    return {k: [float(f"{x:.5g}") for x in v] if isinstance(v, list) else float(f"{v:.5g}") for k, v in values.items()}


def _hardware() -> str:
    if torch.cuda.is_available():  # then Lightning trains there; afterwards the module is back on the CPU
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _commit() -> str:
    """The commit, with a plus where files that git tracks were changed since, other than records."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":(top)", ":(top,exclude)results"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + "+" * bool(changed)
