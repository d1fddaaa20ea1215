"""Imports datasets that other programs left on a disk: torchvision, Keras, browsers, and file managers."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError
from fathomlab.data.folder import locate, usable
from fathomlab.data.names import published_name
from fathomlab.data.recognize import (
    MAX_BYTES,
    Content,
    Target,
    all_targets,
    keras_contents,
    layouts,
    pickle_contents,
    read_at_most,
    recognize,
)
from fathomlab.data.scan import Skipped, Skips, scan_folder
from fathomlab.data.verify import SUMS, vouch, vouched

DUPLICATE = "another copy of a file that was imported"
MAX_LISTED = 10


@dataclass(frozen=True)
class ImportedFile:
    """One imported file: its dataset, its name in the data folder, its source, and whether it is as published."""

    name: str
    file: str
    source: Path
    official: bool


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
    skipped: tuple[Skipped, ...]
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
    report = ImportReport(destination, tuple(run.files), run.skips.listed(), run.missing())
    if run.rejected:
        raise UserError(run.rejected[0].code, "\n".join(_rejection(source, run.rejected, report)))
    if not run.files:
        lines = [f"{source}: no supported dataset found.", *(f"  {entry}" for entry in report.skipped)]
        lines.append(f"  Supported: {', '.join(facts.title for facts, _ in layouts())}.")
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
    skips: Skips = field(default_factory=Skips)
    files: list[ImportedFile] = field(default_factory=list)
    pieces: set[tuple[str, str]] = field(default_factory=set)
    rejected: list[UserError] = field(default_factory=list)

    def import_all(self) -> None:
        """Import, skip, or reject every file."""
        others: list[tuple[Path, int, str]] = []
        for path, size in scan_folder(self.source, self.skips):
            try:
                contents, reason = recognize(path, size)
            except OSError as error:
                others.append((path, size, f"unreadable ({error.strerror})"))
                continue
            usable_contents = [content for content in contents if content.published or content.trusted]
            if usable_contents and len(usable_contents) == len(contents):
                self._write_all(path, contents)
            else:
                others.append((path, size, reason))
        for path, size, reason in others:
            self._import_named(path, size, reason)

    def missing(self) -> dict[str, tuple[str, ...]]:
        """Files that the imported datasets still need."""
        names = {file.name for file in self.files}
        return {
            facts.name: tuple(
                located.piece[0].name
                for located in locate(layout, self.destination)
                if usable(located, self.destination) not in ("official", "unofficial")
            )
            for facts, layout in layouts()
            if facts.name in names
        }

    def _import_named(self, path: Path, size: int, reason: str) -> None:
        """A file without published contents: its name tells what it should be, a SHA256SUMS whether it may be used."""
        named = _named(path)
        if named is None:
            self.skips.add(reason, path)
        elif {target.piece for target in named.targets} <= self.pieces:
            self.skips.add("other contents under the name of a file that was imported", path)
        elif size > MAX_BYTES:
            self.rejected.append(
                UserError("checksum-mismatch", f"{path}: larger than every published file: {size:,} bytes. Rename it.")
            )
        else:
            try:
                data = read_at_most(path, size)
                contents = named.read(path, data)
                digest = hashlib.sha256(data).hexdigest()
                if digest not in vouched(path, self.source):
                    self.rejected.append(_mismatch(path, contents[0], digest))
                    return
            except UserError as error:
                self.rejected.append(error)
                return
            except OSError as error:
                self.rejected.append(
                    UserError("unreadable-file", f"{path}: cannot be read: {error.strerror}. Check its permissions.")
                )
                return
            self._write_all(path, contents)

    def _write_all(self, path: Path, contents: tuple[Content, ...]) -> None:
        writes = [(content.published or content.targets[0], content) for content in contents]
        writes = [(target, content) for target, content in writes if target.piece not in self.pieces]
        if not writes:
            self.skips.add(DUPLICATE, path)
        for target, content in writes:
            self._write(target, content)
            self.pieces.add(target.piece)
            self.files.append(ImportedFile(target.facts.name, target.pin.name, path, content.published is not None))

    def _write(self, target: Target, content: Content) -> None:
        folder = self.destination / target.layout.folders[0]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / target.pin.name, content.data)
            if content.published is None:
                vouch(folder, {target.pin.name: content.sha256})
            self._quarantine(target)
        except OSError as error:
            raise UserError(
                "unwritable",
                f"{folder / target.pin.name}: cannot be written: {error.strerror or error}. "
                "Free the disk, or set FATHOMLAB_DATA to another folder.",
            ) from None

    def _quarantine(self, target: Target) -> None:
        """Rename a corrupted file of another spelling, which would be preferred to the imported file."""
        for located in locate(target.layout, self.destination):
            if target.pin in located.piece and located.path and usable(located, self.destination) == "corrupted":
                os.replace(located.path, located.path.with_name(f"{located.path.name}.corrupt"))


def _mismatch(path: Path, content: Content, original: str) -> UserError:
    target = content.targets[0]
    return UserError(
        "checksum-mismatch",
        f"{path}: checksum mismatch: not the published {target.pin.name} of {target.facts.title}.\n"
        f"  expected SHA-256 {target.pin.sha256}\n"
        f"  actual   SHA-256 {content.sha256}\n"
        f"  If you trust this copy, add this line to {path.parent / SUMS}:\n"
        f"    {original}  {path.name}",
    )


@dataclass(frozen=True)
class _Named:
    """What the name of a file says: the files that it may be, and how to read it."""

    targets: tuple[Target, ...]
    read: Callable[[Path, bytes], tuple[Content, ...]]


def _named(path: Path) -> _Named | None:
    name = published_name(path.name)
    folder = f"{path.parent.name}/{path.name}".replace("\\", "/").lower().split("/")[-2]
    cifar100 = re.search(r"cifar[-_ ]?100", folder)  # its files have the common names train and test
    targets = [target for target in all_targets() if target.facts.name != "cifar-100" or cifar100]
    same = [target for target in targets if target.pin.name == name]
    if same:  # MNIST and Fashion-MNIST share their names
        likely = same[-1 if "fashion" in str(path).lower() else 0]
        return _Named((likely,), lambda _, data: (Content((likely,), data),))
    if name == "mnist.npz":
        return _Named(tuple(target for target in targets if target.facts.name == "mnist"), keras_contents)
    pickled = tuple(target for target in targets if target.pin.name == f"{name}.bin")
    if not pickled:
        return None
    return _Named(
        pickled, lambda path, data: tuple(Content(pickled, content.data) for content in pickle_contents(path, data))
    )
