"""The seal: digests of what a run stored, by which a later change to it is found.

It is no signature: whoever changes outputs on purpose can seal them again. It tells outputs that a
run made from outputs that a slip, a merge or an editor made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import nbformat

DRAWN = {"claim", "table"}  # notes of what `claims.draw.redraw` draws from recorded values


def seal(notebook) -> None:
    """Seal a notebook's outputs and metadata as they are now; `run_chapter` does so, once.

    Parameters
    ----------
    notebook : notebook node
        An executed chapter with its metadata complete; changed in place.
    """
    notebook.metadata["jepa"]["seal"] = digests(notebook)


def digests(notebook) -> dict:
    """Digests of what a run stored, the same before and after writing.

    A box or a table of claims counts by the recorded values that it is drawn from: rewording a
    claim draws it anew without a run.

    Returns
    -------
    dict
        "cells", a digest for each code cell, of its outputs and execution count, in order;
        "notebook", of those and of the run's metadata.
    """
    # As it is read back: tuples are lists, text is lines. Of floats 12 digits count, for ruff, when
    # it lays a notebook's code, does not keep the last one.
    content = nbformat.writes(notebook)
    stored = json.loads(content, parse_float=lambda digits: f"{float(digits):.12g}")
    cells = [
        _digest([cell["execution_count"], [_kept(output) for output in cell["outputs"]]])
        for cell in stored["cells"]
        if cell["cell_type"] == "code"
    ]
    run = {key: v for key, v in stored["metadata"].get("jepa", {}).items() if key != "seal"}
    return {"cells": cells, "notebook": _digest([cells, run])}


def seal_problems(notebook) -> list[str]:
    """What is not as the run stored it, each with its cell; empty if all is."""
    sealed = notebook.metadata.get("jepa", {}).get("seal")
    if not sealed or not {"cells", "notebook"} <= set(sealed):
        return ["its outputs, which no run sealed"]
    now = digests(notebook)
    numbers = [n for n, c in enumerate(notebook.cells, 1) if c.cell_type == "code"]
    if len(now["cells"]) != len(sealed["cells"]):
        return [f"the number of code cells: {len(sealed['cells'])} when run, now {len(numbers)}"]
    found = [
        f"the outputs of cell {number}, not as the run stored them"
        for number, was, digest in zip(numbers, sealed["cells"], now["cells"])
        if was != digest
    ]
    if not found and now["notebook"] != sealed["notebook"]:
        found.append("the notebook's metadata under 'jepa', not as the run stored it")
    return found


def _kept(output: Mapping) -> Mapping:
    """An output without what is drawn anew at every build."""
    if DRAWN & set(output.get("metadata", {}).get("jepa", {})):
        return {key: value for key, value in output.items() if key != "data"}
    return output


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
