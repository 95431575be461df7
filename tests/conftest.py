"""What several test files share: the repository's root, and the book built once."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Build:
    """What one build of the book left."""

    returncode: int
    log: str
    html: Path


BUILT = "the built book"  # the tests that look at it: one of two processes has them, and builds

# What takes long, longest first: begun last, it would leave one of two processes alone at the end.
LONG = (
    BUILT,
    "notebooks/05_vl_jepa.ipynb",
    "notebooks/04_ijepa_cifar10.ipynb",
    "notebooks/01_word_jepa.ipynb",
    "tests/publishing/test_chapters.py",
    "tests/publishing/test_preflight.py",
    "tests/experiments",
    "tests/training",
    "tests/publishing/test_scoreboard.py",
    "tests/data/test_load.py",
    "tests/figures",
    "notebooks",
    "tests/publishing",
)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items) -> None:
    """Files as groups of `--dist loadgroup --no-loadscope-reorder`; within them nothing moves."""
    built = {item.path for item in items if "build" in getattr(item, "fixturenames", ())}

    def group(item) -> str:
        return BUILT if item.path in built else item.nodeid.partition("::")[0]

    def place(item) -> int:
        return next((n for n, start in enumerate(LONG) if group(item).startswith(start)), len(LONG))

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=place)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def build(tmp_path_factory) -> Build:
    """The book, built into an empty folder: Sphinx repeats no warning about an unchanged page."""
    out = tmp_path_factory.mktemp("book")
    program = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
    ]  # as `jepa book` does
    command = [*program, "build", ROOT, "--path-output", out, "-n", "-W", "--keep-going"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Build(
        done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout), out / "_build" / "html"
    )
