"""Trials as rows and columns: what `list`, `show` and data frames are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.labels import dotted
from fathomlab.store.reading import Store, TrialRecord


def trial_rows(store: Store) -> list[dict[str, Any]]:
    """A row for each trial of the store, as `fathomlab list --json` prints it."""
    experiments = experiments_of(store)
    return [trial_row(store.trial(trial), experiments) for trial in store.trials()]


def experiments_of(store: Store) -> dict[str, list[str]]:
    """Trial hash -> names of the experiments that it belongs to."""
    found: dict[str, list[str]] = {}
    for record in store.experiments():
        for condition in record.conditions:
            for _, trial in condition.trials:
                found.setdefault(trial, []).append(record.name)
    return found


def trial_row(record: TrialRecord, experiments: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One trial: hash, experiments, status, seed, options by dotted key, parameters, metrics."""
    inside = list(experiments.get(record.trial, ()))
    return {
        "trial": record.trial,
        "experiment": inside[0] if inside else None,
        "experiments": inside,
        "status": record.status,
        "seed": record.content.get("seed"),
        "config": dotted(record.content),
        "parameters": record.parameters,
        "metrics": dict(record.metrics),
    }


def columns(store: Store, names: Sequence[str]) -> dict[str, list[Any]]:
    """Plain columns over the named experiments, one row a trial and condition."""
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
