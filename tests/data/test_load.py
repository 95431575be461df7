"""Data sets: which source is used, what is refused, and what happens when things break. No outside access."""

import dataclasses
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import pooch
import pyarrow
import pytest
from datasets import ClassLabel, Features, Image, Value
from fakehub import FakeHub, cut_off, fill_mirror, nobody, on_its_own
from huggingface_hub.utils import are_progress_bars_disabled
from pyarrow import parquet

from jepa_utils.data import load
from jepa_utils.data.load import (
    DataUnavailableError,
    DataWarning,
    Provenance,
    SampleDataWarning,
    check_data,
    load_data,
)
from jepa_utils.data.registry import DATASETS, REVISIONS
from jepa_utils.data.samples import (
    IMAGE_LABELS,
    sample_articles,
    sample_images,
    sample_photos,
    sample_shakespeare,
)

MIRROR = os.environ.get("JEPA_DATA_MIRROR")  # as it was before the tests take it away
WIKI, REVIEWS, PICTURES, PHOTOS = (
    DATASETS[name].place for name in ("wikitext-2", "rotten-tomatoes", "cifar10", "flickr8k")
)
TRAIN, VALIDATION, TEST = (f"{WIKI.name}/{path}" for (path,) in WIKI.files.values())
ALL = [TRAIN, VALIDATION, TEST]
PAGE = (
    "\ufeffThe Project Gutenberg eBook\r\nMost recently updated: May 1, 2025\r\n\r\nROMEO.\r\n"
    "Soft, Juliet.\rStill.\r\n*** END OF THE PROJECT GUTENBERG EBOOK ***\r\n"
).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parquet_bytes(**columns) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


CONTENT = {
    name: parquet_bytes(text=[f"{Path(name).stem} {row}" for row in range(3)], more=[0, 1, 2])
    for name in ALL
}
TEXTS = {name: [f"{Path(name).stem} {row}" for row in range(3)] for name in ALL}


def combined(*names: str) -> str:
    return sha256("".join(f"{sha256(CONTENT[name])}\n" for name in names).encode())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    on_its_own(monkeypatch, tmp_path)
    set_page(monkeypatch, nobody())


def set_page(monkeypatch, url: str) -> None:
    spec = DATASETS["shakespeare"]
    place = dataclasses.replace(spec.place, page=url)
    monkeypatch.setitem(DATASETS, "shakespeare", dataclasses.replace(spec, place=place))


