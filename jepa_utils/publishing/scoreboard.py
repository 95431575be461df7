"""What the chapters found, drawn for readers: the scoreboard, and the front page's parts."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from jepa_utils.claims.declare import VERDICTS, Claim, ClaimError, figure_text, load_claims
from jepa_utils.claims.draw import limits_text, made_text, verdict_class
from jepa_utils.claims.judge import Recorded, expected_text, judge, read_results, verdict_of
from jepa_utils.publishing import chapters

LOGGER = logging.getLogger(__name__)

# The verdicts of statements and findings, alike ones together, with what a bar is filled with.
FILLS = {
    ("reproduced", "supported"): '<rect width="8" height="8" fill="var(--claim)"/>',
    ("direction only",): '<path d="M-2 2 2 -2M0 8 8 0M6 10 10 6"/>',
    ("depends on budget",): '<path d="M2 0V8M6 0V8"/>',
    ("not reproduced", "not supported"): '<path d="M0 0 8 8M0 8 8 0"/>',
    ("inconclusive",): '<circle cx="2" cy="2" r="1"/><circle cx="6" cy="6" r="1"/>',
    ("not attempted",): "",
}
THUMBNAIL = 480  # pixels, the longer side


def setup(app: Sphinx) -> None:
    """Register the directives and roles."""
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("results", Results)
    app.add_directive("gallery", Gallery)
    app.add_role("seconds", RunTime("{:.0f}", 1))
    app.add_role("minutes", RunTime("{:.1f}", 60))


# --- reading


@dataclass(frozen=True)
class Chapter:
    """A stored chapter: its name, place in the book, title, how it was run, and its claims."""

    name: str
    number: int
    title: str
    run: dict
    claims: list[Claim]
    recorded: dict[str, Recorded]


def read_chapters(root: Path) -> list[Chapter]:
    """Read all stored chapters.

    Raises
    ------
    ExtensionError
        If the claims cannot be read, or a chapter was never run or does not record one of its own.
    """
    try:
        names = chapters.chapter_names(root)
        claims = load_claims(root / "book" / "claims.yml", chapters=names)
        return [_read(name, n, claims, root) for n, name in enumerate(names, 1)]
    except (ClaimError, OSError) as error:
        raise ExtensionError(f"scoreboard: {error}") from error


def _read(name: str, number: int, claims: dict[str, Claim], root: Path) -> Chapter:
    notebook = nbformat.read(chapters.chapter_path(name, root), as_version=4)
    own = [claim for claim in claims.values() if claim.chapter == name]
    recorded = {r.claim: r for r in read_results(notebook, name).recorded}
    if missing := [c.id for c in own if c.id not in recorded and c.verdict != "not attempted"]:
        raise ExtensionError(f"scoreboard: {name} does not record {', '.join(missing)}")
    if "jepa" not in notebook.metadata:
        raise ExtensionError(f"scoreboard: {name} was never run: 'jepa run {name}'")
    return Chapter(name, number, _title(notebook, name), notebook.metadata["jepa"], own, recorded)


def _title(notebook, name: str) -> str:
    """A chapter's first heading."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.+)", text, re.MULTILINE)
    return found[1].strip() if found else name


def source_name(claim: Claim) -> str:
    """Whose a claim is, without the place in the document: "Czinner (2026)"."""
    if claim.kind != "statement":
        return "this book"
    return re.split("[,:]", claim.source, maxsplit=1)[0]


# --- the scoreboard


class _Page(SphinxDirective):
    """A directive that draws stored chapters, and is drawn anew when one of them changes."""

    def stored(self) -> list[Chapter]:
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "book" / "claims.yml"))
        for name in chapters.chapter_names(root):
            self.env.note_dependency(str(chapters.chapter_path(name, root)))
        return read_chapters(root)

    def address(self, chapter: str, anchor: str = "") -> str:
        """Where a chapter's page lies, seen from this page."""
        document = f"notebooks/{chapter}"
        if document not in self.env.found_docs:
            raise ExtensionError(f"{self.name}: {document} is not in _toc.yml")
        return self.env.app.builder.get_relative_uri(self.env.docname, document) + anchor

    def link(self, chapter: str, text: str, anchor: str = "") -> str:
        return f'<a href="{self.address(chapter, anchor)}">{escape(text)}</a>'


