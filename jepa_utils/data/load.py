"""Where the book's data comes from: a mirror, the hub (its public address), or a sample.

`load_data` tries the three in that order and returns the data with its provenance. It is never
silent about the sample, and it never uses a file that is cut short or whose checksum is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch
import requests

from jepa_utils.data._hub import (
    RETRIES,
    CheckedFile,
    DamagedError,
    DataUnavailableError,
    DataWarning,
    PassedOverError,
    Repo,
    SampleDataWarning,
    Wanted,
    cache_folder,
    cached_files,
    endpoint,
    existing_mirror,
    find_in_cache,
    find_in_mirror,
    first_source,
    hub_files,
    listed_sha256,
    mirror_files,
    mirror_folder,
    no_hub,
    sample_note,
    unreachable,
    warn_of_sample,
)
from jepa_utils.data.samples import (
    IMAGE_LABELS,
    sample_articles,
    sample_images,
    sample_photos,
    sample_reviews,
    sample_shakespeare,
)
from jepa_utils.files import write_whole

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import datasets

__all__ = [
    "DATASETS",
    "ORIGINS",
    "DataCheck",
    "DataListing",
    "DataUnavailableError",
    "DataWarning",
    "LoadedData",
    "Provenance",
    "SampleDataWarning",
    "TableSpec",
    "TextSpec",
    "check_data",
    "fetch_data",
    "list_data",
    "load_data",
]


ORIGINS = ("mirror", "hub", "sample")


_TIMEOUT = (3.0, 15.0)  # seconds to connect, and between two pieces of a download


@dataclass(frozen=True)
class TextSpec:
    """What the book knows about a data set that is one text file.

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
        Checksum of the file at ``url``. None where its publisher revises it: then the checksum of
        the first complete download is recorded beside the cached file, which must match it ever
        after.
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


@dataclass(frozen=True)
class TableSpec:
    """What the book knows about a data set of the hub, whose splits are parquet files.

    A split is one file, ``train.parquet``, or shards, ``train-00000-of-00002.parquet`` and so on; a
    checksum may stand before a shard's ending, as in
    ``train-00000-of-00002-2f8f6bfa852eac4b.parquet``.

    Parameters
    ----------
    what : str
        A line for readers.
    repo : Repo
    folder : str
        Folder of the files in the repository, "" for its root.
    columns : dict of str to dict
        The columns that are read, each with its type as `datasets.Features.from_dict` takes it.
    sample : callable
        Returns the sample's columns by split, and the truth behind them.
    splits : tuple of str
    """

    what: str
    repo: Repo
    folder: str
    columns: dict[str, dict[str, Any]]
    sample: Callable[[], tuple[dict[str, dict[str, list]], dict[str, Any]]]
    splits: tuple[str, ...] = ("train", "validation", "test")

    def find(self, root: Path, splits: Sequence[str]) -> dict[str, list[str]]:
        """Return the files of those splits that are there, by split, shards in order."""
        found = {}
        for split in splits:
            paths = [root / self.folder / f"{split}.parquet"]
            if not paths[0].is_file():
                paths = sorted((root / self.folder).glob(f"{split}-?????-of-?????*.parquet"))
                paths = [path for path in paths if path.is_file()]  # a link may lead nowhere
                number = int(paths[0].name.partition("-of-")[2][:5]) if paths else 0
                if len(paths) != number:
                    raise PassedOverError(
                        f"only {len(paths)} of {number} shards of split {split!r} of "
                        f"{self.repo.name}"
                    )
            if paths:
                found[split] = [path.relative_to(root).as_posix() for path in paths]
        if not found:
            raise PassedOverError(f"no split {_listed(splits)} of {self.repo.name}")
        return found

    def find_all(self, root: Path, splits: Sequence[str]) -> dict[str, list[str]]:
        """Return the files of those splits, by split; one that lacks is passed over."""
        found = self.find(root, splits)
        if len(found) < len(splits):
            raise PassedOverError(
                f"no split {_listed(set(splits) - set(found))} of {self.repo.name}"
            )
        return found

    def wanted(self, splits: Sequence[str] | None = None, lacking: bool = False) -> Wanted:
        """Return the wanted files of all or some splits; ``lacking``: some may be missing."""
        splits = splits or self.splits
        find = self.find if lacking else self.find_all
        folder = f"{self.folder}/" if self.folder else ""
        patterns = tuple(
            f"{folder}{split}{rest}" for split in splits for rest in (".parquet", "-*-of-*.parquet")
        )
        return Wanted(self.repo, lambda root: find(root, splits), patterns)


