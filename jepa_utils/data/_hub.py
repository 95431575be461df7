"""Files of the hub's repositories, from the mirror (laid out like the hub) or the hub, checked.

Also what every kind of data shares: the errors, the order of the sources, and the test for a
network."""

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pooch
import requests

# The hub's library reads these when it is first imported. The book reports nothing to anybody, and
# the library's other way to download keeps a cache in the user's home and names files by another
# checksum than their own.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

REACH_SECONDS = 3.0  # no network is noticed within this time, whatever way it fails
RETRIES = 2

T = TypeVar("T")


class DataUnavailableError(RuntimeError):
    """The data cannot be had from the source that was asked for."""


class DataWarning(UserWarning):
    """A source of data was passed over or mended; the message says which and why."""


class SampleDataWarning(DataWarning):
    """The built-in sample stands in for the real data."""


class PassedOverError(Exception):
    """One source cannot give the data; the message is published, so no local path in it."""


class DamagedError(PassedOverError):
    """A file that is there cannot be read, or is not what its checksum says."""


@dataclass(frozen=True)
class Repo:
    """A repository of the hub at one revision.

    Parameters
    ----------
    name : str
        Organisation and name.
    revision : str
        Commit, 40 hexadecimal digits: what it names never changes.
    kind : {"dataset", "model"}
    """

    name: str
    revision: str
    kind: str = "dataset"

    @property
    def url(self) -> str:
        """Address of the repository's page."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def version(self) -> str:
        """The revision as provenance states it."""
        return f"revision {self.revision[:8]}"


@dataclass(frozen=True)
class Wanted:
    """Which files of a repository are wanted.

    Parameters
    ----------
    repo : Repo
    find : callable
        Given a folder laid out as the repository, returns the wanted files by group (a data set's
        split), as paths in the repository; raises `PassedOverError` if one is missing.
    patterns : tuple of str
        What to download so that ``find`` finds them.
    """

    repo: Repo
    find: Callable[[Path], dict[str, list[str]]]
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class CheckedFile:
    """A file that is there, with the outcome of the comparison with its checksum.

    Parameters
    ----------
    name : str
        Path in the repository.
    path : Path
    sha256 : str
    good : bool or None
        None: there is no checksum to compare it with.
    """

    name: str
    path: Path
    sha256: str
    good: bool | None


def first_source(
    name: str,
    source: str | None,
    mirror: Callable[[], T],
    hub: Callable[[], T],
    *,
    wanted: str,
    url: str,
) -> tuple[T | None, list[str]]:
    """Read from the mirror, else from the hub.

    Parameters
    ----------
    name : str
        Name of the data, for messages.
    source : {None, "mirror", "hub", "sample"}
        None tries mirror and hub; a name tries that one only, so "sample" none.
    mirror, hub : callable
        Read the data, or raise `PassedOverError`.
    wanted : str
        Path below the mirror's folder, for messages.
    url : str
        Public address, for messages.

    Returns
    -------
    result : object or None
        What the first source that has the data returned; None if no source was left.
    reasons : list of str
        Why sources were passed over.

    Raises
    ------
    DataUnavailableError
        If ``source`` is given and cannot give the data.

    Warns
    -----
    DataWarning
        If there is a mirror and it is passed over. The warning is set at the caller's caller.
    """
    reasons = []
    if source in (None, "mirror"):
        try:
            return mirror(), reasons
        except PassedOverError as problem:
            if source == "mirror":
                raise DataUnavailableError(
                    f"{name!r} cannot be had from the mirror: {problem}. Set JEPA_DATA_MIRROR (now "
                    f"{os.environ.get('JEPA_DATA_MIRROR')!r}) to a folder that holds "
                    f"{wanted}, or use another source"
                ) from problem
            if mirror_folder() is not None:
                warnings.warn(f"{name!r}: mirror passed over: {problem}", DataWarning, stacklevel=3)
            reasons.append(str(problem))
    if source in (None, "hub"):
        try:
            return hub(), reasons
        except PassedOverError as problem:
            if source == "hub":
                raise DataUnavailableError(no_hub(name, url, problem)) from problem
            reasons.append(str(problem))
    return None, reasons


def warn_of_sample(name: str, reasons: Sequence[str]) -> None:
    """Warn loudly, at the caller's caller, that the sample stands in for the data."""
    warnings.warn(
        f"{name!r}: NOT THE REAL DATA. A small generated sample stands in, because "
        f"{'; '.join(reasons)}. Numbers "
        "made with it are no results. For the real data connect to the network or set "
        "JEPA_DATA_MIRROR",
        SampleDataWarning,
        stacklevel=3,
    )


