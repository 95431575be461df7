"""Boxes and tables of claims, drawn from the claim and the recorded value alone."""

from __future__ import annotations

import math
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
    outputs_of,
    read_results,
    verdict_of,
)


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict."""
    return "claim-" + verdict.replace(" ", "-")


def claim_box(claim: Claim, recorded: Recorded) -> dict[str, str]:
    """The box of a recorded claim: one text as HTML and as plain text, styled by classes only."""
    judgement = judge(claim, recorded)
    smoke = " – smoke run: not a result" if recorded.profile == "smoke" else ""
    if claim.kind == "check":
        return _check_line(claim, recorded, judgement.verdict, smoke)
    reported = "" if claim.reported is None else f"{figure_text(claim.reported)}, "
    rows = {
        "The source": claim.source and reported + claim.source,
        "Expected": f"{claim.expect.text()}: {claim.why}",
        "Measured": recorded.text() + limits_text(recorded) + smoke,
        "Verdict": judgement.reason,
        "Control": recorded.control and f"{claim.control}: {recorded.text_of(recorded.control)}",
        "At half the budget": recorded.half and recorded.text_of(recorded.half),
        "Budget": recorded.budget and budget_text(recorded.budget),
        "Chosen by": claim.search,
        "Made with": made_text(claim, recorded),
    }
    rows = {name: text for name, text in rows.items() if text}
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
    classes = verdict_class(judgement.verdict) + " claim-smoke" * bool(smoke)
    html = (
        f'<div class="claim-box {classes}" id="claim-{claim.id}">'
        f'<p class="claim-title">{TITLES[claim.kind]} '
        f'<span class="claim-verdict">{judgement.verdict}</span></p>'
        f'<p class="claim-says">{escape(claim.says)}</p><dl>{items}</dl></div>'
    )
    lines = [f"{TITLES[claim.kind]} [{judgement.verdict}]: {claim.says}"]
    lines += [f"  {name}: {text}" for name, text in rows.items()]
    return {"text/html": html, "text/plain": "\n".join(lines)}


def _check_line(claim: Claim, recorded: Recorded, verdict: str, smoke: str) -> dict[str, str]:
    """A check's box, which is a line."""
    value = f"{recorded.text()}, wants {expected_text(claim, recorded)} ({claim.why})"
    verdict_mark = f'<span class="claim-verdict">{verdict}</span>'
    html = (
        f'<p class="claim-check {verdict_class(verdict)}" id="claim-{claim.id}">'
        f"<strong>{TITLES['check']}</strong> {escape(claim.says)} {escape(value)} "
        f"{verdict_mark}{smoke}</p>"
    )
    plain = f"{TITLES['check']} [{verdict}]: {claim.says} {value}{smoke}"
    return {"text/html": html, "text/plain": plain}


TITLES = {"check": "Check", "statement": "A source's statement", "finding": "Our finding"}


def limits_text(recorded: Recorded) -> str:
    """The limits of the interval that is judged, where there is one."""
    values = recorded.values
    if len(values) < LEAST_SEEDS or not all(map(math.isfinite, values)):
        return ""
    low, high = map(figure_text, interval(values))
    return f", 95 % limits {low} and {high}"


def budget_text(budget: Mapping[str, list[float]]) -> str:
    """What each method's training took."""
    return "; ".join(
        f"{method} {steps:,.0f} steps, {samples:,.0f} samples, {seconds:,.1f} s"
        for method, (steps, samples, seconds) in budget.items()
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
    """Draw a stored notebook's boxes and tables anew from its recorded values and today's claims.

    A box is a function of the claim and the recorded value, so rewording a claim or restyling a box
    needs no new run.

    Returns
    -------
    bool
        Whether anything was different; `notebook` is changed in place.
    """
    results = read_results(notebook)
    recorded = {r.claim: r for r in results.recorded}
    changed = False
    for output in outputs_of(notebook):
        note = output.get("metadata", {}).get("jepa", {})
        if note.get("claim") in claims:
            drawn = claim_box(claims[note["claim"]], recorded[note["claim"]])
        elif "table" in note:
            drawn = claims_table_html(
                [c for c in claims.values() if c.chapter == note["table"]], recorded
            )
        else:
            continue
        if dict(output["data"]) != drawn:
            output["data"] = drawn
            changed = True
    return changed
