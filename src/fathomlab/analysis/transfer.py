"""How the best level of a tuned number, such as the learning rate, changes with depth: a power law fitted for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import cast

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.tuning import Choice, values_by_seed

MIN_DEPTHS = 3


@dataclass(frozen=True)
class Exponent:
    """The fitted power of depth for the conditions that differ only in depth.

    Attributes:
        series: Their name without the depth; "" if only the depth varies.
        key: Dotted key of the tuned factor.
        best: Depth to seed to the level with the best validation metric of that seed.
        interval: Least-squares slope of ln(best level) on ln(depth): mean over the seeds with its 95% t interval.
        edges: Number of best levels that are the smallest or the largest that was tried.
    """

    series: str
    key: str
    best: Mapping[int, Mapping[int, float]]
    interval: Interval
    edges: int

    @property
    def total(self) -> int:
        """Number of best levels."""
        return sum(map(len, self.best.values()))


def exponents(study: Study) -> list[Exponent]:
    """The exponents of each series with at least three depths whose tuned levels are positive numbers.

    The seed is the unit: each seed has its own best levels and its own exponent, so that the interval includes the noise of the
    choice. Seeds without a value for a level or depth are left out. The interval does not include the distance between levels.
    """
    groups: dict[tuple[str, str], dict[int, Choice]] = {}
    for condition, choice in study.choices:
        for key in _only_number(choice):
            if condition.depth:
                groups.setdefault((condition.series, key), {})[condition.depth] = choice
    fitted = (_fit(series, key, choices) for (series, key), choices in groups.items())
    return [result for result in fitted if result is not None]


def _only_number(choice: Choice) -> list[str]:
    """The key of the tuned factor if it is the only one, and all its levels are different positive numbers."""
    keys = list(choice.picked.levels)
    levels = [level for item in choice.tries for level in item.levels.values()]
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) and level > 0 for level in levels)
    return keys if len(keys) == 1 and numbers and len(set(levels)) == len(levels) > 1 else []


def _fit(series: str, key: str, choices: Mapping[int, Choice]) -> Exponent | None:
    best = {depth: best_levels(choice, key) for depth, choice in sorted(choices.items())}
    seeds = sorted(set.intersection(*map(set, best.values())))
    if len(best) < MIN_DEPTHS or not seeds:
        return None
    best = {depth: {seed: levels[seed] for seed in seeds} for depth, levels in best.items()}
    slopes = [power([(depth, levels[seed]) for depth, levels in best.items()]) for seed in seeds]
    tried = {depth: _levels(choice, key) for depth, choice in choices.items()}
    at_edge = [level in (min(tried[depth]), max(tried[depth])) for depth in best for level in best[depth].values()]
    return Exponent(series, key, best, mean_interval(slopes), sum(at_edge))


def best_levels(choice: Choice, key: str) -> dict[int, float]:
    """Seed to the level with the best metric of this seed; the first of equal ones. Seeds need a value for every level."""
    values = [values_by_seed(item.condition, choice.by) for item in choice.tries]
    levels = _levels(choice, key)
    seeds = sorted(set.intersection(*map(set, values)))
    return {seed: levels[max(range(len(levels)), key=lambda index: values[index][seed])] for seed in seeds}


def _levels(choice: Choice, key: str) -> list[float]:
    return [cast(float, item.levels[key]) for item in choice.tries]


def power(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of ln y on ln x.

    Example:
        >>> round(power([(4, 8.0), (16, 4.0), (64, 2.0)]), 12)
        -0.5
    """
    logs = [(log(x), log(y)) for x, y in points]
    center = fmean(x for x, _ in logs)
    return sum((x - center) * y for x, y in logs) / sum((x - center) ** 2 for x, _ in logs)
