"""From an experiment to its trials: factors x seeds -> conditions -> trials. No torch."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels, condition_label, flatten_keys, shortest_unique_suffixes
from fathomlab.config.checks import claim_problems, duplicate_level_notices
from fathomlab.config.load import Loaded, load, parse_factors, raise_config_error
from fathomlab.config.paths import apply_levels, get_path
from fathomlab.config.plugins import Plugin
from fathomlab.config.schema import Parent
from fathomlab.losses import Loss
from fathomlab.plan import sections
from fathomlab.plan.data import Data, read_data
from fathomlab.plan.factors import all_factors, combinations, seeds_of
from fathomlab.plan.feasibility import (
    batch_norm_problems,
    data_problems,
    feature_problems,
    loss_problems,
    network_problems,
    parent_problems,
    part_problems,
)
from fathomlab.plan.hints import explained
from fathomlab.plan.objectives import distillation_loss
from fathomlab.plan.plan import Condition, Plan
from fathomlab.plan.roles import Role, Roles, is_below, may_distill, reads, roles_of
from fathomlab.plan.trial import Blueprint

T = TypeVar("T")


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
    builder = _Builder(loaded, roles, problems)
    planned: dict[tuple[str, str], tuple[str, Levels, Blueprint]] = {}
    for role, levels in itertools.product(roles.values(), combinations(factors, loaded, len(seeds), problems)):
        relevant = {key: level for key, level in levels.items() if reads(roles, role, key, levels)}
        blueprint = builder.blueprint(role, relevant)
        if blueprint is not None:
            checked = {key: builder.checked_level(role, key, relevant, blueprint) for key in relevant}
            planned.setdefault((role.name, blueprint.key), (role.name, checked, blueprint))
    notices = builder.notices | duplicate_level_notices(factors)
    if loaded.file.distillation is not None and not any(may_distill(role, declared) for role in roles.values()):
        notices.setdefault("distillation: no effect, because no role has a teacher.")
    if not problems:
        conditions = [({"role": role, **levels}, flatten_keys(plan.content)) for role, levels, plan in planned.values()]
        keys = {key for _, options in conditions for key in (*options, "role")}
        problems += claim_problems(loaded, keys | set(factors), conditions, notices)
    raise_config_error(document, [explained(problem, document.data, loaded.components) for problem in problems])
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
    results.sort(key=lambda condition: list(roles).index(condition.role))
    varying = {key: factor.levels for key, factor in factors.items()}
    return Plan(loaded, tuple(results), seeds, varying, tuple(notices))


class _Builder:
    """Builds conditions. Each section is built once per combination of the levels that it reads."""

    def __init__(self, loaded: Loaded, roles: Roles, problems: list[Issue]):
        self.loaded, self.roles, self.problems = loaded, roles, problems
        self.components = loaded.components
        self.notices: dict[str, None] = {}
        self._built: dict[tuple[object, ...], Any] = {}

    def blueprint(self, role: Role, levels: Levels) -> Blueprint | None:
        """A condition without its seeds; None if there are problems."""
        data, network = self._data(role, levels), self._network(role.model, levels)
        training, probes = self._training(role.training, levels), self._once(("probes",), {}, self._measurements)
        parents: list[tuple[Parent, Blueprint]] = []
        for kind, name in role.parents_at(levels):
            parent = self.blueprint(self.roles[name], levels)
            if parent is not None:
                parents.append((kind, parent))
        distillation = None
        if any(kind == "teacher" for kind, _ in role.parents_at(levels)):
            path = role.distillation
            distillation = self._section(
                path, levels, lambda raw: distillation_loss(raw, path, self.problems, self.components)
            )
        if data is not None and network is not None:
            key, read = ("fits", role.data, role.model), _only(levels, role.data, role.model)
            self._once(key, read, lambda _: self._check_fit(data, network, role))
        if data is not None and training is not None:
            self._check_parts(role, levels, data, training, distillation)
        if self.problems or data is None or network is None or training is None:
            return None
        blueprint = Blueprint(data, network, training, probes, distillation, tuple(parents), role.seed_offset)
        self.problems += network_problems(blueprint, role.model, role.training)
        self.problems += parent_problems(blueprint, role.parents_key) or feature_problems(blueprint, role)
        return blueprint

    def checked_level(self, role: Role, key: str, levels: Levels, blueprint: Blueprint) -> Any:
        """The level of a factor as the options of a condition, or of the conditions that it builds on, contain it."""
        in_content = (
            (role.data, "data"),
            (role.model, "model"),
            (role.training, "training"),
            (role.distillation, "distillation"),
        )
        for section, name in in_content:
            if is_below(key, section):
                return get_path(blueprint.content, f"{name}{key.removeprefix(section)}", levels[key])
        for (_, name), (_, parent) in zip(role.parents_at(levels), blueprint.parents, strict=True):
            if reads(self.roles, self.roles[name], key, levels):
                return self.checked_level(self.roles[name], key, levels, parent)
        return levels[key]

    def _data(self, role: Role, levels: Levels) -> Data | None:
        model = get_path(apply_levels(self.loaded.document.data, _only(levels, role.model)), role.model)
        default, path = sections.default_dataset(model, self.components), role.data

        def read(raw: Any) -> Data | None:
            return read_data(raw, path, default, self.problems, self.notices, self.components)

        return self._section(path, levels, read, default)

    def _network(self, path: str, levels: Levels) -> sections.Network | None:
        return self._section(
            path, levels, lambda raw: sections.network(raw, path, self.problems, self.notices, self.components)
        )

    def _training(self, path: str, levels: Levels) -> sections.Training | None:
        return self._section(
            path, levels, lambda raw: sections.training(raw, path, self.problems, self.notices, self.components)
        )

    def _measurements(self, _: Any) -> tuple[sections.Measurement, ...]:
        options = self.loaded.file.experiment
        probes = dict(options.probes) if isinstance(options.probes, Mapping) else {name: {} for name in options.probes}
        probes = ({"gradients": {}} if options.analyze_gradients else {}) | probes
        return sections.measurements(probes, self.problems, self.components)

    def _check_parts(
        self, role: Role, levels: Levels, data: Data, training: sections.Training, distillation: Loss | None
    ) -> None:
        """What is wrong with the code of plugins that a condition trains with."""

        def once(path: str, check: Callable[[], list[Issue]]) -> None:
            key, read = ("parts", role.data, path), _only(levels, role.data, path)
            self._once(key, read, lambda _: self.problems.extend(check()))

        once(role.training, lambda: part_problems(training, data, role.training))
        if distillation is not None:  # other roles may have the same section, without a teacher
            once(role.distillation, lambda: loss_problems(distillation, data, role.distillation, True))

    def _check_fit(self, data: Data, network: sections.Network, role: Role) -> None:
        """What a dataset, a network, and a batch size cannot do together."""
        issues = sections.mismatches(network, data.info, role.model)
        issues = issues or data_problems(data, role.data, self.notices)
        if not issues and not self.problems:
            issues = batch_norm_problems(data, role.data, network.architecture(data.info), self.notices)
        self.problems += issues

    def _section(self, name: str, levels: Levels, read: Callable[[Any], T], *also: object) -> T:
        return self._once((name, *also), _only(levels, name), read)

    def _once(self, key: tuple[Any, ...], levels: Levels, read: Callable[[Any], T]) -> T:
        """Call `read` with a section at these levels, the first time; problems are located at the factor that varied."""
        full = (*key, canonical_json(levels))
        if full not in self._built:
            before = len(self.problems)
            self._built[full] = read(get_path(apply_levels(self.loaded.document.data, levels), str(key[0])))
            for index in range(before, len(self.problems)):
                self.problems[index] = _at_factor(self.problems[index], levels, self.loaded)
        return self._built[full]


def _only(levels: Levels, *sections_read: str) -> Levels:
    return {key: level for key, level in levels.items() if any(is_below(key, section) for section in sections_read)}


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


def _at_factor(problem: Issue, levels: Levels, loaded: Loaded) -> Issue:
    for key in levels:
        if problem.path == key or problem.path.startswith((f"{key}.", f"{key}[")):
            return replace(problem, location=loaded.document.location_of(f"experiment.factors.{key}"))
    return problem
