"""Claims: what a chapter says is true, recorded where it is measured and checked where it is stored.

``book/claims.yml`` holds one row per checkable statement. A notebook calls `open_chapter`, then `record` once per
claim; both leave their numbers in the metadata of the notebook's outputs, so that a stored notebook can be read
back (`read_results`) and checked (`check_chapter`) without running it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path
import re

import nbformat
import numpy as np
import yaml

PROFILES = ("smoke", "laptop", "gpu")  # in rising order: a run satisfies the claims of its own and of lower profiles
VERDICTS = ("reproduced", "exceeded", "direction only", "not reproduced", "not attempted")
GLUE_PREFIX = "application/papermill.record/"  # MyST-NB's mark of a glued output that is not shown


class ClaimError(ValueError):
    """A claim is declared or recorded wrongly."""


def find_root(start: Path | None = None) -> Path:
    """Return the root of the book: the working directory's own tree, else the one this package is installed from.

    Raises
    ------
    ClaimError
        If neither holds ``book/claims.yml``.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / "book" / "claims.yml").is_file():
            return folder
    raise ClaimError(f"{start} is not in the book's tree: no book/claims.yml there or above; run inside a clone of the book")


# ---------------------------------------------------------------------------------------------------- declaring


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Expect:
    """What value a claim wants: one bound, or a relative tolerance around a value, and a weaker bound beside it.

    Parameters
    ----------
    at_least, at_most : float, optional
        The bound.
    within, of : float, optional
        Relative tolerance in [0, 1), and the value it is around.
    direction : float, optional
        A weaker bound, such as a baseline: past it but not past the main one, the claim holds in direction only.
    """

    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    of: float | None = None
    direction: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        for key, value in given.items():
            if not _number(value):
                raise ClaimError(f"expect.{key} is {value!r}, wants a finite number (in YAML write 4.0e-4, not 4e-4)")
        if set(given) - {"direction"} not in ({"at_least"}, {"at_most"}, {"within", "of"}):
            raise ClaimError(f"expect has {sorted(given)}, wants at_least, or at_most, or within and of; direction optional")
        if self.within is not None and not 0 <= self.within < 1:
            # A tolerance of 1 or more accepts zero and either sign: a claim that can hardly fail.
            raise ClaimError(f"expect.within is {self.within}, wants a relative tolerance in [0, 1)")
        if self.direction is not None and (self.direction == self.target or self.met(self.direction)):
            raise ClaimError(f"expect.direction is {self.direction}, wants a bound weaker than {self.text(short=True)}")

    @property
    def target(self) -> float:
        return next(x for x in (self.at_least, self.at_most, self.of) if x is not None)

    def met(self, value: float) -> bool:
        """Whether `value` is as expected."""
        if self.at_least is not None:
            return value >= self.at_least
        if self.at_most is not None:
            return value <= self.at_most
        return abs(value - self.of) <= self.within * abs(self.of)

    def direction_met(self, value: float) -> bool:
        """Whether `value` is past the weaker bound, on the target's side."""
        return self.direction is not None and (value - self.direction) * (self.target - self.direction) > 0

    def text(self, short: bool = False) -> str:
        """The expectation in words."""
        if self.within is not None:
            text = f"{_figure(self.of)} ± {100 * self.within:.3g} %" if self.within else f"exactly {_figure(self.of)}"
        else:
            text = f"at {'least' if self.at_least is not None else 'most'} {_figure(self.target)}"
        if self.direction is not None and not short:
            text += f" (direction only: {'above' if self.target > self.direction else 'below'} {_figure(self.direction)})"
        return text


