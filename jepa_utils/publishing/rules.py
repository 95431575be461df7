"""The rules that a chapter keeps, each with the way to mend it; CONTRIBUTING.md lists them.

Those here need the notebook alone. What a run has to have stored is `chapters.chapter_problems`,
numbers in prose are `numbers`."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import yaml

from jepa_utils.claims.declare import Claim, ClaimError, find_root, load_claims
from jepa_utils.publishing import chapters
from jepa_utils.publishing.staleness import parse_cells

# --- style: the bounds are those of the field's best books

MOST = 40  # lines of a cell, as they stand
MEDIAN = 6  # lines of code cells
WORDS = 8  # of prose for each line of code
SENTENCE = 4  # words before a cell, at least
SILENT_TAGS = {"remove-cell", "remove-input"}  # not seen by a reader
HEADER = ("source", "build", "laptop", "smoke", "data", "prerequisites")


def words(markdown: str) -> int:
    """Words of prose; code, options of directives, formulas and comments aside, boxes included."""
    text = re.sub(r"^(`{3,}|~{3,})(?!\{)[^\n]*\n.*?^\1\s*$", "", markdown, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->|\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", "", text, flags=re.S)
    text = re.sub(r"^\s*(?:[`:~]{3,}.*|:[\w-]+:.*)$", "", text, flags=re.M)
    return len(re.findall(r"[A-Za-z][\w'’-]*", re.sub(r"\$[^$\n]+\$|`[^`\n]+`", "x", text)))


def code_lines(source: str) -> int:
    """Lines of code as Python itself would write them: where ruff breaks one does not count."""
    cell = nbformat.v4.new_code_cell(source)
    return len(ast.unparse(parse_cells(nbformat.v4.new_notebook(cells=[cell]))).splitlines())


def style_problems(cells: list) -> list[str]:
    """Where a chapter's cells are too long, too bare of words, or its header says too little."""
    code = [
        (n, c)
        for n, c in enumerate(cells)
        if c.cell_type == "code" and not SILENT_TAGS & set(c.metadata.get("tags", []))
    ]
    if not code:
        return ["no code: a chapter runs something"]
    problems, lengths = [], [code_lines(c.source) for _, c in code]
    if statistics.median(lengths) > MEDIAN:
        problems.append(
            f"the median code cell has {statistics.median(lengths):g} lines, wants at most "
            f"{MEDIAN}: part cells, or tag bookkeeping 'remove-input'"
        )
    problems += [
        f"cell {n + 1} has {length} lines, wants at most {MOST}: part it"
        for n, length in ((n, len(c.source.splitlines())) for n, c in code)
        if length > MOST
    ]
    prose = sum(words(c.source) for c in cells if c.cell_type == "markdown")
    if prose < WORDS * sum(lengths):
        problems.append(
            f"{prose} words of prose for {sum(lengths)} lines of code, wants at least {WORDS} for "
            "each: explain more, or move code to the package"
        )
    for n, _ in code:
        if n == 0 or cells[n - 1].cell_type != "markdown" or words(cells[n - 1].source) < SENTENCE:
            problems.append(
                f"cell {n + 1} has no sentence before it: say in a markdown cell of at least "
                f"{SENTENCE} words what it does"
            )
    before = "\n".join(c.source for c in cells[: code[0][0]])
    if not before.startswith("# "):
        problems.append("the first cell wants the chapter's title: '# Title' in its first line")
    problems += [
        f"the header box says nothing of {needed!r}: before the first code cell a reader wants to "
        f"know {', '.join(HEADER)}"
        for needed in HEADER
        if needed not in before.lower()
    ]
    if not any(re.search(r"\$[^$]+\$|\{math\}|\\begin\{", c.source) for c in _markdown(cells)):
        problems.append("no formula: write what is computed as one, between dollar signs")
    return problems


def _markdown(cells: list) -> Iterator:
    return (c for c in cells if c.cell_type == "markdown")


