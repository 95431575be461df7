"""What several test files share: the repository's root, and the book built once."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
BUILDER = "from jupyter_book.cli.main import main; main()"  # as `jepa book` does


@dataclass(frozen=True)
class Build:
    """What one build of the book left."""

    returncode: int
    log: str
    html: Path


# What takes long, longest first: begun last, it would leave one of two processes alone at the end.
LONG = (
    "tests/publishing/test_site.py",
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


def pytest_collection_modifyitems(items) -> None:
    """Order the files, for `--dist loadfile --no-loadscope-reorder`; within them nothing moves."""

    def place(item) -> int:
        return next((n for n, start in enumerate(LONG) if item.nodeid.startswith(start)), len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def build(tmp_path_factory) -> Build:
    """The book, built into an empty folder, once for all processes that test."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    out, said = shared / "book", shared / "book.json"
    with FileLock(shared / "book.lock"):
        if not said.exists():
            command = [sys.executable, "-c", BUILDER, "build", ROOT, "--path-output", out]
            done = subprocess.run(
                [*command, "-n", "-W", "--keep-going"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            log = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
            said.write_text(json.dumps({"returncode": done.returncode, "log": log}))
    return Build(**json.loads(said.read_text()), html=out / "_build" / "html")
