"""The store as records: reads trial and experiment folders, free of torch, and isolates whatever is damaged."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from fathomlab.base.identity import content_hash
from fathomlab.base.problems import UserError, shown, suggestion
from fathomlab.probes.columns import COLUMNS
from fathomlab.store.lock import busy
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord
from fathomlab.store.sealed import seal, unsealed_line

HASH = re.compile(r"[0-9a-f]{64}")
SHORTEST_PREFIX = 4
NEWEST_FORMAT = 2
T = TypeVar("T")


class Store:
    """A folder of trials and experiments, for reading only; no damaged file makes it raise."""

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
            UserError: Fewer than four digits, none or several trials.
        """
        if len(prefix) < SHORTEST_PREFIX:
            raise UserError(f"the trial {shown(prefix)} is too short: give {SHORTEST_PREFIX} or more digits.")
        found = [trial for trial in self.trials() if trial.startswith(prefix.lower())]
        if not found:
            raise UserError(f"no trial begins with {shown(prefix)} in {self.root}.")
        if len(found) > 1:
            raise UserError(f"{len(found)} trials begin with {shown(prefix)}; give more digits.")
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
        return [self.experiment(name) for name in sorted(_folders(self.root / "experiments"))]

    def experiment(self, name: str) -> ExperimentRecord:
        """One experiment.

        Raises:
            UserError: The store has no experiment of this name.
        """
        known = sorted(_folders(self.root / "experiments"))
        if name not in known:
            near = suggestion(name, known) or f" Known: {', '.join(known) or 'none'}."
            raise UserError(f"no experiment {shown(name)} in {self.root}.{near}")
        return _read_experiment(name, self.root / "experiments" / name)


