"""Boxes and tables of claims, drawn from the claim and the recorded value alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from html import escape

from jepa_utils.claims.declare import VERDICTS, Claim, data_text, figure_text
from jepa_utils.claims.judge import (
    LEAST_SEEDS,
    Recorded,
    expected_text,
    interval,
    judge,
    read_results,
    rounded,
    verdict_of,
)


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict."""
    return "claim-" + verdict.replace(" ", "-")


def claim_box(claim: Claim, recorded: Recorded) -> dict[str, str]:
    """A claim by itself, as a running notebook shows it."""
    return claim_rows([(claim, recorded)])


def claim_rows(pairs: list[tuple[Claim, Recorded]]) -> dict[str, str]:
    """Claims recorded together: statements and findings in a table, a line for each check.

    Parameters
    ----------
    pairs : list of (Claim, Recorded)
        At least one.

    Returns
    -------
    dict
        One text as HTML, styled by classes only, and as plain text.
    """
    judged = [pair for pair in pairs if pair[0].kind != "check"]
    checks = [pair for pair in pairs if pair[0].kind == "check"]
    html = _table([_row(*pair) for pair in judged]) if judged else ""
    if checks:
        lines = "".join(_check_line(*pair) for pair in checks)
        html += f'<ul class="claim-checks">{lines}</ul>'
    return {"text/html": html, "text/plain": "\n".join(_plain(*pair) for pair in pairs)}


DRAWN_BELOW = {"text/html": "<!-- drawn below -->", "text/plain": "drawn below"}
HEADING = re.compile(r"^#{1,6} ", flags=re.M)
HEADS = ("Statement or finding", "Verdict", "The source", "Ours [95 % limits]", "Control")
KINDS = {"statement": "A source's statement", "finding": "Our finding", "check": "Check"}


def _row(claim: Claim, recorded: Recorded) -> str:
    verdict, reason = judge(claim, recorded)
    ours = f"{recorded.text()}{_smoke(recorded)} {_brackets(recorded)}"
    control = recorded.text_of(recorded.control) if recorded.control else "–"
    items = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in _more(claim, recorded).items())
    link = f'<a href="../book/scoreboard.html#row-{claim.id}">on the scoreboard</a>'
    details = (
        f"<details><summary>{KINDS[claim.kind]}: more</summary><dl>{items}</dl>{link}</details>"
    )
    mark = f'<span class="claim-verdict">{verdict}</span>'
    why = f'<br><span class="claim-reason">{escape(reason)}</span>' if reason else ""
    reported = figure_text(claim.reported)
    cells = (escape(claim.says) + details, mark + why, *map(escape, (reported, ours, control)))
    tds = "".join(f'<td data-label="{k}">{v}</td>' for k, v in zip(HEADS, cells, strict=True))
    smoke = " claim-smoke" * (recorded.profile == "smoke")
    return f'<tr id="claim-{claim.id}" class="{verdict_class(verdict)}{smoke}">{tds}</tr>'


def _table(rows: list[str]) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<table class="claim-list">{body}</table>'


def _check_line(claim: Claim, recorded: Recorded) -> str:
    verdict = verdict_of(claim, recorded)
    value = f"{recorded.text()}, wants {expected_text(claim, recorded)}"
    return (
        f'<li id="claim-{claim.id}" class="{verdict_class(verdict)}" title="{escape(claim.why)}">'
        f'<span class="claim-verdict">{verdict}</span> {escape(claim.says)} '
        f'<span class="claim-value">{escape(value)}{_smoke(recorded)}</span></li>'
    )


def _more(claim: Claim, recorded: Recorded) -> dict[str, str]:
    """What stands behind a row's verdict."""
    rows = {
        "Where": claim.source,
        "Bound": f"{claim.expect.text()}: {claim.why}",
        "The control": claim.control,
        "At half the budget": recorded.half and recorded.text_of(recorded.half),
        "Budget": recorded.budget and budget_text(recorded.budget),
        "Chosen by": claim.search,
        "Made with": made_text(claim, recorded),
    }
    return {name: text for name, text in rows.items() if text}


def _plain(claim: Claim, recorded: Recorded) -> str:
    verdict, reason = judge(claim, recorded)
    ours = recorded.text() + limits_text(recorded) + _smoke(recorded)
    if claim.kind == "check":
        return f"Check [{verdict}]: {claim.says} {ours}, wants {expected_text(claim, recorded)}"
    rows = {"Verdict": reason, "The source": figure_text(claim.reported), "Ours": ours}
    control = recorded.control and recorded.text_of(recorded.control)
    rows |= {"Control": control, **_more(claim, recorded)}
    lines = [f"{KINDS[claim.kind]} [{verdict}]: {claim.says}"]
    return "\n".join(lines + [f"  {name}: {text}" for name, text in rows.items() if text])


def _smoke(recorded: Recorded) -> str:
    return " – smoke run: not a result" if recorded.profile == "smoke" else ""


