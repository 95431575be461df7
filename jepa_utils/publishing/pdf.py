"""The whole book as one PDF: the built pages in the order of the contents, printed by a browser."""

from __future__ import annotations

import re
import shutil
import tempfile
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from jepa_utils.files import write_whole

NAME = "runnable-jepa-book.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# Where the front page gets its link to the file; without the file there is no link.
PLACE = "<!-- the place of the link to the PDF -->"
LONG = 600_000  # milliseconds: hundreds of formulas on a slow machine
READY = "() => (window.MathJax ? MathJax.startup.promise : Promise.resolve()).then(() => null)"
MISSING = """() => ({
  formulas: [...document.querySelectorAll('.math')]
    .filter(e => !e.querySelector('mjx-container')).length,
  images: [...document.images].filter(e => !e.complete || !e.naturalWidth).length,
})"""
FOOTER = (
    '<div style="width: 100%; font: 8px sans-serif; color: #555; text-align: center">'
    '<span class="pageNumber"></span></div>'
)
STYLE = """
  body { padding: 0 !important; }
  .book-page { break-before: page; }
  .bd-article.book-page h1 { display: block !important; }
  .book-contents ul { list-style: none; padding-left: 1rem; }
  .book-contents .part { font-weight: bold; margin-top: 0.75rem; }
"""


class PdfError(RuntimeError):
    """The PDF cannot be made."""


def find_browser() -> str:
    """Path of a Chromium on this machine.

    Raises
    ------
    PdfError
        If there is none.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise PdfError(
        "no Chromium on this machine, which prints the PDF; install one "
        "(Debian: apt-get install chromium)"
    )


def contents(toc: Path) -> list[tuple[str, list[str]]]:
    """The book's parts and their pages, in order.

    Parameters
    ----------
    toc : Path
        ``_toc.yml``.

    Returns
    -------
    list of (str, list of str)
        Caption and pages, such as ``book/notation``. The front page comes first, without caption.
    """
    content = yaml.safe_load(toc.read_text(encoding="utf-8"))
    parts = [("", [content["root"]])]
    for part in content.get("parts") or [content]:
        parts.append((part.get("caption", ""), [row["file"] for row in part.get("chapters", ())]))
    return parts


def place_of(page: str, place: str = "") -> str:
    """The name that a page, or a place in it, has in the whole book."""
    name = page.replace("/", "-")
    return f"{name}--{place}" if place else name


def joined(html: Path, parts: list[tuple[str, list[str]]]) -> str:
    """One HTML page with all of the book: its contents, then every page's article.

    Parameters
    ----------
    html : Path
        The folder of the built book.
    parts : list of (str, list of str)
        As `contents` gives them.

    Returns
    -------
    str
        To be stored in that folder. Links between pages lead within it, and names of places are
        unique. Players and playgrounds are the stills that stand in for them on paper.

    Raises
    ------
    PdfError
        If a page has not been built.
    """
    pages = [page for _, row in parts for page in row]
    articles, titles, head = {}, {}, ""
    for page in pages:
        path = html / f"{page}.html"
        if not path.exists():
            raise PdfError(f"{page} has not been built; run 'jepa book'")
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        head = head or _head(soup, page)
        article = soup.find("article")
        titles[page] = _title(article.find("h1"))
        articles[page] = str(_moved(article, page, pages))
    listed = "".join(_part(caption, row, titles) for caption, row in parts[1:])
    title = titles[pages[0]]
    body = "".join(
        f'<article class="bd-article book-page" id="{place_of(page)}">{articles[page]}</article>'
        for page in pages
    )
    return (
        '<!doctype html><html lang="en" data-theme="light" data-content_root="./"><head>'
        f'<meta charset="utf-8"><title>{escape(title)}</title>{head}<style>{STYLE}</style></head>'
        '<body><div class="bd-content"><nav class="bd-article book-contents">'
        f'<p class="h1">{escape(title)}</p><p class="h2">Contents</p><ul>{listed}</ul></nav></div>'
        '<main class="bd-main"><div class="bd-content"><div class="bd-article-container">'
        f"{body}</div></div></main></body></html>"
    )


def _title(heading: Tag) -> str:
    text = "".join(heading.find_all(string=True))
    return text.removesuffix("#").strip()


def _part(caption: str, pages: list[str], titles: dict[str, str]) -> str:
    rows = "".join(
        f'<li><a href="#{place_of(page)}">{escape(titles[page])}</a></li>' for page in pages
    )
    return f'<li class="part">{escape(caption)}</li>{rows}'


def _head(soup: BeautifulSoup, page: str) -> str:
    """Styles and MathJax of a page, for one that lies in the folder's root."""
    kept = [*soup.find_all("link", rel="stylesheet")]
    kept += [s for s in soup.find_all("script") if "mathjax" in str(s).lower()]
    for tag in kept:
        for key in ("href", "src"):
            if tag.get(key):
                tag[key] = _from_root(page, tag[key])
    return "".join(map(str, kept))


