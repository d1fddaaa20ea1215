"""From an experiment to its trials: factors x seeds -> conditions -> trials. No torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fathomlab.base.errors import Issue
from fathomlab.base.labels import Levels, condition_label, flatten_keys, shortest_unique_suffixes
from fathomlab.config.checks import claim_problems, duplicate_level_notices
from fathomlab.config.load import Loaded, load, parse_factors, raise_config_error
from fathomlab.config.overrides import key_of
from fathomlab.config.paths import get_path
from fathomlab.config.plugins import Plugin
from fathomlab.plan import sections
from fathomlab.plan.conditions import ConditionBuilder
from fathomlab.plan.data import read_data
from fathomlab.plan.factors import all_factors, combinations, idle_notices, seeds_of
from fathomlab.plan.hints import explained
from fathomlab.plan.plan import Condition, Plan
from fathomlab.plan.roles import Role, emulation_notices, may_distill, roles_of
from fathomlab.plan.trial import Blueprint
from fathomlab.plan.tuning import tuned_factors, tuning_problems


def prepare(
    source: Any,
    overrides: Sequence[str] = (),
    quick: bool = False,
    models: Sequence[Plugin] = (),
    data: Any = None,
) -> Plan:
    """Read an experiment, check every component of every trial, and plan it. For the arguments see `config.load.load`.

    Raises:
        ConfigError: If there are problems; all of them.
        UserError: If the file cannot be read.
    """
    loaded = load(source, overrides, quick, models, data)
    problems = list(loaded.problems)
    if problems:
        _check_sections(loaded, problems)
    return build(replace(loaded, problems=tuple(problems)))


def with_seeds(plan: Plan, count: int) -> Plan:
    """The same experiment with `count` seeds: those of the plan, then the next numbers. The plan if it has as many."""
    if count <= len(plan.seeds):
        return plan
    following = range(max(plan.seeds) + 1, max(plan.seeds) + 1 + count - len(plan.seeds))
    return build(plan.loaded, (*plan.seeds, *following))


def build(loaded: Loaded, seeds: tuple[int, ...] | None = None) -> Plan:
    """Cross the factors and seeds of an experiment.

    Args:
        loaded: The experiment; its problems are reported together with those found here.
        seeds: Replaces the experiment's seeds.

    Raises:
        ConfigError: If there are problems in any section or condition; all of them.
    """
    document, problems = loaded.document, list(loaded.problems)
    declared = parse_factors(loaded.file, problems)
    roles = roles_of(loaded, declared, problems)
    seeds = seeds or seeds_of(loaded.file, problems)
    factors = all_factors(loaded, declared, roles, problems)
    builder = ConditionBuilder(loaded, roles, problems)
    planned: list[tuple[Role, Levels, Blueprint]] = []
    combined = combinations(factors, loaded, len(seeds), problems)
    for role in roles.values():
        planned += [(role, *condition) for condition in builder.conditions(role, combined)]
    notices = builder.notices | duplicate_level_notices(factors) | idle_notices(factors, combined)
    tune = tuned_factors(loaded, factors, problems, notices)
    if loaded.file.distillation is not None and not any(may_distill(role, declared) for role in roles.values()):
        notices.setdefault("distillation: no effect, because no role has a teacher.")
    notices |= emulation_notices(loaded, declared, roles)
    if not problems:
        conditions = [({"role": role.name, **levels}, flatten_keys(plan.content)) for role, levels, plan in planned]
        keys = {key for _, options in conditions for key in (*options, "role")}
        overridden = map(key_of, loaded.overrides)  # options whose default is not part of a trial, too
        problems += claim_problems(loaded, keys | {*factors, *overridden}, conditions, notices)
        problems += tuning_problems(loaded, tune, conditions, notices)
    raise_config_error(document, [explained(problem, document.data, loaded.components) for problem in problems])
    names = shortest_unique_suffixes(list(factors))
    results = [
        Condition(
            condition_label(role.name, levels, names),
            role.name,
            levels,
            blueprint.network.component.depth,
            tuple(blueprint.trial(seed) for seed in seeds),
        )
        for role, levels, blueprint in planned
    ]
    varying = {key: factor.levels for key, factor in factors.items()}
    compute = {role.name: role.equal_compute for role in roles.values() if role.equal_compute}
    return Plan(loaded, tuple(results), seeds, varying, tuple(notices), tune, compute)


def _check_sections(loaded: Loaded, problems: list[Issue]) -> None:
    """What is wrong with the components that any section names, each section by itself."""
    data = loaded.document.data
    roles = [f"roles.{name}" for name in loaded.file.roles]
    for path in ("training", "training_teacher", "training_student", *(f"{role}.training" for role in roles)):
        if (section := get_path(data, path)) is not None:
            sections.training(section, path, problems, {}, loaded.components)
    for path in ("model", "teacher_model", "student_model", *(f"{role}.model" for role in roles)):
        if (section := get_path(data, path)) is not None:
            sections.network(section, path, problems, {}, loaded.components)
    read_data(data.get("data"), "data", "mnist", problems, {}, loaded.components)
