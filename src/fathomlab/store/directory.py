"""Writes trial and experiment directories. A trial is finished when `result.json`, which is written last, exists."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.files import UNSUPPORTED, atomic_write, fsync, fsync_dir, temporary_path
from fathomlab.config.schema import LoggingOptions
from fathomlab.probes.columns import ProbeDescription
from fathomlab.store.checkpoints import NAME
from fathomlab.store.checksums import encode_line, file_sha256, nan_to_none, read_valid_records, seal
from fathomlab.store.leases import Lease, LeaseLostError
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import PROBES_FILE, ExperimentRecord, FileDigest, Result
from fathomlab.store.tables import PATTERN
from fathomlab.store.trial_files import TrialFiles, trial_status

NOT_IN_RESULT = ("result.json",)
NOT_IN_EXPERIMENT = ("folder", "cause", "outdated", "corrupted", "seal")
ADDED = ("tune", "equal_compute", "runs")  # to the format later: left out if empty


def create_store(root: Path) -> Path:
    """The store's directory, created if it is missing.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        (root / "trials").mkdir(parents=True, exist_ok=True)
        (root / "experiments").mkdir(exist_ok=True)
        probe = root / ".writable"
        atomic_write(probe, b"")
        probe.unlink(missing_ok=True)  # another process may do the same
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            "unwritable", f"{root}: cannot write results: {reason}. Choose another directory with --runs."
        ) from None
    return root


def check_disk_space(root: Path, needed: int) -> None:
    """Check that enough disk space is free.

    Raises:
        UserError: If fewer than `needed` bytes are free.
    """
    total, _, free = shutil.disk_usage(root)
    if total and free < needed:  # a total of 0 is a mounted drive that does not say
        raise UserError(
            "disk-full",
            f"{root}: not enough disk space: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB needed. "
            "Free some space, or choose another directory with --runs.",
        )


class TrialFolder:
    """The directory of one trial during training.

    With a lease, each write first gets hold of what it changes (an open log, a temporary file, a renamed directory), then
    verifies the lease, then writes. A process that takes over claims the trial, and then replaces logs and removes temporary
    files. So whenever a process is stopped, what it writes later goes to files that are not in the directory any more.
    """

    def __init__(self, root: Path, trial: str, lease: Lease | None = None):
        """Change nothing; call `create` or `resume` next.

        Args:
            root: The store.
            trial: Hash of the trial.
            lease: Verified for each write: LeaseLostError is raised if another process has taken over the trial.
        """
        self.trial, self.root, self.path, self._lease = trial, root, root / "trials" / trial, lease
        self.lines: dict[str, int] = {}
        self._pending: dict[str, str] = {}
        self._unsynced: dict[str, int] = {}
        self._descriptions: dict[str, ProbeDescription] | None = None

    def create(self, content: JsonObject, logging: LoggingOptions | None = None) -> None:
        """Start from scratch: remove an earlier attempt, or quarantine a finished but corrupted trial.

        `logging` is stored next to the content for exporters; it is not part of the trial's identity.
        """
        self.verify()
        if (self.path / "result.json").exists() and trial_status(self.root, self.trial) in ("damaged", "outdated"):
            quarantine(self.path)
        elif self.path.exists():
            self._discard(self.path)
        self.path.mkdir(parents=True, exist_ok=self._lease is not None)
        fsync_dir(self.path.parent)
        options = {} if logging is None else asdict(logging)
        self._write("trial.json", {"trial": self.trial, "content": content, "logging": options})

    def verify(self) -> None:
        """Check that this process may write.

        Raises:
            LeaseLostError: If another process has taken over the trial.
        """
        if self._lease is not None:
            self._lease.verify(self.trial)

    def has_lines(self, logs: Mapping[str, int]) -> bool:
        """Whether each log still has this number of valid lines."""
        return all(len(read_valid_records(self.path / name)) >= lines for name, lines in logs.items())

    def resume(self, logs: Mapping[str, int]) -> None:
        """Truncate the logs to these numbers of lines, as they were at a checkpoint, so that nothing is recorded twice."""
        self.verify()
        for path in self.path.glob(".*.tmp"):  # of a killed writer, or of one that has lost its lease
            path.unlink(missing_ok=True)
        for path in (self.path / "result.json", *self.path.glob("*.jsonl")):  # the result of a failed attempt
            if path.name not in logs and path.exists():
                self._discard(path)
        for name, lines in logs.items():
            path = self.path / name
            data = "".join(encode_line(record) for record in read_valid_records(path)[:lines]).encode()
            if self._lease is not None or path.read_bytes() != data:  # another process may have opened the old file
                atomic_write(path, data, self.verify)
        self.lines = dict(logs)

    def _discard(self, path: Path) -> None:
        """Remove a file or a directory. With a lease, move it first: it is moved back if it belongs to another process by now."""
        aside = path
        if self._lease is not None:
            aside = temporary_path(path)
            try:
                path.rename(aside)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                aside = path
            try:
                self.verify()
            except LeaseLostError:
                with contextlib.suppress(OSError):
                    if not path.exists():
                        aside.rename(path)
                raise
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where the numbers come from."""
        self._write("provenance.json", provenance.to_json())

    def describe(self, probe: str, description: ProbeDescription) -> bool:
        """Store what a report needs to know of a plugin's probe; False if it is stored differently already."""
        if self._descriptions is None:
            self._descriptions = dict(TrialFiles(self.root, self.trial).descriptions)
        if probe not in self._descriptions:
            self._descriptions[probe] = description
            self._write(PROBES_FILE, {"probes": {name: to_plain(value) for name, value in self._descriptions.items()}})
        return self._descriptions[probe] == description

    def _write(self, name: str, document: JsonObject) -> None:
        """Write one JSON document atomically, with the format and its checksum."""
        atomic_write(self.path / name, json.dumps(seal(document), indent=1) + "\n", self.verify)

    def write_bytes(self, name: str, value: bytes) -> None:
        """Write a file atomically."""
        atomic_write(self.path / name, value, self.verify)

    def append(self, name: str, record: JsonObject) -> bool:
        """Add one line to a log; False if writing failed. The line is then buffered until the next call."""
        self._pending[name] = self._pending.get(name, "") + encode_line(nan_to_none(record))
        self.lines[name] = self.lines.get(name, 0) + 1
        try:
            self._flush(name)
        except OSError:
            return False
        return True

    def _flush(self, name: str, durable: bool = False) -> None:
        path, rest = self.path / name, self._pending.get(name, "").encode()
        if name in self._unsynced:  # after an error the old file cannot be trusted, so write a new one
            atomic_write(path, path.read_bytes()[: self._unsynced[name]] + rest, self.verify)
            del self._unsynced[name]
        else:
            if not path.exists():
                self.verify()
            with open(path, "ab", buffering=0) as file:
                self.verify()
                size = file.tell()
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    if durable:
                        fsync(file.fileno())
                except OSError:
                    self._unsynced[name] = size
                    with contextlib.suppress(OSError):  # remove the incomplete line
                        os.ftruncate(file.fileno(), size)
                    raise
        self._pending[name] = ""

    def flush(self) -> None:
        """Make all logs durable.

        Raises:
            OSError: If writing fails. A checkpoint that refers to these logs must not be written then.
        """
        for path in self.path.glob("*.jsonl"):
            self._pending.setdefault(path.name, "")
        for name in list(self._pending):
            self._flush(name, durable=True)

    def finish(self, result: Result) -> Result:
        """Write the result, the last of all files, with the SHA-256 of every other file; returns it as it is read back.

        Raises:
            OSError: If writing fails. The trial is not finished then.
        """
        self.flush()
        files = {
            path.name: FileDigest(file_sha256(path), path.stat().st_size)
            for path in sorted(self.path.iterdir())
            if path.is_file() and not path.name.startswith(".") and not _is_transient(path.name)
        }
        fence = self._lease.fences[self.trial] if self._lease is not None else 0
        result = replace(result, metrics=nan_to_none(result.metrics), files=files, fence=fence)
        self._write("result.json", {"trial": self.trial, **to_plain(result)})
        return result


