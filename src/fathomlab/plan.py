"""From an experiment to its trials: factors x seeds -> conditions -> trials -> packs. Pure values, no torch."""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from fathomlab.base.identity import canonical_json, content_hash
from fathomlab.base.labels import condition_label, dotted, short_names
from fathomlab.base.problems import ConfigError, Problem, shown, suggestion
from fathomlab.config.load import Loaded, factors_of, get_path, raise_located, with_levels
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
NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Trial:
    """One network to train: its content as canonical JSON, from which everything about it follows."""

    text: str

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content: the trial's identity, folder and cache key."""
        return content_hash(self.content)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Resolved options, nested; do not change."""
        return json.loads(self.text)

    @property
    def seed(self) -> int:
        """Root of the trial's random streams."""
        return self.content["seed"]

    @cached_property
    def teacher(self) -> "Trial | None":
        """The trial that a distilled student learns from: the teacher of the same seed."""
        teacher = self.content.get("teacher")
        if teacher is None:
            return None
        shared = {key: self.content[key] for key in ("format", "seed", "data", "probes")}
        return Trial(canonical_json(shared | teacher))


@dataclass(frozen=True)
class Condition:
    """One level of each factor, and its trial for each seed."""

    label: str
    role: Role
    factors: Mapping[str, Any]
    depth: int | None
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment needs.

    Attributes:
        loaded: The experiment as it was asked for.
        conditions: In the order of the factors.
        seeds: Replicates.
        factors: Dotted keys that vary, in order, with their levels.
        notices: What the user should know once, such as an option that does nothing.
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
        """The declared claims as plain data."""
        return self.loaded.document.data.get("claims") or []


@runtime_checkable
class Resolver(Protocol):
    """What the plan must be told by the layers that own the parts."""

    def axes(self, model: str) -> tuple[str, str] | None:
        """The option names of a model's depth and width, or None where there is no such model."""
        ...

    def content(
        self, data: Mapping[str, Any], role: Role, problems: list[Problem], notices: dict[str, None]
    ) -> tuple[dict[str, Any], int] | None:
        """The resolved content of a trial but for its seed, and its depth; None after adding to `problems`."""
        ...


def expand(loaded: Loaded, resolver: Resolver, seeds: tuple[int, ...] | None = None) -> Plan:
    """Cross the factors and seeds of an experiment, or other seeds than its own.

    Raises:
        ConfigError: Every problem in any condition, at once.
    """
    file, document = loaded.file, loaded.document
    roles = _roles(file, loaded)
    seeds = seeds or _seeds(file, loaded)
    factors = _all_factors(loaded, resolver, roles)
    combinations = _combinations(factors, loaded, len(seeds))
    problems, notices = list[Problem](), dict[str, None]()
    found: dict[str, tuple[Role, dict[str, Any], dict[str, Any], int]] = {}
    for role, levels in itertools.product(roles, combinations):
        relevant = {key: level for key, level in levels.items() if _reads(role, key)}
        data = with_levels(document.data, relevant)
        before = len(problems)
        resolved = resolver.content(data, role, problems, notices)
        for place in range(before, len(problems)):
            problems[place] = _at_factor(problems[place], relevant, loaded)
        if resolved is not None:
            content, depth = resolved
            checked = {key: get_path(content, _in_content(role, key), level) for key, level in relevant.items()}
            found.setdefault(canonical_json(content), (role, checked, content, depth))
    notices.update(_twins(factors))
    keys = {key for _, _, content, _ in found.values() for key in (*dotted(content), "role")}
    levels = [({"role": role} | own, dotted(content)) for role, own, content, _ in found.values()]
    problems += _claim_problems(loaded, keys | set(factors), levels)
    raise_located(document, problems)
    names = short_names(list(factors))
    conditions = []
    for role, levels, content, depth in found.values():
        trials = tuple(Trial(canonical_json(content | {"seed": seed})) for seed in seeds)
        conditions.append(Condition(condition_label(role, levels, names), role, levels, depth, trials))
    conditions.sort(key=lambda condition: roles.index(condition.role))
    varying = {key: factor.levels for key, factor in factors.items()}
    return Plan(loaded, tuple(conditions), seeds, varying, tuple(notices))


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


def _roles(file: ExperimentFile, loaded: Loaded) -> tuple[Role, ...]:
    sections = ("teacher_model", "student_model", "training_teacher", "training_student", "distillation")
    distilling = any(getattr(file, name) is not None for name in sections)
    problems = []
    if distilling and file.model is not None:
        problems.append(
            Problem(
                "conflict", "model", "cannot stand beside teacher_model and student_model. Remove one or the other."
            )
        )
    wanted = sections[:-1] if distilling else ("model", "training")
    problems += [
        Problem("missing-section", "", f"the section '{name}' is missing.")
        for name in wanted
        if getattr(file, name) is None
    ]
    raise_located(loaded.document, problems)
    return ("teacher", "baseline", "distilled") if distilling else ("supervised",)


