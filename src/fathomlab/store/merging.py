"""Copies finished trials and experiments of other stores into one. Nothing is overwritten, and conflicts are named. No torch."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

from fathomlab.base.codec import JsonObject
from fathomlab.plan import parent_hashes
from fathomlab.store.checksums import file_sha256
from fathomlab.store.copying import (
    PLAIN,
    Examiner,
    FileCopy,
    Refused,
    TrialCopy,
    copy_file,
    copy_folder,
    other_data,
    outcome_differences,
)
from fathomlab.store.directory import check_disk_space
from fathomlab.store.maintenance import LARGE
from fathomlab.store.reading import EXPERIMENT, Store
from fathomlab.store.records import TERMINAL_STATUSES, ExperimentRecord, Result
from fathomlab.store.target import Conflict, Merge, Target
from fathomlab.store.trial_files import HASH, TrialFiles
from fathomlab.store.validation import FolderValidator

PLAN_DIGITS = 9  # an experiment's name ends with a hyphen and 8 digits of the hash of its plan
NOT_COMPARED = ("name", "folder", "cause", "seal", "created", "seconds", "source")  # of two records of the same plan
MAX_LISTED = 4
WRITERS = 16  # threads that wait for the disk
MAX_LOG_BYTES = 50_000_000


def merge_store(target: Target, root: Path, label: str) -> Merge:
    """Copy the finished trials and the experiments of one store.

    Hold the lock of the target. Every file is compared with its checksum before and after it is copied. The directory of a trial
    appears with all files or not at all, so that a merge that is killed can be repeated.

    Args:
        target: The store that receives.
        root: The other store.
        label: Its name in conflicts.

    Raises:
        UserError: If the disk is full or returns different data.
        OSError: If the target cannot be written.
    """
    return _Merger(target, Store(root), label).run()


class _Merger:
    def __init__(self, target: Target, store: Store, label: str):
        self.target, self.store, self.label = target, store, label
        self.examiner = Examiner(store)
        self.merge = Merge()
        self.conflicts: dict[str, Conflict] = {}
        self.refused = set[str]()

    def run(self) -> Merge:
        plans = [plan for trial in self._in_order() if (plan := self._examined(trial)) is not None]
        needed = {copy.name: copy.size for plan in plans for copy in (*plan.shared, *plan.files)}
        if needed and not self.target.dry_run:
            check_disk_space(self.target.root, sum(needed.values()))
        self.target.add_left_out(name for plan in plans for name in plan.left_out)
        self._copy_trials(plans)
        for record in self.store.experiments():
            try:
                self._copy_experiment(record)
            except Refused as error:
                self._refuse(error)
        return replace(self.merge, conflicts=tuple(self.conflicts.values()))

    def _refuse(self, error: Refused, trial: str = "") -> None:
        """Name a conflict, once per file that trials share."""
        if trial:
            self.refused.add(trial)
            self._add(Merge(refused=1))
        self.conflicts.setdefault(error.path, Conflict(self.label, error.path, error.code, error.reason))

    def _add(self, change: Merge) -> None:
        self.merge += change

    def _in_order(self) -> list[str]:
        """The trials of the store, each after its parents."""
        pending = dict.fromkeys(self.store.trials())
        parents = {trial: _parents(self._content(trial)) for trial in pending}
        order: list[str] = []
        while pending:
            ready = [trial for trial in pending if not any(parent in pending for parent in parents[trial])]
            for trial in ready or list(pending):  # damaged records may contain each other
                del pending[trial]
                order.append(trial)
        return order

    def _content(self, trial: str) -> JsonObject:
        """The options of a trial, which are verified later."""
        document = FolderValidator(self.store.root / "trials" / trial).document("trial.json", required=False) or {}
        content = document.get("content")
        return cast(JsonObject, content) if isinstance(content, dict) else {}

    def _examined(self, trial: str) -> TrialCopy | None:
        """What to copy of a trial; None if nothing is copied, which is counted."""
        files = TrialFiles(self.store.root, trial)
        status = files.verified_status()
        if status not in (*TERMINAL_STATUSES, "damaged", "outdated"):
            self._add(Merge(unfinished=1))
            return None
        try:
            if files.result is None or status not in TERMINAL_STATUSES:
                raise Refused(status, f"trials/{trial}", str(files.cause))
            return self._needed(files, trial, files.result)
        except Refused as error:
            self._refuse(error, trial)
            return None

    def _needed(self, files: TrialFiles, trial: str, result: Result) -> TrialCopy | None:
        """What the target lacks of a finished trial; None if it lacks nothing.

        Raises:
            Refused: If it cannot be copied.
        """
        name = f"trials/{trial}"
        state, present = self.target.result(trial)
        if state == "unfinished":
            raise Refused("target-unfinished", name, "is unfinished in the target; see store prune --unfinished")
        if state == "damaged":
            raise Refused("target-damaged", name, "is damaged or of an older format in the target; see store repair")
        if present is not None and (differences := outcome_differences(present, result)):
            more = f" (and {len(differences) - MAX_LISTED} more)" if len(differences) > MAX_LISTED else ""
            raise Refused("result-differs", name, "; ".join(differences[:MAX_LISTED]) + more)
        if other_data(self.store.root, self.target.root, files):
            raise Refused("data-differs", name, "its dataset has other images or labels in the target")
        copy = self.examiner.examine(files, trial)
        if present is not None:
            return self._missing_files(copy, present)
        for parent in _parents(files.content):
            if parent in self.refused or self.target.result(parent)[0] != "finished":
                raise Refused("parent-missing", name, f"its parent {parent[:12]} is not the one in the target")
        copy = replace(copy, shared=self._new_shared(copy.shared))
        self.target.results[trial] = ("finished", result)
        self.target.shared |= {item.name: item.sha256 for item in copy.files if item.name.endswith(LARGE)}
        return copy

    def _missing_files(self, copy: TrialCopy, present: Result) -> TrialCopy | None:
        """The weights and images that the target left out, if the source has the same ones."""
        root = self.target.root
        weights = [
            item
            for item in copy.files
            if item.name.endswith(LARGE)
            and item.sha256 == getattr(present.files.get(Path(item.name).name), "sha256", "")
            and item.name not in self.target.shared
            and not (root / item.name).exists()
        ]
        shared = self._new_shared(copy.shared)
        self._add(Merge(equal=1))
        if not weights and not shared:
            return None
        self.target.shared |= {item.name: item.sha256 for item in weights}
        return replace(copy, files=(), shared=(*weights, *shared), left_out=())

    def _new_shared(self, copies: Sequence[FileCopy]) -> tuple[FileCopy, ...]:
        """The files that the target lacks.

        Raises:
            Refused: If it has another file of this name.
        """
        new: list[FileCopy] = []
        for copy in copies:
            digest = self.target.sha256(copy.name)
            if not digest:
                new.append(copy)
            elif digest != copy.sha256 and not copy.name.endswith(".json"):  # facts were compared before
                raise Refused("data-differs", copy.name, "is another file in the target")
        self.target.shared |= {copy.name: copy.sha256 for copy in new}
        return tuple(new)

    def _copy_trials(self, plans: Sequence[TrialCopy]) -> None:
        """Copy what trials share, then their directories, several at a time, because each file waits for the disk."""
        plans = [plan for plan in plans if self._attempt(plan, self._copy_shared, plan)]
        pool = ThreadPoolExecutor(WRITERS)
        try:
            started = [(plan, pool.submit(self._copy_folder, plan)) for plan in plans]
            for plan, future in started:
                if self._attempt(plan, future.result) and plan.files:
                    size = sum(copy.size for copy in plan.files)
                    self._add(Merge(copied=(plan.trial,), bytes=size))
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy_shared(self, plan: TrialCopy) -> None:
        for copy in plan.shared if not self.target.dry_run else ():
            copy_file(copy, self.target.root)
        self._add(Merge(completed=int(not plan.files), bytes=sum(copy.size for copy in plan.shared)))

    def _copy_folder(self, plan: TrialCopy) -> None:
        if plan.files and not self.target.dry_run:
            copy_folder(self.target.root, f"trials/{plan.trial}", plan.files)

    def _attempt(self, plan: TrialCopy, action: Callable[..., None], *args: TrialCopy) -> bool:
        """Copy a trial, and count it; False if it is refused."""
        try:
            action(*args)
        except Refused as error:
            self._refuse(error, plan.trial)
            self.target.results.pop(plan.trial, None)
            for copy in (*plan.shared, *plan.files):
                self.target.shared.pop(copy.name, None)
            return False
        return True

    def _copy_experiment(self, record: ExperimentRecord) -> None:
        name = f"experiments/{record.name}"
        if record.cause is not None:
            raise Refused("outdated" if record.outdated else "damaged", name, record.cause)
        if PLAIN.fullmatch(record.name) is None:
            raise Refused("invalid-name", name, "has a name that fathomlab does not give")
        twin = self._twin(record.name)
        if twin is None:
            copies = self._experiment_files(record, name)
            if not self.target.dry_run:
                copy_folder(self.target.root, name, copies)
            self.target.experiments[record.name] = record
            self._add(Merge(experiments=(record.name,), bytes=sum(copy.size for copy in copies)))
            return
        if twin.cause is not None:
            raise Refused("target-damaged", name, "is damaged or of an older format in the target; see store repair")
        if different := _different_keys(twin, record):
            text = f"{', '.join(different)} differ; the target keeps its record"
            raise Refused("experiment-differs", name, text)
        self._add(Merge(equal_experiments=1))

    def _twin(self, name: str) -> ExperimentRecord | None:
        """The experiment of the target that has the same plan, whatever the name of its file was."""
        records: Mapping[str, ExperimentRecord] = self.target.experiments
        suffix = name[-PLAN_DIGITS:]
        same = (other for other in records if EXPERIMENT.fullmatch(name) and other.endswith(suffix))
        return records.get(name) or records.get(next(same, ""))

    def _experiment_files(self, record: ExperimentRecord, name: str) -> list[FileCopy]:
        files: list[FileCopy] = []
        for file in ("log.txt", "experiment.json"):
            path = record.folder / file
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_LOG_BYTES:
                files.append(FileCopy(f"{name}/{file}", path, file_sha256(path), path.stat().st_size))
        return files


def _parents(content: JsonObject) -> tuple[str, ...]:
    return tuple(name for _, name in parent_hashes(content) if HASH.fullmatch(name))


def _different_keys(first: ExperimentRecord, second: ExperimentRecord) -> list[str]:
    """The fields in which two records of the same plan differ, apart from when and from which file it was run."""
    if first.seal == second.seal:
        return []
    names = (item.name for item in fields(ExperimentRecord) if item.name not in NOT_COMPARED)
    return [name for name in names if getattr(first, name) != getattr(second, name)]
