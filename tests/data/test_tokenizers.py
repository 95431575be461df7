"""The tokeniser's sources, what is refused, and that it reads and writes text as it should. No outside access."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakehub import FakeHub

from jepa_utils.data._hub import DataUnavailableError, DataWarning, SampleDataWarning
from jepa_utils.data.samples import sample_articles
from jepa_utils.data.tokens import TOKENIZERS, load_tokenizer

REPO = TOKENIZERS["gpt2"]
NAME = f"{REPO.name}/tokenizer.json"
MIRROR = os.environ.get("JEPA_DATA_MIRROR", "")  # as it was before the tests take it away
TEXT = " = Über , den ' s Titel = \n <unk> ( 3 @.@ 5 ) ☃"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small tokeniser's file."""
    tokenizer = load_tokenizer(source="sample", texts=["a small text , a smaller text"]).tokenizer
    return tokenizer.backend_tokenizer.to_str().encode()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No mirror, no proxy, a cache of its own, and no network unless a test starts the fake hub."""
    monkeypatch.delenv("JEPA_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    cut_off(monkeypatch)


@pytest.fixture
def hub(monkeypatch, content):
    """The fake hub with the model's repository, where the file is not LFS."""
    files = {
        NAME: content,
        f"{REPO.name}/model.safetensors": b"much",
        f"{REPO.name}/onnx/tokenizer.json": b"another",
    }
    fake = FakeHub(revision=REPO.revision, files=files, small={NAME})
    with fake.running(monkeypatch):
        yield fake


@pytest.fixture
def mirror(tmp_path, monkeypatch, content) -> Path:
    file = tmp_path / "mirror" / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (tmp_path / "mirror" / "SHA256SUMS").write_text(
        f"{hashlib.sha256(content).hexdigest()}  ./{NAME}\n"
    )
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    return file


def cut_off(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


def test_mirror_is_used_first(mirror, hub, content, tmp_path):
    loaded = load_tokenizer()
    provenance = loaded.provenance
    assert (provenance.name, provenance.origin, provenance.unit) == ("gpt2", "mirror", "tokens")
    assert (
        provenance.rows == len(loaded.tokenizer)
        and provenance.sha256 == hashlib.sha256(content).hexdigest()
    )
    assert str(tmp_path) not in str(provenance) and not hub.downloads


def test_hub_is_second_and_its_cached_copy_needs_no_network(hub, content, monkeypatch, capfd):
    loaded = load_tokenizer()
    assert (loaded.provenance.origin, loaded.provenance.version) == ("hub", "revision 607a30d7")
    assert loaded.provenance.sha256 == hashlib.sha256(content).hexdigest()
    assert hub.downloads == [NAME]
    cut_off(monkeypatch)
    assert load_tokenizer().provenance == loaded.provenance
    assert capfd.readouterr() == ("", "")


def test_no_network_falls_back_loudly():
    start = time.monotonic()
    with pytest.warns(SampleDataWarning, match="'gpt2': NOT THE REAL DATA.*cannot be reached"):
        loaded = load_tokenizer()
    assert time.monotonic() - start < 5
    assert loaded.provenance.origin == "sample" and "no results" in loaded.provenance.note


@pytest.mark.parametrize("altered", [b"{}", b"changed"])
def test_altered_mirror_file(mirror, hub, altered):
    mirror.write_bytes(altered)
    with pytest.warns(
        DataWarning,
        match="openai-community/gpt2/tokenizer.json differs from the mirror's SHA256SUMS",
    ):
        assert load_tokenizer().provenance.origin == "hub"
    (mirror.parents[2] / "SHA256SUMS").unlink()
    with pytest.raises(DataUnavailableError, match="cannot be read as a tokeniser"):
        load_tokenizer(source="mirror")
    mirror.unlink()
    with pytest.raises(
        DataUnavailableError,
        match="'gpt2' cannot be had from the mirror: no tokenizer.json in the mirror",
    ):
        load_tokenizer(source="mirror")


def test_damaged_cached_file_is_downloaded_again(hub, tmp_path):
    provenance = load_tokenizer().provenance
    (file,) = (tmp_path / "cache").rglob("tokenizer.json")
    file.resolve().write_bytes(b"{}")
    with pytest.warns(
        DataWarning,
        match="the cached tokenizer.json is not what its checksum says; downloading it again",
    ):
        assert load_tokenizer().provenance == provenance


def test_forced_hub_without_network_and_unknown_names():
    with pytest.raises(DataUnavailableError, match="'gpt2' cannot be had from the hub"):
        load_tokenizer(source="hub")
    with pytest.raises(ValueError, match="name must be one of gpt2; got 'bert'"):
        load_tokenizer("bert")
    with pytest.raises(
        ValueError, match="source must be None or one of mirror, hub, sample; got 'web'"
    ):
        load_tokenizer(source="web")


def test_sample(recwarn):
    start = time.monotonic()
    loaded = load_tokenizer(source="sample")
    assert time.monotonic() - start < 3
    tokenizer = loaded.tokenizer
    assert len(tokenizer) == loaded.provenance.rows == 2000
    assert tokenizer.decode(tokenizer(TEXT).input_ids) == TEXT
    assert tokenizer("a<|endoftext|>").input_ids[-1] == tokenizer.eos_token_id
    lines = sample_articles(1)[0]["test"]["text"]  # articles it was not trained on
    assert sum(len(ids) for ids in tokenizer(lines).input_ids) < 0.35 * sum(map(len, lines))
    assert not recwarn.list


def test_sample_is_the_same_in_another_process():
    program = "from jepa_utils.data.tokens import load_tokenizer; print(load_tokenizer(source='sample').provenance.sha256)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == load_tokenizer(source="sample").provenance.sha256


def test_sample_from_texts_given():
    loaded = load_tokenizer(source="sample", texts=["barbarous " * 50])
    assert (
        len(loaded.tokenizer) < 300 and len(loaded.tokenizer("barbarous barbarous").input_ids) < 6
    )
    assert "texts given" in loaded.provenance.version


@pytest.mark.skipif(
    not Path(MIRROR, NAME).is_file() or not MIRROR, reason=f"needs {NAME} in JEPA_DATA_MIRROR"
)
def test_gpt2_itself(monkeypatch, capfd, recwarn):
    monkeypatch.setenv("JEPA_DATA_MIRROR", MIRROR)
    tokenizer = load_tokenizer(source="mirror").tokenizer
    assert len(tokenizer) == 50257 and tokenizer.eos_token_id == 50256
    assert tokenizer(" = Valkyria Chronicles III = \n").input_ids[:6] == [
        796,
        569,
        18354,
        7496,
        17740,
        6711,
    ]
    assert tokenizer.decode(tokenizer(TEXT).input_ids) == TEXT
    assert len(tokenizer(" word" * 2000).input_ids) == 2000
    assert capfd.readouterr() == ("", "") and not recwarn.list  # no notice of 1024 tokens at most
