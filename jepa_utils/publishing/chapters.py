"""Chapters: run one under a profile, store its outputs, and find what is wrong with stored ones."""

from __future__ import annotations

import ast
import copy
import importlib.metadata
import os
import platform
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from unittest import mock

import nbformat
from rich.console import Console
from rich.table import Table

from jepa_utils.claims.declare import PROFILES, UNDECIDED, Claim, ClaimError, find_root, load_claims
from jepa_utils.claims.draw import redraw
from jepa_utils.claims.judge import (
    ChapterResults,
    check_chapter,
    compare,
    needs_higher_profile,
    read_results,
    verdict_of,
)
from jepa_utils.files import write_whole
from jepa_utils.publishing.numbers import number_problems, page_number_problems
from jepa_utils.publishing.preflight import ChapterError, change_settings, check_place, no_real_data
from jepa_utils.publishing.seal import seal
from jepa_utils.publishing.staleness import changes, made_from, package_digests, parse_cells

PARAMETERS = {"profile", "seed"}
METADATA = {"made_from", "profile", "seed", "seconds", "executed", "python", "packages", "data"}
PROBE = "jepa_utils.publishing.probe"
# Small work on busy cores is slower on two threads than on one.
ONE_THREAD = {"JEPA_THREADS": "1", "OMP_NUM_THREADS": "1"}
# That of the environment we run in.
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# The versions that a page states.
PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "gensim")
PROGRESS = re.compile(r"\r|\d+%\|")  # a progress bar on stderr: noise once the run is over


# --- finding, storing


def chapter_names(root: Path | None = None) -> list[str]:
    """The book's chapters in order: the notebooks' names without ``.ipynb``."""
    return sorted(p.stem for p in ((root or find_root()) / "notebooks").glob("[!.]*.ipynb"))


def chapter_path(name: str | Path, root: Path | None = None) -> Path:
    """A chapter's notebook, by its path, its name, its number, or the beginning of its name."""
    root = root or find_root()
    names = chapter_names(root)
    stem = Path(name).name.removesuffix(".ipynb")
    found = [n for n in names if n == stem] or [n for n in names if stem and n.startswith(stem)]
    if stem.isdecimal():
        number = re.compile(rf"0*{int(stem)}(?!\d)")
        found = [n for n in names if number.match(n)]
    if len(found) != 1:
        raise ChapterError(
            f"chapter is {str(name)!r}, wants one of: {', '.join(names) or 'no notebooks there'}"
        )
    return root / "notebooks" / f"{found[0]}.ipynb"


def write_notebook(notebook, path: Path) -> None:
    """Write a notebook at once or not at all, always in the same layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())


def parameter_problems(notebook, name: str) -> list[str]:
    """Problems with a notebook's `parameters` cell, which declares `profile` and `seed` alone."""
    cell = _parameters_cell(notebook)
    body = ast.parse(cell.source).body if cell else []
    found = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
    if found == PARAMETERS:
        return []
    unknown, missing = sorted(found - PARAMETERS), sorted(PARAMETERS - found)
    found = [f"unknown {', '.join(unknown)}"] * bool(unknown)
    found += [f"missing {', '.join(missing)}"] * bool(missing)
    wants = "the cell tagged 'parameters' wants exactly profile and seed"
    return [f"{name}: {wants}: {'; '.join(found)}"]


def declared_seed(notebook) -> int | None:
    """The seed that the `parameters` cell declares; None where it is no plain number."""
    cell = _parameters_cell(notebook)
    for node in ast.parse(cell.source).body if cell else []:
        if isinstance(node, ast.Assign) and "seed" in [getattr(t, "id", "") for t in node.targets]:
            return getattr(node.value, "value", None)
    return None


# --- running