@dataclass(frozen=True)
class Claim:
    """One row of ``book/claims.yml``."""

    id: str  # lower case, digits and dashes: the anchor of its box is claim-ID
    chapter: str  # the notebook's name, without .ipynb
    source: str  # citation, and where in it
    says: str  # the statement, in our words
    expect: Expect
    why: str  # why this tolerance
    profile: str  # the least profile that can test it
    needs_real_data: bool
    reported: float | str | None = None  # the source's figure
    verdict: str = "reproduced"  # the verdict we declare: another one breaks the build

    def __post_init__(self) -> None:
        for key in ("id", "chapter", "source", "says", "why"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip():
                raise ClaimError(f"{key} is {value!r}, wants text")
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ClaimError(f"id is {self.id!r}, wants lower-case letters, digits and dashes")
        if self.profile not in PROFILES:
            raise ClaimError(f"profile is {self.profile!r}, wants one of {', '.join(PROFILES)}")
        if self.verdict not in VERDICTS:
            raise ClaimError(f"verdict is {self.verdict!r}, wants one of {', '.join(VERDICTS)}")
        if self.verdict == "direction only" and self.expect.direction is None:
            raise ClaimError("verdict is 'direction only', wants expect.direction")
        if not isinstance(self.needs_real_data, bool):
            raise ClaimError(f"needs_real_data is {self.needs_real_data!r}, wants true or false")
        if isinstance(self.reported, str):
            try:
                float(self.reported)
            except ValueError:
                return
            raise ClaimError(f"reported is the text {self.reported!r}, wants a number: in YAML write 4.0e-4, not 4e-4")
        if self.reported is not None and not _number(self.reported):
            raise ClaimError(f"reported is {self.reported!r}, wants a finite number or text")


def load_claims(path: Path | None = None, *, chapters: Iterable[str] | None = None) -> dict[str, Claim]:
    """Read and validate the claims.

    Parameters
    ----------
    path : Path, optional
        The file; by default ``book/claims.yml`` of this book.
    chapters : iterable of str, optional
        The chapters that exist; by default the notebooks beside ``book/``.

    Returns
    -------
    dict
        `Claim` by id, in the file's order.

    Raises
    ------
    ClaimError
        Naming the row and the key.
    """
    path = Path(path or find_root() / "book" / "claims.yml")
    if chapters is None:
        chapters = [p.stem for p in sorted((path.parent.parent / "notebooks").glob("*.ipynb"))]
    known = set(chapters)
    rows = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    if not isinstance(rows, list):
        raise ClaimError(f"{path.name}: wants a list of claims, got {type(rows).__name__}")
    names = {f.name for f in fields(Claim)}
    needed = names - {"reported", "verdict"}
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, row {number}"
        if not isinstance(row, dict):
            raise ClaimError(f"{where}: wants a mapping, got {row!r}")
        where += f" ({row.get('id', 'no id')})"
        if wrong := sorted(set(row) - names):
            raise ClaimError(f"{where}: unknown key {', '.join(map(str, wrong))}; known are {', '.join(sorted(names))}")
        if missing := sorted(needed - set(row)):
            raise ClaimError(f"{where}: missing key {', '.join(missing)}")
        try:
            if not isinstance(row["expect"], dict):
                raise ClaimError(f"expect is {row['expect']!r}, wants a mapping such as at_least: 0.9")
            if wrong := sorted(set(row["expect"]) - {f.name for f in fields(Expect)}):
                raise ClaimError(f"expect has the unknown key {', '.join(map(str, wrong))}")
            claim = Claim(**{**row, "expect": Expect(**row["expect"])})
        except ClaimError as error:
            raise ClaimError(f"{where}: {error}") from None
        if claim.chapter not in known:
            raise ClaimError(f"{where}: unknown chapter {claim.chapter!r}; known are {', '.join(sorted(known)) or 'none'}")
        if claim.id in claims:
            raise ClaimError(f"{where}: id {claim.id!r} is declared twice")
        claims[claim.id] = claim
    return claims


# ------------------------------------------------------------------------------------------------------ judging


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
        text = _figure(self.value) + (f" ± {self.spread:.2g}" if self.spread is not None else "")
        text += f" {self.unit}" if self.unit else ""
        return text + (f" ({self.seeds} seeds)" if self.seeds > 1 else "")


def expected_text(claim: Claim, recorded: Recorded | None) -> str:
    """What a claim expects, in words that fit the value: a yes-or-no one is expected to be yes, not at least 1."""
    yes = recorded is not None and isinstance(recorded.value, bool) and claim.expect == Expect(at_least=1)
    return "yes" if yes else claim.expect.text()


def verdict_of(claim: Claim, recorded: Recorded | None) -> str:
    """Judge a recorded value: one of `VERDICTS`."""
    if recorded is None or needs_higher_profile(recorded.profile, claim):
        return "not attempted"
    if claim.needs_real_data and (not recorded.data or any(d["origin"] == "sample" for d in recorded.data)):
        return "not attempted"
    value = float(recorded.value)
    if not math.isfinite(value):
        return "not reproduced"
    expect = claim.expect
    if not expect.met(value):
        return "direction only" if expect.direction_met(value) else "not reproduced"
    # One value has no known spread, so it can reproduce a figure but never be said to exceed it.
    if expect.within is None and _number(claim.reported) and recorded.spread is not None:
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
    glued: dict[str, tuple[float | str | bool, float | None]]  # (value, rtol) by key; claims are not among them
    keys: list[str]  # every glued key, in order, repeats included


def _outputs(notebook: Mapping) -> Iterable[Mapping]:
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
    for output in _outputs(notebook):
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


def check_chapter(claims: Mapping[str, Claim], results: ChapterResults, *, rerun: bool = False) -> list[str]:
    """Check one chapter's recorded claims against the declared ones.

    Parameters
    ----------
    claims : mapping
        All claims, by id.
    results : ChapterResults
        What the chapter recorded.
    rerun : bool
        Whether this is a check run beside the stored one: it need not attempt claims of a higher profile than its own.

    Returns
    -------
    list of str
        The problems; empty if every claim is recorded once and has the verdict it is declared to have.
    """
    own = {id: claim for id, claim in claims.items() if claim.chapter == results.chapter}
    counts = Counter(r.claim for r in results.recorded)
    problems = [f"{results.chapter}: claim {id!r} is recorded {n} times" for id, n in counts.items() if n > 1]
    problems += [f"{results.chapter}: recorded claim {id!r} is not one of its claims" for id in counts if id not in own]
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
                    f"{results.chapter}: claim {id!r} is {verdict}, declared {claim.verdict}: got {recorded.text()}, wants "
                    f"{claim.expect.text()} (profile {recorded.profile}, data {_data_text(recorded.data)})"
                )
    return problems