def _is_transient(name: str) -> bool:
    """Whether a file is temporary, so not part of the result."""
    patterns = (*NOT_IN_RESULT, PATTERN, "*.corrupt")
    return NAME.fullmatch(name) is not None or any(fnmatchcase(name, pattern) for pattern in patterns)


def _move(folder: Path, target: Path) -> None:
    """Rename a directory, or copy it where a mounted drive renames only files."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        shutil.copytree(folder, target)
        shutil.rmtree(folder)


def quarantine(folder: Path) -> Path:
    """Move the directory of a corrupted trial to `damaged/` next to `trials/`; returns its new path. Nothing is deleted."""
    parent = folder.parents[1] / "damaged"
    parent.mkdir(exist_ok=True)
    for number in range(1, 10_000):
        target = parent / f"{folder.name}-{number}"
        if not target.exists():
            _move(folder, target)
            fsync_dir(parent)
            return target
    raise OSError(f"{parent} already contains 9,999 copies of this trial")


def record_is_current(stored: ExperimentRecord | None, record: ExperimentRecord) -> bool:
    """Whether the store has exactly this record of an experiment."""
    return stored is not None and stored.cause is None and stored.seal == _document(record)["seal"]


def write_experiment(root: Path, record: ExperimentRecord) -> Path:
    """Write an experiment's record below `root`; returns its directory.

    Raises:
        UserError: If writing fails.
    """
    folder = root / "experiments" / record.name
    if folder.is_symlink():
        raise UserError("unwritable", f"{folder}: is a symbolic link, which could lead out of the store. Remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "experiment.json", json.dumps(_document(record), indent=1) + "\n")
    except OSError as error:
        free = shutil.disk_usage(root).free / 1e6
        raise UserError(
            "unwritable",
            f"{folder}: cannot write the experiment's record: {error.strerror or error} ({free:.1f} MB free).",
        ) from None
    return folder


def _document(record: ExperimentRecord) -> JsonObject:
    content = {key: value for key, value in asdict(record).items() if key not in NOT_IN_EXPERIMENT}
    return seal({key: value for key, value in content.items() if value or key not in ADDED})
