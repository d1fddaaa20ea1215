"""Tuned factors: for each condition of the other factors, the level with the best validation metric is compared.

The test set has no part in the choice. It is made on the same seeds as the comparison, and each condition has its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels, condition_label, format_factor_level, shortest_unique_suffixes
from fathomlab.base.options import to_dict
from fathomlab.config.schema import TuneOptions
from fathomlab.plan.tuning import untuned
from fathomlab.store.records import ConditionRecord, TrialRecord

if TYPE_CHECKING:
    from fathomlab.analysis.study import Condition


@dataclass(frozen=True)
class Try:
    """One combination of levels of the tuned factors.

    Attributes:
        condition: As planned, with these levels among its factors.
        levels: Those of the tuned factors, by dotted key.
        score: Mean validation metric (fraction); a diverged trial counts as chance accuracy. None without a value.
        seeds: Number of seeds behind the score.
        picked: Whether these levels are compared.
    """

    condition: "Condition"
    levels: Levels
    score: float | None
    seeds: int
    picked: bool = False


@dataclass(frozen=True)
class Choice:
    """How one condition was tuned.

    Attributes:
        by: Metric of the choice.
        tries: In the order of the plan.
    """

    by: str
    tries: tuple[Try, ...]

    @property
    def picked(self) -> Try:
        """The levels that are compared."""
        return next(item for item in self.tries if item.picked)

    @property
    def lead(self) -> float | None:
        """Score of the picked levels minus the second-best score (fraction); None if there is no other."""
        others = [item.score for item in self.tries if not item.picked and item.score is not None]
        best = self.picked.score
        return best - max(others) if others and best is not None else None

    @property
    def edges(self) -> tuple[str, ...]:
        """The tuned factors whose picked level is the smallest or the largest of the numbers that were tried."""
        return tuple(key for key, level in self.picked.levels.items() if _at_edge(level, self._levels(key)))

    @property
    def complete(self) -> bool:
        """Whether all tries have a score over all their seeds, so that the choice will not change."""
        return all(item.seeds == len(item.condition.trials) for item in self.tries)

    def _levels(self, key: str) -> list[object]:
        return [item.levels[key] for item in self.tries if key in item.levels]


def choose(conditions: Sequence["Condition"], tune: TuneOptions) -> Choice | None:
    """The choice among conditions that differ in tuned factors only; None if they have none.

    Scores are means over the seeds for which every try has a value. The first of equal scores is picked.

    Args:
        conditions: In the order of the plan.
        tune: The tuned factors, by their full keys, and the metric.
    """
    levels = [{key: level for key, level in item.record.factors.items() if key in tune.over} for item in conditions]
    if not any(levels):
        return None
    values = [values_by_seed(condition, tune.by) for condition in conditions]
    known = [set(each) for each in values if each]
    shared = set.intersection(*known) if known else set[int]()
    tries: list[Try] = []
    for condition, tried, each in zip(conditions, levels, values, strict=True):
        seeds = sorted(shared & set(each)) or sorted(each)
        score = fmean(each[seed] for seed in seeds) if seeds else None
        tries.append(Try(condition, tried, score, len(seeds)))
    scores = [-math.inf if item.score is None else item.score for item in tries]
    best = scores.index(max(scores))
    marked = (
        Try(item.condition, item.levels, item.score, item.seeds, place == best) for place, item in enumerate(tries)
    )
    return Choice(tune.by, tuple(marked))


def compared_records(
    conditions: Sequence["Condition"], tune: TuneOptions
) -> list[tuple[ConditionRecord, Choice | None]]:
    """The record of each condition that is compared, without the tuned factors, and how it was chosen.

    Args:
        conditions: All, in the order of the plan.
        tune: The tuned factors, by their full keys, and the metric.
    """
    groups: dict[str, list[Condition]] = {}
    for condition in conditions:
        key = canonical_json([condition.record.role, to_dict(untuned(condition.record.factors, tune))])
        groups.setdefault(key, []).append(condition)
    names = shortest_unique_suffixes(list(dict.fromkeys(key for each in conditions for key in each.record.factors)))
    compared: list[tuple[ConditionRecord, Choice | None]] = []
    for group in groups.values():
        choice = choose(group, tune)
        record = choice.picked.condition.record if choice else group[0].record
        factors = untuned(record.factors, tune)
        label = condition_label(record.role, factors, names) if choice else record.label
        compared.append((replace(record, label=label, factors=factors), choice))
    return compared


def describe(levels: Levels) -> str:
    """Levels of tuned factors in words: "learning rate 0.01"."""
    return ", ".join(format_factor_level(key, level) for key, level in levels.items())


def tuned_note(conditions: Sequence["Condition"]) -> str:
    """The picked level of each condition and its number of tries, in a sentence; "" if none is tuned."""
    texts = [
        f"{condition.name} {describe(choice.picked.levels)} (best of {len(choice.tries)})"
        for condition in conditions
        if (choice := condition.choice) is not None
    ]
    return f"Tuned on validation: {'; '.join(texts)}." if texts else ""


def choice_json(condition: "Condition", choice: Choice) -> JsonObject:
    """A choice for JSON; accuracies are fractions."""
    return {
        "condition": condition.record.label,
        "role": condition.record.role,
        "factors": to_plain(dict(condition.record.factors)),
        "by": choice.by,
        "picked": to_plain(dict(choice.picked.levels)),
        "score": choice.picked.score,
        "lead": choice.lead,
        "edges": list(choice.edges),
        "complete": choice.complete,
        "tried": [
            {
                "levels": to_plain(dict(item.levels)),
                "score": item.score,
                "seeds": item.seeds,
                "diverged": item.condition.count("diverged"),
                "picked": item.picked,
            }
            for item in choice.tries
        ],
    }


def values_by_seed(condition: "Condition", metric: str) -> dict[int, float]:
    """Seed to the validation metric of its trial (fraction), for those that have one; a diverged one counts as chance."""
    values = {seed: _value(trial, metric) for seed, trial in condition.trials}
    return {seed: value for seed, value in values.items() if value is not None}


def _value(trial: TrialRecord, metric: str) -> float | None:
    if trial.status == "diverged":
        return 1 / trial.dataset.classes if trial.dataset is not None else 0.0
    value = trial.metrics.get(metric) if trial.status == "finished" else None
    return float(value) if value is not None and math.isfinite(value) else None


def _at_edge(level: object, levels: Sequence[object]) -> bool:
    numbers = [item for item in levels if isinstance(item, int | float) and not isinstance(item, bool)]
    return len(numbers) == len(levels) > 1 and min(numbers) < max(numbers) and level in (min(numbers), max(numbers))
