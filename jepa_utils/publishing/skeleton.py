"""A chapter to begin with: it runs, keeps every rule, and its words say what belongs where."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from jepa_utils.claims.declare import find_root
from jepa_utils.publishing import chapters
from jepa_utils.publishing.chapters import KERNEL, ChapterError
from jepa_utils.publishing.rules import COMPARED

NAME = re.compile(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*")
ENTRY = re.compile(r"^( *- file: notebooks/)(\S+)$", re.MULTILINE)


def new_chapter(name: str, root: Path | None = None) -> Path:
    """Write a chapter to begin with, and add it to ``_toc.yml`` and ``book/claims.yml``.

    Parameters
    ----------
    name : str
        Number and name, such as ``07_name``.
    root : Path, optional
        The book's root.

    Returns
    -------
    Path
        The notebook.

    Raises
    ------
    ChapterError
        If the name is no such name, or its number or its claims' ids are taken.
    """
    root = root or find_root()
    if not NAME.fullmatch(name):
        raise ChapterError(
            f"name is {name!r}, wants two digits and words in lower case, such as 07_name"
        )
    if taken := [other for other in chapters.chapter_names(root) if other[:2] == name[:2]]:
        raise ChapterError(f"name is {name!r}, but chapter {name[:2]} is there: {taken[0]}")
    slug = name[3:].replace("_", "-")
    contents, claims = root / "_toc.yml", root / "book" / "claims.yml"
    if f"- id: {slug}-" in (declared := claims.read_text(encoding="utf-8")):
        raise ChapterError(f"name is {name!r}, but claims {slug}-... are there in {claims.name}")
    pages = contents.read_text(encoding="utf-8")
    entries = list(ENTRY.finditer(pages))
    if not entries:
        raise ChapterError("_toc.yml lists no '- file: notebooks/...' beside which to add it")
    before = [entry for entry in entries if entry[2] < name]
    place = before[-1].end() + 1 if before else entries[0].start()
    path = root / "notebooks" / f"{name}.ipynb"
    cells = [_cell(text.replace("NAME", name).replace("SLUG", slug)) for text in CELLS]
    for number, cell in enumerate(cells, 1):
        cell["id"] = f"c{number:03d}"
    notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    chapters.write_notebook(notebook, path)
    line = f"{entries[0][1]}{name}\n"
    contents.write_text(pages[:place] + line + pages[place:], encoding="utf-8")
    rows = CLAIMS.replace("NAME", name).replace("SLUG", slug)
    claims.write_text(f"{declared.rstrip()}\n{rows}", encoding="utf-8")
    return path


def _cell(text: str) -> nbformat.NotebookNode:
    """Code where a line of tags and dashes leads the text, prose otherwise."""
    kind, _, source = text.strip("\n").partition("\n")
    if not kind.startswith("--- code"):
        return new_markdown_cell(text.strip("\n"))
    tags = kind.split()[2:]
    return new_code_cell(source, metadata={"tags": tags} if tags else {})


CLAIMS = """
- id: SLUG-by-hand
  kind: check
  chapter: NAME
  says: "The spread by hand equals torch's: largest difference."
  expect: {at_most: 1.0e-5}
  why: "both are computed in float32; a wrong denominator shows in the second digit"
  profile: smoke

- id: SLUG-round
  kind: finding
  chapter: NAME
  says: "A Gaussian cloud has a spread of 1: mean over dimensions."
  expect: {within: 0.05, of: 1}
  why: "of that many points the spread is known to about one in a hundred"
  control: "the same cloud, shrunk to a tenth"
  profile: laptop
"""

CELLS = [
    r"""
# A new chapter

:::{admonition} This chapter at a glance
:class: note

**Source.** The document that the chapter reproduces, cited from `book/references.bib`, called
*the source* below.\
**You will build** what it describes, in plain lines; here, a measure of how widely a cloud of
points is spread.\
**Time.** `smoke` a few seconds, `laptop` a few seconds on two CPU cores, `gpu` the same with
more seeds.\
**Data.** None to download: points that are drawn on the spot.\
**Prerequisites.** Python, a little PyTorch, what a standard deviation is.
:::
""",
    r"""
## The question

Say in the reader's words what the chapter wants to know, and show its answer in one picture as
early as you can. Then build the thing, check it against the package, use it, measure it against
honest rivals, and say in the end what is true and where it holds. This chapter asks a small
question: does a cloud of points still have the spread that it was drawn with?

