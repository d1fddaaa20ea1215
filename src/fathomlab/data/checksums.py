"""Decides which files may be used: those with the published SHA-256, or with a line in a SHA256SUMS."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.data.table import PinnedFile

SUMS = "SHA256SUMS"
MAX_SUMS_BYTES = 1 << 20
MAX_BYTES = 1 << 30  # no published file is larger; larger files are not read into memory
CACHE = ".fathomlab-verified.json"


@dataclass(frozen=True)
class VerifiedFile:
    """A verified file: its bytes, its hash, and whether the hash is the published one."""

    path: Path
    data: bytes
    sha256: str
    matches_published: bool


def read_verified(path: Path, published: PinnedFile, root: Path, dataset: str) -> VerifiedFile:
    """Read `path` and verify the hash of its bytes.

    Args:
        path: The file.
        published: The published file.
        root: The data folder. Its SHA256SUMS counts, and the one next to the file.
        dataset: Name of the dataset, for the message.

    Raises:
        UserError: If the file is corrupted, or differs from the published one.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else None
        sha256 = sha256_of(path, root) if data is None else hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path}: cannot be read: {error.strerror or error}. Check its permissions and the disk."
        ) from None
    matches_published = sha256 == published.sha256
    if data is not None and (matches_published or sha256 in trusted_checksums(path, root)):
        return VerifiedFile(path, data, sha256, matches_published)
    raise UserError(
        "checksum-mismatch",
        f"{path}: checksum mismatch: corrupted, or not the published file.\n"
        f"  expected SHA-256 {published.sha256} ({published.size:,} bytes)\n"
        f"  actual   SHA-256 {sha256} ({size:,} bytes)\n"
        f"  Download it again: fathomlab data download {dataset}\n"
        f"  If you trust this copy, add this line to {path.parent / SUMS}:\n"
        f"    {sha256}  {path.name}",
    )


def trusted_checksums(path: Path, root: Path) -> set[str]:
    """Return the hashes that a SHA256SUMS next to the file, or in `root`, lists for it."""
    checksums: set[str] = set()
    for folder in {path.parent, root}:
        if not path.is_relative_to(folder):
            continue
        relative = path.relative_to(folder).as_posix().replace("\\", "/")
        for line in _lines(folder / SUMS):
            checksum, _, name = line.strip().partition(" ")
            name = name.strip().lstrip("*").replace("\\", "/").removeprefix("./")
            if name == relative and len(checksum) == 64:
                checksums.add(checksum.lower())
    return checksums


def trust_checksums(folder: Path, checksums: Mapping[str, str]) -> None:
    """Add `checksums` (file name to SHA-256) to the SHA256SUMS of `folder`; they replace older lines of these files."""
    lines = [line for line in _lines(folder / SUMS) if line.partition(" ")[2].strip().lstrip("*") not in checksums]
    lines += [f"{checksum}  {name}" for name, checksum in sorted(checksums.items())]
    atomic_write(folder / SUMS, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))


def sha256_of(path: Path, root: Path) -> str:
    """Return the SHA-256 of a file, cached by size and modification time.

    The cache is in the data folder `root`, or in the user's cache folder if `root` is read-only.
    """
    caches = (root / CACHE, Path(user_cache_dir("fathomlab")) / "verified.json")
    key = str(path.resolve())
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    for cache in caches:
        match _read_cache(cache).get(key):
            case [size, changed, str(checksum)] if [size, changed] == stamp:
                return checksum
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    for cache in caches:
        with contextlib.suppress(OSError):
            if cache.parent != root:
                cache.parent.mkdir(parents=True, exist_ok=True)
            if os.access(cache.parent, os.W_OK):
                entries = _read_cache(cache) | {key: [*stamp, checksum]}
                atomic_write(cache, json.dumps(entries, indent=0, sort_keys=True))
                break
    return checksum


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _lines(sums: Path) -> list[str]:
    """The lines of a SHA256SUMS; none if it is missing, unreadable, or too large to be one."""
    try:
        if not sums.is_file() or sums.stat().st_size > MAX_SUMS_BYTES:
            return []
        return sums.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError:
        return []
