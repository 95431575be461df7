"""Chapters: staleness, running, vacuity, verification. Most tests change a copy of one run."""

import json
import shutil
import sys
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from nbformat.v4 import new_output
from rich.console import Console
from synthetic import GOOD_CELLS, PARAMETERS, SET_UP, chapter, make_tree

from jepa_utils.claims.declare import load_claims
from jepa_utils.claims.judge import check_chapter, read_results
from jepa_utils.publishing import chapters, sphinx_extension
from jepa_utils.publishing.chapters import (
    ChapterError,
    run_chapter,
    stale_chapters,
    vacuity_problems,
)
from jepa_utils.publishing.seal import seal
from jepa_utils.publishing.staleness import module_digest


def chapter_of(book: Path) -> Path:
    return book / "notebooks" / "01_test.ipynb"


def as_executed(path: Path):
    """A stored chapter as papermill would give it back, what it reached at its end."""
    notebook = nbformat.read(path, as_version=4)
    reached = {"modules": [], "names": [], "files": []}
    note = new_output("display_data", metadata={"jepa": {"reached": reached}})
    notebook.cells.append(nbformat.v4.new_code_cell(outputs=[note]))
    return notebook


def edit(path: Path, change) -> None:
    """Change a stored notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    chapters.write_notebook(notebook, path)


# --- staleness

USER = """
import json
from pathlib import Path
from types import SimpleNamespace
import jepa_utils as ju
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.figures.source import show_source
import torch
ju.sigreg(torch.randn(9, 2))
json.loads(Path("../results/toy/used.json").read_text())
Path("../results/toy/used.safetensors").read_bytes()
Path("../results/toy/written.json").write_text("{}")
show_source(effective_rank)  # what follows
%timeit -n 1 -r 1 seed
"""
SIGREG = "jepa_utils/objectives/sigreg.py"


@pytest.fixture(scope="session")
def used(tmp_path_factory) -> Path:
    """A small book with two chapters that were run: one uses SIGReg and records, one nothing."""
    root = tmp_path_factory.mktemp("used")
    path = make_tree(root, SET_UP, USER)
    make_tree_chapter(root, "02_other")
    (root / "results" / "toy").mkdir(parents=True)
    for name in ("used.json", "unused.json", "used.safetensors"):
        (root / "results" / "toy" / name).write_text('{"score": 0.5}')
    for name in (path, "02_other"):
        run_chapter(name, progress=False, root=root)
    return root


def make_tree_chapter(root: Path, name: str) -> Path:
    """Another chapter in a book that is there: it records nothing and uses no loss."""
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(chapter(SET_UP.replace("01_test", name), "print(1)"), path)
    return path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "path, old, new, names",
    [
        (SIGREG, "statistic.mean()", "statistic.sum()", "jepa_utils.objectives.sigreg"),
        (  # reached through the loss
            "jepa_utils/objectives/_checks.py",
            "from torch import Tensor",
            "from torch import Tensor, nn",
            "jepa_utils.objectives._checks",
        ),
        (  # measuring code
            "jepa_utils/evaluation/collapse.py",
            "def effective_rank",
            "LIMIT = 3\n\n\ndef effective_rank",
            "jepa_utils.evaluation.collapse",
        ),
        ("results/toy/used.json", "0.5", "0.6", "results/toy/used.json"),
        ("results/toy/used.safetensors", "0.5", "0.6", "results/toy/used.safetensors"),
        ("notebooks/01_test.ipynb", "randn(9, 2)", "randn(9, 3)", "its code cells"),
        ("notebooks/01_test.ipynb", "-r 1 seed", "-r 1 profile", "its code cells"),
        ("notebooks/01_test.ipynb", "seed = 0", "seed = 1", "its code cells"),
        ("jepa_utils/__init__.py", '"sigreg"', '"other"', "jepa_utils.sigreg lies elsewhere"),
        (  # a comment in code that the page shows
            "jepa_utils/evaluation/collapse.py",
            "def effective_rank(embeddings: Tensor) -> float:",
            "def effective_rank(embeddings: Tensor) -> float:  # of a cloud",
            "jepa_utils.evaluation.collapse:effective_rank, as shown",
        ),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_used_it_and_says_so(used, tmp_path, path, old, new, names):
    root = shutil.copytree(used, tmp_path / "book")
    assert stale_chapters(root) == {}
    replace(root / path, old, new)
    assert stale_chapters(root) == {"01_test": [names]}


@pytest.mark.parametrize(
    "path, old, new",
    [
        (SIGREG, '"""Sketched', '"""A sketched'),
        (SIGREG, "# Numbers per plane", "# A comment"),
        (SIGREG, "def _check_grid(knots: int,", "def _check_grid(  knots: int,"),
        ("jepa_utils/publishing/cli.py", "import sys", "import sys as sys"),
        ("jepa_utils/claims/draw.py", "claim-list", "claim-lists"),
        ("jepa_utils/objectives/vicreg.py", "from torch import Tensor, nn", "from torch import Tensor, nn, fx"),
        ("jepa_utils/__init__.py", '"recall_at_k"', '"recall"'),
        ("requirements.lock", "# comment", "# another comment\n"),
        ("results/toy/unused.json", "0.5", "0.6"),
        ("results/toy/written.json", "{}", "[]"),
        ("notebooks/01_test.ipynb", "# what follows", "# what comes"),
        ("notebooks/01_test.ipynb", "# A test chapter", "# A retitled chapter"),
    ],
)  # fmt: skip
def test_what_changes_no_output_makes_no_chapter_stale(used, tmp_path, path, old, new):
    root = shutil.copytree(used, tmp_path / "book")
    replace(root / path, old, new)
    assert stale_chapters(root) == {}


def test_the_lock_and_a_missing_module_make_stale(used, tmp_path):
    root = shutil.copytree(used, tmp_path / "book")
    replace(root / "requirements.lock", "2.13.0", "2.13.1")
    assert stale_chapters(root) == {n: ["requirements.lock"] for n in ("01_test", "02_other")}
    (root / SIGREG).rename(root / "jepa_utils/objectives/moved.py")
    assert "jepa_utils.objectives.sigreg" in stale_chapters(root)["01_test"]


def test_digests_are_the_same_on_every_python(tmp_path):
    (tmp_path / "m.py").write_text("import re\nprint(f'{re!r:>{3}} a' 'b', 1.5, b'x', ...)\n")
    assert module_digest("m", tmp_path) == "46fefdf98d209ac6"


def test_code_edited_during_the_run_is_not_stored(book, monkeypatch):
    path, execute = chapter_of(book), papermill.execute_notebook
    before = path.read_bytes()

    def edit_meanwhile(*args, **options):
        replace(book / "jepa_utils/claims/notebook.py", "def record(", "X = 1\n\n\ndef record(")
        return execute(*args, **options)

    monkeypatch.setattr("papermill.execute_notebook", edit_meanwhile)
    with pytest.raises(ChapterError, match=r"jepa_utils\.claims\.notebook was edited while it ran"):
        run_chapter(path, progress=False, root=book)
    assert path.read_bytes() == before


# --- running


def test_a_run_stores_outputs_results_and_metadata(ran):
    notebook = nbformat.read(chapter_of(ran), as_version=4)
    assert vacuity_problems(chapter_of(ran), ran) == [] and stale_chapters(ran) == {}
    assert (
        check_chapter(load_claims(ran / "book" / "claims.yml"), read_results(chapter_of(ran))) == []
    )
    assert len(notebook.metadata["jepa"]["seal"]["cells"]) == 6
    run = notebook.metadata["jepa"]
    assert (run["profile"], run["seed"], run["data"][0]["name"]) == ("laptop", 0, "toy")
    assert {"torch", "numpy"} <= set(run["packages"]) and run["seconds"] > 0


def test_a_stored_notebook_holds_no_clutter(ran):
    text = chapter_of(ran).read_text()
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in notebook["cells"]] == [
        f"cell-{n}" for n in range(len(notebook["cells"]))
    ]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "injected-parameters" not in text and "papermill" not in notebook["metadata"]
    assert "10/10" not in json.dumps([cell["outputs"] for cell in code])
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])
    assert str(ran) not in text and text.endswith("}\n")
    assert [path.name for path in chapter_of(ran).parent.iterdir()] == ["01_test.ipynb"]


@pytest.mark.parametrize(
    "parameters, message",
    [
        (PARAMETERS + "\nlayers = 3", "unknown layers"),
        ('profile = "laptop"', "missing seed"),
        ("", "missing profile, seed"),
    ],
)
def test_unknown_or_missing_parameters_are_refused(tmp_path, parameters, message):
    path = make_tree(tmp_path, parameters=parameters)
    with pytest.raises(ChapterError, match=message):
        run_chapter(path, root=tmp_path)
    assert any(message in problem for problem in vacuity_problems(path, tmp_path))


def test_unknown_names_are_refused_and_beginnings_understood(book):
    with pytest.raises(ChapterError, match="chapter is '07', wants one of: 01_test"):
        run_chapter("07", root=book)
    with pytest.raises(ChapterError, match="profile is 'big'"):
        run_chapter("01", "big", root=book)
    for name in ("1", "01", "01_", "01_test", "01_test.ipynb", chapter_of(book)):
        assert chapters.chapter_path(name, book) == chapter_of(book)
    shutil.copy(chapter_of(book), book / "notebooks" / "10_other.ipynb")
    assert chapters.chapter_path("1", book) == chapter_of(book)
    assert chapters.chapter_path("10", book).stem == "10_other"
    for name in ("0", "001x", "2", ""):
        with pytest.raises(ChapterError, match=f"chapter is '{name}', wants one of: 01_test, 10_"):
            chapters.chapter_path(name, book)


def test_a_failing_cell_is_named_and_the_notebook_left_as_it_was(tmp_path):
    path = make_tree(
        tmp_path, "x = 1", "def inner():\n    raise KeyError('deep')\ninner()", "print('never')"
    )
    before = path.read_bytes()
    with pytest.raises(ChapterError) as error:
        run_chapter(path, progress=False, root=tmp_path)
    assert (
        "01_test: cell 4 failed" in str(error.value)
        and "in inner()" in str(error.value)
        and "\x1b" not in str(error.value)
    )
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("point", ["papermill.execute_notebook", "os.replace"])
def test_an_interrupted_run_leaves_the_notebook_as_it_was(book, monkeypatch, point):
    path = chapter_of(book)
    before = path.read_bytes()
    executed = as_executed(path)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: executed)
    monkeypatch.setattr(point, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_chapter(path, root=book)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_notebook_edited_during_the_run_keeps_the_edit(book, monkeypatch):
    path = chapter_of(book)
    executed = as_executed(path)

    def execute(*_, **__):
        replace(path, "A test chapter", "An edited chapter")
        return executed

    monkeypatch.setattr("papermill.execute_notebook", execute)
    with pytest.raises(ChapterError, match="edited while it ran"):
        run_chapter(path, root=book)
    assert "An edited chapter" in path.read_text()


def test_a_chapter_opened_under_another_profile_is_refused(book, monkeypatch):
    executed = as_executed(chapter_of(book))
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: executed)
    with pytest.raises(ChapterError, match="run as gpu, but its set-up cell opened it as laptop"):
        run_chapter("01", "gpu", root=book)


def test_a_chapter_runs_in_the_interpreter_whose_versions_it_states(tmp_path, monkeypatch):
    """Though another one is registered under the kernel's name."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "env": {"OTHER_INTERPRETER": "yes"},
        "display_name": "Another Python",
        "language": "python",
    }
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (tmp_path / "book").mkdir()
    asks = "import os\nprint(sys.executable, os.environ.get('OTHER_INTERPRETER'))"
    path = make_tree(tmp_path / "book", SET_UP, asks)
    run_chapter(path, progress=False, root=tmp_path / "book")
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[-1].outputs[0].text == f"{sys.executable} None\n"
    assert stored.metadata["kernelspec"] == chapters.KERNEL


