"""The store that a merge copies into, and what the merge did. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from fathomlab.base.files import atomic_write
from fathomlab.store.checksums import file_sha256
from fathomlab.store.maintenance import remove, stale_files
from fathomlab.store.reading import LEFT_OUT, Store
from fathomlab.store.records import TERMINAL_STATUSES, ExperimentRecord, Result
from fathomlab.store.trial_files import TrialFiles

State = Literal["missing", "finished", "unfinished", "damaged"]


@dataclass(frozen=True)
class Conflict:
    """Something that was not copied, because a person must decide.

    Attributes:
        source: The store that contains it.
        path: What it is, below the store.
        code: `result-differs`, `experiment-differs`, `data-differs`, `damaged`, `outdated`, `parent-missing`, `invalid-name`,
            `target-damaged`, or `target-unfinished`.
        reason: The reason in one sentence.
    """

    source: str
    path: str
    code: str
    reason: str


@dataclass(frozen=True)
class Merge:
    """What a merge did, or would do.

    Attributes:
        copied: Hashes of trials that were copied.
        equal: Number of trials that were there with the same outcome.
        completed: Number of trials that were there without their weights, which were added.
        unfinished: Number of trials without an outcome, which are not copied.
        refused: Number of finished trials that were not copied because of a conflict.
        experiments: Names of experiments that were copied.
        equal_experiments: Number of experiments that were there.
        bytes: Size of the copied files.
        conflicts: What was not copied, and why.
    """

    copied: tuple[str, ...] = ()
    equal: int = 0
    completed: int = 0
    unfinished: int = 0
    refused: int = 0
    experiments: tuple[str, ...] = ()
    equal_experiments: int = 0
    bytes: int = 0
    conflicts: tuple[Conflict, ...] = ()

    def __add__(self, other: "Merge") -> "Merge":
        """Both together."""
        return Merge(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})


@dataclass
class Target:
    """The store that receives, as it is after everything that was copied, or would be copied in a dry run.

    Attributes:
        root: Its directory, which need not exist in a dry run.
        dry_run: Change nothing.
        results: Trials that were looked at, or copied: their state, and the result of a finished one.
        shared: Files outside of trials: path below the store to SHA-256.
        experiments: Name to record.
    """

    root: Path
    dry_run: bool = False
    results: dict[str, tuple[State, Result | None]] = field(default_factory=dict[str, tuple[State, Result | None]])
    shared: dict[str, str] = field(default_factory=dict[str, str])
    experiments: dict[str, ExperimentRecord] = field(default_factory=dict[str, ExperimentRecord])

    def __post_init__(self) -> None:
        """Read the records of its experiments, and remove what a killed merge has left."""
        self.experiments = {record.name: record for record in Store(self.root).experiments()}
        if not self.dry_run:
            for path in list(stale_files(self.root)):
                remove(path, "stale temporary file")

    def result(self, trial: str) -> tuple[State, Result | None]:
        """The state of a trial, and its result if it is finished."""
        if trial not in self.results:
            files = TrialFiles(self.root, trial)
            status = files.verified_status()
            state: State = "damaged" if status in ("damaged", "outdated") else "unfinished"
            state = "missing" if status == "waiting" else "finished" if status in TERMINAL_STATUSES else state
            self.results[trial] = (state, files.result if state == "finished" else None)
        return self.results[trial]

    def sha256(self, name: str) -> str:
        """SHA-256 of a file outside of trials; `""` if it is missing."""
        if name not in self.shared:
            path = self.root / name
            self.shared[name] = file_sha256(path) if path.is_file() else ""
        return self.shared[name]

    def add_left_out(self, names: Iterable[str]) -> None:
        """Remember files that a bundle leaves out, so that `store check` does not report them as missing."""
        path = self.root / LEFT_OUT
        before = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        after = sorted({*before, *names})
        if after != before and not self.dry_run:
            atomic_write(path, "".join(f"{name}\n" for name in after))
