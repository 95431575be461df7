"""The built book: its links, and its pages in a real browser, all outside this machine blocked.

Each page is visited once; the visit notes what it saw, and one test per kind of defect reads the
notes. The same visit is made to a small site with one defect per page, so that every test is seen
to fail."""

import functools
import http.server
import re
import shutil
import threading
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import PHONE, STICKS_OUT, find_browser, open_browser

DESKTOP = 1280
MIN_CONTRAST = 4.5  # WCAG AA for body text
MIN_ALT = 20  # characters: enough for a finding, too many for a file name or "figure"

# Formulas that were not typeset: elements Sphinx marks as maths without MathJax's output in them,
# its errors, and raw TeX.
UNTYPESET = r"""() => {
  const bad = [...document.querySelectorAll('.math, mjx-merror')].filter(e => e.matches('mjx-merror') || !e.querySelector('mjx-container'))
  const text = (document.querySelector('article') || document.body).cloneNode(true)
  text.querySelectorAll('pre, code, script, style, mjx-container').forEach(e => e.remove())
  const raw = text.textContent.match(/\\\(|\\\[|\$\$|\\begin\{/)
  return [...bad.map(e => e.outerHTML.slice(0, 80)), ...(raw ? ['raw TeX: ' + text.textContent.substr(raw.index, 60)] : [])]
}"""

# Images load when they come into view, so each is called for first.
IMAGES = """async () => {
  await Promise.all([...document.images].map(e => { e.loading = 'eager'; return e.decode().catch(() => null) }))
  return [...document.querySelectorAll('article img, figure img')].map(e => [e.src.slice(0, 80), e.alt,
                                                                                  e.complete && e.naturalWidth > 0])
}"""

# Text in the article whose colour is too near to what is painted behind it. Code has the theme's
# own accessible colours.
LOW_CONTRAST = """minimum => {
  const rgba = s => { const v = (s.match(/[\\d.]+/g) || []).map(Number); return [v[0], v[1], v[2], v.length > 3 ? v[3] : 1] }
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1)
  const behind = e => { const layers = []
    for (let a = e; a; a = a.parentElement) { const c = rgba(getComputedStyle(a).backgroundColor); layers.push(c); if (c[3] === 1) break }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]) }
  const luminance = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const bad = new Map()
  const walker = document.createTreeWalker(document.querySelector('article') || document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement
    if (!walker.currentNode.textContent.trim() || e.closest('pre, script, style, mjx-assistive-mml, .headerlink')
        || !e.checkVisibility() || !e.getClientRects().length) continue
    const back = behind(e), text = over(rgba(getComputedStyle(e).color), back)
    const [low, high] = [luminance(text), luminance(back)].sort((a, b) => a - b)
    const ratio = (high + 0.05) / (low + 0.05)
    if (ratio < minimum) bad.set(e.tagName + '.' + e.className, `${ratio.toFixed(2)} in <${e.tagName.toLowerCase()} class="${e.className}">: `
                                 + walker.currentNode.textContent.trim().slice(0, 40))
  }
  return [...bad.values()]
}"""

THEME = "() => document.documentElement.dataset.theme"


@dataclass
class Visit:
    """What one visit to one page saw."""

    title: str = ""
    outside: list[str] = field(default_factory=list)  # requests to other hosts, all refused
    failed: list[str] = field(default_factory=list)  # requests for our own files that failed
    console: list[str] = field(default_factory=list)  # errors only
    sticking_out: dict[int, list[str]] = field(default_factory=dict)  # by width
    formulas: int = 0
    untypeset: list[str] = field(default_factory=list)
    images: list[tuple[str, str, bool]] = field(
        default_factory=list
    )  # source, alt text, was it drawn
    low_contrast: dict[str, list[str]] = field(
        default_factory=dict
    )  # by theme; no "dark" where the button does not lead there


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def visit_all(browser, html: Path, pages: list[str]) -> dict[str, Visit]:
    """Serve a folder and visit its pages, which reach nothing but that server."""
    handler = functools.partial(_QuietHandler, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}/"
        with _Visitor(browser, base) as visitor:
            return {page: visitor.visit(page) for page in pages}
    finally:
        server.shutdown()
        server.server_close()


