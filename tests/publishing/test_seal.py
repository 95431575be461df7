"""The seal: every change to what a run stored is found, and named by its cell."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from jepa_utils.publishing.chapters import write_notebook
from jepa_utils.publishing.seal import seal, seal_problems

GLUE = "application/papermill.record/text/plain"


def shown(text: str, **metadata):
    return new_output("display_data", {"text/html": text, "text/plain": text}, metadata=metadata)


def figure(pixels: str, **metadata):
    return new_output("display_data", {"image/png": pixels, "text/plain": "<Figure>"}, **metadata)


@pytest.fixture
def stored(tmp_path):
    """A sealed notebook as it is read back from its file."""
    note = {"jepa": {"glue": "count", "value": 939193, "rtol": 0.25}}
    number = new_output("display_data", {GLUE: "939193"}, metadata=note)
    box = shown("<p>box</p>", jepa={"claim": "purity", "values": [0.9, float("nan")]})
    cells = [
        new_markdown_cell("# A chapter"),
        new_code_cell("count()", outputs=[number]),
        new_code_cell("table()", outputs=[shown("<td>0.91</td>\n<td>0.92</td>\r\n")]),
        new_code_cell("print(x)", outputs=[new_output("stream", text="loss 0.5\nloss 0.4\n")]),
        new_code_cell("draw()", outputs=[figure("aaaa"), figure("bbbb")]),
        new_code_cell("draw()", outputs=[figure("cccc")]),
        new_code_cell("record()", outputs=[box]),
        new_code_cell("claims_table()", outputs=[shown("rows", jepa={"table": "01_test"})]),
        new_code_cell("x", outputs=[new_output("execute_result", {"text/plain": "3"})]),
    ]
    for count, cell in enumerate(cells[1:], 1):
        cell.execution_count = count
    run = {"profile": "laptop", "seed": 0, "seconds": 1.5, "data": [], "versions": ("1", "2")}
    notebook = new_notebook(cells=cells, metadata={"jepa": run})
    seal(notebook)
    write_notebook(notebook, tmp_path / "a.ipynb")
    return nbformat.read(tmp_path / "a.ipynb", as_version=4)


def output(notebook, cell: int, number: int = 0):
    return notebook.cells[cell - 1].outputs[number]


def swap_within(notebook):
    notebook.cells[4].outputs.reverse()


def swap_between(notebook):
    first, second = notebook.cells[4], notebook.cells[5]
    first.outputs[0], second.outputs[0] = second.outputs[0], first.outputs[0]


DOCTORED = {
    "a shown glue number": (lambda nb: output(nb, 2).data.update({GLUE: "111"}), [2]),
    "a noted glue number": (lambda nb: output(nb, 2).metadata.jepa.update(value=111), [2]),
    "a table's cell": (lambda nb: output(nb, 3).data.update({"text/html": "<td>0.99</td>"}), [3]),
    "a printed number": (lambda nb: output(nb, 4).update(text="loss 0.5\nloss 0.1\n"), [4]),
    "figures swapped in a cell": (swap_within, [5]),
    "figures swapped between cells": (swap_between, [5, 6]),
    "a cleared output": (lambda nb: nb.cells[4].update(outputs=[]), [5]),
    "an added output": (lambda nb: nb.cells[3].outputs.append(shown("0.1")), [4]),
    "an output's metadata": (lambda nb: output(nb, 5).metadata.update(alt="other"), [5]),
    "a recorded value": (lambda nb: output(nb, 7).metadata.jepa.update({"values": [0.99]}), [7]),
    "an execution count": (lambda nb: nb.cells[3].update(execution_count=9), [4]),
    "a result's": (lambda nb: output(nb, 9).update(execution_count=9), [9]),
}


@pytest.mark.parametrize("doctor, cells", DOCTORED.values(), ids=DOCTORED.keys())
def test_every_change_to_outputs_is_found_in_its_cell(stored, doctor, cells):
    assert seal_problems(stored) == []
    doctor(stored)
    text = "the outputs of cell {}, not as the run stored them"
    assert seal_problems(stored) == [text.format(cell) for cell in cells]


@pytest.mark.parametrize("key, value", [("seed", 5), ("profile", "gpu"), ("data", ["sample"])])
def test_a_change_to_the_runs_metadata_is_found(stored, key, value):
    stored.metadata["jepa"][key] = value
    assert seal_problems(stored) == [
        "the notebook's metadata under 'jepa', not as the run stored it"
    ]


def test_the_seal_outlasts_ruff_which_writes_floats_in_its_own_way(stored, tmp_path):
    path = tmp_path / "a.ipynb"
    stored.cells[1].source = "count(  )"
    value = 0.9872592010330129  # ends in 8 when ruff has written it
    output(stored, 7).metadata.jepa["values"] = [value, 1.0, 1e-05]
    seal(stored)
    write_notebook(stored, path)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    laid = nbformat.read(path, as_version=4)
    assert laid.cells[1].source == "count()" and seal_problems(laid) == []
    output(laid, 7).metadata.jepa["values"][0] = value * (1 + 1e-9)
    assert seal_problems(laid) == ["the outputs of cell 7, not as the run stored them"]


def test_lost_cells_and_a_lost_seal_are_found(stored):
    stored.cells.append(new_code_cell("y = 1"))
    assert seal_problems(stored) == ["the number of code cells: 8 when run, now 9"]
    for broken in ({}, {"cells": []}):
        stored.metadata["jepa"]["seal"] = broken
        assert seal_problems(stored) == ["its outputs, which no run sealed"]


def test_what_a_run_did_not_make_may_change(stored):
    """Prose, comments, tags; and boxes and tables of claims, which are drawn from what is sealed."""
    stored.cells[0].source = "# Another title"
    stored.cells[1].source = "count()  # of words"
    stored.cells[1].metadata["tags"] = ["hide-input"]
    stored.cells.insert(1, new_markdown_cell("More words."))
    output(stored, 8).data["text/html"] = "<p>reworded</p>"
    output(stored, 9).data["text/html"] = "other rows"
    assert seal_problems(stored) == []
