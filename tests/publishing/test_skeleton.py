"""A new chapter keeps every rule; `jepa check` lists all that one breaks, and how to mend it."""

import os
import shutil

import nbformat
import pytest
import yaml
from synthetic import make_tree
from typer.testing import CliRunner

from jepa_utils.claims.declare import load_claims
from jepa_utils.publishing import chapters, cli
from jepa_utils.publishing.chapters import ChapterError, run_chapter
from jepa_utils.publishing.rules import check_chapter, figure_problems
from jepa_utils.publishing.skeleton import new_chapter

TOC = """format: jb-book
root: book/intro
parts:
  - caption: Chapters
    chapters:
      - file: notebooks/01_test
      - file: notebooks/09_last
  - caption: Evidence
"""


@pytest.fixture
def tree(root, tmp_path):
    """A small book with contents and the book's style, in which a chapter was not run."""
    make_tree(tmp_path, "x = 1")
    for name in ("ruff.toml", "notebooks/ruff.toml"):
        shutil.copy(root / name, tmp_path / name)
    (tmp_path / "_toc.yml").write_text(TOC)
    return tmp_path


def test_a_new_chapter_runs_and_keeps_every_rule(tree):
    path = new_chapter("07_new_name", tree)
    assert path == tree / "notebooks" / "07_new_name.ipynb"
    (part, _) = yaml.safe_load((tree / "_toc.yml").read_text())["parts"]
    assert [page["file"][10:] for page in part["chapters"]] == ["01_test", "07_new_name", "09_last"]
    rows = load_claims(tree / "book" / "claims.yml").values()
    assert [(c.id, c.kind) for c in rows if c.chapter == "07_new_name"] == [
        ("new-name-by-hand", "check"),
        ("new-name-round", "finding"),
    ]
    assert check_chapter("7", tree) == ["it was never run: 'jepa run 07_new_name'"]
    run_chapter("7", progress=False, root=tree)
    assert check_chapter("7", tree) == []
    assert [p for p in chapters.page_problems(tree) if "07" in p] == []


def test_chapters_before_and_after_all_others_find_their_place(tree):
    for name in ("00_first", "10_end"):
        new_chapter(name, tree)
    listed = (tree / "_toc.yml").read_text().splitlines()[5:9]
    assert [line.strip() for line in listed] == [
        f"- file: notebooks/{name}" for name in ("00_first", "01_test", "09_last", "10_end")
    ]


@pytest.mark.parametrize(
    "name, message",
    [
        ("new", "name is 'new', wants two digits and words in lower case, such as 07_name"),
        ("07_New", "wants two digits and words in lower case"),
        ("07_a/b", "wants two digits and words in lower case"),
        ("01_other", "name is '01_other', but chapter 01 is there: 01_test"),
        ("08_taken", "name is '08_taken', but claims taken-... are there in claims.yml"),
    ],
)
def test_a_name_that_is_none_or_taken_is_refused(tree, name, message):
    new_chapter("07_taken", tree)
    (tree / "notebooks" / "07_taken.ipynb").rename(tree / "notebooks" / "06_taken.ipynb")
    before = sorted(os.listdir(tree / "notebooks")), (tree / "_toc.yml").read_text()
    with pytest.raises(ChapterError) as error:
        new_chapter(name, tree)
    assert message in str(error.value)
    assert (sorted(os.listdir(tree / "notebooks")), (tree / "_toc.yml").read_text()) == before


