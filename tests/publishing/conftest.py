"""A small book whose chapter was run, once for all test files here."""

import shutil
from pathlib import Path

import pytest
from synthetic import GOOD_CELLS, make_tree

from jepa_utils.publishing.chapters import run_chapter


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Path:
    """A small book whose chapter was run."""
    root = tmp_path_factory.mktemp("ran")
    run_chapter(make_tree(root, *GOOD_CELLS), progress=False, root=root)
    return root


@pytest.fixture
def book(ran, tmp_path) -> Path:
    """A copy of it to change."""
    return shutil.copytree(ran, tmp_path / "book")