def compare(claims: Mapping[str, Claim], stored: ChapterResults, rerun: ChapterResults) -> list[str]:
    """Compare a stored notebook with a re-run: glued numbers within their tolerance, claims by verdict.

    What a re-run under a lower profile cannot attempt is left out: claims of a higher one, and all glued numbers.
    """
    name, problems = stored.chapter, []
    old, new = ({r.claim: r for r in results.recorded if r.claim in claims} for results in (stored, rerun))
    for id in old.keys() | new.keys():
        verdicts = [verdict_of(claims[id], values.get(id)) for values in (old, new)]
        if not agrees(*verdicts) and not needs_higher_profile(rerun.profile, claims[id]):
            problems.append(f"{name}: claim {id!r} is {verdicts[0]} as stored, {verdicts[1]} when run again")
    for key in stored.glued.keys() ^ rerun.glued.keys():
        problems.append(f"{name}: number {key!r} is {'not recorded when run again' if key in stored.glued else 'not stored'}")
    if stored.profile != rerun.profile:
        return sorted(problems)
    for key in stored.glued.keys() & rerun.glued.keys():
        (was, rtol), (now, _) = stored.glued[key], rerun.glued[key]
        if rtol is not None and not abs(float(now) - float(was)) <= rtol * max(abs(float(was)), abs(float(now))):
            problems.append(f"{name}: number {key!r} is {was} as stored, {now} when run again (tolerance {100 * rtol:g} %)")
    return sorted(problems)


# ------------------------------------------------------------------------------------- recording, in a notebook


@dataclass
class _Run:
    """The chapter that is running in this kernel."""

    chapter: str
    profile: str
    data: list[dict]
    claims: dict[str, Claim]
    recorded: dict[str, Recorded] = field(default_factory=dict)
    cells: dict[str, str | None] = field(default_factory=dict)  # which cell used a key

    def take(self, key: str) -> None:
        """Take a key for this run, once."""
        cell = _cell_id()
        if key in self.cells and (cell is None or self.cells[key] != cell):
            raise ClaimError(f"{key!r} is recorded twice in this run; each claim and glued key is recorded exactly once")
        self.cells[key] = cell  # a reader who runs the same cell again replaces its own value


_run: _Run | None = None


def _cell_id() -> str | None:
    """The id of the running cell, which Jupyter's front ends send and batch runners do not."""
    from IPython import get_ipython

    parent = getattr(get_ipython(), "get_parent", dict)()
    return parent.get("metadata", {}).get("cellId")


def _show(data: dict, metadata: dict) -> None:
    from IPython.display import display

    display(data, raw=True, metadata=metadata)


def _current() -> _Run:
    if _run is None:
        raise ClaimError("no chapter is open: run the set-up cell, which calls open_chapter, first")
    return _run