def sample_note(reasons: Sequence[str]) -> str:
    """Return what the sample's provenance says of it."""
    note = "Generated, not the real data: numbers made with it are no results."
    return f"{note} Used because {'; '.join(reasons)}." if reasons else note


def no_hub(name: str, url: str, problem: Exception) -> str:
    """Return the error message for data that the hub cannot give."""
    return (
        f"{name!r} cannot be had from the hub: {problem}. Check the network (and "
        "HTTPS_PROXY, where there is a proxy) "
        f"for {url}, or use another source"
    )


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Return the folder for downloads."""
    return Path(cache_dir or os.environ.get("JEPA_CACHE_DIR") or pooch.os_cache("jepa-book"))


def unreachable(url: str) -> str | None:
    """Say why the address cannot be reached, None if it can; takes `REACH_SECONDS` at most.

    A thread of its own, because a name that does not resolve can hang longer than any timeout of
    the request."""
    outcome = [f"no answer within {REACH_SECONDS:g} seconds"]

    def ask() -> None:
        try:
            requests.head(url, timeout=REACH_SECONDS, allow_redirects=True)
            outcome[0] = None
        except (OSError, ValueError) as problem:  # those of requests are OSErrors
            outcome[0] = type(problem).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return outcome[0] and f"the public address cannot be reached ({outcome[0]})"


# The mirror


def mirror_folder() -> Path | None:
    """Return the mirror's folder, or None if no mirror is set."""
    folder = os.environ.get("JEPA_DATA_MIRROR")
    return Path(folder) if folder else None


def existing_mirror() -> Path:
    """Return the mirror's folder; no mirror is passed over."""
    mirror = mirror_folder()
    if mirror is None:
        raise PassedOverError("no mirror is set (JEPA_DATA_MIRROR)")
    if not mirror.is_dir():
        raise PassedOverError("JEPA_DATA_MIRROR names a folder that does not exist")
    return mirror


def listed_sha256(mirror: Path, file: str) -> str | None:
    """Look a file up in the mirror's SHA256SUMS (lines of checksum, blanks, path)."""
    try:
        lines = (mirror / "SHA256SUMS").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    listed = {
        path.lstrip("*").removeprefix("./"): digest
        for digest, _, path in (ln.partition("  ") for ln in lines)
    }
    return listed.get(file)


def find_in_mirror(wanted: Wanted) -> dict[str, list[CheckedFile]]:
    """Find and check files in the mirror, by group; those with a wrong checksum are among them."""
    mirror, repo = existing_mirror(), wanted.repo

    def check(name: str) -> CheckedFile:
        path, expected = mirror / repo.name / name, listed_sha256(mirror, f"{repo.name}/{name}")
        digest = _file_digest(path, "sha256", f"{repo.name}/{name} in the mirror")
        return CheckedFile(name, path, digest, expected and digest == expected)

    found = _find(wanted, mirror / repo.name, "in the mirror")
    return {group: [check(name) for name in names] for group, names in found.items()}


def mirror_files(wanted: Wanted) -> dict[str, list[CheckedFile]]:
    """Return the files in the mirror, by group; a wrong checksum is passed over."""
    found = find_in_mirror(wanted)
    for file in sum(found.values(), []):
        if file.good is False:
            raise DamagedError(
                f"{wanted.repo.name}/{file.name} differs from the mirror's SHA256SUMS"
            )
    return found


# The hub and its cache


