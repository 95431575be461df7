"""Which code cells a reader of the page sees."""

import ast

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from jepa_utils.publishing.visibility import visibility_tag, with_tags


@pytest.mark.parametrize(
    "code, tag",
    [
        ('ju.record("a", 1)', "remove-input"),
        ('ju.glue("a", 1)\nrecord("b", 2, control=3)', "remove-input"),
        ("ju.claims_table()", "remove-input"),
        ('x = measure()\nju.record("a", x)', "hide-input"),
        ("for a in runs:\n    ju.record(a, runs[a])", "hide-input"),
        ('if profile == "gpu":\n    ju.record("a", 1)', "hide-input"),
        ('def gap(a):\n    return a\n\n\nju.record("a", gap(1))', None),
        ('import math\n\nju.glue("a", math.pi)', None),
        (
            "with ju.figure_style():\n    fig, ax = plt.subplots()\nju.show_figure(fig)",
            "hide-input",
        ),
        ("def draw():\n    pass\n\n\nju.show_figure(draw())", "hide-input"),
        ("ju.show_player(frames)", "hide-input"),
        ("ju.show_source(ju.EMA)", None),
        ("x = 1", None),
        ("print(record)", None),
    ],
)
def test_bookkeeping_is_folded_and_mere_records_are_left_out(code, tag):
    assert visibility_tag(ast.parse(code)) == tag


def test_cells_keep_the_tags_and_the_outputs_they_have():
    cells = [
        new_markdown_cell("ju.record"),
        new_code_cell('ju.record("a", 1)', metadata={"tags": ["nbval-check-output"]}),
        new_code_cell('ju.record("b", 1)', metadata={"tags": ["hide-cell"]}),
        new_code_cell("x = 1"),
        new_code_cell("%time ju.show_figure(f)"),
    ]
    found = nbformat.reads(with_tags(nbformat.writes(new_notebook(cells=cells))), as_version=4)
    tags = [cell.metadata.get("tags") for cell in found.cells]
    assert tags == [None, ["nbval-check-output", "remove-input"], ["hide-cell"], None, None]
    assert [cell.source for cell in found.cells] == [cell.source for cell in cells]
