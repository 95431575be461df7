"""Which code cells a reader of the page sees: bookkeeping is folded away or left out."""

from __future__ import annotations

import ast

import nbformat

from jepa_utils.publishing.staleness import parse_cells

DRAWING = {"show_figure", "show_player"}
RECORDING = {"record", "glue", "claims_table"}
TAGS = {"hide-input", "remove-input", "hide-cell", "remove-cell"}  # of a cell that says it itself


def visibility_tag(code: ast.Module) -> str | None:
    """How the input of a cell is shown.

    Parameters
    ----------
    code : ast.Module
        The cell.

    Returns
    -------
    str or None
        "hide-input" (folded) of a cell that draws a figure, or that works out and records values
        and does nothing else; "remove-input" of one that only records; None of all others.
    """
    if _calls(code) & DRAWING:
        return "hide-input"
    if not _calls(code) & RECORDING:
        return None
    if all(isinstance(part, ast.Expr) and _calls(part) & RECORDING for part in code.body):
        return "remove-input"
    # A function or an import is for the reader, who may use it further down.
    simple = (ast.Expr, ast.Assign, ast.AugAssign, ast.For, ast.If)
    return "hide-input" if all(isinstance(part, simple) for part in code.body) else None


def _calls(code: ast.AST) -> set[str]:
    """Names of the functions that are called, without what stands before the dot."""
    calls = [node.func for node in ast.walk(code) if isinstance(node, ast.Call)]
    return {getattr(f, "attr", getattr(f, "id", "")) for f in calls}


def with_tags(notebook: str) -> str:
    """A notebook's JSON in which each code cell has its tag, unless it has one already."""
    content = nbformat.reads(notebook, as_version=4)
    for cell in content.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or TAGS & set(tags):
            continue
        if tag := visibility_tag(parse_cells(nbformat.v4.new_notebook(cells=[cell]))):
            cell.metadata["tags"] = [*tags, tag]
    return nbformat.writes(content)
