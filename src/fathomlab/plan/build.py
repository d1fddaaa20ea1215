"""From an experiment to its trials: factors x seeds -> conditions -> trials. No torch."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json, content_hash
from fathomlab.base.labels import condition_label, flatten_keys, shortest_unique_suffixes
from fathomlab.config.checks import claim_problems, duplicate_level_notices
from fathomlab.config.components import Components
from fathomlab.config.load import Loaded, load, raise_config_error
from fathomlab.config.paths import apply_levels, get_path
from fathomlab.plan import sections
from fathomlab.plan.factors import SECTIONS_BY_ROLE, Role, all_factors, combinations, reads, roles_of, seeds_of
from fathomlab.plan.feasibility import batch_norm_problems, data_problems
from fathomlab.plan.hints import explained
from fathomlab.plan.objectives import distillation_loss
from fathomlab.plan.trial import Blueprint, Trial

T = TypeVar("T")


@dataclass(frozen=True)
class Condition:
    """One level of each factor, and one trial per seed."""

    label: str
    role: Role
    factors: Mapping[str, Any]
    depth: int | None
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment needs.

    Attributes:
        loaded: The experiment as requested.
        conditions: In the order of the factors.
        seeds: Replicates.
        factors: Dotted keys that vary, in order, with their levels.
        notices: Messages for the user, such as an option that has no effect.
    """

    loaded: Loaded
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    factors: Mapping[str, tuple[Any, ...]]
    notices: tuple[str, ...]

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial once, teachers before their students."""
        ordered: dict[Trial, None] = {}
        for condition in self.conditions:
            for trial in condition.trials:
                if trial.teacher is not None:
                    ordered.setdefault(trial.teacher)
                ordered.setdefault(trial)
        return tuple(ordered)

    @property
    def labels(self) -> dict[str, str]:
        """Trial hash to condition and seed in words."""
        return {
            trial.hash: f"{condition.label} seed={trial.seed}"
            for condition in self.conditions
            for trial in condition.trials
        }

    @cached_property
    def hash(self) -> str:
        """Identity of the plan: its trials and claims."""
        return content_hash([[trial.hash for trial in self.trials], self.claims])

    @property
    def claims(self) -> list[Any]:
        """The claims as plain data."""
        return self.loaded.document.data.get("claims") or []


def prepare(source: Any, overrides: Sequence[str] = (), quick: bool = False) -> Plan:
    """Read an experiment, check every component of every trial, and plan it.

    Raises:
        ConfigError: If there are problems; all of them.
        UserError: If the file cannot be read.
    """
    loaded = load(source, overrides, quick)
    problems = list(loaded.problems)
    if problems:
        _check_sections(loaded.document.data, problems, loaded.components)
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
    roles = roles_of(loaded, problems)
    seeds = seeds or seeds_of(loaded.file, problems)
    factors = all_factors(loaded, roles, problems)
    builder = _Builder(loaded, problems)
    planned: dict[str, tuple[Role, dict[str, Any], Blueprint]] = {}
    for role, levels in itertools.product(roles, combinations(factors, loaded, len(seeds), problems)):
        relevant = {key: level for key, level in levels.items() if reads(role, key)}
        blueprint = builder.blueprint(role, relevant)
        if blueprint is not None:
            checked = {key: get_path(blueprint.content, _in_content(role, key), relevant[key]) for key in relevant}
            planned.setdefault(canonical_json(blueprint.content), (role, checked, blueprint))
    notices = builder.notices | duplicate_level_notices(factors)
    if not problems:
        conditions = [({"role": role} | levels, flatten_keys(plan.content)) for role, levels, plan in planned.values()]
        keys = {key for _, options in conditions for key in (*options, "role")}
        problems += claim_problems(loaded, keys | set(factors), conditions, notices)
    raise_config_error(document, [explained(problem, document.data) for problem in problems])
    names = shortest_unique_suffixes(list(factors))
    results = [
        Condition(
            condition_label(role, levels, names),
            role,
            levels,
            blueprint.network.component.depth,
            tuple(blueprint.trial(seed) for seed in seeds),
        )
        for role, levels, blueprint in planned.values()
    ]
    results.sort(key=lambda condition: roles.index(condition.role))
    varying = {key: factor.levels for key, factor in factors.items()}
    return Plan(loaded, tuple(results), seeds, varying, tuple(notices))


class _Builder:
    """Builds conditions. Each section is built once per combination of the levels that it reads."""

    def __init__(self, loaded: Loaded, problems: list[Issue]):
        self.loaded, self.problems, self.components = loaded, problems, loaded.components
        self.notices: dict[str, None] = {}
        self._built: dict[tuple[object, ...], Any] = {}

    def blueprint(self, role: Role, levels: Mapping[str, Any]) -> Blueprint | None:
        """A condition without its seeds; None if there are problems."""
        model, how = SECTIONS_BY_ROLE[role][:2]
        data, network, training = self._data(model, levels), self._network(model, levels), self._training(how, levels)
        probes = self._once(("probes",), {}, self._measurements)
        teacher = self.blueprint("teacher", levels) if role == "distilled" else None
        distillation = None
        if role == "distilled":
            distillation = self._section(
                "distillation", levels, lambda raw: distillation_loss(raw, self.problems, self.components)
            )
        if data is not None and network is not None:
            self._once(("fits", model), _only(levels, "data", model), lambda _: self._check_fit(data, network, model))
        if self.problems or data is None or network is None or training is None:
            return None
        return Blueprint(data, network, training, probes, distillation, teacher)

    def _data(self, model: str, levels: Mapping[str, Any]) -> sections.Data | None:
        default = sections.default_dataset(
            apply_levels(self.loaded.document.data, _only(levels, model)).get(model), self.components
        )
        return self._section(
            "data", levels, lambda raw: sections.data(raw, default, self.problems, self.notices), default
        )

    def _network(self, name: str, levels: Mapping[str, Any]) -> sections.Network | None:
        return self._section(
            name, levels, lambda raw: sections.network(raw, name, self.problems, self.notices, self.components)
        )

    def _training(self, name: str, levels: Mapping[str, Any]) -> sections.Training | None:
        return self._section(
            name, levels, lambda raw: sections.training(raw, name, self.problems, self.notices, self.components)
        )

    def _measurements(self, _: Any) -> tuple[sections.Measurement, ...]:
        options = self.loaded.file.experiment
        probes = dict(options.probes) if isinstance(options.probes, Mapping) else {name: {} for name in options.probes}
        return sections.measurements(({"gradients": {}} if options.analyze_gradients else {}) | probes, self.problems)

    def _check_fit(self, data: sections.Data, network: sections.Network, path: str) -> None:
        """What a dataset, a network, and a batch size cannot do together."""
        issues = sections.mismatches(network, data.info, path)
        issues = issues or data_problems(data, self.notices)
        if not issues and not self.problems:
            issues = batch_norm_problems(data, network.architecture(data.info), self.notices)
        self.problems += issues

    def _section(self, name: str, levels: Mapping[str, Any], read: Callable[[Any], T], *also: object) -> T:
        return self._once((name, *also), _only(levels, name), read)

    def _once(self, key: tuple[Any, ...], levels: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """Call `read` with a section at these levels, the first time; problems are located at the factor that varied."""
        full = (*key, canonical_json(levels))
        if full not in self._built:
            before = len(self.problems)
            self._built[full] = read(apply_levels(self.loaded.document.data, levels).get(key[0]))
            for index in range(before, len(self.problems)):
                self.problems[index] = _at_factor(self.problems[index], levels, self.loaded)
        return self._built[full]


def _only(levels: Mapping[str, Any], *sections_read: str) -> dict[str, Any]:
    return {key: level for key, level in levels.items() if key.split(".")[0] in sections_read}


def _check_sections(data: Mapping[str, Any], problems: list[Issue], components: Components) -> None:
    """What is wrong with the components that any section names, each section by itself."""
    for name in ("training", "training_teacher", "training_student"):
        if data.get(name) is not None:
            sections.training(data[name], name, problems, {}, components)
    for name in ("model", "teacher_model", "student_model"):
        if data.get(name) is not None:
            sections.network(data[name], name, problems, {}, components)
    sections.data(data.get("data"), "mnist", problems, {})


def _in_content(role: Role, key: str) -> str:
    """Where a trial's content holds the value of a key of the file."""
    section, _, rest = key.partition(".")
    students = {"student_model": "model", "training_student": "training"}
    teachers = {"teacher_model": "teacher.model", "training_teacher": "teacher.training"}
    if role == "teacher":
        teachers = {"teacher_model": "model", "training_teacher": "training"}
    return f"{(students | teachers).get(section, section)}.{rest}"


def _at_factor(problem: Issue, levels: Mapping[str, Any], loaded: Loaded) -> Issue:
    for key in levels:
        if problem.path == key or problem.path.startswith((f"{key}.", f"{key}[")):
            return replace(problem, location=loaded.document.location_of(f"experiment.factors.{key}"))
    return problem