_STRING = {"dtype": "string", "_type": "Value"}


DATASETS: dict[str, TextSpec | TableSpec] = {
    "shakespeare": TextSpec(
        what="The complete works of William Shakespeare, one text",
        unit="lines",
        mirror_file="shakespeare/complete_works.txt",
        url="https://www.gutenberg.org/cache/epub/100/pg100.txt",
        sha256=None,
        end_marker="*** END OF THE PROJECT GUTENBERG EBOOK",
        sample=sample_shakespeare,
    ),
    "wikitext-2": TableSpec(
        what="WikiText-2: verified good and featured articles of Wikipedia, one line a row",
        repo=Repo("Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3"),
        folder="wikitext-2-v1",
        columns={"text": _STRING},
        sample=sample_articles,
    ),
    "rotten-tomatoes": TableSpec(
        what="Sentences of film reviews from Rotten Tomatoes, labelled 0 (negative) or 1 "
        "(positive)",
        repo=Repo(
            "cornell-movie-review-data/rotten_tomatoes", "aa13bc287fa6fcab6daf52f0dfb9994269ffea28"
        ),
        folder="",
        columns={"text": _STRING, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}},
        sample=sample_reviews,
    ),
    "cifar10": TableSpec(
        what="CIFAR-10: colour photographs of 32 x 32 pixels, labelled with one of ten "
        "kinds of things",
        repo=Repo("uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2"),
        folder="plain_text",
        columns={
            "img": {"_type": "Image"},
            "label": {"names": list(IMAGE_LABELS), "_type": "ClassLabel"},
        },
        sample=sample_images,
        splits=("train", "test"),
    ),
    "flickr8k": TableSpec(
        what="Flickr8k: photographs of people and animals with five captions each, for "
        "research use only",
        repo=Repo("jxie/flickr8k", "56f58c967835f7c508d684f36bd7897cca9d7634"),
        folder="data",
        columns={
            "image": {"_type": "Image"},
            **{f"caption_{number}": _STRING for number in range(5)},
        },
        sample=sample_photos,
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
        Date of the file's last revision, where the file states one; of the hub's repositories the
        revision.
    sha256 : str
        Checksum of the file's bytes. Of several files: checksum of their checksums, a line each
        (hexadecimal digits and ``\\n``), in the order of the splits in the registry and of the
        shards. Of a sample: of its text in UTF-8, or of its splits as JSON (bytes in hexadecimal
        digits) taken as files.
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
    data : str or datasets.DatasetDict
        The text of a single file: line ends are ``\\n``; everything else is as in the file, a byte
        order mark included. Else the splits, held in memory.
    provenance : Provenance
    truth : dict or None
        What is known only of a sample: see the function that generates it in
        `jepa_utils.data.samples`.
    """

    data: str | datasets.DatasetDict
    provenance: Provenance
    truth: dict[str, Any] | None = None


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


def load_data(
    name: str,
    *,
    source: str | None = None,
    splits: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
) -> LoadedData:
    """Load a data set from the mirror, else the hub, else the built-in sample.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    source : {None, "mirror", "hub", "sample"}
        None tries them in this order; a name forces one. The mirror is the folder that the
        environment variable ``JEPA_DATA_MIRROR`` names. The hub is the data's public address; a
        file that was downloaded once is taken from the cache.
    splits : sequence of str, optional
        The splits wanted; a source that lacks one is passed over. None takes those that a source
        has: the hub all of them, a mirror perhaps fewer. An error for a data set that is one text.
    cache_dir : path, optional
        Folder for downloads. Default: the environment variable ``JEPA_CACHE_DIR``, else the
        system's cache folder for ``jepa-book``.

    Returns
    -------
    LoadedData

    Raises
    ------
    ValueError
        If the name, the source or a split is unknown.
    DataUnavailableError
        If ``source`` is given and cannot give the data.

    Warns
    -----
    SampleDataWarning
        If the sample stands in because neither mirror nor hub can be had. With no network this
        takes less than 5 seconds.
    DataWarning
        If the mirror or a cached file has to be passed over.
    """
    spec = _spec(name)
    if source is not None and source not in ORIGINS:
        raise ValueError(f"source must be None or one of {', '.join(ORIGINS)}; got {source!r}")
    wanted = _splits(name, spec, splits)
    folder = cache_folder(cache_dir)
    if isinstance(spec, TextSpec):
        loaded, reasons = first_source(
            name,
            source,
            lambda: _loaded(name, spec, "mirror", _read_mirror(spec)),
            lambda: _loaded(name, spec, "hub", _from_hub(name, spec, folder)),
            wanted=spec.mirror_file,
            url=spec.url,
        )
    else:
        in_mirror = spec.wanted(wanted, lacking=splits is None)
        loaded, reasons = first_source(
            name,
            source,
            lambda: _loaded_tables(name, spec, "mirror", mirror_files(in_mirror)),
            lambda: _loaded_tables(name, spec, "hub", hub_files(name, spec.wanted(wanted), folder)),
            wanted=f"{spec.repo.name}/{spec.folder}".rstrip("/"),
            url=spec.repo.url,
        )
    if loaded is not None:
        return loaded
    if reasons:
        warn_of_sample(name, reasons)
    if isinstance(spec, TableSpec):
        return _sample_tables(name, spec, wanted, sample_note(reasons))
    text, truth = spec.sample()
    note = sample_note(reasons)
    return LoadedData(
        text,
        _provenance(name, spec, "sample", "generated, seed 0", text.encode(), text, note),
        truth,
    )


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
    spec, folder = _spec(name), cache_folder(cache_dir)
    try:
        if isinstance(spec, TableSpec):
            return _loaded_tables(
                name, spec, "hub", hub_files(name, spec.wanted(), folder)
            ).provenance
        loaded = _loaded(name, spec, "hub", _from_hub(name, spec, folder))
        if _read_cache(spec, folder) is None:
            raise PassedOverError("the downloaded file could not be kept in the cache")
    except PassedOverError as problem:
        raise DataUnavailableError(no_hub(name, _url(spec), problem)) from problem
    return loaded.provenance


def list_data(*, cache_dir: str | Path | None = None) -> list[DataListing]:
    """Say for each data set what it is and where `load_data` would take it from now."""
    folder = cache_folder(cache_dir)
    asked: dict[
        str, str | None
    ] = {}  # each address is asked once: without a network that takes seconds
    listings = []
    for name, spec in DATASETS.items():
        try:
            note = _in_mirror(spec)
            origin = "mirror"
        except PassedOverError:
            try:
                cached = _in_cache(spec, folder)
            except PassedOverError:
                cached = False
            address = spec.url if isinstance(spec, TextSpec) else endpoint()
            if not cached and address not in asked:
                asked[address] = unreachable(address)
            problem = None if cached else asked[address]
            origin = "hub" if problem is None else "sample"
            note = "in the cache" if cached else problem or "to be downloaded"
        listings.append(DataListing(name, spec.what, origin, note))
    return listings


def check_data(name: str, *, cache_dir: str | Path | None = None) -> list[DataCheck]:
    """Compare the files of a data set with their checksums; downloads nothing.

    The mirror's files are compared with ``SHA256SUMS`` in the mirror's folder, a cached text with
    the checksum in the registry or the one recorded at its first download, cached files of the
    hub's repositories with the checksum that the hub gave. The sample is generated anew and has
    none.

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
    spec, folder = _spec(name), cache_folder(cache_dir)
    if isinstance(spec, TableSpec):
        return _check_tables(spec, folder)
    mirror = mirror_folder()
    checks = []
    if mirror is None:
        checks.append(DataCheck("mirror", "missing", None, "JEPA_DATA_MIRROR is not set"))
    else:
        expected = listed_sha256(mirror, spec.mirror_file)
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


def _spec(name: str) -> TextSpec | TableSpec:
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(sorted(DATASETS))}; got {name!r}")
    return DATASETS[name]