class Scoreboard(_Page):
    """``{scoreboard}``: totals, all claims with both values and verdict, how chapters were run."""

    def run(self) -> list[nodes.Node]:
        stored = self.stored()
        rows = [(c, claim, self.row(c, claim)) for c in stored for claim in c.claims]
        judged = [row for row in rows if row[1].kind != "check"]
        checks = [row for row in rows if row[1].kind == "check"]
        # The depth of the page, for the script lies beside the pages.
        up = "../" * self.env.docname.count("/")
        script = f'<script defer src="{up}_static/scoreboard.js"></script>'
        jumps = " · ".join(
            f'<a href="#{_heading(c)}">{c.number} {escape(c.title)}</a>'
            for c in stored
            if any(chapter is c for chapter, *_ in judged)
        )
        heads = ("Verdict", "Claim", "Measured", "Control", "Source’s value", "Expected")
        body = _grouped(judged, len(heads))
        table = f'{_filter(rows)}<p class="scoreboard-jumps">Chapters: {jumps}</p>'
        table += _table("judged", heads, body) + script
        folded = _table("checks", ("Result", "Check", "Value", "Wanted"), _grouped(checks, 4))
        folded = (
            '<details class="scoreboard-checks"><summary>All '
            f"{len(checks)} checks</summary>{folded}</details>"
        )
        heads = ("Chapter", "Run on", "Profile", "Seconds", "Data", "Python and packages")
        status = _table("chapter-status", heads, "".join(map(self.status, stored)))
        return [
            _section("Totals", totals_picture(stored), _counts(rows)),
            _section("Statements and findings", table),
            _section("Checks", folded),
            _section("How the chapters were run", status),
        ]

    def row(self, chapter: Chapter, claim: Claim) -> str:
        """A claim's row; of a check without what only judged claims have."""
        found = chapter.recorded.get(claim.id)
        verdict, reason = judge(claim, found)
        says = (
            self.link(chapter.name, claim.says, f"#claim-{claim.id}")
            if found
            else escape(claim.says)
        )
        says = f'<span class="scoreboard-says">{says}</span> ' + (
            f'<a class="row-link" href="#row-{claim.id}" '
            f'aria-label="Link to the row {claim.id}">#</a>'
        )
        mark = f'<span class="claim-verdict {verdict_class(verdict)}">{verdict}</span>'
        value, expected = found.text() if found else "–", expected_text(claim, found)
        if claim.kind == "check":
            cells = {"": mark, "Check": says, "Value": escape(value), "Wanted": escape(expected)}
        else:
            place = f"{claim.kind}, {self.link(chapter.name, f'chapter {chapter.number}')}"
            made = made_text(claim, found) if found else ""
            control = found.text_of(found.control) if found and found.control else ""
            cells = {
                "Verdict": mark + _small(place, escape(reason)),
                "Claim": says
                + _small(
                    f"Source: {escape(claim.source)}" if claim.source else "Ours",
                    made and f"Made with: {escape(made)}",
                ),
                "Measured": escape(value)
                + _small(escape(limits_text(found).removeprefix(", ")) if found else ""),
                "Control": escape(control) + _small(escape(claim.control)),
                "Source’s value": escape(figure_text(claim.reported)),
                "Expected": escape(expected),
            }
        cells = "".join(_cell(label, text) for label, text in cells.items())
        ranks = (
            VERDICTS["check"] if claim.kind == "check" else [v for group in FILLS for v in group]
        )
        rank = ranks.index(verdict)
        return (
            f'<tr id="row-{claim.id}" data-verdict="{verdict}" data-rank="{rank}" '
            f'data-kind="{claim.kind}" data-chapter="{chapter.name}">{cells}</tr>'
        )

    def status(self, chapter: Chapter) -> str:
        """How a chapter was run."""
        run = chapter.run
        data = ", ".join(f"{d['name']} ({d['origin']})" for d in run["data"]) or "none loaded"
        packages = ", ".join(f"{package} {version}" for package, version in run["packages"].items())
        cells = {
            "Chapter": self.link(chapter.name, chapter.title),
            "Run on": run["executed"],
            "Profile": run["profile"],
            "Seconds": f"{run['seconds']:.0f}",
            "Data": escape(data),
            "Python and packages": escape(f"Python {run['python']}, {packages}"),
        }
        return f"<tr>{''.join(_cell(label, text) for label, text in cells.items())}</tr>"