@pytest.fixture
def hub(monkeypatch):
    """The fake hub with WikiText's repository, and what is not to be fetched."""
    fake = FakeHub(revision=REVISIONS[WIKI.name], files=dict(CONTENT))
    fake.files[f"{WIKI.name}/wikitext-103-v1/test-00000-of-00001.parquet"] = b"another part"
    fake.files[f"{WIKI.name}/README.md"] = b"read me"
    with fake.running(monkeypatch):
        yield fake


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror of the same, which lacks train."""
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    fill_mirror(tmp_path / "mirror", {name: CONTENT[name] for name in (VALIDATION, TEST)})
    return tmp_path / "mirror"


def texts(loaded) -> dict[str, list[str]]:
    return {split: list(table["text"]) for split, table in loaded.data.items()}


def cached(tmp_path: Path, name: str, place=WIKI) -> Path:
    repo = tmp_path / "cache" / "hub" / f"datasets--{place.name.replace('/', '--')}"
    return repo / "snapshots" / REVISIONS[place.name] / name.removeprefix(f"{place.name}/")


def alter(path: Path) -> None:
    """Change one byte of a file, also behind links."""
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def load_loudly_from_sample(match: str, name: str = "wikitext-2", seconds: float = 2, **options):
    """Load, and demand the loud notice with its reason, in time."""
    start = time.monotonic()
    with pytest.warns(SampleDataWarning, match=match) as caught:
        loaded = load_data(name, **options)
    assert time.monotonic() - start < seconds
    assert loaded.provenance.origin == "sample"
    assert caught[-1].filename == __file__
    return loaded


# ---- the order of the sources


def test_mirror_is_used_first(mirror, hub, tmp_path, recwarn):
    loaded = load_data("wikitext-2")
    assert texts(loaded) == {"validation": TEXTS[VALIDATION], "test": TEXTS[TEST]}
    assert loaded.data["test"].column_names == ["text"]
    assert loaded.truth is None
    provenance = loaded.provenance
    assert (provenance.origin, provenance.rows, provenance.unit) == ("mirror", 6, "rows")
    assert provenance.version == "no revision stated"
    assert provenance.sha256 == combined(VALIDATION, TEST)
    assert provenance.note == (
        "A copy of https://huggingface.co/datasets/Salesforce/wikitext (wikitext-2-v1). "
        "Splits: validation (3), test (3). The mirror lacks 'train'."
    )
    assert str(tmp_path) not in str(provenance)
    assert not recwarn.list and not hub.downloads


def test_hub_is_second_and_its_cached_copy_needs_no_network(hub, tmp_path, monkeypatch, capfd):
    loaded = load_data("wikitext-2")
    assert texts(loaded) == {Path(name).stem.split("-")[0]: TEXTS[name] for name in ALL}
    assert list(loaded.data) == ["train", "validation", "test"]
    provenance = loaded.provenance
    assert (provenance.origin, provenance.rows) == ("hub", 9)
    assert provenance.version == "revision b08601e0"
    assert provenance.sha256 == combined(*ALL)
    assert provenance.note == (
        "From https://huggingface.co/datasets/Salesforce/wikitext (wikitext-2-v1). "
        "Splits: train (3), validation (3), test (3)."
    )
    assert str(tmp_path) not in str(provenance)
    assert Provenance(**json.loads(json.dumps(provenance.to_dict()))) == provenance
    assert hub.downloads == ALL
    cut_off(monkeypatch)
    again = load_data("wikitext-2")
    assert (again.provenance, texts(again)) == (provenance, texts(loaded))
    assert capfd.readouterr() == ("", "")  # no bars, no messages
    assert not are_progress_bars_disabled()


def test_nothing_is_written_outside_the_cache_and_nothing_is_told(hub, mirror, tmp_path):
    """In a process of its own, for the libraries read where their caches are when imported."""
    program = (
        "from jepa_utils import load_data, stream_data\n"
        "load_data('wikitext-2', source='hub'); load_data('wikitext-2', source='mirror')\n"
        "list(stream_data('fineweb-edu', source='mirror'))\n"
        "import huggingface_hub.constants as c\n"
        "print(c.HF_HUB_DISABLE_TELEMETRY, c.HF_HUB_DISABLE_XET)"
    )
    shard = "HuggingFaceFW/fineweb-edu/sample/10BT/000_00000.parquet"
    fill_mirror(mirror, {shard: parquet_bytes(text=["a"])})
    (tmp_path / "home").mkdir()
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_HUB", "HF_HOME", "XDG"))
    }
    environment |= {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    environment |= {"HF_TOKEN": "secret", "HF_HUB_DISABLE_TELEMETRY": ""}  # empty: not set
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True True\n"
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    assert hub.downloads == ALL and hub.tokens == set()


def test_only_the_splits_wanted_are_downloaded(hub):
    part = load_data("wikitext-2", splits=["test", "validation"])
    assert texts(part) == {"validation": TEXTS[VALIDATION], "test": TEXTS[TEST]}
    assert list(part.data) == ["validation", "test"]
    assert hub.downloads == [VALIDATION, TEST]
    assert load_data("wikitext-2").provenance.rows == 9  # the rest is not taken for missing
    assert hub.downloads == [VALIDATION, TEST, TRAIN]


def test_a_source_that_lacks_a_split_is_passed_over(mirror, hub):
    lacks = "no split 'train' of Salesforce/wikitext in the mirror"
    with pytest.warns(DataWarning, match=f"mirror passed over: {lacks}") as caught:
        loaded = load_data("wikitext-2", splits=["train"])
    assert caught[0].filename == __file__
    assert loaded.provenance.origin == "hub" and list(loaded.data) == ["train"]
    with pytest.raises(
        DataUnavailableError, match=f"from the mirror: {lacks}.*a folder that holds Salesforce/wiki"
    ):
        load_data("wikitext-2", splits=["train"], source="mirror")
    part = load_data("wikitext-2", splits=["test"]).provenance
    assert part.sha256 == combined(TEST)
    assert part.note.endswith("Splits: test (3). The mirror lacks 'train'.")


def test_files_at_the_root_with_labels(mirror):
    content = parquet_bytes(text=["good", "bad"], label=[1, 0])
    fill_mirror(mirror, {f"{REVIEWS.name}/{split}.parquet": content for split in ("train", "test")})
    loaded = load_data("rotten-tomatoes")
    assert list(loaded.data) == ["train", "test"]
    assert loaded.data["test"].features == Features(
        text=Value("string"), label=ClassLabel(names=["neg", "pos"])
    )
    assert loaded.data["train"][0] == {"text": "good", "label": 1}
    assert "rotten_tomatoes. Splits:" in loaded.provenance.note  # no folder


def test_unknown_names_sources_and_splits_are_refused():
    known = "cifar10, flickr8k, rotten-tomatoes, shakespeare, wikitext-2"
    for ask in (load_data, check_data):
        with pytest.raises(ValueError, match=f"name must be one of {known}; got 'marlowe'"):
            ask("marlowe")
    with pytest.raises(
        ValueError, match="source must be None or one of mirror, hub, sample; got 'web'"
    ):
        load_data("shakespeare", source="web")
    for splits in (["dev"], "train", []):
        with pytest.raises(
            ValueError, match="splits must be None or a list of some of train, validation, test for"
        ):
            load_data("wikitext-2", splits=splits)
    with pytest.raises(
        ValueError, match=r"some of train, test for 'cifar10'; got \['validation'\]"
    ):
        load_data("cifar10", splits=["validation"])
    with pytest.raises(ValueError, match=r"splits must be None for 'shakespeare'; got \['train'\]"):
        load_data("shakespeare", splits=["train"])


# ---- mirrors that are missing, damaged or incomplete


def test_mirror_folder_that_does_not_exist(hub, monkeypatch, tmp_path):
    with pytest.raises(
        DataUnavailableError, match=r"'wikitext-2'.* from the mirror: JEPA_DATA_MIRROR is not set"
    ):
        load_data("wikitext-2", source="mirror")
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "nowhere"))
    with pytest.warns(DataWarning, match="passed over: JEPA_DATA_MIRROR is not set to a folder"):
        assert load_data("wikitext-2").provenance.origin == "hub"
    with pytest.raises(DataUnavailableError, match="now .*nowhere"):
        load_data("wikitext-2", source="mirror")


def test_altered_mirror_file(mirror, hub):
    alter(mirror / TEST)
    wrong = "test-00000-of-00001.parquet is not what its checksum says"
    with pytest.warns(DataWarning, match=wrong):
        assert load_data("wikitext-2").provenance.origin == "hub"
    with pytest.raises(DataUnavailableError, match=wrong):
        load_data("wikitext-2", source="mirror")


def test_a_mirror_with_checksums_lists_every_file(mirror):
    (mirror / TRAIN).write_bytes(CONTENT[TRAIN])
    with pytest.raises(DataUnavailableError, match="train.* is not what its checksum says"):
        load_data("wikitext-2", source="mirror")
    (mirror / "SHA256SUMS").unlink()
    assert load_data("wikitext-2", source="mirror").provenance.sha256 == combined(*ALL)


def test_mirror_file_that_may_not_be_read(mirror, monkeypatch):
    forbid(monkeypatch, mirror / TEST)
    with pytest.raises(DataUnavailableError, match="test.* cannot be read: Permission denied"):
        load_data("wikitext-2", source="mirror")


def forbid(monkeypatch, path: Path) -> None:
    opened = Path.open

    def deny(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", deny)


@pytest.mark.parametrize(
    "content",
    [parquet_bytes(words=["a"]), b"PAR1 but nothing of the kind PAR1"],
    ids=["columns", "bytes"],
)
def test_mirror_file_that_cannot_be_read(mirror, content):
    fill_mirror(mirror, {TRAIN: content})
    with pytest.raises(DataUnavailableError, match="Salesforce/wikitext has no readable text "):
        load_data("wikitext-2", source="mirror")


# ---- lists of checksums


@pytest.mark.parametrize(
    "command",
    [
        ["sha256sum"],
        ["sha256sum", "-b"],
        ["sha256sum", "--tag"],
        ["sha256sum", "-z"],
        ["shasum", "-a", "256"],
        ["shasum", "-a", "256", "-b"],
        ["shasum", "-a", "256", "--tag"],
        ["openssl", "dgst", "-sha256"],
        ["openssl", "dgst", "-sha256", "-r"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("names", ["", "./", "folder"])
def test_checksums_as_tools_write_them(mirror, command, names):
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]}")
    start = f"{mirror}/" if names == "folder" else names
    command = [*command, f"{start}{VALIDATION}", f"{start}{TEST}"]
    listed = subprocess.run(command, cwd=mirror, capture_output=True, check=True).stdout
    (mirror / "SHA256SUMS").write_bytes(listed)
    check_the_list_of(mirror)


def check_the_list_of(mirror: Path) -> None:
    """The mirror's files are good; a change in one is found."""
    good = load_data("wikitext-2", source="mirror").provenance
    assert good.sha256 == combined(VALIDATION, TEST)
    alter(mirror / TEST)
    with pytest.raises(DataUnavailableError, match="test-.*is not what its checksum says"):
        load_data("wikitext-2", source="mirror")