def test_progress_bars_widgets_and_local_paths_are_not_stored(tmp_path):
    clean = partial(chapters._clean, root=tmp_path)
    bar = new_output("stream", name="stderr", text=" 50%|#####     | 5/10\rdone\nkept\n")
    assert clean(bar).text == "kept\n"
    assert clean(new_output("stream", name="stderr", text="\r 10%|# |")) is None
    assert (
        clean(new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}))
        is None
    )
    assert (
        clean(new_output("stream", text=f"{tmp_path}/results/a.json 50%|\n")).text
        == "results/a.json 50%|\n"
    )


# --- vacuity

GLUED = "application/papermill.record/text/plain"


def no_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def set_cell(number, **values):
    return lambda notebook: notebook.cells[number].update(values)


def never_recorded(notebook):
    notebook.cells[3].outputs = []


def failed(notebook):
    notebook.cells[2].outputs.append(new_output("error", ename="KeyError", evalue="", traceback=[]))


def repeated(notebook):
    notebook.cells[4].outputs += notebook.cells[3].outputs


VACUOUS = {
    "no outputs": (no_outputs, "no cell has an output"),
    "null count": (set_cell(2, execution_count=None), "cell 3 was never executed"),
    "out of order": (set_cell(2, execution_count=9), "not executed in order"),
    "error": (failed, "cell 3 ended in KeyError"),
    "no metadata": (lambda nb: nb.metadata.pop("jepa"), "metadata lacks"),
    "smoke": (lambda nb: nb.metadata["jepa"].update(profile="smoke"), "made under 'smoke'"),
    "two profiles": (
        lambda nb: nb.metadata["jepa"].update(profile="gpu"),
        "opened under 'laptop', run under 'gpu'",
    ),
    "no parameters": (set_cell(1, metadata={}), "missing profile, seed"),
    "unknown parameter": (
        lambda nb: nb.cells[1].update(source=PARAMETERS + "\nlayers = 2"),
        "unknown layers",
    ),
    "never recorded": (never_recorded, "record('purity') is in a cell but not in the outputs"),
    "never recorded, by claims": (never_recorded, "claim 'purity' is never recorded"),
    "recorded twice": (repeated, "claim 'purity' is recorded 2 times"),
    "glued twice": (repeated, "glue key 'purity' is used 2 times"),
    "stale key": (set_cell(6, source="It is {glue:text}`counts:d`."), "stale glue key 'counts'"),
    "stale block": (set_cell(6, source="```{glue} gone\n```"), "stale glue key 'gone'"),
    "no such chapter": (
        set_cell(6, source="{glue}`09_none.ipynb::count`"),
        "names no chapter: 09_none.ipynb",
    ),
    "typed number": (
        set_cell(6, source="It is 0.123, and {glue:text}`count:d`."),
        "01_test: cell 7: the number 0.123 is typed: make it a {glue} reference, cite its source",
    ),
    "stale": (
        set_cell(5, source="x = 2"),
        "stale: changed since its outputs were made: its code cells",
    ),
    "doctored glue": (
        lambda nb: nb.cells[5].outputs[0].data.update({GLUED: "26"}),
        "the outputs of cell 6, not as the run stored them",
    ),
    "doctored print": (
        lambda nb: nb.cells[7].outputs[-1].update(text="another line\n"),
        "the outputs of cell 8, not as the run stored them",
    ),
    "doctored seed": (
        lambda nb: nb.metadata["jepa"].update(seed=5),
        "the notebook's metadata under 'jepa', not as the run stored it",
    ),
    "another seed": (
        lambda nb: nb.metadata["jepa"].update(seed=5),
        "made with seed 5, its parameters cell declares 0",
    ),
    "no seal": (lambda nb: nb.metadata["jepa"].pop("seal"), "its outputs, which no run sealed"),
    "old box": (
        lambda nb: nb.cells[3].outputs[0].data.update({"text/html": "old"}),
        "a claim's box is not as claims.yml has it",
    ),
}


