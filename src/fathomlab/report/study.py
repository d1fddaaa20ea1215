"""An experiment as the page shows it: conditions with readable names, their trials, and their numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from fathomlab.base.labels import DISPLAY_NAMES, level_text
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

DEPTH_KEYS = ("hidden_layers_num", "layers")
STATUSES = {
    "diverged": "diverged",
    "failed": "failed",
    "damaged": "corrupted",
    "running": "pending",
    "waiting": "pending",
    "interrupted": "pending",
    "finished": "without this metric",
}
ROLES = {"teacher": "teacher", "baseline": "baseline student", "distilled": "distilled"}


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        name: Readable name, unique in the experiment: "residual, depth 40".
        series: The name without the depth: "residual"; "" if only the depth varies.
        level: Name of its line in a figure: "depth 40", or the full name if the experiment has no depth.
        key: The factors except `residual`. Pairs conditions that differ only in it.
        trials: Seed and record of each trial.
    """

    record: ConditionRecord
    name: str
    series: str
    level: str
    key: tuple[tuple[str, str], ...]
    trials: tuple[tuple[int, TrialRecord], ...]

    @property
    def depth(self) -> int | None:
        """Number of layers; None if the experiment has no depth."""
        return self.record.depth

    @property
    def residual(self) -> bool | None:
        """Whether it has residual connections; None if that is not a factor."""
        return next((value for key, value in self.record.factors.items() if _tail(key) == "residual"), None)

    @property
    def parameters(self) -> int | None:
        """Number of trainable parameters, from its trials."""
        return next((trial.parameters for _, trial in self.trials if trial.parameters is not None), None)

    def outcomes(self, metric: str) -> dict[int, float]:
        """Seed to metric, for each trial that finished with a number."""
        found = {seed: trial.metrics.get(metric) for seed, trial in self.trials if trial.status == "finished"}
        return {seed: value for seed, value in found.items() if value is not None}

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
    """An experiment and its conditions, in the order of the plan."""

    experiment: ExperimentRecord
    conditions: tuple[Condition, ...]

    @property
    def metric(self) -> str:
        """Name of the primary metric: declared in the file, never chosen afterwards."""
        return "best/test/accuracy" if self.experiment.headline == "best" else "test/accuracy"

    @property
    def trials(self) -> list[tuple[Condition, int, TrialRecord]]:
        """Each condition with each of its trials."""
        return [(condition, seed, trial) for condition in self.conditions for seed, trial in condition.trials]

    @property
    def has_depths(self) -> bool:
        """Whether accuracy against depth is a question of this experiment."""
        depths = {condition.depth for condition in self.conditions}
        roles = {condition.record.role for condition in self.conditions}
        return len(depths) > 1 and None not in depths and roles == {"supervised"}

    @property
    def most_seeds(self) -> int:
        """The largest number of seeds with a value of the primary metric in one condition."""
        return max((len(condition.outcomes(self.metric)) for condition in self.conditions), default=0)

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
    made = Study(experiment, tuple(_condition(store, record) for record in experiment.conditions))
    if not made.has_depths:
        conditions = tuple(replace(item, series="", level=item.name) for item in made.conditions)
        made = Study(experiment, conditions)
    names = Counter(condition.name for condition in made.conditions)
    conditions = tuple(
        condition
        if names[condition.name] == 1
        else replace(condition, name=condition.record.label, level=condition.record.label)
        for condition in made.conditions
    )
    return Study(experiment, conditions)


def factor_name(key: str) -> str:
    """A factor for readers: "depth", "residual connections", "learning rate"."""
    tail = _tail(key)
    return "residual connections" if tail == "residual" else DISPLAY_NAMES.get(tail, tail.replace("_", " "))


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


def word(key: str, level: Any) -> str:
    """A factor's level for readers: `residual: false` is "plain", `layers_dim: 32` is "width 32"."""
    tail = _tail(key)
    if tail == "residual":
        return "residual" if level else "plain"
    if isinstance(level, list | tuple):
        level = "-".join(str(item) for item in cast(list[Any], level))
    if isinstance(level, bool):
        level = "on" if level else "off"
    if isinstance(level, float):
        level = level_text(level)
    return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {level}"


def _condition(store: Store, record: ConditionRecord) -> Condition:
    factors = record.factors
    role = [ROLES[record.role]] if record.role in ROLES else []
    others = [word(key, level) for key, level in factors.items() if _tail(key) not in DEPTH_KEYS]
    depth = _depth_words(record.depth, factors)
    return Condition(
        record=record,
        name=", ".join(role + others + depth) or record.label or "single condition",
        series=", ".join(role + others),
        level=", ".join(depth),
        key=tuple((key, repr(level)) for key, level in factors.items() if _tail(key) != "residual"),
        trials=tuple((seed, store.trial(trial)) for seed, trial in record.trials),
    )


def _depth_words(depth: int | None, factors: Mapping[str, Any]) -> list[str]:
    keys = [key for key in factors if _tail(key) in DEPTH_KEYS]
    if not keys:
        return []
    if depth is None:
        return [word(key, factors[key]) for key in keys]
    return [f"depth {depth}"]


def _tail(key: str) -> str:
    return key.rsplit(".", 1)[-1]
