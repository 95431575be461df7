"""Where the book's data comes from: a mirror, the hub (its public address), or a sample."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from jepa_utils.data.integrity import DamagedError, PassedOverError, checksums, compared, readable
from jepa_utils.data.registry import DATASETS, REVISIONS, TEXT_END, DataSet, Place
from jepa_utils.files import write_whole

# Read when the hub's library is imported: no telemetry, no second cache in the home, no chatter.
for _name, _value in (("DISABLE_TELEMETRY", "1"), ("DISABLE_XET", "1"), ("VERBOSITY", "error")):
    os.environ[f"HF_HUB_{_name}"] = os.environ.get(f"HF_HUB_{_name}") or _value
HUB = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
REACH_SECONDS = 3.0  # no network is noticed within this time, whatever way it fails
Files = dict[str, list[tuple[Path, str]]]  # by split: those that are there, with their sha256
Splits = Sequence[str] | None


class DataUnavailableError(RuntimeError):
    """The data cannot be had from the source that was asked for."""


class DataWarning(UserWarning):
    """A source of data was passed over or mended; the message says which and why."""


class SampleDataWarning(DataWarning):
    """The built-in sample stands in for the real data."""


@dataclass(frozen=True)
class Provenance:
    """Which data this is. Printed in every chapter; holds no local path.

    The version is the hub's revision or a text's date; the checksum is the text's, or that of the
    checksums of a table's files, a line each (of a sample's splits as JSON).
    """

    name: str
    origin: str
    version: str
    sha256: str
    rows: int
    unit: str
    note: str

    def __str__(self) -> str:
        origin = f"{self.origin} ({self.version}, sha256 {self.sha256[:12]}...)"
        return f"{self.name}: {self.rows:,} {self.unit} from the {origin}\n{self.note}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class LoadedData:
    """Data with its provenance."""

    data: Any  # a text with lines that end in "\n", or a datasets.DatasetDict, held in memory
    provenance: Provenance
    truth: dict[str, Any] | None = None  # of a sample: what its function in `samples` returns


def load_data(name: str, *, source: str | None = None, splits: Splits = None) -> LoadedData:
    """Load a data set from the mirror, else the hub, else the built-in sample.

    Parameters
    ----------
    name : str
        One of `jepa_utils.data.registry.DATASETS`.
    source : {None, "mirror", "hub", "sample"}
        None tries them in this order. The mirror is the folder ``JEPA_DATA_MIRROR``; the hub is
        the public address, whose files are kept in ``JEPA_CACHE_DIR`` or the system's cache.
    splits : sequence of str, optional
        Of a table; a source that lacks one is passed over. None takes those that a source has.

    Returns
    -------
    LoadedData
        If it is the sample unasked, a `SampleDataWarning` says so, with no network within 5
        seconds; if the mirror or a cached file had to be passed over, a `DataWarning`.

    Raises
    ------
    ValueError
        If the name, the source or a split is unknown.
    DataUnavailableError
        If ``source`` is given and cannot give the data.
    """
    spec = _spec(name)
    known = list(spec.place.files) if spec.columns else []
    if splits is not None and (isinstance(splits, str) or not splits or set(splits) - set(known)):
        some = f" or a list of some of {', '.join(known)}" if known else ""
        raise ValueError(f"splits must be None{some} for {name!r}; got {splits!r}")
    readers = {
        "mirror": lambda: _read(name, spec, "mirror", mirror_files(spec.place, splits)),
        "hub": lambda: _read(name, spec, "hub", hub_files(spec.place, splits)),
        "sample": lambda note: _sample(name, spec, splits or known, note),
    }
    return first_source(name, source, spec.place, readers)


def check_data(name: str) -> dict[str, str]:
    """Say of mirror and hub (cache): "ok", "unverified" (no checksums), "missing" or "damaged"."""
    place, found = _spec(name).place, {}
    for origin, find in (("mirror", mirror_files), ("hub", lambda p: hub_files(p, download=False))):
        try:
            there = ", ".join(split for split, part in find(place).items() if part)
            known = origin == "hub" or checksums(env_folder("JEPA_DATA_MIRROR")) is not None
            found[origin] = f"{'ok' if known else 'unverified'}: {there}"
        except PassedOverError as why:
            found[origin] = f"{'damaged' if isinstance(why, DamagedError) else 'missing'}: {why}"
    return found


def _spec(name: str) -> DataSet:
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(sorted(DATASETS))}; got {name!r}")
    return DATASETS[name]


def _read(name: str, spec: DataSet, origin: str, files: Files) -> LoadedData:
    place, hub = spec.place, origin == "hub"
    folder = next(iter(place.files.values()))[0].rpartition("/")[0]
    note = f"{'From' if hub else 'A copy of'} {place.url}{f' ({folder})' if folder else ''}."
    if spec.columns:
        data = _tables(spec, files)
        version = f"revision {REVISIONS[place.name][:8]}" if hub else "no revision stated"
    else:
        ((path, _),) = files["text"]
        with readable(f"{path.name} of {place.name}", "UTF-8"):
            data = path.read_bytes().decode().replace("\r\n", "\n")
        if "\0" in data or not data.strip("\ufeff \t\r\n\f"):
            raise DamagedError(f"{path.name} of {place.name} is no text, or a blank one")
        revised = re.search(r"Most recently updated: *([^\n]*\S)", data[:5000])
        version = f"revised {revised[1]}" if revised else "no version stated"
        edition = "The edition of" if TEXT_END in data else "Another edition than the one at"
        note = note if hub else f"{edition} the public address."
    digests = [digest for part in files.values() for _, digest in part]
    lacking = [split for split, part in files.items() if not part]
    return _loaded(name, origin, version, digests, data, note, lacking=lacking)


def _tables(spec: DataSet, parts: dict[str, Any]) -> Any:
    # Not by datasets.load_dataset: it tells its servers of every use, and keeps a second copy.
    import datasets
    import pyarrow
    from datasets.table import table_cast
    from pyarrow import parquet

    features, tables = datasets.Features.from_dict(spec.columns), datasets.DatasetDict()
    schema = features.arrow_schema
    for split, part in parts.items():
        if isinstance(part, dict):
            tables[split] = datasets.Dataset.from_dict(part, features)
        elif part:
            cast = []
            for path, _ in part:
                name = f"{path.name} of {spec.place.name}"
                with readable(name, ", ".join(schema.names)):
                    read = parquet.ParquetFile(path).read(schema.names)
                    cast.append(table_cast(read.select(schema.names), schema))
                if not len(cast[-1]):
                    raise DamagedError(f"{name} has no rows")
            tables[split] = datasets.Dataset(pyarrow.concat_tables(cast), fingerprint=part[0][1])
    return tables


def _sample(name: str, spec: DataSet, splits: Sequence[str], note: str) -> LoadedData:
    data, truth = spec.sample()
    texts = [data]
    if spec.columns:
        data = {split: data[split] for split in spec.place.files if split in splits}
        texts = [json.dumps(rows, default=bytes.hex) for rows in data.values()]
        data = _tables(spec, data)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return _loaded(name, "sample", "generated, seed 0", digests, data, note, truth)


def _loaded(name, origin, version, digests, data, note, truth=None, lacking=()) -> LoadedData:
    if isinstance(data, str):
        size = (digests[0], data.count("\n") + (not data.endswith("\n")), "lines")
    else:
        sizes = {split: table.num_rows for split, table in data.items()}
        lines = "".join(f"{digest}\n" for digest in digests)
        size = (hashlib.sha256(lines.encode()).hexdigest(), sum(sizes.values()), "rows")
        note += f" Splits: {', '.join(f'{split} ({rows:,})' for split, rows in sizes.items())}."
        note += f" The mirror lacks {', '.join(map(repr, sorted(lacking)))}." if lacking else ""
    return LoadedData(data, Provenance(name, origin, version, *size, note), truth)


def first_source(name: str, source: str | None, place: Place, readers: dict[str, Callable]) -> Any:
    """Read from the first source that has the data; a reader raises `PassedOverError` if not.

    The sample's reader, if any, gets a note on why it is used. Warnings: at the caller's caller.
    """
    if source is not None and source not in readers:
        raise ValueError(f"source must be None or one of {', '.join(readers)}; got {source!r}")
    why, mirror = [], os.environ.get("JEPA_DATA_MIRROR")
    for origin in ("mirror", "hub"):
        if source in (None, origin):
            try:
                return readers[origin]()
            except PassedOverError as problem:
                why.append(str(problem))
            if origin == "mirror" and mirror and not source:
                warnings.warn(f"{name!r}: mirror passed over: {why[0]}", DataWarning, stacklevel=3)
    reasons = "; ".join(why)
    if source in ("mirror", "hub") or "sample" not in readers:
        raise DataUnavailableError(
            f"{name!r} cannot be had from the {source or 'mirror or the hub'}: {reasons}. Check "
            f"the network (and HTTPS_PROXY, where there is a proxy) for {place.url}, or set "
            f"JEPA_DATA_MIRROR (now {mirror!r}) to a folder that holds {place.name}"
        )
    note = "Generated, not the real data: numbers made with it are no results."
    if reasons:
        text = (
            f"{name!r}: NOT THE REAL DATA. A small generated sample stands in, because {reasons}. "
        )
        text += "Numbers made with it are no results. For the real data connect to the network "
        warnings.warn(f"{text}or set JEPA_DATA_MIRROR", SampleDataWarning, stacklevel=3)
        note += f" Used because {reasons}."
    return readers["sample"](note)


def mirror_files(place: Place, splits: Splits = None) -> Files:
    """Files in the mirror by split, none for one that it lacks; of ``splits`` it must have all."""
    folder, found = env_folder("JEPA_DATA_MIRROR"), {}
    if not folder or not os.path.isdir(folder):
        raise PassedOverError("JEPA_DATA_MIRROR is not set to a folder that exists")
    listed = checksums(folder)
    for split, paths in place.files.items():
        names = [f"{place.name}/{path}" for path in paths]
        one = Path(names[0]).with_name(f"{split}-00000-of-00001.parquet").as_posix()
        # Shards may be joined in a mirror. A folder or broken link in a file's place counts as
        # there, so that it is told of.
        names = [one] if os.path.lexists(folder / one) else names
        names = names if all(os.path.lexists(folder / name) for name in names) else []
        if not names and split in (splits or ()):
            raise PassedOverError(f"no split {split!r} of {place.name} in the mirror")
        if not names or split in (splits or place.files):
            found[split] = [
                compared(
                    folder / name,
                    name,
                    None if listed is None else listed.get(os.path.abspath(folder / name), "none"),
                )
                for name in names
            ]
    if not any(found.values()):
        raise PassedOverError(f"nothing of {place.name} in the mirror")
    return found


def env_folder(variable: str) -> Path | None:
    """The folder that an environment variable names; None if it is not set, or empty."""
    name = os.environ.get(variable)
    return Path(os.path.expanduser(name)) if name else None


def hub_files(place: Place, splits: Splits = None, download: bool = True) -> Files:
    """Files from the cache, else downloaded, by split; `PassedOverError` if one cannot be had."""
    find = _downloaded if download else _cached
    wanted = [split for split in place.files if split in (splits or place.files)]
    return {split: [find(place, name) for name in place.files[split]] for split in wanted}


def unreachable(url: str) -> str:
    """Say why an address cannot be reached, "" if it can, after `REACH_SECONDS` at most."""
    outcome = [f"no answer within {REACH_SECONDS:g} seconds"]

    def ask() -> None:
        try:
            requests.head(url, timeout=REACH_SECONDS, allow_redirects=True)
            outcome[0] = ""
        except (OSError, ValueError) as problem:  # those of requests are OSErrors
            outcome[0] = type(problem).__name__

    thread = threading.Thread(target=ask, daemon=True)  # for a name's look-up may hang for long
    thread.start()
    thread.join(REACH_SECONDS)
    return outcome[0] and f"the public address cannot be reached ({outcome[0]})"


def cache_folder() -> Path:
    """Return the folder for downloads."""
    return env_folder("JEPA_CACHE_DIR") or Path(pooch.os_cache("jepa-book"))


def _cached(place: Place, name: str) -> tuple[Path, str]:
    """Find a file in the cache; its checksum is the name of the hub's blob, or kept beside it."""
    if place.page:
        path = cache_folder() / place.name / name
        record = path.with_name(f"{name}.sha256")
        there = record.is_file()
        expected = (there and record.read_text("utf-8", "replace").strip()) or "none"
    else:
        repo = f"{place.kind}s--{place.name.replace('/', '--')}"
        path = cache_folder() / "hub" / repo / "snapshots" / REVISIONS[place.name] / name
        expected = Path(os.readlink(path)).name if path.is_symlink() else None
    if not path.is_file():
        raise PassedOverError(f"{name} is not in the cache")
    return compared(path, f"the cached {name}", expected)


