"""Data sources: what is used, what is refused, and what happens when things break. No outside access."""

import dataclasses
import hashlib
import http.server
import json
import os
import socket
import threading
import time
import warnings
from pathlib import Path

import pooch
import pytest

from jepa_utils.data import load as sources
from jepa_utils.data._hub import DataUnavailableError, DataWarning, SampleDataWarning
from jepa_utils.data.load import DATASETS, Provenance, check_data, fetch_data, list_data, load_data
from jepa_utils.data.samples import sample_shakespeare

BODY = (
    "\ufeffThe Project Gutenberg eBook\r\nMost recently updated: May 1, 2025\r\n\r\nROMEO.\r\nSoft, Juliet.\r\n"
    "*** END OF THE PROJECT GUTENBERG EBOOK ***\r\n"
).encode()
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclasses.dataclass
class Server:
    """What the server answers, and how often its file was asked for."""

    url: str
    body: bytes = BODY
    announced: int | None = None  # Content-Length, if not the true one
    status: int = 200
    failures: int = 0  # so many downloads are cut short before one is whole
    hang: bool = False
    downloads: int = 0


@pytest.fixture
def server(monkeypatch):
    """A local server that stands in for the public address."""
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            if state.hang:
                released.wait(20)
                return
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.announced or len(state.body)))
            self.end_headers()

        do_HEAD = answer

        def do_GET(self):
            state.downloads += 1
            self.answer()
            if not state.hang:
                self.wfile.write(state.body[: 40 if state.downloads <= state.failures else None])

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state = Server(f"http://127.0.0.1:{httpd.server_port}/pg100.txt")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    set_spec(monkeypatch, url=state.url)
    yield state
    released.set()
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No mirror, no proxy, a cache of its own, and no network unless a test starts a server."""
    monkeypatch.delenv("JEPA_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    set_spec(
        monkeypatch, url=f"http://127.0.0.1:{port}/pg100.txt"
    )  # nobody listens: refused at once
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture
def no_pauses(monkeypatch):
    """Retries follow at once."""
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)


@pytest.fixture
def cached(tmp_path) -> Path:
    return tmp_path / "cache" / "shakespeare" / "pg100.txt"


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror with a text of two lines and its checksum."""
    file = tmp_path / "mirror" / "shakespeare" / "complete_works.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"ROMEO\tSoft!\n\tJuliet is the sun.\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "mirror" / "SHA256SUMS").write_text(f"{digest}  ./shakespeare/complete_works.txt\n")
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    return file


def set_spec(monkeypatch, **changes):
    monkeypatch.setitem(
        DATASETS, "shakespeare", dataclasses.replace(DATASETS["shakespeare"], **changes)
    )


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def load_loudly_from_sample(match: str):
    """Load, and demand the loud notice with its reason, well inside 5 seconds."""
    start = time.monotonic()
    with pytest.warns(SampleDataWarning, match=match):
        loaded = load_data("shakespeare")
    assert time.monotonic() - start < 5
    assert loaded.provenance.origin == "sample"
    return loaded


# Order of sources


def test_mirror_is_used_first(mirror, server):
    loaded = load_data("shakespeare")
    assert loaded.data == "ROMEO\tSoft!\n\tJuliet is the sun.\n"
    assert loaded.truth is None
    assert loaded.provenance.origin == "mirror"
    assert loaded.provenance.rows == 2
    assert loaded.provenance.sha256 == hashlib.sha256(mirror.read_bytes()).hexdigest()
    assert "Another edition" in loaded.provenance.note
    assert server.downloads == 0


def test_hub_is_second_and_cached(server, cached):
    loaded = load_data("shakespeare")
    assert loaded.data == BODY.decode().replace("\r\n", "\n")
    assert loaded.data[0] == "\ufeff"
    assert loaded.provenance.origin == "hub"
    assert loaded.provenance.version == "revised May 1, 2025"
    assert loaded.provenance.sha256 == SHA256
    assert loaded.provenance.rows == 6
    assert cached.read_bytes() == BODY
    server.status = 500
    assert load_data("shakespeare") == loaded
    assert server.downloads == 1


def test_the_cache_needs_no_network(server, monkeypatch):
    load_data("shakespeare")
    monkeypatch.setattr(sources, "unreachable", lambda url: "no network")
    assert load_data("shakespeare", source="hub").provenance.sha256 == SHA256


def test_cache_dir_argument(server, tmp_path):
    load_data("shakespeare", cache_dir=tmp_path / "other")
    assert files_in(tmp_path / "other") == ["pg100.txt", "pg100.txt.sha256"]
    assert files_in(tmp_path / "cache") == []


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
    assert "no results" in first.provenance.note


def test_unknown_names_are_refused():
    known = "cifar10, flickr8k, rotten-tomatoes, shakespeare, wikitext-2"
    with pytest.raises(ValueError, match=f"name must be one of {known}; got 'marlowe'"):
        load_data("marlowe")
    with pytest.raises(
        ValueError, match=r"source must be None or one of mirror, hub, sample; got 'web'"
    ):
        load_data("shakespeare", source="web")


