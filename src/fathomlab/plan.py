"""From an experiment to its trials: factors x seeds -> conditions -> trials -> packs. No torch."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from fathomlab.base.identity import canonical_json, content_hash
from fathomlab.base.labels import condition_label, dotted, short_names
from fathomlab.base.problems import Problem, suggestion
from fathomlab.config.checks import claim_problems, duplicate_level_notices
from fathomlab.config.load import Loaded, factors_of, raise_located
from fathomlab.config.paths import get_path, with_levels
from fathomlab.config.schema import ExperimentFile, Factor

Role = Literal["supervised", "teacher", "baseline", "distilled"]
FORMAT = 2
READS: dict[Role, tuple[str, ...]] = {
    "supervised": ("model", "training"),
    "teacher": ("teacher_model", "training_teacher"),
    "baseline": ("student_model", "training_student"),
    "distilled": ("student_model", "training_student", "teacher_model", "training_teacher", "distillation"),
}
MOST_TRIALS = 200_000


@dataclass(frozen=True)
class Trial:
    """One network to train: its resolved configuration as canonical JSON."""

    text: str

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content: the trial's identity, directory, and cache key."""
        return content_hash(self.content)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Resolved options, nested. Do not change them."""
        return json.loads(self.text)

    @property
    def seed(self) -> int:
        """Root of the trial's random streams."""
        return self.content["seed"]

    @cached_property
    def teacher(self) -> "Trial | None":
        """The teacher of a distilled student: the trial with the same seed."""
        teacher = self.content.get("teacher")
        if teacher is None:
            return None
        shared = {key: self.content[key] for key in ("format", "seed", "data", "probes")}
        return Trial(canonical_json(shared | teacher))


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


@runtime_checkable
class Resolver(Protocol):
    """What the plan asks the layers that own the components."""

    def axes(self, model: str) -> tuple[str, str] | None:
        """The option names of a model's depth and width, or None if the model is unknown."""
        ...

    def content(
        self, data: Mapping[str, Any], role: Role, problems: list[Problem], notices: dict[str, None]
    ) -> tuple[dict[str, Any], int] | None:
        """The resolved content of a trial except for its seed, and its depth; None after adding to `problems`."""
        ...


def expand(
    loaded: Loaded,
    resolver: Resolver,
    seeds: tuple[int, ...] | None = None,
    explain: Callable[[Problem], Problem] = lambda problem: problem,
) -> Plan:
    """Cross the factors and seeds of an experiment.

    Args:
        loaded: The experiment; its problems are reported together with those found here.
        resolver: Knows the components.
        seeds: Replaces the experiment's seeds.
        explain: Improves the message of a problem.

    Raises:
        ConfigError: If there are problems in any section or condition; all of them.
    """
    file, document = loaded.file, loaded.document
    problems, notices = list(loaded.problems), dict[str, None]()
    roles = _roles(loaded, problems)
    seeds = seeds or _seeds(file, problems)
    factors = _all_factors(loaded, resolver, roles, problems)
    combinations = _combinations(factors, loaded, len(seeds), problems)
    resolved: dict[str, tuple[Role, dict[str, Any], dict[str, Any], int]] = {}
    for role, levels in itertools.product(roles, combinations):
        relevant = {key: level for key, level in levels.items() if _reads(role, key)}
        data = with_levels(document.data, relevant)
        before = len(problems)
        result = resolver.content(data, role, problems, notices)
        for index in range(before, len(problems)):
            problems[index] = _at_factor(problems[index], relevant, loaded)
        if result is not None:
            content, depth = result
            checked = {key: get_path(content, _in_content(role, key), level) for key, level in relevant.items()}
            resolved.setdefault(canonical_json(content), (role, checked, content, depth))
    notices.update(duplicate_level_notices(factors))
    if not problems:
        keys = {key for _, _, content, _ in resolved.values() for key in (*dotted(content), "role")}
        conditions = [({"role": role} | levels, dotted(content)) for role, levels, content, _ in resolved.values()]
        problems += claim_problems(loaded, keys | set(factors), conditions, notices)
    raise_located(document, [explain(problem) for problem in problems])
    names = short_names(list(factors))
    results = []
    for role, levels, content, depth in resolved.values():
        trials = tuple(Trial(canonical_json(content | {"seed": seed})) for seed in seeds)
        results.append(Condition(condition_label(role, levels, names), role, levels, depth, trials))
    results.sort(key=lambda condition: roles.index(condition.role))
    varying = {key: factor.levels for key, factor in factors.items()}
    return Plan(loaded, tuple(results), seeds, varying, tuple(notices))