@pytest.mark.parametrize("change, message", VACUOUS.values(), ids=VACUOUS.keys())
def test_every_way_to_be_vacuous_is_found(book, change, message):
    claims = load_claims(book / "book" / "claims.yml")
    assert chapters.chapter_problems(chapter_of(book), claims, book) == []
    edit(chapter_of(book), change)
    assert any(
        message in problem for problem in chapters.chapter_problems(chapter_of(book), claims, book)
    )


def under_a_condition(notebook):
    source = notebook.cells[3].source
    notebook.cells[3].source = 'if profile == "gpu":\n' + textwrap.indent(source, "    ")


@pytest.mark.parametrize(
    "level, conditional, waits",
    [("gpu", True, True), ("gpu", False, False), ("laptop", True, False)],
)
def test_a_claim_of_a_higher_profile_may_wait_under_a_condition(book, level, conditional, waits):
    replace(book / "book" / "claims.yml", "profile: laptop", f"profile: {level}")
    edit(chapter_of(book), never_recorded)
    if conditional:
        edit(chapter_of(book), under_a_condition)
    problems = chapters.vacuity_problems(chapter_of(book), book)
    assert waits != any("in a cell but not in" in problem for problem in problems)


def test_a_notebook_that_was_never_run_is_found(tmp_path):
    path = make_tree(tmp_path, *GOOD_CELLS)
    problems = " ".join(
        chapters.chapter_problems(path, load_claims(tmp_path / "book" / "claims.yml"), tmp_path)
    )
    for message in (
        "never executed",
        "no cell has an output",
        "metadata lacks",
        "stale",
        "never recorded",
    ):
        assert message in problems


