"""What a run refuses: to train on samples unasked, and to write over what is better."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from datasets import Dataset
from nbformat.v4 import new_output
from papermill.exceptions import PapermillExecutionError
from synthetic import SET_UP, chapter, make_tree

from jepa_utils.publishing import chapters
from jepa_utils.publishing.chapters import ChapterError, run_chapter
from jepa_utils.publishing.preflight import change_settings, of_real_data

# --- real data

NAME = "cornell-movie-review-data/rotten_tomatoes/test.parquet"
LOADS = """from pathlib import Path
import jepa_utils as ju
from jepa_utils.claims.notebook import open_chapter

reviews = ju.load_data("rotten-tomatoes")
Path("trained").touch()
open_chapter("01_test", profile, reviews)"""


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with one file of a data set; there is neither cache nor network beside it."""
    path = tmp_path / "mirror" / NAME
    path.parent.mkdir(parents=True)
    Dataset.from_dict({"text": ["good"] * 99, "label": [1] * 99}).to_parquet(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "mirror" / "SHA256SUMS").write_text(f"{digest}  ./{NAME}\n")
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    return path


@pytest.fixture
def loads(tmp_path):
    """A small book whose chapter loads that data set; it was not run."""
    (tmp_path / "book").mkdir()
    return make_tree(tmp_path / "book", LOADS)


def run(path, profile="laptop", **options):
    return run_chapter(path, profile, progress=False, root=path.parents[1], **options)


def test_without_real_data_a_run_stops_before_training_and_says_what_was_tried(
    mirror, loads, tmp_path
):
    run(loads)
    stored = loads.read_bytes()
    assert b'"origin": "mirror"' in stored
    (loads.parent / "trained").unlink()
    mirror.write_bytes(mirror.read_bytes()[:-9])
    with pytest.raises(ChapterError) as truncated:
        run(loads)
    mirror.unlink()
    with pytest.raises(ChapterError) as missing:
        run(loads)
    assert "test.parquet is not what its checksum says" in str(truncated.value)
    assert "nothing of cornell-movie-review-data/rotten_tomatoes in" in str(missing.value)
    for message in map(str, (truncated.value, missing.value)):
        assert message.startswith("01_test: stopped in cell 3: the real data of 'rotten-tomatoes'")
        for tried in ("mirror", "cache"):
            assert f"the {tried} ({tmp_path / tried})" in message
        assert "the public address (https://huggingface.co/datasets/cornell" in message
        assert "the public address cannot be reached" in message
        assert "--allow-sample --output" in message and "\n" not in message
    assert loads.read_bytes() == stored and not (loads.parent / "trained").exists()


def test_a_sample_that_was_insisted_on_replaces_no_run_of_real_data(mirror, loads, tmp_path):
    real, other = tmp_path / "real.ipynb", tmp_path / "other.ipynb"
    notebook = nbformat.read(loads, as_version=4)
    data = [{"name": "rotten-tomatoes", "origin": "mirror"}]
    notebook.metadata["jepa"] = {"profile": "laptop", "data": data}
    nbformat.write(notebook, real)
    mirror.unlink()
    before = loads.read_bytes(), real.read_bytes()
    with pytest.raises(ChapterError, match=r"on built-in samples cannot be stored in notebooks/"):
        run(loads, allow_sample=True)
    with pytest.raises(ChapterError, match=r"real\.ipynb holds a run of real data"):
        run(loads, allow_sample=True, output=real)
    with pytest.raises(ChapterError, match=r"real\.ipynb holds a run of real data"):
        run(loads, "smoke", output=real)
    assert run(loads, allow_sample=True, output=other) == other
    data = nbformat.read(other, as_version=4).metadata["jepa"]["data"]
    assert [(item["name"], item["origin"]) for item in data] == [("rotten-tomatoes", "sample")]
    assert (loads.read_bytes(), real.read_bytes()) == before
    assert of_real_data(real) and not of_real_data(other) and not of_real_data(loads)


def test_a_sample_loaded_on_purpose_is_not_stored_either(tmp_path):
    path = make_tree(tmp_path, SET_UP.replace('"mirror"', '"sample"'))
    before = path.read_bytes()
    with pytest.raises(ChapterError, match="it loaded the built-in sample of toy; its outputs are"):
        run(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"metadata": {"jepa": 3}, "nbformat": 4}'])
def test_what_is_no_chapter_holds_no_run_of_real_data(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text)
    assert not of_real_data(tmp_path / "a.ipynb")


# --- where a run may be stored


