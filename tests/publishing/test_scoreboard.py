"""The scoreboard, the front page's table and gallery, and run times: in a browser, on a small site.

The site's chapters are written by hand, outputs included, so that every verdict occurs."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from browser import STICKS_OUT, open_browser
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from sphinx.cmd.build import main as sphinx_build
from sphinx.errors import ExtensionError

from jepa_utils.publishing import chapters, scoreboard

ROOT = Path(__file__).resolve().parents[2]

# id: kind, chapter, sentence, values, verdict. The bound is 0.8, the weaker one 0.3.
ROWS = {
    "good": ("statement", "01_test", "Zebras are told from horses.", [0.9, 0.92, 0.94], "reproduced"),
    "bad": ("statement", "01_test", "Cats are told from dogs.", [0.1, 0.12, 0.11], "not reproduced"),
    "open": ("finding", "01_test", "Mice are told from rats.", [0.5, 0.9, 1.2], "inconclusive"),
    "sum": ("check", "01_test", "Two sums of weights agree.", [True], "passes"),
    "weak": ("statement", "02_other", "Birds are told from bats.", [0.5, 0.52, 0.54], "direction only"),
    "ours": ("finding", "02_other", "Ants are told from horses.", [0.9, 0.91, 0.92], "supported"),
    "none": ("statement", "02_other", "Nobody tried <this> & that.", None, "not attempted"),
    "count": ("check", "02_other", "There are two weights.", [True], "passes"),
}  # fmt: skip
JUDGED = [id for id, row in ROWS.items() if row[0] != "check"]
CHECKS = [id for id in ROWS if id not in JUDGED]
RUNS = {"01_test": 90.0, "02_other": 312.0}
BODY = "```{results}\ngood\nweak\n```\n\n```{gallery}\n02_other plot Second *first*.\n01_test plot First.\n```\n"
CONF = f"""
extensions = ["myst_nb"]
nb_execution_mode = "off"
exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_static_path = [{str(ROOT / "book" / "_static")!r}]
html_css_files = ["custom.css", "scoreboard.css"]

def setup(app):
    from jepa_utils.publishing import scoreboard
    scoreboard.setup(app)
