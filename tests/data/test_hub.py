"""Data sets of the hub: what is used, what is refused, and what happens when things break. No outside access."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from datasets import ClassLabel, Features, Image, Value
from fakehub import FakeHub
from huggingface_hub.utils import are_progress_bars_disabled
from pyarrow import parquet
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from jepa_utils.data._hub import DataUnavailableError, DataWarning, SampleDataWarning
from jepa_utils.data.load import DATASETS, Provenance, check_data, fetch_data, list_data, load_data
from jepa_utils.data.samples import (
    IMAGE_LABELS,
    sample_articles,
    sample_images,
    sample_photos,
    sample_reviews,
)
from jepa_utils.data.streams import STREAMS, stream_data

REPO = DATASETS["wikitext-2"].repo
SHARDS = [f"{REPO.name}/wikitext-2-v1/train-0000{number}-of-00002.parquet" for number in range(2)]
VALIDATION = f"{REPO.name}/wikitext-2-v1/validation-00000-of-00001.parquet"
TEST = f"{REPO.name}/wikitext-2-v1/test-00000-of-00001.parquet"
ALL = [*SHARDS, VALIDATION, TEST]
REVIEWS = DATASETS["rotten-tomatoes"].repo
PICTURES = DATASETS["cifar10"].repo
PHOTOS = DATASETS["flickr8k"].repo
STREAM = STREAMS["fineweb-edu"].repo
MIRROR = os.environ.get("JEPA_DATA_MIRROR")  # as it was before the tests take it away


def parquet_bytes(**columns) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


CONTENT = {
    name: parquet_bytes(text=[f"{Path(name).stem} {row}" for row in range(3)], more=[0, 1, 2])
    for name in ALL
}
TEXTS = {
    name: parquet.read_table(pyarrow.BufferReader(content))["text"].to_pylist()
    for name, content in CONTENT.items()
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def combined(*names: str) -> str:
    return sha256("".join(f"{sha256(CONTENT[name])}\n" for name in names).encode())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No mirror, no proxy, a cache and a home of its own, and no network unless a test starts the fake hub."""
    monkeypatch.delenv("JEPA_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    cut_off(monkeypatch)


@pytest.fixture
def hub(monkeypatch):
    """The fake hub with WikiText's repository: train in two shards, validation, test, and what is not to be fetched."""
    fake = FakeHub(revision=REPO.revision, files=dict(CONTENT))
    fake.files[f"{REPO.name}/wikitext-103-v1/test-00000-of-00001.parquet"] = (
        b"another configuration"
    )
    fake.files[f"{REPO.name}/README.md"] = b"read me"
    with fake.running(monkeypatch):
        yield fake


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror of the same, which lacks train."""
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    fill(tmp_path / "mirror", {name: CONTENT[name] for name in (VALIDATION, TEST)})
    return tmp_path / "mirror"


def fill(mirror: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(content)
    with (mirror / "SHA256SUMS").open("a") as sums:
        sums.writelines(f"{sha256(content)}  ./{name}\n" for name, content in files.items())


def cut_off(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")  # nobody listens: refused at once


def texts(loaded) -> dict[str, list[str]]:
    return {split: list(table["text"]) for split, table in loaded.data.items()}


def cached(tmp_path: Path, name: str) -> Path:
    repo, path = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    return (
        tmp_path
        / "cache"
        / "hub"
        / f"datasets--{repo.replace('/', '--')}"
        / "snapshots"
        / REPO.revision
        / path
    )


def alter(path: Path) -> None:
    """Change one byte of a file, also behind links."""
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def load_loudly_from_sample(match: str, **options):
    """Load, and demand the loud notice with its reason, well inside 5 seconds."""
    start = time.monotonic()
    with pytest.warns(SampleDataWarning, match=match):
        loaded = load_data("wikitext-2", **options)
    assert time.monotonic() - start < 5
    assert loaded.provenance.origin == "sample"
    return loaded


# Order of sources


def test_mirror_is_used_first(mirror, hub, tmp_path, recwarn):
    loaded = load_data("wikitext-2")
    assert texts(loaded) == {"validation": TEXTS[VALIDATION], "test": TEXTS[TEST]}
    assert loaded.data["test"].column_names == ["text"]
    assert loaded.truth is None
    provenance = loaded.provenance
    assert (provenance.origin, provenance.rows, provenance.unit) == ("mirror", 6, "rows")
    assert provenance.sha256 == combined(VALIDATION, TEST)
    assert "Splits: validation (3), test (3). The mirror lacks 'train'." in provenance.note
    assert str(tmp_path) not in str(provenance)
    assert not recwarn.list and not hub.downloads


def test_hub_is_second_and_its_cached_copy_needs_no_network(hub, tmp_path, monkeypatch, capfd):
    loaded = load_data("wikitext-2")
    assert texts(loaded) == {
        "train": TEXTS[SHARDS[0]] + TEXTS[SHARDS[1]],
        "validation": TEXTS[VALIDATION],
        "test": TEXTS[TEST],
    }
    provenance = loaded.provenance
    assert (provenance.origin, provenance.rows, provenance.version) == (
        "hub",
        12,
        "revision b08601e0",
    )
    assert provenance.sha256 == combined(*ALL)
    assert (
        "Splits: train (6), validation (3), test (3)." in provenance.note
        and "lacks" not in provenance.note
    )
    assert str(tmp_path) not in str(provenance)
    assert Provenance(**json.loads(json.dumps(provenance.to_dict()))) == provenance
    assert sorted(hub.downloads) == sorted(ALL)
    cut_off(monkeypatch)
    again = load_data("wikitext-2")
    assert (again.provenance, texts(again)) == (provenance, texts(loaded))
    assert capfd.readouterr() == ("", "")  # no bars, no messages
    assert not are_progress_bars_disabled()


def test_nothing_is_written_outside_the_cache(hub, mirror, tmp_path):
    """In a process of its own, for the libraries read where their caches are when they are imported."""
    program = (
        "from jepa_utils.data.load import load_data\nfrom jepa_utils.data.streams import stream_data\n"
        "load_data('wikitext-2', source='hub'); load_data('wikitext-2', source='mirror')\n"
        "list(stream_data('fineweb-edu', source='mirror'))\n"
        "import os, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY, c.HF_HUB_DISABLE_XET)"
    )
    fill(mirror, {f"{STREAM.name}/sample/10BT/000.parquet": parquet_bytes(text=["a"])})
    (tmp_path / "home").mkdir()
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_HUB", "HF_HOME", "XDG"))
    }
    environment |= {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True True\n"
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    assert len(hub.downloads) == 4


def test_only_the_splits_wanted_are_downloaded(hub):
    assert texts(load_data("wikitext-2", splits=["test", "validation"])) == {
        "validation": TEXTS[VALIDATION],
        "test": TEXTS[TEST],
    }
    assert sorted(hub.downloads) == sorted([VALIDATION, TEST])
    assert (
        load_data("wikitext-2").provenance.rows == 12
    )  # the rest is fetched, not taken for missing
    assert sorted(hub.downloads) == sorted(ALL)


def test_a_source_that_lacks_a_split_is_passed_over(mirror, hub):
    with pytest.warns(
        DataWarning,
        match="mirror passed over: no split 'train' of Salesforce/wikitext in the mirror",
    ):
        loaded = load_data("wikitext-2", splits=["train"])
    assert loaded.provenance.origin == "hub" and list(loaded.data) == ["train"]
    with pytest.raises(
        DataUnavailableError,
        match=r"from the mirror: no split 'train'.*Salesforce/wikitext/wikitext-2-v1",
    ):
        load_data("wikitext-2", splits=["train"], source="mirror")
    assert load_data("wikitext-2", splits=["test"]).provenance.sha256 == combined(TEST)


def test_files_at_the_root_with_labels(mirror):
    fill(
        mirror,
        {
            f"{REVIEWS.name}/{split}.parquet": parquet_bytes(text=["good", "bad"], label=[1, 0])
            for split in ("train", "test")
        },
    )
    loaded = load_data("rotten-tomatoes")
    assert list(loaded.data) == ["train", "test"]
    assert loaded.data["test"].features == Features(
        text=Value("string"), label=ClassLabel(names=["neg", "pos"])
    )
    assert loaded.data["train"][0] == {"text": "good", "label": 1}


def test_unknown_splits_are_refused():
    for splits in (["dev"], "train", []):
        with pytest.raises(
            ValueError, match="splits must be None or a list of some of train, validation, test"
        ):
            load_data("wikitext-2", splits=splits)
    with pytest.raises(ValueError, match=r"splits must be None for 'shakespeare'.*got \['train'\]"):
        load_data("shakespeare", splits=["train"])


# Mirrors that are damaged or incomplete


def test_altered_mirror_file(mirror, hub):
    alter(mirror / TEST)
    with pytest.warns(
        DataWarning, match="test-00000-of-00001.parquet differs from the mirror's SHA256SUMS"
    ):
        assert load_data("wikitext-2").provenance.origin == "hub"
    with pytest.raises(DataUnavailableError, match="differs from the mirror's SHA256SUMS"):
        load_data("wikitext-2", source="mirror")


def test_mirror_that_lacks_a_shard(mirror):
    fill(mirror, {SHARDS[1]: CONTENT[SHARDS[1]]})
    with pytest.raises(DataUnavailableError, match="only 1 of 2 shards of split 'train'"):
        load_data("wikitext-2", source="mirror")
    assert (
        "The mirror lacks 'train'" in load_data("wikitext-2", splits=["test"]).provenance.note
    )  # not in the way


@pytest.mark.parametrize(
    "content",
    [parquet_bytes(words=["a"]), b"PAR1 but nothing of the kind PAR1"],
    ids=["columns", "bytes"],
)
def test_mirror_file_that_cannot_be_read(mirror, content):
    fill(mirror, {SHARDS[0]: content, SHARDS[1]: CONTENT[SHARDS[1]]})
    with pytest.raises(
        DataUnavailableError,
        match="train-00000-of-00002.* cannot be read as parquet with the columns text",
    ):
        load_data("wikitext-2", source="mirror")


# Images


def picture_file(split: str) -> str:
    return f"{PICTURES.name}/plain_text/{split}-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def pictures() -> dict[str, dict[str, list]]:
    return sample_images(train=4, test=3)[0]


@pytest.fixture
def picture_files(pictures) -> dict[str, bytes]:
    return {
        picture_file(split): parquet_bytes(**columns, more=columns["label"])
        for split, columns in pictures.items()
    }


@pytest.mark.parametrize("form", ["bytes and path", "bytes alone", "no struct"])
def test_images_in_whatever_form_a_file_keeps_them(mirror, pictures, form):
    files = [image["bytes"] for image in pictures["test"]["img"]]
    structs = {
        "bytes and path": pictures["test"]["img"],
        "bytes alone": [{"bytes": file} for file in files],
    }
    label = pyarrow.array(pictures["test"]["label"], pyarrow.int8())
    fill(mirror, {picture_file("test"): parquet_bytes(label=label, img=structs.get(form, files))})
    loaded = load_data("cifar10")
    assert list(loaded.data) == ["test"] and "The mirror lacks 'train'" in loaded.provenance.note
    table = loaded.data["test"]
    assert table.features == Features(img=Image(), label=ClassLabel(names=list(IMAGE_LABELS)))
    assert table[0]["img"].size == (32, 32) and table["label"][:] == pictures["test"]["label"]
    assert [cell["bytes"].as_py() for cell in table.data.column("img")] == files


def test_images_of_the_hub(hub, picture_files, pictures, monkeypatch):
    hub.revision, hub.files = PICTURES.revision, dict(picture_files)
    monkeypatch.delitem(DATASETS, "shakespeare")  # its address is outside
    listed = [row.note for row in list_data() if row.name == "cifar10"]
    provenance = fetch_data("cifar10")
    assert (provenance.origin, provenance.rows, provenance.version) == (
        "hub",
        7,
        "revision 0b271498",
    )
    cut_off(monkeypatch)
    assert [*listed, *(row.note for row in list_data() if row.name == "cifar10")] == [
        "to be downloaded",
        "in the cache",
    ]
    assert [check.status for check in check_data("cifar10")] == ["missing", "ok", "ok"]
    loaded = load_data("cifar10")
    assert (
        loaded.provenance == provenance
        and list(loaded.data) == ["train", "test"]
        and loaded.truth is None
    )
    assert list(loaded.data["train"]["label"]) == pictures["train"]["label"]


def test_images_that_are_not_all_there(mirror, hub, picture_files, tmp_path):
    fill(mirror, {picture_file("test"): picture_files[picture_file("test")]})
    with pytest.raises(
        DataUnavailableError,
        match="from the mirror: no split 'train' of uoft-cs/cifar10 in the mirror",
    ):
        load_data("cifar10", source="mirror", splits=["train"])
    hub.revision = PICTURES.revision
    with pytest.raises(
        DataUnavailableError, match="'cifar10' cannot be had from the hub: no split 'test', 'train'"
    ):
        fetch_data("cifar10")
    with pytest.raises(
        ValueError, match=r"some of train, test for 'cifar10'; got \['validation'\]"
    ):
        load_data("cifar10", splits=["validation"])


@pytest.mark.parametrize(
    "content",
    [
        parquet_bytes(image=[b"a"], label=[0]),
        parquet_bytes(img=[b"a"], fine_label=[0]),
        parquet_bytes(img=[1.5], label=[0]),
        parquet_bytes(img=[b"a"], label=[10]),
        parquet_bytes(img=[b"a"], label=[0])[:-30],
    ],
    ids=["no image", "no label", "type", "label out of range", "cut short"],
)
def test_image_files_that_cannot_be_read(mirror, content):
    fill(mirror, {picture_file("train"): content})
    with pytest.raises(
        DataUnavailableError,
        match="train-.* of uoft-cs/cifar10 cannot be read as parquet .*img, label",
    ):
        load_data("cifar10", source="mirror")


def test_sample_of_images(mirror):
    fill(mirror, {picture_file("test"): b"damaged"})
    with (
        pytest.warns(DataWarning, match="mirror passed over"),
        pytest.warns(SampleDataWarning, match="NOT THE REAL DATA"),
    ):
        loaded = load_data("cifar10")
    assert {split: table.num_rows for split, table in loaded.data.items()} == {
        "train": 2000,
        "test": 500,
    }
    assert loaded.data["test"].features == Features(
        img=Image(), label=ClassLabel(names=list(IMAGE_LABELS))
    )
    assert (
        loaded.data["test"][0]["img"].size == (32, 32) and len(loaded.truth["test"]["shape"]) == 500
    )
    assert (
        check_data("cifar10")[2].sha256 == loaded.provenance.sha256
    )  # of another sample, so it is the same again


# Photographs with captions


@pytest.fixture(scope="module")
def photo_files() -> dict[str, bytes]:
    """Flickr8k as on the hub: train in two shards, and a checksum in every file's name."""
    splits, _ = sample_photos(numbers=(4, 2, 3))
    halves = [
        {name: values[rows] for name, values in splits["train"].items()}
        for rows in (slice(2), slice(2, 4))
    ]
    return {
        f"{PHOTOS.name}/data/{file}.parquet": parquet_bytes(**columns)
        for file, columns in {
            "train-00000-of-00002-2f8f6bfa852eac4b": halves[0],
            "train-00001-of-00002-2173151d8cd6c7fb": halves[1],
            "validation-00000-of-00001-7025a2b596f14b7b": splits["validation"],
            "test-00000-of-00001-42a2661d12c73e48": splits["test"],
        }.items()
    }


def test_photographs_of_the_hub(hub, photo_files, monkeypatch):
    hub.revision, hub.files = PHOTOS.revision, dict(photo_files)
    loaded = load_data("flickr8k")
    provenance = loaded.provenance
    assert (provenance.origin, provenance.rows, provenance.version) == (
        "hub",
        9,
        "revision 56f58c96",
    )
    splits, _ = sample_photos(numbers=(4, 2, 3))
    assert {split: table["caption_4"][:] for split, table in loaded.data.items()} == {
        split: columns["caption_4"] for split, columns in splits.items()
    }
    assert loaded.data["train"].features == Features(
        image=Image(), **{f"caption_{k}": Value("string") for k in range(5)}
    )
    assert sorted(hub.downloads) == sorted(photo_files)
    cut_off(monkeypatch)
    assert load_data("flickr8k").provenance == provenance  # from the cache
    assert [check.status for check in check_data("flickr8k")] == ["missing", "ok", "ok"]


def test_photographs_that_are_not_all_there(mirror, hub, photo_files):
    first, _, _, test = photo_files
    fill(mirror, {name: photo_files[name] for name in (first, test)})
    assert load_data("flickr8k", splits=["test"]).provenance.rows == 3
    with pytest.raises(
        DataUnavailableError,
        match="only 1 of 2 shards of split 'train' of jxie/flickr8k in the mirror",
    ):
        load_data("flickr8k", source="mirror")
    with pytest.raises(
        DataUnavailableError, match="no split 'validation' of jxie/flickr8k in the mirror"
    ):
        load_data("flickr8k", source="mirror", splits=["validation"])
    hub.revision, hub.files = PHOTOS.revision, {test: photo_files[test]}
    with pytest.raises(
        DataUnavailableError,
        match="'flickr8k' cannot be had from the hub: no split 'train', 'validation'",
    ):
        fetch_data("flickr8k")


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns.pop("caption_4"),
        lambda columns: columns.update(caption_0=[[1.5]] * 2),
    ],
    ids=["no caption", "type"],
)
def test_photograph_files_that_cannot_be_read(mirror, change):
    columns = sample_photos(numbers=(1, 2, 1))[0]["validation"]
    change(columns)
    fill(mirror, {f"{PHOTOS.name}/data/validation.parquet": parquet_bytes(**columns)})
    with pytest.raises(
        DataUnavailableError,
        match="validation.* cannot be read as parquet .*image, caption_0, .*, caption_4",
    ):
        load_data("flickr8k", source="mirror")