class _Faults:
    """Reads the files of one folder and remembers the first that is damaged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.first: str | None = None

    def report(self, text: str) -> None:
        self.first = self.first or text

    def text(self, name: str, errors: str = "strict") -> str | None:
        try:
            return (self.folder / name).read_bytes().decode(errors=errors)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.report(f"{name} cannot be read ({type(error).__name__})")
            return None

    def mapping(self, name: str, required: bool) -> dict[str, Any] | None:
        text = self.text(name)
        if text is None:
            return self.report(f"{name} is missing") if required else None
        value = _json(text)
        if not isinstance(value, dict):
            self.report(f"{name} is empty" if not text.strip() else f"{name} is not valid JSON")
            return None
        about = cast(dict[str, Any], value)
        if (_whole(about.get("format")) or 1) > NEWEST_FORMAT:
            self.report(
                f"{name} was written by a newer fathomlab (store format {about['format']}; this one reads up to "
                f"{NEWEST_FORMAT}): upgrade fathomlab"
            )
        elif "seal" in about and about["seal"] != _hashed(seal, about):
            self.report(f"{name} is not what was written (its seal does not fit)")
        return about

    def lines(self, name: str, sealed: bool) -> list[dict[str, Any]]:
        """The records of a log; a last line that was torn while being written is dropped.

        `sealed`: each line carries its checksum, as all but the first release have written them.
        """
        texts = (self.text(name, "replace") or "").split("\n")
        found: list[dict[str, Any]] = []
        for place, text in enumerate(texts, start=1):
            value = unsealed_line(text) if sealed else _json(text) if text.strip() else None
            if isinstance(value, dict):
                found.append(cast(dict[str, Any], value))
            elif text.strip() and place < len(texts):
                self.report(f"{name}, line {place} is damaged")
        return found

    def verify(self, files: Mapping[str, Any]) -> None:
        """Compare the small files with the hashes in the result; weights are verified when they are loaded."""
        for name, about in files.items():
            if name.endswith((".safetensors", ".bin")) or not isinstance(about, dict):
                continue
            path = self.folder / name
            try:
                same = hashlib.sha256(path.read_bytes()).hexdigest() == cast(dict[str, Any], about).get("sha256")
            except OSError:
                self.report(f"{name} is missing")
                continue
            if not same:
                self.report(f"{name} is not what was written (its SHA-256 differs)")


def _read_trial(trial: str, folder: Path) -> TrialRecord:
    faults = _Faults(folder)
    about = faults.mapping("trial.json", required=True) or {}
    if about and about.get("trial") != trial:
        faults.report("trial.json belongs to another trial")
    sealed = (_whole(about.get("format")) or 1) > 1
    if sealed and _hashed(content_hash, _mapping(about.get("content"))) != trial:
        faults.report("trial.json is not what was written (its content has another hash)")
    result = faults.mapping("result.json", required=False)
    if result is not None and result.get("status") not in ("finished", "failed", "diverged"):
        faults.report("result.json has no known status")
    files = _mapping((result or {}).get("files"))
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
        content=_mapping(about.get("content")),
        status=status,
        cause=None if cause is None else str(cause),
        parameters=_whole(result.get("parameters")),
        metrics={name: _number(value) for name, value in _mapping(result.get("metrics")).items()},
        curves={name: [_number(line.get(name)) for line in epochs] for name in names},
        gradients=probes.get("gradients", []),
        provenance=provenance,
        seconds=_number(result.get("seconds")),
        folder=folder,
        probes=probes,
        outcome=_mapping(result.get("outcome")),
        files=files,
    )


def _unread(trial: str, folder: Path, status: str, cause: str | None) -> TrialRecord:
    return TrialRecord(trial, {}, status, cause, None, {}, {}, [], {}, None, folder)


def _is_snapshot(name: str, line: dict[str, Any], faults: _Faults) -> bool:
    """Whether a snapshot is whole: lists that belong together agree; numbers that are none become None in place."""
    for numbers, labels in COLUMNS.get(name.removesuffix(".jsonl"), {}).items():
        if labels is None:
            line[numbers] = _number(line.get(numbers))
            continue
        if not isinstance(line.get(labels), list) or not isinstance(line.get(numbers), list):
            faults.report(f"{name}: a snapshot lacks {labels} or {numbers}")
            return False
        line[labels] = [str(label) for label in line[labels]]
        line[numbers] = [_number(value) for value in line[numbers]]
        if len(line[labels]) != len(line[numbers]):
            faults.report(f"{name}: {labels} and {numbers} differ in length")
            return False
    line["step"], line["epoch"] = _whole(line.get("step")) or 0, _whole(line.get("epoch")) or 0
    return True


def _read_experiment(name: str, folder: Path) -> ExperimentRecord:
    faults = _Faults(folder)
    about = faults.mapping("experiment.json", required=True) or {}
    return ExperimentRecord(
        name=name,
        folder=folder,
        cause=faults.first,
        title=str(about.get("title") or name),
        source=str(about.get("source") or ""),
        yaml=str(about.get("yaml") or ""),
        overrides=tuple(str(text) for text in _list(about.get("overrides"))),
        quick=about.get("quick") is True,
        resolved=_mapping(about.get("resolved")),
        factors=tuple(str(key) for key in _list(about.get("factors"))),
        headline="best" if about.get("headline") == "best" else "last",
        seeds=_each(about.get("seeds"), _whole),
        logging=_mapping(about.get("logging")),
        conditions=_each(about.get("conditions"), _condition),
        claims=tuple(_list(about.get("claims"))),
        claims_hash=str(about.get("claims_hash") or ""),
        claims_late=about.get("claims_late") is True,
        created=str(about.get("created") or ""),
        seconds=_number(about.get("seconds")),
        verdicts=tuple(_mapping(verdict) for verdict in _list(about.get("verdicts"))),
        looks=tuple(_mapping(look) for look in _list(about.get("looks"))),
    )


def _condition(value: Any) -> ConditionRecord:
    about = _mapping(value)
    pairs = [_mapping(pair) for pair in _list(about.get("trials"))]
    return ConditionRecord(
        label=str(about.get("label") or ""),
        role=str(about.get("role") or "supervised"),
        factors=_mapping(about.get("factors")),
        depth=_whole(about.get("depth")),
        trials=tuple((_whole(pair.get("seed")) or 0, str(pair.get("trial"))) for pair in pairs),
    )


def _each(value: Any, read: Callable[[Any], T | None]) -> tuple[T, ...]:
    return tuple(made for item in _list(value) if (made := read(item)) is not None)


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]


def _hashed(hash_of: Callable[[Any], str], value: Any) -> str | None:
    """The hash of a parsed value; None where it holds what is never written (1e999, nesting without end)."""
    try:
        return hash_of(value)
    except (ValueError, RecursionError):
        return None


def _json(text: str) -> Any:
    """A parsed text, None if it is not JSON; the words that JSON lacks (NaN, Infinity) become None."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
