"""Files of trials on their way between the store and nodes that do not share its file system. No Ray, no torch.

A node trains in a scratch store of its own. What a job needs is placed there before it starts, and after each checkpoint and
each result the changed files return and are written to the store: logs before checkpoints, the result last.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from fathomlab.base.codec import JsonObject, from_plain
from fathomlab.base.files import atomic_write
from fathomlab.data.cache import data_dir, locate
from fathomlab.data.checksums import SUMS
from fathomlab.data.users import UserDataset
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import NAME, checkpoint_path, checkpoint_steps, delete_checkpoints, read_checkpoint
from fathomlab.store.checksums import CorruptFileError, file_sha256, parse_json, seal
from fathomlab.store.datasets import arrays_path, facts_path
from fathomlab.store.directory import quarantine
from fathomlab.store.leases import Lease
from fathomlab.store.records import TERMINAL_STATUSES, Result
from fathomlab.store.tables import PATTERN
from fathomlab.store.trial_files import trial_status

RESULT = "result.json"
DATASETS = "datasets"  # in a scratch store: the data folder of a node that lacks files
STAYS = (".*", PATTERN, "*.corrupt")  # tables are caches of the node that computed them


@dataclass(frozen=True)
class Inputs:
    """The files that a job needs, by path in the scratch store.

    Attributes:
        fixed: Files that never change: of parents, of finished trials of the pack, of the dataset.
        current: Files of the trials to train.
    """

    fixed: Mapping[str, Path]
    current: Mapping[str, Path]


@dataclass(frozen=True)
class Update:
    """What has changed in the scratch store of a node.

    Attributes:
        files: Content of new and changed files, by path below the store.
        present: Trial to the names of the files that its directory has.
    """

    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    present: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def unfinished_trials(job: Job) -> list[str]:
    """The trials of a job that have no result in the store."""
    return [trial for trial in job.hashes if trial_status(job.root, trial) not in TERMINAL_STATUSES]


def job_inputs(job: Job) -> Inputs:
    """The files of the store that a node needs for a job."""
    pending = unfinished_trials(job)
    parents = [parent.hash for trial in job.trials for _, parent in trial.parents]
    finished = dict.fromkeys([*parents, *(trial for trial in job.hashes if trial not in pending)])
    fixed = {key: path for trial in finished for key, path in _trial_files(job.root, trial).items()}
    dataset = job.trials[0].data.component
    if isinstance(dataset, UserDataset):
        for path in (facts_path(job.root, dataset.digest), arrays_path(job.root, dataset.sha256)):
            fixed[path.relative_to(job.root).as_posix()] = path
    return Inputs(fixed | dataset_inputs(job), _current_files(job.root, pending))


def dataset_inputs(job: Job) -> dict[str, Path]:
    """The files of the built-in dataset of a job; none if the package contains it, or if a user's function returns it."""
    dataset = job.trials[0].data.component
    if isinstance(dataset, UserDataset) or dataset.layout is None:
        return {}
    folder = data_dir()
    paths = [located.path for located in locate(dataset.layout, folder) if located.path is not None]
    paths += [path.parent / SUMS for path in paths if (path.parent / SUMS).is_file()]
    return {f"{DATASETS}/{path.relative_to(folder).as_posix()}": path for path in paths}


def _current_files(root: Path, trials: Iterable[str]) -> dict[str, Path]:
    """The files of trials to train, except those that will be quarantined."""
    result: dict[str, Path] = {}
    for trial in trials:
        files = _trial_files(root, trial)
        if f"trials/{trial}/{RESULT}" not in files or trial_status(root, trial) not in ("damaged", "outdated"):
            result |= files
    return result


def _trial_files(root: Path, trial: str) -> dict[str, Path]:
    """The files of a trial, the result last."""
    folder = root / "trials" / trial
    return {f"trials/{trial}/{name}": folder / name for name in reversed(_names(folder))}


