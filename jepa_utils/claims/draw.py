"""Boxes and tables of claims, drawn from the claim and the recorded value alone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from jepa_utils.claims.declare import Claim, data_text, figure_text
from jepa_utils.claims.judge import Recorded, expected_text, outputs_of, read_results, verdict_of


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict."""
    return "claim-" + verdict.replace(" ", "-")


def claim_box(claim: Claim, recorded: Recorded) -> dict[str, str]:
    """The box of a recorded claim: one text as HTML and as plain text, styled by classes only."""
    verdict = verdict_of(claim, recorded)
    smoke = recorded.profile == "smoke"
    rows = [
        (
            "The source",
            f"{figure_text(claim.reported)}, {claim.source}"
            if claim.reported is not None
            else claim.source,
        ),
        ("Expected", f"{expected_text(claim, recorded)}: {claim.why}"),
        ("This run", recorded.text() + (" – smoke run: not a result" if smoke else "")),
        ("Made with", f"profile {recorded.profile}, data {data_text(recorded.data)}"),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    classes = verdict_class(verdict) + " claim-smoke" * smoke
    html = (
        f'<div class="claim-box {classes}" id="claim-{claim.id}">'
        '<p class="claim-title">What you should see '
        f'<span class="claim-verdict">{verdict}</span></p>'
        f'<p class="claim-says">{escape(claim.says)}</p><dl>{items}</dl></div>'
    )
    plain = "\n".join(
        [
            f"What you should see [{verdict}]: {claim.says}",
            *(f"  {name}: {text}" for name, text in rows),
        ]
    )
    return {"text/html": html, "text/plain": plain}


def claims_table_html(claims: list[Claim], recorded: Mapping[str, Recorded]) -> dict[str, str]:
    """The table of a chapter's claims: one text as HTML and as plain text."""
    head = ("Claim", "Source's value", "Expected", "This run", "Verdict")
    rows = []
    for claim in claims:
        found = recorded.get(claim.id)
        value = found.text() if found else "–"
        expected = expected_text(claim, found)
        rows.append(
            (
                claim,
                (
                    claim.says,
                    figure_text(claim.reported),
                    expected,
                    value,
                    verdict_of(claim, found),
                ),
            )
        )
    cells = ""
    for claim, row in rows:
        says = (
            f'<a href="#claim-{claim.id}">{escape(row[0])}</a>'
            if claim.id in recorded
            else escape(row[0])
        )
        middle = "".join(f"<td>{escape(text)}</td>" for text in row[1:-1])
        verdict = f'<td><span class="claim-verdict {verdict_class(row[-1])}">{row[-1]}</span></td>'
        cells += f"<tr><td>{says}</td>{middle}{verdict}</tr>"
    header = "".join(f'<th scope="col">{text}</th>' for text in head)
    table = (
        f'<table class="claim-table"><thead><tr>{header}</tr></thead><tbody>{cells}</tbody></table>'
    )
    # focusable, so that a keyboard can scroll it
    html = f'<div class="claim-scroll" tabindex="0">{table}</div>'
    plain = "\n".join([" | ".join(head), *(" | ".join(row) for _, row in rows)])
    return {"text/html": html, "text/plain": plain}


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