@pytest.mark.parametrize(
    "line",
    [
        "{digest}  ././{name}",
        "{upper} *{name}",
        "{digest} {name}",
        "SHA256 ({name}) = {upper}",
        "SHA256({name})= {digest}",
        "SHA2-256(./{name})= {digest}",
        "\\{digest}  ./{name}",
        "\\SHA256 ({name}) = {digest}",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"], ids=["LF", "CRLF", "NUL"])
def test_checksums_in_every_form(mirror, line, end):
    lines = ["\ufeff# of the mirror", "", *(f"\\{'0' * 64}  a\\\\b\\n{n}" for n in (1, 2))]
    for name in (VALIDATION, TEST):
        digest = sha256(CONTENT[name])
        lines.append(line.format(digest=digest, upper=digest.upper(), name=name))
    (mirror / "SHA256SUMS").write_bytes("".join(line + end for line in lines).encode())
    check_the_list_of(mirror)


@pytest.mark.parametrize(
    "line",
    [
        "0" * 63 + "  name",
        "g" * 64 + "  name",
        "0" * 40 + "  name",
        "0" * 128 + "  name",
        "0" * 64,
        "0" * 64 + "  ",
        "MD5 (name) = " + "0" * 32,
        f"SHA512 (name) = {'0' * 128}",
        "<html>",
        "version https://git-lfs.github.com/spec/v1",
    ],
)
def test_a_line_that_is_no_checksum_is_named(mirror, hub, line):
    listed = (mirror / "SHA256SUMS").read_text()
    (mirror / "SHA256SUMS").write_text(f"{listed}\n{line}\n")
    reason = "SHA256SUMS: line 4 is no SHA-256 checksum with a file name"
    with pytest.warns(DataWarning, match=f"mirror passed over: {reason}"):
        assert load_data("wikitext-2").provenance.origin == "hub"
    assert check_data("wikitext-2")["mirror"] == f"damaged: {reason}"


@pytest.mark.parametrize("content", [b"", b"# none\n", None], ids=["empty", "comment", "folder"])
def test_a_list_without_checksums_verifies_nothing(mirror, content):
    (mirror / "SHA256SUMS").unlink()
    if content is None:
        (mirror / "SHA256SUMS").mkdir()
    else:
        (mirror / "SHA256SUMS").write_bytes(content)
    reason = "SHA256SUMS cannot be read" if content is None else "not what its checksum says"
    with pytest.raises(DataUnavailableError, match=reason):
        load_data("wikitext-2", source="mirror")
    assert check_data("wikitext-2")["mirror"].startswith("damaged: ")


def test_a_record_of_a_checksum_that_is_empty_verifies_nothing(server, page):
    load_data("shakespeare")
    page.write_bytes(PAGE.replace(b"Soft", b"Hard"))
    page.with_name("complete_works.txt.sha256").write_bytes(b"")
    with pytest.warns(DataWarning, match="downloading it again"):
        assert load_data("shakespeare").provenance.sha256 == sha256(PAGE)


# ---- files that are not what should lie there

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % (b"a" * 64)
STAND_INS = {
    "pointer": (POINTER, "is a Git LFS pointer, not the file itself"),
    "pointer, CRLF": (POINTER.replace(b"\n", b"\r\n"), "is a Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s9--aaaa.txt\n", "is a git-annex pointer"),
    "empty": (b"", "is empty"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>\n", "is a web page"),
    "page, upper": (b"\xef\xbb\xbf<HTML><BODY>Sign in</BODY></HTML>", "is a web page"),
    "answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "text": (b"404: Not Found", "is an error message"),
    "hub": (b"Entry not found", "is an error message"),
    "json": (b'{"error":"Repository not found"}', "is an error message"),
    "folder": (None, "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "no list"])
@pytest.mark.parametrize(("content", "reason"), STAND_INS.values(), ids=STAND_INS)
@pytest.mark.parametrize("name", ["shakespeare", "wikitext-2"])
def test_what_is_not_the_file_is_passed_over(mirror, server, hub, name, content, reason, listed):
    """Also where the list has its own checksum."""
    file = TEST if name == "wikitext-2" else "shakespeare/complete_works.txt"
    (mirror / TEST).unlink()
    if content is None:
        (mirror / file).mkdir(parents=True)
    else:
        fill_mirror(mirror, {file: content})
    if not listed:
        (mirror / "SHA256SUMS").unlink()
    with pytest.warns(DataWarning, match=f"mirror passed over: {file} {reason}"):
        assert load_data(name).provenance.origin == "hub"
    assert check_data(name)["mirror"].startswith(f"damaged: {file} {reason}")


def test_a_link_that_leads_nowhere_is_passed_over(mirror, hub):
    (mirror / TEST).unlink()
    (mirror / TEST).symlink_to(".git/annex/objects/test")
    with pytest.warns(DataWarning, match=f"{TEST} cannot be read: No such file or directory"):
        assert load_data("wikitext-2").provenance.origin == "hub"


@pytest.mark.parametrize("content", [b"\n \r\n", b"\0" * 5000, b"R\0O\0M\0E\0O\0\n\0"])
def test_a_text_without_text_is_passed_over(text_mirror, server, content):
    fill_mirror(text_mirror.parents[1], {"shakespeare/complete_works.txt": content})
    reason = "mirror passed over: complete_works.txt of shakespeare is no text"
    with pytest.warns(DataWarning, match=reason):
        assert load_data("shakespeare").provenance.origin == "hub"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[TEST][:-20], r"has no readable text \(ArrowInvalid\)"),
        (CONTENT[TEST][20:], r"has no readable text \("),
        (parquet_bytes(text=pyarrow.array([], pyarrow.string())), "has no rows"),
    ],
    ids=["end", "start", "no rows"],
)
def test_the_table_that_cannot_be_read_is_named(mirror, hub, content, reason):
    fill_mirror(mirror, {TEST: content})
    reason = rf"test-00000-of-00001.parquet of Salesforce/wikitext {reason}"
    with pytest.warns(DataWarning, match=f"mirror passed over: {reason}"):
        assert load_data("wikitext-2").provenance.origin == "hub"


def test_a_pointer_in_the_cache_is_downloaded_again(server, page):
    page.parent.mkdir(parents=True)
    page.write_bytes(POINTER)
    page.with_name("complete_works.txt.sha256").write_text(sha256(POINTER))
    with pytest.warns(DataWarning, match="Git LFS pointer, not the file itself; downloading"):
        assert load_data("shakespeare").provenance.sha256 == sha256(PAGE)


# ---- folders in the environment


def test_the_home_in_names_of_folders(server, mirror, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JEPA_CACHE_DIR", "~/kept")
    monkeypatch.setenv("JEPA_DATA_MIRROR", "~/mirror")
    assert load_data("wikitext-2").provenance.origin == "mirror"
    assert check_data("wikitext-2")["mirror"] == "ok: validation, test"
    load_data("shakespeare", source="hub")
    assert (tmp_path / "kept/shakespeare/complete_works.txt").read_bytes() == PAGE
    assert not (tmp_path / "~").exists()


def test_empty_names_of_folders_count_as_not_set(monkeypatch):
    usual = pooch.os_cache("jepa-book")
    monkeypatch.setenv("JEPA_CACHE_DIR", "")
    assert load.cache_folder() == usual
    monkeypatch.setenv("JEPA_DATA_MIRROR", "")
    with pytest.raises(DataUnavailableError, match="JEPA_DATA_MIRROR is not set to a folder"):
        load_data("wikitext-2", source="mirror")


# ---- images


def picture_file(split: str) -> str:
    return f"{PICTURES.name}/{PICTURES.files[split][0]}"


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
    content = parquet_bytes(label=label, img=structs.get(form, files))
    fill_mirror(mirror, {picture_file("test"): content})
    loaded = load_data("cifar10")
    assert list(loaded.data) == ["test"] and "The mirror lacks 'train'" in loaded.provenance.note
    table = loaded.data["test"]
    assert table.features == Features(img=Image(), label=ClassLabel(names=list(IMAGE_LABELS)))
    assert table[0]["img"].size == (32, 32) and table["label"][:] == pictures["test"]["label"]
    assert [cell["bytes"].as_py() for cell in table.data.column("img")] == files


def test_images_of_the_hub(hub, picture_files, pictures, monkeypatch):
    hub.revision, hub.files = REVISIONS[PICTURES.name], dict(picture_files)
    provenance = load_data("cifar10", source="hub").provenance
    assert (provenance.origin, provenance.rows) == ("hub", 7)
    assert provenance.version == "revision 0b271498"
    cut_off(monkeypatch)
    loaded = load_data("cifar10")
    assert loaded.provenance == provenance and loaded.truth is None
    assert list(loaded.data) == ["train", "test"]
    assert list(loaded.data["train"]["label"]) == pictures["train"]["label"]


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
    fill_mirror(mirror, {picture_file("train"): content})
    with pytest.raises(
        DataUnavailableError, match=r"uoft-cs/cifar10 has no readable img, label \("
    ):
        load_data("cifar10", source="mirror")


def test_shards_with_checksums_in_their_names(hub, mirror, monkeypatch):
    """Flickr8k as on the hub: train in two shards; a mirror may have it in one."""
    splits, _ = sample_photos(numbers=(4, 2, 3))
    halves = [
        {name: values[rows] for name, values in splits["train"].items()}
        for rows in (slice(2), slice(2, 4))
    ]
    names = [f"{PHOTOS.name}/{path}" for paths in PHOTOS.files.values() for path in paths]
    columns = [*halves, splits["validation"], splits["test"]]
    files = {name: parquet_bytes(**part) for name, part in zip(names, columns, strict=True)}
    hub.revision, hub.files = REVISIONS[PHOTOS.name], files
    captions = {split: part["caption_4"] for split, part in splits.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the mirror has none of it
        loaded = load_data("flickr8k")
    assert (loaded.provenance.origin, loaded.provenance.rows) == ("hub", 9)
    assert loaded.provenance.version == "revision 56f58c96"
    assert {split: table["caption_4"][:] for split, table in loaded.data.items()} == captions
    assert loaded.data["train"].features == Features(
        image=Image(), **{f"caption_{k}": Value("string") for k in range(5)}
    )
    assert hub.downloads == names
    cut_off(monkeypatch)
    assert load_data("flickr8k", source="hub").provenance == loaded.provenance  # from the cache
    # The mirror: a half of train is none; joined it is whole.
    fill_mirror(mirror, {name: files[name] for name in names[1:]})
    assert list(load_data("flickr8k").data) == ["validation", "test"]
    with pytest.raises(
        DataUnavailableError, match="no split 'train' of jxie/flickr8k in the mirror"
    ):
        load_data("flickr8k", source="mirror", splits=["train"])
    whole = f"{PHOTOS.name}/data/train-00000-of-00001.parquet"
    fill_mirror(mirror, {whole: parquet_bytes(**splits["train"])})
    copied = load_data("flickr8k")
    assert {split: table["caption_4"][:] for split, table in copied.data.items()} == captions
    assert copied.provenance.origin == "mirror" and "lacks" not in copied.provenance.note


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
    name = f"{PHOTOS.name}/{PHOTOS.files['validation'][0]}"
    fill_mirror(mirror, {name: parquet_bytes(**columns)})
    with pytest.raises(
        DataUnavailableError, match="jxie/flickr8k has no readable image, caption_0, .*, caption_4"
    ):
        load_data("flickr8k", source="mirror")


# ---- the sample


@pytest.mark.parametrize(
    ("name", "file", "rows", "size"),
    [
        ("cifar10", picture_file("test"), {"train": 2000, "test": 500}, 32),
        (
            "flickr8k",
            f"{PHOTOS.name}/data/test-00000-of-00001.parquet",
            {"train": 600, "validation": 100, "test": 200},
            32,
        ),
    ],
)
def test_sample_of_pictures(mirror, name, file, rows, size):
    fill_mirror(mirror, {file: b"damaged"})
    with (
        pytest.warns(DataWarning, match="mirror passed over: .* has no readable"),
        pytest.warns(SampleDataWarning, match="NOT THE REAL DATA"),
    ):
        loaded = load_data(name)
    assert {split: table.num_rows for split, table in loaded.data.items()} == rows
    column = next(iter(DATASETS[name].columns))
    assert loaded.data["test"].features == Features.from_dict(DATASETS[name].columns)
    assert loaded.data["test"][0][column].size == (size, size)
    assert len(loaded.truth["test"]["shape"]) == rows["test"]
    again = load_data(name, source="sample")
    assert again.provenance.sha256 == loaded.provenance.sha256 and again.truth == loaded.truth


def test_sample_is_the_same_every_time_and_carries_truth(recwarn):
    first = load_data("shakespeare", source="sample")
    assert not recwarn.list  # asked for, so no notice
    assert first == load_data("shakespeare", source="sample")
    assert first.truth == sample_shakespeare()[1]
    # Pinned: the same on every machine and Python version.
    assert (
        first.provenance.sha256
        == "4117092d2d4b84734b7e49bf841d67970b27bca35e59f1a2759797306b12cb44"
    )
    assert first.provenance.rows == len(first.data.split("\n")) - first.data.endswith("\n")
    assert first.provenance.note == (
        "Generated, not the real data: numbers made with it are no results."
    )
    assert first.provenance.version == "generated, seed 0"


# ---- no network


def test_refused_connection_falls_back_loudly(mirror, tmp_path):
    with pytest.warns(DataWarning, match="mirror passed over"):
        loaded = load_loudly_from_sample(
            "'wikitext-2': NOT THE REAL DATA.*cannot be reached", splits=["train", "test"]
        )
    assert list(loaded.data) == ["train", "test"]
    assert loaded.truth == sample_articles()[1]
    note = loaded.provenance.note
    assert "Used because no split 'train' of Salesforce/wikitext in the mirror; the public" in note
    assert "cannot be reached (ConnectionError)" in note
    assert str(tmp_path) not in str(loaded.provenance)


def test_silent_hub_falls_back_within_five_seconds(hub, monkeypatch):
    """With the patience that the package has."""
    monkeypatch.undo()
    monkeypatch.setattr(load, "HUB", hub.url)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("JEPA_DATA_MIRROR", raising=False)
    hub.hang = True
    assert load.REACH_SECONDS == 3
    load_loudly_from_sample("cannot be reached", seconds=5)


def test_hanging_name_lookup_falls_back_in_time(monkeypatch):
    released = threading.Event()
    set_page(monkeypatch, "http://name.invalid/pg100.txt")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20) and [])
    load_loudly_from_sample("no answer within 0.3 seconds", "shakespeare")
    released.set()


def test_black_holed_connection_falls_back_in_time(monkeypatch):
    def connect(self, address):
        time.sleep(self.gettimeout() or 20)
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", connect)
    load_loudly_from_sample("cannot be reached", "shakespeare")


def test_forced_hub_without_network():
    for name in ("wikitext-2", "shakespeare"):
        with pytest.raises(
            DataUnavailableError, match=f"'{name}' cannot be had from the hub.*Check the network"
        ):
            load_data(name, source="hub")


def test_offline_by_wish(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_loudly_from_sample("the download failed")
    assert not hub.downloads


@pytest.mark.parametrize("status", [401, 403, 404])
def test_hub_that_refuses(hub, status):
    hub.status = status
    loaded = load_loudly_from_sample(rf"the download failed \(answer: {status}\)")
    assert hub.url not in loaded.provenance.note


def test_hub_that_lacks_a_file_or_the_revision(hub):
    del hub.files[TEST]
    with pytest.raises(DataUnavailableError, match=r"from the hub: the download failed .*404"):
        load_data("wikitext-2", source="hub")
    hub.revision = "0" * 40
    with pytest.raises(DataUnavailableError, match=r"from the hub: the download failed"):
        load_data("cifar10", source="hub")


# ---- damaged downloads and caches


def test_altered_download_is_never_used(hub):
    hub.altered[TEST] = 2
    damaged = "the cached .*test.* is not what its checksum says"
    with pytest.raises(DataUnavailableError, match=damaged):
        load_data("wikitext-2", source="hub")
    with (
        pytest.warns(DataWarning, match=f"{damaged}; downloading it again"),
        pytest.raises(DataUnavailableError, match=damaged),
    ):
        load_data("wikitext-2", source="hub")
    with pytest.warns(DataWarning, match=f"{damaged}; downloading it again"):
        assert load_data("wikitext-2", source="hub").provenance.sha256 == combined(*ALL)
    assert hub.downloads.count(TEST) == 3 and hub.downloads.count(TRAIN) == 1


@pytest.mark.parametrize("small", [False, True], ids=["sha256", "git"])
def test_damaged_cached_file_is_downloaded_again(hub, tmp_path, small):
    hub.small = {TEST} if small else set()
    load_data("wikitext-2")
    alter(cached(tmp_path, TEST))
    with pytest.warns(DataWarning, match="the cached .*test-.* downloading it again") as caught:
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)
    assert str(tmp_path) not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)
    assert hub.downloads.count(TEST) == 2 and hub.downloads.count(TRAIN) == 1


def test_damaged_cached_file_is_not_used_without_network(hub, tmp_path, monkeypatch):
    load_data("wikitext-2")
    alter(cached(tmp_path, TEST))
    cut_off(monkeypatch)
    with pytest.warns(DataWarning, match="not what its checksum says"):
        load_loudly_from_sample("cannot be reached")


def test_incomplete_cache_is_refused_or_completed(hub, tmp_path, monkeypatch):
    load_data("wikitext-2")
    cached(tmp_path, TEST).resolve().unlink()  # the link to it stays
    with monkeypatch.context() as patch:
        cut_off(patch)
        load_loudly_from_sample("cannot be reached")
    assert load_data("wikitext-2").provenance.rows == 9
    assert hub.downloads == [*ALL, TEST]


def test_cached_blob_that_is_itself_a_link(hub, tmp_path):
    """As the library keeps blobs that repositories share: it leads to one of another name."""
    load_data("wikitext-2")
    blob = cached(tmp_path, TEST).resolve()
    blob.rename(tmp_path / ("f" * 64))
    blob.symlink_to(tmp_path / ("f" * 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_data("wikitext-2").provenance.sha256 == combined(*ALL)


def test_forbidden_cached_file(hub, tmp_path, monkeypatch):
    load_data("wikitext-2")
    forbid(monkeypatch, cached(tmp_path, TEST))
    with pytest.warns(DataWarning, match="cannot be read: Permission denied; downloading it again"):
        load_loudly_from_sample("Permission denied")
    assert check_data("wikitext-2")["hub"].startswith("damaged: ")


def test_damaged_cached_file_without_links(hub, tmp_path, monkeypatch):
    """Where there are no links there is no checksum, but what cannot be read is refused."""
    load_data("wikitext-2")
    cut_off(monkeypatch)
    path = cached(tmp_path, TEST)
    path.unlink()
    path.write_bytes(CONTENT[TEST][:-20])
    with pytest.raises(DataUnavailableError, match="has no readable text"):
        load_data("wikitext-2", source="hub")


@pytest.mark.parametrize("name", ["wikitext-2", "shakespeare"])
def test_cache_folder_that_is_a_file(hub, server, tmp_path, name):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataUnavailableError, match="the download failed") as caught:
        load_data(name, source="hub")
    assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / "cache").read_text() == "in the way"


# ---- the text, which is a page of the web


@dataclasses.dataclass
class Server:
    """What the server answers, and how often its page was asked for."""

    url: str
    body: bytes = PAGE
    announced: int | None = None  # Content-Length, if not the true one
    status: int = 200
    failures: int = 0  # so many downloads are cut short before one is whole
    downloads: int = 0


@pytest.fixture
def server(monkeypatch):
    """A local server that stands in for the public address."""
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)  # retries follow at once

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.announced or len(state.body)))
            self.end_headers()

        do_HEAD = answer

        def do_GET(self):
            state.downloads += 1
            self.answer()
            self.wfile.write(state.body[: 40 if state.downloads <= state.failures else None])

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state = Server(f"http://127.0.0.1:{httpd.server_port}/pg100.txt")
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    set_page(monkeypatch, state.url)
    yield state
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def page(tmp_path) -> Path:
    """Where the text is cached."""
    return tmp_path / "cache" / "shakespeare" / "complete_works.txt"