def test_sample_of_photographs(mirror):
    fill(mirror, {f"{PHOTOS.name}/data/test-00000-of-00001.parquet": b"damaged"})
    with (
        pytest.warns(DataWarning, match="mirror passed over"),
        pytest.warns(SampleDataWarning, match="NOT THE REAL DATA"),
    ):
        loaded = load_data("flickr8k")
    assert {split: table.num_rows for split, table in loaded.data.items()} == {
        "train": 600,
        "validation": 100,
        "test": 200,
    }
    assert (
        loaded.data["test"][0]["image"].size == (32, 32)
        and len(loaded.truth["test"]["shape"]) == 200
    )
    assert check_data("flickr8k")[2].sha256 == loaded.provenance.sha256


def test_forced_mirror_that_is_not_set():
    with pytest.raises(DataUnavailableError, match="no mirror is set"):
        load_data("wikitext-2", source="mirror")


# No network


def test_refused_connection_falls_back_loudly(mirror, tmp_path):
    loaded = load_loudly_from_sample(
        "NOT THE REAL DATA.*cannot be reached", splits=["train", "test"]
    )
    assert list(loaded.data) == ["train", "test"]
    assert loaded.truth == sample_articles()[1]
    note = loaded.provenance.note
    assert (
        "no split 'train' of Salesforce/wikitext in the mirror" in note
        and "cannot be reached" in note
    )
    assert str(tmp_path) not in str(loaded.provenance)