def packs(
    trials: Sequence[Trial], signature: Callable[[Trial], object], most: Callable[[Trial], int]
) -> list[list[Trial]]:
    """Group trials that can be one tensor program, in the order given; `most` bounds the replicas of a pack."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(signature(trial), []).append(trial)
    made = []
    for group in groups.values():
        count = -(-len(group) // max(1, most(group[0])))
        size = -(-len(group) // count)
        made += [group[start : start + size] for start in range(0, len(group), size)]
    return made


def _roles(loaded: Loaded, problems: list[Problem]) -> tuple[Role, ...]:
    """The roles of the file's networks; none if a section that they need is missing."""
    data = loaded.document.data
    sections = ("teacher_model", "student_model", "training_teacher", "training_student", "distillation")
    distilling = any(data.get(name) is not None for name in sections)
    if distilling and data.get("model") is not None:
        text = "cannot be combined with teacher_model and student_model; remove one or the other"
        problems.append(Problem("conflict", "model", text))
    wanted = sections[:-1] if distilling else ("model", "training")
    missing = [name for name in wanted if data.get(name) is None]
    problems += [Problem("missing-section", "", f"missing section '{name}'") for name in missing]
    if missing:
        return ()
    return ("teacher", "baseline", "distilled") if distilling else ("supervised",)


def _seeds(file: ExperimentFile, problems: list[Problem]) -> tuple[int, ...]:
    requested = file.experiment.seeds
    seeds = tuple(range(file.seed, file.seed + requested)) if isinstance(requested, int) else requested
    if not seeds:
        problems.append(Problem("no-seeds", "experiment.seeds", "must have at least one seed, got []"))
    if len(set(seeds)) < len(seeds):
        problems.append(Problem("duplicate-seed", "experiment.seeds", "duplicate seed; equal seeds are one trial"))
    return seeds


def _all_factors(
    loaded: Loaded, resolver: Resolver, roles: tuple[Role, ...], problems: list[Problem]
) -> dict[str, Factor]:
    file, document = loaded.file, loaded.document
    factors = factors_of(file, problems)
    section = "model" if roles == ("supervised",) else "student_model"
    model = file.model if section == "model" else file.student_model
    axes = resolver.axes(model.type) if model else None
    declared: dict[str, Factor] = {}
    options = file.experiment
    if axes is not None:
        for levels, name, axis in ((options.widths, "widths", axes[1]), (options.depths, "depths", axes[0])):
            key = f"{section}.params.{axis}"
            if levels is None or document.places.get(key, "").startswith("override"):
                continue
            if not levels:
                problems.append(Problem("no-levels", f"experiment.{name}", "must have at least one level, got []"))
            declared[key] = Factor(tuple(list(level) if isinstance(level, tuple) else level for level in levels))
            document.places[f"experiment.factors.{key}"] = document.place(f"experiment.{name}")
        residual = f"{section}.params.residual"
        fixed = document.places.get(residual, "").startswith("override")
        asked = {key for key in factors if document.place(f"experiment.factors.{key}").startswith("override")}
        if options.depths is not None and not factors.keys() - asked and residual not in factors and not fixed:
            declared[residual] = Factor((False, True))
    for key in factors if roles else ():
        if key not in ("seed", "experiment.seeds") and not any(_reads(role, key) for role in roles):
            known = sorted({section for role in roles for section in ("data", *READS[role])})
            near = suggestion(key.split(".")[0], known)
            text = f"not a valid factor: must start with {', '.join(known)}.{near}"
            problems.append(Problem("unknown-factor", f"experiment.factors.{key}", text))
    return declared | factors


def _combinations(
    factors: Mapping[str, Factor], loaded: Loaded, seeds: int, problems: list[Problem]
) -> list[dict[str, Any]]:
    count = seeds
    for factor in factors.values():
        count *= len(factor.levels)
    if count > MOST_TRIALS:
        text = f"expands to {count:,} trials (maximum {MOST_TRIALS:,})"
        problems.append(Problem("too-many-trials", "experiment", text))
        return []
    made: dict[str, dict[str, Any]] = {}
    for levels in itertools.product(*(factor.levels for factor in factors.values())):
        combination = dict(zip(factors, levels, strict=True))
        data = with_levels(loaded.document.data, combination)
        for key, factor in factors.items():
            if any(get_path(data, other) != level for other, level in factor.when.items()):
                del combination[key]
        made.setdefault(canonical_json(combination), combination)
    return list(made.values())


def _reads(role: Role, key: str) -> bool:
    return key.split(".")[0] in ("data", *READS[role])


def _in_content(role: Role, key: str) -> str:
    """Where a trial's content holds the value of a key of the file."""
    section, _, rest = key.partition(".")
    own = {"student_model": "model", "training_student": "training"}
    schooled = {"teacher_model": "teacher.model", "training_teacher": "teacher.training"}
    taught = {"teacher_model": "model", "training_teacher": "training"}
    names = own | (taught if role == "teacher" else schooled)
    return f"{names.get(section, section)}.{rest}"


def _at_factor(problem: Problem, levels: Mapping[str, Any], loaded: Loaded) -> Problem:
    for key in levels:
        if problem.path == key or problem.path.startswith((f"{key}.", f"{key}[")):
            return replace(problem, place=loaded.document.place(f"experiment.factors.{key}"))
    return problem