Two knobs come first, as in every chapter: `profile` says how much to run, `seed` where random
numbers begin. The cell carries the tag `parameters` and holds nothing else.
""",
    r"""
--- code parameters
import os

profile = os.environ.get("JEPA_PROFILE", "laptop")
seed = 0
""",
    r"""
The tools are PyTorch, Matplotlib and the book's package, described on the
{ref}`API page <api>`.
""",
    r"""
--- code
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

import jepa_utils as ju
""",
    r"""
All settings stand in one place, one to a line, and each says what it is. Whoever wants to try
another value calls `jepa run` with `--set` and need not touch the page.
""",
    r"""
--- code
@dataclass(frozen=True)
class Settings:
    num_points: int = 5000  # points of a cloud
    dimensions: int = 8  # numbers for each point
    num_seeds: int = 3  # clouds behind every compared number
""",
    r"""
The profile picks its values, and from them the seeds follow. A smoke run takes few points and
is no result. The last line opens the chapter: from here on, values can be recorded.
""",
    r"""
--- code
profiles = dict(smoke=dict(num_points=500), laptop={}, gpu=dict(num_seeds=10))
settings = Settings(**profiles[profile])
seeds = range(seed, seed + settings.num_seeds)
ju.open_chapter("NAME", profile)
""",
    r"""
## Build it

The spread of $N$ points $x_1, \dots, x_N$ in $D$ dimensions is the standard deviation of each
dimension, averaged over all of them:

$$
s = \frac1D \sum_{d=1}^D \sqrt{\frac{1}{N-1} \sum_{n=1}^N (x_{nd} - \bar x_d)^2}.
$$
""",
    r"""
--- code
def spread(points):
    centred = points - points.mean(dim=0)
    variance = centred.square().sum(dim=0) / (len(points) - 1)
    return variance.sqrt().mean()
""",
    r"""
## Check it

What is exact is printed, in at least three cells that carry the tag `nbval-check-output`:
shapes, counts, whether two things agree. The tests compare them under the smoke profile, so
they may not depend on it.
""",
    f"""
--- code {COMPARED}
toy = torch.arange(12.0).reshape(4, 3)
print("points and dimensions:", tuple(toy.shape))
""",
    r"""
By hand and by torch it has to be the same number, up to rounding:
""",
    f"""
--- code {COMPARED}
error = (spread(toy) - toy.std(dim=0).mean()).abs().item()
print("the same:", error < 1e-5)
""",
    r"""
And points that all lie in one place have no spread at all, not even a small one:
""",
    f"""
--- code {COMPARED}
print("none when collapsed:", spread(torch.ones(4, 3)).item() == 0)
""",
    r"""
The check is a claim, declared in `book/claims.yml` and recorded exactly once:
""",
    r"""
--- code
ju.record("SLUG-by-hand", error)
""",
    r"""
## Measure it

Each value is measured once for each seed, and beside it a control that has to miss the bound.
Here the control is the same cloud, shrunk.
""",
    r"""
--- code
def measured(scale, s):
    torch.manual_seed(s)
    cloud = torch.randn(settings.num_points, settings.dimensions)
    return spread(scale * cloud).item()


whole = [measured(1.0, s) for s in seeds]
shrunk = [measured(0.1, s) for s in seeds]
""",
    r"""
A figure has labels on its axes, a caption, and an alternative text that carries the finding:
""",
    r"""
--- code
fig, ax = plt.subplots(figsize=(5, 2.5))
ax.plot(list(seeds), whole, "o", label="as drawn")
ax.plot(list(seeds), shrunk, "s", label="shrunk")
ax.set(xlabel="seed", ylabel="spread", xticks=list(seeds))
ax.legend()
ju.show_figure(
    fig,
    caption="The spread of clouds, one for each seed.",
    alt="Clouds as drawn have a spread of 1, shrunk ones a tenth of that.",
)
""",
    r"""
The finding, with the interval over seeds on which it is judged, and the number of points for
the sentence below:
""",
    r"""
--- code
ju.record("SLUG-round", whole, control=shrunk)
ju.glue("SLUG-points", settings.num_points)
""",
    r"""
So a cloud of {glue:text}`SLUG-points:,` points has the spread that it was drawn with. A number
that we measured stands in prose as a reference, never typed; one of the source is typed, and
cited in the same sentence.

## What we claim

All claims of the chapter in one table. After it come exercises with hidden solutions, where the
chapter departs from its source and why, and a summary in a few sentences.
""",
    r"""
--- code
ju.claims_table()
""",
]
