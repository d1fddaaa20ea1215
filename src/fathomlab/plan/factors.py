"""Roles, seeds, and factors of an experiment, and the combinations of levels."""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from fathomlab.base.errors import Issue, did_you_mean
from fathomlab.base.identity import canonical_json
from fathomlab.base.options import option_types
from fathomlab.config.load import Loaded, parse_factors
from fathomlab.config.paths import apply_levels, get_path
from fathomlab.config.schema import ExperimentFile, Factor

Role = Literal["supervised", "teacher", "baseline", "distilled"]
SECTIONS_BY_ROLE: dict[Role, tuple[str, ...]] = {
    "supervised": ("model", "training"),
    "teacher": ("teacher_model", "training_teacher"),
    "baseline": ("student_model", "training_student"),
    "distilled": ("student_model", "training_student", "teacher_model", "training_teacher", "distillation"),
}
MAX_TRIALS = 200_000


def roles_of(loaded: Loaded, problems: list[Issue]) -> tuple[Role, ...]:
    """The roles of the file's networks; none if a section that they need is missing."""
    data = loaded.document.data
    sections = ("teacher_model", "student_model", "training_teacher", "training_student", "distillation")
    distilling = any(data.get(name) is not None for name in sections)
    if distilling and data.get("model") is not None:
        text = "cannot be combined with teacher_model and student_model; remove one or the other"
        problems.append(Issue("conflict", "model", text))
    required = sections[:-1] if distilling else ("model", "training")
    missing = [name for name in required if data.get(name) is None]
    problems += [Issue("missing-section", "", f"missing section '{name}'") for name in missing]
    if missing:
        return ()
    return ("teacher", "baseline", "distilled") if distilling else ("supervised",)


def seeds_of(file: ExperimentFile, problems: list[Issue]) -> tuple[int, ...]:
    """The seeds of an experiment, in order."""
    requested = file.experiment.seeds
    seeds = tuple(range(file.seed, file.seed + requested)) if isinstance(requested, int) else requested
    if not seeds:
        problems.append(Issue("no-seeds", "experiment.seeds", "must have at least one seed, got []"))
    if len(set(seeds)) < len(seeds):
        problems.append(Issue("duplicate-seed", "experiment.seeds", "duplicate seed; equal seeds are one trial"))
    return seeds


def all_factors(loaded: Loaded, roles: tuple[Role, ...], problems: list[Issue]) -> dict[str, Factor]:
    """The factors by dotted key, `widths` and `depths` included."""
    file, document = loaded.file, loaded.document
    factors = parse_factors(file, problems)
    section = "model" if roles == ("supervised",) else "student_model"
    model = file.model if section == "model" else file.student_model
    component = loaded.components.models.get(model.type) if model else None
    axes = (component.depth_key, component.width_key) if component else None
    declared: dict[str, Factor] = {}
    options = file.experiment
    if component is not None and axes is not None:
        for levels, name, axis in ((options.widths, "widths", axes[1]), (options.depths, "depths", axes[0])):
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
        overridden = {
            key for key in factors if document.location_of(f"experiment.factors.{key}").startswith("override")
        }
        crossed = options.depths is not None and "residual" in option_types(component)
        if crossed and not factors.keys() - overridden and residual not in factors and not fixed:
            declared[residual] = Factor((False, True))
    for key in factors if roles else ():
        if key not in ("seed", "experiment.seeds") and not any(reads(role, key) for role in roles):
            names = sorted({section for role in roles for section in ("data", *SECTIONS_BY_ROLE[role])})
            hint = did_you_mean(key.split(".")[0], names)
            text = f"not a valid factor: must start with {', '.join(names)}.{hint}"
            problems.append(Issue("unknown-factor", f"experiment.factors.{key}", text))
    return declared | factors


def combinations(
    factors: Mapping[str, Factor], loaded: Loaded, seeds: int, problems: list[Issue]
) -> list[dict[str, Any]]:
    """The combinations of levels, each once; a factor is left out if its `when` does not hold."""
    count = seeds
    for factor in factors.values():
        count *= len(factor.levels)
    if count > MAX_TRIALS:
        text = f"expands to {count:,} trials (maximum {MAX_TRIALS:,})"
        problems.append(Issue("too-many-trials", "experiment", text))
        return []
    result: dict[str, dict[str, Any]] = {}
    for levels in itertools.product(*(factor.levels for factor in factors.values())):
        combination = dict(zip(factors, levels, strict=True))
        data = apply_levels(loaded.document.data, combination)
        for key, factor in factors.items():
            if any(get_path(data, other) != level for other, level in factor.when.items()):
                del combination[key]
        result.setdefault(canonical_json(combination), combination)
    return list(result.values())


def reads(role: Role, key: str) -> bool:
    """Whether the trials of a role depend on a dotted key."""
    return key.split(".")[0] in ("data", *SECTIONS_BY_ROLE[role])