@pytest.fixture
def text_mirror(mirror) -> Path:
    """A mirror with a text of two lines."""
    name = "shakespeare/complete_works.txt"
    fill_mirror(mirror, {name: b"ROMEO\tSoft!\n\tJuliet is the sun.\n"})
    return mirror / name


def test_text_of_the_mirror(text_mirror, server, tmp_path):
    loaded = load_data("shakespeare")
    assert loaded.data == "ROMEO\tSoft!\n\tJuliet is the sun.\n" and loaded.truth is None
    assert loaded.provenance.sha256 == sha256(text_mirror.read_bytes())
    assert str(loaded.provenance) == (
        "shakespeare: 2 lines from the mirror (no version stated, sha256 "
        f"{loaded.provenance.sha256[:12]}...)\n"
        "Another edition than the one at the public address."
    )
    assert server.downloads == 0
    fill_mirror(text_mirror.parents[1], {"shakespeare/complete_works.txt": PAGE})
    same = load_data("shakespeare").provenance
    assert (same.note, same.version) == (
        "The edition of the public address.",
        "revised May 1, 2025",
    )


@pytest.mark.parametrize("content", [b"ROMEO\tHard!\n", b"\xff\xfe"])
def test_text_of_the_mirror_that_is_wrong(text_mirror, server, content):
    text_mirror.write_bytes(content)
    with pytest.warns(DataWarning, match="complete_works.txt is not what its checksum says"):
        assert load_data("shakespeare").provenance.origin == "hub"
    (text_mirror.parents[1] / "SHA256SUMS").unlink()
    if content == b"\xff\xfe":
        with pytest.raises(DataUnavailableError, match=r"no readable UTF-8 \(UnicodeDecodeError\)"):
            load_data("shakespeare", source="mirror")
    else:
        assert load_data("shakespeare", source="mirror").data == "ROMEO\tHard!\n"


