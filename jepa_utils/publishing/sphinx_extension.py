"""Sphinx: the book's directives, and the guard that lets no stale or broken chapter be a page."""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from jepa_utils.claims.declare import ClaimError, load_claims
from jepa_utils.publishing import chapters, pages, scoreboard, search
from jepa_utils.publishing.visibility import with_tags

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, the guard and the dependencies on glued numbers."""
    scoreboard.setup(app)
    pages.setup(app)
    search.setup(app)
    app.add_directive("playground", Playground)
    app.connect("config-inited", add_repository)
    app.connect("builder-inited", guard)
    app.connect("source-read", depend_on_glued)
    app.connect("source-read", fold_bookkeeping)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_repository(app: Sphinx, config: Config) -> None:
    """Add the repository's address and launch buttons, where they are known.

    The book has no fixed home: the publishing environment gives its address as
    ``JEPA_REPOSITORY_URL`` (and ``JEPA_REPOSITORY_BRANCH``, by default main). Without it a page has
    no launch buttons, which would lead nowhere.
    """
    if url := os.environ.get("JEPA_REPOSITORY_URL"):
        config.html_theme_options |= {
            "repository_url": url.rstrip("/"),
            "repository_branch": os.environ.get("JEPA_REPOSITORY_BRANCH") or "main",
            "path_to_docs": "",
            "use_repository_button": True,
            "launch_buttons": {
                "notebook_interface": "jupyterlab",
                "colab_url": "https://colab.research.google.com",
                "binderhub_url": "https://mybinder.org",
                "thebe": True,
            },
        }


def guard(app: Sphinx) -> None:
    """Warn of everything wrong with the stored chapters; with ``-W`` the build fails."""
    root = Path(app.srcdir)
    try:
        claims = load_claims(root / "book" / "claims.yml")
        problems = chapters.page_problems(root)
        for name in chapters.chapter_names(root):
            problems += chapters.chapter_problems(chapters.chapter_path(name, root), claims, root)
    except (ClaimError, OSError) as error:
        raise ExtensionError(f"chapters cannot be checked: {error}") from error
    for problem in problems:
        LOGGER.warning(problem, type="jepa")


def depend_on_glued(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rebuild a page when a notebook that it takes numbers from changes; MyST-NB does not."""
    page = Path(app.env.doc2path(docname))
    for document, _ in chapters.glue_references(source[0]):
        if document:
            app.env.note_dependency(str(chapters.glue_target(document, page, Path(app.srcdir))))


def fold_bookkeeping(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fold the code of figures and records away on the page; the notebook keeps it in sight."""
    if app.env.doc2path(docname).endswith(".ipynb"):
        source[0] = with_tags(source[0])


class Playground(SphinxDirective):
    """``{playground} NAME``: a playground on a page of prose, one of `figures.playgrounds`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        # here, for they import torch and matplotlib, which no other page needs
        from jepa_utils.figures import play, playgrounds

        (name,) = self.arguments
        if name not in playgrounds.PLAYGROUNDS:
            known = ", ".join(playgrounds.PLAYGROUNDS)
            raise self.error(f"playground is {name!r}, wants one of {known}")
        for file in ("play.py", "play.css", "playgrounds/__init__.py", *play.script_files(name)):
            self.env.note_dependency(str(Path(play.__file__).parent / file))
        html = play.play_html(name, **playgrounds.PLAYGROUNDS[name]())
        return [nodes.raw("", html, format="html")]