def _downloaded(place: Place, name: str) -> tuple[Path, str]:
    """Return a file from the cache; download it if it is not there or damaged."""
    try:
        return _cached(place, name)
    except PassedOverError as problem:
        damaged = isinstance(problem, DamagedError)
        if damaged:
            warnings.warn(f"{problem}; downloading it again", DataWarning, stacklevel=7)
    if reason := unreachable(place.page or HUB):
        raise PassedOverError(reason)
    try:
        if place.page:
            _download_page(place.page, cache_folder() / place.name, name)
        else:
            from huggingface_hub import hf_hub_download  # slow to import

            how = dict(repo_type=place.kind, revision=REVISIONS[place.name], endpoint=HUB)
            how |= dict(cache_dir=cache_folder() / "hub", force_download=damaged, token=False)
            hf_hub_download(place.name, name, **how)
    except Exception as problem:  # the libraries pass on those of others, which differ by version
        errors = (problem, problem.__cause__)  # the hub's library wraps some answers
        codes = [getattr(getattr(error, "response", None), "status_code", None) for error in errors]
        answer = codes[0] or codes[1] or type(problem).__name__
        raise PassedOverError(f"the download failed (answer: {answer})") from problem
    return _cached(place, name)


def _download_page(url: str, folder: Path, name: str) -> None:
    pooch.get_logger().setLevel("WARNING")  # its messages show local paths
    (folder / name).unlink(missing_ok=True)
    page = pooch.create(folder, "", registry={name: None}, urls={name: url}, retry_if_failed=2)
    content = Path(page.fetch(name, downloader=pooch.HTTPDownloader(timeout=15))).read_bytes()
    if TEXT_END.encode() not in content:
        raise EOFError("the page is cut short")
    write_whole(folder / f"{name}.sha256", hashlib.sha256(content).hexdigest().encode())
