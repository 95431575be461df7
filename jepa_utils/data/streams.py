"""Data sets of the hub that are too large to load, read row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jepa_utils.data._hub import (
    DataUnavailableError,
    PassedOverError,
    Repo,
    endpoint,
    existing_mirror,
    first_source,
    plain_reason,
    unreachable,
)

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import datasets


@dataclass(frozen=True)
class StreamSpec:
    """What the book knows about a data set of the hub that is too large to load.

    Parameters
    ----------
    repo : Repo
    folder : str
        Folder of the shards in the repository.
    column : str
        The column of text that is read.
    """

    repo: Repo
    folder: str
    column: str


STREAMS: dict[str, StreamSpec] = {
    "fineweb-edu": StreamSpec(
        repo=Repo("HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"),
        folder="sample/10BT",
        column="text",
    )
}


def stream_data(
    name: str, *, rank: int = 0, world_size: int = 1, source: str | None = None
) -> datasets.IterableDataset:
    """Read a data set that is too large to load, row by row, from mirror or network.

    Shards are opened one after the other as the rows are asked for, and only a part of one is in
    memory. The shards of a mirror are not compared with their checksums, which would mean reading
    all of them first.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    rank, world_size : int
        This process and the number of processes: each gets rows of its own, and together they get
        all.
    source : {None, "mirror", "hub"}
        None tries them in this order; a name forces one. There is no sample.

    Returns
    -------
    datasets.IterableDataset
        Rows with the one column of text.

    Raises
    ------
    ValueError
        If the name or the source is unknown, or the rank is none of ``world_size`` processes.
    DataUnavailableError
        If the data cannot be had. With no network this takes less than 5 seconds.

    Warns
    -----
    DataWarning
        If the mirror has to be passed over.
    """
    if name not in STREAMS:
        raise ValueError(f"name must be one of {', '.join(sorted(STREAMS))}; got {name!r}")
    if source not in (None, "mirror", "hub"):
        raise ValueError(
            f"source must be None, 'mirror' or 'hub' (a stream has no sample); got {source!r}"
        )
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank must be from 0 to world_size - 1; got rank {rank} with world_size {world_size}"
        )
    spec = STREAMS[name]
    shards, reasons = first_source(
        name,
        source,
        lambda: _mirror_shards(spec),
        lambda: _hub_shards(spec),
        wanted=f"{spec.repo.name}/{spec.folder}",
        url=spec.repo.url,
    )
    if shards is None:
        raise DataUnavailableError(
            f"{name!r} cannot be had: {'; '.join(reasons)}. It has no sample: connect to "
            "the network or set "
            f"JEPA_DATA_MIRROR to a folder that holds {spec.repo.name}/{spec.folder}"
        )
    from datasets import Features, Value
    from datasets.distributed import split_dataset_by_node
    from datasets.io.generator import GeneratorDatasetInputStream

    # IterableDataset.from_generator, but with a folder for the lock that it takes, for it would be
    # in the user's home.
    with tempfile.TemporaryDirectory() as scratch:
        stream = GeneratorDatasetInputStream(
            generator=_shard_rows,
            features=Features({spec.column: Value("string")}),
            gen_kwargs={"shards": shards, "column": spec.column},
            cache_dir=scratch,
            streaming=True,
        ).read()
    return split_dataset_by_node(stream, rank, world_size)


def _mirror_shards(spec: StreamSpec) -> list[str]:
    shards = sorted((existing_mirror() / spec.repo.name / spec.folder).glob("*.parquet"))
    if not shards:
        raise PassedOverError(f"no shard in {spec.repo.name}/{spec.folder} in the mirror")
    return [str(path) for path in shards]


def _hub_shards(spec: StreamSpec) -> list[str]:
    problem = unreachable(endpoint())
    if problem:
        raise PassedOverError(problem)
    from huggingface_hub import HfApi

    repo = spec.repo
    try:
        files = HfApi(endpoint=endpoint(), token=False).list_repo_tree(
            repo.name, spec.folder, revision=repo.revision, repo_type=repo.kind
        )
        shards = sorted(file.path for file in files if file.path.endswith(".parquet"))
    except (
        Exception
    ) as error:  # the library passes on those of its HTTP libraries, which differ by version
        raise PassedOverError(
            f"the hub does not list the shards ({plain_reason(error)})"
        ) from error
    if not shards:
        raise PassedOverError(f"no shard in {repo.name}/{spec.folder} on the hub")
    return [f"hf://{repo.kind}s/{repo.name}@{repo.revision}/{path}" for path in shards]


def _shard_rows(shards: list[str], column: str) -> Iterator[dict[str, str]]:
    from huggingface_hub import HfFileSystem
    from pyarrow import parquet

    for shard in shards:
        remote = shard.startswith("hf://")
        with (
            HfFileSystem(endpoint=endpoint(), token=False).open(shard)
            if remote
            else open(shard, "rb") as file
        ):
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=1000, columns=[column]):
                yield from batch.to_pylist()
