"""What a built page needs beside its text: a head for others to quote, light images, unique names.

Also the page that stands where there is none, and formulas for readers without scripts.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config

from jepa_utils.files import write_whole

DESCRIPTION = 200  # characters, about what a search engine shows
CARD = (1200, 630)  # pixels of a social preview
STORED_IMAGE = re.compile(
    r'<(?P<tag>img|source)\b[^>]*?"(?P<address>data:image/(?P<kind>png|webp);base64,(?P<data>[^"]+))"[^>]*>'
)
# Sphinx-exercise gives the contents of every exercise and every solution the same name.
REPEATED_NAMES = re.compile(r' id="(?:exercise|solution)-content"')
FORMULA = re.compile(
    r'<(span|div) class="math notranslate nohighlight"[^>]*>(.*?)</\1>(?!</span>)', re.DOTALL
)
EQUATION_NUMBER = re.compile(r'<span class="eqno">.*?</span>', re.DOTALL)
# The theme's icons are in its font already; the script draws them once more, from 1.5 MB.
ICON_SCRIPT = re.compile(r"[ \t]*<script[^>]*/fontawesome\.js[^>]*></script>\n?")


def setup(app: Sphinx) -> None:
    """Connect all of it to Sphinx."""
    app.connect("config-inited", add_address)
    app.connect("builder-inited", add_filter)
    app.connect("html-page-context", finish_page, priority=800)
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", finish_site)


def add_address(app: Sphinx, config: Config) -> None:
    """Take the site's address from ``JEPA_SITE_URL``, which the publishing environment sets.

    The book has no fixed home. Without an address a page names no picture for others to show, for
    that has to be a whole address, and the page for what was not found works in one folder only.
    """
    if url := os.environ.get("JEPA_SITE_URL"):
        config.html_baseurl = url.rstrip("/") + "/"


def add_filter(app: Sphinx) -> None:
    """Give ``layout.html`` the filter that leaves out the icon script."""
    if app.builder.format == "html":
        filters = app.builder.templates.environment.filters
        filters["without_icon_script"] = lambda html: ICON_SCRIPT.sub("", html)


def finish_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Write a page's images to files, unique names, formulas without scripts, and its head."""
    if context.get("body"):
        body = REPEATED_NAMES.sub("", context["body"])
        pictures = [found for found in STORED_IMAGE.finditer(body) if found["tag"] == "img"]
        body = images_to_files(body, Path(app.outdir), "../" * pagename.count("/"))
        context["body"] = with_readable_formulas(body)
        if pictures and app.config.html_baseurl and doctree is not None:
            card = social_card(base64.b64decode(pictures[0]["data"]))
            write_whole(Path(app.outdir) / "_images" / _card_name(pagename), card)
    if doctree is not None:
        title = re.sub(r"<[^>]*>", "", str(context.get("title", "")))
        image = ""
        if app.config.html_baseurl:
            own = bool(context.get("body")) and bool(pictures)
            named = pagename if own else app.config.root_doc
            if own or STORED_IMAGE.search(_raw_html(app.env.get_doctree(app.config.root_doc))):
                image = f"{app.config.html_baseurl}_images/{_card_name(named)}"
        page = context.get("pageurl") or ""
        tags = head_tags(unescape(title), app.config.html_title, description(doctree), page, image)
        context["metatags"] = context.get("metatags", "") + tags


def _card_name(pagename: str) -> str:
    return f"card-{pagename.replace('/', '-')}.png"


def _raw_html(doctree: nodes.document) -> str:
    return "".join(node.astext() for node in doctree.findall(nodes.raw))


def images_to_files(body: str, out: Path, up: str) -> str:
    """Pictures that are stored in a page become files, which load when they come into view.

    Parameters
    ----------
    body : str
        HTML of a page.
    out : Path
        The folder of the built book; the files go to ``_images`` in it.
    up : str
        The way from the page to that folder, "" or "../".

    Returns
    -------
    str
        The HTML with addresses in place of the pictures. The first one loads at once: it is what
        the reader came for. Sizes are kept, so that nothing moves when one arrives.
    """
    folder, count = out / "_images", 0

    def moved(found: re.Match) -> str:
        nonlocal count
        tag, content = found[0], base64.b64decode(found["data"])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{found['kind']}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            write_whole(folder / name, content)
        added = ""
        if found["tag"] == "img":
            count += 1
            added += ' loading="lazy"' if count > 1 else ""
            if " width=" not in tag:
                width, height = Image.open(io.BytesIO(content)).size
                added += f' width="{width}" height="{height}"'
        return tag.replace(found["address"], f"{up}_images/{name}").replace(
            f"<{found['tag']}", f"<{found['tag']}{added}", 1
        )

    return STORED_IMAGE.sub(moved, body)


