"""A training on two processes that is killed goes on where it was, and ends as on one process."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from datasets import Dataset, DatasetDict

from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.experiments.cifar10 import VisionRecipe, pretrain_record
from jepa_utils.experiments.store import read_record

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {here!r})
import torch.distributed as dist
from test_kill import train

from jepa_utils.experiments import cifar10

report, calls = cifar10.collapse_report, []

def dying(embeddings):
    calls.append(0)
    # before training and after each epoch: in the second, before its checkpoint
    if len(calls) == 3 and os.environ.get("LOCAL_RANK", "0") == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return report(embeddings)

if sys.argv[1] == "die":
    cifar10.collapse_report = dying
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


def test_a_killed_training_on_two_processes_ends_as_on_one(tmp_path):
    script, folder = tmp_path / "train.py", tmp_path / "two"
    script.write_text(SCRIPT.format(here=os.path.dirname(__file__), folder=str(folder)))
    # on a GPU there might not be two
    alone = dict(JEPA_THREADS="1", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")

    def launch(what):
        command = subprocess.Popen(
            [sys.executable, script, what],
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
        return command.returncode, said

    code, said = launch("die")
    assert code == -signal.SIGKILL, said
    (state,) = (folder / "checkpoints").iterdir()
    assert state.name.startswith("cifar10-killed-ijepa-0-")
    assert not (folder / "cifar10" / "killed.json").exists()
    code, said = launch("go on")
    assert code == 0, said
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