def open_chapter(name: str, profile: str, data: object = ()) -> None:
    """Say which chapter runs, under which profile, on which data; print it, and store it with the output.

    Parameters
    ----------
    name : str
        The notebook's name without ``.ipynb``, such as ``01_word_jepa``.
    profile : str
        ``smoke``, ``laptop`` or ``gpu``.
    data : LoadedData, Provenance or a list of them
        What `load_data` returned; empty if the chapter loads none.
    """
    global _run
    if profile not in PROFILES:
        raise ClaimError(f"profile is {profile!r}, wants one of {', '.join(PROFILES)}")
    root = find_root()
    chapters = sorted(p.stem for p in (root / "notebooks").glob("*.ipynb"))
    if name not in chapters:
        raise ClaimError(f"name is {name!r}, wants a chapter: {', '.join(chapters)}")
    items = data if isinstance(data, (list, tuple)) else [data]
    sources = [getattr(item, "provenance", item) for item in items]
    provenance = [source.to_dict() for source in sources]
    _run = _Run(name, profile, provenance, load_claims(root / "book" / "claims.yml", chapters=chapters))
    lines = [f"chapter {name}, profile {profile}" + (" (smoke run: not a result)" if profile == "smoke" else "")]
    lines += [str(source) for source in sources]
    _show({"text/plain": "\n".join(lines)}, {"jepa": {"chapter": name, "profile": profile, "data": provenance}})


def _plain(value: object) -> float | int | bool | str:
    """A NumPy or torch scalar as Python's own, which prints as a bare number."""
    return value.item() if hasattr(value, "item") else value


def _json(value: float | bool | None) -> float | bool | str | None:
    """JSON has no NaN and no infinity; text that `float` reads back stands for them."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _glue(key: str, value: float | int | bool | str, note: dict | None = None) -> None:
    # What myst_nb.glue(..., display=False) emits, without importing Sphinx into a reader's notebook.
    metadata = {"scrapbook": {"name": key, "mime_prefix": GLUE_PREFIX}} | ({"jepa": note} if note else {})
    _show({GLUE_PREFIX + "text/plain": repr(value)}, metadata)


def record(claim_id: str, value: object, *, unit: str | None = None) -> None:
    """Record the value of a claim, show what it should be, and glue it for the prose.

    Parameters
    ----------
    claim_id : str
        An id of this chapter in ``book/claims.yml``; recorded exactly once per run.
    value : number, bool, or a sequence of them
        One value per seed; the mean is judged, the standard deviation (n - 1) shown.
    unit : str, optional
        The value's unit, for the reader.

    Raises
    ------
    ClaimError
        Unknown id, another chapter's id, recorded twice, or no number.
    """
    run = _current()
    claim = run.claims.get(claim_id)
    if claim is None:
        own = ", ".join(id for id, c in run.claims.items() if c.chapter == run.chapter)
        raise ClaimError(f"claim_id is {claim_id!r}, wants one of this chapter's claims in book/claims.yml: {own}")
    if claim.chapter != run.chapter:
        raise ClaimError(f"claim_id {claim_id!r} belongs to chapter {claim.chapter}, this one is {run.chapter}")
    try:
        values = np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim != 1 or not values.size:
        raise ClaimError(f"value of {claim_id!r} is {value!r}, wants a number or one number per seed")
    mean = bool(value) if isinstance(value, (bool, np.bool_)) else float(values.mean())
    spread = float(values.std(ddof=1)) if values.size > 1 else None
    run.take(claim_id)
    recorded = Recorded(claim_id, mean, spread, values.size, run.profile, run.data, unit)
    run.recorded[claim_id] = recorded
    note = {f.name: getattr(recorded, f.name) for f in fields(Recorded)} | {"value": _json(mean), "spread": _json(spread)}
    _show(claim_box(claim, recorded), {"jepa": note})
    _glue(claim_id, mean)


def glue(key: str, value: float | int | bool | str, *, rtol: float | None = 0.25) -> None:
    """Glue a measured value that is no claim, so that prose refers to it with ``{glue:text}`key```.

    Parameters
    ----------
    key : str
        Letters, digits, dashes, dots and underscores; used once per run.
    value : number, bool or str
        The value.
    rtol : float, optional
        Relative tolerance within which a re-run must find it again; None for what may differ freely, such as timings.
        Text is never compared.
    """
    run = _current()
    value = _plain(value)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", key):
        raise ClaimError(f"key is {key!r}, wants letters, digits, dashes, dots and underscores")
    if key in run.claims:
        raise ClaimError(f"key {key!r} is the id of a claim, which record() glues")
    if not isinstance(value, (bool, int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ClaimError(f"value of {key!r} is {value!r}, wants a finite number, a bool or text")
    run.take(key)
    _glue(key, value, {"glue": key, "value": value, "rtol": None if isinstance(value, str) else rtol})


def claims_table() -> None:
    """Show this chapter's claims and their verdicts so far."""
    run = _current()
    own = [claim for claim in run.claims.values() if claim.chapter == run.chapter]
    _show(_table(own, run.recorded), {"jepa": {"table": run.chapter}})


