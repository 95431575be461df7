"""Where the book's data comes from: a mirror, the hub (the data's public address), or a built-in sample.

`load_data` tries the three in that order and returns the data with its provenance. It is never silent about
the sample, and it never uses a file that is cut short or whose checksum is wrong.
"""

import dataclasses
import hashlib
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from jepa_utils.data.samples import sample_shakespeare

ORIGINS = ("mirror", "hub", "sample")

_REACH_SECONDS = 3.0  # no network is noticed within this time, whatever way it fails
_TIMEOUT = (3.0, 15.0)  # seconds to connect, and between two pieces of a download
_RETRIES = 2


class DataUnavailableError(RuntimeError):
    """The data cannot be had from the source that was asked for."""


class DataWarning(UserWarning):
    """A source of data was passed over or mended; the message says which and why."""


class SampleDataWarning(DataWarning):
    """The built-in sample stands in for the real data."""


class _PassedOverError(Exception):
    """One source cannot give the data. The message is shown on published pages: no local path in it."""


@dataclass(frozen=True)
class DatasetSpec:
    """What the book knows about one data set.

    Parameters
    ----------
    what : str
        A line for readers.
    unit : str
        What the rows are.
    mirror_file : str
        Path below the mirror's folder.
    url : str
        Public address.
    sha256 : str or None
        Checksum of the file at ``url``. None where its publisher revises it: then the checksum of the first
        complete download is recorded beside the cached file, which must match it ever after.
    end_marker : str
        Stands at the end of a complete file from ``url``.
    sample : callable
        Returns the sample's text and its word classes.
    """

    what: str
    unit: str
    mirror_file: str
    url: str
    sha256: str | None
    end_marker: str
    sample: Callable[[], tuple[str, dict[str, list[str]]]]


DATASETS: dict[str, DatasetSpec] = {
    "shakespeare": DatasetSpec(
        what="The complete works of William Shakespeare, one text",
        unit="lines",
        mirror_file="shakespeare/complete_works.txt",
        url="https://www.gutenberg.org/cache/epub/100/pg100.txt",
        sha256=None,
        end_marker="*** END OF THE PROJECT GUTENBERG EBOOK",
        sample=sample_shakespeare,
    ),
}


@dataclass(frozen=True)
class Provenance:
    """Which data this is. Printed in every chapter; holds no local path.

    Parameters
    ----------
    name : str
        Name in the registry.
    origin : {"mirror", "hub", "sample"}
    version : str
        Date of the file's last revision, where the file states one.
    sha256 : str
        Checksum of the file's bytes; for the sample of its text in UTF-8.
    rows : int
        Size, counted in ``unit``.
    unit : str
    note : str
        What a reader must know, such as why it is the sample.
    """

    name: str
    origin: str
    version: str
    sha256: str
    rows: int
    unit: str
    note: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.rows:,} {self.unit} from the {self.origin} "
            f"({self.version}, sha256 {self.sha256[:12]}...)\n{self.note}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class LoadedData:
    """Data with its provenance.

    Parameters
    ----------
    data : str
        The text. Line ends are ``\\n``; everything else is as in the file, a byte order mark included.
    provenance : Provenance
    truth : dict or None
        What is known only of a sample: its word classes.
    """

    data: str
    provenance: Provenance
    truth: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class DataCheck:
    """Outcome of `check_data` for one origin.

    Parameters
    ----------
    origin : {"mirror", "hub", "sample"}
    status : {"ok", "missing", "mismatch", "unreadable", "unverified"}
        "unverified": the file is there, but no checksum to compare it with.
    sha256 : str or None
        Checksum of the file that is there.
    note : str
    """

    origin: str
    status: str
    sha256: str | None
    note: str


@dataclass(frozen=True)
class DataListing:
    """One row of `list_data`: a data set and the origin it would come from now."""

    name: str
    what: str
    origin: str
    note: str