def _url(spec: TextSpec | TableSpec) -> str:
    return spec.url if isinstance(spec, TextSpec) else spec.repo.url


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _splits(name: str, spec: TextSpec | TableSpec, splits: Sequence[str] | None) -> tuple[str, ...]:
    """Return the wanted splits in the registry's order."""
    if isinstance(spec, TextSpec):
        if splits is not None:
            raise ValueError(f"splits must be None for {name!r}, which is one text; got {splits!r}")
        return ()
    if splits is None:
        return spec.splits
    if isinstance(splits, str) or not splits or not set(splits) <= set(spec.splits):
        raise ValueError(
            f"splits must be None or a list of some of {', '.join(spec.splits)} for "
            f"{name!r}; got {splits!r}"
        )
    return tuple(split for split in spec.splits if split in splits)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        raise PassedOverError(f"the file is not UTF-8 text (byte {problem.start})") from problem


def _loaded(name: str, spec: TextSpec, origin: str, content: bytes) -> LoadedData:
    text = _decode(content)
    revised = re.search(r"Most recently updated: *([^\n]*\S)", text[:5000])
    note = f"From {spec.url}."
    if origin == "mirror":
        same = spec.end_marker in text
        note = (
            "The edition of the public address."
            if same
            else "Another edition than the one at the public address."
        )
    version = f"revised {revised[1]}" if revised else "no version stated"
    return LoadedData(text, _provenance(name, spec, origin, version, content, text, note))


