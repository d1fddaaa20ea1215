"""Maintenance of a store: verify every file, and repair. No torch."""

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fathomlab.base.files import atomic_write
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, valid_checkpoints
from fathomlab.store.checksums import CorruptFileError, encode_line, file_sha256, read_checked, read_valid_records
from fathomlab.store.datasets import FOLDER, dataset_files, is_intact, needed_files
from fathomlab.store.directory import quarantine
from fathomlab.store.lease_files import FOLDER as LEASES
from fathomlab.store.predictions import StoredLabels
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES, TrialRecord
from fathomlab.store.tables import PATTERN

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
MAX_WRITE_SECONDS = 3600
LARGE = (".safetensors", ".bin")  # verified here and when they are used, not on every read


@dataclass(frozen=True)
class Problem:
    """A file or a directory that is not what was written, and why."""

    path: Path
    problem: str


@dataclass(frozen=True)
class Check:
    """What was verified.

    Attributes:
        trials: Number of trials that were verified.
        files: Number of files that were verified.
        problems: What is not as written.
        outdated: Number of trials of older formats, which are not verified.
        left_out: Number of files that a bundle leaves out on purpose.
    """

    trials: int
    files: int
    problems: tuple[Problem, ...]
    outdated: int
    left_out: int


@dataclass(frozen=True)
class Change:
    """What maintenance did to a file or a directory; `size` is what a removal frees (bytes)."""

    path: Path
    action: str
    size: int | None = None


def check_store(root: Path, store: Store | None = None) -> Check:
    """Compare every file with its checksum. A store that is given is read instead of a new one."""
    store, problems, files, trials, outdated = store or Store(root), list[Problem](), 0, 0, 0
    labels, datasets, left_out = set[StoredLabels](), set(dataset_files(root)), set[Path]()
    for trial in store.trials():
        record = store.trial(trial)
        if record.status == "outdated":
            outdated += 1
            continue
        trials += 1
        if record.status == "damaged":
            problems.append(Problem(record.folder, str(record.cause)))
        if record.labels:
            labels.add(record.labels)
        large = {record.folder / name: digest.sha256 for name, digest in record.files.items() if name.endswith(LARGE)}
        needed = needed_files(root, record.content)
        datasets.update(needed)
        left_out.update(path for path in (*large, *needed) if store.is_left_out(path))
        problems += _mismatches({path: sha256 for path, sha256 in large.items() if path not in left_out})
        sealed = [checkpoint_path(record.folder, step) for step in checkpoint_steps(record.folder)]
        sealed += record.folder.glob(PATTERN)
        problems += _unreadable(sealed)
        files += len(record.files) + len(sealed)
    for reference in sorted(labels, key=lambda item: (item.data, item.sha256)):
        problems += _mismatches({reference.path(root): reference.sha256})
    corrupted = (path for path in sorted(datasets - left_out) if not is_intact(path))
    problems += [Problem(path, "is corrupted" if path.exists() else "is missing") for path in corrupted]
    files += len(labels) + len(datasets) - len(left_out)
    for experiment in store.experiments():
        files += not experiment.outdated
        if experiment.cause is not None and not experiment.outdated:
            problems.append(Problem(experiment.folder, experiment.cause))
    return Check(trials, files, tuple(problems), outdated, len(left_out))


def repair_store(root: Path) -> list[Change]:
    """Remove stale temporary files and leases, truncate incomplete logs, and quarantine what is corrupted.

    Trials and experiments of older formats are left alone, here and by `pruning`.
    """
    store, labels = Store(root), set[StoredLabels]()
    changes = [remove(path, "stale temporary file") for path in temporary_files(root, store)]
    changes += [remove(path, "leases of processes that have ended") for path in leases(root)]
    for trial in store.trials():
        record = store.trial(trial)
        if record.status == "outdated":
            continue
        changes += [remove(path, "stale temporary file") for path in stale_files(record.folder)]
        if record.status not in TERMINAL_STATUSES and not (record.folder / "result.json").exists():
            changes += [Change(path, "incomplete last line removed") for path in _truncate_logs(record.folder)]
        _, corrupt = valid_checkpoints(record.folder)
        changes += [Change(record.folder / name, f"corrupted; renamed to {name}.corrupt") for name in corrupt]
        caches = [problem.path for problem in _unreadable(record.folder.glob(PATTERN))]
        changes += [rename_corrupted(path) for path in caches]
        record = store.trial(trial)
        if record.labels:
            labels.add(record.labels)
        cause = record.cause if record.status == "damaged" else _corrupted_weights(record)
        if cause:
            changes.append(Change(record.folder, f"{cause}; moved to {quarantine(record.folder)}"))
    corrupted = [*_corrupted_labels(root, labels), *(path for path in dataset_files(root) if not is_intact(path))]
    corrupted += [record.folder / "experiment.json" for record in store.experiments() if record.corrupted]
    return changes + [rename_corrupted(path) for path in corrupted]


