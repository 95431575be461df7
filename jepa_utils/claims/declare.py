"""Claims as ``book/claims.yml`` declares them: one row per checkable statement."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import yaml

PROFILES = (
    "smoke",
    "laptop",
    "gpu",
)  # in rising order: a run satisfies the claims of its own and of lower profiles


VERDICTS = ("reproduced", "exceeded", "direction only", "not reproduced", "not attempted")


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
    raise ClaimError(
        f"{start} is not in the book's tree: no book/claims.yml there or above; run inside a clone of the book"
    )


def is_number(value: object) -> bool:
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
        A weaker bound, such as a baseline: past it but not past the main one, the claim holds in
        direction only.
    """

    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    of: float | None = None
    direction: float | None = None

    def __post_init__(self) -> None:
        given = {
            f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None
        }
        for key, value in given.items():
            if not is_number(value):
                raise ClaimError(
                    f"expect.{key} is {value!r}, wants a finite number (in YAML write 4.0e-4, not 4e-4)"
                )
        if set(given) - {"direction"} not in ({"at_least"}, {"at_most"}, {"within", "of"}):
            raise ClaimError(
                f"expect has {sorted(given)}, wants at_least, or at_most, or within and of; direction optional"
            )
        if self.within is not None and not 0 <= self.within < 1:
            # A tolerance of 1 or more accepts zero and either sign: a claim that can hardly fail.
            raise ClaimError(
                f"expect.within is {self.within}, wants a relative tolerance in [0, 1)"
            )
        if self.direction is not None and (
            self.direction == self.target or self.met(self.direction)
        ):
            raise ClaimError(
                f"expect.direction is {self.direction}, wants a bound weaker than {self.text(short=True)}"
            )

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
            text += f" (direction only: {'above' if self.target > self.direction else 'below'} {figure_text(self.direction)})"
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
            raise ClaimError(
                f"reported is the text {self.reported!r}, wants a number: in YAML write 4.0e-4, not 4e-4"
            )
        if self.reported is not None and not is_number(self.reported):
            raise ClaimError(f"reported is {self.reported!r}, wants a finite number or text")


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
    names = {f.name for f in fields(Claim)}
    needed = names - {"reported", "verdict"}
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, row {number}"
        if not isinstance(row, dict):
            raise ClaimError(f"{where}: wants a mapping, got {row!r}")
        where += f" ({row.get('id', 'no id')})"
        if wrong := sorted(set(row) - names):
            raise ClaimError(
                f"{where}: unknown key {', '.join(map(str, wrong))}; known are {', '.join(sorted(names))}"
            )
        if missing := sorted(needed - set(row)):
            raise ClaimError(f"{where}: missing key {', '.join(missing)}")
        try:
            if not isinstance(row["expect"], dict):
                raise ClaimError(
                    f"expect is {row['expect']!r}, wants a mapping such as at_least: 0.9"
                )
            if wrong := sorted(set(row["expect"]) - {f.name for f in fields(Expect)}):
                raise ClaimError(f"expect has the unknown key {', '.join(map(str, wrong))}")
            claim = Claim(**{**row, "expect": Expect(**row["expect"])})
        except ClaimError as error:
            raise ClaimError(f"{where}: {error}") from None
        if claim.chapter not in known:
            raise ClaimError(
                f"{where}: unknown chapter {claim.chapter!r}; known are {', '.join(sorted(known)) or 'none'}"
            )
        if claim.id in claims:
            raise ClaimError(f"{where}: id {claim.id!r} is declared twice")
        claims[claim.id] = claim
    return claims


def figure_text(value: float | bool | str | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"


def data_text(data: list[dict]) -> str:
    return ", ".join(f"{d['name']} ({d['origin']})" for d in data) or "none loaded"