def _seeds(file: ExperimentFile, loaded: Loaded) -> tuple[int, ...]:
    asked = file.experiment.seeds
    seeds = tuple(range(file.seed, file.seed + asked)) if isinstance(asked, int) else asked
    problems = []
    if not seeds:
        problems.append(Problem("no-seeds", "experiment.seeds", "has no seeds (got []). Give at least one."))
    if len(set(seeds)) < len(seeds):
        problems.append(Problem("duplicate-seed", "experiment.seeds", "names a seed twice; equal seeds are one trial."))
    raise_located(loaded.document, problems)
    return seeds


def _all_factors(loaded: Loaded, resolver: Resolver, roles: tuple[Role, ...]) -> dict[str, Factor]:
    file, document = loaded.file, loaded.document
    factors = factors_of(file, document)
    problems: list[Problem] = []
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
                problems.append(
                    Problem("no-levels", f"experiment.{name}", "has no levels (got []). Give at least one.")
                )
            declared[key] = Factor(tuple(list(level) if isinstance(level, tuple) else level for level in levels))
            document.places[f"experiment.factors.{key}"] = document.place(f"experiment.{name}")
        residual = f"{section}.params.residual"
        fixed = document.places.get(residual, "").startswith("override")
        asked = {key for key in factors if document.place(f"experiment.factors.{key}").startswith("override")}
        if options.depths is not None and not factors.keys() - asked and residual not in factors and not fixed:
            declared[residual] = Factor((False, True))
    for key in factors:
        if not any(_reads(role, key) for role in roles):
            known = sorted({section for role in roles for section in ("data", *READS[role])})
            near = suggestion(key.split(".")[0], known)
            text = f"is not a key that a trial reads.{near} Factors begin with {', '.join(known)}."
            problems.append(Problem("unknown-factor", f"experiment.factors.{key}", text))
    raise_located(document, problems)
    return declared | factors


def _combinations(factors: Mapping[str, Factor], loaded: Loaded, seeds: int) -> list[dict[str, Any]]:
    count = seeds
    for factor in factors.values():
        count *= len(factor.levels)
    if count > MOST_TRIALS:
        text = f"these factors and seeds are {count:,} trials; at most {MOST_TRIALS:,} are planned at once."
        raise ConfigError(
            loaded.document.source,
            [Problem("too-many-trials", "experiment", text, loaded.document.place("experiment"))],
        )
    made: dict[str, dict[str, Any]] = {}
    for levels in itertools.product(*(factor.levels for factor in factors.values())):
        combination = dict(zip(factors, levels, strict=True))
        data = with_levels(loaded.document.data, combination)
        for key, factor in factors.items():
            if any(get_path(data, other) != level for other, level in factor.when.items()):
                del combination[key]
        made.setdefault(canonical_json(combination), combination)
    return list(made.values())


def _twins(factors: Mapping[str, Factor]) -> dict[str, None]:
    """A notice for each factor in which one number is spelled in two ways, such as 0.001 and 1e-3."""
    spelled = {
        key: [float(text) for text in map(str, own.levels) if NUMBER.fullmatch(text)] for key, own in factors.items()
    }
    twins = [key for key, numbers in spelled.items() if len(set(numbers)) < len(numbers)]
    return dict.fromkeys(f"{key}: levels that are one number are one condition." for key in twins)


def _reads(role: Role, key: str) -> bool:
    return key.split(".")[0] in ("data", *READS[role])


def _claim_problems(loaded: Loaded, keys: set[str], conditions: Sequence[tuple[Any, Any]]) -> list[Problem]:
    """Claims about what no trial has; a level that an override or the quick form took away only leaves its claim open."""
    endings = {".".join(parts[start:]) for key in keys for parts in [key.split(".")] for start in range(len(parts))}
    problems = []
    for place, claim in enumerate(loaded.file.claims):
        for path, key in [("factor", claim.factor), *((f"at.{key}", key) for key in claim.at)]:
            if key not in endings:
                text = f"names no option of a trial (got {shown(key)}).{suggestion(key, sorted(endings))}"
                problems.append(Problem("unknown-claim-key", f"claims[{place}].{path}", text))
        for level in [] if loaded.overrides or loaded.quick or problems else claim.levels:
            if not any(claim.selects(own, level, options) for own, options in conditions):
                where = "".join(f", {key}: {shown(wanted)}" for key, wanted in claim.at.items())
                problems.append(
                    Problem(
                        "no-such-condition",
                        f"claims[{place}]",
                        f"no condition has {claim.factor}: {shown(level)}{where}.",
                    )
                )
    return problems


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
            return Problem(
                problem.code, problem.path, problem.message, loaded.document.place(f"experiment.factors.{key}")
            )
    return problem
