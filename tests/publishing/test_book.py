"""The book as a whole: its structure, its build, its style, and the order of the package's rooms."""

from pathlib import Path

import nbformat
import pytest
import yaml

from jepa_utils.publishing import chapters, rules
from jepa_utils.publishing.rules import output_problems, style_problems

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


# --- Style of a chapter


def test_no_page_quotes_what_no_chapter_records():
    assert chapters.page_problems(ROOT) == []


@per_chapter
def test_no_rule_is_broken(path):
    """All that `jepa check` lists, the single tests below included."""
    assert rules.check_chapter(path, ROOT) == []


@per_chapter
def test_style(path):
    assert style_problems(nbformat.read(path, as_version=4).cells) == []


def _chapter(*cells: tuple[str, str]) -> list:
    new = {"m": nbformat.v4.new_markdown_cell, "c": nbformat.v4.new_code_cell}
    return [new[kind](source) for kind, source in cells]


HEADER = (
    "m",
    "# Title\n\nSource, what you build, laptop and smoke, data, prerequisites.\n\n$x$ "
    + "word " * 800,
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
        ([("m", HEADER[1].replace("$x$", "")), ("c", "a = 1")], "no formula"),
        ([HEADER], "no code"),
    ],
)
def test_style_check_can_fail(cells, finding):
    assert any(finding in problem for problem in style_problems(_chapter(*cells)))


# --- Stored outputs


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