def test_page_is_downloaded_once_and_cached(server, page, monkeypatch, capfd):
    loaded = load_data("shakespeare")
    assert loaded.data == PAGE.decode().replace("\r\n", "\n")
    assert loaded.data[0] == "\ufeff" and "\r" in loaded.data  # all else is as in the file
    provenance = loaded.provenance
    assert (provenance.origin, provenance.version) == ("hub", "revised May 1, 2025")
    assert (provenance.sha256, provenance.rows, provenance.unit) == (sha256(PAGE), 6, "lines")
    assert provenance.note == f"From {server.url}."
    assert page.read_bytes() == PAGE
    server.status = 500
    assert load_data("shakespeare") == loaded
    assert server.downloads == 1
    set_page(monkeypatch, nobody())
    assert load_data("shakespeare", source="hub").provenance.sha256 == sha256(PAGE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"announced": len(PAGE) + 100}, "ChunkedEncodingError"),
        ({"body": PAGE[:80]}, "EOFError"),
        ({"status": 403}, "403"),
    ],
    ids=["length", "end marker", "refused"],
)
def test_truncated_or_refused_page_is_never_used(server, page, fault, reason):
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(
        DataUnavailableError, match=rf"the download failed \(answer: {reason}\)"
    ) as caught:
        load_data("shakespeare", source="hub")
    assert server.url not in str(caught.value).split("Check the network")[0]
    assert not page.with_name("complete_works.txt.sha256").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        assert load_data("shakespeare").provenance.origin == "sample"
    server.body, server.announced, server.status = PAGE, None, 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        assert load_data("shakespeare").provenance.origin == "hub"


