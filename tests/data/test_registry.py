"""The constants are well formed, every sample fits its columns, and the mirror has what they name."""

import os
import re
from pathlib import Path

import pytest
from datasets import Features
from pyarrow import parquet

from jepa_utils.data import registry
from jepa_utils.data.registry import DATASETS, REVISIONS
from jepa_utils.data.tokens import STREAMS, TOKENIZERS
from jepa_utils.evaluation.vjepa2 import WEIGHTS

MIRROR = os.environ.get("JEPA_DATA_MIRROR")
PLACES = [spec.place for spec in DATASETS.values()] + [
    *STREAMS.values(),
    *TOKENIZERS.values(),
    WEIGHTS,
]


def test_every_repository_is_pinned_to_a_commit_and_no_other_is():
    repositories = {place.name for place in PLACES if not place.page}
    assert repositories == set(REVISIONS)
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", name) for name in REVISIONS)
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in REVISIONS.values())
    assert len(set(REVISIONS.values())) == len(REVISIONS)


def test_addresses():
    urls = {place.name: place.url for place in PLACES}
    assert urls["uoft-cs/cifar10"] == "https://huggingface.co/datasets/uoft-cs/cifar10"
    assert urls["openai-community/gpt2"] == "https://huggingface.co/openai-community/gpt2"
    assert urls["shakespeare"] == "https://www.gutenberg.org/cache/epub/100/pg100.txt"


def test_files_are_paths_below_the_repository_and_name_their_split_and_number():
    for place in PLACES:
        files = [path for paths in place.files.values() for path in paths]
        assert files and len(set(files)) == len(files)
        assert not any(path.startswith(("/", ".")) or "\\" in path for path in files)
    for name in ("wikitext-2", "rotten-tomatoes", "cifar10", "flickr8k"):
        for split, paths in DATASETS[name].place.files.items():
            assert all(Path(path).name.startswith(split) for path in paths)
            numbers = [re.search(r"-(\d{5})-of-(\d{5})", path) for path in paths]
            if any(numbers):
                assert [int(found[1]) for found in numbers] == list(range(len(paths)))
                assert {int(found[2]) for found in numbers} == {len(paths)}


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if spec.columns])
def test_samples_have_the_splits_and_columns(name):
    spec = DATASETS[name]
    columns, _ = spec.sample()
    assert list(columns) == list(spec.place.files)
    assert all(list(part) == list(spec.columns) for part in columns.values())
    assert list(Features.from_dict(spec.columns)) == list(spec.columns)


def test_the_text_has_no_columns():
    assert [name for name, spec in DATASETS.items() if not spec.columns] == ["shakespeare"]
    assert DATASETS["shakespeare"].place.page and registry.TEXT_END.startswith("*** END OF THE")


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_the_mirror_has_the_files_that_are_named():
    """All but one split, which it lacks, and shards that it has joined."""
    lacking = {}
    for name, spec in DATASETS.items():
        for split, paths in spec.place.files.items():
            there = [Path(MIRROR, spec.place.name, path) for path in paths]
            if not all(path.is_file() for path in there):
                there = [there[0].with_name(f"{split}-00000-of-00001.parquet")]
            if not there[0].is_file():
                lacking[name] = split
            elif spec.columns:
                for path in there:
                    assert set(spec.columns) <= set(parquet.read_schema(path).names)
    assert lacking == {"rotten-tomatoes": "validation"}
    assert all(
        Path(MIRROR, place.name, path).is_file()
        for place in TOKENIZERS.values()
        for path in place.files["all"]
    )