def test_contents_without_chapters_are_refused(tree):
    (tree / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    with pytest.raises(ChapterError, match=r"_toc\.yml lists no '- file: notebooks/\.\.\.'"):
        new_chapter("07_name", tree)
    assert not (tree / "notebooks" / "07_name.ipynb").exists()


def test_all_broken_rules_are_listed_at_once_with_the_way_to_mend_each(tree):
    (tree / "_toc.yml").write_text(TOC.replace("01_test", "02_test"))
    (tree / "book" / "claims.yml").write_text("")
    path = tree / "notebooks" / "01_test.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "No title, and a number of 0.123."
    notebook.cells[1].source = 'profile = "laptop"\nextra = 1'
    notebook.cells[2].source = "x   = undefined\n" + "y = 1\n" * 40
    notebook.cells[2].outputs = [nbformat.v4.new_output("display_data", {"image/png": "aa"})]
    notebook.metadata["kernelspec"] = {"name": "other", "display_name": "A", "language": "python"}
    nbformat.write(notebook, path)
    problems = check_chapter("01_test", tree)
    for message in (
        "wants exactly profile and seed: unknown extra; missing seed",
        "the parameters cell does not take its profile from JEPA_PROFILE: profile = os.environ",
        "the parameters cell wants seed = a whole number",
        'open_chapter is called with nothing, wants one call: open_chapter("01_test", profile',
        "no settings: declare them as a frozen dataclass Settings",
        "the kernel is not python3: choose it",
        "the median code cell has 21.5 lines, wants at most 6: part cells, or",
        "cell 3 has 41 lines, wants at most 40: part it",
        "words of prose for 43 lines of code, wants at least 8 for each: explain more",
        "cell 3 has no sentence before it: say in a markdown cell of at least 4 words",
        "the first cell wants the chapter's title: '# Title' in its first line",
        "the header box says nothing of 'source': before the first code cell a reader wants to",
        "the header box says nothing of 'prerequisites'",
        "no formula: write",
        "0 cells are tagged nbval-check-output, wants at least 3: tag cells that print shapes",
        "cell 3 shows a figure with the alt text '': say what it shows",
        "it is not in _toc.yml: add '- file: notebooks/01_test'",
        "it claims nothing: add rows with 'chapter: 01_test' to book/claims.yml",
        "its code is not laid by ruff: 'make format'",
        "F821 Undefined name `undefined`",
        "cell 1: the number 0.123 is typed: make it a {glue} reference",
        "it was never run: 'jepa run 01_test'",
    ):
        assert any(message in problem for problem in problems), message
    assert len(problems) == len(set(problems))


def test_a_chapter_that_was_run_is_checked_for_what_it_stored(ran, root, tmp_path):
    tree = shutil.copytree(ran, tmp_path / "book")
    (tree / "_toc.yml").write_text(TOC)
    path = tree / "notebooks" / "01_test.ipynb"
    stored = path.read_text()
    path.write_text(stored.replace('"values"', '"value"'))
    assert (
        "'purity' was stored by another version: 'jepa run 01_test'" in check_chapter("1", tree)[-1]
    )
    path.write_text(stored.replace("a line", "another line"))
    problems = check_chapter("1", tree)
    assert "no figure: show one with show_figure(figure, alt, caption)" in problems
    assert any("the outputs of cell 8, not as the run stored them" in p for p in problems)


def test_a_figure_is_one_of_any_kind():
    def shows(mime, content):
        output = nbformat.v4.new_output("display_data", {mime: content})
        cells = [nbformat.v4.new_code_cell(outputs=[output])]
        return figure_problems(nbformat.v4.new_notebook(cells=cells)) == []

    assert shows("image/png", "aa") and shows("text/html", '<figure><img src="a"></figure>')
    assert not shows("text/html", "<table></table>") and not shows("text/plain", "<Figure>")


def test_the_commands_say_what_they_did_and_found(tree, monkeypatch):
    monkeypatch.chdir(tree)
    result = CliRunner().invoke(cli.app, ["new", "07_name"])
    assert result.exit_code == 0
    assert "notebooks/07_name.ipynb, with rows in book/claims.yml and _toc.yml" in result.output
    result = CliRunner().invoke(cli.app, ["check", "7"])
    assert result.exit_code == 1
    assert result.output == ("07_name: 1 problem\n  it was never run: 'jepa run 07_name'\n")
    result = CliRunner().invoke(cli.app, ["new", "07_name"])
    assert result.exit_code == 1 and "chapter 07 is there: 07_name" in result.output
    result = CliRunner().invoke(cli.app, ["check"])
    assert result.exit_code == 1 and result.output.startswith("01_test: ")
    monkeypatch.setattr("jepa_utils.publishing.rules.check_chapter", lambda name, root: [])
    result = CliRunner().invoke(cli.app, ["check", "7"])
    assert (result.exit_code, result.output) == (0, "07_name: no problems\n")