def test_silent_hub_falls_back_in_time(hub):
    hub.hang = True
    load_loudly_from_sample("cannot be reached")


def test_forced_hub_without_network():
    with pytest.raises(
        DataUnavailableError, match=r"'wikitext-2' cannot be had from the hub.*Check the network"
    ):
        load_data("wikitext-2", source="hub")
    with pytest.raises(DataUnavailableError, match=r"'wikitext-2' cannot be had from the hub"):
        fetch_data("wikitext-2")


def test_hub_that_refuses(hub):
    hub.status = 403
    load_loudly_from_sample(r"the download failed 3 times \(HTTP status 403\)")


def test_hub_that_lacks_a_split(hub):
    del hub.files[TEST]
    with pytest.raises(
        DataUnavailableError, match="no split 'test' of Salesforce/wikitext on the hub"
    ):
        load_data("wikitext-2", source="hub")


# Damaged downloads and caches


def test_altered_download_is_never_used(hub):
    hub.altered[TEST] = 3
    with pytest.raises(
        DataUnavailableError, match=r"the download failed 3 times \(the cached .*test.* is not what"
    ):
        load_data("wikitext-2", source="hub")


def test_altered_download_is_repeated(hub):
    hub.altered[TEST] = 2
    assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)
    assert hub.downloads.count(TEST) == 3


