"""Read back what a stored notebook recorded, and judge it.

Statements and findings are judged by the rules of this book:

1. The verdict is on the one-sided 95 % interval over seeds, three at least.
2. A control, recorded in the same run, misses the bound.
3. A comparison of trained methods has the same verdict at half the budget, and prints its budget.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scipy.special import stdtrit

from jepa_utils.claims.declare import PROFILES, Claim, ClaimError, Expect, data_text, figure_text

LEAST_SEEDS = 3
CONFIDENCE = 0.95  # one-sided


@dataclass(frozen=True)
class Recorded:
    """What a run measured for a claim."""

    claim: str
    values: list[float | bool]  # one for each repeat
    profile: str
    data: list[dict] = field(default_factory=list)
    control: list[float] | None = None
    half: list[float] | None = None  # at half the budget
    budget: dict[str, list[float]] | None = None  # by method: steps, samples, seconds
    over: str = "seeds"  # what the repeats are
    unit: str | None = None

    @property
    def value(self) -> float | bool:
        """The mean; of a single yes or no, that."""
        return self.values[0] if len(self.values) == 1 else statistics.mean(self.values)

    def text(self) -> str:
        """The mean with its standard deviation, unit and number of repeats."""
        return self.text_of(self.values)

    def text_of(self, values: list[float]) -> str:
        """The same of a control, or of half the budget."""
        text = rounded(values, values[0] if len(values) == 1 else statistics.mean(values))
        if len(values) > 1 and all(map(math.isfinite, values)):
            text += f" ± {rounded(values, statistics.stdev(values))}"
        text += f" {self.unit}" if self.unit else ""
        return text + (f" ({len(values)} {self.over})" if len(values) > 1 else "")


def rounded(values: list[float], number: float) -> str:
    """What was made of repeated values, to two digits of their spread; of one value as it is."""
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return figure_text(number)
    spread = statistics.stdev(values)
    if not 1e-9 < spread < 1e9:
        return figure_text(number)
    places = 1 - math.floor(math.log10(spread))
    return f"{round(number, places) + 0.0:,.{max(0, places)}f}"


class Judgement(NamedTuple):
    """A verdict, and why it is no plain yes or no."""

    verdict: str
    reason: str = ""


def interval(values: list[float]) -> tuple[float, float]:
    """Lower and upper one-sided 95 % bound of the mean, by the t distribution.

    Parameters
    ----------
    values : list of float
        One for each seed, at least two.
    """
    mean = statistics.mean(values)
    reach = (
        float(stdtrit(len(values) - 1, CONFIDENCE)) * statistics.stdev(values) / len(values) ** 0.5
    )
    return mean - reach, mean + reach


def expected_text(claim: Claim, recorded: Recorded | None) -> str:
    """What a claim expects, in words that fit the value: "yes" rather than "at least 1"."""
    yes = (
        recorded is not None
        and isinstance(recorded.value, bool)
        and claim.expect == Expect(at_least=1)
    )
    return "yes" if yes else claim.expect.text()


def _side(expect: Expect, values: list[float]) -> str:
    """Where the values lie: "met", "missed", "direction" (missed, but past the weaker bound).

    It is the interval that counts where there are seeds enough, and "open" if a bound cuts it.
    """
    if not all(map(math.isfinite, values)):
        return "missed"
    ends = interval(values) if len(values) >= LEAST_SEEDS else (statistics.mean(values),) * 2
    if all(map(expect.met, ends)):
        return "met"
    low, high = ends
    if expect.within is not None:
        reach = expect.within * abs(expect.of)
        if low <= expect.of + reach and high >= expect.of - reach:
            return "open"
    elif any(map(expect.met, ends)):
        return "open"
    return "direction" if all(map(expect.direction_met, ends)) else "missed"


def judge(claim: Claim, recorded: Recorded | None) -> Judgement:
    """Judge what was recorded, by the rules above."""
    if recorded is None or needs_higher_profile(recorded.profile, claim):
        return Judgement("not attempted")
    if not set(claim.data) <= {d["name"] for d in recorded.data if d["origin"] != "sample"}:
        return Judgement("not attempted")
    if claim.kind == "check":
        met = math.isfinite(recorded.value) and claim.expect.met(float(recorded.value))
        return Judgement("passes" if met else "fails")
    words = {"met": "reproduced", "missed": "not reproduced", "direction": "direction only"}
    if claim.kind == "finding":
        words = {"met": "supported", "missed": "not supported", "direction": "not supported"}
    side = _side(claim.expect, recorded.values)
    if side == "missed" and not all(map(math.isfinite, recorded.values)):
        return Judgement(words[side], "no number")
    if len(recorded.values) < LEAST_SEEDS:
        return Judgement("inconclusive", f"fewer than {LEAST_SEEDS} {recorded.over}")
    if side == "open":
        low, high = map(figure_text, interval(recorded.values))  # in full: the bound may be near
        return Judgement("inconclusive", f"the bound lies within the 95 % limits {low} and {high}")
    if claim.compares and not (recorded.half and recorded.budget):
        return Judgement("inconclusive", "trained methods, compared at one budget only")
    if recorded.half and len(recorded.half) < LEAST_SEEDS:
        return Judgement("inconclusive", f"at half, fewer than {LEAST_SEEDS} {recorded.over}")
    if recorded.half:
        at_half = _side(claim.expect, recorded.half)
        if words.get(at_half) != words[side]:
            half = words.get(at_half, "inconclusive")
            return Judgement("depends on budget", f"{half} at half, {words[side]} at the whole")
    return Judgement(words[side])


def verdict_of(claim: Claim, recorded: Recorded | None) -> str:
    """The verdict alone: one of its kind's `VERDICTS`."""
    return judge(claim, recorded).verdict


