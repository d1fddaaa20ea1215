"""Seeds and factors of an experiment, and the combinations of levels."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.errors import Issue, did_you_mean
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels
from fathomlab.base.options import option_types
from fathomlab.config.load import Loaded
from fathomlab.config.paths import apply_levels, get_path
from fathomlab.config.schema import ExperimentFile, Factor
from fathomlab.plan.roles import Roles, is_below, may_distill

MAX_TRIALS = 200_000


def seeds_of(file: ExperimentFile, problems: list[Issue]) -> tuple[int, ...]:
    """The seeds of an experiment, in order."""
    requested = file.experiment.seeds
    seeds = tuple(range(file.seed, file.seed + requested)) if isinstance(requested, int) else requested
    if not seeds:
        problems.append(Issue("no-seeds", "experiment.seeds", "must have at least one seed, got []"))
    if len(set(seeds)) < len(seeds):
        problems.append(Issue("duplicate-seed", "experiment.seeds", "duplicate seed; equal seeds are one trial"))
    return seeds


def all_factors(
    loaded: Loaded, factors: Mapping[str, Factor], roles: Roles, problems: list[Issue]
) -> dict[str, Factor]:
    """The factors by dotted key, `widths` and `depths` included.

    Args:
        loaded: The experiment.
        factors: Those in `experiment.factors`.
        roles: The roles of the experiment; empty if there are problems with them.
        problems: Receives what is wrong.
    """
    file = loaded.file
    section = "model" if "supervised" in roles else "student_model"
    model = file.model if section == "model" else file.student_model
    component = loaded.components.models.get(model.type) if model else None
    for name, levels in (("widths", file.experiment.widths), ("depths", file.experiment.depths)):
        if levels is not None and file.roles:
            text = "requires model or student_model; with roles, use experiment.factors"
            problems.append(Issue("conflict", f"experiment.{name}", text))
    declared = {} if component is None else _axis_factors(loaded, section, component, factors, problems)
    names = sorted({section for role in roles.values() for section in role.sections(may_distill(role, factors))})
    for key in factors if roles else ():
        if key not in ("seed", "experiment.seeds") and not any(is_below(key, name) for name in names):
            hint = did_you_mean(key if file.roles else key.split(".")[0], names)
            text = f"not a valid factor: must start with {', '.join(names)}.{hint}"
            problems.append(Issue("unknown-factor", f"experiment.factors.{key}", text))
    return {**declared, **factors}


def combinations(factors: Mapping[str, Factor], loaded: Loaded, seeds: int, problems: list[Issue]) -> list[Levels]:
    """The combinations of levels, each once; a factor is left out if its `when` does not hold."""
    count = seeds
    for factor in factors.values():
        count *= len(factor.levels)
    if count > MAX_TRIALS:
        text = f"expands to {count:,} trials (maximum {MAX_TRIALS:,})"
        problems.append(Issue("too-many-trials", "experiment", text))
        return []
    result: dict[str, Levels] = {}
    for levels in itertools.product(*(factor.levels for factor in factors.values())):
        combination = dict(zip(factors, levels, strict=True))
        data = apply_levels(loaded.document.data, combination)
        for key, factor in factors.items():
            if any(get_path(data, other) != level for other, level in factor.when.items()):
                del combination[key]
        result.setdefault(canonical_json(combination), combination)
    return list(result.values())


def idle_notices(factors: Mapping[str, Factor], combined: Sequence[Levels]) -> dict[str, None]:
    """A notice for each factor whose `when` holds for no combination, such as one with a misspelled level."""
    idle = [key for key, factor in factors.items() if combined and not any(key in levels for levels in combined)]
    return dict.fromkeys(f"experiment.factors.{key}: does not vary, because its `when` never holds." for key in idle)


def _axis_factors(
    loaded: Loaded, section: str, component: Any, factors: Mapping[str, Factor], problems: list[Issue]
) -> dict[str, Factor]:
    """The factors that `widths` and `depths` stand for."""
    options, document = loaded.file.experiment, loaded.document
    declared: dict[str, Factor] = {}
    axes = (("widths", options.widths, component.width_key), ("depths", options.depths, component.depth_key))
    for name, levels, axis in axes:
        key = f"{section}.params.{axis}"
        if levels is not None and not axis:
            option = name.removesuffix("s")
            text = f"{component.__name__} has no option {option}; set {option}_key to the name of an option"
            problems.append(Issue("conflict", f"experiment.{name}", text))
        if not axis or levels is None or document.locations.get(key, "").startswith("override"):
            continue
        if not levels:
            problems.append(Issue("no-levels", f"experiment.{name}", "must have at least one level, got []"))
        declared[key] = Factor(tuple(list(level) if isinstance(level, tuple) else level for level in levels))
        document.locations[f"experiment.factors.{key}"] = document.location_of(f"experiment.{name}")
    residual = f"{section}.params.residual"
    fixed = document.locations.get(residual, "").startswith("override")
    overridden = {key for key in factors if document.location_of(f"experiment.factors.{key}").startswith("override")}
    crossed = options.depths is not None and "residual" in option_types(component)
    if crossed and not factors.keys() - overridden and residual not in factors and not fixed:
        declared[residual] = Factor((False, True))
    return declared