def run_chapter(
    name: str | Path,
    profile: str = "laptop",
    seed: int | None = None,
    output: Path | None = None,
    progress: bool = True,
    root: Path | None = None,
    settings: Mapping[str, str] | None = None,
    allow_sample: bool = False,
) -> Path:
    """Execute a chapter and store its outputs.

    The stored notebook is replaced in one step after a complete run; a failing or interrupted one
    leaves it as it was. ``notebooks/`` holds only runs under ``laptop`` or ``gpu``, on real data,
    with the seed and settings that the chapter declares.

    Parameters
    ----------
    name : str or Path
        The chapter.
    profile : str
        ``smoke``, ``laptop`` or ``gpu``.
    seed : int, optional
        The chapter's `seed`; by default the one that its parameters cell declares.
    output : Path, optional
        Where to store the executed notebook; by default in place.
    progress : bool
        Show a bar over the cells.
    root : Path, optional
        The book's root.
    settings : mapping, optional
        Other values of the chapter's settings, as text, by name.
    allow_sample : bool
        Run on built-in samples where real data is not there; ``smoke`` always may.

    Returns
    -------
    Path
        The stored notebook.

    Raises
    ------
    ChapterError
        Unknown chapter, profile, parameter or setting; real data that is not there; a place that
        may not or cannot be written; a failing cell, with its number and traceback.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    root = root or find_root()
    path = chapter_path(name, root)
    output = Path(output or path)
    if profile not in PROFILES:
        raise ChapterError(f"profile is {profile!r}, wants one of {', '.join(PROFILES)}")
    before, code = path.read_bytes(), package_digests(root)
    notebook = nbformat.reads(before.decode("utf-8"), as_version=4)
    if problems := parameter_problems(notebook, path.stem):
        raise ChapterError(problems[0])
    declared = declared_seed(notebook)
    if type(declared) is not int:
        raise ChapterError(f"{path.stem}: the cell tagged 'parameters' wants seed = a whole number")
    seed, allow_sample = declared if seed is None else seed, allow_sample or profile == "smoke"
    whys = ["a smoke run"] * (profile == "smoke")
    whys += ["a run on built-in samples"] * (allow_sample and profile != "smoke")
    whys += [f"a run with seed {seed} instead of {declared}"] * (seed != declared)
    whys += ["a run with other settings"] * bool(settings)
    check_place(path, output, root, whys, allow_sample)
    notebook.metadata["kernelspec"] = KERNEL
    ready = _prepared(notebook, profile, seed, root, allow_sample)
    changed = change_settings(ready, settings) if settings else {}
    start, log = time.perf_counter(), tempfile.TemporaryFile("w+", errors="replace")
    try:
        # A notebook instead of a path, for papermill fills braces in paths; no output path: nothing
        # is half written.
        with mock.patch.dict(os.environ, ONE_THREAD if profile == "smoke" else {}):
            executed = papermill.execute_notebook(
                ready,
                None,
                cwd=path.parent,
                progress_bar=progress,
                kernel_manager_class=_own_kernel(log),
            )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        if error.ename in ("SampleDataWarning", "DataUnavailableError"):
            raise ChapterError(
                no_real_data(path.stem, error.cell_index + 1, error.evalue)
            ) from None
        trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
        raise ChapterError(
            f"{path.stem}: cell {error.cell_index + 1} failed\n{trace or error.evalue}"
        ) from None
    except DeadKernelError:
        log.seek(0)
        said = log.read().strip()[:2000]
        raise ChapterError(
            f"{path.stem}: the kernel died, most often for lack of memory\n{said}".rstrip()
        ) from None
    seconds = time.perf_counter() - start
    if path.read_bytes() != before:
        raise ChapterError(
            f"{path.stem}: the notebook was edited while it ran; its outputs are not stored, "
            "run it again"
        )
    reached = _take_outputs(notebook, executed, root)
    results = read_results(notebook, path.stem)
    if results.profile != profile:
        raise ChapterError(
            f"{path.stem}: run as {profile}, but its set-up cell opened it as {results.profile}"
        )
    sampled = [item["name"] for item in results.data if item["origin"] == "sample"]
    if sampled and not allow_sample:
        raise ChapterError(
            f"{path.stem}: it loaded the built-in sample of {', '.join(sampled)}; its outputs are "
            "not stored"
        )
    made = made_from(notebook, reached, root)
    if edited := sorted(m for m, digest in made["modules"].items() if code.get(m) != digest):
        raise ChapterError(
            f"{path.stem}: {', '.join(edited)} was edited while it ran; its outputs are not "
            "stored, run it again"
        )
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata["jepa"] = {
        "made_from": made,
        "profile": profile,
        "seed": seed,
        "seconds": round(seconds, 1),
        "executed": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "packages": _versions(),
        "data": results.data,
    }
    if changed:
        notebook.metadata["jepa"]["settings"] = changed
    redraw(notebook, load_claims(root / "book" / "claims.yml"))
    seal(notebook)
    try:
        write_notebook(notebook, output)
    except OSError as error:
        kept = Path(tempfile.mkdtemp(prefix="jepa-")) / path.name
        write_notebook(notebook, kept)
        raise ChapterError(
            f"{path.stem}: {output} cannot be written: {error.strerror}; the run's outputs are "
            f"kept in {kept}"
        ) from None
    return output


def stored_results(path: Path) -> ChapterResults | None:
    """What a chapter's stored run recorded; None if it was not run, or by another version."""
    try:
        results = read_results(path)
    except ClaimError:
        return None
    return results if results.profile else None