def needs_higher_profile(profile: str, claim: Claim) -> bool:
    """Whether a claim needs a higher profile than this one."""
    return PROFILES.index(profile) < PROFILES.index(claim.profile)


def control_problem(claim: Claim, recorded: Recorded) -> str | None:
    """What is wrong with a judged claim's control: none recorded, or it meets the bound."""
    if claim.control is None or verdict_of(claim, recorded) == "not attempted":
        return None
    if not recorded.control:
        return f"its control ({claim.control}) is not recorded"
    if _side(claim.expect, recorded.control) in ("missed", "direction"):
        return None
    return (
        f"its control ({claim.control}) does not miss the bound: "
        f"{recorded.text_of(recorded.control)}, wants {claim.expect.text(short=True)} to fail"
    )


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


SERIES = ("values", "control", "half")  # what a claim's note has a number of for each repeat


def _number(stored: float | bool | str) -> float | bool:
    """A number as it was before JSON, which has no NaN."""
    return stored if isinstance(stored, bool) else float(stored)


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
        import nbformat  # it takes longer than all else that a chapter's first cell imports

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
            if not set(SERIES) <= set(note):
                raise ClaimError(f"{chapter}: {note['claim']!r} was stored by another version")
            numbers = {key: note[key] and [_number(x) for x in note[key]] for key in SERIES}
            recorded.append(Recorded(**{**note, **numbers}))
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
        The problems; empty if every claim is recorded once, with a control that misses its bound,
        and has the verdict it is declared to have.
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
            verdict, reason = judge(claim, recorded)
            if rerun and needs_higher_profile(recorded.profile, claim):
                continue
            if problem := control_problem(claim, recorded):
                problems.append(f"{results.chapter}: claim {id!r}: {problem}")
            if verdict != claim.verdict:
                problems.append(
                    f"{results.chapter}: claim {id!r} is {verdict}"
                    f"{f' ({reason})' if reason else ''}, declared {claim.verdict}: "
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
        if verdicts[0] != verdicts[1] and not needs_higher_profile(rerun.profile, claims[id]):
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