def endpoint() -> str:
    """Return the hub's address; ``HF_ENDPOINT`` changes it, as for the hub's library."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def find_in_cache(wanted: Wanted, folder: Path) -> dict[str, list[CheckedFile]] | None:
    """Find and check files in the cache, by group; None if they are not all there."""
    try:
        snapshot = _snapshot(wanted, folder, local_files_only=True)
        found = wanted.find(snapshot)
    except (OSError, PassedOverError):
        return None
    return _check_cached(snapshot, found)


def cached_files(wanted: Wanted, folder: Path) -> dict[str, list[CheckedFile]] | None:
    """Return the files in the cache, by group; None if one is missing, a damaged one raises."""
    found = find_in_cache(wanted, folder)
    return found and _undamaged(found)


def hub_files(name: str, wanted: Wanted, folder: Path) -> dict[str, list[CheckedFile]]:
    """Return the files from the cache, else download them.

    Parameters
    ----------
    name : str
        Name of the data, for messages.
    wanted : Wanted
    folder : Path
        The cache.

    Returns
    -------
    dict of str to list of CheckedFile
        By group. None of them is damaged, as far as the cache knows their checksums.

    Raises
    ------
    PassedOverError
        If they are not in the cache and cannot be downloaded.

    Warns
    -----
    DataWarning
        If a cached file is damaged.
    """
    damaged = False
    try:
        cached = cached_files(wanted, folder)
        if cached is not None:
            return cached
    except DamagedError as problem:
        warnings.warn(f"{name!r}: {problem}; downloading it again", DataWarning, stacklevel=5)
        damaged = True
    problem = unreachable(endpoint())
    if problem:
        raise PassedOverError(problem)
    for _ in range(RETRIES + 1):
        try:
            snapshot = _snapshot(wanted, folder, force_download=damaged)
        except (
            Exception
        ) as error:  # the library passes on those of its HTTP libraries, which differ by version
            reason = plain_reason(error)
            continue
        found = _find(wanted, snapshot, "on the hub")
        try:
            return _undamaged(_check_cached(snapshot, found))
        except DamagedError as error:
            reason, damaged = str(error), True
    raise PassedOverError(f"the download failed {RETRIES + 1} times ({reason})")


def plain_reason(problem: Exception) -> str:
    """Name a download's problem without the addresses and local paths in its message."""
    for error in (
        problem,
        problem.__cause__,
    ):  # the library wraps some answers in an error of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status:
            return f"HTTP status {status}"
    return getattr(problem, "strerror", None) or type(problem).__name__


def _find(wanted: Wanted, root: Path, where: str) -> dict[str, list[str]]:
    try:
        return wanted.find(root)
    except PassedOverError as problem:
        raise PassedOverError(f"{problem} {where}") from problem


def _snapshot(wanted: Wanted, folder: Path, **options: bool) -> Path:
    import huggingface_hub  # slow to import, and most chapters need none of it

    with _quiet():
        found = huggingface_hub.snapshot_download(
            wanted.repo.name,
            repo_type=wanted.repo.kind,
            revision=wanted.repo.revision,
            allow_patterns=list(wanted.patterns),
            cache_dir=folder / "hub",
            endpoint=endpoint(),
            token=False,  # all of it is public, so nobody's token is sent
            **options,
        )
    return Path(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub's library from printing: bars, and messages that show local paths."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    bars, level = not are_progress_bars_disabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            enable_progress_bars()


def _check_cached(snapshot: Path, found: dict[str, list[str]]) -> dict[str, list[CheckedFile]]:
    """Compare cached files with the names of their blobs: the sha256, or git's checksum.

    Where the system has no links the library keeps no such names, and there is nothing to compare
    with."""

    def check(name: str) -> CheckedFile:
        path, where = snapshot / name, f"{name} in the cache"
        digest, good = _file_digest(path, "sha256", where), None
        if path.is_symlink():
            blob = Path(
                os.readlink(path)
            ).name  # of one link only: the blob may itself be a link, to another kind of name
            if len(blob) == 64:
                good = blob == digest
            elif len(blob) == 40:
                good = blob == _file_digest(
                    path, "sha1", where, f"blob {path.stat().st_size}\0".encode()
                )
        return CheckedFile(name, path, digest, good)

    return {group: [check(name) for name in names] for group, names in found.items()}


def _undamaged(found: dict[str, list[CheckedFile]]) -> dict[str, list[CheckedFile]]:
    for file in sum(found.values(), []):
        if file.good is False:
            raise DamagedError(f"the cached {file.name} is not what its checksum says")
    return found


def _file_digest(path: Path, method: str, where: str, prefix: bytes = b"") -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(method, prefix)).hexdigest()
    except OSError as problem:
        raise DamagedError(f"{where}: {problem.strerror}") from problem
