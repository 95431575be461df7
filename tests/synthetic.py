"""A small book in a temporary folder, for the tests of the publishing chain."""

import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CLAIMS = """
- id: purity
  kind: statement
  chapter: 01_test
  source: Test (2026), section 1
  says: Neighbours share a class.
  reported: 0.5
  expect: {at_least: 0.8, direction: 0.3}
  why: a third above the base rate
  control: shuffled vectors
  profile: laptop
  data: [toy]
- id: same-value
  kind: check
  chapter: 01_test
  says: The two formulas agree.
  expect: {at_least: 1}
  why: they are the same formula
  profile: smoke
"""

PARAMETERS = 'import os\n\nprofile = os.environ.get("JEPA_PROFILE", "laptop")\nseed = 0'

SET_UP = """import sys
from jepa_utils.data.load import Provenance
from jepa_utils.claims.notebook import claims_table, glue, open_chapter, record

open_chapter("01_test", profile, Provenance("toy", "mirror", "1", "0" * 64, 3, "lines", "note"))
sys.stderr.write("\\r 10%|#   | 1/10\\r100%|####| 10/10\\n")
def never_called():
    from jepa_utils import sigreg"""

PACKAGE = Path(__file__).resolve().parents[1] / "jepa_utils"


def chapter(*cells: str, parameters: str = PARAMETERS) -> nbformat.NotebookNode:
    """A notebook of code cells, or markdown where text starts with #; ids are always the same."""
    made = [
        new_markdown_cell("# A test chapter"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
    ]
    made += [
        new_markdown_cell(text) if text.startswith("#") else new_code_cell(text) for text in cells
    ]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    return new_notebook(cells=made)


def make_tree(root: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """Write the book's skeleton, with one chapter that is not run; return the chapter."""
    # A copy of the package that runs import, for staleness is judged by the files below the root.
    shutil.copytree(PACKAGE, root / "jepa_utils", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "requirements.lock").write_text("# comment\ntorch==2.13.0\n")
    for folder in ("book", "notebooks"):
        (root / folder).mkdir()
    (root / "book" / "claims.yml").write_text(CLAIMS)
    path = root / "notebooks" / "01_test.ipynb"
    nbformat.write(chapter(*cells, parameters=parameters), path)
    return path


GOOD_CELLS = (
    SET_UP,
    'record("purity", [0.9, 0.92, 0.94], control=[0.2, 0.3, 0.25])',
    'record("same-value", True)',
    'glue("count", 25)\nglue("seconds", 1.5, rtol=None)\nglue("name", "romeo")',
    "# Numbers\n\nThe count is {glue:text}`count:d`, purity {glue:text}`purity:.2f`, "
    "after {glue:text}`seconds:.1f` s with {glue:text}`name`.",
    "claims_table()\nprint('a line')",
)