def what_moved(before: ChapterResults, stored: Path, root: Path) -> list[str]:
    """Which verdicts and glued numbers of a new run differ from those before; empty if none does.

    Parameters
    ----------
    before : ChapterResults
        What the run before recorded.
    stored : Path
        The new run.
    root : Path
        The book's root.
    """
    new = read_results(stored, before.chapter)
    return compare(load_claims(root / "book" / "claims.yml"), before, new)


def _own_kernel(log) -> type:
    """Kernels of the interpreter that runs this, whatever else is registered as python3.

    What they say of themselves, such as a traceback at Ctrl-C, goes to `log`: cells' own errors are
    in their outputs.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # none but the native one

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options) -> None:
            await super()._async_launch_kernel(kernel_cmd, **options | {"stderr": log})

    return OwnKernel


def _parameters_cell(notebook):
    tagged = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    return next(tagged, None)


def _prepared(notebook, profile: str, seed: int, root: Path, allow_sample: bool):
    """A copy to be run: its parameters set, and watched for what it reaches.

    Where samples are not allowed, the run stops at the load that falls back to one.
    """
    ready, probe = copy.deepcopy(notebook), f"__import__('{PROBE}', fromlist=['_'])"
    cell = _parameters_cell(ready)
    cell.source += f"\nprofile, seed = {profile!r}, {seed!r}\n{probe}.watch({str(root)!r})"
    if not allow_sample:
        cell.source += f"\n{probe}.refuse_samples()"
    ready.cells.append(nbformat.v4.new_code_cell(f"{probe}.report()"))
    return ready


def _versions() -> dict[str, str]:
    installed = {
        d.metadata["Name"].lower(): d.version
        for d in importlib.metadata.distributions()
        if d.metadata["Name"]
    }
    return {name: installed[name] for name in PACKAGES if name in installed}


def _take_outputs(notebook, executed, root: Path) -> dict:
    """Copy outputs only, tags and timings stay behind; return what the run reached."""
    count = 0
    *cells, probed = executed.cells  # the last one is the probe's own
    for cell, ran in zip(notebook.cells, cells, strict=True):
        if cell.cell_type != "code":
            continue
        if ran.execution_count is not None:
            count += 1
        cell.execution_count = count if ran.execution_count is not None else None
        cleaned = [_clean(output, root) for output in ran.outputs]
        cell.outputs = [output for output in cleaned if output is not None]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return probed.outputs[-1].metadata["jepa"]["reached"]


def _clean(output, root: Path):
    """An output as it is stored, without local paths; None for a progress bar, which is not."""
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        return None
    if output.output_type == "stream":
        if output.name == "stderr":
            output.text = "\n".join(
                line for line in output.text.split("\n") if not PROGRESS.search(line)
            ).lstrip("\n")
        output.text = output.text.replace(f"{root}/", "")
        return output if output.text else None
    return output


# --- checking


def stale_chapters(root: Path | None = None) -> dict[str, list[str]]:
    """What changed since its outputs were made, for each chapter of which anything did."""
    root = root or find_root()
    found = {name: changes(chapter_path(name, root), root) for name in chapter_names(root)}
    return {name: what for name, what in found.items() if what}


def vacuity_problems(path: Path, root: Path | None = None) -> list[str]:
    """Problems by which a stored notebook could look tested without being so."""
    root, name = root or find_root(), path.stem
    notebook = nbformat.read(path, as_version=4)
    cells = [(n, cell) for n, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]
    outputs = [output for _, cell in cells for output in cell.outputs]
    results, run = read_results(notebook, name), notebook.metadata.get("jepa", {})
    problems = parameter_problems(notebook, name)
    problems += [
        f"{name}: cell {n} was never executed" for n, cell in cells if cell.execution_count is None
    ]
    counts = [cell.execution_count for _, cell in cells if cell.execution_count is not None]
    if counts != sorted(counts) or len(set(counts)) != len(counts):
        problems.append(f"{name}: its cells were not executed in order in one run")
    for n, cell in cells:
        problems += [
            f"{name}: cell {n} ended in {o.ename}" for o in cell.outputs if o.output_type == "error"
        ]
    if not outputs:
        problems.append(f"{name}: no cell has an output")
    if missing := sorted(METADATA - set(run)):
        problems.append(
            f"{name}: its metadata lacks {', '.join(missing)}: run it with 'jepa run {name}'"
        )
    elif run["profile"] not in ("laptop", "gpu"):
        problems.append(
            f"{name}: its outputs were made under {run['profile']!r}, wants laptop or gpu"
        )
    declared = declared_seed(notebook)
    if run.get("seed", declared) != declared:
        problems.append(
            f"{name}: its outputs were made with seed {run['seed']}, its parameters cell declares "
            f"{declared}"
        )
    if results.profile != run.get("profile"):
        problems.append(
            f"{name}: opened under {results.profile!r}, run under {run.get('profile')!r}"
        )
    code = parse_cells(notebook)
    named = set(_recorded_in_source(code))
    recorded = {r.claim for r in results.recorded}
    if run.get("profile") in PROFILES:
        # A claim of a higher profile, recorded under a condition, may wait for its run.
        claims = load_claims(root / "book" / "claims.yml")
        branches = (node for node in ast.walk(code) if isinstance(node, ast.If))
        waiting = {id for branch in branches for id in _recorded_in_source(branch)} & set(claims)
        named -= {id for id in waiting if needs_higher_profile(run["profile"], claims[id])}
    problems += [
        f"{name}: record({id!r}) is in a cell but not in the outputs"
        for id in sorted(named - recorded)
    ]
    problems += [
        f"{name}: glue key {key!r} is used {n} times"
        for key, n in Counter(results.keys).items()
        if n > 1
    ]
    problems += number_problems(notebook, name, load_claims(root / "book" / "claims.yml"))
    return problems + _glue_problems(_prose(notebook), path, root)


def _prose(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _recorded_in_source(code: ast.AST) -> list[str]:
    calls = [node for node in ast.walk(code) if isinstance(node, ast.Call) and node.args]
    ids = [
        c.args[0] for c in calls if getattr(c.func, "id", getattr(c.func, "attr", "")) == "record"
    ]
    return [id.value for id in ids if isinstance(id, ast.Constant)]


def page_problems(root: Path | None = None) -> list[str]:
    """What is wrong with the prose of the book as a whole, the chapters' own faults aside.

    Glue references of pages to keys that no chapter records, keys that nothing refers to (where
    one did, a number was perhaps typed in its place), typed numbers, and weak accusations: the
    errata hold against a source only what is decided, no claim that is inconclusive, not attempted,
    or depends on the budget.
    """
    root = root or find_root()
    texts = {page: page.read_text(encoding="utf-8") for page in (root / "book").rglob("*.md")}
    problems = [p for page in sorted(texts) for p in _glue_problems(texts[page], page, root)]
    claims = load_claims(root / "book" / "claims.yml")
    for page in sorted(texts):
        problems += page_number_problems(page, claims)
    problems += _unused_keys(texts, root)
    for _, key in glue_references(texts.get(root / "book" / "errata.md", "")):
        if key in claims and claims[key].verdict in UNDECIDED:
            problems.append(
                f"errata: claim {key!r} is {claims[key].verdict}: no proof against a source"
            )
    return problems


def _unused_keys(pages: Mapping[Path, str], root: Path) -> list[str]:
    """Glued values, claims aside, to which no prose of the book refers."""
    texts, glued = dict(pages), []
    for name in chapter_names(root):
        path = chapter_path(name, root)
        notebook = nbformat.read(path, as_version=4)
        texts[path] = _prose(notebook)
        glued += [(path, key) for key in read_results(notebook, name).glued]
    used = {
        (glue_target(document, page, root) if document else page, key)
        for page, text in texts.items()
        for document, key in glue_references(text)
    }
    return [
        f"{path.stem}: glue key {key!r} is recorded, and no prose refers to it: is a number typed "
        "there? Refer to it, or do not glue it"
        for path, key in glued
        if (path, key) not in used
    ]


def glue_references(text: str) -> list[tuple[str, str]]:
    """The (document, key) pairs that a page's ``{glue}`` refers to; a document may be empty."""
    # Examples of the syntax are no references: plain code blocks, and code between double
    # backticks.
    text = re.sub(
        r"^(`{3,}|~{3,})(?!\s*\{)[^\n]*\n.*?^\1[`~]*\s*$", "", text, flags=re.MULTILINE | re.DOTALL
    )
    text = re.sub(r"(?<!`)``(?!`).+?(?<!`)``(?!`)", "", text)
    found = []
    for kind, content in re.findall(r"\{glue(:\w*)?\}`([^`]+)`", text):
        document, _, key = content.rpartition("::")
        found.append((document, key.rsplit(":", 1)[0] if kind in (":text", ":md") else key))
    for key, options in re.findall(
        r"^\s*(?:`{3,}|:{3,})\{glue(?::\w*)?\}\s*(\S+)\s*\n((?:\s*:\w+:.*\n)*)", text, re.MULTILINE
    ):
        document = re.search(r":doc:\s*(\S+)", options)
        found.append((document[1] if document else "", key))
    return found