def load_data(name: str, *, source: str | None = None, cache_dir: str | Path | None = None) -> LoadedData:
    """Load a data set from the mirror, else the hub, else the built-in sample.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    source : {None, "mirror", "hub", "sample"}
        None tries them in this order; a name forces one. The mirror is the folder that the environment
        variable ``JEPA_DATA_MIRROR`` names. The hub is the data's public address; a file that was downloaded
        once is taken from the cache.
    cache_dir : path, optional
        Folder for downloads. Default: the environment variable ``JEPA_CACHE_DIR``, else the system's cache
        folder for ``jepa-book``.

    Returns
    -------
    LoadedData

    Raises
    ------
    ValueError
        If the name or the source is unknown.
    DataUnavailableError
        If ``source`` is given and cannot give the data.

    Warns
    -----
    SampleDataWarning
        If the sample stands in because neither mirror nor hub can be had. With no network this takes less
        than 5 seconds.
    DataWarning
        If the mirror or a cached file has to be passed over.
    """
    spec = _spec(name)
    if source is not None and source not in ORIGINS:
        raise ValueError(f"source must be None or one of {', '.join(ORIGINS)}; got {source!r}")
    folder = _cache_folder(cache_dir)
    reasons = []
    if source in (None, "mirror"):
        try:
            return _loaded(name, spec, "mirror", _read_mirror(spec))
        except _PassedOverError as problem:
            if source == "mirror":
                raise DataUnavailableError(
                    f"{name!r} cannot be had from the mirror: {problem}. Set JEPA_DATA_MIRROR (now "
                    f"{os.environ.get('JEPA_DATA_MIRROR')!r}) to a folder that holds {spec.mirror_file}, or use "
                    f"another source"
                ) from problem
            if _mirror() is not None:
                warnings.warn(f"{name!r}: mirror passed over: {problem}", DataWarning, stacklevel=2)
            reasons.append(str(problem))
    if source in (None, "hub"):
        try:
            return _loaded(name, spec, "hub", _from_hub(name, spec, folder))
        except _PassedOverError as problem:
            if source == "hub":
                raise DataUnavailableError(_no_hub(name, spec, problem)) from problem
            reasons.append(str(problem))
        warnings.warn(
            f"{name!r}: NOT THE REAL DATA. A small generated sample stands in, because {'; '.join(reasons)}. Numbers "
            f"made with it are no results. For the real data connect to the network or set JEPA_DATA_MIRROR",
            SampleDataWarning,
            stacklevel=2,
        )
    text, truth = spec.sample()
    note = "Generated, not the real data: numbers made with it are no results."
    if reasons:
        note += f" Used because {'; '.join(reasons)}."
    provenance = _provenance(name, spec, "sample", "generated, seed 0", text.encode(), text, note)
    return LoadedData(text, provenance, truth)


def fetch_data(name: str, *, cache_dir: str | Path | None = None) -> Provenance:
    """Download a data set into the cache, unless a good copy is there.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    cache_dir : path, optional
        As in `load_data`.

    Returns
    -------
    Provenance

    Raises
    ------
    ValueError
        If the name is unknown.
    DataUnavailableError
        If it cannot be downloaded or kept.
    """
    spec, folder = _spec(name), _cache_folder(cache_dir)
    try:
        loaded = _loaded(name, spec, "hub", _from_hub(name, spec, folder))
        if _read_cache(spec, folder) is None:
            raise _PassedOverError("the downloaded file could not be kept in the cache")
    except _PassedOverError as problem:
        raise DataUnavailableError(_no_hub(name, spec, problem)) from problem
    return loaded.provenance


def list_data(*, cache_dir: str | Path | None = None) -> list[DataListing]:
    """Say for each data set what it is and where `load_data` would take it from now."""
    folder = _cache_folder(cache_dir)
    listings = []
    for name, spec in DATASETS.items():
        try:
            _read_mirror(spec)
            origin, note = "mirror", "in the mirror"
        except _PassedOverError:
            try:
                cached = _read_cache(spec, folder) is not None
            except _PassedOverError:
                cached = False
            problem = None if cached else _unreachable(spec.url)
            origin = "hub" if problem is None else "sample"
            note = "in the cache" if cached else problem or "to be downloaded"
        listings.append(DataListing(name, spec.what, origin, note))
    return listings