@pytest.mark.parametrize("small", [False, True], ids=["sha256", "git"])
def test_damaged_cached_file_is_downloaded_again(hub, tmp_path, small):
    hub.small = {TEST} if small else set()
    load_data("wikitext-2")
    alter(cached(tmp_path, TEST))
    with pytest.warns(
        DataWarning,
        match="the cached .*test-.* is not what its checksum says; downloading it again",
    ):
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)


def test_damaged_cached_file_is_not_used_without_network(hub, tmp_path, monkeypatch):
    load_data("wikitext-2")
    alter(cached(tmp_path, TEST))
    cut_off(monkeypatch)
    with pytest.warns(DataWarning, match="not what its checksum says"):
        load_loudly_from_sample("cannot be reached")


@pytest.mark.parametrize("listing", [True, False], ids=["listing", "no listing"])
def test_incomplete_cache_is_completed_or_refused(hub, tmp_path, monkeypatch, listing):
    load_data("wikitext-2")
    cached(tmp_path, SHARDS[1]).resolve().unlink()  # the link to it stays
    if (
        not listing
    ):  # as older versions of the library leave it, so that only the names of the shards tell
        for path in cached(tmp_path, "a/b/c").parents[2].glob("trees/*"):
            path.unlink()
        monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    with monkeypatch.context() as patch:
        cut_off(patch)
        load_loudly_from_sample("cannot be reached")
    assert load_data("wikitext-2").provenance.rows == 12