def glue_target(document: str, page: Path, root: Path) -> Path:
    """The notebook that a glue reference's document means, as MyST-NB reads it."""
    target = root / document.lstrip("/") if document.startswith("/") else page.parent / document
    return Path(os.path.normpath(target))


def _glue_problems(text: str, page: Path, root: Path) -> list[str]:
    problems, keys = [], cache(lambda target: read_results(target).keys)
    for document, key in glue_references(text):
        target = glue_target(document, page, root) if document else page
        if target.suffix != ".ipynb" or not target.is_file():
            problems.append(
                f"{page.stem}: glue reference {key!r} names no chapter: {document or 'this page'}"
            )
        elif key not in keys(target):
            problems.append(
                f"{page.stem}: stale glue key {key!r}: {target.stem} does not record it"
            )
    return problems


def chapter_problems(path: Path, claims: Mapping[str, Claim], root: Path) -> list[str]:
    """All that is wrong with a stored chapter: vacuous, stale, a claim or box not as declared."""
    notebook, results = nbformat.read(path, as_version=4), read_results(path)
    problems = vacuity_problems(path, root) + check_chapter(claims, results)
    read = notebook.metadata.get("jepa", {}).get("made_from", {}).get("files", {})
    problems += [
        f"{path.stem}: claim {r.claim!r} is said to come from the record {record}, which the "
        "run did not read"
        for r in results.recorded
        for record in (claims[r.claim].records if r.claim in claims else ())
        if f"results/{record}.json" not in read
    ]
    if changed := changes(path, root):
        problems.append(
            f"{path.stem}: stale: changed since its outputs were made: {', '.join(changed)}; "
            "'jepa book' runs it"
        )
    if redraw(notebook, claims):
        problems.append(
            f"{path.stem}: a claim's box is not as claims.yml has it now; 'jepa book' draws it anew"
        )
    return problems