def test_truncated_page_is_downloaded_again(server, page):
    server.failures = 2
    assert load_data("shakespeare").provenance.sha256 == sha256(PAGE)
    assert server.downloads == 3 and page.read_bytes() == PAGE


def test_changed_cached_page_is_downloaded_again_or_refused(server, page, monkeypatch):
    load_data("shakespeare")
    page.write_bytes(PAGE.replace(b"Soft", b"Hard"))
    with monkeypatch.context() as patch:
        set_page(patch, nobody())
        with pytest.warns(DataWarning, match="cached complete_works.txt is not what its checksum"):
            load_loudly_from_sample("cannot be reached", "shakespeare")
    server.body = PAGE.replace(b"Juliet", b"Romeo!")  # revised in between
    with pytest.warns(DataWarning, match="downloading it again"):
        assert "Soft, Romeo!" in load_data("shakespeare").data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_data("shakespeare").provenance.sha256 == sha256(server.body)
    assert server.downloads == 2 and page.read_bytes() == server.body


def test_interrupted_download_of_a_page_leaves_nothing(server, page, monkeypatch):
    def stop_halfway(self, url, output_file, manager, check_only=False):
        Path(output_file).write_bytes(PAGE[:50])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch.HTTPDownloader, "__call__", stop_halfway)
        with pytest.raises(KeyboardInterrupt):
            load_data("shakespeare")
    assert list(page.parent.iterdir()) == []
    assert load_data("shakespeare").provenance.origin == "hub"


