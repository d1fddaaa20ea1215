"""Which files may be used: the published SHA-256 decides, or a SHA256SUMS beside the file that vouches for it."""

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
LARGEST = 1 << 30  # no file of a known data set is larger, and no other is read into memory


@dataclass(frozen=True)
class Verified:
    """A file that may be used: its bytes, its hash, and whether the hash is the published one."""

    path: Path
    data: bytes
    sha256: str
    official: bool


def read_verified(path: Path, pin: Pin, root: Path, name: str) -> Verified:
    """The bytes of `path`, after its hash has been found to be the published one or one that is vouched for.

    Args:
        path: The file.
        pin: What was published under this name.
        root: The data folder, whose SHA256SUMS counts as well as the one beside the file.
        name: The data set, for the message.

    Raises:
        UserError: The file is damaged, or another file than the published one.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError("checksum-mismatch", _refusal(path, pin, hash_of(path, root), size, name))
        data = path.read_bytes()
    except OSError as error:
        raise UserError("unreadable-file", f"{path}: cannot be read: {error.strerror or error}.") from None
    sha256 = _remembered(path, root) or _remember(path, root, hashlib.sha256(data).hexdigest())
    if sha256 == pin.sha256:
        return Verified(path, data, sha256, official=True)
    if sha256 in vouched(path, root):
        return Verified(path, data, sha256, official=False)
    raise UserError("checksum-mismatch", _refusal(path, pin, sha256, len(data), name))


def hash_of(path: Path, root: Path) -> str:
    """SHA-256 of a file, remembered by size and time of change so that it is read once."""
    known = _remembered(path, root)
    if known:
        return known
    with open(path, "rb") as file:
        return _remember(path, root, hashlib.file_digest(file, "sha256").hexdigest())


def vouched(path: Path, root: Path) -> set[str]:
    """The hashes that a SHA256SUMS beside the file, or in the data folder, gives for it."""
    found: set[str] = set()
    for folder in {path.parent, root}:
        sums = folder / SUMS
        if not path.is_relative_to(folder) or not sums.is_file() or sums.stat().st_size > MEBIBYTE:
            continue
        relative = path.relative_to(folder).as_posix()
        for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, name = line.strip().partition(" ")
            if name.strip().lstrip("*").removeprefix("./") == relative and len(digest) == 64:
                found.add(digest.lower())
    return found


def vouch(folder: Path, digests: dict[str, str]) -> None:
    """Add the lines for `digests` (file name to SHA-256) to the SHA256SUMS of `folder`, replacing older ones."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    kept = [line for line in lines if line.partition(" ")[2].strip().lstrip("*") not in digests]
    kept += [f"{digest}  {name}" for name, digest in sorted(digests.items())]
    atomic_write(sums, "\n".join(kept) + "\n")


def unofficial_notes(title: str, files: Sequence[str]) -> tuple[str, ...]:
    """The sentence that provenance and report carry for an unofficial copy; none where all files are as published."""
    if not files:
        return ()
    names = ", ".join(files)
    text = f"{title}: {names} is an unofficial copy: its SHA-256 is not the published one, but a {SUMS} vouches for it."
    return (text,)


def _refusal(path: Path, pin: Pin, sha256: str, size: int, name: str) -> str:
    return (
        f"{path}: this is not the published file.\n"
        f"  expected SHA-256 {pin.sha256} ({pin.size:,} bytes)\n"
        f"  found    SHA-256 {sha256} ({size:,} bytes)\n"
        f"  Replace it: fathomlab data download {name}\n"
        f"  Or, where you trust this copy, vouch for it with this line in {path.parent / SUMS}:\n"
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
    """Note the digest in the data folder, or in the user's cache where that may not be written; `digest` itself."""
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
