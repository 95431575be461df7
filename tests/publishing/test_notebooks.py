"""What nbval needs to find in each chapter; `make test` runs the chapters themselves under it, in the smoke profile."""

from pathlib import Path

import nbformat
import pytest

from jepa_utils.publishing.rules import COMPARED, checked_problems, set_up_problems

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_chapter_is_ready_for_nbval(path):
    notebook = nbformat.read(path, as_version=4)
    assert checked_problems(notebook) + set_up_problems(notebook, path.stem) == []


PARAMETERS = "import os\nprofile = os.environ.get('JEPA_PROFILE', 'laptop')\nseed = 0"
SET_UP = """class Settings: pass
settings = Settings()
ju.open_chapter("01_test", profile)"""


def problems(notebook) -> list[str]:
    return checked_problems(notebook) + set_up_problems(notebook, "01_test")


def _notebook(
    *outputs: str, parameters: str = PARAMETERS, set_up: str = SET_UP, kernel: str = "python3"
):
    new = nbformat.v4
    cells = [new.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    for text in outputs:
        shown = [new.new_output("stream", text=text)] if text else []
        tags = {"tags": [COMPARED]}
        cells.append(new.new_code_cell("f()", outputs=shown, metadata=tags, execution_count=1))
    cells.append(new.new_code_cell(set_up))
    return new.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": kernel, "display_name": "Python 3"}}
    )


def test_check_passes_a_good_notebook():
    assert problems(_notebook("(2048, 10)", "25", "True")) == []


@pytest.mark.parametrize(
    ("notebook", "finding"),
    [
        (_notebook("25", "True"), "2 cells are tagged"),
        (_notebook("25", "True", ""), "cell 4 is compared but has no output"),
        (_notebook("25", "True", "loss 0.125"), "prints the float 0.125"),
        (_notebook("25", "True", "4e-4"), "prints the float"),
        (_notebook(*"123", parameters="profile = 'laptop'\nseed = 0"), "JEPA_PROFILE"),
        (
            _notebook(*"123", parameters=PARAMETERS + "\nx = 1"),
            "exactly profile and seed: unknown x",
        ),
        (_notebook(*"123", parameters=PARAMETERS + ".5"), "wants seed = a whole number"),
        (_notebook(*"123", set_up=SET_UP.replace("01", "02")), "open_chapter is called with ['02_"),
        (_notebook(*"123", set_up=SET_UP[:-33]), "open_chapter is called with nothing"),
        (_notebook(*"123", set_up=SET_UP.replace("Settings", "Sizes")), "no settings: declare"),
        (_notebook(*"123", set_up=SET_UP.replace("settings =", "s =")), "no settings: declare"),
        (_notebook(*"123", kernel="julia"), "the kernel is not python3"),
    ],
)
def test_check_can_fail(notebook, finding):
    (problem,) = problems(notebook)
    assert finding in problem


def test_a_cell_that_waits_for_its_first_run_is_not_said_to_be_empty():
    notebook = _notebook("", "1", "2")
    notebook.cells[1].execution_count = None
    assert problems(notebook) == []