def check_data(name: str, *, cache_dir: str | Path | None = None) -> list[DataCheck]:
    """Compare the files of a data set with their checksums; downloads nothing.

    The mirror's file is compared with ``SHA256SUMS`` in the mirror's folder, the cached file with the checksum
    in the registry or the one recorded at its first download. The sample is generated anew and has none.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    cache_dir : path, optional
        As in `load_data`.

    Returns
    -------
    list of DataCheck
        One for each origin, in the order in which `load_data` tries them.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    spec, folder = _spec(name), _cache_folder(cache_dir)
    mirror = _mirror()
    checks = []
    if mirror is None:
        checks.append(DataCheck("mirror", "missing", None, "JEPA_DATA_MIRROR is not set"))
    else:
        expected = _listed_sha256(mirror, spec.mirror_file)
        checks.append(_check_file("mirror", mirror / spec.mirror_file, expected, "SHA256SUMS"))
    path = _cached_file(spec, folder)
    against = "the record of its first download" if spec.sha256 is None else "the registry"
    checks.append(_check_file("hub", path, spec.sha256 or _recorded_sha256(path), against))
    checks.append(DataCheck("sample", "ok", _sha256(spec.sample()[0].encode()), "generated"))
    return checks


def _check_file(origin: str, path: Path, expected: str | None, against: str) -> DataCheck:
    try:
        actual = _sha256(path.read_bytes())
    except FileNotFoundError:
        return DataCheck(origin, "missing", None, "no such file")
    except OSError as problem:
        return DataCheck(origin, "unreadable", None, problem.strerror)
    if expected is None:
        return DataCheck(origin, "unverified", actual, f"no checksum in {against}")
    if actual != expected:
        return DataCheck(origin, "mismatch", actual, f"{against} says {expected}")
    return DataCheck(origin, "ok", actual, f"equals {against}")


def _spec(name: str) -> DatasetSpec:
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(sorted(DATASETS))}; got {name!r}")
    return DATASETS[name]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        raise _PassedOverError(f"the file is not UTF-8 text (byte {problem.start})") from problem


def _loaded(name: str, spec: DatasetSpec, origin: str, content: bytes) -> LoadedData:
    text = _decode(content)
    revised = re.search(r"Most recently updated: *([^\n]*\S)", text[:5000])
    note = f"From {spec.url}."
    if origin == "mirror":
        same = spec.end_marker in text
        note = "The edition of the public address." if same else "Another edition than the one at the public address."
    version = f"revised {revised[1]}" if revised else "no version stated"
    return LoadedData(text, _provenance(name, spec, origin, version, content, text, note))


def _provenance(
    name: str, spec: DatasetSpec, origin: str, version: str, content: bytes, text: str, note: str
) -> Provenance:
    rows = text.count("\n") + (not text.endswith("\n"))
    return Provenance(name, origin, version, _sha256(content), rows, spec.unit, note)


# The mirror


def _mirror() -> Path | None:
    """Return the mirror's folder, or None if no mirror is set."""
    folder = os.environ.get("JEPA_DATA_MIRROR")
    return Path(folder) if folder else None


def _read_mirror(spec: DatasetSpec) -> bytes:
    mirror = _mirror()
    if mirror is None:
        raise _PassedOverError("no mirror is set (JEPA_DATA_MIRROR)")
    if not mirror.is_dir():
        raise _PassedOverError("JEPA_DATA_MIRROR names a folder that does not exist")
    try:
        content = (mirror / spec.mirror_file).read_bytes()
    except OSError as problem:
        raise _PassedOverError(f"{spec.mirror_file} in the mirror: {problem.strerror}") from problem
    if _listed_sha256(mirror, spec.mirror_file) not in (None, _sha256(content)):
        raise _PassedOverError(f"{spec.mirror_file} differs from the mirror's SHA256SUMS")
    _decode(content)
    return content


def _listed_sha256(mirror: Path, file: str) -> str | None:
    """Look a file up in the mirror's SHA256SUMS (lines of checksum, blanks, path)."""
    try:
        lines = (mirror / "SHA256SUMS").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    listed = {path.lstrip("*").removeprefix("./"): digest for digest, _, path in (ln.partition("  ") for ln in lines)}
    return listed.get(file)


# The hub and its cache


