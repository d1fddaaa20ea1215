"""What a finished trial consists of, each file with its SHA-256, and copies of these files that are verified. No torch."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fathomlab.base.errors import UserError
from fathomlab.base.files import UNSUPPORTED, atomic_file, fsync, fsync_dir, is_special
from fathomlab.config.plugins import read_plugin
from fathomlab.store.checksums import CorruptFileError, file_sha256
from fathomlab.store.datasets import find_dataset, is_intact, needed_files
from fathomlab.store.maintenance import LARGE
from fathomlab.store.reading import Store
from fathomlab.store.records import PROBES_FILE, Result
from fathomlab.store.trial_files import HASH, TrialFiles

DOCUMENTS = ("trial.json", "provenance.json", PROBES_FILE)
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
CHUNK = 1 << 20


class Refused(Exception):
    """Something is not copied.

    Attributes:
        code: Stable name of the reason.
        path: What is not copied, below the store.
        reason: The reason for people.
    """

    def __init__(self, code: str, path: str, reason: str):
        super().__init__(reason)
        self.code, self.path, self.reason = code, path, reason


@dataclass(frozen=True)
class FileCopy:
    """A file to copy: its path below both stores, the file, and what was verified."""

    name: str
    source: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class TrialCopy:
    """A finished trial to copy.

    Attributes:
        trial: Its hash.
        result: Its result.
        files: Those of its directory, the result last.
        shared: What it needs outside of its directory: labels, datasets, plugins, the patch.
        left_out: Files that the source leaves out on purpose.
    """

    trial: str
    result: Result
    files: tuple[FileCopy, ...]
    shared: tuple[FileCopy, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass
class Examiner:
    """Verifies the trials of one store. Files that trials share are verified once."""

    store: Store
    intact: dict[Path, FileCopy | None] = field(default_factory=dict[Path, FileCopy | None])

    def examine(self, files: TrialFiles, trial: str) -> TrialCopy:
        """A finished trial with its files.

        Raises:
            Refused: If a file is missing, damaged, or has a name that no file of a trial has.
        """
        assert files.result is not None
        left_out: list[str] = []
        inside = tuple(self._inside(files, trial, files.result, left_out))
        shared = tuple(self._shared(files, trial, files.result, left_out))
        return TrialCopy(trial, files.result, inside, shared, tuple(left_out))

    def _inside(self, files: TrialFiles, trial: str, result: Result, left_out: list[str]) -> Iterator[FileCopy]:
        for name in dict.fromkeys((*DOCUMENTS, *files.logs, *result.files, "result.json")):
            if PLAIN.fullmatch(name) is None:
                raise Refused("damaged", f"trials/{trial}", "result.json lists a file with an invalid name")
            path, relative = files.folder / name, f"trials/{trial}/{name}"
            if name.endswith(LARGE):
                if self.store.is_left_out(path):
                    left_out.append(relative)
                    continue
                yield self._file(path, result.files[name].sha256)
            elif (data := files.read(name)) is not None:
                yield FileCopy(relative, path, hashlib.sha256(data).hexdigest(), len(data))

    def _shared(self, files: TrialFiles, trial: str, result: Result, left_out: list[str]) -> Iterator[FileCopy]:
        root = self.store.root
        if result.labels is not None:
            yield self._file(result.labels.path(root), result.labels.sha256)
        for path in needed_files(root, files.content):
            if self.store.is_left_out(path):
                left_out.append(path.relative_to(root).as_posix())
                continue
            if path not in self.intact:
                self.intact[path] = self._file(path, "") if not is_special(path) and is_intact(path) else None
            if (copy := self.intact[path]) is None:
                name = path.relative_to(root).as_posix()
                raise Refused("damaged", f"trials/{trial}", f"{name} is missing or corrupted")
            yield copy
        git = files.provenance.git
        if git and git.patch and HASH.fullmatch(git.patch):
            path = root / "patches" / f"{git.patch}.patch"
            if path.is_file() and not path.is_symlink():
                yield self._file(path, git.patch)
        for plugin in files.provenance.plugins:
            if HASH.fullmatch(plugin.sha256) and PLAIN.fullmatch(plugin.name):
                yield from self._plugin(root / "plugins" / plugin.sha256, plugin.name, plugin.sha256)

    def _plugin(self, folder: Path, name: str, sha256: str) -> Iterator[FileCopy]:
        """The source of a plugin and its local modules. It is parsed to find them and does not run."""
        if folder.is_symlink() or not (folder / name).is_file():
            return
        try:
            plugin = read_plugin(folder / name)
        except UserError:
            plugin = None
        if plugin is None or plugin.sha256 != sha256:
            raise Refused("damaged", f"plugins/{sha256}", "is corrupted (checksum mismatch)")
        for file, text in ((plugin.name, plugin.source), *((item.file, item.source) for item in plugin.modules)):
            yield self._file(folder / file, hashlib.sha256(text.encode()).hexdigest())

    def _file(self, path: Path, sha256: str) -> FileCopy:
        """A file that has this SHA-256, or any if it is empty.

        Raises:
            Refused: If it is missing, a link, or has another one.
        """
        name = path.relative_to(self.store.root).as_posix()
        try:
            digest = "" if path.is_symlink() else file_sha256(path)
        except OSError:
            raise Refused("damaged", name, "is missing or cannot be read") from None
        if not digest or digest != (sha256 or digest):
            raise Refused("damaged", name, "is corrupted (checksum mismatch)")
        return FileCopy(name, path, digest, path.stat().st_size)


def other_data(source: Path, target: Path, files: TrialFiles) -> bool:
    """Whether a dataset of the same identity has other images or labels in two stores."""
    here, there = find_dataset(target, files.content), find_dataset(source, files.content)
    return here is not None and there is not None and here.sha256 != there.sha256


def outcome_differences(ours: Result, theirs: Result) -> list[str]:
    """What differs between the results of one trial, as `name: ours (target), theirs (source)`. Times are not compared."""
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(ours, name), getattr(theirs, name)) for name in ("status", "parameters", "epochs", "steps")
    ]
    names = dict.fromkeys((*ours.metrics, *theirs.metrics))
    pairs += [(name, ours.metrics.get(name), theirs.metrics.get(name)) for name in names]
    different = [f"{name}: {first} (target), {second} (source)" for name, first, second in pairs if first != second]
    if not different and ours.outcome != theirs.outcome:
        keys = (key for key, value in vars(ours.outcome).items() if value != getattr(theirs.outcome, key))
        different.append(f"outcome: {', '.join(keys)}")
    return different


def copy_file(copy: FileCopy, root: Path) -> None:
    """Copy a file to its path below `root`, atomically, and verify what was read and what was written.

    Raises:
        Refused: If the source has changed.
        CorruptFileError: If the disk returns different data.
        OSError: If it cannot be written.
    """
    target = root / copy.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        _write(copy, file)
    try:
        _verify(copy, target)
    except CorruptFileError:
        target.unlink()
        raise


def copy_folder(root: Path, name: str, copies: Sequence[FileCopy]) -> None:
    """Create the directory `name` below `root` with these files. It exists with all of them or not at all.

    Raises:
        Refused: If a source has changed.
        CorruptFileError: If the disk returns different data.
        OSError: If it cannot be written.
    """
    target = root / name
    temporary = root / f".{target.name}.{os.getpid()}.tmp"  # `store repair` removes it if this process is killed
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for copy in copies:
            path = temporary / Path(copy.name).name
            with open(path, "xb") as file:
                _write(copy, file)
                file.flush()
                fsync(file.fileno())
            _verify(copy, path)
        fsync_dir(temporary)
        _move(temporary, target, Path(copies[-1].name).name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_dir(target.parent)


def _move(temporary: Path, target: Path, last: str) -> None:
    """Rename a directory. Where a mounted drive renames only files, copy it, with the file that completes it last."""
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        shutil.copytree(temporary, target, ignore=shutil.ignore_patterns(last))
        with atomic_file(target / last) as file:
            file.write((temporary / last).read_bytes())


def _write(copy: FileCopy, file: BinaryIO) -> None:
    digest = hashlib.sha256()
    try:
        reader = open(copy.source, "rb")  # noqa: SIM115
    except OSError:
        raise Refused("damaged", copy.name, "cannot be read") from None
    with reader:
        while data := reader.read(CHUNK):
            digest.update(data)
            file.write(data)
    if digest.hexdigest() != copy.sha256:
        raise Refused("damaged", copy.name, "has changed while it was copied")


def _verify(copy: FileCopy, path: Path) -> None:
    if file_sha256(path) != copy.sha256:
        raise CorruptFileError(f"{path}: read-back verification failed: the disk returned different data.")
