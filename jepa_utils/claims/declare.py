"""Claims as ``book/claims.yml`` declares them: one row per checkable sentence, of three kinds.

A *check* is true by construction or arithmetic. A *statement* is a source's, a *finding* ours; both
are judged on the interval over seeds, beside a control that has to miss the bound.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

# In rising order: a run satisfies the claims of its own and of lower profiles.
PROFILES = ("smoke", "laptop", "gpu")

# Of each kind, the best first: it is what a row declares if it declares nothing.
VERDICTS = {
    "check": ("passes", "fails", "not attempted"),
    "statement": (
        "reproduced",
        "direction only",
        "not reproduced",
        "depends on budget",
        "inconclusive",
        "not attempted",
    ),
    "finding": ("supported", "not supported", "depends on budget", "inconclusive", "not attempted"),
}

UNDECIDED = ("depends on budget", "inconclusive", "not attempted")


class ClaimError(ValueError):
    """A claim is declared or recorded wrongly."""


def find_root(start: Path | None = None) -> Path:
    """The book's root: the working directory's own tree, else the one this package lies in.

    Raises
    ------
    ClaimError
        If neither holds ``book/claims.yml``.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / "book" / "claims.yml").is_file():
            return folder
    raise ClaimError(
        f"{start} is not in the book's tree: no book/claims.yml there or above; run inside a clone "
        "of the book"
    )


