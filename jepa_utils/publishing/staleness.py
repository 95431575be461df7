"""When a chapter's stored outputs are out of date, and what made them so.

A run stores digests of all that made its outputs: its code cells, the code of every module of the
package that it loaded, every record and weight file that it read, and the lock. Comments,
docstrings and layout are aside. Data is not covered: a reader with another copy need not run
everything again, and each page says which data made it.

Outputs that are not as their run stored them (`publishing.seal`) are out of date, too."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import nbformat

from jepa_utils.publishing.probe import PACKAGE
from jepa_utils.publishing.seal import seal_problems

# These change no recorded number, and what they draw and judge (boxes, tables, verdicts) is made
# anew from the recorded values at every build (`claims.draw.redraw`): else every edit to them would
# make all chapters stale.
REMADE = tuple(
    f"{PACKAGE}.{name}" for name in ("claims.declare", "claims.judge", "claims.draw", "publishing")
)
STRINGS = ("FunctionDef", "AsyncFunctionDef", "ClassDef", "Module")


def made_from(notebook, reached: Mapping[str, list[str]], root: Path) -> dict:
    """Digests of all that a run's outputs depend on.

    Parameters
    ----------
    notebook : notebook node
        The chapter.
    reached : mapping
        What `publishing.probe.report` left: "modules", "names" of the front door, "files".
    root : Path
        The book's root.

    Returns
    -------
    dict
        "cells" and "lock", a digest each; "modules" and "files", digests by name; "names", for each
        public name that the run took from the front door the module where it lies.
    """
    modules = [
        m for m in reached["modules"] if not any(m == r or m.startswith(r + ".") for r in REMADE)
    ]
    public = _front_door(root)
    return {
        "cells": _cells_digest(notebook),
        "lock": _lock_digest(root),
        "modules": {module: module_digest(module, root) for module in modules},
        "names": {name: public.get(name) for name in reached["names"]},
        "files": {file: _file_digest(root / file) for file in reached["files"]},
    }


def changes(notebook, root: Path) -> list[str]:
    """What of all that made a stored notebook's outputs is different now; empty if nothing is.

    Parameters
    ----------
    notebook : Path or notebook node
        The stored chapter.
    root : Path
        The book's root.
    """
    if isinstance(notebook, Path):
        notebook = nbformat.read(notebook, as_version=4)
    made = notebook.metadata.get("jepa", {}).get("made_from")
    if made is None:
        return ["never run"]
    public = _front_door(root)
    found = ["its code cells"] * (made["cells"] != _cells_digest(notebook))
    found += ["requirements.lock"] * (made["lock"] != _lock_digest(root))
    found += [m for m, digest in made["modules"].items() if module_digest(m, root) != digest]
    found += [
        f"{PACKAGE}.{n} lies elsewhere" for n, m in made["names"].items() if public.get(n) != m
    ]
    found += [file for file, digest in made["files"].items() if _file_digest(root / file) != digest]
    return found + _sources_changed(notebook, root) + seal_problems(notebook)


def module_digest(module: str, root: Path) -> str | None:
    """Digest of a module's code, docstrings and comments aside; None if there is no such module."""
    path = _module_path(module, root)
    if path is None:
        return None
    return _code_digest(path.read_text(encoding="utf-8"), front=module == PACKAGE)


@lru_cache(maxsize=256)
def _code_digest(code: str, front: bool) -> str:
    tree = ast.parse(code)
    # The list of public names counts by the names that a run used.
    tree.body = [n for n in tree.body if not (front and _assigns(n, "PUBLIC"))]
    return _digest(_dump(tree))


def package_digests(root: Path) -> dict[str, str]:
    """Digests of all modules of the package, by name."""
    files = [f.relative_to(root).with_suffix("").parts for f in (root / PACKAGE).rglob("*.py")]
    names = [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in files]
    return {name: module_digest(name, root) for name in names}


def _module_path(module: str, root: Path) -> Path | None:
    place = root.joinpath(*module.split("."))
    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    return found[0] if found else None