def test_cached_blob_that_is_itself_a_link(hub, tmp_path):
    """As the library keeps blobs that repositories share: what it leads to is named by another checksum."""
    load_data("wikitext-2")
    blob = cached(tmp_path, TEST).resolve()
    blob.rename(tmp_path / ("f" * 64))
    blob.symlink_to(tmp_path / ("f" * 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)


def test_forbidden_cached_file(hub, tmp_path, monkeypatch):
    load_data("wikitext-2")
    path, opened = cached(tmp_path, TEST), Path.open

    def forbid(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", forbid)
    assert check_data("wikitext-2")[1].status == "unreadable"
    with pytest.warns(DataWarning, match="in the cache: Permission denied; downloading it again"):
        load_loudly_from_sample("Permission denied")
    assert hub.downloads.count(TEST) == 4


def test_damaged_cached_file_without_links(hub, tmp_path, monkeypatch):
    """Where the system has no links there is no checksum to compare with, but what cannot be read is refused."""
    load_data("wikitext-2")
    cut_off(monkeypatch)
    path = cached(tmp_path, TEST)
    path.unlink()
    path.write_bytes(CONTENT[TEST][:-20])
    with pytest.raises(DataUnavailableError, match="cannot be read as parquet"):
        load_data("wikitext-2", source="hub")


def test_cache_folder_that_is_a_file(hub, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataUnavailableError, match="the download failed 3 times") as caught:
        load_data("wikitext-2", source="hub")
    assert str(tmp_path) not in str(caught.value)


# What the command line uses


def test_check_data(mirror, hub, tmp_path):
    def statuses():
        return {check.origin: check.status for check in check_data("wikitext-2")}

    assert statuses() == {"mirror": "ok", "hub": "missing", "sample": "ok"}
    assert not hub.downloads
    assert fetch_data("wikitext-2").sha256 == combined(*ALL)
    assert statuses() == {"mirror": "ok", "hub": "ok", "sample": "ok"}
    assert check_data("wikitext-2")[1].sha256 == combined(*ALL)
    alter(mirror / TEST)
    alter(cached(tmp_path, VALIDATION))
    assert statuses() == {"mirror": "mismatch", "hub": "mismatch", "sample": "ok"}
    assert (
        "test-00000-of-00001.parquet: differs from SHA256SUMS" in check_data("wikitext-2")[0].note
    )
    (mirror / "SHA256SUMS").unlink()
    assert statuses()["mirror"] == "unverified"
    (mirror / TEST).unlink()
    (mirror / VALIDATION).unlink()
    assert statuses()["mirror"] == "missing"


def test_list_data_agrees_with_load_data(mirror, hub, monkeypatch):
    def listed():
        (listing,) = (row for row in list_data() if row.name == "wikitext-2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert listing.origin == load_data("wikitext-2").provenance.origin
        return listing.origin, listing.note

    monkeypatch.delitem(DATASETS, "shakespeare")  # its address is outside
    assert listed() == ("mirror", "in the mirror, without split 'train'")
    monkeypatch.delenv("JEPA_DATA_MIRROR")
    assert listed() == ("hub", "to be downloaded")
    assert listed() == ("hub", "in the cache")
    cut_off(monkeypatch)
    assert listed() == ("hub", "in the cache")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(mirror / "empty"))
    assert listed()[0] == "sample"


# Streams


@pytest.fixture
def shards(mirror) -> list[Path]:
    names = [f"{STREAM.name}/sample/10BT/00{number}.parquet" for number in range(3)]
    fill(
        mirror,
        {
            name: parquet_bytes(text=[f"{number}-{row}" for row in range(4)], more=[0] * 4)
            for number, name in enumerate(names)
        },
    )
    return [mirror / name for name in names]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_process_streams_its_own_rows(shards, world_size):
    """Three shards: by shards for three processes, by rows for two."""
    streams = [
        stream_data("fineweb-edu", rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    parts = [[row["text"] for row in stream] for stream in streams]
    assert all(parts)
    assert sorted(sum(parts, [])) == [f"{number}-{row}" for number in range(3) for row in range(4)]


def test_a_stream_opens_a_shard_only_when_it_gets_there(shards):
    shards[1].write_bytes(b"not parquet")
    rows = iter(stream_data("fineweb-edu"))
    assert [next(rows) for _ in range(4)] == [{"text": f"0-{row}"} for row in range(4)]
    with pytest.raises(pyarrow.ArrowInvalid):
        next(rows)


def test_a_stream_in_worker_processes(shards):
    rows = [
        row["text"]
        for row in DataLoader(stream_data("fineweb-edu"), batch_size=None, num_workers=2)
    ]
    assert len(rows) == len(set(rows)) == 12


def test_a_stream_over_the_network(shards, hub, monkeypatch):
    monkeypatch.delenv("JEPA_DATA_MIRROR")
    hub.revision = STREAM.revision
    hub.files = {f"{STREAM.name}/sample/10BT/{path.name}": path.read_bytes() for path in shards}
    hub.files[f"{STREAM.name}/sample/100BT/000.parquet"] = b"not wanted"
    rows = iter(stream_data("fineweb-edu"))
    assert next(rows) == {"text": "0-0"}
    assert {Path(name).name for name in hub.downloads} == {"000.parquet"}
    assert len(list(rows)) == 11


def test_a_stream_without_network_or_with_wrong_arguments(mirror, hub):
    start = time.monotonic()
    hub.hang = True
    with (
        pytest.warns(DataWarning, match="no shard"),
        pytest.raises(DataUnavailableError, match="no sample: connect"),
    ):
        stream_data("fineweb-edu")
    with pytest.raises(
        DataUnavailableError,
        match="from the mirror: no shard in HuggingFaceFW/fineweb-edu/sample/10BT",
    ):
        stream_data("fineweb-edu", source="mirror")
    assert time.monotonic() - start < 5
    with pytest.raises(ValueError, match="name must be one of fineweb-edu; got 'wikitext-2'"):
        stream_data("wikitext-2")
    with pytest.raises(ValueError, match="no sample.*got 'sample'"):
        stream_data("fineweb-edu", source="sample")
    with pytest.raises(ValueError, match="got rank 2 with world_size 2"):
        stream_data("fineweb-edu", rank=2, world_size=2)


# Samples


def test_sample_articles():
    start = time.monotonic()
    splits, topics = sample_articles()
    assert time.monotonic() - start < 1
    assert (splits, topics) == sample_articles() != sample_articles(1)
    words = {
        split: sum(len(line.split()) for line in columns["text"])
        for split, columns in splits.items()
    }
    assert words["train"] > 25_000 and 50_000 < words["validation"] + words["test"] < 70_000
    assert len(set(topics.values())) == 8
    titles = []
    for columns in splits.values():
        lines = columns["text"]
        assert lines[0] == "" and all(
            line == "" or (line.startswith(" ") and line.endswith(" \n")) for line in lines
        )
        assert lines.count(" = = History = = \n") == sum(
            line.startswith(" = ") and line[3] != "=" for line in lines
        )
        titles += [line[3:-4] for line in lines if line.startswith(" = ") and line[3] != "="]
    assert titles == list(topics)


def test_halves_of_an_articles_passage_have_words_in_common():
    """What chapter 2 rests on: the second half of an article is told by the first among other articles' halves."""
    blocks = []
    for line in sample_articles()[0]["test"]["text"]:
        if line.startswith(" = ") and line[3] != "=":
            blocks.append([])
        elif line:
            blocks[-1] += line.split()
    halves = [(set(block[:200]), set(block[200:400])) for block in blocks]
    told = [
        len(first & second) == max(len(first & other) for _, other in halves)
        for first, second in halves
    ]
    assert len(told) == 38 and sum(told) / len(told) > 0.9


def test_sample_reviews():
    splits, cues = sample_reviews()
    assert (splits, cues) == sample_reviews() != sample_reviews(1)
    assert {split: len(columns["label"]) for split, columns in splits.items()} == {
        "train": 800,
        "validation": 100,
        "test": 200,
    }
    assert sum(splits["test"]["label"]) == 100 and not set(cues["neg"]) & set(cues["pos"])
    bag = CountVectorizer().fit(splits["train"]["text"])
    probe = LogisticRegression().fit(
        bag.transform(splits["train"]["text"]), splits["train"]["label"]
    )
    assert 0.7 < probe.score(bag.transform(splits["test"]["text"]), splits["test"]["label"]) < 0.9
    assert all(text == text.lower() for text in splits["train"]["text"])


@pytest.mark.parametrize("sample", [sample_articles, sample_reviews])
def test_samples_refuse_empty_splits(sample):
    with pytest.raises(ValueError, match=r"at least 1 for each split, got \(1, 0, 1\)"):
        sample(0, **{f"num_{sample.__name__.removeprefix('sample_')}": (1, 0, 1)})


def test_samples_are_the_same_everywhere(recwarn):
    """Pinned: the same on every machine and Python version."""
    first = {
        name: load_data(name, source="sample").provenance.sha256[:12]
        for name in ("wikitext-2", "rotten-tomatoes")
    }
    assert first == {"wikitext-2": "3b9ce8d561e3", "rotten-tomatoes": "5e28368a5b29"}
    assert not recwarn.list  # asked for, so no notice


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_the_real_data_of_the_mirror(monkeypatch):
    monkeypatch.setenv("JEPA_DATA_MIRROR", MIRROR)
    articles = load_data("wikitext-2", source="mirror", splits=["validation", "test"])
    words = {
        split: sum(len(line.split()) for line in table["text"])
        for split, table in articles.data.items()
    }
    assert words == {"validation": 213_886, "test": 241_211}
    reviews = load_data("rotten-tomatoes", source="mirror", splits=["train", "test"])
    assert reviews.provenance.rows == 8_530 + 1_066
    assert reviews.data["train"].features["label"].names == ["neg", "pos"]
    pictures = load_data("cifar10", source="mirror")
    assert {split: Counter(table["label"]) for split, table in pictures.data.items()} == {
        split: {label: number for label in range(10)}
        for split, number in (("train", 5000), ("test", 1000))
    }
    photos = load_data("flickr8k", source="mirror")
    assert {split: table.num_rows for split, table in photos.data.items()} == {
        "train": 6000,
        "validation": 1000,
        "test": 1000,
    }
    assert photos.data["test"]["caption_4"][0] == "Two dogs playing in the snow ."