def _provenance(
    name: str, spec: TextSpec, origin: str, version: str, content: bytes, text: str, note: str
) -> Provenance:
    rows = text.count("\n") + (not text.endswith("\n"))
    return Provenance(name, origin, version, _sha256(content), rows, spec.unit, note)


# One text: the mirror
def _read_mirror(spec: TextSpec) -> bytes:
    mirror = existing_mirror()
    try:
        content = (mirror / spec.mirror_file).read_bytes()
    except OSError as problem:
        raise PassedOverError(f"{spec.mirror_file} in the mirror: {problem.strerror}") from problem
    if listed_sha256(mirror, spec.mirror_file) not in (None, _sha256(content)):
        raise PassedOverError(f"{spec.mirror_file} differs from the mirror's SHA256SUMS")
    _decode(content)
    return content


# One text: the public address and its cache
def _cached_file(spec: TextSpec, folder: Path) -> Path:
    return folder / Path(spec.mirror_file).parent / spec.url.rsplit("/", 1)[-1]


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded_sha256(path: Path) -> str | None:
    try:
        return _record(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _read_cache(spec: TextSpec, folder: Path) -> bytes | None:
    """Return the cached file's bytes, None if there is no file; an unusable one is passed over."""
    path = _cached_file(spec, folder)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise PassedOverError(f"the cached file cannot be read: {problem.strerror}") from problem
    if _sha256(content) != (spec.sha256 or _recorded_sha256(path)):
        raise PassedOverError("the cached file's checksum is not the one expected")
    _decode(content)
    return content


def _from_hub(name: str, spec: TextSpec, folder: Path) -> bytes:
    """Return the cached file if it is good, else download and cache it."""
    try:
        cached = _read_cache(spec, folder)
        if cached is not None:
            return cached
    except PassedOverError as problem:
        warnings.warn(
            f"{name!r}: {problem}; downloading it again ({_cached_file(spec, folder)})",
            DataWarning,
            stacklevel=5,
        )
    problem = unreachable(spec.url)
    if problem:
        raise PassedOverError(problem)
    content = _download(spec)
    path = _cached_file(spec, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The record goes first: stopped between the two, the next use sees a mismatch and downloads
        # again.
        write_whole(_record(path), _sha256(content).encode())
        write_whole(path, content)
    except OSError as error:
        warnings.warn(
            f"{name!r}: the download cannot be kept, and will be repeated at the next use: {error}",
            DataWarning,
            stacklevel=5,
        )
    return content


def _download(spec: TextSpec) -> bytes:
    """Download with retries, and refuse a file that is cut short or has the wrong checksum."""
    fetch = pooch.HTTPDownloader(timeout=_TIMEOUT)

    def fetch_whole(url: str, output_file: str, manager: pooch.Pooch) -> None:
        fetch(url, output_file, manager)  # raises where the length is not the one announced
        if spec.end_marker.encode() not in Path(output_file).read_bytes():
            raise ValueError("the file is cut short: its end marker is missing")

    pooch.get_logger().setLevel("WARNING")  # its messages show local paths
    with tempfile.TemporaryDirectory() as folder:
        manager = pooch.create(
            folder,
            base_url="",
            registry={"file": spec.sha256},
            urls={"file": spec.url},
            retry_if_failed=RETRIES,
        )
        try:
            content = Path(manager.fetch("file", downloader=fetch_whole)).read_bytes()
        except (OSError, ValueError) as problem:
            raise PassedOverError(
                f"the download failed {RETRIES + 1} times ({_plain(problem)})"
            ) from problem
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


# Tables
def _in_mirror(spec: TextSpec | TableSpec) -> str:
    """Say what the mirror has of a data set; `PassedOverError` if nothing that can be used."""
    if isinstance(spec, TextSpec):
        _read_mirror(spec)
        return "in the mirror"
    lacking = set(spec.splits) - set(_read_tables(spec, mirror_files(spec.wanted(lacking=True))))
    return f"in the mirror, without split {_listed(lacking)}" if lacking else "in the mirror"


def _in_cache(spec: TextSpec | TableSpec, folder: Path) -> bool:
    if isinstance(spec, TextSpec):
        return _read_cache(spec, folder) is not None
    files = cached_files(spec.wanted(), folder)
    return files is not None and bool(_read_tables(spec, files))


def _read_tables(spec: TableSpec, files: dict[str, list[CheckedFile]]) -> datasets.DatasetDict:
    """Read parquet files into memory.

    Not by `datasets.load_dataset`: that tells its servers of every use, and keeps a second copy of
    the data on disk that nothing compares with a checksum."""
    import datasets
    import pyarrow
    from datasets.table import table_cast
    from pyarrow import parquet

    features, columns = datasets.Features.from_dict(spec.columns), list(spec.columns)
    tables = {}
    for split, checked in files.items():
        parts = []
        for file in checked:
            try:
                part = parquet.ParquetFile(file.path).read(columns).select(columns)
                parts.append(table_cast(part, features.arrow_schema))
            except (pyarrow.ArrowException, OSError, KeyError, ValueError, TypeError) as problem:
                raise PassedOverError(
                    f"{file.name} of {spec.repo.name} cannot be read as parquet with the "
                    f"columns {', '.join(columns)} "
                    f"({type(problem).__name__})"
                ) from problem
        digest = _sha256_of_files([file.sha256 for file in checked])
        tables[split] = datasets.Dataset(pyarrow.concat_tables(parts), fingerprint=digest[:16])
    return datasets.DatasetDict(tables)


def _loaded_tables(
    name: str, spec: TableSpec, origin: str, files: dict[str, list[CheckedFile]]
) -> LoadedData:
    data = _read_tables(spec, files)
    where = spec.repo.url + (f" ({spec.folder})" if spec.folder else "")
    if origin == "hub":
        note, version = f"From {where}.", spec.repo.version
    else:
        note, version = f"A copy of {where}.", "no revision stated"
    sha256 = _sha256_of_files([file.sha256 for checked in files.values() for file in checked])
    return LoadedData(data, _table_provenance(name, spec, origin, version, sha256, data, note))


def _sample_tables(name: str, spec: TableSpec, splits: Sequence[str], note: str) -> LoadedData:
    import datasets

    columns, truth = spec.sample()
    features = datasets.Features.from_dict(spec.columns)
    data = datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(columns[split], features) for split in splits}
    )
    sha256 = _sha256_of_sample(columns, splits)
    return LoadedData(
        data,
        _table_provenance(name, spec, "sample", "generated, seed 0", sha256, data, note),
        truth,
    )


