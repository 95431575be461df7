"""The ``jepa`` command: data, runs, checks, the benchmark and the book."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

# All else is imported where it is used: `jepa --help` has to answer at once.

app = typer.Typer(
    help="Run, check and build the Runnable JEPA Book.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    help="The data sets: where they come from, download, check.", no_args_is_help=True
)
app.add_typer(data_app, name="data")


@contextmanager
def _clear_errors(*errors: type[Exception], stopped: str = "stopped") -> Iterator[None]:
    """Turn errors that a user can mend into one message; others keep their traceback.

    So is Ctrl-C, of which `stopped` says what it leaves behind."""
    from jepa_utils.claims.declare import ClaimError
    from jepa_utils.publishing.chapters import ChapterError

    try:
        yield
    except (ChapterError, ClaimError, *errors) as error:
        typer.echo(f"jepa: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        # Of tasks that the stop cut short asyncio would tell at the end, after our last word.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        typer.echo(f"\njepa: {stopped}", err=True)
        raise typer.Exit(130) from None


def _print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


# --- data


@data_app.command("list")
def data_list() -> None:
    """List the data sets and where each would come from now."""
    from jepa_utils.data.load import check_data
    from jepa_utils.data.registry import DATASETS

    rows = []
    for name, spec in DATASETS.items():
        there = [row for row in check_data(name).items() if row[1].startswith(("ok", "unverified"))]
        source, note = (
            there[0] if there else ("hub", "to be downloaded; without network the sample")
        )
        rows.append((name, spec.what, source, note))
    _print_table(("name", "what", "comes from", "note"), rows)


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; by default all.")] = None,
) -> None:
    """Download data sets into the cache."""
    from jepa_utils.data.load import DataUnavailableError, load_data
    from jepa_utils.data.registry import DATASETS

    with _clear_errors(ValueError, DataUnavailableError):
        for name in names or DATASETS:
            typer.echo(str(load_data(name, source="hub").provenance))


@data_app.command("check")
def data_check(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; by default all.")] = None,
) -> None:
    """Compare the files that are there with their checksums; fails if one is wrong."""
    from jepa_utils.data.load import check_data
    from jepa_utils.data.registry import DATASETS

    with _clear_errors(ValueError):
        found = [(name, *row) for name in names or DATASETS for row in check_data(name).items()]
    _print_table(("name", "source", "status"), found)
    raise typer.Exit(int(any(status.startswith("damaged") for _, _, status in found)))


# --- chapters


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="Its number or name, such as 3 or 03_toy.")],
    profile: Annotated[str, typer.Option(help="smoke, laptop or gpu.")] = "laptop",
    seed: Annotated[
        int | None, typer.Option(help="Another seed than the chapter's; wants --output.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting, such as weight=0.1; wants --output."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to store the run, instead of in notebooks/.")
    ] = None,
    allow_sample: Annotated[
        bool,
        typer.Option("--allow-sample", help="Run though real data is not there; wants --output."),
    ] = False,
) -> None:
    """Run one chapter and store its outputs; a smoke run, which is no result, in _build/smoke."""
    from jepa_utils.publishing import chapters

    with _clear_errors(stopped=STOPPED):
        root = chapters.find_root()
        path = chapters.chapter_path(chapter, root)
        if profile == "smoke" and output is None:
            output = root / "_build" / "smoke" / path.name
        _run(path, root, profile, seed, output, _settings(settings), allow_sample)


STOPPED = "stopped; nothing was stored, and what was stored before is as it was"


def _settings(given: list[str] | None) -> dict[str, str]:
    """Settings as they stand on the command line, NAME=VALUE each."""
    from jepa_utils.publishing.chapters import ChapterError

    pairs = [text.partition("=") for text in given or ()]
    if wrong := ["".join(pair) for pair in pairs if not (pair[0] and pair[1])]:
        raise ChapterError(f"--set wants NAME=VALUE, such as weight=0.1, got {', '.join(wrong)}")
    return {name.strip(): value for name, _, value in pairs}


def _run(
    path: Path,
    root: Path,
    profile: str = "laptop",
    seed: int | None = None,
    output: Path | None = None,
    settings: dict[str, str] | None = None,
    allow_sample: bool = False,
) -> None:
    """Run a chapter; say where it is stored, what moved, and how to take it back."""
    from jepa_utils.publishing import chapters

    before = chapters.stored_results(path)
    options = dict(settings=settings or {}, allow_sample=allow_sample)
    stored = chapters.run_chapter(path, profile, seed, output, root=root, **options)
    inside = stored.resolve().is_relative_to(root)
    typer.echo(f"stored in {stored.resolve().relative_to(root) if inside else stored}")
    if profile == "smoke":
        return
    if before is None:
        typer.echo("there was no run before, to compare it with")
    else:
        moved = chapters.what_moved(before, stored, root)
        for line in moved:
            typer.echo(f"  moved: {line}")
        if not moved:
            typer.echo("no verdict is another, and no glued number moved beyond its tolerance")
        if output is None:
            typer.echo(f"to take it back: git checkout -- {path.relative_to(root)}")


@app.command()
def new(name: Annotated[str, typer.Argument(help="Number and name, such as 07_name.")]) -> None:
    """Write a chapter to begin with, which runs and keeps every rule."""
    from jepa_utils.publishing import chapters
    from jepa_utils.publishing.skeleton import new_chapter

    with _clear_errors():
        root = chapters.find_root()
        path = new_chapter(name, root)
    typer.echo(f"written: {path.relative_to(root)}, with rows in book/claims.yml and _toc.yml")
    typer.echo(f"next: 'jepa run {name}', then 'jepa check {name}'")


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Chapters; by default all.")] = None,
) -> None:
    """List every rule that a chapter breaks, and how to mend it; runs nothing."""
    from jepa_utils.publishing import chapters, rules

    with _clear_errors():
        root, broken = chapters.find_root(), 0
        for name in names or chapters.chapter_names(root):
            problems = rules.check_chapter(name, root)
            broken += len(problems)
            count = f"{len(problems) or 'no'} problem{'s' * (len(problems) != 1)}"
            typer.echo(f"{chapters.chapter_path(name, root).stem}: {count}")
            for problem in problems:
                typer.echo(f"  {problem}")
    raise typer.Exit(int(bool(broken)))


@app.command()
def stale() -> None:
    """List the chapters whose outputs are out of date, and what changed; fails if there is one."""
    from jepa_utils.publishing import chapters

    with _clear_errors():
        found = chapters.stale_chapters()
    for name, changed in found.items():
        typer.echo(f"{name}: {', '.join(changed)}")
    raise typer.Exit(int(bool(found)))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Chapters; by default all.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters run at a time.")] = 1,
) -> None:
    """Run chapters again under the laptop profile and check every claim, stored and run again."""
    from jepa_utils.publishing import chapters

    with _clear_errors(stopped=STOPPED):
        problems = chapters.verify(names, jobs)
    typer.echo(f"{len(problems)} problems" if problems else "every claim is as declared")
    raise typer.Exit(int(bool(problems)))


@app.command()
def bench() -> None:
    """Time SIGReg and compiled steps into results/bench.json; fails if a bound is missed."""
    from jepa_utils.claims.declare import find_root
    from jepa_utils.publishing.bench import run_benchmark

    with _clear_errors():
        held = run_benchmark(find_root() / "results" / "bench.json")
    raise typer.Exit(int(held is False))


def _seeds(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds must be whole numbers, such as 0,1,2, got {text!r}") from None


@app.command()
def train(
    experiments: Annotated[
        list[str],
        typer.Argument(
            help="cifar10, captions, eyes, photographs, questions, texts, spiral, words, worlds, "
            "writers; or a part of one: cifar10/I-JEPA."
        ),
    ],
    recipe: Annotated[
        str | None, typer.Option(help="Such as tiny, which takes seconds; by default the largest.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices of each node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that share each batch.")] = 1,
    seeds: Annotated[
        str | None, typer.Option(help="Such as 0,1,2; by default the recipe's.")
    ] = None,
) -> None:
    """Train experiments, into results/; goes on where it was interrupted."""
    from jepa_utils.experiments.run import run_experiments
    from jepa_utils.experiments.store import RecordError
    from jepa_utils.models.checkpoints import CheckpointError
    from jepa_utils.publishing import chapters

    errors = (ValueError, RecordError, CheckpointError, FloatingPointError)
    with _clear_errors(*errors, stopped="stopped; the same command goes on from the last epoch"):
        chosen = _seeds(seeds)
        options = dict(recipe=recipe, seeds=chosen, devices=devices, nodes=nodes, say=typer.echo)
        run_experiments(experiments, chapters.find_root(), **options)


# --- book


@app.command()
def book(
    run: Annotated[
        bool, typer.Option(help="Run stale chapters; with --no-run they are an error.")
    ] = True,
) -> None:
    """Run stale chapters, build the HTML with warnings as errors, and say where the page is."""
    from jepa_utils.publishing import chapters

    with _clear_errors(stopped="stopped; what was stored before is as it was"):
        root = chapters.find_root()
        names = chapters.stale_chapters(root)
        if names and not run:
            raise chapters.ChapterError(f"stale: {', '.join(names)}; run 'jepa book'")
        for number, (name, changed) in enumerate(names.items(), 1):
            typer.echo(
                f"running {name}, stale chapter {number} of {len(names)}: {', '.join(changed)}"
            )
            _run(chapters.chapter_path(name, root), root)
        for name in chapters.redraw_chapters(root):
            typer.echo(f"{name}: claim boxes drawn anew")
        if status := build_html(root):
            raise chapters.ChapterError(f"the build failed (jupyter-book: exit status {status})")
        page = root / "_build" / "html" / "index.html"
        typer.echo(f"\nThe book is at {page.relative_to(root)}\n{page.as_uri()}")


@app.command()
def pdf() -> None:
    """Print the built book into one PDF, with contents and outline; needs a Chromium."""
    from jepa_utils.publishing import chapters
    from jepa_utils.publishing.pdf import PdfError, build_pdf

    with _clear_errors(PdfError, stopped="stopped; a PDF that was there before still is"):
        root = chapters.find_root()
        path = build_pdf(root / "_build" / "html", root / "_toc.yml")
        size = path.stat().st_size / 1e6
        typer.echo(f"The book as one PDF ({size:.0f} MB) is at {path.relative_to(root)}")


def build_html(root: Path) -> int:
    """Build the HTML with Jupyter Book; return its exit status."""
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    # --all: pages quote values of other pages, and an incremental build leaves those, and the
    # styles, as they were
    options = ["--all", "--builder", "html", "-n", "-W", "--keep-going"]
    return subprocess.run([*program, "build", ".", *options], cwd=root).returncode


if __name__ == "__main__":
    app()
