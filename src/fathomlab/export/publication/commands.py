"""The commands that train an experiment, or some of its conditions, again."""

import json
import shlex
from collections.abc import Iterable

from fathomlab.analysis.study import Condition, Study
from fathomlab.config.overrides import SEEDS, spelled, without_keys


def run_command(study: Study, file: str, conditions: Iterable[Condition] = ()) -> str:
    """The command that trains conditions with all their seeds, and others only if overrides cannot leave them out.

    Args:
        study: The experiment.
        file: How the command names the experiment file.
        conditions: The conditions; all if empty.
    """
    record = study.experiment
    overrides = [text for text in record.overrides if not text.startswith("-")]
    if list(record.seeds) != record.resolved.get("seeds", list(record.seeds)):  # seeds were added later
        overrides = [*without_keys(overrides, SEEDS), f"experiment.seeds={json.dumps(list(record.seeds))}"]
    levels = {} if study.tried else _levels(study, tuple(conditions))
    fixed = [f"{key}={','.join(map(spelled, values))}" for key, values in levels.items()]
    words = ["fathomlab", "run", file, *["--quick"] * record.quick, *without_keys(overrides, tuple(levels)), *fixed]
    return shlex.join(words)


def _levels(study: Study, conditions: tuple[Condition, ...]) -> dict[str, list[object]]:
    """The levels of each factor of which conditions have only some. Roles that lack a factor allow all of its levels."""
    levels: dict[str, list[object]] = {}
    for key in dict.fromkeys(key for condition in study.conditions for key in condition.record.factors):
        every = _distinct(study.conditions, key)
        some = _distinct(conditions, key)
        lists = any(isinstance(level, list | tuple | dict) for level in some)
        if 0 < len(some) < len(every) and not (lists and len(some) > 1):
            levels[key] = some
    return levels


def _distinct(conditions: Iterable[Condition], key: str) -> list[object]:
    levels: dict[str, object] = {}
    for condition in conditions:
        if key in condition.record.factors:
            level = condition.record.factors[key]
            levels.setdefault(json.dumps(level), level)
    return list(levels.values())
