"""The store as records: reads trial and experiment folders, free of torch, and isolates whatever is damaged."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fathomlab.base.identity import content_hash
from fathomlab.base.problems import UserError, shown, suggestion
from fathomlab.probes import PROBES
from fathomlab.store.damage import Faults, as_list, as_mapping, as_number, as_whole, hashed
from fathomlab.store.lock import busy
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

HASH = re.compile(r"[0-9a-f]{64}")
EXPERIMENT = re.compile(r"[a-z0-9_-]+-[0-9a-f]{8}")
SHORTEST_PREFIX = 4
T = TypeVar("T")


class Store:
    """A directory of trials and experiments, for reading only; no corrupted file makes it raise."""

    def __init__(self, root: Path):
        """Read below `root`, which need not exist."""
        self.root = root

    @cached_property
    def busy(self) -> bool:
        """Whether some process was training into this store when it was first asked."""
        return busy(self.root)

    def trials(self) -> list[str]:
        """The hashes of all trial folders, sorted; links and foreign names are left out."""
        return sorted(name for name in _folders(self.root / "trials") if HASH.fullmatch(name))

    def find(self, prefix: str) -> str:
        """The one trial whose hash begins with `prefix`.

        Raises:
            UserError: If the prefix has fewer than four characters, or matches no trial or several.
        """
        if len(prefix) < SHORTEST_PREFIX:
            raise UserError(
                "invalid-trial-prefix",
                f"the trial {shown(prefix)} is too short: give {SHORTEST_PREFIX} or more digits.",
            )
        found = [trial for trial in self.trials() if trial.startswith(prefix.lower())]
        if not found:
            raise UserError("no-such-trial", f"no trial begins with {shown(prefix)} in {self.root}.")
        if len(found) > 1:
            raise UserError("ambiguous-trial", f"{len(found)} trials begin with {shown(prefix)}; give more digits.")
        return found[0]

    def trial(self, trial: str) -> TrialRecord:
        """The record of one trial, whatever state its files are in."""
        folder = self.root / "trials" / trial
        if not HASH.fullmatch(trial):
            return _unread(trial, self.root / "trials", "damaged", f"not the hash of a trial: {shown(trial)}")
        if folder.is_symlink():
            return _unread(trial, folder, "damaged", "the folder of the trial is a link")
        if not folder.is_dir() or all(name.startswith(".") for name in os.listdir(folder)):
            return _unread(trial, folder, "waiting", None)
        record = _read_trial(trial, folder)
        return replace(record, status="interrupted") if record.status == "running" and not self.busy else record

    def experiments(self) -> list[ExperimentRecord]:
        """All experiments, sorted by name."""
        return [self.experiment(name) for name in self.experiment_names()]

    def experiment_names(self) -> list[str]:
        """The directories of experiments, sorted. Directories of other programs are ignored."""
        folder = self.root / "experiments"
        return sorted(name for name in _folders(folder) if _is_experiment(folder / name))

    def experiment(self, name: str) -> ExperimentRecord:
        """One experiment.

        Raises:
            UserError: The store has no experiment of this name.
        """
        known = self.experiment_names()
        if name not in known:
            near = suggestion(name, known) or f" Known: {', '.join(known) or 'none'}."
            raise UserError("no-such-experiment", f"no experiment {shown(name)} in {self.root}.{near}")
        return _read_experiment(name, self.root / "experiments" / name)


def _read_trial(trial: str, folder: Path) -> TrialRecord:
    faults = Faults(folder)
    about = faults.mapping("trial.json", required=True) or {}
    if about and about.get("trial") != trial:
        faults.report("trial.json belongs to another trial")
    sealed = (as_whole(about.get("format")) or 1) > 1
    if sealed and hashed(content_hash, as_mapping(about.get("content"))) != trial:
        faults.report("trial.json is not what was written (its content has another hash)")
    result = faults.mapping("result.json", required=False)
    if result is not None and result.get("status") not in ("finished", "failed", "diverged"):
        faults.report("result.json has no known status")
    files = as_mapping((result or {}).get("files"))
    faults.verify(files)
    epochs = faults.lines("metrics.jsonl", sealed)
    names = dict.fromkeys(name for line in epochs for name in line)
    probes = {
        path.stem: [line for line in faults.lines(path.name, sealed) if _is_snapshot(path.name, line, faults)]
        for path in sorted(folder.glob("*.jsonl"))
        if path.name != "metrics.jsonl"
    }
    provenance = faults.mapping("provenance.json", required=result is not None) or {}
    result = result or {}
    status, cause = str(result.get("status", "running")), result.get("cause")
    if faults.first is not None:
        status, cause = "damaged", faults.first
    return TrialRecord(
        trial=trial,
        content=as_mapping(about.get("content")),
        status=status,
        cause=None if cause is None else str(cause),
        parameters=as_whole(result.get("parameters")),
        metrics={name: as_number(value) for name, value in as_mapping(result.get("metrics")).items()},
        curves={name: [as_number(line.get(name)) for line in epochs] for name in names},
        gradients=probes.get("gradients", []),
        provenance=provenance,
        seconds=as_number(result.get("seconds")),
        folder=folder,
        probes=probes,
        outcome=as_mapping(result.get("outcome")),
        files=files,
    )


def _unread(trial: str, folder: Path, status: str, cause: str | None) -> TrialRecord:
    return TrialRecord(trial, {}, status, cause, None, {}, {}, [], {}, None, folder)


def _is_snapshot(name: str, line: dict[str, Any], faults: Faults) -> bool:
    """Whether a snapshot is whole: lists that belong together agree; numbers that are none become None in place."""
    for numbers, labels in getattr(PROBES.get(name.removesuffix(".jsonl")), "columns", {}).items():
        if labels is None:
            line[numbers] = as_number(line.get(numbers))
            continue
        if not isinstance(line.get(labels), list) or not isinstance(line.get(numbers), list):
            faults.report(f"{name}: a snapshot lacks {labels} or {numbers}")
            return False
        line[labels] = [str(label) for label in line[labels]]
        line[numbers] = [as_number(value) for value in line[numbers]]
        if len(line[labels]) != len(line[numbers]):
            faults.report(f"{name}: {labels} and {numbers} differ in length")
            return False
    line["step"], line["epoch"] = as_whole(line.get("step")) or 0, as_whole(line.get("epoch")) or 0
    return True


def _read_experiment(name: str, folder: Path) -> ExperimentRecord:
    faults = Faults(folder)
    about = faults.mapping("experiment.json", required=True) or {}
    return ExperimentRecord(
        name=name,
        folder=folder,
        cause=faults.first,
        title=str(about.get("title") or name),
        question=str(about.get("question") or ""),
        source=str(about.get("source") or ""),
        yaml=str(about.get("yaml") or ""),
        overrides=tuple(str(text) for text in as_list(about.get("overrides"))),
        quick=about.get("quick") is True,
        resolved=as_mapping(about.get("resolved")),
        factors=tuple(str(key) for key in as_list(about.get("factors"))),
        headline="best" if about.get("headline") == "best" else "last",
        seeds=_each(about.get("seeds"), as_whole),
        logging=as_mapping(about.get("logging")),
        conditions=_each(about.get("conditions"), _condition),
        claims=tuple(as_list(about.get("claims"))),
        claims_hash=str(about.get("claims_hash") or ""),
        claims_late=about.get("claims_late") is True,
        created=str(about.get("created") or ""),
        seconds=as_number(about.get("seconds")),
        verdicts=tuple(as_mapping(verdict) for verdict in as_list(about.get("verdicts"))),
        looks=tuple(as_mapping(look) for look in as_list(about.get("looks"))),
    )


def _condition(value: Any) -> ConditionRecord:
    about = as_mapping(value)
    pairs = [as_mapping(pair) for pair in as_list(about.get("trials"))]
    return ConditionRecord(
        label=str(about.get("label") or ""),
        role=str(about.get("role") or "supervised"),
        factors=as_mapping(about.get("factors")),
        depth=as_whole(about.get("depth")),
        trials=tuple((as_whole(pair.get("seed")) or 0, str(pair.get("trial"))) for pair in pairs),
    )


def _each(value: Any, read: Callable[[Any], T | None]) -> tuple[T, ...]:
    return tuple(made for item in as_list(value) if (made := read(item)) is not None)


def _is_experiment(folder: Path) -> bool:
    """Whether a directory holds a record, or has lost it: then its name or its page shows what it was."""
    if folder.name.startswith("."):
        return False
    return (folder / "experiment.json").exists() or EXPERIMENT.fullmatch(folder.name) is not None


def _folders(folder: Path) -> list[str]:
    if not os.path.isdir(folder):  # False too for a name that no folder can have
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
