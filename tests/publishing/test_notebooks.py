"""What nbval needs to find in each chapter; `make test` runs the chapters themselves under it, in the smoke profile."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.ipynb"))
MIN_CHECKED = 3  # cells per chapter whose output nbval compares

COMPARED = "nbval-check-output"
FLOAT = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\d*\w)|\d[eE][+-]?\d")


def nbval_problems(notebook) -> list[str]:
    """Why nbval would check little in this notebook, or too much."""
    code = [
        (n, c, set(c.metadata.get("tags", [])))
        for n, c in enumerate(notebook.cells, 1)
        if c.cell_type == "code"
    ]
    problems = []
    compared = [(n, c) for n, c, tags in code if COMPARED in tags]
    if len(compared) < MIN_CHECKED:
        problems.append(
            f"{len(compared)} cells are tagged {COMPARED}, wants at least {MIN_CHECKED}"
        )
    for n, cell in compared:
        if not cell.outputs:
            problems.append(f"cell {n} is compared but has no output")
        # nbval compares text, and the last digits of a float are another machine's own.
        text = "".join(
            o.get("text", "") or "".join(o.get("data", {}).get("text/plain", ""))
            for o in cell.outputs
        )
        problems += [
            f"cell {n} is compared but prints the float {found}" for found in FLOAT.findall(text)
        ]
    parameters = [c.source for _, c, tags in code if "parameters" in tags]
    if len(parameters) != 1:
        problems.append(f"{len(parameters)} cells are tagged parameters, wants 1")
    elif "JEPA_PROFILE" not in parameters[0]:
        problems.append("the parameters cell does not take its profile from JEPA_PROFILE")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("the kernel is not python3")
    return problems


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_chapter_is_ready_for_nbval(path):
    assert nbval_problems(nbformat.read(path, as_version=4)) == []


def _notebook(
    *outputs: str,
    parameters: str = "import os\nprofile = os.environ.get('JEPA_PROFILE', 'laptop')\nseed = 0",
):
    new = nbformat.v4
    cells = [new.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    for text in outputs:
        shown = [new.new_output("stream", text=text)] if text else []
        cells.append(new.new_code_cell("f()", outputs=shown, metadata={"tags": [COMPARED]}))
    return new.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


def test_check_passes_a_good_notebook():
    assert nbval_problems(_notebook("(2048, 10)", "25", "True")) == []


@pytest.mark.parametrize(
    ("notebook", "finding"),
    [
        (_notebook("25", "True"), "2 cells are tagged"),
        (_notebook("25", "True", ""), "cell 4 is compared but has no output"),
        (_notebook("25", "True", "loss 0.125"), "prints the float 0.125"),
        (_notebook("25", "True", "4e-4"), "prints the float"),
        (_notebook("1", "2", "3", parameters="profile = 'laptop'"), "JEPA_PROFILE"),
    ],
)
def test_check_can_fail(notebook, finding):
    assert any(finding in problem for problem in nbval_problems(notebook))
