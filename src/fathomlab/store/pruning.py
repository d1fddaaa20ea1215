"""Removes what a store does not need. No torch."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps
from fathomlab.store.datasets import FOLDER, dataset_files, is_intact, needed_files
from fathomlab.store.maintenance import Change, leases, remove, stale_files, temporary_files
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES, TrialRecord

HISTORY = ("experiment.json", "log.txt")  # written by runs; a report may be written again at any time


@dataclass(frozen=True)
class Pruning:
    """What is removed in addition to checkpoints of finished trials and stale files.

    Attributes:
        unfinished: Trials without an outcome.
        orphans: Trials that belong to no experiment.
        damaged: Quarantined files.
        experiments: Experiments, and the trials that belong to no other one.
        older_than: Age in seconds. Only what was last written before is removed; None for any age.
        dry_run: Remove nothing.
    """

    unfinished: bool = False
    orphans: bool = False
    damaged: bool = False
    experiments: bool = False
    older_than: float | None = None
    dry_run: bool = False


def prune_store(root: Path, options: Pruning) -> list[Change]:
    """Remove checkpoints of finished trials and stale files, and what the options name.

    A trial that a remaining experiment contains stays, however old it is, unless it is unfinished. Labels and datasets that a
    remaining trial needs stay. Trials and experiments of older formats stay.

    Raises:
        UserError: If `orphans` or `experiments` is set, and the record of an experiment is corrupted.
    """
    return list(_Pruner(root, options).changes())


class _Pruner:
    def __init__(self, root: Path, options: Pruning):
        self.root, self.options, self.store = root, options, Store(root)
        self.before = None if options.older_than is None else time.time() - options.older_than
        self.labels, self.contents = set[str](), list[JsonObject]()
        self.kept_trials, self.dropped_trials = set[str](), set[str]()

    def changes(self) -> Iterator[Change]:
        """Remove, and yield what was removed."""
        if self.options.orphans or self.options.experiments:
            self._check_experiments()
        yield from self._removed(temporary_files(self.root, self.store), "stale temporary file")
        yield from self._removed(leases(self.root), "leases of processes that have ended")
        yield from self._experiments()
        for trial in self.store.trials():
            record = self.store.trial(trial)
            if record.status != "outdated":
                yield from self._trial(record)
        for path in sorted((self.root / "labels").glob("*.bin*")):
            if path.suffix == ".corrupt":
                yield from self._removed([path], "corrupted")
            elif path.stem not in self.labels:
                yield from self._removed([path], "labels that no trial needs")
        yield from self._datasets()
        if self.options.damaged and (self.root / "damaged").is_dir():
            yield from self._removed(sorted((self.root / "damaged").iterdir()), "quarantined")

    def _check_experiments(self) -> None:
        """Refuse to look for trials that no experiment contains if it is not known which trials an experiment contains."""
        for record in self.store.experiments():
            if record.cause is not None and not record.outdated:
                raise UserError(
                    "corrupted-record",
                    f"{record.folder}: {record.cause}. Its trials are not known, so nothing was removed. Run its experiment "
                    "again, or delete this directory.",
                )

    def _experiments(self) -> Iterator[Change]:
        """Remove old experiments, and remember which trials the remaining ones contain."""
        for record in self.store.experiments():
            members = {pair.trial for item in record.conditions for pair in item.trials}
            written = max((_written(record.folder / name) for name in HISTORY), default=0.0)
            if self.options.experiments and record.cause is None and self._is_old(written):
                self.dropped_trials |= members
                yield remove(record.folder, "the experiment is old", self.options.dry_run)
            else:
                self.kept_trials |= members

    def _trial(self, record: TrialRecord) -> Iterator[Change]:
        if (reason := self._dispensable(record)) and self._is_old(_last_write(record.folder)):
            yield remove(record.folder, reason, self.options.dry_run)
            return
        if record.labels:
            self.labels.add(record.labels.data)
        self.contents.append(record.content)
        yield from self._removed(stale_files(record.folder), "stale temporary file")
        yield from self._removed(record.folder.glob("*.corrupt"), "corrupted")
        if record.status in TERMINAL_STATUSES:
            steps = checkpoint_steps(record.folder)
            yield from self._removed((checkpoint_path(record.folder, step) for step in steps), "the trial is finished")

    def _dispensable(self, record: TrialRecord) -> str:
        """Why a trial may be removed if it is old enough; `""` if it must stay."""
        if record.trial not in self.kept_trials and record.trial in self.dropped_trials:
            return "belongs to a removed experiment only"
        if self.options.orphans and record.trial not in self.kept_trials:
            return "belongs to no experiment"
        if self.options.unfinished and record.status not in TERMINAL_STATUSES:
            return "is not finished" if record.status in ("running", "interrupted") else f"is {record.status}"
        return ""

    def _datasets(self) -> Iterator[Change]:
        """Files of users' datasets that no remaining trial needs, and corrupted ones."""
        files = dataset_files(self.root)
        if all(self.contents) and all(
            is_intact(path) for path in files if path.suffix == ".json"
        ):  # else it is not known
            needed = {path for content in self.contents for path in needed_files(self.root, content)}
            yield from self._removed([path for path in files if path not in needed], "a dataset that no trial needs")
        yield from self._removed(sorted((self.root / FOLDER).glob("*.corrupt")), "corrupted")

    def _removed(self, paths: "Iterator[Path] | Sequence[Path]", reason: str) -> Iterator[Change]:
        for path in paths:
            if self._is_old(_last_write(path)):
                yield remove(path, reason, self.options.dry_run)

    def _is_old(self, written: float) -> bool:
        return self.before is None or written < self.before


def _last_write(path: Path) -> float:
    """When a file, or the newest file in a directory, was written."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return max((_written(file) for file in files), default=0.0)


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
