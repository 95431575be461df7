"""Whether a file is what it should be: checksums, pointers in its place, unreadable content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A line of SHA256SUMS as sha256sum and shasum write it, with --tag or without, and as openssl does.
_CHECKSUM = re.compile(
    r"([0-9a-f]{64}) [ *]?(.*\S.*)|SHA(?:2-)?256 ?\((.+)\) ?= ?([0-9a-f]{64})", re.IGNORECASE
)
_STAND_INS = {  # how begins what lies in the place of a file that was not fetched
    rb"version https?://\S+/spec/v1": "a Git LFS pointer",
    rb"\S*/annex/objects/": "a git-annex pointer",
    rb"<(!doctype|!--|html|head|body|\?xml|error)": "a web page",
    rb'\{\s*"(error|message)"|(\d{3}:? )?(\w+ )?not found\b': "an error message",
}


class PassedOverError(Exception):
    """A source cannot give the data; the message is published, so no local path in it."""


class DamagedError(PassedOverError):
    """A file is there, but it cannot be read or is not what its checksum says."""


def checksums(folder: Path) -> dict[str, str] | None:
    """Checksums by absolute path, of a mirror's SHA256SUMS; None if it has none."""
    sums, listed = folder / "SHA256SUMS", {}
    if not os.path.lexists(sums):
        return None
    try:
        text = sums.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as problem:
        raise DamagedError(f"SHA256SUMS cannot be read: {problem.strerror}") from problem
    for number, line in enumerate(re.split(r"\r?\n|\0", text), 1):
        if not line.strip() or line.startswith("#"):
            continue
        escaped = line.startswith("\\")  # so the tools mark that a name has escapes
        if not (found := _CHECKSUM.fullmatch(line[escaped:])):
            raise DamagedError(f"SHA256SUMS: line {number} is no SHA-256 checksum with a file name")
        digest, name = (found[1] or found[4]).lower(), found[2] or found[3]
        if escaped:
            name = re.sub(r"\\(.)", lambda c: {"n": "\n", "r": "\r"}.get(c[1], c[1]), name)
        listed[os.path.abspath(folder / name)] = digest
    return listed


def check_content(path: Path, name: str) -> None:
    """Raise `DamagedError` if a file is empty, a pointer to another one, or an error page."""
    try:
        with path.open("rb") as file:
            start = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
            size = file.seek(0, os.SEEK_END)
    except OSError as problem:
        raise DamagedError(f"{name} cannot be read: {problem.strerror}") from problem
    if not size:
        raise DamagedError(f"{name} is empty")
    for pattern, what in _STAND_INS.items():
        if re.match(pattern, start, re.IGNORECASE):
            raise DamagedError(f"{name} is {what}, not the file itself")


def compared(path: Path, name: str, expected: str | None) -> tuple[Path, str]:
    """Compare a file with its checksum: a sha256, or git's, as of small files of the hub."""
    check_content(path, name)
    try:
        with path.open("rb") as file:
            actual = digest = hashlib.file_digest(file, "sha256").hexdigest()
        if expected and len(expected) == 40:
            content = path.read_bytes()
            actual = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    except OSError as problem:
        raise DamagedError(f"{name} cannot be read: {problem.strerror}") from problem
    if expected and actual != expected:
        raise DamagedError(f"{name} is not what its checksum says")
    return path, digest


@contextmanager
def readable(name: str, form: str) -> Iterator[None]:
    """Reading a file of this name; raises `DamagedError` if it does not hold what it should."""
    try:
        yield
    except Exception as problem:  # those of pyarrow are of many kinds
        kind = type(problem).__name__
        raise DamagedError(f"{name} has no readable {form} ({kind})") from problem