def _names(folder: Path) -> list[str]:
    """The files of a trial's directory in the order in which they can be read while they are written.

    The result first, because then no other file changes; checkpoints before logs, which then have at least their lines.
    """
    if not folder.is_dir() or folder.is_symlink():
        return []
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    names = (name for name in files if not any(fnmatchcase(name, pattern) for pattern in STAYS))
    return sorted(names, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    if name == RESULT:
        return 0
    if NAME.fullmatch(name):
        return 1
    return 3 if name.endswith(".jsonl") else 2


class Outbox:
    """Remembers which files of a scratch store the coordinator has."""

    def __init__(self, root: Path, trials: Sequence[str]):
        """What is there now came from the coordinator."""
        self._root, self._trials = root, tuple(trials)
        self._sent = {key: _stamp(path) for key, path in self._paths().items()}

    def collect(self) -> Update:
        """The files that have changed since the last call. They may change while they are read."""
        files: dict[str, bytes] = {}
        present: dict[str, list[str]] = {trial: [] for trial in self._trials}
        for key, path in self._paths().items():
            with contextlib.suppress(FileNotFoundError):  # a newer checkpoint has replaced it
                stamp = _stamp(path)
                if self._sent.get(key) != stamp:
                    files[key] = path.read_bytes()
                    self._sent[key] = stamp
                if key.startswith("trials/"):
                    present[path.parent.name].append(path.name)
        return Update(files, {trial: tuple(names) for trial, names in present.items()})

    def _paths(self) -> dict[str, Path]:
        paths = {f"labels/{path.name}": path for path in sorted((self._root / "labels").glob("[0-9a-f]*.bin"))}
        for trial in self._trials:
            folder = self._root / "trials" / trial
            paths |= {f"trials/{trial}/{name}": folder / name for name in _names(folder)}
        return paths


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class Inbox:
    """Writes what a node sends about one job to the store. The lease is verified before each write."""

    def __init__(self, job: Job, lease: Lease):
        """Nothing is written yet."""
        self._job, self._lease, self._new = job, lease, set(lease.fences)
        self._unwritten: dict[str, bytes] = {}

    def write(self, update: Update) -> None:
        """Write an update, and what could not be written before.

        Raises:
            LeaseLostError: If another process has taken over a trial.
            CorruptFileError: If a file is not what the node wrote.
            OSError: If writing fails. The next call tries again.
        """
        self._unwritten |= update.files
        for key in [key for key in self._unwritten if key.startswith("labels/")]:
            path = self._job.root / "labels" / Path(key).name
            path.parent.mkdir(exist_ok=True)
            self._write(path, key)
        for trial in self._lease.fences:
            self._write_trial(trial, update.present.get(trial, ()))

    def finish(self) -> None:
        """Remove the checkpoints of a pack whose results are all written."""
        folders = [self._job.root / "trials" / trial for trial in self._job.hashes]
        if all((folder / RESULT).exists() for folder in folders) and not unfinished_trials(self._job):
            for folder in folders:
                delete_checkpoints(folder, [])

    def _write_trial(self, trial: str, present: Sequence[str]) -> None:
        folder = self._job.root / "trials" / trial
        keys = [key for key in self._unwritten if key.startswith(f"trials/{trial}/")]
        if keys:
            self._lease.verify(trial)
            if trial in self._new and (folder / RESULT).exists():
                self._replace_result(trial, folder)
            self._new.discard(trial)
            folder.mkdir(parents=True, exist_ok=True)
        for key in sorted(keys, key=lambda key: -_rank(Path(key).name)):
            name = Path(key).name
            self._lease.verify(trial)
            if name == RESULT:
                self._unwritten[key] = self._accepted(trial, self._unwritten[key])
            self._write(folder / name, key)
            if NAME.fullmatch(name):
                read_checkpoint(folder / name)
        if present:
            self._lease.verify(trial)
            self._remove(folder, set(present))

    def _replace_result(self, trial: str, folder: Path) -> None:
        """A failed result is trained again; a corrupted one is quarantined, as on this machine."""
        if trial_status(self._job.root, trial) in ("damaged", "outdated"):
            quarantine(folder)
        else:
            (folder / RESULT).unlink()

    def _accepted(self, trial: str, content: bytes) -> bytes:
        """The result with the fence number of the lease, after comparing the files that it lists."""
        folder, document = self._job.root / "trials" / trial, parse_json(content.decode())
        try:
            result = from_plain(Result, document)
        except ValueError:
            raise CorruptFileError(f"{folder / RESULT}: not a result") from None
        for name, digest in result.files.items():
            if file_sha256(folder / name) != digest.sha256:
                raise CorruptFileError(f"{folder / name}: corrupted on the way from its node (checksum mismatch)")
        fields: JsonObject = {key: value for key, value in document.items() if key not in ("format", "seal")}
        return (json.dumps(seal({**fields, "fence": self._lease.fences[trial]}), indent=1) + "\n").encode()

    def _write(self, path: Path, key: str) -> None:
        atomic_write(path, self._unwritten[key])
        del self._unwritten[key]

    @staticmethod
    def _remove(folder: Path, present: set[str]) -> None:
        """Remove files that the node has removed; checkpoints only after a newer one or the result is here."""
        names = _names(folder)
        steps = [step for step in checkpoint_steps(folder) if checkpoint_path(folder, step).name in present]
        for name in names:
            if name not in present and not NAME.fullmatch(name):
                (folder / name).unlink(missing_ok=True)
        if steps or (RESULT in present and RESULT in names):
            delete_checkpoints(folder, steps)


def place(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a scratch store. Nobody relies on them after a power failure."""
    for key, content in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