def _section(title: str, *html: str) -> nodes.section:
    """A section of the page, which stands in its table of contents."""
    raw = (nodes.raw("", text, format="html") for text in html)
    name = nodes.make_id(title)
    return nodes.section("", nodes.title("", title), *raw, ids=[name], names=[name])


def _small(*lines: str) -> str:
    return "".join(f'<span class="scoreboard-small">{line}</span>' for line in lines if line)


def _cell(label: str, html: str) -> str:
    """A cell that knows its column's name, for a phone, where a row is a card."""
    return f'<td data-label="{escape(label)}">{html or "–"}</td>'


def _table(name: str, heads: Iterable[str], body: str) -> str:
    header = "".join(f'<th scope="col">{head}</th>' for head in heads)
    table = f'<table class="scoreboard {name}"><thead><tr>{header}</tr></thead>'
    return f"{table}<tbody>{body}</tbody></table>"


def _heading(chapter: Chapter) -> str:
    return nodes.make_id(f"chapter {chapter.name}")


def _grouped(rows: list[tuple[Chapter, Claim, str]], width: int) -> str:
    """The rows, with a line before each chapter's."""
    html, last = "", None
    for chapter, claim, row in rows:
        if chapter is not last:
            place = f' id="{_heading(chapter)}"' if claim.kind != "check" else ""
            html += (
                f'<tr class="scoreboard-chapter" data-of="{chapter.name}"{place}>'
                f'<th scope="rowgroup" colspan="{width}">{chapter.number} {escape(chapter.title)}'
                "</th></tr>"
            )
        html, last = html + row, chapter
    return html


def _counts(rows: list[tuple[Chapter, Claim, str]]) -> str:
    """Each kind's number of rows, and how many have which verdict."""
    items = ""
    for kind, verdicts in VERDICTS.items():
        own = [
            verdict_of(claim, c.recorded.get(claim.id))
            for c, claim, _ in rows
            if claim.kind == kind
        ]
        counts = Counter(own)
        text = ", ".join(f"{counts[v]} {v}" for v in verdicts if counts[v]) or "none"
        items += f"<li>{len(own)} {kind if len(own) == 1 else f'{kind}s'}: {text}.</li>"
    return f"<ul>{items}</ul>"


def _filter(rows: list[tuple[Chapter, Claim, str]]) -> str:
    """The controls, hidden until the script that they need is there."""
    verdicts = Counter(verdict_of(claim, c.recorded.get(claim.id)) for c, claim, _ in rows)
    kinds = Counter(claim.kind for _, claim, _ in rows)
    order = dict.fromkeys(v for kind in ("statement", "finding", "check") for v in VERDICTS[kind])
    places = Counter((c.name, f"{c.number} {c.title}") for c, _, _ in rows)
    choices = {
        "verdict": [(v, f"{v} ({verdicts[v]})") for v in order if verdicts[v]],
        "kind": [(k, f"{k} ({kinds[k]})") for k in ("statement", "finding", "check") if kinds[k]],
        "chapter": [(name, f"{title} ({n})") for (name, title), n in places.items()],
    }
    fields = ""
    for name, options in choices.items():
        items = "".join(f'<option value="{v}">{escape(text)}</option>' for v, text in options)
        fields += (
            f'<label>{name.capitalize()} <select name="{name}"><option value="">all</option>'
            f"{items}</select></label>"
        )
    return (
        '<form class="scoreboard-filter" autocomplete="off" hidden>'
        '<label>Text <input type="search" name="text"></label>'
        f'{fields}<label>Sorted by <select name="sort"><option value="">chapter</option>'
        '<option value="verdict">verdict</option><option value="kind">kind</option>'
        '<option value="claim">claim, A to Z</option></select></label>'
        '<button type="reset">Show all</button>'
        '<p role="status" aria-live="polite"></p></form>'
    )