def test_glue_references_of_prose_pages_are_checked(book):
    page = book / "book" / "errata.md"
    page.write_text(
        textwrap.dedent("""\
        {glue:text}`../notebooks/01_test.ipynb::purity:.2f`,
        {glue}`/notebooks/01_test.ipynb::count`, ``{glue}`example` ``

        ```{glue} name
        :doc: ../notebooks/01_test.ipynb
        ```

        ```markdown
        {glue}`example`
        ```
        """)
    )
    assert chapters.page_problems(book) == []
    replace(chapter_of(book), "{glue:text}`count:d`", "25")
    replace(page, "::count`", "::name`")
    (unused,) = chapters.page_problems(book)
    assert "01_test: glue key 'count' is recorded, and no prose refers to it" in unused
    replace(page, "::name`", "::count`")
    replace(page, "::purity", "::impurity")
    replace(page, "{glue} name", "{glue} names")
    found = [problem.split(": ")[1] for problem in chapters.page_problems(book)]
    assert found == ["stale glue key 'impurity'", "stale glue key 'names'"]
    page.write_text("{glue}`count`")
    assert "names no chapter: this page" in chapters.page_problems(book)[0]


def test_typed_numbers_on_pages_are_found(book):
    (book / "book" / "intro.md").write_text("It is 0.5 in the source, and 93 % here.\n")
    (problem,) = chapters.page_problems(book)
    assert problem.startswith("intro: the number 93 % is typed")