# --- the set-up

COMPARED = "nbval-check-output"
MIN_CHECKED = 3  # cells whose output nbval compares
FLOAT = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\d*\w)|\d[eE][+-]?\d")


def set_up_problems(notebook, name: str) -> list[str]:
    """Where a chapter does not declare its parameters, settings, or itself, as a run wants it."""
    code = parse_cells(notebook)
    problems = chapters.parameter_problems(notebook, name)
    tagged = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        problems.append(f"{len(tagged)} cells are tagged parameters, wants 1")
    elif "JEPA_PROFILE" not in tagged[0]:
        problems.append(
            "the parameters cell does not take its profile from JEPA_PROFILE: "
            'profile = os.environ.get("JEPA_PROFILE", "laptop")'
        )
    if type(chapters.declared_seed(notebook)) is not int:
        problems.append("the parameters cell wants seed = a whole number, such as seed = 0")
    opened = [
        getattr(node.args[0], "value", None)
        for node in ast.walk(code)
        if isinstance(node, ast.Call) and node.args and _called(node) == "open_chapter"
    ]
    if opened != [name]:
        problems.append(
            f"open_chapter is called with {opened or 'nothing'}, wants one call: "
            f'open_chapter("{name}", profile, data)'
        )
    classes = [n.name for n in code.body if isinstance(n, ast.ClassDef)]
    made = [t for n in code.body if isinstance(n, ast.Assign) for t in map(ast.unparse, n.targets)]
    if "Settings" not in classes or "settings" not in made:
        problems.append(
            "no settings: declare them as a frozen dataclass Settings, and make settings from it; "
            "'jepa run --set' changes them"
        )
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("the kernel is not python3: choose it in Jupyter, or run 'jepa run'")
    return problems


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def checked_problems(notebook) -> list[str]:
    """Why nbval would check little in this notebook, or too much."""
    problems = []
    compared = [
        (n, c)
        for n, c in enumerate(notebook.cells, 1)
        if c.cell_type == "code" and COMPARED in c.metadata.get("tags", [])
    ]
    if len(compared) < MIN_CHECKED:
        problems.append(
            f"{len(compared)} cells are tagged {COMPARED}, wants at least {MIN_CHECKED}: tag cells "
            "that print shapes, counts or other exact things"
        )
    for n, cell in compared:
        if cell.execution_count and not cell.outputs:
            problems.append(f"cell {n} is compared but has no output: print something, or untag it")
        # nbval compares text, and the last digits of a float are another machine's own.
        text = "".join(
            o.get("text", "") or "".join(o.get("data", {}).get("text/plain", ""))
            for o in cell.outputs
        )
        problems += [
            f"cell {n} is compared but prints the float {found}: compare it in the cell and print "
            "whether it holds"
            for found in FLOAT.findall(text)
        ]
    return problems


# --- stored outputs

EMBEDDED = re.compile(r"(?<=base64,)[\w+/=\s]+")
MIN_ALT = 20  # characters
# A folder of the machine that ran the chapter: home, temporary and install folders of Linux, macOS
# and Windows.
MACHINE_PATH = re.compile(
    r"(?<![\w.~:/])/(?:home|root|Users|tmp|private|var|work|workspace|mnt|opt|usr|content|data)/[\w.-]+"
    r"|\b[A-Z]:\\+\w+|/site-packages/"
)


