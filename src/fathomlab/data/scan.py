"""Lists the files below a folder. Links are followed, but never in a circle and never out of bounds."""

import contextlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fathomlab.base.problems import UserError

MAX_DEPTH = 32
MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class Skipped:
    """Files or folders that were not used for the same reason, with one of them as an example."""

    reason: str
    count: int
    example: Path

    def __str__(self) -> str:
        """One line for people."""
        noun = "entry" if self.count == 1 else "entries"
        return f"Skipped {self.count:,} {noun} ({self.reason}), such as {self.example}"


@dataclass
class Skips:
    """Counts what was not used, by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Path] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        """Count `path` under `reason`."""
        self.counts[reason] += 1
        self.examples.setdefault(reason, path)

    def listed(self) -> tuple[Skipped, ...]:
        """Return all reasons, the most frequent first."""
        return tuple(Skipped(reason, count, self.examples[reason]) for reason, count in self.counts.most_common())


def scan_folder(source: Path, skips: Skips) -> list[tuple[Path, int]]:
    """Return every regular file below `source` with its size (bytes), in the order of names.

    Each folder is visited once, whichever links lead to it. Links to a folder that contains `source` are not followed.

    Args:
        source: The folder.
        skips: Receives what is not listed: broken links, devices, unreadable folders, folders beyond MAX_DEPTH.

    Raises:
        UserError: If there are more than MAX_ENTRIES files and folders.
    """
    files: list[tuple[Path, int]] = []
    seen = set()
    for folder in (source, *source.resolve().parents):
        with contextlib.suppress(OSError):
            seen.add(_identity(folder, folder.stat()))
    pending = [(source, 0)]
    entries = 0
    while pending:
        folder, depth = pending.pop()
        subfolders: list[tuple[Path, int]] = []
        for path in _children(folder, skips):
            entries += 1
            if entries > MAX_ENTRIES:
                raise UserError(
                    "too-many-files",
                    f"{source}: more than {MAX_ENTRIES:,} files and folders (links are followed). "
                    "Name the folder that contains the dataset.",
                )
            try:
                status = path.stat()
            except OSError as error:
                skips.add("broken link" if path.is_symlink() else f"unreadable ({error.strerror})", path)
                continue
            if stat.S_ISREG(status.st_mode):
                files.append((path, status.st_size))
            elif not stat.S_ISDIR(status.st_mode):
                skips.add("not a regular file", path)
            elif (identity := _identity(path, status)) in seen:
                skips.add("link to a folder that is covered already", path)
            elif depth >= MAX_DEPTH:
                skips.add(f"more than {MAX_DEPTH} folders deep", path)
            else:
                seen.add(identity)
                subfolders.append((path, depth + 1))
        pending += reversed(subfolders)
    return files


def _identity(path: Path, status: os.stat_result) -> tuple[int | str, ...]:
    """Equal for two paths to one folder. Some file systems have no inode numbers."""
    return (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(path),)


def _children(folder: Path, skips: Skips) -> list[Path]:
    """Sorted by name; links last, so that a folder is listed under its real name if both are there."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        skips.add(f"unreadable ({error.strerror})", folder)
        return []
    return [folder / entry.name for entry in ordered]