def redraw_chapters(root: Path | None = None) -> list[str]:
    """Draw outdated claim boxes of stored notebooks anew, without a run; return what changed."""
    root = root or find_root()
    claims, changed = load_claims(root / "book" / "claims.yml"), []
    for name in chapter_names(root):
        path = chapter_path(name, root)
        notebook = nbformat.read(path, as_version=4)
        if redraw(notebook, claims):
            write_notebook(notebook, path)
            changed.append(name)
    return changed


def verify(
    chapters: list[str] | None = None,
    jobs: int = 1,
    root: Path | None = None,
    console: Console | None = None,
) -> list[str]:
    """Run chapters again under ``laptop``; check every claim and number, stored and run again.

    Parameters
    ----------
    chapters : list of str, optional
        By default all.
    jobs : int
        Chapters run at a time.
    root : Path, optional
        The book's root.
    console : rich.console.Console, optional
        Where the table of claims is printed.

    Returns
    -------
    list of str
        The problems; empty if all is as declared.
    """
    root, console = root or find_root(), console or Console()
    claims = load_claims(root / "book" / "claims.yml")
    paths = [chapter_path(name, root) for name in chapters or chapter_names(root)]
    if not paths:
        raise ChapterError(f"no notebooks in {root / 'notebooks'}")
    run = partial(_rerun, root=root)
    if jobs == 1:
        failures = [run(path) for path in paths]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            failures = list(pool.map(run, paths))
    problems = [] if chapters else page_problems(root)
    table = Table(
        "claim",
        "expected",
        "stored",
        "run again",
        "verdict",
        "declared",
        title="Claims",
        title_justify="left",
    )
    for path, failure in zip(paths, failures):
        stored = read_results(path)
        problems += chapter_problems(path, claims, root)
        if failure:
            problems.append(failure)
            continue
        rerun = read_results(_verified(path, root))
        problems += [
            f"run again: {problem}" for problem in check_chapter(claims, rerun, rerun=True)
        ]
        problems += compare(claims, stored, rerun)
        for claim in (c for c in claims.values() if c.chapter == path.stem):
            old, new = (
                {r.claim: r for r in results.recorded}.get(claim.id) for results in (stored, rerun)
            )
            verdict = verdict_of(claim, new)
            good = verdict == claim.verdict
            texts = (
                claim.id,
                claim.expect.text(short=True),
                old.text() if old else "–",
                new.text() if new else "–",
            )
            table.add_row(*texts, verdict, claim.verdict, style=None if good else "bold red")
    console.print(table)
    for problem in problems:
        console.print(problem, style="red", markup=False, highlight=False)
    return problems


def _verified(path: Path, root: Path) -> Path:
    return root / "_build" / "verify" / path.name


def _rerun(path: Path, root: Path) -> str | None:
    """Run one chapter for `verify`; return what failed, if it did."""
    try:
        run_chapter(path, "laptop", output=_verified(path, root), root=root)
    except ChapterError as error:
        return str(error)
    return None
