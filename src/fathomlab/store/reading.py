"""The store as records: reads trial and experiment directories, free of torch, and isolates corrupted ones."""

import os
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError, did_you_mean, format_value
from fathomlab.data.table import DatasetInfo
from fathomlab.probes import PROBES
from fathomlab.probes.columns import NAMES, ProbeDescription
from fathomlab.store.datasets import dataset_info
from fathomlab.store.lease_files import is_training
from fathomlab.store.lock import is_locked
from fathomlab.store.records import (
    ExperimentRecord,
    Number,
    Outcome,
    ProbeSnapshot,
    TrialRecord,
)
from fathomlab.store.trial_files import HASH, TrialFiles
from fathomlab.store.validation import FolderValidator, as_int, as_number

EXPERIMENT = re.compile(r"[a-z0-9_-]+-[0-9a-f]{8}")
SHORTEST_PREFIX = 4
LEFT_OUT = "left-out.txt"  # of a bundle: what it leaves out on purpose, one path per line


class Store:
    """A directory of trials and experiments, for reading only; no corrupted file makes it raise.

    Lists of trials and experiments raise `UserError` if the directory cannot be read.
    """

    def __init__(self, root: Path):
        """Read below `root`, which need not exist."""
        self.root = root
        self._datasets: dict[str, DatasetInfo | None] = {}

    @cached_property
    def locked(self) -> bool:
        """Whether some process was training into this store when this was first needed."""
        return is_locked(self.root) or is_training(self.root)

    @cached_property
    def _left_out(self) -> frozenset[str]:
        path = self.root / LEFT_OUT
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() and not path.is_symlink() else ""
        return frozenset(text.splitlines())

    def is_left_out(self, path: Path) -> bool:
        """Whether a file is missing because a bundle leaves it out on purpose."""
        return path.relative_to(self.root).as_posix() in self._left_out and not path.exists()

    def trials(self) -> list[str]:
        """The hashes of all trial directories, sorted; links and foreign names are left out."""
        return sorted(name for name in _directories(self.root / "trials") if HASH.fullmatch(name))

    def find(self, prefix: str) -> str:
        """The one trial whose hash begins with `prefix`.

        Raises:
            UserError: If the prefix has fewer than four characters, or matches no trial or several.
        """
        if len(prefix) < SHORTEST_PREFIX:
            raise UserError(
                "invalid-trial-prefix",
                f"the trial {format_value(prefix)} is too short: give {SHORTEST_PREFIX} or more digits of its hash, "
                "as fathomlab list EXPERIMENT prints it.",
            )
        matches = [trial for trial in self.trials() if trial.startswith(prefix.lower())]
        if not matches:
            text = f"no trial begins with {format_value(prefix)} in {self.root}. List trials with: fathomlab list EXPERIMENT"
            raise UserError("no-such-trial", text)
        if len(matches) > 1:
            raise UserError(
                "ambiguous-trial", f"{len(matches)} trials begin with {format_value(prefix)}; give more digits."
            )
        return matches[0]

    def trial(self, trial: str) -> TrialRecord:
        """The record of one trial, whatever state its files are in. Weights and predictions are not read."""
        files = TrialFiles(self.root, trial)
        curves = [line for name in files.logs if name == "metrics.jsonl" for line in files.lines(name)]
        columns = dict.fromkeys(name for line in curves for name in line)
        names = [name.removesuffix(".jsonl") for name in files.logs if name != "metrics.jsonl"]
        described = {name: probe for name in names if (probe := _description(name, files)) is not None}
        probes = {
            name: tuple(
                snapshot
                for line in files.lines(f"{name}.jsonl")
                if (snapshot := _snapshot(f"{name}.jsonl", line, described.get(name), files)) is not None
            )
            for name in names
        }
        result, status = files.result, files.status
        return TrialRecord(
            trial=trial,
            content=files.content,
            status="interrupted" if status == "running" and not self.locked else status,
            cause=files.cause,
            parameters=result.parameters if result else None,
            metrics=result.metrics if result else {},
            curves={name: [as_number(line.get(name)) for line in curves] for name in columns},
            provenance=files.provenance,
            seconds=result.seconds if result else None,
            folder=files.folder,
            probes=probes,
            outcome=result.outcome if result else Outcome(),
            files=result.files if result else {},
            labels=result.labels if result else None,
            descriptions=described,
            dataset=self._dataset(files.content),
            speed=result.speed if result else None,
            table_seconds=result.table_seconds if result else None,
        )

    def _dataset(self, content: JsonObject) -> DatasetInfo | None:
        """Facts about the dataset of a trial, read once per dataset and set of plugins."""
        data, plugins = content.get("data"), content.get("plugins")
        options: JsonObject = cast(JsonObject, data) if isinstance(data, dict) else {}
        try:
            key = repr([*(options.get(name) for name in ("name", "params", "sha256")), plugins])
        except RecursionError:  # endless nesting, which is never written
            return None
        if key not in self._datasets:
            self._datasets[key] = dataset_info(self.root, content)
        return self._datasets[key]

    def experiments(self) -> list[ExperimentRecord]:
        """All experiments, sorted by name."""
        return [_read_experiment(self.root / "experiments" / name) for name in self.experiment_names()]

    def experiment_names(self) -> list[str]:
        """The directories of experiments, sorted. Directories of other programs are ignored."""
        folder = self.root / "experiments"
        return sorted(name for name in _directories(folder) if _is_experiment(folder / name))

    def experiment(self, name: str) -> ExperimentRecord:
        """One experiment.

        Raises:
            UserError: If the store has no experiment of this name.
        """
        available = self.experiment_names()
        if name not in available:
            hint = did_you_mean(name, available) or f" Known: {', '.join(available) or 'none'}."
            raise UserError("no-such-experiment", f"no experiment {format_value(name)} in {self.root}.{hint}")
        return _read_experiment(self.root / "experiments" / name)

    def readable(self, name: str) -> ExperimentRecord:
        """The record of one experiment.

        Raises:
            UserError: If the store has no experiment of this name, or its record is corrupted or has another format.
        """
        record = self.experiment(name)
        if record.outdated:
            raise UserError("outdated-record", f"{record.folder}: {record.cause}.")
        if record.cause is not None:
            lost = record.corrupted or not os.path.lexists(record.folder / "experiment.json")
            remedy = " Restore the file, or run the experiment again: its trials are kept." if lost else ""
            raise UserError("damaged-record", f"{record.folder}: {record.cause}.{remedy}")
        return record


