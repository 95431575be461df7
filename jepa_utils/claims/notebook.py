"""Recording, in a running notebook: `open_chapter`, then `record` per claim and `glue`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from jepa_utils.claims.declare import PROFILES, Claim, ClaimError, find_root, load_claims
from jepa_utils.claims.draw import claim_box, claims_table_html
from jepa_utils.claims.judge import SERIES, Recorded

GLUE_PREFIX = "application/papermill.record/"  # MyST-NB's mark of a glued output that is not shown


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
            raise ClaimError(
                f"{key!r} is recorded twice in this run; each claim and glued key is recorded once"
            )
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
    """Say which chapter runs, under which profile, on which data, and store it with the output.

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
    _run = _Run(
        name, profile, provenance, load_claims(root / "book" / "claims.yml", chapters=chapters)
    )
    lines = [
        f"chapter {name}, profile {profile}"
        + (" (smoke run: not a result)" if profile == "smoke" else "")
    ]
    lines += [str(source) for source in sources]
    _show(
        {"text/plain": "\n".join(lines)},
        {"jepa": {"chapter": name, "profile": profile, "data": provenance}},
    )


def _plain(value: object) -> float | int | bool | str:
    """A NumPy or torch scalar as Python's own, which prints as a bare number."""
    return value.item() if hasattr(value, "item") else value


def _json(value: float | bool | None) -> float | bool | str | None:
    """JSON has no NaN and no infinity; text that `float` reads back stands for them."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _glue(key: str, value: float | int | bool | str, note: dict | None = None) -> None:
    # What myst_nb.glue(..., display=False) emits, without importing Sphinx into a reader's
    # notebook.
    metadata = {"scrapbook": {"name": key, "mime_prefix": GLUE_PREFIX}} | (
        {"jepa": note} if note else {}
    )
    _show({GLUE_PREFIX + "text/plain": repr(value)}, metadata)


def record(
    claim_id: str,
    value: object,
    *,
    control: object = None,
    half: object = None,
    budget: Mapping[str, Sequence[float]] | None = None,
    over: str = "seeds",
    unit: str | None = None,
) -> None:
    """Record what was measured for a claim, show what it should be, and glue it for the prose.

    Parameters
    ----------
    claim_id : str
        An id of this chapter in ``book/claims.yml``; recorded exactly once per run.
    value : number, bool, or a sequence of numbers
        One for each repeat; the 95 % interval of their mean is judged (a check's mean alone).
    control : number or a sequence of them
        The same of the control that the row names, in the same run.
    half : number or a sequence of them, optional
        The same at half the training's budget; a comparison of trained methods wants it.
    budget : mapping of str to (steps, samples, seconds), optional
        What each method's training took; a comparison wants it.
    over : str, default "seeds"
        What the repeats are.
    unit : str, optional
        The value's unit, for the reader.

    Raises
    ------
    ClaimError
        Unknown id, another chapter's id, recorded twice, no number, no control where the row names
        one, or data that the chapter did not open.
    """
    run = _current()
    claim = run.claims.get(claim_id)
    if claim is None:
        own = ", ".join(id for id, c in run.claims.items() if c.chapter == run.chapter)
        raise ClaimError(
            f"claim_id is {claim_id!r}, wants one of this chapter's in book/claims.yml: {own}"
        )
    if claim.chapter != run.chapter:
        raise ClaimError(
            f"claim_id {claim_id!r} belongs to chapter {claim.chapter}, this one is {run.chapter}"
        )
    if (control is None) != (claim.control is None):
        wants = f"wants control, of {claim.control!r}" if claim.control else "takes no control"
        raise ClaimError(f"{claim_id!r} {wants}, as its row in book/claims.yml says")
    if lacking := set(claim.data) - {item["name"] for item in run.data}:
        raise ClaimError(f"{claim_id!r} is made of data not opened here: {sorted(lacking)}")
    series = {"values": _numbers(value, f"value of {claim_id!r}")}
    for name, given in (("control", control), ("half", half)):
        series[name] = None if given is None else _numbers(given, f"{name} of {claim_id!r}")
    for method, spent in (budget or {}).items():
        if len(_numbers(spent, f"budget of {method!r}")) != 3:
            raise ClaimError(f"budget of {method!r} is {spent!r}, wants steps, samples, seconds")
    run.take(claim_id)
    recorded = Recorded(
        claim_id,
        profile=run.profile,
        data=[item for item in run.data if item["name"] in claim.data],
        budget=budget and {k: _numbers(v, "budget") for k, v in budget.items()},
        over=over,
        unit=unit,
        **series,
    )
    run.recorded[claim_id] = recorded
    note = {f.name: getattr(recorded, f.name) for f in fields(Recorded)}
    note |= {key: note[key] and [_json(number) for number in note[key]] for key in SERIES}
    _show(claim_box(claim, recorded), {"jepa": note})
    _glue(claim_id, recorded.value)


def _numbers(given: object, name: str) -> list[float | bool]:
    """A number, or numbers in one dimension, as a list; a single yes or no stays one."""
    if isinstance(given, (bool, np.bool_)):
        return [bool(given)]
    try:
        numbers = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or not numbers.size or given is None:
        raise ClaimError(f"{name} is {given!r}, wants a number or one number per seed")
    return numbers.tolist()


def glue(key: str, value: float | int | bool | str, *, rtol: float | None = 0.02) -> None:
    """Glue a measured value that is no claim, so that prose refers to it with ``{glue:text}`key```.

    Parameters
    ----------
    key : str
        Letters, digits, dashes, dots and underscores; used once per run.
    value : number, bool or str
        The value.
    rtol : float, default 0.02
        Relative tolerance within which a re-run must find it again; None for what may differ
        freely, such as timings. Text is never compared.
    """
    run = _current()
    value = _plain(value)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", key):
        raise ClaimError(f"key is {key!r}, wants letters, digits, dashes, dots and underscores")
    if key in run.claims:
        raise ClaimError(f"key {key!r} is the id of a claim, which record() glues")
    if not isinstance(value, (bool, int, float, str)) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ClaimError(f"value of {key!r} is {value!r}, wants a finite number, a bool or text")
    run.take(key)
    _glue(
        key, value, {"glue": key, "value": value, "rtol": None if isinstance(value, str) else rtol}
    )


def claims_table() -> None:
    """Show this chapter's claims and their verdicts so far."""
    run = _current()
    own = [claim for claim in run.claims.values() if claim.chapter == run.chapter]
    _show(claims_table_html(own, run.recorded), {"jepa": {"table": run.chapter}})