class _Visitor:
    """One window for all visits: what pages share is fetched once, as by a reader."""

    def __init__(self, browser, base: str):
        size = {"width": PHONE, "height": 800}
        self.context = browser.new_context(viewport=size, color_scheme="light")
        self.page, self.base, self.seen = self.context.new_page(), base, Visit()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.seen.console.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("response", self._response)
        self.page.on("requestfailed", self._failed)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.context.close()

    def _console(self, message) -> None:
        if message.type == "error":
            self.seen.console.append(message.text)

    def _request(self, request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:", "about:")):
            self.seen.outside.append(request.url)

    def _response(self, response) -> None:
        if response.status >= 400:
            self.seen.failed.append(f"{response.status} {response.url}")

    def _failed(self, request) -> None:
        if request.url.startswith(self.base):
            self.seen.failed.append(f"{request.failure} {request.url}")

    def visit(self, path: str) -> Visit:
        seen = self.seen = Visit()
        self.page.set_viewport_size({"width": PHONE, "height": 800})
        self.page.goto(self.base + path)
        _look(self.page, seen)
        self.page.evaluate("() => localStorage.clear()")  # the theme, too
        self.seen = Visit()  # what leaving breaks off is no page's fault
        self.page.goto("about:blank")
        return seen


def _look(page, seen: Visit) -> None:
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("() => document.fonts.ready.then(() => null)")

    seen.title = page.title()
    seen.formulas = page.locator("mjx-container").count()
    seen.untypeset = page.evaluate(UNTYPESET)
    seen.images = [tuple(image) for image in page.evaluate(IMAGES)]
    for width in (PHONE, DESKTOP):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)  # the theme folds its sidebar
        seen.sticking_out[width] = page.evaluate(STICKS_OUT)

    page.add_style_tag(
        content="* { transition: none !important }"
    )  # a colour on its way is no colour to measure
    seen.low_contrast["light"] = page.evaluate(LOW_CONTRAST, MIN_CONTRAST)
    button = page.locator("button.theme-switch-button:visible").first
    for _ in range(3):  # it goes round: the system's, light, dark
        if button.count() and page.evaluate(THEME) != "dark":
            button.click()
    if page.evaluate(THEME) == "dark":
        seen.low_contrast["dark"] = page.evaluate(LOW_CONTRAST, MIN_CONTRAST)


def _theme_problems(visit: Visit) -> list[str]:
    problems = [
        f"{theme}: {where}" for theme, places in visit.low_contrast.items() for where in places
    ]
    return (
        problems
        if "dark" in visit.low_contrast
        else [*problems, "the button does not lead to dark mode"]
    )


# Each kind of defect: what a visit says about it, one line per finding.
CHECKS = {
    "a title": lambda v: [] if v.title else ["the page has no title"],
    "nothing requested from outside": lambda v: v.outside,
    "no failed request to our own files": lambda v: v.failed,
    "no console error": lambda v: v.console,
    "no horizontal scroll": lambda v: [
        f"{width} px: {what}" for width, places in v.sticking_out.items() for what in places
    ],
    "formulas typeset": lambda v: v.untypeset,
    "alt text on every figure": lambda v: [
        f"{s}: {alt!r}" for s, alt, _ in v.images if len(alt) < MIN_ALT or alt in s
    ],
    "every image drawn": lambda v: [s for s, _, drawn in v.images if not drawn],
    "readable in light and dark": _theme_problems,
}

# ---------------------------------------------------------------------------------------------------------------------
# The book


def test_book_builds_without_a_warning(build):
    assert build.returncode == 0, (
        "\n".join(re.findall(r".*(?:WARNING:|ERROR:|Error: ).*", build.log)) or build.log[-2000:]
    )


class _Links(HTMLParser):
    """The addresses a page points to, and the places in it that can be pointed to."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        self.links += [given[key] for key in ("href", "src") if given.get(key)]
        if given.get("http-equiv", "").lower() == "refresh":
            self.links.append(given["content"].partition("url=")[2])


def dead_links(html: Path) -> list[str]:
    """Links between the pages of a built book that lead to no file or no place in it."""
    pages = {
        p.resolve(): _Links(p.read_text(encoding="utf-8"))
        for p in html.rglob("*.html")
        if "_static" not in p.parts
    }
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists() or (
                place and target in pages and place not in pages[target].ids
            ):
                dead.append(f"{path.relative_to(html.resolve())}: {link}")
    return dead


def test_links_between_pages_lead_somewhere(build):
    """Also the scoreboard's links to the cells, which Sphinx knows nothing of."""
    assert (build.html / "index.html").exists()
    assert dead_links(build.html) == []


def test_dead_links_are_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="#gone"></a><a href="b.html#x"></a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a>')
    assert dead_links(tmp_path) == ["a.html: #gone", "a.html: b.html#x", "a.html: c.png"]


@pytest.fixture(scope="module")
def pages(build) -> list[str]:
    found = sorted(
        str(p.relative_to(build.html))
        for p in build.html.rglob("*.html")
        if "_static" not in p.parts
    )
    found = [page for page in found if page != "index.html"]  # only sends on to the first page
    assert found, f"the book was not built:\n{build.log[-2000:]}"
    return found


@pytest.fixture(scope="module")
def visits(browser, build, pages) -> dict[str, Visit]:
    return visit_all(browser, build.html, pages)


@pytest.mark.parametrize("name", CHECKS)
def test_every_page(name, visits):
    assert {page: found for page, visit in visits.items() if (found := CHECKS[name](visit))} == {}