def totals_picture(stored: list[Chapter]) -> str:
    """Verdicts per chapter and source, as stacked bars: an inline SVG.

    A verdict has its pattern, its colour and its number, so the picture can be read without colour.
    """
    groups = {verdict: group for group in FILLS for verdict in group}
    bars, totals = {}, Counter()
    for chapter in stored:
        for claim in chapter.claims:
            if claim.kind != "check":
                verdict = verdict_of(claim, chapter.recorded.get(claim.id))
                own = bars.setdefault(chapter.number, {}).setdefault(source_name(claim), Counter())
                own[groups[verdict]] += 1
                totals[groups[verdict]] += 1
    if not totals:
        return ""
    left, width, step = 118, 360, 18
    longest = max(counts.total() for sources in bars.values() for counts in sources.values())
    unit = (width - left - 2) / longest
    parts, words, y = [], [], 0
    for number, sources in bars.items():
        title = next(chapter.title for chapter in stored if chapter.number == number)
        parts.append(f'<text class="head" x="0" y="{y + 14}">{number} {escape(title)}</text>')
        y += step + 2
        for source, counts in sources.items():
            parts.append(f'<text x="0" y="{y + 11}">{escape(_clip(source))}</text>')
            x = left
            for group in FILLS:
                if count := counts[group]:
                    parts.append(_bar(group, x, y, count * unit, str(count)))
                    x += count * unit
            said = ", ".join(f"{counts[g]} {g[0]}" for g in FILLS if counts[g])
            words.append(f"Chapter {number}, {source}: {said}.")
            y += step
        y += 4
    y += 6
    for group in filter(totals.get, FILLS):
        label = f"{' / '.join(group)}: {totals[group]}"
        parts.append(_bar(group, 0, y, 22) + f'<text x="28" y="{y + 11}">{label}</text>')
        y += step
    patterns = "".join(
        f'<pattern id="{_fill(group)}" class="{verdict_class(group[0])}" width="8" height="8" '
        f'patternUnits="userSpaceOnUse">{fill}</pattern>'
        for group, fill in FILLS.items()
    )
    return (
        f'<svg class="scoreboard-totals" viewBox="0 0 {width} {y}" role="img" '
        'aria-labelledby="totals-title totals-text" xmlns="http://www.w3.org/2000/svg">'
        '<title id="totals-title">Verdicts by chapter and source</title>'
        f'<desc id="totals-text">{escape(" ".join(words))}</desc>'
        f"<defs>{patterns}</defs>{''.join(parts)}</svg>"
    )


def _fill(group: tuple[str, ...]) -> str:
    return f"fill-{verdict_class(group[0])}"


def _bar(group: tuple[str, ...], x: float, y: float, width: float, text: str = "") -> str:
    count = (
        f'<text class="count" x="{x + width / 2:.1f}" y="{y + 11}">{text}</text>' if text else ""
    )
    return (
        f'<rect class="{verdict_class(group[0])}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
        f'height="14" fill="url(#{_fill(group)})"/>{count}'
    )


def _clip(source: str, most: int = 22) -> str:
    """A source's name, short enough to stand beside its bar."""
    return source if len(source) <= most else source[: most - 1].rstrip() + "…"


# --- the front page

RESULT_HEADS = ("Document", "Its statement", "Its value", "Ours", "Verdict")


def find_results(
    stored: list[Chapter], ids: list[str]
) -> list[tuple[Chapter, Claim, tuple[str, ...]]]:
    """Chosen statements with the source's value, ours and the verdict, each as text.

    Raises
    ------
    ExtensionError
        If an id names no statement.
    """
    known = {
        claim.id: (chapter, claim)
        for chapter in stored
        for claim in chapter.claims
        if claim.kind == "statement"
    }
    if unknown := [id for id in ids if id not in known]:
        raise ExtensionError(f"results: {', '.join(unknown)} is no statement's id in claims.yml")
    found = []
    for chapter, claim in map(known.get, ids):
        recorded = chapter.recorded.get(claim.id)
        ours, verdict = recorded.text() if recorded else "–", verdict_of(claim, recorded)
        texts = (source_name(claim), claim.says, figure_text(claim.reported), ours, verdict)
        found.append((chapter, claim, texts))
    return found


