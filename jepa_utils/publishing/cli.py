"""The ``jepa`` command: data, runs, checks, the benchmark and the book."""

from __future__ import annotations

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
def _clear_errors(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors that a user can mend into one message; others keep their traceback."""
    from jepa_utils.claims.declare import ClaimError
    from jepa_utils.publishing.chapters import ChapterError

    try:
        yield
    except (ChapterError, ClaimError, *errors) as error:
        typer.echo(f"jepa: {error}", err=True)
        raise typer.Exit(1) from None


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
    from jepa_utils.data import load as sources

    rows = [(row.name, row.what, row.origin, row.note) for row in sources.list_data()]
    _print_table(("name", "what", "comes from", "note"), rows)


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; by default all.")] = None,
) -> None:
    """Download data sets into the cache."""
    from jepa_utils.data import load as sources

    with _clear_errors(ValueError, sources.DataUnavailableError):
        for name in names or sorted(sources.DATASETS):
            typer.echo(str(sources.fetch_data(name)))


@data_app.command("check")
def data_check(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; by default all.")] = None,
) -> None:
    """Compare the files that are there with their checksums; fails if one is wrong."""
    from jepa_utils.data import load as sources

    rows, bad = [], False
    with _clear_errors(ValueError):
        for name in names or sorted(sources.DATASETS):
            for check in sources.check_data(name):
                bad |= check.status in ("mismatch", "unreadable")
                rows.append((name, check.origin, check.status, check.note))
    _print_table(("name", "source", "status", "note"), rows)
    raise typer.Exit(int(bad))


# --- chapters


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="Name, or its beginning, such as 01.")],
    profile: Annotated[str, typer.Option(help="smoke, laptop or gpu.")] = "laptop",
    seed: Annotated[int, typer.Option(help="The chapter's seed.")] = 0,
) -> None:
    """Run one chapter and store its outputs; a smoke run, which is no result, in _build/smoke."""
    from jepa_utils.publishing import chapters

    with _clear_errors():
        root = chapters.find_root()
        path = chapters.chapter_path(chapter, root)
        output = root / "_build" / "smoke" / path.name if profile == "smoke" else None
        stored = chapters.run_chapter(path, profile, seed, output, root=root)
        typer.echo(f"stored in {stored.relative_to(root)}")


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

    with _clear_errors():
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


@app.command()
def pretrain(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Such as I-JEPA or views; by default those of chapter 4."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            help="smoke, laptop (an hour on two cores), long or twenty (half an hour and two hours for I-JEPA), or gpu."
        ),
    ] = "gpu",
) -> None:
    """Train chapter 4's encoders, the runs of record; goes on where it was interrupted. Writes to results/."""
    from jepa_utils.data.load import load_data
    from jepa_utils.experiments.cifar10 import RECIPES, VisionRecipe, pretrain_record
    from jepa_utils.experiments.store import RecordError

    with _clear_errors(ValueError, RecordError):
        if profile not in RECIPES:
            raise ValueError(f"profile must be one of {', '.join(RECIPES)}, got {profile!r}")
        root = chapters.find_root()
        loaded = load_data("cifar10", source="sample" if profile == "smoke" else None)
        typer.echo(str(loaded.provenance))
        folder = root / "_build" / "smoke" if profile == "smoke" else root / "results"
        chosen = {"methods": methods} if methods else {}
        recipe = getattr(VisionRecipe, profile)()
        pretrain_record(
            recipe,
            loaded,
            profile=profile,
            folder=folder,
            checkpoints=root / "checkpoints",
            say=typer.echo,
            **chosen,
        )


@app.command()
def captions(
    experiments: Annotated[
        list[str] | None, typer.Argument(help="Such as scenes or temperature; by default all.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="smoke, or long (about an hour on two cores).")
    ] = "long",
) -> None:
    """Train chapter 5's models for longer than a page can wait; goes on where it was interrupted. Writes to results/."""
    from jepa_utils.data.load import load_data
    from jepa_utils.experiments.captions import CAPTION_RECIPES, CaptionRecipe, caption_record
    from jepa_utils.experiments.store import RecordError
    from jepa_utils.models.checkpoints import CheckpointError

    with _clear_errors(ValueError, RecordError, CheckpointError):
        if profile not in CAPTION_RECIPES:
            raise ValueError(
                f"profile must be one of {', '.join(CAPTION_RECIPES)}, got {profile!r}"
            )
        root = chapters.find_root()
        photographs = load_data("flickr8k", source="sample" if profile == "smoke" else None)
        typer.echo(str(photographs.provenance))
        places = dict(
            folder=root / "_build" / "smoke" if profile == "smoke" else root / "results",
            checkpoints=root / "checkpoints",
        )
        chosen = {"experiments": experiments} if experiments else {}
        recipe, encoder = (
            getattr(CaptionRecipe, profile)(),
            root / "results" / "cifar10_long_ijepa.safetensors",
        )
        caption_record(
            recipe,
            photographs,
            encoder=encoder,
            profile=profile,
            **places,
            say=typer.echo,
            **chosen,
        )


# --- book


@app.command()
def book(
    run: Annotated[
        bool, typer.Option(help="Run stale chapters; with --no-run they are an error.")
    ] = True,
) -> None:
    """Run stale chapters, build the HTML with warnings as errors, and say where the page is."""
    from jepa_utils.publishing import chapters

    with _clear_errors():
        root = chapters.find_root()
        names = chapters.stale_chapters(root)
        if names and not run:
            raise chapters.ChapterError(f"stale: {', '.join(names)}; run 'jepa book'")
        for number, (name, changed) in enumerate(names.items(), 1):
            typer.echo(
                f"running {name}, stale chapter {number} of {len(names)}: {', '.join(changed)}"
            )
            chapters.run_chapter(name, root=root)
        for name in chapters.redraw_chapters(root):
            typer.echo(f"{name}: claim boxes drawn anew")
        if status := build_html(root):
            raise chapters.ChapterError(f"the build failed (jupyter-book: exit status {status})")
        page = root / "_build" / "html" / "index.html"
        typer.echo(f"\nThe book is at {page.relative_to(root)}\n{page.as_uri()}")


def build_html(root: Path) -> int:
    """Build the HTML with Jupyter Book; return its exit status."""
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    # --all: pages quote values of other pages, and an incremental build leaves those, and the
    # styles, as they were
    options = ["--all", "--builder", "html", "-n", "-W", "--keep-going"]
    return subprocess.run([*program, "build", ".", *options], cwd=root).returncode


if __name__ == "__main__":
    app()
