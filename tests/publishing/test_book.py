"""The book as a whole: its structure, its build, its style, and the order of the package's rooms."""

import ast
import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml

from jepa_utils.publishing import chapters
from jepa_utils.publishing.staleness import parse_cells

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.ipynb"))

per_chapter = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)

# --- Structure and build


def toc_files(entry: dict) -> list[str]:
    """All pages of a table of contents, in order."""
    own = [entry[key] for key in ("root", "file") if key in entry]
    below = [child for key in ("parts", "chapters", "sections") for child in entry.get(key, [])]
    return own + [page for child in below for page in toc_files(child)]


def test_every_page_of_the_contents_exists_and_every_chapter_is_among_them():
    pages = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    assert [
        p for p in pages if not any((ROOT / f"{p}{end}").is_file() for end in (".md", ".ipynb"))
    ] == []
    assert [p for p in pages if p.startswith("notebooks/")] == [
        f"notebooks/{path.stem}" for path in NOTEBOOKS
    ]
    assert len(set(pages)) == len(pages)


def test_no_chapter_is_stale():
    assert chapters.stale_chapters(ROOT) == {}


@per_chapter
def test_no_chapter_is_vacuous(path):
    assert chapters.vacuity_problems(path, ROOT) == []


# --- Style of a chapter: the bounds are those of the field's best books

MOST = 40  # lines of a cell, as they stand
SILENT_TAGS = {"remove-cell", "remove-input"}  # not seen by a reader