def _table_provenance(
    name: str,
    spec: TableSpec,
    origin: str,
    version: str,
    sha256: str,
    data: datasets.DatasetDict,
    note: str,
) -> Provenance:
    note += (
        f" Splits: {', '.join(f'{split} ({table.num_rows:,})' for split, table in data.items())}."
    )
    if origin == "mirror":
        lacking = [
            split for split in spec.splits if split not in data and not _mirror_has(spec, split)
        ]
        note += f" The mirror lacks {_listed(lacking)}." if lacking else ""
    rows = sum(table.num_rows for table in data.values())
    return Provenance(name, origin, version, sha256, rows, "rows", note)


def _mirror_has(spec: TableSpec, split: str) -> bool:
    try:
        return bool(spec.find(existing_mirror() / spec.repo.name, [split]))
    except PassedOverError:
        return False


def _sha256_of_files(digests: Sequence[str]) -> str:
    return _sha256("".join(f"{digest}\n" for digest in digests).encode())


def _sha256_of_sample(columns: dict[str, dict[str, list]], splits: Sequence[str]) -> str:
    return _sha256_of_files(
        [_sha256(json.dumps(columns[split], default=bytes.hex).encode()) for split in splits]
    )


def _check_tables(spec: TableSpec, folder: Path) -> list[DataCheck]:
    sources = {
        "mirror": ("SHA256SUMS", lambda: find_in_mirror(spec.wanted(lacking=True))),
        "hub": ("the hub's checksums", lambda: find_in_cache(spec.wanted(), folder)),
    }
    checks = []
    for origin, (against, find) in sources.items():
        try:
            found = find()
            if found is None:
                raise PassedOverError("no complete copy in the cache")
            checks.append(_check_files(origin, found, against))
        except DamagedError as problem:
            checks.append(DataCheck(origin, "unreadable", None, str(problem)))
        except PassedOverError as problem:
            checks.append(DataCheck(origin, "missing", None, str(problem)))
    return [
        *checks,
        DataCheck("sample", "ok", _sha256_of_sample(spec.sample()[0], spec.splits), "generated"),
    ]


def _check_files(origin: str, found: dict[str, list[CheckedFile]], against: str) -> DataCheck:
    files = sum(found.values(), [])
    sha256 = _sha256_of_files([file.sha256 for file in files])
    for good, status, note in (
        (False, "mismatch", f"differs from {against}"),
        (None, "unverified", f"not in {against}"),
    ):
        names = [file.name for file in files if file.good is good]
        if names:
            return DataCheck(origin, status, sha256, f"{', '.join(names)}: {note}")
    return DataCheck(origin, "ok", sha256, f"equals {against} ({', '.join(found)})")