def results_markdown(root: Path, ids: list[str]) -> str:
    """The front page's table of results as README has it."""
    rows = [RESULT_HEADS, ("---",) * len(RESULT_HEADS)]
    rows += [texts for *_, texts in find_results(read_chapters(root), ids)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


class Results(_Page):
    """``{results}``: one statement of each document, whose claims' ids stand in the body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        body = ""
        for chapter, claim, texts in find_results(self.stored(), "\n".join(self.content).split()):
            source, says, reported, ours, verdict = texts
            mark = f'<span class="claim-verdict {verdict_class(verdict)}">{verdict}</span>'
            says = self.link(chapter.name, says, f"#claim-{claim.id}")
            cells = (escape(source), says, escape(reported), escape(ours), mark)
            cells = "".join(map(_cell, RESULT_HEADS, cells))
            body += f'<tr data-claim="{claim.id}">{cells}</tr>'
        return [nodes.raw("", _table("results", RESULT_HEADS, body), format="html")]


class Gallery(_Page):
    """``{gallery}``: a picture and a sentence for each chapter, in the order of the body's lines.

    A line is ``CHAPTER CELL SENTENCE``: the picture is the first in the outputs of the cell with
    that id.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        stored = {chapter.name: chapter for chapter in self.stored()}
        shown = nodes.enumerated_list("", classes=["gallery"])
        for line in filter(str.strip, self.content):
            name, cell, sentence = [*line.split(maxsplit=2), "", ""][:3]
            if name not in stored or not sentence:
                raise ExtensionError(
                    f"gallery: a line wants CHAPTER CELL SENTENCE with one of "
                    f"{', '.join(stored)}, got {line!r}"
                )
            chapter, path = stored[name], chapters.chapter_path(name, Path(self.env.srcdir))
            data, alt = thumbnail(path, cell)
            picture = f'<img src="{data}" alt="{escape(alt)}">'
            place = f"Chapter {chapter.number}, {chapter.run['seconds'] / 60:.1f} minutes to run"
            title = nodes.reference("", chapter.title, internal=True, refuri=self.address(name))
            inline, problems = self.parse_inline(sentence)
            shown += nodes.list_item(
                "",
                nodes.raw("", picture, format="html"),
                nodes.paragraph("", "", nodes.strong("", "", title)),
                nodes.paragraph("", "", *inline, *problems),
                nodes.paragraph("", place, classes=["gallery-place"]),
            )
        return [shown]


class _FirstImage(HTMLParser):
    """The first picture that an output's HTML holds in itself, and its description."""

    def __init__(self, html: str):
        super().__init__()
        self.found = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "img" and self.found is None and (given.get("src") or "").startswith("data:"):
            self.found = given["src"], given.get("alt") or ""


def thumbnail(path: Path, cell_id: str) -> tuple[str, str]:
    """A small copy of the first picture that a stored cell shows, as a data address; its alt text.

    Raises
    ------
    ExtensionError
        If there is no such cell, or it shows no picture with an alt text.
    """
    cells = nbformat.read(path, as_version=4).cells
    cell = next((cell for cell in cells if cell.id == cell_id), None)
    if cell is None:
        raise ExtensionError(f"gallery: {path.stem} has no cell with the id {cell_id!r}")
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if image := _FirstImage("".join(data.get("text/html", ""))).found:
            kind, _, encoded = image[0].removeprefix("data:").partition(";base64,")
            return _small_image(kind, base64.b64decode(encoded)), image[1]
        if "image/svg+xml" in data and alt:
            return _small_image("image/svg+xml", "".join(data["image/svg+xml"]).encode()), alt
        if "image/png" in data and alt:
            return _small_image("image/png", base64.b64decode(data["image/png"])), alt
    raise ExtensionError(
        f"gallery: cell {cell_id!r} of {path.stem} shows no picture with an alt text"
    )


def _small_image(kind: str, data: bytes) -> str:
    if kind != "image/svg+xml":
        from PIL import Image

        picture, buffer = Image.open(io.BytesIO(data)), io.BytesIO()
        picture = picture.convert("RGBA")  # one with a palette would be made small without blending
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        picture.save(buffer, format="png", optimize=True)
        kind, data = "image/png", buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- run times


def run_seconds(name: str, root: Path) -> float:
    """How long a stored chapter's run took.

    Raises
    ------
    ChapterError
        If there is no such chapter, or it was never run.
    """
    path = chapters.chapter_path(name, root)
    run = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("jepa", {})
    if "seconds" not in run:
        raise chapters.ChapterError(f"{path.stem} was never run: 'jepa run {path.stem}'")
    return run["seconds"]


class RunTime(SphinxRole):
    """``{minutes}`CHAPTER``` or ``{seconds}`CHAPTER```: how long the chapter's stored run took."""

    def __init__(self, form: str, unit: float):
        self.form, self.unit = form, unit

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        env: BuildEnvironment = self.env
        root = Path(env.srcdir)
        try:
            env.note_dependency(str(chapters.chapter_path(self.text, root)))
            text = self.form.format(run_seconds(self.text, root) / self.unit)
        except chapters.ChapterError as error:
            LOGGER.warning(f"{self.name}: {error}", location=self.get_location(), type="jepa")
            text = "?"
        return [nodes.Text(text)], []
