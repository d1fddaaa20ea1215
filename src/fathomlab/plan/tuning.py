"""`experiment.tune`: which factors are tuned for each condition, and whether claims compare equally tuned conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels
from fathomlab.config.checks import contrasts
from fathomlab.config.claims import Claim
from fathomlab.config.load import Loaded
from fathomlab.config.schema import Factor, TuneOptions

Planned = Sequence[tuple[Levels, Levels]]  # of each condition: its levels with the role, and all its options


def tuned_factors(
    loaded: Loaded, factors: Mapping[str, Factor], problems: list[Issue], notices: dict[str, None]
) -> TuneOptions | None:
    """The factors that are tuned, by their full keys; None if there are none.

    A factor that an override or the quick form removed gives a notice.
    """
    tune, path = loaded.file.experiment.tune, "experiment.tune.over"
    if tune is None:
        return None
    if not tune.over:
        problems.append(Issue("missing-key", path, "must have at least one factor, got []"))
    chosen: dict[str, None] = {}
    for index, name in enumerate(tune.over):
        keys = [key for key in factors if is_named(key, name)]
        chosen |= dict.fromkeys(keys)
        if not keys and (loaded.overrides or loaded.quick):
            notices.setdefault(f"{path}: {name} is no factor here, so it is not tuned.")
        elif not keys:
            hint = did_you_mean(name, list(factors)) or f" Factors: {', '.join(factors) or 'none'}."
            text = f"must be a factor of experiment.factors, got {format_value(name)}.{hint}"
            problems.append(Issue("unknown-name", f"{path}[{index}]", text))
    return replace(tune, over=tuple(key for key in factors if key in chosen)) if chosen else None


def tuning_problems(
    loaded: Loaded, tune: TuneOptions | None, conditions: Planned, notices: dict[str, None]
) -> list[Issue]:
    """Claims about a tuned factor, and tuned factors that no condition has.

    Claims that compare conditions with different numbers of tries give a notice.

    Args:
        loaded: The experiment.
        tune: The factors that are tuned, by their full keys.
        conditions: Those of the plan.
        notices: Receives what the user should know.
    """
    if tune is None:
        return []
    unread = [key for key in tune.over if not any(key in levels for levels, _ in conditions)]
    problems = [
        Issue("unknown-factor", "experiment.tune.over", f"no trial depends on {key}; remove it") for key in unread
    ]
    for location, claim in contrasts(loaded):
        for path, name in [("factor", claim.factor), *((f"at.{key}", key) for key in claim.at)]:
            if any(is_named(key, name) for key in tune.over):
                text = f"{format_value(name)} is tuned, so no claim compares its levels; remove it here or from experiment.tune"
                problems.append(Issue("tuned-factor", f"{location}.{path}", text))
        tries = sorted(_tries(claim, tune, conditions))
        if len(tries) > 1 and location.startswith("claims"):
            numbers = " and ".join(map(str, tries))
            text = f"claim {format_value(claim.name)} compares conditions with different numbers of tries ({numbers})."
            notices.setdefault(text)
    return problems


def is_named(key: str, name: str) -> bool:
    """Whether a name is the dotted key of a factor, or its ending."""
    return key == name or key.endswith(f".{name}")


def untuned(levels: Levels, tune: TuneOptions) -> dict[str, Any]:
    """Levels without those of tuned factors: equal for conditions among which one is chosen."""
    return {key: level for key, level in levels.items() if key not in tune.over}


def _tries(claim: Claim, tune: TuneOptions, conditions: Planned) -> set[int]:
    """How many conditions each one that a claim compares is chosen from."""
    tries: dict[str, int] = {}
    for levels, options in conditions:
        if any(claim.selects(levels, level, options) for level in claim.levels):
            group = canonical_json(untuned(levels, tune))
            tries[group] = tries.get(group, 0) + 1
    return set(tries.values())