# Provenance


def test_provenance_is_printed_without_local_paths(mirror, tmp_path):
    printed = str(load_data("shakespeare").provenance)
    assert printed.splitlines()[0].startswith(
        "shakespeare: 2 lines from the mirror (no version stated, sha256 "
    )
    assert len(printed.splitlines()) == 2
    mirror.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fallen = load_data("shakespeare")
    assert "in the mirror: No such file" in str(fallen.provenance)
    assert str(tmp_path) not in printed + str(fallen.provenance)


def test_provenance_survives_json():
    provenance = load_data("shakespeare", source="sample").provenance
    assert Provenance(**json.loads(json.dumps(provenance.to_dict()))) == provenance


# No network


def test_refused_connection_falls_back_loudly():
    loaded = load_loudly_from_sample("NOT THE REAL DATA.*cannot be reached")
    assert "cannot be reached" in loaded.provenance.note
    assert loaded.truth["character names"]


def test_silent_server_falls_back_in_time(server):
    server.hang = True
    load_loudly_from_sample("cannot be reached")


def test_hanging_name_lookup_falls_back_in_time(monkeypatch):
    released = threading.Event()
    set_spec(monkeypatch, url="http://name.invalid/pg100.txt")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20) and [])
    load_loudly_from_sample("no answer within 3 seconds")
    released.set()


def test_black_holed_connection_falls_back_in_time(monkeypatch):
    def connect(self, address):
        time.sleep(self.gettimeout() or 20)
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", connect)
    load_loudly_from_sample("cannot be reached")


def test_refusing_proxy_falls_back_in_time(server):
    server.status = 403
    load_loudly_from_sample(r"download failed 3 times \(HTTP status 403\)")
    assert server.downloads == 3


# Downloads that go wrong


@pytest.mark.parametrize(
    "fault", [{"announced": len(BODY) + 100}, {"body": BODY[:80]}], ids=["length", "end marker"]
)
def test_truncated_download_is_never_used(server, tmp_path, no_pauses, fault):
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(DataUnavailableError, match="failed 3 times.*cut short"):
        load_data("shakespeare", source="hub")
    assert server.downloads == 3
    assert files_in(tmp_path / "cache") == []
    load_loudly_from_sample("cut short")


def test_truncated_download_is_retried(server, no_pauses):
    server.failures = 2
    assert load_data("shakespeare").provenance.sha256 == SHA256
    assert server.downloads == 3


def test_pinned_checksum(server, monkeypatch, tmp_path, no_pauses):
    set_spec(monkeypatch, sha256=SHA256)
    assert load_data("shakespeare").provenance.origin == "hub"
    set_spec(monkeypatch, sha256="0" * 64)
    with pytest.warns(DataWarning, match="checksum is not the one expected"):
        with pytest.raises(DataUnavailableError, match="wrong checksum"):
            load_data("shakespeare", source="hub")
    assert server.downloads == 1 + 3


def test_recorded_checksum_guards_the_cache(server, cached):
    load_data("shakespeare")
    cached.write_bytes(BODY.replace(b"Soft", b"Hard"))
    with pytest.warns(DataWarning, match="checksum is not the one expected; downloading it again"):
        assert "Soft" in load_data("shakespeare").data
    assert server.downloads == 2
    assert cached.read_bytes() == BODY


def test_changed_cache_is_not_used_without_network(server, cached, monkeypatch):
    load_data("shakespeare")
    cached.write_bytes(BODY.replace(b"Soft", b"Hard"))
    monkeypatch.setattr(sources, "unreachable", lambda url: "no network")
    with pytest.warns(DataWarning, match="checksum is not the one expected"):
        load_loudly_from_sample("no network")


def test_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def stop_halfway(self, url, output_file, manager, check_only=False):
        Path(output_file).write_bytes(BODY[:50])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch.HTTPDownloader, "__call__", stop_halfway)
        with pytest.raises(KeyboardInterrupt):
            load_data("shakespeare")
    assert files_in(tmp_path / "cache") == []
    assert load_data("shakespeare").provenance.origin == "hub"


@pytest.mark.parametrize("moment", [1, 2])
def test_interrupted_write_leaves_no_part(server, tmp_path, cached, monkeypatch, moment):
    replace, calls = os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            load_data("shakespeare")
    assert files_in(tmp_path / "cache") == ["pg100.txt.sha256"][: moment - 1]
    assert load_data("shakespeare").provenance.origin == "hub"
    assert cached.read_bytes() == BODY


# Caches that cannot be read


def test_folder_in_place_of_the_cached_file(server, cached):
    cached.mkdir(parents=True)
    with pytest.warns(DataWarning) as caught:
        assert load_data("shakespeare").provenance.origin == "hub"
    messages = [str(warning.message) for warning in caught]
    assert "cached file cannot be read" in messages[0]
    assert "download cannot be kept" in messages[1]
    with (
        pytest.warns(DataWarning),
        pytest.raises(DataUnavailableError, match="cannot be had from the hub"),
    ):
        fetch_data("shakespeare")


