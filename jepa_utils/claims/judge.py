"""Read back what a stored notebook recorded, and judge it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from jepa_utils.claims.declare import PROFILES, Claim, Expect, data_text, figure_text, is_number


@dataclass(frozen=True)
class Recorded:
    """A claim's value as a run measured it."""

    claim: str
    value: float | bool  # the mean over seeds
    spread: float | None  # the standard deviation over seeds; None for one value
    seeds: int
    profile: str
    data: list[dict] = field(default_factory=list)
    unit: str | None = None

    def text(self) -> str:
        """The value with its spread, unit and number of seeds."""
        text = figure_text(self.value) + (
            f" ± {self.spread:.2g}" if self.spread is not None else ""
        )
        text += f" {self.unit}" if self.unit else ""
        return text + (f" ({self.seeds} seeds)" if self.seeds > 1 else "")


def expected_text(claim: Claim, recorded: Recorded | None) -> str:
    """What a claim expects, in words that fit the value: "yes" rather than "at least 1"."""
    yes = (
        recorded is not None
        and isinstance(recorded.value, bool)
        and claim.expect == Expect(at_least=1)
    )
    return "yes" if yes else claim.expect.text()


def verdict_of(claim: Claim, recorded: Recorded | None) -> str:
    """Judge a recorded value: one of `VERDICTS`."""
    if recorded is None or needs_higher_profile(recorded.profile, claim):
        return "not attempted"
    if claim.needs_real_data and (
        not recorded.data or any(d["origin"] == "sample" for d in recorded.data)
    ):
        return "not attempted"
    value = float(recorded.value)
    if not math.isfinite(value):
        return "not reproduced"
    expect = claim.expect
    if not expect.met(value):
        return "direction only" if expect.direction_met(value) else "not reproduced"
    # One value has no known spread, so it can reproduce a figure but never be said to exceed it.
    if expect.within is None and is_number(claim.reported) and recorded.spread is not None:
        beyond = value - claim.reported if expect.at_least is not None else claim.reported - value
        if beyond > recorded.spread:
            return "exceeded"
    return "reproduced"


def needs_higher_profile(profile: str, claim: Claim) -> bool:
    """Whether a claim needs a higher profile than this one."""
    return PROFILES.index(profile) < PROFILES.index(claim.profile)


def agrees(declared: str, computed: str) -> bool:
    """Whether a computed verdict is the declared one; exceeding counts as reproducing."""
    same = {"exceeded": "reproduced"}
    return same.get(declared, declared) == same.get(computed, computed)


@dataclass(frozen=True)
class ChapterResults:
    """What a stored notebook's outputs say: its claims, glued numbers, profile and data."""

    chapter: str
    profile: str | None
    data: list[dict]
    recorded: list[Recorded]  # in order, repeats included
    glued: dict[
        str, tuple[float | str | bool, float | None]
    ]  # (value, rtol) by key; claims are not among them
    keys: list[str]  # every glued key, in order, repeats included


def outputs_of(notebook: Mapping) -> Iterable[Mapping]:
    """All outputs of a notebook, cell by cell."""
    for cell in notebook["cells"]:
        yield from cell.get("outputs", ())


def read_results(notebook: Path | Mapping, chapter: str | None = None) -> ChapterResults:
    """Read back what a stored notebook recorded.

    Parameters
    ----------
    notebook : Path or notebook node
        The stored notebook.
    chapter : str, optional
        Its name; by default the file's.
    """
    if not isinstance(notebook, Mapping):
        chapter = chapter or Path(notebook).stem
        notebook = nbformat.read(notebook, as_version=4)
    profile, data, recorded, glued, keys = None, [], [], {}, []
    for output in outputs_of(notebook):
        metadata = output.get("metadata", {})
        if "scrapbook" in metadata:
            keys.append(metadata["scrapbook"]["name"])
        note = metadata.get("jepa", {})
        if "chapter" in note:
            profile, data = note["profile"], note["data"]
        elif "claim" in note:
            value = note["value"] if isinstance(note["value"], bool) else float(note["value"])
            spread = None if note["spread"] is None else float(note["spread"])
            recorded.append(Recorded(**{**note, "value": value, "spread": spread}))
        elif "glue" in note:
            glued[note["glue"]] = (note["value"], note["rtol"])
    return ChapterResults(chapter or "", profile, data, recorded, glued, keys)


def check_chapter(
    claims: Mapping[str, Claim], results: ChapterResults, *, rerun: bool = False
) -> list[str]:
    """Check one chapter's recorded claims against the declared ones.

    Parameters
    ----------
    claims : mapping
        All claims, by id.
    results : ChapterResults
        What the chapter recorded.
    rerun : bool
        Whether this is a check run beside the stored one: it need not attempt claims of a higher
        profile than its own.

    Returns
    -------
    list of str
        The problems; empty if every claim is recorded once and has the verdict it is declared to
        have.
    """
    own = {id: claim for id, claim in claims.items() if claim.chapter == results.chapter}
    counts = Counter(r.claim for r in results.recorded)
    problems = [
        f"{results.chapter}: claim {id!r} is recorded {n} times"
        for id, n in counts.items()
        if n > 1
    ]
    problems += [
        f"{results.chapter}: recorded claim {id!r} is not one of its claims"
        for id in counts
        if id not in own
    ]
    if results.profile == "smoke":
        return [*problems, f"{results.chapter}: its outputs are a smoke run, which is not a result"]
    for id, claim in own.items():
        found = [r for r in results.recorded if r.claim == id]
        if not found and claim.verdict != "not attempted":
            problems.append(f"{results.chapter}: claim {id!r} is never recorded")
        for recorded in found:
            verdict = verdict_of(claim, recorded)
            if rerun and needs_higher_profile(recorded.profile, claim):
                continue
            if not agrees(claim.verdict, verdict):
                problems.append(
                    f"{results.chapter}: claim {id!r} is {verdict}, declared {claim.verdict}: "
                    f"got {recorded.text()}, wants {claim.expect.text()} "
                    f"(profile {recorded.profile}, data {data_text(recorded.data)})"
                )
    return problems


def compare(
    claims: Mapping[str, Claim], stored: ChapterResults, rerun: ChapterResults
) -> list[str]:
    """Compare stored with run again: glued numbers within their tolerance, claims by verdict.

    What a re-run under a lower profile cannot attempt is left out: claims of a higher one, and all
    glued numbers."""
    name, problems = stored.chapter, []
    old, new = (
        {r.claim: r for r in results.recorded if r.claim in claims} for results in (stored, rerun)
    )
    for id in old.keys() | new.keys():
        verdicts = [verdict_of(claims[id], values.get(id)) for values in (old, new)]
        if not agrees(*verdicts) and not needs_higher_profile(rerun.profile, claims[id]):
            problems.append(
                f"{name}: claim {id!r} is {verdicts[0]} as stored, {verdicts[1]} when run again"
            )
    for key in stored.glued.keys() ^ rerun.glued.keys():
        what = "not recorded when run again" if key in stored.glued else "not stored"
        problems.append(f"{name}: number {key!r} is {what}")
    if stored.profile != rerun.profile:
        return sorted(problems)
    for key in stored.glued.keys() & rerun.glued.keys():
        (was, rtol), (now, _) = stored.glued[key], rerun.glued[key]
        if rtol is not None and not abs(float(now) - float(was)) <= rtol * max(
            abs(float(was)), abs(float(now))
        ):
            problems.append(
                f"{name}: number {key!r} is {was} as stored, {now} when run again "
                f"(tolerance {100 * rtol:g} %)"
            )
    return sorted(problems)
