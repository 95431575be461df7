"""The whole book as one PDF."""

import re
from collections import Counter

import pytest
from browser import find_browser
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from jepa_utils.publishing import chapters, pdf
from jepa_utils.publishing.cli import app

DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
PAGE = """<!doctype html><html><head><title>{0}</title></head><body><article>
<section id="top"><h1>{0}<a class="headerlink" href="#top">#</a></h1>{1}</section></article></body></html>"""
TOC = "root: book/intro\nparts:\n- caption: Chapters\n  chapters:\n  - file: notebooks/a\n  - file: notebooks/b\n"
PAGES = {
    "book/intro": (
        "The book",
        '<!-- the place of the link to the PDF --><a href="../notebooks/b.html#top">b</a>',
    ),
    "notebooks/a": (
        "First chapter",
        '<h2 id="part">A part</h2><img loading="lazy" src="../_images/dot.svg" alt="A dot">'
        '<a href="b.html">next</a> <a href="#part">here</a> <a href="../book/other.html">other</a>'
        '<a href="https://example.org/">out</a><script>document.body.remove()</script>',
    ),
    "notebooks/b": ("Second chapter", "<p>The end.</p>" * 3),
}


@pytest.fixture
def site(tmp_path):
    html = tmp_path / "_build" / "html"
    (html / "_images").mkdir(parents=True)
    (html / "_images" / "dot.svg").write_text(DOT)
    for name, (title, text) in PAGES.items():
        (html / name).parent.mkdir(exist_ok=True)
        (html / f"{name}.html").write_text(PAGE.format(title, text))
    (tmp_path / "_toc.yml").write_text(TOC)
    return tmp_path


def join(site):
    whole = pdf.joined(site / "_build" / "html", pdf.contents(site / "_toc.yml"))
    return BeautifulSoup(whole, "html.parser")


def dead_places(soup):
    names = {tag["id"] for tag in soup.find_all(id=True)}
    return [
        a["href"] for a in soup.find_all("a", href=re.compile("^#")) if a["href"][1:] not in names
    ]


def repeated(soup):
    return [
        name for name, n in Counter(tag["id"] for tag in soup.find_all(id=True)).items() if n > 1
    ]


def test_pages_are_joined_in_the_order_of_the_contents(site):
    soup = join(site)
    assert [h.text for h in soup.find_all("h1")] == ["The book", "First chapter", "Second chapter"]
    assert [li.text for li in soup.select("nav li")] == [
        "Chapters",
        "First chapter",
        "Second chapter",
    ]
    assert [a["href"] for a in soup.select("nav a")] == ["#notebooks-a", "#notebooks-b"]
    assert soup.title.text == "The book" and soup.html["data-theme"] == "light"


def test_links_lead_within_the_whole_book(site):
    soup = join(site)
    assert dead_places(soup) == [] and repeated(soup) == []
    assert [a["href"] for a in soup.select("article a")] == [
        "#notebooks-b--top", "#notebooks-b", "#notebooks-a--part",
        "book/other.html", "https://example.org/",
    ]  # fmt: skip
    assert soup.img["src"] == "_images/dot.svg" and not soup.img.get("loading")
    assert not soup.article.find("script")


def test_whole_book_can_be_joined(build, root):
    parts = pdf.contents(root / "_toc.yml")
    # without the API, which is as long as all the rest
    parts = [(caption, [page for page in row if page != "book/api"]) for caption, row in parts]
    whole = pdf.joined(build.html, parts)
    names = Counter(re.findall(r'\sid="([^"]*)"', whole))
    links = re.findall(r'\shref="#([^"]*)"', whole)
    assert len(links) > 200 and [name for name in links if name not in names] == []
    assert [name for name, times in names.items() if times > 1] == []
    listed = whole.partition("</nav>")[0].count("<a ")
    assert whole.count("<h1") == listed + 1
    assert listed >= len(chapters.chapter_names(root)) + 4
    images = re.findall(r'<img[^>]*\ssrc="([^"]*)"', whole)
    assert len(images) > 20 and [src for src in images if not (build.html / src).exists()] == []


def pages_of(content):
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", content))


def test_pdf_has_an_outline_and_is_linked_from_the_front_page(site):
    find_browser()
    path = pdf.build_pdf(site / "_build" / "html", site / "_toc.yml")
    content = path.read_bytes()
    assert pages_of(content) == 1 + len(PAGES)  # the contents, and a page for each
    titles = re.findall(rb"/Title\s*\(([^)]*)\)", content)
    assert [t for t in titles if b"chapter" in t] == [b"First chapter", b"Second chapter"]
    assert b"A part" in titles
    assert content.count(b"/Subtype /Link") >= 5
    front = (site / "_build/html/book/intro.html").read_text()
    assert f'<a href="../{pdf.NAME}">' in front and "the place of" not in front
    assert [p.name for p in path.parent.glob(".book-*")] == []
    assert not join(site).select(".book-pdf")  # the PDF does not offer itself


def test_formulas_of_the_book_are_drawn(build):
    find_browser()
    parts = [("", ["book/intro"]), ("Start", ["book/notation"])]
    page = build.html / ".formulas.html"
    try:
        page.write_text(pdf.joined(build.html, parts), encoding="utf-8")
        assert pages_of(pdf.print_pdf(page)) > 4  # it raises where one is not drawn
    finally:
        page.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "bad", [r'<span class="math">\(x\)</span>', '<img src="gone.png" alt="Gone">']
)
def test_what_is_not_drawn_is_not_printed(site, bad):
    find_browser()
    html = site / "_build" / "html"
    (html / pdf.NAME).write_bytes(b"as before")
    (html / "notebooks/b.html").write_text(PAGE.format("Second chapter", bad))
    with pytest.raises(pdf.PdfError, match="not drawn, so not printed: 1 (formulas|images); run"):
        pdf.build_pdf(html, site / "_toc.yml")
    assert (html / pdf.NAME).read_bytes() == b"as before"
    assert "the place of" in (html / "book/intro.html").read_text()


def test_page_that_was_not_built_is_named(site):
    (site / "_build/html/notebooks/a.html").unlink()
    with pytest.raises(pdf.PdfError, match="notebooks/a has not been built; run 'jepa book'"):
        join(site)


def test_no_browser_is_one_clear_line(site, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    monkeypatch.setattr(chapters, "find_root", lambda: site)
    done = CliRunner().invoke(app, ["pdf"])
    assert done.exit_code == 1
    assert done.output.strip().splitlines() == [
        "jepa: no Chromium on this machine, which prints the PDF; install one (Debian: apt-get install chromium)"
    ]


@pytest.mark.parametrize("there", pdf.BROWSERS)
def test_any_chromium_will_do(there, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: f"/bin/{name}" if name == there else None)
    assert pdf.find_browser() == f"/bin/{there}"
