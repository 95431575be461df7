"""Sphinx: the scoreboard, and the guard that lets no stale or broken chapter pass as a page."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from jepa_utils.claims.declare import VERDICTS, Claim, ClaimError, load_claims
from jepa_utils.claims.draw import made_text, verdict_class
from jepa_utils.claims.judge import Recorded, expected_text, read_results, verdict_of
from jepa_utils.publishing import chapters
from jepa_utils.publishing.visibility import with_tags

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive, the guard and the dependencies on glued numbers."""
    app.add_directive("scoreboard", Scoreboard)
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


class Scoreboard(SphinxDirective):
    """``{scoreboard}``: all claims with both values and verdict, and how the chapters were run.

    ``:chapter:`` restricts it to one chapter.
    """

    option_spec = {"chapter": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        declared = root / "book" / "claims.yml"
        self.env.note_dependency(str(declared))
        try:
            names = chapters.chapter_names(root)
            claims = load_claims(declared, chapters=names)
        except (ClaimError, OSError) as error:
            raise ExtensionError(f"scoreboard: {error}") from error
        wanted = self.options.get("chapter")
        if wanted is not None and wanted not in names:
            raise ExtensionError(
                f"scoreboard: chapter is {wanted!r}, wants one of {', '.join(names)}"
            )
        names = [wanted] if wanted else names
        verdicts, tables, status = {kind: Counter() for kind in VERDICTS}, [], []
        for name in names:
            path = root / "notebooks" / f"{name}.ipynb"
            self.env.note_dependency(str(path))
            notebook = nbformat.read(path, as_version=4)
            recorded = {r.claim: r for r in read_results(notebook, name).recorded}
            own = [claim for claim in claims.values() if claim.chapter == name]
            if missing := [
                c.id for c in own if c.id not in recorded and c.verdict != "not attempted"
            ]:
                raise ExtensionError(f"scoreboard: {name} does not record {', '.join(missing)}")
            if "jepa" not in notebook.metadata:
                raise ExtensionError(f"scoreboard: {name} was never run: 'jepa run {name}'")
            for claim in own:
                verdicts[claim.kind].update([verdict_of(claim, recorded.get(claim.id))])
            title = nodes.rubric("", "", self.link(name, _title(notebook, name)))
            tables += [title, *self.claims(own, recorded)] if own else []
            status.append(self.status(name, _title(notebook, name), notebook.metadata["jepa"]))
        summary = nodes.bullet_list("", *map(_counts_item, verdicts.items()))
        heads = ("Chapter", "Run on", "Profile", "Seconds", "Data", "Python and packages")
        return [
            summary,
            *tables,
            nodes.rubric("", "How the chapters were run"),
            _table("chapter-status", heads, status),
        ]

    def link(self, chapter: str, text: str, anchor: str = "") -> nodes.reference:
        """A link to a chapter's page, or to an anchor in it."""
        document = f"notebooks/{chapter}"
        if document not in self.env.found_docs:
            raise ExtensionError(f"scoreboard: {document} is not in _toc.yml")
        uri = self.env.app.builder.get_relative_uri(self.env.docname, document) + anchor
        return nodes.reference("", text, internal=True, refuri=uri)

    def claims(self, own: list[Claim], recorded: dict[str, Recorded]) -> list[nodes.Node]:
        """Statements and findings in one table, checks in another, which has no verdicts to win."""
        judged, checks = [], []
        for claim in own:
            found = recorded.get(claim.id)
            verdict = verdict_of(claim, found)
            says = (
                self.link(claim.chapter, claim.says, f"#claim-{claim.id}")
                if found
                else nodes.Text(claim.says)
            )
            value, expected = found.text() if found else "–", expected_text(claim, found)
            if claim.kind == "check":
                checks.append((says, value, expected, verdict))
                continue
            mark = nodes.inline("", verdict, classes=["claim-verdict", verdict_class(verdict)])
            reported = "–" if claim.reported is None else str(claim.reported)
            control = f"{claim.control}: {found.text_of(found.control)}" if found else claim.control
            made = made_text(claim, found) if found else "–"
            source = claim.source or "this book"
            judged.append((says, mark, value, control, reported, expected, source, made))
        heads = (
            "Statement or finding",
            "Verdict",
            "Measured",
            "Control",
            "Source's value",
            "Expected",
            "Source",
            "Made with",
        )
        tables = [_table("scoreboard", heads, judged)] if judged else []
        if checks:
            tables.append(_table("checks", ("Check", "Value", "Wanted", ""), checks))
        return tables

    def status(self, name: str, title: str, run: dict) -> tuple:
        packages = ", ".join(f"{package} {version}" for package, version in run["packages"].items())
        data = ", ".join(f"{d['name']} ({d['origin']})" for d in run["data"]) or "none loaded"
        made = f"Python {run['python']}, {packages}"
        return (
            self.link(name, title),
            run["executed"],
            run["profile"],
            f"{run['seconds']:.0f}",
            data,
            made,
        )


def _counts_item(counted: tuple[str, Counter]) -> nodes.list_item:
    """A kind's number of rows, and how many have which verdict."""
    kind, verdicts = counted
    total = verdicts.total()
    counts = ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS[kind] if verdicts[v]) or "none"
    text = f"{total} {kind if total == 1 else f'{kind}s'}: {counts}."
    return nodes.list_item("", nodes.paragraph("", text))


def _title(notebook, name: str) -> str:
    """A chapter's first heading."""
    lines = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
    ]
    return next((line[2:].strip() for line in lines if line.startswith("# ")), name)


def _table(name: str, heads: tuple[str, ...], rows: list[tuple]) -> nodes.container:
    """A table in a box that scrolls by itself, so that no page scrolls sideways on a phone."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
    for part, content in ((nodes.thead(), [heads]), (nodes.tbody(), rows)):
        for cells in content:
            entries = [c if isinstance(c, nodes.Node) else nodes.Text(c) for c in cells]
            part += nodes.row(
                "", *(nodes.entry("", nodes.paragraph("", "", entry)) for entry in entries)
            )
        group += part
    return nodes.container(
        "", nodes.table("", group, classes=["claim-table"]), classes=[name, "claim-scroll"]
    )


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
