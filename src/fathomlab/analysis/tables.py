"""Trials as rows and columns, for `list`, `show`, and data frames."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.base.codec import JsonObject
from fathomlab.base.labels import flatten_keys
from fathomlab.probes import PROBES
from fathomlab.probes.columns import NAMES, ProbeDescription
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, Number, ProbeSnapshot, TrialRecord
from fathomlab.store.trial_files import trial_status

OUTCOME = (
    "calibration_error",
    "brier",
    "temperature",
    "scaled_loss",
    "scaled_calibration_error",
    "scaled_brier",
    "agreement",
    "teacher_kl",
    "softened_kl",
)
SPEED = ("p50_seconds", "p95_seconds", "images_per_second", "batch")

Memberships = Mapping[str, Sequence[tuple[str, ConditionRecord]]]  # by trial hash


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment as `fathomlab list` shows it: its record, and its number of trials by status, the most frequent first."""

    record: ExperimentRecord
    statuses: Mapping[str, int]


def experiment_rows(store: Store, tag: str | None = None) -> list[ExperimentRow]:
    """The experiments of a store, or those with a tag. The one that was first run last is at the end."""
    chosen = sorted(_tagged(store, tag), key=lambda record: (record.created, record.name))
    return [ExperimentRow(record, dict(Counter(_statuses(store, record)).most_common())) for record in chosen]


def _tagged(store: Store, tag: str | None) -> list[ExperimentRecord]:
    return [record for record in store.experiments() if tag is None or tag in record.tags]


def _statuses(store: Store, record: ExperimentRecord) -> Iterable[str]:
    for trial in dict.fromkeys(pair.trial for condition in record.conditions for pair in condition.trials):
        status = trial_status(store.root, trial)
        yield "interrupted" if status == "running" and not store.locked else status


def trial_rows(
    store: Store, experiment: str | None = None, statuses: Sequence[str] = (), tag: str | None = None
) -> list[JsonObject]:
    """One row per trial, as `fathomlab list --json` prints it. Planned trials without files have the status `waiting`.

    They are sorted by the date of the experiment's first run, by condition in the order of the plan, and by seed. Trials of no
    experiment are last.

    Args:
        store: The store.
        experiment: The name of an experiment, to list only its trials, with their conditions in it.
        statuses: List only trials with one of these statuses.
        tag: List only trials of experiments with this tag.
    """
    members, stored = experiments_of(store, first=experiment), set(store.trials())
    dates = {record.name: record.created for record in _tagged(store, tag)}
    if experiment is not None:
        members = {trial: found for trial, found in members.items() if found[0][0] == experiment}
    if tag is not None:
        members = {
            trial: sorted(found, key=lambda item: item[0] not in dates)  # shown in an experiment with the tag
            for trial, found in members.items()
            if any(name in dates for name, _ in found)
        }
    others = sorted(stored - members.keys()) if experiment is None and tag is None else []
    ordered = sorted(members, key=lambda trial: (dates.get(members[trial][0][0], ""), members[trial][0][0]))
    rows = [trial_row(store.trial(trial), members) for trial in [*ordered, *others]]
    return [row for row in rows if not statuses or row["status"] in statuses]


def experiments_of(store: Store, first: str | None = None) -> Memberships:
    """Maps each trial hash to the names of its experiments and its condition in each, beginning with the experiment `first`.

    The order is that of experiments, conditions, and seeds.
    """
    memberships: dict[str, list[tuple[str, ConditionRecord]]] = {}
    for record in sorted(store.experiments(), key=lambda record: record.name != first):
        for condition in record.conditions:
            for pair in condition.trials:
                memberships.setdefault(pair.trial, []).append((record.name, condition))
    return memberships


def trial_row(record: TrialRecord, experiments: Memberships) -> JsonObject:
    """One trial: hash, experiments, condition and role in the first of them, status, seed, options, parameters, metrics."""
    memberships = experiments.get(record.trial, ())
    name, condition = memberships[0] if memberships else (None, None)
    return {
        "trial": record.trial,
        "experiment": name,
        "experiments": [name for name, _ in memberships],
        "condition": condition.label if condition else None,
        "role": condition.role if condition else None,
        "status": record.status,
        "seed": record.content.get("seed") if record.content else _planned_seed(record.trial, condition),
        "config": flatten_keys(record.content),
        "parameters": record.parameters,
        "metrics": dict(record.metrics),
    }


def _planned_seed(trial: str, condition: ConditionRecord | None) -> int | None:
    return next((pair.seed for pair in condition.trials if pair.trial == trial), None) if condition else None


def measured_numbers(record: TrialRecord) -> dict[str, Number | None]:
    """Every single number of `outcome` and `speed`, and the time of the teacher's outputs, by name; None if not measured."""
    speed = record.speed
    return {
        **{name: getattr(record.outcome, name) for name in OUTCOME},
        **{name: speed and getattr(speed, name) for name in SPEED},
        "table_seconds": record.table_seconds,
    }


def snapshot_row(probe: str, snapshot: ProbeSnapshot, description: ProbeDescription | None = None) -> JsonObject:
    """A snapshot of a probe with the keys of its log: step, epoch, number format, names of the entries, and columns.

    `description` is that of the trial's record; None for a built-in probe.
    """
    declared = description.columns if description else PROBES[probe].columns
    return {
        "step": snapshot.step,
        "epoch": snapshot.epoch,
        **({"dtype": snapshot.dtype} if snapshot.dtype else {}),
        **{NAMES[axis]: names for axis, names in snapshot.names.items()},
        **{
            name: numbers if declared[name].axis != "replica" else numbers[0]
            for name, numbers in snapshot.columns.items()
        },
    }


def trial_columns(
    trials: Iterable[tuple[str, ConditionRecord, int | None, TrialRecord]],
) -> dict[str, list[Any]]:
    """Plain columns of trials: the name of the experiment, condition, role, seed, factors, hash, status, and metrics."""
    rows: list[JsonObject] = [
        {
            "experiment": experiment,
            "condition": condition.label,
            "role": condition.role,
            "seed": seed,
            **condition.factors,
            "trial": record.trial,
            "status": record.status,
            "parameters": record.parameters,
            "seconds": record.seconds,
            **record.metrics,
        }
        for experiment, condition, seed, record in trials
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [row.get(key) for row in rows] for key in keys}
