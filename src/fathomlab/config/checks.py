"""Checks of factors and claims against the conditions of a plan."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.config.load import Loaded
from fathomlab.config.schema import Factor

NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", re.IGNORECASE)


def duplicate_level_notices(factors: Mapping[str, Factor]) -> dict[str, None]:
    """A notice for each factor that spells one number in two ways, such as 0.001 and 1e-3."""
    spelled = {
        key: [float(text) for text in map(str, factor.levels) if NUMBER.fullmatch(text)]
        for key, factor in factors.items()
    }
    twins = [key for key, numbers in spelled.items() if len(set(numbers)) < len(numbers)]
    return dict.fromkeys(f"{key}: levels with equal values are one condition." for key in twins)


def claim_problems(
    loaded: Loaded, keys: set[str], conditions: Sequence[tuple[Any, Any]], notices: dict[str, None]
) -> list[Issue]:
    """Claims about options or levels that no trial has.

    A level that an override or the quick form removed leaves its claim open, with a notice.
    """
    endings = {".".join(parts[start:]) for key in keys for parts in [key.split(".")] for start in range(len(parts))}
    problems = []
    for index, claim in enumerate(loaded.file.claims):
        for path, key in [("factor", claim.factor), *((f"at.{key}", key) for key in claim.at)]:
            if key not in endings:
                text = f"not an option of any trial: {format_value(key)}.{did_you_mean(key, sorted(endings))}"
                problems.append(Issue("unknown-claim-key", f"claims[{index}].{path}", text))
        if problems:
            continue
        for level in claim.levels:
            if any(claim.selects(factors, level, options) for factors, options in conditions):
                continue
            where = "".join(f", {key}: {format_value(required)}" for key, required in claim.at.items())
            missing = f"no condition has {claim.factor}: {format_value(level)}{where}"
            if loaded.overrides or loaded.quick:
                notices.setdefault(f"claim {format_value(claim.name)} cannot be decided here: {missing}.")
                break
            problems.append(Issue("no-such-condition", f"claims[{index}]", missing))
    return problems