def _as_number(value: object) -> object:
    """YAML 1.1 takes 4e-4 for text: read it as the number that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_as_number), Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"\S")]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(_Row):
    """What value a claim wants: one bound, or a tolerance around a value; beside it a weaker bound.

    Parameters
    ----------
    at_least, at_most : float, optional
        The bound.
    within, of : float, optional
        Relative tolerance in [0, 1), and the value it is around. One of 1 or more would accept zero
        and either sign: a claim that can hardly fail.
    direction : float, optional
        A weaker bound, such as a baseline: past it but not past the main one, the claim holds in
        direction only.
    """

    at_least: Number | None = None
    at_most: Number | None = None
    within: Annotated[Number, Field(ge=0, lt=1)] | None = None
    of: Number | None = None
    direction: Number | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = set(self.model_dump(exclude_none=True)) - {"direction"}
        if given not in ({"at_least"}, {"at_most"}, {"within", "of"}):
            raise ValueError(f"wants at_least, or at_most, or within and of; got {sorted(given)}")
        if self.direction is not None and (
            self.direction == self.target or self.met(self.direction)
        ):
            raise ValueError(f"direction wants a bound weaker than {self.text(short=True)}")
        return self

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
        return (
            self.direction is not None
            and (value - self.direction) * (self.target - self.direction) > 0
        )

    def text(self, short: bool = False) -> str:
        """The expectation in words."""
        if self.within is not None:
            text = (
                f"{figure_text(self.of)} ± {100 * self.within:.3g} %"
                if self.within
                else f"exactly {figure_text(self.of)}"
            )
        else:
            text = (
                f"at {'least' if self.at_least is not None else 'most'} {figure_text(self.target)}"
            )
        if self.direction is not None and not short:
            side = "above" if self.target > self.direction else "below"
            text += f" (direction only: {side} {figure_text(self.direction)})"
        return text


class Claim(_Row):
    """One row of ``book/claims.yml``."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]  # its box is claim-ID
    kind: Literal["check", "statement", "finding"]
    chapter: Text  # the notebook's name, without .ipynb
    says: Text  # the sentence, in our words
    expect: Expect
    why: Text  # why this bound
    profile: Literal[PROFILES]  # the least profile that can test it
    source: Text | None = None  # of a statement: citation, and where in it
    reported: Number | Text | None = None  # the source's figure
    control: Text | None = None  # what has to miss the bound
    compares: Annotated[bool, Field(strict=True)] = False  # trained methods with one another
    search: Text | None = None  # how settings were chosen; of a comparison, for both sides
    data: tuple[Text, ...] = ()  # data sets that its number is made of; none if generated
    records: tuple[Text, ...] = ()  # EXPERIMENT/RECIPE, where the number is not this run's
    verdict: Text  # another one breaks the build; by default the best of its kind

    @model_validator(mode="before")
    @classmethod
    def _best_verdict(cls, row: object) -> object:
        if isinstance(row, dict) and row.get("kind") in VERDICTS and "verdict" not in row:
            return row | {"verdict": VERDICTS[row["kind"]][0]}
        return row

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        if self.verdict not in VERDICTS[self.kind]:
            raise ValueError(
                f"verdict is {self.verdict!r}, wants one of a {self.kind}'s: "
                f"{', '.join(VERDICTS[self.kind])}"
            )
        if self.verdict == "direction only" and self.expect.direction is None:
            raise ValueError("verdict is 'direction only', wants expect.direction")
        if self.kind == "check":
            if given := [key for key in ("control", "search") if getattr(self, key)]:
                raise ValueError(f"a check has no {' and no '.join(given)}")
            if self.compares or self.expect.direction is not None:
                raise ValueError("a check compares no trained methods and has no direction")
            return self
        if self.control is None:
            raise ValueError(f"missing key control: a {self.kind} names what has to miss its bound")
        if self.kind == "statement" and self.source is None:
            raise ValueError("missing key source: a statement is somebody's")
        if self.compares and self.search is None:
            raise ValueError("missing key search: a comparison says how both sides were tuned")
        return self


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # by libyaml: ten times as fast
    """YAML in which a key may stand once only."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                mark = node.value[place][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


def _read_rows(path: Path) -> list:
    try:
        rows = yaml.load(path.read_text(encoding="utf-8"), _Loader) or []
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise ClaimError(f"{path.name}{line}: {problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClaimError(f"{path.name} is no readable YAML: {error}") from None
    if not isinstance(rows, list):
        raise ClaimError(f"{path.name}: wants a list of claims, got {type(rows).__name__}")
    return rows


def load_claims(
    path: Path | None = None, *, chapters: Iterable[str] | None = None
) -> dict[str, Claim]:
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
        Naming the row and the key, or the line where the file is no YAML.
    """
    path = Path(path or find_root() / "book" / "claims.yml")
    if chapters is None:
        chapters = [p.stem for p in sorted((path.parent.parent / "notebooks").glob("*.ipynb"))]
    known = set(chapters)
    claims: dict[str, Claim] = {}
    for number, row in enumerate(_read_rows(path), 1):
        where = f"{path.name}, row {number}"
        if isinstance(row, dict):
            where += f" ({row.get('id', 'no id')})"
        try:
            claim = Claim.model_validate(row)
        except ValidationError as error:
            raise ClaimError(f"{where}: {_in_words(error)}") from None
        if claim.chapter not in known:
            raise ClaimError(
                f"{where}: chapter is {claim.chapter!r}, wants one of {', '.join(sorted(known))}"
            )
        if claim.id in claims:
            raise ClaimError(f"{where}: id {claim.id!r} is declared twice")
        claims[claim.id] = claim
    return claims


def _in_words(error: ValidationError) -> str:
    """Pydantic's findings, each with the key it is about and what was given there."""
    found = []
    for part in error.errors():
        key, kind = ".".join(map(str, part["loc"])), part["type"]
        known = ", ".join(sorted((Expect if "expect." in key else Claim).model_fields))
        if kind == "extra_forbidden":
            found.append(f"unknown key {key}; known are {known}")
        elif kind == "missing":
            found.append(f"missing key {key}; known are {known}")
        elif kind == "value_error":
            found.append(f"{key or 'row'}: {part['msg'].removeprefix('Value error, ')}")
        else:
            found.append(f"{key or 'row'} is {part['input']!r}: {part['msg']}")
    return "; ".join(found)


def figure_text(value: float | bool | str | None) -> str:
    """A value as a reader reads it."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    if abs(value) < 1e-15:  # what rounding leaves of differences that cancel
        return "0"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"


def data_text(data: list[dict]) -> str:
    """Which data, and where it came from."""
    return ", ".join(f"{d['name']} ({d['origin']})" for d in data) or "generated"
