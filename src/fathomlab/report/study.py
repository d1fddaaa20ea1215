"""An experiment as the page needs it: conditions with names that people read, their trials, their numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

DEPTH_KEYS = ("hidden_layers_num", "layers")
WORDS = {"hidden_layers_num": "depth", "layers_dim": "width", "batch_norm": "batch norm"}
ROLES = {"teacher": "teacher", "baseline": "baseline student", "distilled": "distilled"}


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        name: What people call it, unique in the experiment: "residual, depth 40".
        series: The name without the depth: "residual"; "" if depth is all that varies.
        level: The depth as a line of a figure is called: "depth 40", or the whole name where there is no depth.
        key: The factors without `residual`, to pair conditions that differ in it alone.
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
        """How many layers, None where the experiment has no depth."""
        return self.record.depth

    @property
    def residual(self) -> bool | None:
        """Whether it has residual connections; None where that is no factor."""
        return next((value for key, value in self.record.factors.items() if _tail(key) == "residual"), None)

    @property
    def parameters(self) -> int | None:
        """How many numbers the network learns, as its trials tell it."""
        return next((trial.parameters for _, trial in self.trials if trial.parameters is not None), None)

    def outcomes(self, metric: str) -> dict[int, float]:
        """The metric at each seed whose trial finished with a number."""
        found = {seed: trial.metrics.get(metric) for seed, trial in self.trials if trial.status == "finished"}
        return {seed: value for seed, value in found.items() if value is not None}

    def count(self, *statuses: str) -> int:
        """How many of its trials have one of these statuses."""
        return sum(trial.status in statuses for _, trial in self.trials)


@dataclass(frozen=True)
class Study:
    """An experiment and its conditions, in the plan's order."""

    experiment: ExperimentRecord
    conditions: tuple[Condition, ...]

    @property
    def metric(self) -> str:
        """The name of the headline number: declared in the file, never picked afterwards."""
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
    def distilled(self) -> tuple[Condition, ...]:
        """The distilled students."""
        return tuple(condition for condition in self.conditions if condition.record.role == "distilled")

    def with_role(self, role: str) -> Condition | None:
        """The first condition of a role."""
        return next((condition for condition in self.conditions if condition.record.role == role), None)

    def residual_pairs(self) -> list[tuple[Condition, Condition]]:
        """(plain, residual) for all conditions that differ in the shortcuts alone."""
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
    """An experiment with the records of its trials."""
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


def word(key: str, level: Any) -> str:
    """A factor's level as people say it: `residual: false` is "plain", `layers_dim: 32` is "width 32"."""
    tail = _tail(key)
    if tail == "residual":
        return "residual" if level else "plain"
    if isinstance(level, list | tuple):
        level = "-".join(str(item) for item in cast(list[Any], level))
    if isinstance(level, bool):
        level = "on" if level else "off"
    return f"{WORDS.get(tail, tail.replace('_', ' '))} {level}"


def _condition(store: Store, record: ConditionRecord) -> Condition:
    factors = record.factors
    role = [ROLES[record.role]] if record.role in ROLES else []
    others = [word(key, level) for key, level in factors.items() if _tail(key) not in DEPTH_KEYS]
    depth = _depth_words(record.depth, factors)
    return Condition(
        record=record,
        name=", ".join(role + others + depth) or record.label or "the only condition",
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
