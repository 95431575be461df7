"""Claims as ``book/claims.yml`` declares them: one row per checkable statement."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

# In rising order: a run satisfies the claims of its own and of lower profiles.
PROFILES = ("smoke", "laptop", "gpu")

VERDICTS = ("reproduced", "exceeded", "direction only", "not reproduced", "not attempted")


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


def is_number(value: object) -> bool:
    """Whether a value is a finite number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


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
    chapter: Text  # the notebook's name, without .ipynb
    source: Text  # citation, and where in it
    says: Text  # the statement, in our words
    expect: Expect
    why: Text  # why this tolerance
    profile: Literal[PROFILES]  # the least profile that can test it
    needs_real_data: Annotated[bool, Field(strict=True)]
    reported: Number | Text | None = None  # the source's figure
    verdict: Literal[VERDICTS] = "reproduced"  # another one breaks the build

    @model_validator(mode="after")
    def _bound_for_direction(self) -> Self:
        if self.verdict == "direction only" and self.expect.direction is None:
            raise ValueError("verdict is 'direction only', wants expect.direction")
        return self


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
        Naming the row and the key.
    """
    path = Path(path or find_root() / "book" / "claims.yml")
    if chapters is None:
        chapters = [p.stem for p in sorted((path.parent.parent / "notebooks").glob("*.ipynb"))]
    known = set(chapters)
    rows = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    if not isinstance(rows, list):
        raise ClaimError(f"{path.name}: wants a list of claims, got {type(rows).__name__}")
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows, 1):
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
        model = Expect if key.startswith("expect.") else Claim
        if kind == "extra_forbidden":
            found.append(f"unknown key {key}; known are {', '.join(sorted(model.model_fields))}")
        elif kind == "missing":
            found.append(f"missing key {key}")
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
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"


def data_text(data: list[dict]) -> str:
    """Which data, and where it came from."""
    return ", ".join(f"{d['name']} ({d['origin']})" for d in data) or "none loaded"
