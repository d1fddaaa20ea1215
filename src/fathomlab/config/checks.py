"""Checks of factors and claims against the conditions of a plan."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.config.claims import Claim
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
    """Claims and published numbers about options or levels that no trial has, and published statements about unknown claims.

    A level that an override or the quick form removed leaves its claim open, with a notice.
    """
    endings = {".".join(parts[start:]) for key in keys for parts in [key.split(".")] for start in range(len(parts))}
    problems: list[Issue] = []
    for location, claim in contrasts(loaded):
        for path, key in [("factor", claim.factor), *((f"at.{key}", key) for key in claim.at)]:
            if key not in endings:
                text = f"not an option of any trial: {format_value(key)}.{did_you_mean(key, sorted(endings))}"
                problems.append(Issue("unknown-claim-key", f"{location}.{path}", text))
        if problems:
            continue
        for level in claim.levels:
            if any(claim.selects(factors, level, options) for factors, options in conditions):
                continue
            where = "".join(f", {key}: {format_value(required)}" for key, required in claim.at.items())
            missing = f"no condition has {claim.factor}: {format_value(level)}{where}"
            if loaded.overrides or loaded.quick:
                if location.startswith("claims"):
                    notices.setdefault(f"claim {format_value(claim.name)} cannot be decided here: {missing}.")
                break
            levels = _levels_of(claim.factor, [factors for factors, _ in conditions])
            known = "" if not levels or format_value(level) in levels else f". Levels: {', '.join(levels)}."
            problems.append(Issue("no-such-condition", location, f"{missing}{known}"))
    return [*problems, *_unknown_claims(loaded)]


def _levels_of(factor: str, conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The levels of a factor, which may be the ending of a dotted key, as a file spells them."""
    pairs = [pair for factors in conditions for pair in factors.items()]
    return list(dict.fromkeys(format_value(level) for key, level in pairs if f".{key}".endswith(f".{factor}")))


def contrasts(loaded: Loaded) -> list[tuple[str, Claim]]:
    """The claims, and the comparisons behind published numbers, with their dotted keys."""
    contrasts = [(f"claims[{index}]", claim) for index, claim in enumerate(loaded.file.claims)]
    for index, published in enumerate(loaded.file.experiment.published):
        if (contrast := published.contrast) is not None:
            contrasts.append((f"experiment.published[{index}]", contrast))
    return contrasts


def _unknown_claims(loaded: Loaded) -> list[Issue]:
    names = [claim.name for claim in loaded.file.claims]
    if loaded.overrides or loaded.quick:  # they may have removed the claim
        return []
    unknown = [
        (index, published.claim)
        for index, published in enumerate(loaded.file.experiment.published)
        if published.claim and published.claim not in names
    ]
    return [
        Issue(
            "unknown-name",
            f"experiment.published[{index}].claim",
            f"must be the name of a claim of this file, got {format_value(name)}.{did_you_mean(name, names)}",
        )
        for index, name in unknown
    ]