def limits_text(recorded: Recorded) -> str:
    """The limits of the interval that is judged, where there is one."""
    ends = _limits(recorded)
    return f", 95 % limits {ends[0]} and {ends[1]}" if ends else ""


def _brackets(recorded: Recorded) -> str:
    ends = _limits(recorded)
    return f"[{ends[0]}, {ends[1]}]" if ends else ""


def _limits(recorded: Recorded) -> list[str]:
    values = recorded.values
    if len(values) < LEAST_SEEDS or not all(map(math.isfinite, values)):
        return []
    return [rounded(values, end) for end in interval(values)]


def budget_text(budget: Mapping[str, list[float]]) -> str:
    """What each method's training took."""
    return "; ".join(
        f"{method} {steps:,.0f} steps, {samples:,.0f} samples, {seconds:,.1f} s"
        for method, (steps, samples, seconds) in sorted(budget.items())  # as notebooks keep them
    )


def made_text(claim: Claim, recorded: Recorded) -> str:
    """Where a number comes from: this run or a record, and the data it is made of."""
    of = f"the record {' and '.join(claim.records)}" if claim.records else "this run"
    return f"{of}, profile {recorded.profile}, data {data_text(recorded.data)}"


def claims_table_html(claims: list[Claim], recorded: Mapping[str, Recorded]) -> dict[str, str]:
    """The table of a chapter's statements and findings: as HTML and as plain text."""
    head = ("Claim", "Source's value", "Expected", "Measured", "Control", "Verdict")
    rows = []
    for claim in (claim for claim in claims if claim.kind != "check"):
        found = recorded.get(claim.id)
        control = found.text_of(found.control) if found and found.control else "–"
        cells = (
            claim.says,
            figure_text(claim.reported),
            expected_text(claim, found),
            found.text() if found else "–",
            control,
            verdict_of(claim, found),
        )
        rows.append((claim, cells))
    body = ""
    for claim, row in rows:
        says = escape(row[0])
        says = f'<a href="#claim-{claim.id}">{says}</a>' if claim.id in recorded else says
        middle = "".join(f"<td>{escape(text)}</td>" for text in row[1:-1])
        verdict = f'<td><span class="claim-verdict {verdict_class(row[-1])}">{row[-1]}</span></td>'
        body += f"<tr><td>{says}</td>{middle}{verdict}</tr>"
    header = "".join(f'<th scope="col">{text}</th>' for text in head)
    table = f'<table class="claim-table"><thead><tr>{header}</tr></thead><tbody>{body}</tbody>'
    checks = checks_text([claim for claim in claims if claim.kind == "check"], recorded)
    # focusable, so that a keyboard can scroll it
    html = f'<div class="claim-scroll" tabindex="0">{table}</table></div><p>{checks}</p>'
    plain = "\n".join([" | ".join(head), *(" | ".join(row) for _, row in rows), checks])
    return {"text/html": html, "text/plain": plain}


def checks_text(checks: list[Claim], recorded: Mapping[str, Recorded]) -> str:
    """How many checks passed."""
    verdicts = Counter(verdict_of(check, recorded.get(check.id)) for check in checks)
    counts = ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS["check"] if verdicts[v])
    return f"Checks, true by construction or arithmetic: {counts.replace('passes', 'passed')}."


def redraw(notebook: Mapping, claims: Mapping[str, Claim]) -> bool:
    """Draw a stored notebook's claims anew from its recorded values and today's `claims.yml`.

    What is drawn is a function of the claim and the recorded value, so rewording a claim or another
    style needs no new run. Claims of one section are drawn together, where the last was recorded.

    Returns
    -------
    bool
        Whether anything was different; `notebook` is changed in place.
    """
    recorded = {r.claim: r for r in read_results(notebook).recorded}
    drawings = []
    for section in _sections(notebook):
        noted = [(o, _note(o)) for cell in section for o in cell.get("outputs", ())]
        boxes = [(output, note["claim"]) for output, note in noted if note.get("claim") in claims]
        pairs = [(claims[id], recorded[id]) for _, id in boxes]
        drawings += [(output, DRAWN_BELOW) for output, _ in boxes[:-1]]
        drawings += [(output, claim_rows(pairs)) for output, _ in boxes[-1:]]
        for output, note in noted:
            if "table" in note:
                own = [c for c in claims.values() if c.chapter == note["table"]]
                drawings.append((output, claims_table_html(own, recorded)))
    changed = False
    for output, drawn in drawings:
        if dict(output["data"]) != drawn:
            output["data"] = drawn
            changed = True
    return changed


def _sections(notebook: Mapping) -> list[list[Mapping]]:
    """The cells, parted where a heading stands."""
    sections: list[list[Mapping]] = [[]]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and HEADING.search("".join(cell["source"])):
            sections.append([])
        sections[-1].append(cell)
    return sections


def _note(output: Mapping) -> Mapping:
    return output.get("metadata", {}).get("jepa", {})
