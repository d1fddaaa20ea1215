"""Chooses trials by condition: the names and levels that `filter` accepts."""

from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.api.trials import StoredTrial
from fathomlab.base.errors import UserError, did_you_mean, format_value, unknown_name
from fathomlab.base.labels import shortest_unique_suffixes
from fathomlab.store.records import STATUSES

FIELDS = ("condition", "role", "seed", "status")


def select(
    chosen: Sequence[StoredTrial], every: Sequence[StoredTrial], levels: Mapping[str, Any]
) -> tuple[StoredTrial, ...]:
    """The trials that have a requested level of each factor or field.

    Args:
        chosen: The trials to choose from.
        every: All trials of the experiment or store, whose names and levels are known.
        levels: Name of a factor or field to a level, or to a list, tuple, set, or range of levels.

    Raises:
        UserError: If a name is unknown or ambiguous, or no trial of `every` has one of the levels.
    """
    factors = {key: None for trial in every for key in trial.factors}
    for name, wanted in levels.items():
        key = _key(name, list(factors))
        present = [value for trial in every for value in _level(trial, key)]
        wanted = _alternatives(wanted, present)
        for level in wanted:
            _check(name, level, present)
        chosen = [trial for trial in chosen if any(value in wanted for value in _level(trial, key))]
    return tuple(chosen)


def _key(name: str, factors: Sequence[str]) -> str:
    """The field or the factor of a name."""
    if name in FIELDS or name in factors:
        return name
    matches = [key for key in factors if key.endswith(f".{name}")]
    short = list(shortest_unique_suffixes(factors).values())
    if len(matches) == 1:
        return matches[0]
    if matches:
        text = f"filter: {format_value(name)} is ambiguous: {', '.join(matches)}. Use the full key: filter({{KEY: LEVEL}})."
        raise UserError("ambiguous-name", text)
    known = [*short, *FIELDS]
    hint = did_you_mean(name, [*known, *factors]) or f" Known: {', '.join(known)}."
    raise UserError("unknown-name", f"filter: no factor or field {format_value(name)}.{hint}")


def _level(trial: StoredTrial, key: str) -> list[Any]:
    """The value of a field, or the level of a factor; empty if the trial does not have the factor."""
    if key in FIELDS:
        return [getattr(trial, key)]
    return [_plain(trial.factors[key])] if key in trial.factors else []


def _alternatives(wanted: Any, present: Sequence[Any]) -> list[Any]:
    """The requested levels. A list that is itself a level is one level."""
    if _plain(wanted) in present or not isinstance(wanted, list | tuple | set | frozenset | range):
        return [_plain(wanted)]
    return [_plain(level) for level in wanted]


def _check(name: str, level: Any, present: Sequence[Any]) -> None:
    if level in present:
        return
    if name == "status":
        if problem := unknown_name("status", level, STATUSES):
            raise UserError("unknown-name", f"filter: {problem}")
        return
    known = list(dict.fromkeys(map(str, present)))
    hint = did_you_mean(str(level), known) if isinstance(level, str) else ""
    levels = (", ".join(known[:20]) or "none") + (", ..." if len(known) > 20 else "")
    raise UserError("unknown-level", f"filter: no trial has {name} {format_value(level)}.{hint} Levels: {levels}.")


def _plain(level: Any) -> Any:
    """A level as the store has it: sequences as lists."""
    return [_plain(item) for item in level] if isinstance(level, tuple | list) else level
