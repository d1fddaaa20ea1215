"""Trials as rows and columns, for `list`, `show`, and data frames."""

from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.labels import dotted
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, TrialRecord


def trial_rows(store: Store) -> list[dict[str, Any]]:
    """One row per trial of the store, as `fathomlab list --json` prints it."""
    experiments = experiments_of(store)
    return [trial_row(store.trial(trial), experiments) for trial in store.trials()]


def experiments_of(store: Store) -> dict[str, list[tuple[str, ConditionRecord]]]:
    """Maps each trial hash to the names of its experiments and its condition in each."""
    found: dict[str, list[tuple[str, ConditionRecord]]] = {}
    for record in store.experiments():
        for condition in record.conditions:
            for _, trial in condition.trials:
                found.setdefault(trial, []).append((record.name, condition))
    return found


def trial_row(record: TrialRecord, experiments: Mapping[str, Sequence[tuple[str, ConditionRecord]]]) -> dict[str, Any]:
    """One trial: hash, experiments, condition and role in the first of them, status, seed, options, parameters, metrics."""
    inside = list(experiments.get(record.trial, ()))
    return {
        "trial": record.trial,
        "experiment": inside[0][0] if inside else None,
        "experiments": [name for name, _ in inside],
        "condition": inside[0][1].label if inside else None,
        "role": inside[0][1].role if inside else None,
        "status": record.status,
        "seed": record.content.get("seed"),
        "config": dotted(record.content),
        "parameters": record.parameters,
        "metrics": dict(record.metrics),
    }


def columns(store: Store, names: Sequence[str]) -> dict[str, list[Any]]:
    """Plain columns over the named experiments, one row per trial and condition."""
    rows: list[dict[str, Any]] = []
    for name in names:
        for condition in store.experiment(name).conditions:
            for seed, trial in condition.trials:
                record = store.trial(trial)
                about = {"experiment": name, "condition": condition.label, "role": condition.role, "seed": seed}
                fate = {"trial": trial, "status": record.status, "parameters": record.parameters}
                rows.append({**about, **condition.factors, **fate, "seconds": record.seconds, **record.metrics})
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [row.get(key) for row in rows] for key in keys}
