"""Numbers in prose: what we measured is glue, what a source says is cited, others say why.

Only numbers with a decimal point and percentages are looked at: counts, years and names such as
CIFAR-10 are no results."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from jepa_utils.claims.declare import Claim
from jepa_utils.publishing.staleness import parse_cells

NUMBER = re.compile(  # no part of a word or of a version, such as 2.13.0
    r"(?<![\w.])(\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(\s?(?:%|per ?cent\b))?(?!\w|\.\d)"
)
TYPED = re.compile(r"<!--\s*typed:(.*?)-->", re.DOTALL)  # <!-- typed: 0.409, by theory -->
SOURCE_NAME = re.compile(r"called \*([^*]+)\*")  # in the header box: "called *the source* below"
CITED, ROLE = "{cited}", "{role}"
# What is no prose, and what stands in its place: comments, formulas, code, directives and their
# options, roles (glue is one), addresses.
NO_PROSE = [
    (re.compile(r"<!--.*?-->|\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL), ""),
    (re.compile(r"^(`{3,}|~{3,})(?!\s*\{).*?^\1[`~]*\s*$", re.DOTALL | re.MULTILINE), ""),
    (re.compile(r"^(`{3,})\s*\{(math|code[\w-]*)\}.*?^\1`*\s*$", re.DOTALL | re.MULTILINE), ""),
    (re.compile(r"^\s*(?:[`:~]{3,}.*|:[\w-]+:.*)$", re.MULTILINE), ""),
    (re.compile(r"\{cite(?::\w+)?\}`[^`]+`"), CITED),
    (re.compile(r"\*\*\[(?:text|paper|code|second hand)\]\*\*"), CITED),  # the errata's marks
    (re.compile(r"\{[\w:]+\}`[^`]+`"), ROLE),
    (re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)|\$[^$\n]+\$", re.DOTALL), ROLE),
    (re.compile(r"https?://\S+|\]\([^)]*\)|\b\d{4}\.\d{5}\b|</?\w[^>]*>"), ""),
]
PARAGRAPHS = re.compile(r"\n\s*(?:[-*|]|\d+\.)\s|\n\s*\n")  # items and rows, too
SENTENCES = re.compile(r"(?<=[.!?])[\s\"”)*]*\s+|" + PARAGRAPHS.pattern)


def typed_numbers(
    text: str,
    known: Iterable[float] = (),
    sources: Iterable[str] = (),
    parts: re.Pattern = SENTENCES,
) -> list[str]:
    """Numbers of a text that are neither glue, nor cited, nor known, nor marked.

    Parameters
    ----------
    text : str
        Markdown. A comment ``<!-- typed: 0.409, by theory -->`` marks the numbers that it names.
    known : iterable of float
        Values that prose may name: settings, and what claims expect or sources report.
    sources : iterable of str
        What the text calls a source, such as "the source": a part with that name cites it.
    parts : re.Pattern
        Where one part ends; a citation covers the part that it stands in.

    Returns
    -------
    list of str
        The numbers, as they stand there.
    """
    marked = {figure[1:] for note in TYPED.findall(text) for figure in _figures(note)}
    allowed = {f"{value:.9g}" for value in known}
    cites = [CITED, *(name.lower() for name in sources)]
    for pattern, instead in NO_PROSE:
        text = pattern.sub(instead, text)
    found = []
    for part in parts.split(text):
        if any(name in part.lower() for name in cites):
            continue
        for shown, value, percent in _figures(part):
            readings = {f"{x:.9g}" for x in (value, value / 100)[: 1 + percent]}
            if (value, percent) not in marked and not readings & allowed:
                found.append(shown)
    return found


def _figures(text: str) -> list[tuple[str, float, bool]]:
    """Numbers with a decimal point, and percentages: as shown, as a number, whether of 100."""
    return [
        (m[0], float(m[1].replace(",", "")), bool(m[2]))
        for m in NUMBER.finditer(text)
        if m[2] or "." in m[1]
    ]


def number_problems(notebook, name: str, claims: Mapping[str, Claim]) -> list[str]:
    """Numbers in a chapter's prose that could be measured and are typed, each with its cell.

    Known are the numbers with a decimal point in its code cells, which are its settings, and what
    its claims expect or their sources report.
    """
    own = [claim for claim in claims.values() if claim.chapter == name]
    known = {*claimed_values(own), *code_values(notebook)}
    prose = [(n, c.source) for n, c in enumerate(notebook.cells, 1) if c.cell_type == "markdown"]
    sources = {s for _, text in prose for s in SOURCE_NAME.findall(text) if s.startswith("the ")}
    return [
        f"{name}: cell {n}: the number {shown} is typed: {MEND}"
        for n, text in prose
        for shown in typed_numbers(text, known, sources)
    ]


MEND = (
    "make it a {glue} reference, cite its source in the sentence, or say what it is in a comment, "
    "<!-- typed: NUMBER, WHY -->"
)


def page_number_problems(page: Path, claims: Mapping[str, Claim]) -> list[str]:
    """The same of a page of prose, whose citations cover a paragraph, an item or a row.

    Known is what any claim expects or its source reports.
    """
    text, known = page.read_text(encoding="utf-8"), claimed_values(claims.values())
    found = typed_numbers(text, known, parts=PARAGRAPHS)
    return [f"{page.stem}: the number {shown} is typed: {MEND}" for shown in found]


def claimed_values(claims: Iterable[Claim]) -> list[float]:
    """What claims expect, and what their sources report."""
    given = [
        value
        for claim in claims
        for value in (
            claim.reported,
            claim.expect.at_least,
            claim.expect.at_most,
            claim.expect.of,
            claim.expect.direction,
        )
    ]
    return [value for value in given if isinstance(value, float)]


def code_values(notebook) -> list[float]:
    """The numbers with a decimal point in a notebook's code cells."""
    nodes = ast.walk(parse_cells(notebook))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [value for value in values if isinstance(value, float)]