@pytest.fixture
def no_run(monkeypatch):
    """A run that is refused too late fails here."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("it was run"))


@pytest.mark.parametrize(
    "options, why",
    [
        ({"profile": "smoke"}, "a smoke run"),
        ({"seed": 5}, "a run with seed 5 instead of 0"),
        ({"settings": {"weight": "1"}}, "a run with other settings"),
        (
            {"settings": {"weight": "1"}, "seed": 5},
            "seed 5 instead of 0 and a run with other settings",
        ),
        ({"output": "notebooks/02_copy.ipynb"}, "a copy called 02_copy.ipynb"),
    ],
)
def test_only_the_declared_run_is_stored_among_the_chapters(book, no_run, options, why):
    if "output" in options:
        options = {"output": book / options["output"]}
    path = book / "notebooks" / "01_test.ipynb"
    before = path.read_bytes()
    with pytest.raises(ChapterError) as error:
        run(path, **options)
    assert f"{why} cannot be stored in notebooks/" in str(error.value)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["01_test.ipynb"]


@pytest.mark.parametrize("place", ["file/below.ipynb", "folder"])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(book, no_run, place):
    (book / "file").touch()
    (book / "folder").mkdir()
    with pytest.raises(ChapterError, match=rf"{place} cannot be written: .*; nothing was run"):
        run(book / "notebooks" / "01_test.ipynb", output=book / place)


def executed_as(path):
    """A stored chapter as papermill would give it back."""
    notebook = nbformat.read(path, as_version=4)
    reached = {"reached": {"modules": [], "names": [], "files": []}}
    note = new_output("display_data", metadata={"jepa": reached})
    notebook.cells.append(nbformat.v4.new_code_cell(outputs=[note]))
    return notebook


def test_a_place_that_fills_up_during_the_run_loses_no_outputs(book, monkeypatch):
    path, write = book / "notebooks" / "01_test.ipynb", chapters.write_notebook
    before, executed = path.read_bytes(), executed_as(path)

    def full(notebook, output):
        if output == path:
            raise OSError(28, "No space left on device")
        write(notebook, output)

    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: executed)
    monkeypatch.setattr(chapters, "write_notebook", full)
    with pytest.raises(ChapterError, match="No space left on device; the run's outputs are") as e:
        run(path)
    kept = str(e.value).split()[-1]
    outputs = [cell.get("outputs") for cell in nbformat.read(kept, as_version=4).cells]
    assert outputs == [cell.get("outputs") for cell in json_cells(before)]
    assert path.read_bytes() == before
    shutil.rmtree(os.path.dirname(kept))


def json_cells(content: bytes) -> list:
    return nbformat.reads(content.decode(), as_version=4).cells


def test_ctrl_c_that_reaches_the_kernel_first_is_ctrl_c(book, monkeypatch):
    def interrupted(*_, **__):
        raise PapermillExecutionError(2, 2, "x", "KeyboardInterrupt", "", [])

    monkeypatch.setattr("papermill.execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(book / "notebooks" / "01_test.ipynb")


def test_ctrl_c_at_the_terminal_is_one_clear_line(tmp_path):
    """It goes to the command and to its kernel, as at a terminal."""
    path = make_tree(tmp_path, "open('started', 'w')\nimport time\ntime.sleep(60)")
    before = path.read_bytes()
    command = [sys.executable, "-m", "jepa_utils.publishing.cli", "run", "1"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores it, and so would all that this starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (path.parent / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    line = "jepa: stopped; nothing was stored, and what was stored before is as it was"
    assert process.returncode == 130 and told.splitlines()[-1] == line
    assert "Traceback" not in told and path.read_bytes() == before


def test_a_kernel_that_dies_is_named_with_its_last_words(tmp_path):
    words = "import faulthandler, os, sys\nfaulthandler.enable(sys.__stderr__)\nos.abort()"
    with pytest.raises(ChapterError) as error:
        run(make_tree(tmp_path, words))
    message = str(error.value)
    assert message.startswith("01_test: the kernel died, most often for lack of memory\n")
    assert "Fatal Python error: Aborted" in message


# --- settings

SETTINGS = """%matplotlib inline
from dataclasses import dataclass

@dataclass(frozen=True)
class Settings:
    weight: float = 0.01  # of SIGReg
    epochs: int = 3
    recipe: str = "tiny"
    widths: tuple = (1.0,)
"""
MADE = "settings = Settings(\n    epochs=4\n)\ndoubled = 2 * settings.weight"


@pytest.mark.parametrize(
    "changed, values",
    [
        ({"weight": "0.1", "epochs": "5"}, {"weight": 0.1, "epochs": 5}),
        ({"weight": "1"}, {"weight": 1.0}),
        ({"recipe": "5", "widths": "(2.0, 3.0)"}, {"recipe": "5", "widths": (2.0, 3.0)}),
    ],
)
def test_settings_take_other_values_before_anything_is_made_of_them(changed, values):
    notebook = chapter(SETTINGS, MADE)
    assert change_settings(notebook, changed) == values
    scope = {}
    exec(notebook.cells[2].source.partition("\n")[2], scope)
    exec(notebook.cells[3].source, scope)
    assert {name: getattr(scope["settings"], name) for name in values} == values
    assert scope["doubled"] == 2 * values.get("weight", 0.01)
    assert scope["settings"].epochs == values.get("epochs", 4)


@pytest.mark.parametrize(
    "cells, changed, message",
    [
        ((SETTINGS, MADE), {"wight": "1"}, "no wight, want some of: weight, epochs, recipe, wid"),
        ((SETTINGS, MADE), {"epochs": "many"}, "setting epochs is 'many', wants int"),
        ((SETTINGS, MADE), {"epochs": "0.5"}, "setting epochs is '0.5', wants int"),
        ((SETTINGS, MADE), {"widths": "1"}, "setting widths is '1', wants tuple"),
        ((SETTINGS,), {"epochs": "1"}, "no cell makes settings"),
        (("x = 1",), {"epochs": "1"}, "settings have no epochs, want some of: none"),
    ],
)
def test_unknown_and_wrong_settings_are_named(cells, changed, message):
    with pytest.raises(ChapterError, match=message):
        change_settings(chapter(*cells), changed)


def test_an_experiment_leaves_the_chapter_as_it_was(tmp_path):
    path = make_tree(tmp_path, SETTINGS, MADE, SET_UP, "print(doubled, seed)")
    before = path.read_bytes()
    mine = run(path, seed=5, settings={"weight": "0.1"}, output=tmp_path / "new" / "mine.ipynb")
    notebook = nbformat.read(mine, as_version=4)
    assert notebook.cells[-1].outputs[0].text == "0.2 5\n"
    stored = notebook.metadata["jepa"]
    assert (stored["seed"], stored["settings"]) == (5, {"weight": 0.1})
    assert notebook.cells[3].source == MADE and path.read_bytes() == before
    assert json.loads(before)["metadata"] == {}
