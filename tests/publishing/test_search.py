"""What the search page finds, and in which order."""

import re

import pytest
from browser import open_browser
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document

from jepa_utils.publishing.search import BookSearch, keep_cells_apart, words_of

RESULTS = """query => Search._performSearch(...Search._parseQuery(query)).reverse()
  .map(([page, title, anchor]) => page + anchor)"""


@pytest.mark.parametrize(
    "text, words",
    [
        ("a score of 0.765.", ["a", "score", "of", "0.765"]),
        ("I-JEPA learns", ["I", "JEPA", "IJEPA", "learns"]),
        ("no stop-gradient", ["stopgradient", "no", "stop", "gradient", "stopgradient"]),
        ("the stop gradient", ["stopgradient", "the", "stop", "gradient"]),
        ("stop_gradient=True", ["stopgradient", "stop_gradient", "True"]),
        ("nonstop gradient", ["nonstop", "gradient"]),
    ],
)
def test_words_of_a_text(text, words):
    assert words_of(text) == words
    assert BookSearch({}).split(text) == words


def test_cells_of_a_table_are_words_of_their_own():
    document = new_document("page")
    document += nodes.raw("", "<td>reproduced</td><td>0.765</td>", format="html")
    keep_cells_apart(None, document, "page")
    assert words_of(re.sub(r"<[^>]+>", "", document.astext())) == ["reproduced", "0.765"]


@pytest.fixture(scope="module")
def search(build):
    """A function from a query to the pages found, best first."""
    with open_browser() as browser:
        page = browser.new_page()
        page.goto((build.html / "search.html").as_uri() + "?q=0.765")
        page.wait_for_function("() => /finished/.test(document.body.innerText)")
        shown = page.locator("ul.search > li > a").first.get_attribute("href")

        def find(query):
            return shown if query is None else page.evaluate(RESULTS, query)

        yield find


def test_search_page_shows_the_chapter_with_the_number_first(search):
    assert search(None) == "notebooks/03_toy_spiral.html"


@pytest.mark.parametrize(
    "query",
    [
        "stopgradient",
        "stop-gradient",
        "stop gradient",
        "Stop-gradients",
        "stopgrad",
        "stop_gradient",
    ],
)
def test_stop_gradient_is_found_however_it_is_written(query, search):
    found = search(query)
    assert found[0].startswith("notebooks/")
    assert {"notebooks/02_text_lejepa", "book/notation"} <= set(found)
    assert found == search("stopgradient")


@pytest.mark.parametrize(
    "query, first",
    [
        ("I-JEPA", "notebooks/04_ijepa_cifar10"),
        ("InfoNCE", "notebooks/05_vl_jepa"),
        ("word2vec", "notebooks/01_word_jepa"),
        ("sigreg", "book/notation"),  # which has a section of that name
        ("shakespeare", "notebooks/01_word_jepa"),
    ],
)
def test_the_chapter_comes_first_and_the_api_last(query, first, search):
    found = search(query)
    assert found[0] == first
    where = [page.startswith("book/api") for page in found]
    assert where == sorted(where)
    assert any(where)


def test_glued_numbers_and_folded_code_are_found(build, search):
    chapter = "notebooks/03_toy_spiral"
    soup = BeautifulSoup(
        (build.html / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser"
    )
    glued = [tag.text for tag in soup.select(".pasted-text")]
    numbers = [number for text in glued for number in re.findall(r"\d+\.\d+", text)]
    assert len(numbers) > 5
    assert [number for number in numbers if chapter not in search(number)] == []
    folded = re.findall(r"[a-z]{6,}", " ".join(tag.text for tag in soup.select("details.hide pre")))
    assert len(folded) > 20
    assert [word for word in set(folded[:20]) if chapter not in search(word)] == []