@pytest.mark.parametrize(
    "verdict, undecided",
    [("not reproduced", False), ("inconclusive", True), ("not attempted", True)],
)
def test_the_errata_accuse_nobody_on_an_undecided_claim(book, verdict, undecided):
    replace(
        book / "book" / "claims.yml",
        "  profile: laptop",
        f"  verdict: {verdict}\n  profile: laptop",
    )
    (book / "book" / "errata.md").write_text(
        "{glue:text}`../notebooks/01_test.ipynb::purity:.2f`\n"
    )
    found = chapters.page_problems(book)
    text = f"errata: claim 'purity' is {verdict}: no proof against a source"
    assert found == ([text] if undecided else [])


@pytest.mark.parametrize(
    "doctor, cell",
    [
        (lambda nb: nb.cells[5].outputs[0].data.update({GLUED: "26"}), 6),
        (lambda nb: nb.cells[7].update(outputs=nb.cells[7].outputs[:1]), 8),
    ],
)
def test_doctored_outputs_are_stale(book, doctor, cell):
    edit(chapter_of(book), doctor)
    text = f"the outputs of cell {cell}, not as the run stored them"
    assert stale_chapters(book) == {"01_test": [text]}


def test_rewording_a_claim_redraws_its_box_without_a_run(book):
    replace(book / "book" / "claims.yml", "share a class", "look alike")
    assert chapters.redraw_chapters(book) == ["01_test"]
    assert "look alike" in chapter_of(book).read_text()
    assert chapters.redraw_chapters(book) == [] and stale_chapters(book) == {}


# --- verify


def test_verify_runs_again_and_passes(book):
    before = chapter_of(book).read_bytes()
    console = Console(record=True, width=160)
    assert chapters.verify(root=book, console=console) == []
    assert (
        "purity" in console.export_text()
        and (book / "_build" / "verify" / "01_test.ipynb").is_file()
    )
    assert chapter_of(book).read_bytes() == before


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "purity",
            0.6,
            "run again: 01_test: claim 'purity' is direction only, declared reproduced",
        ),
        ("count", 50, "number 'count' is 25 as stored, 50 when run again"),
    ],
)
def test_verify_sees_other_numbers(book, monkeypatch, key, value, message):
    """Here the re-run is the stored notebook with other values in its outputs."""

    def rerun(path, root):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                note = output.get("metadata", {}).get("jepa", {})
                if key in (note.get("claim"), note.get("glue")):
                    note |= {"values": [value] * 3} if "claim" in note else {"value": value}
        chapters.write_notebook(notebook, chapters._verified(path, root))

    monkeypatch.setattr(chapters, "_rerun", rerun)
    assert any(
        message in problem for problem in chapters.verify(root=book, console=Console(quiet=True))
    )


