"""The options of a stored trial as typed values. A corrupted record, or one of another version, may lack any of them."""

import json
from collections.abc import Mapping
from functools import lru_cache

from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import flatten_keys
from fathomlab.plan import sections
from fathomlab.store.records import TrialRecord
from fathomlab.store.validation import as_number


def options(trial: TrialRecord) -> Mapping[str, object]:
    """All options by dotted key; empty if they are nested too deeply to be those of a trial."""
    try:
        return flatten_keys(trial.content) if trial.content else {}
    except RecursionError:
        return {}


def option(trial: TrialRecord, key: str) -> object:
    """The option at a dotted key; None if there is none."""
    value: object = trial.content
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(trial: TrialRecord, key: str) -> float | None:
    """The option at a dotted key if it is a finite number."""
    return as_number(option(trial, key))


def network(trial: TrialRecord) -> sections.Network | None:
    """The model; None if it is not one of this version."""
    model = option(trial, "model")
    try:
        return _network(canonical_json(model)) if isinstance(model, Mapping) else None
    except (ValueError, RecursionError):  # what is never written: 1e999, endless nesting
        return None


def total_parameters(trial: TrialRecord) -> int | None:
    """Number of parameters, including frozen ones; None if unknown, such as for a plugin's module with frozen parameters."""
    if not option(trial, "training.frozen"):
        return trial.parameters
    model, info = network(trial), trial.dataset
    return model.architecture(info).num_params if model is not None and info is not None else None


@lru_cache(maxsize=512)
def _network(model: str) -> sections.Network | None:
    return sections.network(json.loads(model), "model", [], {})