# ------------------------------------------------------------------------------------------------------ drawing


def _figure(value: float | bool | str | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"


def _data_text(data: list[dict]) -> str:
    return ", ".join(f"{d['name']} ({d['origin']})" for d in data) or "none loaded"


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict."""
    return "claim-" + verdict.replace(" ", "-")


def claim_box(claim: Claim, recorded: Recorded) -> dict[str, str]:
    """Draw the box of a recorded claim: the same text as HTML and as plain text, styled by classes only."""
    verdict = verdict_of(claim, recorded)
    smoke = recorded.profile == "smoke"
    rows = [
        ("The source", f"{_figure(claim.reported)}, {claim.source}" if claim.reported is not None else claim.source),
        ("Expected", f"{expected_text(claim, recorded)}: {claim.why}"),
        ("This run", recorded.text() + (" – smoke run: not a result" if smoke else "")),
        ("Made with", f"profile {recorded.profile}, data {_data_text(recorded.data)}"),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    html = (
        f'<div class="claim-box {verdict_class(verdict)}{" claim-smoke" if smoke else ""}" id="claim-{claim.id}">'
        f'<p class="claim-title">What you should see <span class="claim-verdict">{verdict}</span></p>'
        f'<p class="claim-says">{escape(claim.says)}</p><dl>{items}</dl></div>'
    )
    plain = "\n".join([f"What you should see [{verdict}]: {claim.says}", *(f"  {name}: {text}" for name, text in rows)])
    return {"text/html": html, "text/plain": plain}


def _table(claims: list[Claim], recorded: Mapping[str, Recorded]) -> dict[str, str]:
    head = ("Claim", "Source's value", "Expected", "This run", "Verdict")
    rows = []
    for claim in claims:
        found = recorded.get(claim.id)
        value = found.text() if found else "–"
        expected = expected_text(claim, found)
        rows.append((claim, (claim.says, _figure(claim.reported), expected, value, verdict_of(claim, found))))
    cells = ""
    for claim, row in rows:
        says = f'<a href="#claim-{claim.id}">{escape(row[0])}</a>' if claim.id in recorded else escape(row[0])
        middle = "".join(f"<td>{escape(text)}</td>" for text in row[1:-1])
        verdict = f'<td><span class="claim-verdict {verdict_class(row[-1])}">{row[-1]}</span></td>'
        cells += f"<tr><td>{says}</td>{middle}{verdict}</tr>"
    header = "".join(f'<th scope="col">{text}</th>' for text in head)
    table = f'<table class="claim-table"><thead><tr>{header}</tr></thead><tbody>{cells}</tbody></table>'
    html = f'<div class="claim-scroll" tabindex="0">{table}</div>'  # focusable, so that a keyboard can scroll it
    plain = "\n".join([" | ".join(head), *(" | ".join(row) for _, row in rows)])
    return {"text/html": html, "text/plain": plain}


def redraw(notebook: Mapping, claims: Mapping[str, Claim]) -> bool:
    """Draw a stored notebook's boxes and tables anew from its recorded values and today's claims.

    A box is a function of the claim and the recorded value, so rewording a claim or restyling a box needs no new run.

    Returns
    -------
    bool
        Whether anything was different; `notebook` is changed in place.
    """
    results = read_results(notebook)
    recorded = {r.claim: r for r in results.recorded}
    changed = False
    for output in _outputs(notebook):
        note = output.get("metadata", {}).get("jepa", {})
        if note.get("claim") in claims:
            drawn = claim_box(claims[note["claim"]], recorded[note["claim"]])
        elif "table" in note:
            drawn = _table([c for c in claims.values() if c.chapter == note["table"]], recorded)
        else:
            continue
        if dict(output["data"]) != drawn:
            output["data"] = drawn
            changed = True
    return changed