"""


def png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", (width, height), (9, 99, 200, 255)).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


PYTHON = {"name": "python", "pygments_lexer": "ipython3"}
ALT = "A blue field, the same all over"
FIGURE = {
    "text/html": f'<figure><img src="data:image/png;base64,{png(960, 480)}" alt="{ALT}"></figure>'
}


def write_book(root: Path) -> Path:
    """A book with two chapters, a page for the scoreboard and a front page."""
    claims = ""
    for id, (kind, chapter, says, _, verdict) in ROWS.items():
        keys = {"id": id, "kind": kind, "chapter": chapter, "says": says, "why": "for the test"}
        keys |= {"profile": "laptop", "expect": {"at_least": 1 if kind == "check" else 0.8}}
        if kind != "check":
            keys |= {"control": "shuffled labels", "verdict": verdict}
            keys["expect"]["direction"] = 0.3
        if kind == "statement":
            keys |= {
                "source": f"{'Test' if chapter == '01_test' else 'Other'} (2026), page 1",
                "reported": 0.85,
            }
        claims += f"- {json.dumps(keys)}\n"
    (root / "book").mkdir(parents=True)
    (root / "book" / "claims.yml").write_text(claims)
    for name, seconds in RUNS.items():
        cells = [new_markdown_cell(f"# Chapter {name}\n\nIt took {{minutes}}`{name}` minutes.")]
        for id, (_, chapter, _, values, _) in ROWS.items():
            if chapter == name and values:
                note = {"claim": id, "values": values, "control": [0.1, 0.2, 0.15], "half": None}
                note |= {"profile": "laptop", "data": []}
                html = f'<p id="claim-{id}">box</p>'
                output = new_output("display_data", {"text/html": html}, metadata={"jepa": note})
                cells.append(new_code_cell("x", outputs=[output], execution_count=1))
        cells.append(new_code_cell("x", outputs=[new_output("display_data", FIGURE)], id="plot"))
        run = {"seconds": seconds, "executed": "2026-01-02", "profile": "laptop", "data": []}
        run |= {"python": "3.11.9", "packages": {"torch": "2.13.0"}}
        (root / "notebooks").mkdir(exist_ok=True)
        notebook = new_notebook(cells=cells, metadata={"jepa": run, "language_info": PYTHON})
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    (root / "conf.py").write_text(CONF)
    toctree = "```{toctree}\nbook/board\nnotebooks/01_test\nnotebooks/02_other\n```\n"
    (root / "index.md").write_text(f"# Test\n\n{BODY}\n{{seconds}}`02` s\n\n{toctree}")
    (root / "book" / "board.md").write_text("# Board\n\n```{scoreboard}\n```\n")
    return root


def build(root: Path) -> int:
    return sphinx_build(
        ["-q", "-n", "-W", "--keep-going", str(root), str(root / "_build" / "html")]
    )


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    root = write_book(tmp_path_factory.mktemp("site") / "book")
    assert build(root) == 0
    return root / "_build" / "html"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def board(browser, html):
    """Opens the scoreboard from its file, with nothing else to be reached."""
    contexts = []

    def open_page(hash: str = "", width: int = 1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.route("http*://**", lambda route: route.abort())
        page.goto((html / "book" / "board.html").as_uri() + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()


def rows(page, table: str) -> list[str]:
    """Claims of the rows that are shown, in the order on the page."""
    shown = "rows => rows.filter(row => !row.hidden).map(row => row.id.replace('row-', ''))"
    return page.locator(f"table.{table} tr[data-kind]").evaluate_all(shown)


def field(page, name: str):
    return page.locator(f".scoreboard-filter [name={name}]")


# --- filters, order, address


@pytest.mark.parametrize("verdict", sorted({row[-1] for row in ROWS.values()}))
def test_a_verdict_leaves_exactly_its_rows(board, verdict):
    page = board()
    field(page, "verdict").select_option(verdict)
    wanted = [id for id, row in ROWS.items() if row[-1] == verdict]
    assert rows(page, "judged") == [id for id in wanted if id in JUDGED]
    assert rows(page, "checks") == [id for id in wanted if id in CHECKS]
    said = f"{len(rows(page, 'judged'))} of 6 statements and findings, {len(rows(page, 'checks'))} of 2 checks shown"
    assert page.get_by_role("status").inner_text() == said


@pytest.mark.parametrize(
    "chosen, judged, checks",
    [
        ({"kind": "finding"}, ["open", "ours"], []),
        ({"kind": "check"}, [], CHECKS),
        ({"chapter": "02_other"}, ["weak", "ours", "none"], ["count"]),
        ({"chapter": "01_test", "kind": "statement"}, ["good", "bad"], []),
        ({"text": "HORSES told"}, ["good", "ours"], []),
        ({"text": "weights"}, [], CHECKS),
        ({"text": "horses", "kind": "finding"}, ["ours"], []),
        ({"text": "no such words"}, [], []),
    ],
)
def test_filters_work_together(board, chosen, judged, checks):
    page = board()
    for name, value in chosen.items():
        one = field(page, name)
        one.fill(value) if name == "text" else one.select_option(value)
    assert (rows(page, "judged"), rows(page, "checks")) == (judged, checks)
    # Checks are folded, and unfold where nothing else is shown.
    assert page.locator(".scoreboard-checks").get_attribute("open") == (
        "" if checks and not judged else None
    )
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("() => !location.hash || location.hash === '#'")
    assert (rows(page, "judged"), rows(page, "checks")) == (JUDGED, CHECKS)


def test_rows_are_sorted_and_return_to_the_books_order(board):
    page = board()
    heads = page.locator("table.judged .scoreboard-chapter")
    assert heads.all_inner_texts() == ["1 Chapter 01_test", "2 Chapter 02_other"]
    for sort, wanted in {
        "verdict": ["good", "ours", "weak", "bad", "open", "none"],
        "kind": ["good", "bad", "weak", "none", "open", "ours"],
        "claim": ["ours", "weak", "bad", "open", "none", "good"],
        "": JUDGED,
    }.items():
        field(page, "sort").select_option(sort)
        assert rows(page, "judged") == wanted
        assert heads.first.is_visible() is (sort == "")
    field(page, "chapter").select_option("02_other")
    assert [head.is_visible() for head in heads.all()] == [False, True]


def test_the_address_restores_what_was_chosen(board):
    page = board()
    field(page, "verdict").select_option("not reproduced")
    field(page, "text").fill("cats & dogs".replace(" &", ""))
    field(page, "sort").select_option("claim")
    hash = page.evaluate("() => location.hash")
    again = board(hash)
    assert rows(again, "judged") == rows(page, "judged") == ["bad"]
    assert field(again, "verdict").input_value() == "not reproduced"
    assert (field(again, "text").input_value(), field(again, "sort").input_value()) == (
        "cats dogs",
        "claim",
    )
    again.evaluate("() => { location.hash = 'kind=finding' }")
    again.wait_for_function("() => document.querySelector('[name=verdict]').value === ''")
    assert rows(again, "judged") == ["open", "ours"]
    assert rows(board("#verdict=nonsense"), "judged") == JUDGED


@pytest.mark.parametrize("id", ["weak", "count"])
def test_a_row_can_be_linked(board, id):
    page = board("#kind=finding")
    page.evaluate(f"() => {{ location.hash = 'row-{id}' }}")
    page.locator(f"#row-{id}").wait_for(state="visible")
    assert page.locator(f"#row-{id}").evaluate("row => row.matches(':target')")
    assert page.evaluate(
        "id => { const box = document.getElementById(id).getBoundingClientRect()\n"
        "        return box.top >= 0 && box.bottom <= innerHeight }",
        f"row-{id}",
    )
    link = page.locator(f"#row-{id} .row-link")
    assert link.get_attribute("href") == f"#row-{id}"
    says = page.locator(f"#row-{id} .scoreboard-says a").get_attribute("href")
    assert says == f"../notebooks/{ROWS[id][1]}.html#claim-{id}"


def test_a_keyboard_is_enough(board):
    page = board()
    field(page, "text").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")  # from "all" to the best verdict
    assert rows(page, "judged") == ["good"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("cats")
    assert rows(page, "judged") == []


# --- layout


def test_on_a_phone_a_row_is_a_card_with_its_verdict_first(board):
    page = board(width=390)
    page.locator(".scoreboard-checks summary").click()
    assert page.evaluate(STICKS_OUT) == []
    tops = page.locator("#row-open > td").evaluate_all(
        "cells => cells.map(cell => cell.getBoundingClientRect()).map(box => [box.top, box.left])"
    )
    assert [top for top, _ in tops] == sorted({top for top, _ in tops})  # one below the other
    assert len({left for _, left in tops}) == 1
    first = page.locator("#row-open > td").first.inner_text()
    assert first.startswith("inconclusive") and "the bound lies within" in first
    labels = page.locator("#row-open > td").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert labels[2] == '"Measured: "' and labels[0] == "none"


def test_at_1280_pixels_the_columns_fit(board):
    page = board()
    page.locator(".scoreboard-checks summary").click()
    assert page.evaluate(STICKS_OUT) == []
    for table in page.locator("table.scoreboard").all():
        assert table.evaluate(
            "t => t.getBoundingClientRect().right <= t.parentElement.getBoundingClientRect().right + 1"
        )
    narrow = page.locator("table.judged td").evaluate_all(
        "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).length"
    )
    assert narrow == 0


def test_without_scripts_the_tables_are_whole(board):
    page = board(java_script_enabled=False)
    assert not page.locator(".scoreboard-filter").is_visible()
    for id in JUDGED:
        assert page.locator(f"#row-{id}").is_visible()
    page.locator(".scoreboard-checks summary").click()
    assert all(page.locator(f"#row-{id}").is_visible() for id in CHECKS)


def test_a_row_says_all_that_is_known(html):
    page = (html / "book" / "board.html").read_text()
    row = re.search(r'<tr id="row-good".*?</tr>', page, re.DOTALL)[0]
    for text in (
        "0.920 ± 0.020 (3 seeds)",
        "95 % limits 0.886 and 0.954",
        "0.150 ± 0.050 (3 seeds)",
        "shuffled labels",
        '<td data-label="Source’s value">0.85</td>',
        "at least 0.8 (direction only: above 0.3)",
        "Source: Test (2026), page 1",
        "Made with: this run, profile laptop, data generated",
        'statement, <a href="../notebooks/01_test.html">chapter 1</a>',
    ):
        assert text in row
    assert "Nobody tried &lt;this&gt; &amp; that." in page
    for text in ("4 statements: 1 reproduced, 1 direction only, 1 not reproduced, 1 not attempted.",
                 "2 findings: 1 supported, 1 inconclusive.", "2 checks: 2 passes.",
                 "Python 3.11.9, torch 2.13.0"):  # fmt: skip
        assert text in page
    contents = page[page.index('id="pst-secondary-sidebar"') :]
    for section in ("totals", "statements-and-findings", "checks", "how-the-chapters-were-run"):
        assert f'href="#{section}"' in contents


def test_the_picture_shows_the_counts(tmp_path):
    stored = scoreboard.read_chapters(write_book(tmp_path / "book"))
    picture = scoreboard.totals_picture(stored)
    assert (
        "Chapter 1, Test (2026): 1 reproduced, 1 not reproduced. "
        "Chapter 1, this book: 1 inconclusive. "
        "Chapter 2, Other (2026): 1 direction only, 1 not attempted. "
        "Chapter 2, this book: 1 reproduced."
    ) in picture
    bars, legend = (
        re.findall(r'<rect class="claim-[\w-]+" x="([\d.]+)" y="\d+" width="([\d.]+)"', picture),
        5,
    )
    widths = [float(width) for _, width in bars[:-legend]]
    assert len(set(widths)) == 1 and len(widths) == 6  # each stands for one claim
    used = set(re.findall(r"url\(#([\w-]+)\)", picture))
    assert len(used) == legend and used <= set(re.findall(r'<pattern id="([\w-]+)"', picture))


# --- front page, run times


def test_the_front_page_shows_results_and_pictures(html):
    page = (html / "index.html").read_text()
    row = re.search(r'<tr data-claim="weak">.*?</tr>', page)[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells[0] == "Other (2026)" and cells[2:4] == ["0.85", "0.520 ± 0.020 (3 seeds)"]
    assert (
        'href="notebooks/02_other.html#claim-weak"' in cells[1] and ">direction only<" in cells[4]
    )
    assert page.index("Second <em>first</em>.") < page.index(">First.")
    assert "Chapter 2, 5.2 minutes to run" in page and "Chapter 1, 1.5 minutes to run" in page
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    assert [alt for _, alt in found] == [ALT, ALT]
    assert Image.open(io.BytesIO(base64.b64decode(found[0][0]))).size == (480, 240)


def test_run_times_in_the_text_are_the_recorded_ones(html):
    assert "<p>312 s</p>" in (html / "index.html").read_text()
    assert "It took 1.5 minutes." in (html / "notebooks" / "01_test.html").read_text()


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("weak\n", "week\n", "results: week is no statement's id"),
        ("weak\n", "ours\n", "results: ours is no statement's id"),
        ("02_other plot", "03_third plot", "CHAPTER CELL SENTENCE with one of 01_test, 02_other"),
        ("01_test plot First.", "01_test plot", "CHAPTER CELL SENTENCE"),
        ("01_test plot", "01_test graph", "01_test has no cell with the id 'graph'"),
        ("`02`", "`07`", "seconds: chapter is '07', wants one of: 01_test, 02_other"),
        ('"_build"', '"_build", "notebooks/02*"', "notebooks/02_other is not in _toc.yml"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, capfd, old, new, message):
    root = write_book(tmp_path / "book")
    page = root / ("conf.py" if "_build" in old else "index.md")
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))
    assert build(root) != 0
    assert message in capfd.readouterr().err


def picture_cell(tmp_path, data: dict, **metadata) -> Path:
    cell = new_code_cell(
        "x", outputs=[new_output("display_data", data)], id="plot", metadata=metadata
    )
    path = tmp_path / "01_test.ipynb"
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def test_a_thumbnail_is_a_small_copy_of_the_first_picture(tmp_path):
    described = {"mystnb": {"image": {"alt": ALT}}}
    data, alt = scoreboard.thumbnail(picture_cell(tmp_path, FIGURE), "plot")
    kind, encoded = data.split(",")
    assert (kind, alt) == ("data:image/png;base64", ALT)
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (480, 240)
    small = picture_cell(tmp_path, {"image/png": png(30, 20)}, **described)
    data, alt = scoreboard.thumbnail(small, "plot")
    assert Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).size == (30, 20)
    drawn = picture_cell(tmp_path, {"image/svg+xml": "<svg/>"}, **described)
    assert scoreboard.thumbnail(drawn, "plot") == ("data:image/svg+xml;base64,PHN2Zy8+", ALT)
    for data in ({"image/png": png(30, 20)}, {"text/html": "<p>none</p>"}):
        with pytest.raises(ExtensionError, match="cell 'plot' of 01_test shows no picture"):
            scoreboard.thumbnail(picture_cell(tmp_path, data), "plot")


# --- README, which Sphinx does not build


def time_problems(text: str, seconds: dict[str, float]) -> list[str]:
    """Where a text's run times are more than a fifth off the recorded ones, or are not there."""
    stated = dict(re.findall(r"jepa run (\w+) +# ([\d.]+) min", text))
    stated |= dict(re.findall(r"(`make verify`).*\| ([\d.]+) \|", text))
    problems = []
    for name, taken in (seconds | {"`make verify`": sum(seconds.values())}).items():
        right = f"{taken / 60:.1f} min"
        if name not in stated:
            problems.append(f"{name}: no time is stated, it takes {right}")
        elif abs(float(stated[name]) * 60 - taken) > 0.2 * taken:
            problems.append(f"{name}: {stated[name]} min are stated, it takes {right}")
    return problems


def test_readme_states_the_recorded_run_times():
    names = chapters.chapter_names(ROOT)
    seconds = {name: scoreboard.run_seconds(name, ROOT) for name in names}
    assert time_problems((ROOT / "README.md").read_text(), seconds) == []


@pytest.mark.parametrize(
    "text, problems",
    [
        ("jepa run a    # 2 min; b\n| `make verify` | all | 2.3 |", []),
        (
            "jepa run a # 3 min\n| `make verify` | all | 2 |",
            ["a: 3 min are stated, it takes 2.0 min"],
        ),
        ("jepa run a # 2.1 min", ["`make verify`: no time is stated, it takes 2.0 min"]),
    ],
)
def test_the_check_of_run_times_can_fail(text, problems):
    assert time_problems(text, {"a": 120.0}) == problems


def test_readme_has_the_front_pages_results():
    intro = (ROOT / "book" / "intro.md").read_text()
    ids = re.search(r"^```\{results\}\n(.*?)^```", intro, re.DOTALL | re.MULTILINE)[1].split()
    table = scoreboard.results_markdown(ROOT, ids)
    assert table in (ROOT / "README.md").read_text(), f"README wants this table:\n{table}"
