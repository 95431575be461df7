"""A local server that answers as the hub does, for the hub's own library."""

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jepa_utils.data import load


def git_checksum(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def nobody() -> str:
    """An address where nobody listens: refused at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def cut_off(monkeypatch) -> None:
    """No network: the hub's address is nobody's."""
    monkeypatch.setattr(load, "HUB", nobody())


def on_its_own(monkeypatch, folder: Path) -> None:
    """No mirror, no proxy, no network, a cache of its own, and little patience."""
    monkeypatch.delenv("JEPA_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JEPA_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setattr(load, "REACH_SECONDS", 0.3)
    cut_off(monkeypatch)


def fill_mirror(mirror: Path, files: dict[str, bytes]) -> None:
    """Put files into a mirror, and their checksums into its list."""
    for name, content in files.items():
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(content)
    with (mirror / "SHA256SUMS").open("a") as sums:
        sums.writelines(
            f"{hashlib.sha256(content).hexdigest()}  ./{name}\n" for name, content in files.items()
        )


@dataclass
class FakeHub:
    """What the server has and how it misbehaves; ``downloads`` notes the files it was asked for.

    ``files`` has the content by "repository/path". A small file is not LFS: its checksum is git's.
    """

    revision: str = ""
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    small: set[str] = field(default_factory=set)
    altered: dict[str, int] = field(
        default_factory=dict
    )  # so many downloads of this file are altered
    status: int = 200
    hang: bool = False
    downloads: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)  # that were sent along
    released: threading.Event = field(default_factory=threading.Event)

    def checksum(self, name: str) -> str:
        content = self.files[name]
        return git_checksum(content) if name in self.small else hashlib.sha256(content).hexdigest()

    def entries(self, repo: str) -> list[dict]:
        found = []
        for name, content in sorted(self.files.items()):
            if name.startswith(f"{repo}/"):
                path = name.removeprefix(f"{repo}/")
                entry = {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": git_checksum(content),
                }
                if name not in self.small:
                    entry["lfs"] = {
                        "oid": self.checksum(name),
                        "size": len(content),
                        "pointerSize": 130,
                    }
                found.append(entry)
        return found

    @contextmanager
    def running(self, monkeypatch) -> Iterator["FakeHub"]:
        """The server at work, and the hub's library told of it."""
        server = self.start()
        monkeypatch.setattr(load, "HUB", self.url)
        monkeypatch.setenv("HF_ENDPOINT", self.url)  # of processes of their own
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()

    def start(self) -> http.server.ThreadingHTTPServer:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def answer(self) -> None:
                hub.tokens.update(self.headers.get_all("Authorization", []))
                if hub.hang:
                    hub.released.wait(20)
                    self.close_connection = True
                    return
                path = unquote(urlsplit(self.path).path).strip("/")
                if hub.status != 200 and path:  # the bare address answers: the hub is reached
                    return self.reply(b"", hub.status)
                parts = path.removeprefix("api/").split("/")
                parts = parts[1:] if parts[0] in ("datasets", "models") else parts
                repo, rest = "/".join(parts[:2]), parts[2:]
                if path.startswith("api/") and rest[:1] in (["tree"], ["revision"]):
                    if rest[1] != hub.revision:
                        return self.reply(b"", 404, X_Error_Code="RevisionNotFound")
                    below = "/".join(rest[2:])
                    entries = [
                        entry for entry in hub.entries(repo) if entry["path"].startswith(below)
                    ]
                    known = (
                        entries
                        if rest[0] == "tree"
                        else {"id": repo, "sha": hub.revision, "siblings": []}
                    )
                    return self.reply(json.dumps(known).encode(), Content_Type="application/json")
                name = f"{repo}/{'/'.join(rest[2:])}"
                if rest[:2] != ["resolve", hub.revision] or name not in hub.files:
                    return self.reply(b"", 200 if not path else 404, X_Error_Code="EntryNotFound")
                content = hub.files[name]
                if self.command == "GET":
                    hub.downloads.append(name)
                    if hub.altered.get(name, 0) > 0:
                        hub.altered[name] -= 1
                        content = content[:-1] + bytes([content[-1] ^ 1])
                known = {
                    "ETag": f'"{hub.checksum(name)}"',
                    "X_Repo_Commit": hub.revision,
                    "Accept_Ranges": "bytes",
                }
                wanted = self.headers.get("Range", "").removeprefix("bytes=").split("-")
                if len(wanted) == 2:
                    first, last = (
                        int(wanted[0]),
                        min(int(wanted[1] or len(content)), len(content) - 1),
                    )
                    known["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
                    return self.reply(content[first : last + 1], 206, **known)
                self.reply(content, **known)

            do_GET = do_HEAD = answer

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                repo = "/".join(unquote(urlsplit(self.path).path).split("/")[3:5])
                known = [entry for entry in hub.entries(repo) if entry["path"] in unquote(body)]
                self.reply(json.dumps(known).encode(), Content_Type="application/json")

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server