def test_forbidden_cache(server, cached, monkeypatch):
    load_data("shakespeare")
    read_bytes = Path.read_bytes

    def forbid(path):
        if path == cached:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", forbid)
    with pytest.warns(DataWarning, match="cached file cannot be read: Permission denied"):
        assert load_data("shakespeare").provenance.origin == "hub"
    assert server.downloads == 2
    assert check_data("shakespeare")[1].status == "unreadable"


def test_cache_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.warns(DataWarning) as caught:
        assert load_data("shakespeare").provenance.origin == "hub"
    assert "download cannot be kept" in str(caught[-1].message)
    assert (tmp_path / "cache").read_text() == "in the way"


def test_cached_file_that_is_not_text(server, cached):
    load_data("shakespeare")
    cached.write_bytes(b"\xff\xfe\x00")
    cached.with_name("pg100.txt.sha256").write_text(hashlib.sha256(b"\xff\xfe\x00").hexdigest())
    with pytest.warns(DataWarning, match="not UTF-8"):
        assert load_data("shakespeare").provenance.sha256 == SHA256
    assert cached.read_bytes() == BODY


# Sources that are forced, and mirrors that are not there


def test_forced_mirror_that_is_not_set():
    with pytest.raises(
        DataUnavailableError, match=r"'shakespeare'.* from the mirror.*Set JEPA_DATA_MIRROR"
    ):
        load_data("shakespeare", source="mirror")


def test_forced_hub_without_network():
    with pytest.raises(
        DataUnavailableError, match=r"'shakespeare' cannot be had from the hub.*Check the network"
    ):
        load_data("shakespeare", source="hub")


def test_mirror_folder_that_does_not_exist(server, monkeypatch, tmp_path):
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "nowhere"))
    with pytest.warns(
        DataWarning, match="mirror passed over: JEPA_DATA_MIRROR names a folder that does not exist"
    ):
        assert load_data("shakespeare").provenance.origin == "hub"
    with pytest.raises(DataUnavailableError, match="nowhere"):
        load_data("shakespeare", source="mirror")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"ROMEO\tHard!\n", "differs from the mirror's SHA256SUMS"), (b"\xff\xfe", "SHA256SUMS")],
)
def test_mirror_file_with_wrong_checksum(mirror, server, content, reason):
    mirror.write_bytes(content)
    with pytest.warns(DataWarning, match=reason):
        assert load_data("shakespeare").provenance.origin == "hub"
    with pytest.raises(DataUnavailableError, match=reason):
        load_data("shakespeare", source="mirror")


def test_mirror_without_checksums(mirror):
    (mirror.parents[1] / "SHA256SUMS").unlink()
    assert load_data("shakespeare", source="mirror").provenance.rows == 2
    mirror.write_bytes(b"\xff\xfe")
    with pytest.raises(DataUnavailableError, match="not UTF-8"):
        load_data("shakespeare", source="mirror")


# What the command line uses


def test_check_data(mirror, server, cached):
    def statuses():
        return {check.origin: check.status for check in check_data("shakespeare")}

    assert statuses() == {"mirror": "ok", "hub": "missing", "sample": "ok"}
    assert server.downloads == 0
    fetch_data("shakespeare")
    assert statuses() == {"mirror": "ok", "hub": "ok", "sample": "ok"}
    cached.write_bytes(BODY + b"!")
    mirror.write_bytes(b"changed")
    assert statuses() == {"mirror": "mismatch", "hub": "mismatch", "sample": "ok"}
    assert check_data("shakespeare")[0].sha256 == hashlib.sha256(b"changed").hexdigest()
    cached.with_name("pg100.txt.sha256").unlink()
    (mirror.parents[1] / "SHA256SUMS").unlink()
    assert statuses() == {"mirror": "unverified", "hub": "unverified", "sample": "ok"}


def test_fetch_data(server, cached):
    assert fetch_data("shakespeare").sha256 == SHA256
    assert cached.read_bytes() == BODY
    assert fetch_data("shakespeare").origin == "hub"
    assert server.downloads == 1


def test_list_data_agrees_with_load_data(mirror, server, monkeypatch):
    def listed():
        (listing,) = (row for row in list_data() if row.name == "shakespeare")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert listing.origin == load_data("shakespeare").provenance.origin
        return listing.origin, listing.note

    assert listed() == ("mirror", "in the mirror")
    monkeypatch.delenv("JEPA_DATA_MIRROR")
    assert listed() == ("hub", "to be downloaded")
    assert listed() == ("hub", "in the cache")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(mirror.parent / "empty"))
    monkeypatch.setattr(sources, "unreachable", lambda url: "no network")
    assert listed() == ("sample", "no network")