def test_page_without_its_checksum_is_downloaded_again(server, page):
    """As a kill between the two leaves it."""
    load_data("shakespeare")
    page.with_name("complete_works.txt.sha256").unlink()
    with pytest.warns(DataWarning, match="downloading it again"):
        assert load_data("shakespeare").provenance.sha256 == sha256(PAGE)
    assert server.downloads == 2


def test_folder_in_place_of_the_cached_page(server, page):
    page.mkdir(parents=True)
    load_loudly_from_sample("the download failed", "shakespeare")


# ---- what the command line uses


def test_check_data(mirror, hub, tmp_path):
    assert check_data("wikitext-2") == {
        "mirror": "ok: validation, test",
        "hub": "missing: wikitext-2-v1/train-00000-of-00001.parquet is not in the cache",
    }
    assert not hub.downloads
    load_data("wikitext-2", source="hub")
    assert check_data("wikitext-2")["hub"] == "ok: train, validation, test"
    alter(mirror / TEST)
    alter(cached(tmp_path, VALIDATION))
    found = check_data("wikitext-2")
    assert found["mirror"] == f"damaged: {TEST} is not what its checksum says"
    assert found["hub"].startswith("damaged: the cached wikitext-2-v1/validation-")
    (mirror / "SHA256SUMS").unlink()
    assert check_data("wikitext-2")["mirror"] == "unverified: validation, test"
    (mirror / TEST).unlink()
    (mirror / VALIDATION).unlink()
    assert check_data("wikitext-2")["mirror"].startswith("missing: nothing of Salesforce/wikitext")


