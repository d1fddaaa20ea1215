"""Imports datasets that other programs left on a disk: torchvision, Keras, browsers, and file managers."""

import contextlib
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.data.cache import file_state, locate, missing_files
from fathomlab.data.checksums import SUMS, trust_checksums, trusted_checksums
from fathomlab.data.recognize import (
    MAX_BYTES,
    Content,
    Target,
    expected_contents,
    layouts,
    read_at_most,
    recognize,
)

DUPLICATE = "another copy of a file that was imported"
MAX_LISTED = 10
MAX_DEPTH = 32
MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class ImportedFile:
    """One imported file: its dataset, its name in the data folder, its source, and whether it is as published."""

    name: str
    file: str
    source: Path
    official: bool


@dataclass(frozen=True)
class SkippedEntries:
    """Files or folders that were not imported for the same reason, with one of them as an example."""

    reason: str
    count: int
    example: Path

    def __str__(self) -> str:
        """One line for people."""
        noun = "entry" if self.count == 1 else "entries"
        return f"Skipped {self.count:,} {noun} ({self.reason}), such as {self.example}"


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        folder: The data folder.
        files: The imported files.
        skipped: What was not imported, most frequent reason first.
        missing: Names of the files that are still missing, per dataset that was imported.
    """

    folder: Path
    files: tuple[ImportedFile, ...]
    skipped: tuple[SkippedEntries, ...]
    missing: dict[str, tuple[str, ...]]

    @property
    def skip_count(self) -> int:
        """Number of skipped files and folders."""
        return sum(entry.count for entry in self.skipped)


def import_folder(source: Path, destination: Path) -> ImportReport:
    """Find supported datasets below `source`, verify them, and write them into the data folder `destination`.

    Contents decide what a file is, not its name or folder. Recognized are the published files of MNIST, Fashion-MNIST,
    CIFAR-10 and CIFAR-100, compressed or not; `mnist.npz` of Keras; the pickled batches of CIFAR; and the binary
    archives of CIFAR. Links are followed. Other copies are imported under their published name if a SHA256SUMS next to
    them, or in `source`, contains their hash.

    Raises:
        UserError: If nothing was recognized; if a file has the name of a published file, other contents, and no line
            in a SHA256SUMS (published files are imported nevertheless); or if a folder cannot be read or written.
    """
    if not os.path.isdir(source):  # also False for impossible names
        raise UserError("no-such-folder", f"{source}: not a directory. Name the folder that contains the dataset.")
    run = _Import(source, destination)
    run.import_all()
    report = run.report()
    if run.rejected:
        raise UserError(run.rejected[0].code, "\n".join(_rejection(source, run.rejected, report)))
    if not run.files:
        lines = [f"{source}: no supported dataset found.", *(f"  {entry}" for entry in report.skipped)]
        lines.append(f"  Supported: {', '.join(info.title for info, _ in layouts())}.")
        lines.append(
            "  A folder of images needs no import: data: {name: folder, params: {path: FOLDER}} in the experiment file."
        )
        raise UserError("nothing-to-import", "\n".join(lines))
    return report


def _rejection(source: Path, rejected: list[UserError], report: ImportReport) -> Iterator[str]:
    yield from map(str, rejected[:MAX_LISTED])
    if len(rejected) > MAX_LISTED:
        yield f"{source}: {len(rejected) - MAX_LISTED:,} more files were rejected."
    yield f"{source}: {len(report.files):,} imported, {len(rejected):,} rejected, {report.skip_count:,} skipped."
    yield from (f"  {entry}" for entry in report.skipped)


@dataclass
class _Import:
    """One import. Published files are imported first, so that a corrupted copy never replaces an intact one."""

    source: Path
    destination: Path
    files: list[ImportedFile] = field(default_factory=list)
    imported: set[tuple[str, str]] = field(default_factory=set)
    rejected: list[UserError] = field(default_factory=list)
    skip_counts: Counter[str] = field(default_factory=Counter)
    skip_examples: dict[str, Path] = field(default_factory=dict)

    def import_all(self) -> None:
        """Import, skip, or reject every file."""
        others: list[tuple[Path, int, str]] = []
        for path, size in scan_folder(self.source, self.skip):
            try:
                contents, reason = recognize(path, size)
            except OSError as error:
                others.append((path, size, f"unreadable ({error.strerror})"))
                continue
            if contents and all(content.published or content.trusted for content in contents):
                self._write_all(path, contents)
            else:
                others.append((path, size, reason))
        for path, size, reason in others:
            self._import_by_name(path, size, reason)

    def skip(self, reason: str, path: Path) -> None:
        """Count `path` under `reason`."""
        self.skip_counts[reason] += 1
        self.skip_examples.setdefault(reason, path)

    def report(self) -> ImportReport:
        """Return what was imported, skipped, and is still missing."""
        skipped = (
            SkippedEntries(name, count, self.skip_examples[name]) for name, count in self.skip_counts.most_common()
        )
        names = {file.name for file in self.files}
        missing = {
            info.name: missing_files(layout, self.destination) for info, layout in layouts() if info.name in names
        }
        return ImportReport(self.destination, tuple(self.files), tuple(skipped), missing)

    def _import_by_name(self, path: Path, size: int, reason: str) -> None:
        """A file without published contents: its name tells what it should be, a SHA256SUMS whether it may be used."""
        targets, read = expected_contents(path)
        if not targets:
            return self.skip(reason, path)
        if {target.key for target in targets} <= self.imported:
            return self.skip("other contents under the name of a file that was imported", path)
        try:
            if size > MAX_BYTES:
                text = f"{path}: larger than every published file: {size:,} bytes. Rename it."
                raise UserError("checksum-mismatch", text)
            data = read_at_most(path, size)
            contents = read(path, data)
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 not in trusted_checksums(path, self.source):
                raise _mismatch(path, contents[0], sha256)
        except UserError as error:
            self.rejected.append(error)
        except OSError as error:
            text = f"{path}: cannot be read: {error.strerror}. Check its permissions."
            self.rejected.append(UserError("unreadable-file", text))
        else:
            self._write_all(path, contents)

    def _write_all(self, path: Path, contents: tuple[Content, ...]) -> None:
        writes = [(content.published or content.targets[0], content) for content in contents]
        writes = [(target, content) for target, content in writes if target.key not in self.imported]
        if not writes:
            self.skip(DUPLICATE, path)
        for target, content in writes:
            self._write(target, content)
            self.imported.add(target.key)
            self.files.append(ImportedFile(target.info.name, target.file.name, path, content.published is not None))

    def _write(self, target: Target, content: Content) -> None:
        folder = self.destination / target.layout.folders[0]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / target.file.name, content.data)
            if content.published is None:
                trust_checksums(folder, {target.file.name: content.sha256})
            self._quarantine(target)
        except OSError as error:
            raise UserError(
                "unwritable",
                f"{folder / target.file.name}: cannot be written: {error.strerror or error}. "
                "Free the disk, or set FATHOMLAB_DATA to another folder.",
            ) from None

    def _quarantine(self, target: Target) -> None:
        """Rename a corrupted file of another spelling, which would be preferred to the imported file."""
        for located in locate(target.layout, self.destination):
            if (
                target.file in located.spellings
                and located.path
                and file_state(located, self.destination) == "corrupted"
            ):
                os.replace(located.path, located.path.with_name(f"{located.path.name}.corrupt"))


def _mismatch(path: Path, content: Content, sha256: str) -> UserError:
    target = content.targets[0]
    return UserError(
        "checksum-mismatch",
        f"{path}: checksum mismatch: not the published {target.file.name} of {target.info.title}.\n"
        f"  expected SHA-256 {target.file.sha256}\n"
        f"  actual   SHA-256 {content.sha256}\n"
        f"  If you trust this copy, add this line to {path.parent / SUMS}:\n"
        f"    {sha256}  {path.name}",
    )


def scan_folder(source: Path, skip: Callable[[str, Path], None]) -> list[tuple[Path, int]]:
    """Return every regular file below `source` with its size (bytes), in the order of names.

    Links are followed, but each folder is visited once, and no folder that contains `source`.

    Args:
        source: The folder.
        skip: Receives reason and path of what is not listed: broken links, devices, unreadable and too deep folders.

    Raises:
        UserError: If there are more than MAX_ENTRIES files and folders.
    """
    files: list[tuple[Path, int]] = []
    visited = {_identity(folder) for folder in (source, *source.resolve().parents)}
    entries = 0

    def skip_unreadable(error: OSError) -> None:
        skip(f"unreadable ({error.strerror})", Path(error.filename))

    for parent, folders, names in os.walk(source, onerror=skip_unreadable, followlinks=True):
        entries += len(folders) + len(names)
        if entries > MAX_ENTRIES:
            raise UserError(
                "too-many-files",
                f"{source}: more than {MAX_ENTRIES:,} files and folders (links are followed). "
                "Name the folder that contains the dataset.",
            )
        for path in _links_last(parent, names):
            try:
                status = path.stat()
            except OSError as error:
                skip("broken link" if path.is_symlink() else f"unreadable ({error.strerror})", path)
                continue
            if stat.S_ISREG(status.st_mode):
                files.append((path, status.st_size))
            else:
                skip("not a regular file", path)
        depth = len(Path(parent).relative_to(source).parts)
        subfolders = _links_last(parent, folders)
        folders.clear()
        for path in subfolders:
            if (identity := _identity(path)) in visited:
                skip("link to a folder that is covered already", path)
            elif depth >= MAX_DEPTH:
                skip(f"more than {MAX_DEPTH} folders deep", path)
            else:
                visited.add(identity)
                folders.append(path.name)
    return files


def _identity(folder: Path) -> tuple[int | str, ...]:
    """Equal for two paths to one folder. Some file systems have no inode numbers."""
    with contextlib.suppress(OSError):
        status = folder.stat()
        if status.st_ino:
            return status.st_dev, status.st_ino
    return (os.path.realpath(folder),)


def _links_last(parent: str, names: Iterable[str]) -> list[Path]:
    """Sorted by name; links last, so that a folder is listed under its real name if both are there."""
    return sorted((Path(parent, name) for name in names), key=lambda path: (path.is_symlink(), path.name))
