"""What a built page has beside its text: head, light images, unique names, a page for none."""

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from browser import PHONE, open_browser
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from PIL import Image
from sphinx.cmd.build import main as sphinx_build

from jepa_utils.publishing import pages

SITE = "https://example.org/book/"


def png(width=40, height=20, colour=(255, 0, 0, 255)):
    content = io.BytesIO()
    Image.new("RGBA", (width, height), colour).save(content, "PNG")
    return content.getvalue()


def stored(content):
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="A figure">'


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


def test_formula_stands_beside_its_source_for_browsers_without_scripts():
    body = r'<p><span class="math notranslate nohighlight">\(x &lt; t\)</span>.</p>'
    assert pages.with_readable_formulas(body) == (
        r'<p><span class="math notranslate nohighlight">\(x &lt; t\)</span>'
        '<noscript><math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow>'
        "<mi>x</mi><mo>&#x0003C;</mo><mi>t</mi></mrow></math></noscript>.</p>"
    )
    block = '<div class="math notranslate nohighlight" id="e">\n<span class="eqno">(1)</span>\\[t\\]</div>'
    assert pages.with_readable_formulas(block).endswith(
        'display="block"><mrow><mi>t</mi></mrow></math></noscript>'
    )


# ---------------------------------------------------------------------------------------------------------------------
# Images


def test_images_become_files_of_known_size_that_load_when_seen(tmp_path):
    one, two = png(40, 20), png(30, 10)
    body = pages.images_to_files(stored(one) + stored(two) + stored(one), tmp_path, "../")
    tags = BeautifulSoup(body, "html.parser").find_all("img")
    assert [tag.get("loading") for tag in tags] == [None, "lazy", "lazy"]
    assert [(tag["width"], tag["height"]) for tag in tags] == [
        ("40", "20"),
        ("30", "10"),
        ("40", "20"),
    ]
    assert [(tmp_path / tag["src"].removeprefix("../")).read_bytes() for tag in tags] == [
        one,
        two,
        one,
    ]
    assert len(list((tmp_path / "_images").iterdir())) == 2
    assert all(tag["src"].startswith("../_images/") and tag["alt"] == "A figure" for tag in tags)


def test_both_sizes_of_a_figure_become_files(tmp_path):
    wide, narrow = png(40, 20), png(10, 30)
    source, image = (stored(content) for content in (narrow, wide))
    source = source.replace("<img src", '<source media="print" width="5" height="15" srcset')
    sized = image.replace("<img", '<img width="20" height="10"')
    body = f"<picture>{source}{sized}</picture>"
    picture = BeautifulSoup(pages.images_to_files(body, tmp_path, ""), "html.parser").picture
    assert (tmp_path / picture.source["srcset"]).read_bytes() == narrow
    assert (tmp_path / picture.img["src"]).read_bytes() == wide
    assert picture.source["media"] == "print" and picture.source["width"] == "5"
    assert (picture.img["width"], picture.img["height"], picture.img["alt"]) == (
        "20",
        "10",
        "A figure",
    )


@pytest.mark.parametrize(
    "size, box", [((40, 20), (80, 35, 1120, 595)), ((10, 100), (572, 40, 627, 590))]
)
def test_social_card_shows_the_whole_figure_on_white(size, box):
    card = Image.open(io.BytesIO(pages.social_card(png(*size))))
    assert card.size == pages.CARD and card.mode == "RGB"
    assert card.getpixel((2, 2)) == (255, 255, 255)
    red = Image.eval(card.getchannel("G"), lambda v: 255 if v < 128 else 0).getbbox()
    assert all(abs(a - b) <= 40 for a, b in zip(red, box, strict=True))
    assert abs((red[2] - red[0]) / (red[3] - red[1]) - size[0] / size[1]) < 0.05 * size[0] / size[1]
    clear = Image.open(io.BytesIO(pages.social_card(png(colour=(0, 0, 0, 0)))))
    assert clear.getpixel((600, 300)) == (255, 255, 255)


# ---------------------------------------------------------------------------------------------------------------------
# The head


def page_of(*children):
    document = new_document("page")
    document += children
    return document


def paragraph(text):
    return nodes.paragraph("", text)


def test_description_is_the_first_paragraph_outside_boxes():
    box = nodes.note("", paragraph("A box at the top that says where the chapter comes from."))
    maths = nodes.paragraph("", "Behind each point hides one number, ", nodes.math("", r"t_k"))
    maths += nodes.Text(", which no line through the data reads.")
    assert pages.description(page_of(box, paragraph("Too short."), maths)) == (
        "Behind each point hides one number, tk, which no line through the data reads."
    )
    assert pages.description(page_of(box)) == ""