def with_readable_formulas(body: str) -> str:
    """Beside each formula, for browsers without scripts, one that can be read."""

    def both(found: re.Match) -> str:
        source = unescape(EQUATION_NUMBER.sub("", found[2])).strip()
        source = re.sub(r"^\\[(\[]|\\[)\]]$", "", source)
        display = "block" if found[1] == "div" else "inline"
        return f"{found[0]}<noscript>{convert(source, display=display)}</noscript>"

    return FORMULA.sub(both, body)


def description(doctree: nodes.document) -> str:
    """A page's first paragraph outside boxes and tables, cut at the end of a sentence or word."""
    for paragraph in doctree.findall(nodes.paragraph):
        if any(isinstance(parent, (nodes.Admonition, nodes.table)) for parent in _above(paragraph)):
            continue
        parts = []
        for node in paragraph.findall(lambda n: isinstance(n, (nodes.Text, nodes.math))):
            if isinstance(node, nodes.math):
                parts.append(re.sub(r"<[^>]*>", "", convert(node.astext())))
            elif not isinstance(node.parent, nodes.math):
                parts.append(str(node))
        text = " ".join(unescape("".join(parts)).split())
        if len(text) <= DESCRIPTION:
            if len(text) >= 40:
                return text
            continue
        cut = text[:DESCRIPTION]
        end = max(cut.rfind(mark) for mark in (". ", "? ", "! "))
        return cut[: end + 1] if end >= 60 else cut[: cut.rfind(" ")] + " …"
    return ""


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while node := node.parent:
        yield node


def head_tags(title: str, site: str, text: str, page: str, image: str) -> str:
    """HTML for a page's head: what a search engine or a chat shows of it; empty ones left out."""
    rows = [
        ("name", "description", text),
        ("property", "og:type", "article"),
        ("property", "og:site_name", site),
        ("property", "og:title", title),
        ("property", "og:description", text),
        ("property", "og:url", page),
        ("property", "og:image", image),
        ("name", "twitter:card", "summary_large_image" if image else "summary"),
    ]
    return "".join(f'<meta {k}="{n}" content="{escape(c)}" />\n' for k, n, c in rows if c)


def social_card(figure: bytes) -> bytes:
    """A page's figure on a white card of the size that previews have; PNG to PNG."""
    picture = Image.open(io.BytesIO(figure)).convert("RGBA")
    margin = 40
    scale = min((CARD[0] - 2 * margin) / picture.width, (CARD[1] - 2 * margin) / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    card = Image.new("RGB", CARD, "white")
    card.paste(picture, ((CARD[0] - size[0]) // 2, (CARD[1] - size[1]) // 2), picture)
    content = io.BytesIO()
    card.save(content, "PNG", optimize=True)
    return content.getvalue()


def not_found(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """``404.html``: what a server shows where a page is missing, with the book's contents."""
    body = (
        "<h1>There is no such page</h1>\n"
        "<p>It may have moved, or the address has a mistake in it. The contents are at the side; "
        f'or begin at the <a href="{app.builder.get_relative_uri("404", app.config.root_doc)}">'
        "front page</a>, or try the search.</p>\n"
    )
    yield "404", {"title": "There is no such page", "body": body}, "page.html"


def whole_addresses(html: str, site: str) -> str:
    """Every address of the site in a page made whole: a server shows it at any depth."""
    return re.sub(
        r'(\s(?:href|src|action|data-content_root)=")(?!#|[a-z]+:|/)(?:\./)?', rf"\1{site}", html
    )


def finish_site(app: Sphinx, error: Exception | None) -> None:
    """Make the addresses of ``404.html`` whole, where ours is known; drop the icon script."""
    if error is not None or app.builder.format != "html":
        return
    missing = Path(app.outdir) / "404.html"
    if app.config.html_baseurl and missing.exists():
        html = whole_addresses(missing.read_text(encoding="utf-8"), app.config.html_baseurl)
        write_whole(missing, html.encode())
    for name in ("fontawesome.js", "fontawesome.js.map", "fontawesome.js.LICENSE.txt"):
        (Path(app.outdir) / "_static" / "scripts" / name).unlink(missing_ok=True)