def _no_hub(name: str, spec: DatasetSpec, problem: Exception) -> str:
    return (
        f"{name!r} cannot be had from the hub: {problem}. Check the network (and HTTPS_PROXY, where there is a proxy) "
        f"for {spec.url}, or use another source"
    )


def _cache_folder(cache_dir: str | Path | None) -> Path:
    return Path(cache_dir or os.environ.get("JEPA_CACHE_DIR") or pooch.os_cache("jepa-book"))


def _cached_file(spec: DatasetSpec, folder: Path) -> Path:
    return folder / Path(spec.mirror_file).parent / spec.url.rsplit("/", 1)[-1]


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded_sha256(path: Path) -> str | None:
    try:
        return _record(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _read_cache(spec: DatasetSpec, folder: Path) -> bytes | None:
    """Return the cached file's bytes, None if there is no file; an unusable one is passed over."""
    path = _cached_file(spec, folder)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise _PassedOverError(f"the cached file cannot be read: {problem.strerror}") from problem
    if _sha256(content) != (spec.sha256 or _recorded_sha256(path)):
        raise _PassedOverError("the cached file's checksum is not the one expected")
    _decode(content)
    return content


def _from_hub(name: str, spec: DatasetSpec, folder: Path) -> bytes:
    """Return the cached file if it is good, else download and cache it."""
    try:
        cached = _read_cache(spec, folder)
        if cached is not None:
            return cached
    except _PassedOverError as problem:
        warnings.warn(
            f"{name!r}: {problem}; downloading it again ({_cached_file(spec, folder)})", DataWarning, stacklevel=3
        )
    problem = _unreachable(spec.url)
    if problem:
        raise _PassedOverError(problem)
    content = _download(spec)
    path = _cached_file(spec, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The record goes first: stopped between the two, the next use sees a mismatch and downloads again.
        _write_atomically(_record(path), _sha256(content).encode())
        _write_atomically(path, content)
    except OSError as error:
        warnings.warn(
            f"{name!r}: the download cannot be kept, and will be repeated at the next use: {error}",
            DataWarning,
            stacklevel=3,
        )
    return content


def _unreachable(url: str) -> str | None:
    """Say why the address cannot be reached, None if it can; takes `_REACH_SECONDS` at most.

    A thread of its own, because a name that does not resolve can hang longer than any timeout of the request.
    """
    outcome = [f"no answer within {_REACH_SECONDS:g} seconds"]

    def ask() -> None:
        try:
            requests.head(url, timeout=_REACH_SECONDS, allow_redirects=True)
            outcome[0] = None
        except (OSError, ValueError) as problem:  # those of requests are OSErrors
            outcome[0] = type(problem).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    return outcome[0] and f"the public address cannot be reached ({outcome[0]})"


def _download(spec: DatasetSpec) -> bytes:
    """Download with retries, and refuse a file that is cut short or has the wrong checksum."""
    fetch = pooch.HTTPDownloader(timeout=_TIMEOUT)

    def fetch_whole(url: str, output_file: str, manager: pooch.Pooch) -> None:
        fetch(url, output_file, manager)  # raises where the length is not the one announced
        if spec.end_marker.encode() not in Path(output_file).read_bytes():
            raise ValueError("the file is cut short: its end marker is missing")

    pooch.get_logger().setLevel("WARNING")  # its messages show local paths
    with tempfile.TemporaryDirectory() as folder:
        manager = pooch.create(
            folder, base_url="", registry={"file": spec.sha256}, urls={"file": spec.url}, retry_if_failed=_RETRIES
        )
        try:
            content = Path(manager.fetch("file", downloader=fetch_whole)).read_bytes()
        except (OSError, ValueError) as problem:
            raise _PassedOverError(f"the download failed {_RETRIES + 1} times ({_plain(problem)})") from problem
    _decode(content)
    return content


def _plain(problem: Exception) -> str:
    """Name a download's problem without the local names that pooch puts into its messages."""
    if isinstance(problem, requests.HTTPError):
        return f"HTTP status {problem.response.status_code}"
    if isinstance(problem, requests.RequestException):
        return f"{type(problem).__name__}: the connection broke or the file was cut short"
    if isinstance(problem, OSError):
        return problem.strerror
    return "wrong checksum" if "hash" in str(problem) else str(problem)


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