def test_long_description_ends_with_a_sentence_or_a_word():
    sentence = "This sentence is a good deal longer than sixty characters, so it may stand alone. "
    text = pages.description(page_of(paragraph(sentence * 3)))
    assert text == (sentence * 2).strip()
    text = pages.description(page_of(paragraph("word " * 60)))
    assert text.endswith("word …") and len(text) <= pages.DESCRIPTION + 2


def test_head_tags_are_escaped_and_empty_ones_left_out():
    tags = pages.head_tags('A "title"', "The book", "What & why", "", "")
    assert '<meta property="og:title" content="A &quot;title&quot;" />' in tags
    assert '<meta name="description" content="What &amp; why" />' in tags
    assert "og:url" not in tags and "og:image" not in tags
    assert 'name="twitter:card" content="summary" />' in tags
    tags = pages.head_tags("A", "B", "C", SITE, SITE + "i.png")
    assert f'<meta property="og:image" content="{SITE}i.png" />' in tags
    assert 'content="summary_large_image"' in tags


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small site whose address is known."""
    root = tmp_path_factory.mktemp("small")
    (root / "conf.py").write_text(
        "extensions = ['jepa_utils.publishing.pages']\nhtml_title = 'The book'\nroot_doc = 'book/intro'\n"
    )
    (root / "book").mkdir()
    figure = f".. raw:: html\n\n   {stored(png())}\n"
    text = "The paragraph from which others learn what is on this page.\n\n"
    (root / "book/intro.rst").write_text(
        f"Front\n=====\n\n{text}{figure}\n.. toctree::\n\n   plain\n   own\n"
    )
    (root / "book/plain.rst").write_text(f"Plain\n=====\n\n{text}")
    (root / "book/own.rst").write_text(f"Own\n===\n\n{text}{figure}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPA_SITE_URL", SITE.rstrip("/"))
        out = root / "out"
        assert sphinx_build(["-q", "-d", str(root / "trees"), str(root), str(out)]) == 0
    return out


class Tags(HTMLParser):
    """The tags of a file with their attributes; much quicker than a tree."""

    def __init__(self, path):
        super().__init__()
        self.all = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def values(self, *keys):
        return [given[key] for _, given in self.all for key in keys if given.get(key)]

    def metas(self):
        rows = [given for tag, given in self.all if tag == "meta"]
        return {row.get("property") or row.get("name"): row.get("content") for row in rows}

    def addresses(self):
        return [a for a in self.values("href", "src", "action") if not a.startswith("#")]


def test_preview_has_an_address_and_a_picture_of_our_own(small):
    for page, card in [("intro", "intro"), ("own", "own"), ("plain", "intro")]:
        found = Tags(small / f"book/{page}.html").metas()
        assert found["og:url"] == f"{SITE}book/{page}.html"
        assert found["og:image"] == f"{SITE}_images/card-book-{card}.png"
        assert (
            found["og:site_name"] == "The book"
            and found["og:title"] == page.replace("intro", "front").title()
        )
        assert found["description"] == found["og:description"]
        assert found["description"].startswith("The paragraph from which")
        assert Image.open(small / found["og:image"].removeprefix(SITE)).size == pages.CARD
    assert not (small / "_images/card-book-plain.png").exists()


def test_missing_page_works_at_any_depth(small):
    found = Tags(small / "404.html").addresses()
    assert [a for a in found if not a.startswith("https://")] == []
    found = [a for a in found if a.startswith(SITE)]  # the theme names its makers, too
    assert len(found) > 5
    assert f"{SITE}book/intro.html" in found
    assert all(
        (small / a.removeprefix(SITE).partition("?")[0]).exists() for a in found if a != SITE
    )


# ---------------------------------------------------------------------------------------------------------------------
# The book


@pytest.fixture(scope="module")
def tags(build):
    """Every page of the book but the one that only sends on, parsed."""
    found = [p for p in build.html.rglob("*.html") if "_static" not in p.parts]
    return {
        str(p.relative_to(build.html)): Tags(p)
        for p in sorted(found)
        if p != build.html / "index.html"
    }


def test_names_are_unique_on_every_page(tags):
    counts = {page: Counter(s.values("id")) for page, s in tags.items()}
    assert {
        page: [n for n, k in c.items() if k > 1]
        for page, c in counts.items()
        if max(c.values()) > 1
    } == {}
    assert counts["notebooks/03_toy_spiral.html"]["the-question"] == 1


def test_every_page_says_what_it_is(tags, build):
    made = {"404.html", "genindex.html", "search.html"}
    assert made < set(tags)
    seen = set()
    for page in set(tags) - made:
        found = tags[page].metas()
        assert len(found["description"]) >= 40 and not re.search(r"[<\\]", found["description"]), (
            page
        )
        assert found["og:title"] and found["og:site_name"] == "The Runnable JEPA Book"
        seen.add(found["description"])
    assert len(seen) == len(tags) - len(made)


def test_no_icon_script_and_missing_page_there(tags, build):
    assert [
        page
        for page, s in tags.items()
        if any("fontawesome.js" in address for address in s.addresses())
    ] == []
    assert not list(build.html.rglob("fontawesome.js*"))
    assert all(
        (build.html / a.partition("?")[0].partition("#")[0]).exists()
        for a in tags["404.html"].addresses()
    )
    html = pages.whole_addresses((build.html / "404.html").read_text(encoding="utf-8"), SITE)
    whole = re.findall(r'\s(?:href|src|action|data-content_root)="([^"]*)"', html)
    assert [a for a in whole if not a.startswith((SITE, "#"))] == []


def test_all_images_but_the_first_of_a_page_are_lazy(tags):
    images = {page: [given for tag, given in s.all if tag == "img"] for page, s in tags.items()}
    assert sum(map(len, images.values())) > 20
    assert [
        page for page, row in images.items() if any(not i.get("loading") for i in row[1:])
    ] == []
    assert [
        i["src"][:30] for row in images.values() for i in row if i["src"].startswith("data:")
    ] == []


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


TAB_STOPS = "() => [...document.querySelectorAll('mjx-container, mjx-container *')].filter(e => e.tabIndex >= 0).length"
ICONS = """async () => { await document.fonts.ready
  const icons = [...document.querySelectorAll('.fa-solid, .fas')].filter(e => e.checkVisibility())
  return [icons.length, icons.filter(e => getComputedStyle(e, '::before').content === 'none' || e.offsetWidth < 8).length,
          document.fonts.check('900 16px "Font Awesome 6 Free"')] }"""


def test_formulas_are_no_tab_stops_and_icons_show(build, browser):
    page = browser.new_page()
    page.goto((build.html / "book/notation.html").as_uri())
    page.evaluate("() => MathJax.startup.promise")
    assert page.locator("mjx-container").count() > 30
    assert page.evaluate(TAB_STOPS) == 0
    shown, broken, font = page.evaluate(ICONS)
    assert shown >= 4 and broken == 0 and font


def test_paper_is_light_and_has_nothing_to_click(build, browser):
    page = browser.new_page()
    page.add_init_script("localStorage.mode = localStorage.theme = 'dark'")
    page.goto((build.html / "book/notation.html").as_uri())
    theme = "() => document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.evaluate("""() => { window.themes = []
      for (const name of ['beforeprint', 'afterprint'])
        window.addEventListener(name, () => themes.push(document.documentElement.dataset.theme)) }""")
    page.pdf()
    assert page.evaluate("() => themes") == ["light", "dark"]
    assert page.evaluate(theme) == "dark"
    page.emulate_media(media="print")
    for what in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".prev-next-area", ".headerlink"):
        assert page.locator(what).count() and not page.locator(f"{what}:visible").count(), what
    page.goto((build.html / "notebooks/03_toy_spiral.html").as_uri())
    page.locator(".copybtn").first.wait_for(state="attached")
    assert not page.locator(".copybtn:visible").count()
    assert page.locator("details.hide").count() >= 3
    assert not page.locator("details.hide:visible").count()
    assert page.evaluate(
        "() => [...document.querySelectorAll('.cell_input pre')].every(e => getComputedStyle(e).whiteSpace === 'pre-wrap')"
    )


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_drawer_of_a_phone_closes_on_an_entry_and_beside_it(side, build, browser):
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((build.html / "book/notation.html").as_uri())
    drawer = page.locator("dialog[open]")
    for entry in (True, False):
        page.locator(f".{side}-toggle").first.click()
        drawer.wait_for()
        if entry:
            drawer.locator('a[href^="#"]').first.click()
        else:
            page.mouse.click(PHONE - 5 if side == "primary" else 5, 790)
        drawer.wait_for(state="detached")
        assert page.url.endswith(("notation.html#symbols", "notation.html#"))


def test_formulas_can_be_read_without_scripts(build, browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((build.html / "book/notation.html").as_uri())
    assert page.locator("math:visible").count() > 30
    assert page.locator(".math:visible").count() == 0
    text = page.locator("article").inner_text()
    assert "\\(" not in text and "λ" in text and "SIGReg" in text
