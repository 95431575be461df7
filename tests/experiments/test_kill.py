"""A training on two processes that is killed goes on where it was, and ends as on one process."""

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from processes import as_torchrun, results_on_processes
from torch.multiprocessing import ProcessExitedException

from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.experiments import cifar10
from jepa_utils.experiments.cifar10 import VisionRecipe, pretrain_record
from jepa_utils.experiments.store import read_record

HERE = Path(__file__).parent
SCRIPT = """
import os, sys
sys.path[:0] = {paths!r}
import torch.distributed as dist
from test_kill import train

train({folder!r}, devices=2)
dist.barrier()
os._exit(0)  # see processes.py
"""


def train(folder, devices):
    """Complete a record of one small run; batches of 33 are shared unevenly."""
    whole = load_data("cifar10", source="sample")
    parts = {
        split: Dataset.from_dict(table[:140], table.features) for split, table in whole.data.items()
    }
    recipe = replace(VisionRecipe.tiny(), epochs=3, batch_size=33, num_seeds=1)
    places = dict(folder=folder, checkpoints=f"{folder}/checkpoints", name="killed")
    how = dict(methods=["I-JEPA"], devices=devices, progress=False)
    loaded = LoadedData(DatasetDict(parts), whole.provenance)
    pretrain_record(recipe, loaded, **places, **how)


def only_run(folder):
    (run,) = read_record(folder / "cifar10" / "killed.json")["runs"]
    return run


def die(folder, rank):
    """The same, but the first process kills itself in its second epoch, before the checkpoint."""
    as_torchrun(rank)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on a GPU there might not be two
    importlib.import_module("jepa_utils.training.fit").THREADS = 1
    report, calls = cifar10.collapse_report, []

    def dying(embeddings):
        calls.append(0)
        if len(calls) == 3 and rank == 0:  # before training and after each epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return report(embeddings)

    cifar10.collapse_report = dying
    try:
        train(folder, devices=2)
    except RuntimeError:
        time.sleep(2)  # lost its partner, whose death is to be reported, and not this


def go_on(folder, script):
    """The same as a command, which starts its second process itself, as `jepa train` does."""
    script.write_text(SCRIPT.format(paths=[str(HERE), str(HERE.parent)], folder=folder))
    alone = dict(JEPA_THREADS="1", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    command = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | alone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = command.communicate(timeout=120)  # both have ended: the pipe is closed
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        raise
    assert command.returncode == 0, said


def test_a_killed_training_on_two_processes_ends_as_on_one(tmp_path):
    folder = tmp_path / "two"
    with pytest.raises(ProcessExitedException) as killed:
        results_on_processes(partial(die, str(folder)), tmp_path, preload="lightning")
    assert (killed.value.error_index, killed.value.exit_code) == (0, -signal.SIGKILL)
    (state,) = (folder / "checkpoints").iterdir()
    assert state.name.startswith("cifar10-killed-ijepa-0-")
    assert not (folder / "cifar10" / "killed.json").exists()
    go_on(str(folder), tmp_path / "train.py")
    run = only_run(folder)
    assert list((folder / "checkpoints").iterdir()) == []
    assert run["hardware"].startswith("2 processes")
    train(str(tmp_path / "one"), devices=1)
    one = only_run(tmp_path / "one")
    for name, losses in one["curves"]["losses"].items():
        assert run["curves"]["losses"][name] == pytest.approx(losses, rel=1e-4)
    for found, wanted in zip(run["curves"]["monitors"], one["curves"]["monitors"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-3)
    assert run["scores"] == pytest.approx(one["scores"], abs=0.02)
