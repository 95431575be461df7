"""What is looked at before a chapter runs: where it may be stored, and with which settings."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat

from jepa_utils.publishing.staleness import code_cells, split_magics

KINDS = {"int": int, "float": float, "bool": bool, "str": str, "tuple": tuple}


class ChapterError(RuntimeError):
    """A chapter is unknown, wrongly built, or failed while running."""


def check_place(path: Path, output: Path, root: Path, whys: list[str], sample: bool) -> None:
    """Refuse a run whose outputs could not be stored, or would take the place of better ones.

    Parameters
    ----------
    path, output : Path
        The chapter, and where its outputs are to be stored.
    root : Path
        The book's root.
    whys : list of str
        Why this run is none that the book may hold; empty if it is one.
    sample : bool
        Whether it may run on built-in samples.

    Raises
    ------
    ChapterError
        If it belongs outside ``notebooks/``, would replace a run of real data by one of samples, or
        the place cannot be written to.
    """
    if output.resolve().parent == (root / "notebooks").resolve():
        if output.resolve() != path.resolve():
            whys = [*whys, f"a copy called {output.name}"]
        if whys:
            raise ChapterError(
                f"{path.stem}: {' and '.join(whys)} cannot be stored in notebooks/, which holds "
                "the runs that the book shows; name another place with --output FILE"
            )
    if sample and of_real_data(output):
        raise ChapterError(
            f"{path.stem}: {output} holds a run of real data, which a run on built-in samples does "
            "not replace; name another place with --output FILE"
        )
    try:
        if output.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise ChapterError(
            f"{path.stem}: output {output} cannot be written: {error.strerror}; nothing was run"
        ) from None


def of_real_data(path: Path) -> bool:
    """Whether a file holds a chapter's run of real data."""
    try:
        run = nbformat.read(path, as_version=4).metadata["jepa"]
        return run["profile"] != "smoke" and all(d["origin"] != "sample" for d in run["data"])
    except Exception:  # no file, no notebook, or no run of a chapter
        return False


def no_real_data(chapter: str, cell: int, reason: str) -> str:
    """What to say where a run was stopped because a data set was not there.

    Parameters
    ----------
    chapter : str
        Its name.
    cell : int
        The cell, from 1.
    reason : str
        The warning or the error by which `data.load` says which data set, and what it tried.
    """
    from jepa_utils.data.load import HUB, cache_folder
    from jepa_utils.data.registry import DATASETS
    from jepa_utils.data.tokens import TOKENIZERS

    name = reason.split("'")[1] if reason.count("'") > 1 else ""
    place = DATASETS[name].place if name in DATASETS else TOKENIZERS.get(name)
    mirror = os.environ.get("JEPA_DATA_MIRROR")
    tried = (
        f"the mirror ({mirror or 'JEPA_DATA_MIRROR is not set'})",
        f"the cache ({cache_folder()})",
        f"the public address ({place.url if place else HUB})",
    )
    why = reason.partition("because ")[2].partition(". Numbers made")[0] or reason
    return (
        f"{chapter}: stopped in cell {cell}: the real data of {name!r} is not there. Tried "
        f"{', '.join(tried)}: {why}. What was stored is as it was. To run on the built-in sample "
        "all the same: --allow-sample --output FILE"
    )


def change_settings(notebook, changed: Mapping[str, str]) -> dict:
    """Make a notebook's `settings` take other values, right after they are made.

    Parameters
    ----------
    notebook : notebook node
        A chapter, in which a dataclass `Settings` declares the fields; changed in place.
    changed : mapping
        The new values as text, by field.

    Returns
    -------
    dict
        The new values by field.

    Raises
    ------
    ChapterError
        If there are no settings, no such field, or the value is of another type than the field's.
    """
    kinds = _fields(notebook)
    if unknown := sorted(set(changed) - set(kinds)):
        raise ChapterError(
            f"settings have no {', '.join(unknown)}, want some of: {', '.join(kinds) or 'none'}"
        )
    values = {name: _value(name, text, kinds[name]) for name, text in changed.items()}
    for cell in notebook.cells:
        for node in _tree(cell.source).body if cell.cell_type == "code" else []:
            if isinstance(node, ast.Assign) and "settings" in map(ast.unparse, node.targets):
                lines = cell.source.splitlines()
                new = f"settings = __import__('dataclasses').replace(settings, **{values!r})"
                cell.source = "\n".join([*lines[: node.end_lineno], new, *lines[node.end_lineno :]])
                return values
    raise ChapterError("no cell makes settings")


def _fields(notebook) -> dict[str, str]:
    """The fields of the notebook's `Settings`, with their types as they are written."""
    for source in code_cells(notebook):
        for node in _tree(source).body:
            if isinstance(node, ast.ClassDef) and node.name == "Settings":
                fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
                return {field.target.id: ast.unparse(field.annotation) for field in fields}
    return {}


def _value(name: str, text: str, kind: str) -> object:
    """A setting's value from its text."""
    try:
        value = text if kind == "str" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind in KINDS and type(value) is not KINDS[kind]:
        raise ChapterError(f"setting {name} is {text!r}, wants {kind}")
    return value


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(split_magics(source)[0])
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])
