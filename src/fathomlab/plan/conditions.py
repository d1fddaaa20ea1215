"""Builds the conditions of an experiment: the options of each role at each combination of levels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels
from fathomlab.config.load import Loaded
from fathomlab.config.paths import apply_levels, get_path
from fathomlab.config.schema import Parent
from fathomlab.plan import sections
from fathomlab.plan.compute import distinct_conditions, equal_compute_epochs
from fathomlab.plan.data import Data, read_data
from fathomlab.plan.emulation import acting, effective_targets, loss_complaint
from fathomlab.plan.feasibility import (
    batch_norm_problems,
    data_problems,
    feature_problems,
    loss_problems,
    network_problems,
    parent_problems,
    part_problems,
)
from fathomlab.plan.objectives import Teaching, teaching_of, view_problems
from fathomlab.plan.roles import Role, Roles, decides_compute, is_below, reads
from fathomlab.plan.trial import Blueprint

T = TypeVar("T")


class ConditionBuilder:
    """Builds conditions. Each section is built once per combination of the levels that it reads.

    Attributes:
        notices: What the user should know about the options, in order.
    """

    def __init__(self, loaded: Loaded, roles: Roles, problems: list[Issue]):
        """Build the conditions of `roles`; `problems` receives everything that is wrong with them."""
        self.loaded, self.roles, self.problems = loaded, roles, problems
        self.components = loaded.components
        self.notices: dict[str, None] = {}
        self._built: dict[tuple[object, ...], Any] = {}

    def conditions(self, role: Role, combined: Sequence[Levels]) -> list[tuple[Levels, Blueprint]]:
        """The conditions of a role at these combinations of levels, each once."""
        planned: list[tuple[Levels, Blueprint]] = []
        for levels in combined:
            relevant = {key: level for key, level in levels.items() if reads(self.roles, role, key, levels)}
            if (blueprint := self.blueprint(role, relevant)) is not None:
                checked = {key: self.checked_level(role, key, relevant, blueprint) for key in relevant}
                planned.append((checked, blueprint))
        return distinct_conditions(self.roles, role, planned)

    def blueprint(self, role: Role, levels: Levels) -> Blueprint | None:
        """A condition without its seeds; None if there are problems."""
        data, network = self._data(role, levels), self._network(role.model, levels)
        probes = self._once(("probes",), {}, self._measurements)
        training = self._training(role.training, levels, quiet=bool(role.equal_compute))
        if role.equal_compute and data is not None and network is not None and training is not None:
            training = self._longer(role, levels, data, network, training)
        parents: list[tuple[Parent, Blueprint]] = []
        for kind, name in role.parents_at(levels):
            parent = self.blueprint(self.roles[name], levels)
            if parent is not None:
                parents.append((kind, parent))
        teaching = None
        if any(kind == "teacher" for kind, _ in role.parents_at(levels)):
            teaching = self._teaching(role, levels, data)
        if data is not None and network is not None:
            key, read = ("fits", role.data, role.model), _only(levels, role.data, role.model)
            self._once(key, read, lambda _: self._check_fit(data, network, role))
        if data is not None and training is not None:
            self._check_parts(role, levels, data, training, teaching)
        if self.problems or data is None or network is None or training is None:
            return None
        if training.emulate:
            training = self._emulating(role, levels, data, network, training, teaching)
            if teaching is not None and (effective := effective_targets(training, teaching)) != teaching:
                self.notices.setdefault(f"{role.distillation}.targets: no effect with shuffled_cache.")
                teaching = effective
        blueprint = Blueprint(data, network, training, probes, teaching, tuple(parents), role.seed_offset)
        self.problems += network_problems(blueprint, role.model, role.training)
        self.problems += parent_problems(blueprint, role.parents_key) or feature_problems(blueprint, role)
        return blueprint

    def checked_level(self, role: Role, key: str, levels: Levels, blueprint: Blueprint) -> Any:
        """The level of a factor as the options of a condition, or of the conditions that it builds on, contain it."""
        content = blueprint.content
        if blueprint.teaching is not None:  # with the options that are not part of the identity at their default
            content = content | {"distillation": blueprint.teaching.complete}
        in_content = (
            (role.data, "data"),
            (role.model, "model"),
            (role.training, "training"),
            (role.distillation, "distillation"),
        )
        for section, name in in_content:
            if is_below(key, section):
                # mistakes without effect are left out
                default = [] if key == f"{role.training}.emulate" else levels[key]
                return get_path(content, f"{name}{key.removeprefix(section)}", default)
        for (_, name), (_, parent) in zip(role.parents_at(levels), blueprint.parents, strict=True):
            if reads(self.roles, self.roles[name], key, levels):
                return self.checked_level(self.roles[name], key, levels, parent)
        if decides_compute(self.roles, role, key):
            named = self.roles[role.equal_compute]
            if (other := self.blueprint(named, levels)) is not None:
                return self.checked_level(named, key, levels, other)
        return levels[key]

    def _emulating(
        self,
        role: Role,
        levels: Levels,
        data: Data,
        network: sections.Network,
        training: sections.Training,
        teaching: Teaching | None,
    ) -> sections.Training:
        """The training with the mistakes that act on the role. A factor of a role without a teacher does not split it."""
        path = f"{role.training}.emulate"
        if teaching is not None and (text := loss_complaint(training, teaching.loss)):
            self.problems.append(_at_factor(Issue("conflict", path, text), levels, self.loaded))
            return training
        training, unused = acting(training, teaching, network.architecture(data.info), data)
        for mistake, where in unused.items():
            self.notices.setdefault(f"{path}: {mistake} has no effect {where}.")
        return training

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

    def _training(
        self, path: str, levels: Levels, epochs: int | None = None, quiet: bool = False
    ) -> sections.Training | None:
        """The section of a role, with other epochs if they are given; `quiet` if its notices are about epochs that change."""
        notices = {} if quiet else self.notices

        def read(raw: Any) -> sections.Training | None:
            raw = raw if epochs is None else {**raw, "epochs": epochs}
            return sections.training(raw, path, self.problems, notices, self.components)

        return self._section(path, levels, read, epochs)

    def _longer(
        self, role: Role, levels: Levels, data: Data, network: sections.Network, training: sections.Training
    ) -> sections.Training | None:
        """The training of a role that also spends the training MACs of another one."""
        named = self.blueprint(self.roles[role.equal_compute], levels)
        if named is None:
            return None
        path = f"roles.{role.name}.equal_compute"
        epochs = equal_compute_epochs(data, network, training.epochs, named, path, self.problems)
        if epochs == training.epochs and not self.problems:
            self.notices.setdefault(f"{path}: no effect; {role.equal_compute} costs less than half an epoch.")
        return self._training(role.training, levels, epochs)

    def _teaching(self, role: Role, levels: Levels, data: Data | None) -> Teaching | None:
        """What a student learns from its teachers; `targets` without effect have their default."""
        path = role.distillation
        teaching: Teaching | None = self._section(
            path, levels, lambda raw: teaching_of(raw, path, self.problems, self.components)
        )
        if teaching is None or data is None:
            return teaching
        key, read = ("views", role.data, path), _only(levels, role.data, path)
        self._once(key, read, lambda _: self.problems.extend(view_problems(teaching, data.augment, path)))
        canonical = teaching.canonical(data.augment)
        if canonical != teaching:
            why = f"with placebo {teaching.placebo}" if data.augment else "without augmentation"
            self.notices.setdefault(f"{path}.targets: no effect {why}.")
        return canonical

    def _measurements(self, _: Any) -> tuple[sections.Measurement, ...]:
        options = self.loaded.file.experiment
        probes = dict(options.probes) if isinstance(options.probes, Mapping) else {name: {} for name in options.probes}
        probes = ({"gradients": {}} if options.analyze_gradients else {}) | probes
        return sections.measurements(probes, self.problems, self.components)

    def _check_parts(
        self, role: Role, levels: Levels, data: Data, training: sections.Training, teaching: Teaching | None
    ) -> None:
        """What is wrong with the code of plugins that a condition trains with."""

        def once(path: str, check: Callable[[], list[Issue]]) -> None:
            key, read = ("parts", role.data, path), _only(levels, role.data, path)
            self._once(key, read, lambda _: self.problems.extend(check()))

        once(role.training, lambda: part_problems(training, data, role.training))
        if teaching is not None:  # other roles may have the same section, without a teacher
            once(role.distillation, lambda: loss_problems(teaching.loss, data, role.distillation, True))

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


def _at_factor(problem: Issue, levels: Levels, loaded: Loaded) -> Issue:
    for key in levels:
        if problem.path == key or problem.path.startswith((f"{key}.", f"{key}[")):
            return replace(problem, location=loaded.document.location_of(f"experiment.factors.{key}"))
    return problem
