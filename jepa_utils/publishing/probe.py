"""Runs inside a chapter's kernel: which of the package it reaches, and which files it reads there.

It imports nothing of the package, so that it does not count itself among what a run reached.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

PACKAGE = "jepa_utils"
_read: set[str] = set()


def watch(root: str) -> None:
    """From now on, note every record, weight file and script of the book that is read.

    Parameters
    ----------
    root : str
        The book's root: what lies in ``results/`` counts, and what lies in the package and is no
        Python, such as a player's script.
    """
    places = {
        os.path.join(os.path.realpath(root), "results", ""): "results/",
        os.path.join(os.path.realpath(Path(__file__).parents[1]), ""): f"{PACKAGE}/",
    }

    def note(event: str, args: tuple) -> None:
        if event != "open" or not isinstance(args[0], (str, bytes)):
            return
        if isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.fsdecode(args[0])
        if path.endswith((".py", ".pyc")):
            return
        path = os.path.realpath(path)
        for place, name in places.items():
            if path.startswith(place):
                _read.add(name + path.removeprefix(place).replace(os.sep, "/"))

    sys.addaudithook(note)


def refuse_samples() -> None:
    """From now on, a built-in sample in place of real data is an error, before it is trained on."""
    # by its text, for its class lies in a module that the chapter may not need
    warnings.filterwarnings("error", message=".*NOT THE REAL DATA")


def report() -> None:
    """Leave what was reached in the metadata of an output."""
    from IPython.display import display

    modules = {n: m for n, m in sys.modules.items() if n == PACKAGE or n.startswith(PACKAGE + ".")}
    front = vars(modules[PACKAGE]) if PACKAGE in modules else {}
    reached = {
        "modules": sorted(n for n, m in modules.items() if m is not None and n != __name__),
        "names": sorted(name for name in front.get("__all__", ()) if name in front),
        "files": sorted(_read),
    }
    display({"text/plain": ""}, raw=True, metadata={"jepa": {"reached": reached}})