def test_check_of_the_text(text_mirror, server, page):
    assert check_data("shakespeare")["hub"].startswith("missing: complete_works.txt")
    load_data("shakespeare", source="hub")
    assert check_data("shakespeare") == {"mirror": "ok: text", "hub": "ok: text"}
    page.write_bytes(PAGE + b"!")
    text_mirror.write_bytes(b"changed")
    assert {note.split(":")[0] for note in check_data("shakespeare").values()} == {"damaged"}
    assert server.downloads == 1


# ---- the real data


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_the_real_data_of_the_mirror(monkeypatch):
    monkeypatch.setenv("JEPA_DATA_MIRROR", MIRROR)
    articles = load_data("wikitext-2", source="mirror", splits=["train", "validation", "test"])
    words = {
        split: sum(len(line.split()) for line in table["text"])
        for split, table in articles.data.items()
    }
    assert words == {"train": 2_051_910, "validation": 213_886, "test": 241_211}
    reviews = load_data("rotten-tomatoes", source="mirror", splits=["train", "test"])
    assert reviews.provenance.rows == 8_530 + 1_066
    assert reviews.data["train"].features["label"].names == ["neg", "pos"]
    pictures = load_data("cifar10", source="mirror")
    assert {split: Counter(table["label"]) for split, table in pictures.data.items()} == {
        split: {label: number for label in range(10)}
        for split, number in (("train", 5000), ("test", 1000))
    }
    photos = load_data("flickr8k", source="mirror")
    rows = {split: table.num_rows for split, table in photos.data.items()}
    assert rows == {"train": 6000, "validation": 1000, "test": 1000}
    assert photos.data["test"]["caption_4"][0] == "Two dogs playing in the snow ."
