"""The store as records: reads trial and experiment folders, free of torch, and isolates whatever is damaged."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from fathomlab.base.problems import UserError, shown, suggestion

HASH = re.compile(r"[0-9a-f]{64}")
SHORTEST_PREFIX = 4
T = TypeVar("T")


@dataclass(frozen=True)
class TrialRecord:
    """All that is known of one trial.

    Attributes:
        trial: The 64 digits of its hash.
        content: Its resolved options, nested; `{}` if damaged.
        status: finished, failed, diverged, running (no result yet), waiting (no folder yet) or damaged.
        cause: Why it did not finish, or which file is damaged; None if all is well.
        metrics: The numbers of the result; accuracies are fractions, losses nats.
        curves: Name of a metric to its value at each epoch, None where not finite; "epoch" and "step" among them.
        gradients: A mapping for each snapshot, in order.
        provenance: Versions, hardware, commit, data; `{}` while not known.
    """

    trial: str
    content: Mapping[str, Any]
    status: str
    cause: str | None
    parameters: int | None
    metrics: Mapping[str, float | None]
    curves: Mapping[str, list[float | None]]
    gradients: list[dict[str, Any]]
    provenance: Mapping[str, Any]
    seconds: float | None
    folder: Path


@dataclass(frozen=True)
class ConditionRecord:
    """One level of each factor, and its trials as (seed, hash)."""

    label: str
    role: str
    factors: Mapping[str, Any]
    depth: int | None
    trials: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment as its folder tells it; `cause` names what is damaged, None if nothing."""

    name: str
    folder: Path
    cause: str | None = None
    title: str = ""
    source: str = ""
    yaml: str = ""
    overrides: tuple[str, ...] = ()
    quick: bool = False
    resolved: Mapping[str, Any] = field(default_factory=dict[str, Any])
    factors: tuple[str, ...] = ()
    headline: str = "last"
    seeds: tuple[int, ...] = ()
    logging: Mapping[str, Any] = field(default_factory=dict[str, Any])
    conditions: tuple[ConditionRecord, ...] = ()
    claims: tuple[Any, ...] = ()
    claims_hash: str = ""
    claims_late: bool = False
    created: str = ""
    seconds: float | None = None
    verdicts: tuple[Mapping[str, Any], ...] = ()


class Store:
    """A folder of trials and experiments, for reading only; no damaged file makes it raise."""

    def __init__(self, root: Path):
        """Read below `root`, which need not exist."""
        self.root = root

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
        if not folder.is_dir():
            return _unread(trial, folder, "waiting", None)
        return _read_trial(trial, folder)

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
        return cast(dict[str, Any], value)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a file of lines; a last line that was torn while being written is dropped."""
        texts = (self.text(name, "replace") or "").split("\n")
        found: list[dict[str, Any]] = []
        for place, text in enumerate(texts, start=1):
            value = _json(text) if text.strip() else None
            if isinstance(value, dict):
                found.append(cast(dict[str, Any], value))
            elif text.strip() and place < len(texts):
                self.report(f"{name}, line {place} is not valid JSON")
        return found


def _read_trial(trial: str, folder: Path) -> TrialRecord:
    faults = _Faults(folder)
    about = faults.mapping("trial.json", required=True) or {}
    if about and about.get("trial") != trial:
        faults.report("trial.json belongs to another trial")
    result = faults.mapping("result.json", required=False)
    if result is not None and result.get("status") not in ("finished", "failed", "diverged"):
        faults.report("result.json has no known status")
    epochs = faults.lines("metrics.jsonl")
    names = dict.fromkeys(name for line in epochs for name in line)
    gradients = [line for line in faults.lines("gradients.jsonl") if _is_snapshot(line, faults)]
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
        gradients=gradients,
        provenance=provenance,
        seconds=_number(result.get("seconds")),
        folder=folder,
    )


def _unread(trial: str, folder: Path, status: str, cause: str | None) -> TrialRecord:
    return TrialRecord(trial, {}, status, cause, None, {}, {}, [], {}, None, folder)


def _is_snapshot(line: dict[str, Any], faults: _Faults) -> bool:
    """Whether the lists of a snapshot belong together; numbers that are none become None in place."""
    for names, norms in (("layers", "weight"), ("points", "activation")):
        if not isinstance(line.get(names), list) or not isinstance(line.get(norms), list):
            faults.report(f"gradients.jsonl: a snapshot lacks {names} or {norms}")
            return False
        line[names] = [str(name) for name in line[names]]
        line[norms] = [_number(value) for value in line[norms]]
        if len(line[names]) != len(line[norms]):
            faults.report(f"gradients.jsonl: {names} and {norms} differ in length")
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