def _front_door(root: Path) -> dict[str, str]:
    """The module of each public name, read from the package's ``__init__`` without importing it."""
    tree = ast.parse((root / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    lists = [ast.literal_eval(node.value) for node in tree.body if _assigns(node, "PUBLIC")]
    return {name: module for public in lists for module, names in public.items() for name in names}


def _assigns(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(
        getattr(t, "id", None) == name for t in node.targets
    )


def _digest(content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()[:16]


def _file_digest(path: Path) -> str | None:
    return _digest(path.read_bytes()) if path.is_file() else None


def _lock_digest(root: Path) -> str:
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return _digest("\n".join(s for line in lines if (s := line.strip()) and not s.startswith("#")))


def _cells_digest(notebook) -> str:
    parts = []
    for source in code_cells(notebook):
        code, magics = split_magics(source)
        try:
            parts.append(f"{_dump(ast.parse(code), keep_strings=True)} {magics}")
        except SyntaxError:  # magics inside an expression: the text stands for itself
            parts.append(source)
    return _digest("\0".join(parts))


def _sources_changed(notebook, root: Path) -> list[str]:
    """Shown code (`show_source`) that is not what the package holds now; its comments count."""
    shown = [o for c in notebook.cells for o in c.get("outputs", ())]
    shown = [
        (o["metadata"]["jepa"]["source"], o)
        for o in shown
        if "source" in o.get("metadata", {}).get("jepa", {})
    ]
    return [
        f"{name}, as shown"
        for name, o in shown
        if source_text(name, root) != o["data"]["text/plain"]
    ]


def source_text(name: str, root: Path) -> str | None:
    """The code of ``module:Class.method`` without its docstring, None if there is none."""
    module, _, inner = name.partition(":")
    path = _module_path(module, root)
    node = path and ast.parse(text := path.read_text(encoding="utf-8"))
    for part in inner.split("."):
        found = [
            n for n in getattr(node, "body", []) if type(n).__name__ in STRINGS and n.name == part
        ]
        node = found[-1] if found else None
    if node is None:
        return None
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])).splitlines()
    if ast.get_docstring(node) is not None:
        del lines[node.body[0].lineno - first : node.body[0].end_lineno - first + 1]
    return "\n".join(lines).rstrip()


def code_cells(notebook) -> list[str]:
    """The sources of a notebook's code cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def parse_cells(notebook) -> ast.Module:
    """All code cells as one tree; cells that are not Python are left out."""
    tree = ast.Module(body=[], type_ignores=[])
    for source in code_cells(notebook):
        try:
            tree.body += ast.parse(split_magics(source)[0]).body
        except SyntaxError:
            continue
    return tree


def split_magics(source: str) -> tuple[str, str]:
    """Part a cell's Python from its IPython lines (``%magic``, ``!shell``, ``%%cell magic``)."""
    if source.lstrip().startswith("%%"):
        return "", source
    magic = re.compile(r"^\s*[%!].*$", re.MULTILINE)
    # pass stands in for the line, for it may be all there is under an if.
    return magic.sub(lambda m: re.match(r"\s*", m[0])[0] + "pass", source), "\n".join(
        magic.findall(source)
    )


def _dump(node: object, keep_strings: bool = False) -> str:
    """Write a syntax tree without positions, comments and bare strings.

    Not `ast.dump`, whose text differs between versions of Python: an outputs' hash must not.
    """
    if isinstance(node, list):
        return f"[{','.join(_dump(item, keep_strings) for item in node)}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    name, found = type(node).__name__, []
    keep = (
        keep_strings and name == "Module"
    )  # a cell's last string is an output, a function's is a docstring
    for key, value in ast.iter_fields(node):
        if key in ("ctx", "kind", "type_comment", "type_ignores"):
            continue
        if key == "body" and isinstance(value, list) and not keep:
            value = [item for item in value if not _is_string(item)]
        if value is not None and value != []:
            found.append(f"{key}={_dump(value, keep_strings)}")
    return f"{name}({','.join(found)})"


def _is_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