def words(markdown: str) -> int:
    """Words of prose: fenced code, directive options, formulas and comments aside; the text inside boxes counts."""
    text = re.sub(r"^(`{3,}|~{3,})(?!\{)[^\n]*\n.*?^\1\s*$", "", markdown, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->|\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", "", text, flags=re.S)
    text = re.sub(r"^\s*(?:[`:~]{3,}.*|:[\w-]+:.*)$", "", text, flags=re.M)
    return len(re.findall(r"[A-Za-z][\w'’-]*", re.sub(r"\$[^$\n]+\$|`[^`\n]+`", "x", text)))


def code_lines(source: str) -> int:
    """Lines of code as Python itself would write them: where the formatter breaks one does not count."""
    return len(
        ast.unparse(parse_cells(nbformat.v4.new_notebook(cells=[_code(source)]))).splitlines()
    )


def _code(source: str):
    return nbformat.v4.new_code_cell(source)


def style_problems(cells: list) -> list[str]:
    """Where a chapter's cells are not as DESIGN wants them."""
    problems = []
    code = [
        (n, c)
        for n, c in enumerate(cells)
        if c.cell_type == "code" and not SILENT_TAGS & set(c.metadata.get("tags", []))
    ]
    if not code:
        return ["no code"]
    lengths = [code_lines(c.source) for _, c in code]
    if statistics.median(lengths) > 6:
        problems.append(
            f"the median code cell has {statistics.median(lengths):g} lines, wants at most 6"
        )
    problems += [
        f"cell {n + 1} has {length} lines, wants at most {MOST}"
        for n, length in ((n, len(c.source.splitlines())) for n, c in code)
        if length > MOST
    ]
    prose = sum(words(c.source) for c in cells if c.cell_type == "markdown")
    if prose < 8 * sum(lengths):
        problems.append(
            f"{prose} words of prose for {sum(lengths)} lines of code, wants at least 8 for each"
        )
    for n, _ in code:
        if n == 0 or cells[n - 1].cell_type != "markdown" or words(cells[n - 1].source) < 4:
            problems.append(f"cell {n + 1} has no sentence before it")
    before = "\n".join(c.source for c in cells[: code[0][0]])
    if not before.startswith("# "):
        problems.append("the first cell wants the chapter's title")
    for needed in ("source", "build", "laptop", "smoke", "data", "prerequisites"):
        if needed not in before.lower():
            problems.append(f"the header box says nothing of {needed!r}")
    return problems


@per_chapter
def test_style(path):
    assert style_problems(nbformat.read(path, as_version=4).cells) == []


def _chapter(*cells: tuple[str, str]) -> list:
    new = {"m": nbformat.v4.new_markdown_cell, "c": nbformat.v4.new_code_cell}
    return [new[kind](source) for kind, source in cells]


HEADER = (
    "m",
    "# Title\n\nSource, what you build, laptop and smoke, data, prerequisites.\n\n" + "word " * 800,
)


def test_style_check_passes_a_good_chapter():
    assert style_problems(_chapter(HEADER, ("c", "a = 1\nb = 2"))) == []


@pytest.mark.parametrize(
    ("cells", "finding"),
    [
        ([HEADER, ("c", "a = 1\n" * 7)], "median code cell has 7"),
        (
            [
                HEADER,
                ("c", "a = 1"),
                ("m", "and so on and on"),
                ("c", "a = 1\n" * 41),
                ("m", "and so on and on"),
                ("c", "a"),
            ],
            "cell 4 has 41",
        ),
        (
            [
                HEADER,
                ("c", "a = 1"),
                ("m", "short words here and\n```python\n" + "word " * 99 + "\n```"),
                ("c", "b\n" * 101),
            ],
            "words of prose",
        ),
        ([HEADER, ("c", "a = 1"), ("c", "b = 2")], "cell 3 has no sentence"),
        ([HEADER, ("c", "a = 1"), ("m", "## Heading"), ("c", "b = 2")], "cell 4 has no sentence"),
        ([("m", "Words, and more of them. " * 20), ("c", "a = 1")], "title"),
        (
            [("m", "# Title\n\n" + "word " * 20), ("c", "a = 1")],
            "header box says nothing of 'data'",
        ),
    ],
)
def test_style_check_can_fail(cells, finding):
    assert any(finding in problem for problem in style_problems(_chapter(*cells)))


# --- Stored outputs

EMBEDDED = re.compile(r"(?<=base64,)[\w+/=\s]+")
# A folder of the machine that ran the chapter: home, temporary and install folders of Linux, macOS
# and Windows.
MACHINE_PATH = re.compile(
    r"(?<![\w.~:/])/(?:home|root|Users|tmp|private|var|work|workspace|mnt|opt|usr|content|data)/[\w.-]+|\b[A-Z]:\\+\w+|/site-packages/"
)


def output_problems(notebook) -> list[str]:
    """Errors, pictures without alt text, paths of a machine and widgets in a notebook's stored outputs."""
    problems = []
    for n, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            data = output.get("data", {})
            html = "".join(data.get("text/html", ""))
            if output.output_type == "error":
                problems.append(f"cell {n} ended in {output.ename}")
            if any("widget" in mime for mime in data):
                problems.append(f"cell {n} shows a widget, which a page cannot")
            alts = [dict(found).get("alt") or "" for found in _Images(html).found]
            if not html and any(mime.startswith("image/") for mime in data):
                alts.append(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
            problems += [
                f"cell {n} shows a figure with the alt text {alt!r}"
                for alt in alts
                if len(alt) < 20
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
                f"cell {n} shows a path of the machine it ran on: {found}"
                for found in MACHINE_PATH.findall(text)
            ]
    problems += [
        f"metadata: a path of a machine: {found}"
        for found in MACHINE_PATH.findall(json.dumps(notebook.metadata))
    ]
    return problems


class _Images(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(attributes)


@per_chapter
def test_outputs(path):
    assert output_problems(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize(
    ("output", "finding"),
    [
        (
            {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []},
            "ended in ValueError",
        ),
        ({"output_type": "display_data", "data": {"image/png": "aaaa"}}, "alt text ''"),
        (
            {
                "output_type": "display_data",
                "data": {"text/html": '<img src="data:image/png;base64,aa" alt="plot">'},
            },
            "alt text 'plot'",
        ),
        (
            {
                "output_type": "display_data",
                "data": {"application/vnd.jupyter.widget-view+json": {}},
            },
            "widget",
        ),
        (
            {"output_type": "stream", "name": "stdout", "text": "saved to /home/me/x.csv"},
            "path of the machine",
        ),
        (
            {"output_type": "stream", "name": "stderr", "text": "C:\\Users\\me: warning"},
            "path of the machine",
        ),
    ],
)
def test_output_check_can_fail(output, finding):
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output(**output)])
    (problem,) = output_problems(nbformat.v4.new_notebook(cells=[cell]))
    assert finding in problem


def test_output_check_passes_a_good_figure():
    html = '<figure><img src="data:image/png;base64,aa/tmp/bb" alt="The loss falls by half in three steps"></figure>'
    cell = nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", {"text/html": html})]
    )
    assert output_problems(nbformat.v4.new_notebook(cells=[cell])) == []