def output_problems(notebook) -> list[str]:
    """Errors, pictures without alt text, paths of a machine and widgets in stored outputs."""
    problems = []
    for n, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if output.output_type == "error":
                problems.append(f"cell {n} ended in {output.ename}: mend it and run again")
            if any("widget" in mime for mime in data):
                problems.append(
                    f"cell {n} shows a widget, which a page cannot: show a player of the package"
                )
            problems += [
                f"cell {n} shows a figure with the alt text {alt!r}: say what it shows, in "
                f"{MIN_ALT} characters or more"
                for alt in _alts(output, cell)
                if len(alt) < MIN_ALT
            ]
            # Pictures are no text: in their encoding any letters may stand between two slashes.
            text = json.dumps({k: v for k, v in output.items() if k != "data"}) + json.dumps(
                {
                    mime: EMBEDDED.sub("", "".join(v)) if isinstance(v, (str, list)) else v
                    for mime, v in data.items()
                    if not mime.startswith("image/")
                }
            )
            problems += [
                f"cell {n} shows a path of the machine it ran on: {found}: print a name instead"
                for found in MACHINE_PATH.findall(text)
            ]
    problems += [
        f"metadata: a path of a machine: {found}"
        for found in MACHINE_PATH.findall(json.dumps(notebook.metadata))
    ]
    return problems


def _alts(output, cell) -> list[str]:
    """The alt texts of the pictures in an output, empty where one has none."""
    html = "".join(output.get("data", {}).get("text/html", ""))
    alts = [dict(found).get("alt") or "" for found in _Images(html).found]
    if not html and any(mime.startswith("image/") for mime in output.get("data", {})):
        alts.append(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
    return alts


class _Images(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(attributes)


def figure_problems(notebook) -> list[str]:
    """A chapter without a picture."""
    shown = [a for c in notebook.cells for o in c.get("outputs", ()) for a in _alts(o, c)]
    return [] if shown else ["no figure: show one with show_figure(figure, alt, caption)"]


# --- all of them


def check_chapter(name: str | Path, root: Path | None = None) -> list[str]:
    """All that is wrong with a chapter, each with the way to mend it, in seconds.

    Parameters
    ----------
    name : str or Path
        The chapter.
    root : Path, optional
        The book's root.

    Returns
    -------
    list of str
        Empty if it keeps every rule.
    """
    root = root or find_root()
    path = chapters.chapter_path(name, root)
    name, notebook = path.stem, nbformat.read(path, as_version=4)
    claims = load_claims(root / "book" / "claims.yml")
    problems = set_up_problems(notebook, name) + style_problems(notebook.cells)
    problems += checked_problems(notebook) + output_problems(notebook)
    problems += _place_problems(name, claims, root) + _layout_problems(path)
    if "jepa" in notebook.metadata:
        problems += figure_problems(notebook)
        try:
            problems += chapters.chapter_problems(path, claims, root)
        except ClaimError as error:  # stored by another version
            problems.append(f"{error}: 'jepa run {name}'")
    else:
        problems += chapters.number_problems(notebook, name, claims)
        problems.append(f"it was never run: 'jepa run {name}'")
    problems = [problem.removeprefix(f"{name}: ") for problem in problems]
    return list(dict.fromkeys(problems))


def _place_problems(name: str, claims: dict[str, Claim], root: Path) -> list[str]:
    """A chapter that is not in the contents, or claims nothing."""
    problems = []
    pages = json.dumps(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))
    if f'"notebooks/{name}"' not in pages:
        problems.append(f"it is not in _toc.yml: add '- file: notebooks/{name}'")
    if not any(claim.chapter == name for claim in claims.values()):
        problems.append(f"it claims nothing: add rows with 'chapter: {name}' to book/claims.yml")
    return problems


def _layout_problems(path: Path) -> list[str]:
    """What ruff finds in a notebook, where it is installed."""
    if importlib.util.find_spec("ruff") is None:
        return []
    command = [sys.executable, "-m", "ruff"]
    laid = subprocess.run([*command, "format", "--check", "--quiet", path], capture_output=True)
    checked = subprocess.run(
        [*command, "check", "--quiet", "--output-format", "concise", path],
        capture_output=True,
        text=True,
    )
    problems = ["its code is not laid by ruff: 'make format'"] * bool(laid.returncode)
    lines = checked.stdout.splitlines()
    return problems + [
        f"ruff: {line.removeprefix(f'{path}:')}" for line in lines if path.name in line
    ]