def _corrupted_weights(record: TrialRecord) -> str:
    """Which large file of a finished trial is corrupted; `""` if none. A missing one may have been removed to save space."""
    large = {record.folder / name: digest.sha256 for name, digest in record.files.items() if name.endswith(LARGE)}
    problems = _mismatches({path: sha256 for path, sha256 in large.items() if path.exists()})
    return next((f"{problem.path.name} {problem.problem}" for problem in problems), "")


def _corrupted_labels(root: Path, references: set[StoredLabels]) -> Iterator[Path]:
    """Files with labels that no result was written with. The next trial on the dataset writes them again."""
    for path in sorted({reference.path(root) for reference in references}):
        digests = {reference.sha256 for reference in references if reference.path(root) == path}
        if path.exists() and file_sha256(path) not in digests:
            yield path


def rename_corrupted(path: Path) -> Change:
    """Keep a corrupted file under another name, which no earlier one has."""
    names = (f"{path.name}.corrupt{suffix}" for suffix in ("", *(f".{number}" for number in range(1, 10_000))))
    target = next(free for name in names if not os.path.lexists(free := path.with_name(name)))
    path.rename(target)
    return Change(path, f"corrupted; renamed to {target.name}")


def _mismatches(digests: Mapping[Path, str]) -> Iterator[Problem]:
    """The files with another SHA-256 than this one."""
    for path, sha256 in digests.items():
        try:
            if file_sha256(path) != sha256:
                yield Problem(path, "is corrupted (checksum mismatch)")
        except OSError:
            yield Problem(path, "is missing")


def _unreadable(paths: Iterable[Path]) -> Iterator[Problem]:
    """The checkpoints that cannot be read."""
    for path in paths:
        try:
            read_checked(path)
        except CorruptFileError as error:
            yield Problem(path, str(error).partition(": ")[2])


def temporary_files(root: Path, store: Store) -> Iterator[Path]:
    """Temporary files outside of trials whose writers have ended."""
    outdated = {record.folder for record in store.experiments() if record.outdated}
    for folder in [root, root / "trials", root / "labels", root / FOLDER, *(root / "experiments").glob("*/")]:
        if folder not in outdated:
            yield from stale_files(folder)


def leases(root: Path) -> Iterator[Path]:
    """The directory of leases, if there is one. No process that trains needs it when a store is maintained."""
    folder = root / LEASES
    if os.path.lexists(folder):
        yield folder


def stale_files(folder: Path) -> Iterator[Path]:
    """Temporary files in a directory whose writers have ended."""
    for path in folder.glob(".*.tmp"):
        match = TEMPORARY.fullmatch(path.name)
        if match and not _is_being_written(path, int(match[1])):
            yield path


def _is_being_written(path: Path, pid: int) -> bool:
    """Whether the writer of a temporary file may be running: by its process on Linux, by the file's age elsewhere."""
    if os.path.isdir("/proc/self"):
        return os.path.exists(f"/proc/{pid}")
    return time.time() - path.stat().st_mtime < MAX_WRITE_SECONDS


def _truncate_logs(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*.jsonl"):
        data = "".join(encode_line(record) for record in read_valid_records(path)).encode()
        if path.read_bytes() != data:
            atomic_write(path, data)
            yield path


def remove(path: Path, reason: str, dry_run: bool = False) -> Change:
    """Remove a file or a directory, unless it is a dry run."""
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    if not dry_run:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return Change(path, f"{reason}; {'would be removed' if dry_run else 'removed'}", size)
