"""Decides which files may be used: those with the published SHA-256, or with a line in a SHA256SUMS."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError
from fathomlab.data.table import Pin

SUMS = "SHA256SUMS"
REMEMBERED = ".fathomlab-verified.json"
MEBIBYTE = 1 << 20
LARGEST = 1 << 30  # no published file is larger; larger files are not read into memory


@dataclass(frozen=True)
class Verified:
    """A verified file: its bytes, its hash, and whether the hash is the published one."""

    path: Path
    data: bytes
    sha256: str
    official: bool


def read_verified(path: Path, pin: Pin, root: Path, name: str) -> Verified:
    """Read `path` and verify its hash.

    Args:
        path: The file.
        pin: The published file.
        root: The data folder. Its SHA256SUMS counts, and the one next to the file.
        name: Name of the dataset, for the message.

    Raises:
        UserError: If the file is corrupted, or differs from the published one.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError("checksum-mismatch", _refusal(path, pin, hash_of(path, root), size, name))
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path}: cannot be read: {error.strerror or error}. Check its permissions and the disk."
        ) from None
    sha256 = _remembered(path, root) or _remember(path, root, hashlib.sha256(data).hexdigest())
    if sha256 == pin.sha256:
        return Verified(path, data, sha256, official=True)
    if sha256 in vouched(path, root):
        return Verified(path, data, sha256, official=False)
    raise UserError("checksum-mismatch", _refusal(path, pin, sha256, len(data), name))


def hash_of(path: Path, root: Path) -> str:
    """Return the SHA-256 of a file. It is cached by size and modification time."""
    known = _remembered(path, root)
    if known:
        return known
    with open(path, "rb") as file:
        return _remember(path, root, hashlib.file_digest(file, "sha256").hexdigest())


def vouched(path: Path, root: Path) -> set[str]:
    """Return the hashes that a SHA256SUMS next to the file, or in `root`, lists for it."""
    digests: set[str] = set()
    for folder in {path.parent, root}:
        if not path.is_relative_to(folder):
            continue
        relative = path.relative_to(folder).as_posix().replace("\\", "/")
        for line in _lines(folder / SUMS):
            digest, _, name = line.strip().partition(" ")
            name = name.strip().lstrip("*").replace("\\", "/").removeprefix("./")
            if name == relative and len(digest) == 64:
                digests.add(digest.lower())
    return digests


def vouch(folder: Path, digests: dict[str, str]) -> None:
    """Add `digests` (file name to SHA-256) to the SHA256SUMS of `folder`. Older lines for these files are replaced."""
    lines = [line for line in _lines(folder / SUMS) if line.partition(" ")[2].strip().lstrip("*") not in digests]
    lines += [f"{digest}  {name}" for name, digest in sorted(digests.items())]
    atomic_write(folder / SUMS, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))


def _lines(sums: Path) -> list[str]:
    """The lines of a SHA256SUMS; none if it is missing, unreadable, or too large to be one."""
    try:
        if not sums.is_file() or sums.stat().st_size > MEBIBYTE:
            return []
        return sums.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError:
        return []


def unofficial_notes(title: str, files: Sequence[str]) -> tuple[str, ...]:
    """Return the note for provenance and report about unofficial files; empty if there are none."""
    if not files:
        return ()
    names = ", ".join(files)
    return (f"{title}: unofficial copy of {names}: the SHA-256 is listed in a {SUMS}, but is not the published one.",)


def _refusal(path: Path, pin: Pin, sha256: str, size: int, name: str) -> str:
    return (
        f"{path}: checksum mismatch: corrupted, or not the published file.\n"
        f"  expected SHA-256 {pin.sha256} ({pin.size:,} bytes)\n"
        f"  actual   SHA-256 {sha256} ({size:,} bytes)\n"
        f"  Download it again: fathomlab data download {name}\n"
        f"  If you trust this copy, add this line to {path.parent / SUMS}:\n"
        f"    {sha256}  {path.name}"
    )


def _memories(root: Path) -> tuple[Path, ...]:
    return (root / REMEMBERED, Path(user_cache_dir("fathomlab")) / "verified.json")


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _recall(memory: Path) -> dict[str, Any]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remembered(path: Path, root: Path) -> str:
    for memory in _memories(root):
        match _recall(memory).get(str(path.resolve())):
            case [int(size), int(changed), str(digest)] if [size, changed] == _stamp(path):
                return digest
    return ""


def _remember(path: Path, root: Path, digest: str) -> str:
    """Cache the digest in the data folder, or in the user's cache folder if that is read-only; return it."""
    for memory in _memories(root):
        with contextlib.suppress(OSError):
            if memory.parent != root:
                memory.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(memory.parent, os.W_OK):
                continue
            content = _recall(memory) | {str(path.resolve()): [*_stamp(path), digest]}
            atomic_write(memory, json.dumps(content, indent=0, sort_keys=True))
            break
    return digest