def test_verify_reports_a_chapter_that_fails(book, monkeypatch):
    def fail(*_, **__):
        raise ChapterError("01_test: cell 4 failed")

    monkeypatch.setattr(chapters, "run_chapter", fail)
    assert chapters.verify(root=book, console=Console(quiet=True)) == ["01_test: cell 4 failed"]


# --- the site

CONF = """
extensions = ["myst_nb", "jepa_utils.publishing.sphinx_extension"]
nb_execution_mode = "off"
exclude_patterns = ["_build"]
suppress_warnings = []
"""


@pytest.fixture
def site(book):
    """Builds the small book with Sphinx; returns its exit status and log."""
    from sphinx.cmd.build import main

    (book / "conf.py").write_text(CONF)
    (book / "index.md").write_text(
        "# Test\n\n```{scoreboard}\n```\n\n```{toctree}\nnotebooks/01_test\nbook/errata\n```\n"
    )
    (book / "book" / "errata.md").write_text(
        "# Errata\n\n{glue:text}`../notebooks/01_test.ipynb::count:d` words, and 1.06.\n"
        "<!-- typed: 1.06, by theory -->\n"
    )

    def build() -> int:
        return main(["-q", "-n", "-W", "--keep-going", str(book), str(book / "_build" / "html")])

    return build


def test_the_scoreboard_builds_without_warnings_and_pages_follow_the_notebook(site, book):
    from myst_nb.ext.glue.crossref import read_glue_cache

    assert site() == 0
    page, html = (
        (book / "_build" / "html" / "index.html").read_text(),
        (book / "_build/html/notebooks/01_test.html").read_text(),
    )
    for text in (
        "1 check: 1 passes.",
        "1 statement: 1 reproduced.",
        "0 findings: none.",
        "shuffled vectors",
        "0.250 ± 0.050 (3 seeds)",
        "0.920 ± 0.020 (3 seeds)",
        'href="notebooks/01_test.html#claim-purity"',
        "toy (mirror)",
        "claim-verdict claim-reproduced",
        "Test (2026), section 1",
        "torch ",
    ):
        assert text in page
    errata = book / "_build" / "html" / "book" / "errata.html"
    assert "25</span> words, and 1.06." in errata.read_text()
    assert 'id="claim-purity"' in html and "is <span" in html

    # A number glued from a notebook changes on a page that did not.
    def another_run(notebook):
        notebook.cells[5].outputs[0].data[GLUED] = "26"
        seal(notebook)

    edit(chapter_of(book), another_run)
    read_glue_cache.cache_clear()  # MyST-NB's, of this process
    assert site() == 0
    assert "26</span> words" in errata.read_text()


def test_the_build_breaks_on_a_broken_chapter(site, book, capfd):
    edit(chapter_of(book), set_cell(5, source="x = 2"))
    assert site() != 0
    assert "01_test: stale" in capfd.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda book: edit(chapter_of(book), never_recorded), "01_test does not record purity"),
        (lambda book: replace(book / "book/claims.yml", "why:", "because:"), "unknown key because"),
    ],
)
def test_the_scoreboard_refuses_missing_or_wrong_data(site, book, capfd, change, message):
    change(book)
    assert site() != 0
    assert message in capfd.readouterr().err


def test_launch_buttons_come_with_the_repositorys_address_only(monkeypatch):
    monkeypatch.delenv("JEPA_REPOSITORY_URL", raising=False)
    monkeypatch.delenv("JEPA_REPOSITORY_BRANCH", raising=False)
    config = SimpleNamespace(html_theme_options={"toc": 2})
    sphinx_extension.add_repository(None, config)
    assert config.html_theme_options == {"toc": 2}
    monkeypatch.setenv("JEPA_REPOSITORY_URL", "https://example.org/a/book/")
    sphinx_extension.add_repository(None, config)
    options = config.html_theme_options
    assert options["repository_url"] == "https://example.org/a/book"
    assert (options["repository_branch"], options["toc"]) == ("main", 2)
    assert {"colab_url", "binderhub_url", "thebe"} <= set(options["launch_buttons"])