def _description(name: str, files: TrialFiles) -> ProbeDescription | None:
    """What is known of a probe: what this version declares, or what the trial's directory contains."""
    if name in PROBES:
        return ProbeDescription(PROBES[name].title, PROBES[name].note, PROBES[name].columns)
    return files.descriptions.get(name) if name.isidentifier() else None


def _snapshot(
    name: str, line: JsonObject, probe: ProbeDescription | None, files: FolderValidator
) -> ProbeSnapshot | None:
    """A line of a probe's log; None if lists that belong together differ in length, which is a problem.

    Values that are not numbers become None. Of a probe that is not known, only step and epoch are read.
    """
    names: dict[str, tuple[str, ...]] = {}
    columns: dict[str, tuple[Number | None, ...]] = {}
    for column, declared in probe.columns.items() if probe is not None else ():
        if declared.axis == "replica":
            columns[column] = (as_number(line.get(column)),)
            continue
        labels, values = line.get(NAMES[declared.axis]), line.get(column)
        if not isinstance(labels, list) or not isinstance(values, list):
            return files.report(f"{name}: a snapshot lacks {NAMES[declared.axis]} or {column}")
        names[declared.axis] = tuple(map(str, cast(list[Any], labels)))
        columns[column] = tuple(map(as_number, cast(list[Any], values)))
        if len(names[declared.axis]) != len(columns[column]):
            return files.report(f"{name}: {NAMES[declared.axis]} and {column} differ in length")
    step, epoch, dtype = as_int(line.get("step")), as_int(line.get("epoch")), line.get("dtype")
    return ProbeSnapshot(step or 0, epoch or 0, names, columns, dtype if isinstance(dtype, str) else "")


def _read_experiment(folder: Path) -> ExperimentRecord:
    files = FolderValidator(folder)
    document = files.document("experiment.json", required=True) or {}
    if files.outdated:
        return ExperimentRecord(folder.name, folder, files.first_error, outdated=True)
    # the directory decides
    document = {**document, "name": "", "folder": "", "cause": None, "outdated": False, "corrupted": False}
    record = files.typed("experiment.json", ExperimentRecord, document) or ExperimentRecord(folder.name, folder)
    return replace(record, name=folder.name, folder=folder, cause=files.first_error, corrupted=files.corrupted)


def _is_experiment(folder: Path) -> bool:
    """Whether a directory has an experiment's record, or has lost it, as its name shows."""
    if folder.name.startswith("."):
        return False
    return os.path.exists(folder / "experiment.json") or EXPERIMENT.fullmatch(folder.name) is not None


def _directories(folder: Path) -> list[str]:
    if not os.path.isdir(folder):  # also False for a name that no directory can have
        return []
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        text = f"{folder}: cannot be read: {error.strerror or error}. Make it readable."
        raise UserError("unreadable-store", text) from None