def _from_root(page: str, address: str) -> str:
    """An address as it is written on a page, seen from the folder's root."""
    if urlsplit(address).scheme or address.startswith(("#", "/")):
        return address
    parts = []
    for part in [*page.split("/")[:-1], *address.split("/")]:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _moved(article: Tag, page: str, pages: list[str]) -> Tag:
    """A page's article, with names and addresses that hold in the whole book."""
    for tag in article.select("script, noscript, button, a.headerlink, .book-pdf"):
        tag.decompose()
    for tag in article.find_all(True):
        for key in ("id", "name"):
            if tag.get(key):
                tag[key] = place_of(page, tag[key])
        if tag.get("src"):
            tag["src"] = _from_root(page, tag["src"])
            del tag["loading"]
        if tag.get("href"):
            tag["href"] = _within(page, tag["href"], pages)
    article.name = "div"
    return article


def _within(page: str, address: str, pages: list[str]) -> str:
    """Where a link leads in the whole book; other addresses stay."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return address
    path = _from_root(page, parts.path) if parts.path else f"{page}.html"
    target = unquote(path).removesuffix(".html")
    if target not in pages:
        return path
    return "#" + place_of(target, unquote(parts.fragment))


def print_pdf(page: Path) -> bytes:
    """Print an HTML file, with formulas drawn, an outline of its headings and page numbers.

    Raises
    ------
    PdfError
        If there is no browser, or a formula or an image is not drawn.
    """
    browser_path = find_browser()
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=browser_path, args=OPTIONS) as browser,
    ):
        tab = browser.new_page()
        tab.route(re.compile("^https?:"), lambda route: route.abort())  # nothing from outside
        tab.goto(page.as_uri(), timeout=LONG)
        tab.evaluate(READY)
        tab.evaluate("() => document.fonts.ready.then(() => null)")
        missing = [f"{count} {what}" for what, count in tab.evaluate(MISSING).items() if count]
        if missing:
            raise PdfError(f"not drawn, so not printed: {', '.join(missing)}; run 'jepa book'")
        margin = dict(top="16mm", bottom="16mm", left="16mm", right="16mm")
        return tab.pdf(
            format="A4", margin=margin, scale=0.8, print_background=True, outline=True, tagged=True,
            display_header_footer=True, header_template="<span></span>", footer_template=FOOTER,
        )  # fmt: skip


def build_pdf(html: Path, toc: Path) -> Path:
    """Print the built book into one PDF beside its pages, and link it from the front page.

    Parameters
    ----------
    html : Path
        The folder of the built book.
    toc : Path
        ``_toc.yml``.

    Returns
    -------
    Path
        The PDF. Stopped before it is whole, one that was there before is still there.

    Raises
    ------
    PdfError
        If there is no browser, or a page has not been built.
    """
    find_browser()
    parts = contents(toc)
    whole = joined(html, parts)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=html, prefix=".book-", suffix=".html"
    ) as file:
        file.write(whole)
        file.flush()
        content = print_pdf(Path(file.name))
    write_whole(html / NAME, content)
    front = html / f"{parts[0][1][0]}.html"
    up = "../" * parts[0][1][0].count("/")
    link = f'<p class="book-pdf"><a href="{up}{NAME}">The whole book as one PDF</a></p>'
    front.write_text(front.read_text(encoding="utf-8").replace(PLACE, link), encoding="utf-8")
    return html / NAME