def test_formulas_were_seen(visits):
    """MathJax missing altogether would leave no error behind."""
    assert visits["book/notation.html"].formulas > 0
    assert all(
        visit.formulas > 0 for page, visit in visits.items() if page.startswith("notebooks/")
    )


def test_figures_were_seen(visits):
    assert all(visit.images for page, visit in visits.items() if page.startswith("notebooks/"))


MAX_PAGE = 6_000_000  # bytes of HTML, figures included


def test_no_page_is_heavy(build, pages):
    assert {
        page: size for page in pages if (size := (build.html / page).stat().st_size) > MAX_PAGE
    } == {}


@pytest.mark.parametrize("scripts", [True, False])
def test_film_plays_in_the_published_page_without_a_server(browser, build, scripts):
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        page.route("http*://**", lambda route: route.abort())
        page.goto((build.html / "notebooks" / "03_toy_spiral.html").as_uri())
        film = page.locator("figure:has(.film)")
        assert film.locator("img").is_visible() is not scripts
        assert film.locator(".film").is_visible() is scripts
        if scripts:
            film.locator("input").fill("0")
            first = film.locator(".film-reading").all_inner_texts()
            assert all("R²" in text for text in first)
            film.get_by_role("button", name="Play").click()
            page.wait_for_function("() => document.querySelector('.film input').value > 2")
            film.get_by_role("button", name="Pause").click()
            assert film.locator(".film-reading").all_inner_texts() != first


@pytest.mark.parametrize("scripts", [True, False])
def test_playground_works_in_the_published_page_without_a_server(browser, build, scripts):
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        page.route("http*://**", lambda route: route.abort())
        page.goto((build.html / "book" / "notation.html").as_uri())
        play = page.locator("figure.play")
        play.locator(".play-live" if scripts else ".play-still").wait_for()
        assert play.locator("img").is_visible() is not scripts
        if scripts:
            play.get_by_role("button", name="all at 0").click()
            value = float(play.locator("dd[data-name=sigreg]").get_attribute("data-value"))
            assert value == pytest.approx(0.409 * 24, abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# A small site with one defect per page

GOOD = """<!doctype html><html data-theme="light"><head><title>A page</title><link rel="icon" href="data:,">
<style>html[data-theme=dark] body { background: #111; color: #eee }</style></head><body><article>
<p>Some text.</p><img alt="The loss falls by half in three steps" src="dot.svg"></article>
<button class="theme-switch-button" onclick="document.documentElement.dataset.theme = 'dark'">theme</button></body></html>"""

DEFECTS = {  # check: (what to replace, with what)
    "a title": ("A page", ""),
    "nothing requested from outside": (
        "Some text.",
        '<script src="https://example.org/a.js"></script>',
    ),
    "no failed request to our own files": ("Some text.", '<script src="missing.js"></script>'),
    "no console error": ("Some text.", "<script>throw Error('bad')</script>"),
    "no horizontal scroll": ("Some text.", '<div style="width: 400px">wide</div>'),
    "formulas typeset": ("Some text.", r'<span class="math">\(x^2\)</span>'),
    "alt text on every figure": ("The loss falls by half in three steps", "dot.svg"),
    "every image drawn": ('src="dot.svg"', 'src="data:image/png;base64,AAAA"'),
    "readable in light and dark": (
        "background: #111; color: #eee",
        "background: #111; color: #444",
    ),
}


@pytest.fixture(scope="module")
def bad_visits(browser, tmp_path_factory) -> dict[str, Visit]:
    site = tmp_path_factory.mktemp("site")
    (site / "dot.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    )
    (site / "good.html").write_text(GOOD)
    (site / "no-dark.html").write_text(GOOD.replace("dataset.theme", "dataset.other"))
    for number, (old, new) in enumerate(DEFECTS.values()):
        assert old in GOOD
        (site / f"{number}.html").write_text(GOOD.replace(old, new))
    named = dict(
        zip(DEFECTS, (f"{n}.html" for n in range(len(DEFECTS)))),
        good="good.html",
        no_dark="no-dark.html",
    )
    seen = visit_all(browser, site, list(named.values()))
    return {name: seen[page] for name, page in named.items()}


def test_a_good_page_passes_every_check(bad_visits):
    assert {
        name: found for name, check in CHECKS.items() if (found := check(bad_visits["good"]))
    } == {}


@pytest.mark.parametrize("name", CHECKS)
def test_check_sees_its_defect(name, bad_visits):
    assert CHECKS[name](bad_visits[name])


def test_dark_mode_that_does_not_come_is_seen(bad_visits):
    assert CHECKS["readable in light and dark"](bad_visits["no_dark"]) == [
        "the button does not lead to dark mode"
    ]


def test_no_browser_is_a_failure_only_where_one_is_required(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("JEPA_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        find_browser()
    monkeypatch.setenv("JEPA_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        find_browser()
