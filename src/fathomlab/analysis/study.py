"""An experiment as analyses and reports read it: conditions with readable names, their trials, its claims, and its looks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from fathomlab.analysis.looks import LookHistory, look_history, planned_looks
from fathomlab.analysis.options import total_parameters
from fathomlab.analysis.sequential import Look
from fathomlab.analysis.tuning import Choice, compared_records
from fathomlab.base.errors import Issue
from fathomlab.base.labels import Levels, format_factor_level, last_part
from fathomlab.base.options import parse
from fathomlab.config.claims import Claim
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

DEPTH_KEYS = ("hidden_layers_num", "layers", "depth")
STATUSES = {
    "diverged": "diverged",
    "failed": "failed",
    "damaged": "corrupted",
    "outdated": "of an older format",
    "running": "pending",
    "waiting": "pending",
    "interrupted": "pending",
    "finished": "without this metric",
}
FAILED_STATUSES = ("failed", "damaged")
PENDING_STATUSES = ("running", "waiting", "interrupted")
ROLES = {"teacher": "teacher", "baseline": "baseline student", "distilled": "distilled"}


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        name: Readable name, unique in the experiment: "residual, depth 40".
        series: The name without the depth: "residual"; "" if only the depth varies.
        level: Name of its line in a figure: "depth 40", or the full name if the experiment has no depth.
        key: The role, and the factors except `residual`. Pairs conditions that differ only in it.
        trials: Seed and record of each trial.
        choice: How its tuned factors were chosen, which are then not among its factors; None if it has none.
    """

    record: ConditionRecord
    name: str
    series: str
    level: str
    key: tuple[tuple[str, str], ...]
    trials: tuple[tuple[int, TrialRecord], ...]
    choice: Choice | None = None

    @property
    def depth(self) -> int | None:
        """Number of layers; None if the experiment has no depth."""
        return _depth(self.record)

    @property
    def residual(self) -> bool | None:
        """Whether it has residual connections; None if that is not a factor."""
        level = next((value for key, value in self.record.factors.items() if last_part(key) == "residual"), None)
        return level if isinstance(level, bool) else None

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters, from its trials."""
        return next((trial.parameters for _, trial in self.trials if trial.parameters is not None), None)

    @property
    def total_parameters(self) -> int | None:
        """Number of parameters, including frozen ones; None if it is unknown."""
        return next((total for _, trial in self.trials if (total := total_parameters(trial)) is not None), None)

    def outcomes(self, metric: str) -> dict[int, float]:
        """Seed to metric, for each trial that finished with a number."""
        values = {seed: trial.metrics.get(metric) for seed, trial in self.trials if trial.status == "finished"}
        return {seed: value for seed, value in values.items() if value is not None}

    def count(self, *statuses: str) -> int:
        """Number of its trials with one of these statuses."""
        return sum(trial.status in statuses for _, trial in self.trials)

    def missing(self, metric: str) -> dict[int, str]:
        """Seed to reason, for each trial without a value of the metric: diverged, failed, corrupted, pending, ..."""
        present = self.outcomes(metric)
        return {seed: STATUSES.get(trial.status, trial.status) for seed, trial in self.trials if seed not in present}

    def excluded(self, metric: str) -> str:
        """Which trials a mean of the metric excludes: "2 of 5 diverged"; "" if it includes all.

        Every mean, interval, band, cell, or count over seeds is shown with this text.
        """
        return exclusions(list(self.missing(metric).values()), len(self.trials))


@dataclass(frozen=True)
class Study:
    """An experiment with the records of its trials, each read once.

    Attributes:
        conditions: Those that are compared, in the order of the plan: all, or the tuned ones.
        claims: In the order of the file; empty if they cannot be evaluated.
        problems: Why its claims cannot be evaluated; empty if they can.
        looks: Analyses of the same question with other numbers of seeds.
        tried: All conditions of the plan, if some are not compared.
    """

    experiment: ExperimentRecord
    conditions: tuple[Condition, ...]
    claims: tuple[Claim, ...] = ()
    problems: tuple[Issue, ...] = ()
    looks: LookHistory = field(default_factory=LookHistory)
    tried: tuple[Condition, ...] = ()

    @property
    def metric(self) -> str:
        """Name of the primary metric: declared in the file, never chosen afterwards."""
        return "best/test/accuracy" if self.experiment.headline == "best" else "test/accuracy"

    @cached_property
    def trials(self) -> list[tuple[Condition, int, TrialRecord]]:
        """Each condition of the plan with each of its trials, those of tuned factors that were not picked included."""
        return [(condition, seed, trial) for condition in self.every for seed, trial in condition.trials]

    @property
    def every(self) -> tuple[Condition, ...]:
        """All conditions of the plan."""
        return self.tried or self.conditions

    @property
    def choices(self) -> list[tuple[Condition, Choice]]:
        """Each tuned condition with its choice."""
        return [(condition, condition.choice) for condition in self.conditions if condition.choice is not None]

    @cached_property
    def tally(self) -> Counter[str]:
        """Number of trials with each status."""
        return Counter(trial.status for _, _, trial in self.trials)

    @cached_property
    def has_depths(self) -> bool:
        """Whether accuracy against depth is a question of this experiment."""
        return _have_depths(self.conditions)

    @cached_property
    def most_seeds(self) -> int:
        """The largest number of seeds with a value of the primary metric in one condition."""
        return max((len(condition.outcomes(self.metric)) for condition in self.conditions), default=0)

    def selected(self, claim: Claim, level: Any) -> tuple[Condition, ...]:
        """The conditions that a claim compares at one level of its factor."""
        fixed = self.experiment.fixed
        return tuple(
            condition
            for condition in self.conditions
            if claim.selects({"role": condition.record.role, **condition.record.factors}, level, fixed)
        )

    def with_role(self, role: str) -> tuple[Condition, ...]:
        """The conditions of a role."""
        return tuple(condition for condition in self.conditions if condition.record.role == role)

    def partner(self, condition: Condition, role: str) -> Condition | None:
        """The condition of a role that has the same level of each factor that both have."""
        factors = condition.record.factors
        return next(
            (
                other
                for other in self.with_role(role)
                if all(other.record.factors[key] == factors[key] for key in factors if key in other.record.factors)
            ),
            None,
        )

    def residual_pairs(self) -> list[tuple[Condition, Condition]]:
        """(plain, residual) for all conditions that differ only in the shortcuts."""
        plain = {condition.key: condition for condition in self.conditions if condition.residual is False}
        residual = [condition for condition in self.conditions if condition.residual is True]
        return [(plain[condition.key], condition) for condition in residual if condition.key in plain]

    def by_series(self) -> dict[str, list[Condition]]:
        """The conditions of each series, in order of appearance."""
        groups: dict[str, list[Condition]] = {}
        for condition in self.conditions:
            groups.setdefault(condition.series, []).append(condition)
        return groups


def study(store: Store, experiment: ExperimentRecord) -> Study:
    """Read an experiment with the records of its trials."""
    return _study(experiment, cache(store.trial), store.experiments)


def studies(store: Store) -> list[Study]:
    """Read all experiments of a store; a trial that several share is read once."""
    experiments = store.experiments()
    read = cache(store.trial)
    return [_study(experiment, read, lambda: experiments) for experiment in experiments]


def exclusions(reasons: Sequence[str], total: int) -> str:
    """How many of `total` seeds have no value, by reason.

    Example:
        >>> exclusions(["diverged", "failed", "diverged"], 5), exclusions(["diverged"] * 5, 5), exclusions([], 5)
        ('2 of 5 diverged, 1 of 5 failed', 'all 5 seeds diverged', '')
    """
    counts = Counter(reasons)
    if len(counts) == 1 and len(reasons) == total > 1:
        return f"all {total} seeds {reasons[0]}"
    return ", ".join(f"{number} of {total} {reason}" for reason, number in counts.items())


def _study(
    experiment: ExperimentRecord, read: Callable[[str], TrialRecord], experiments: Callable[[], list[ExperimentRecord]]
) -> Study:
    problems: list[Issue] = []
    claims = parse(tuple[Claim, ...], list(experiment.claims), "claims", problems)
    conditions = tried = _named(_conditions(read, experiment.conditions))
    if experiment.tune is not None:
        compared = compared_records(tried, experiment.tune)
        chosen = _conditions(read, [record for record, _ in compared])
        conditions = _named([replace(item, choice=choice) for item, (_, choice) in zip(chosen, compared, strict=True)])
    planned: tuple[Look, ...] = ()
    try:
        planned = planned_looks(experiment.looks)
    except ValueError:
        problems.append(Issue("invalid-looks", "looks", "must be a list of interim analyses, each with n and of"))
    if problems:
        return Study(experiment, conditions, problems=tuple(problems), tried=tried if experiment.tune else ())
    looks = look_history(experiment, experiments() if claims else [], planned)
    return Study(experiment, conditions, claims, looks=looks, tried=tried if experiment.tune else ())


def _named(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """The conditions with unique names, and without series if there is no depth."""
    if not _have_depths(conditions):
        conditions = [replace(condition, series="", level=condition.name) for condition in conditions]
    names = Counter(condition.name for condition in conditions)
    return tuple(
        condition
        if names[condition.name] == 1
        else replace(condition, name=condition.record.label, level=condition.record.label)
        for condition in conditions
    )


def _have_depths(conditions: Sequence[Condition]) -> bool:
    depths = {condition.depth for condition in conditions}
    roles = {condition.record.role for condition in conditions}
    unique = len({(condition.series, condition.depth) for condition in conditions}) == len(conditions)
    return unique and len(depths) > 1 and None not in depths and roles == {"supervised"}


def _conditions(read: Callable[[str], TrialRecord], records: Sequence[ConditionRecord]) -> list[Condition]:
    """The conditions, named by their depth if it tells them apart: blocks 3-3 and 2-4 have the same."""
    conditions = [_condition(read, record, by_depth=True) for record in records]
    if len({condition.name for condition in conditions}) == len(conditions):
        return conditions
    return [_condition(read, record, by_depth=False) for record in records]


def _condition(read: Callable[[str], TrialRecord], record: ConditionRecord, by_depth: bool) -> Condition:
    factors = record.factors
    role = [] if record.role == "supervised" else [ROLES.get(record.role, record.role)]
    others = [format_factor_level(key, level) for key, level in factors.items() if last_part(key) not in DEPTH_KEYS]
    depth = _depth_words(_depth(record) if by_depth else None, factors)
    return Condition(
        record=record,
        name=", ".join(role + others + depth) or record.label or "single condition",
        series=", ".join(role + others),
        level=", ".join(depth),
        key=(
            ("role", record.role),
            *((key, repr(level)) for key, level in factors.items() if last_part(key) != "residual"),
        ),
        trials=tuple((pair.seed, read(pair.trial)) for pair in record.trials),
    )


def _depth(record: ConditionRecord) -> int | None:
    """The recorded depth, or the level of an option `depth` of a user's model."""
    levels = (level for key, level in record.factors.items() if last_part(key) == "depth")
    return record.depth or next((level for level in levels if isinstance(level, int)), None)


def _depth_words(depth: int | None, factors: Levels) -> list[str]:
    keys = [key for key in factors if last_part(key) in DEPTH_KEYS]
    if not keys:
        return []
    if depth is None:
        return [format_factor_level(key, factors[key]) for key in keys]
    return [f"depth {depth}"]
