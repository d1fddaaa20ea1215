"""From a claim and its trials to numbers: one difference, slope, or success per seed, and the seeds without one.

Divergence is an outcome of its condition, never a missing value: a diverged trial counts as a failure in success claims and
as chance accuracy in differences of accuracies. Losses and slopes have no such number, so these claims stay undecided.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from fathomlab.analysis.significance import clustered_discordant, discordant
from fathomlab.base.labels import describe_level, level_text
from fathomlab.base.options import to_dict
from fathomlab.config.schema import Claim
from fathomlab.data import DATASETS
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

Read = Callable[[str], TrialRecord]
MISSING = {"failed": "failed", "damaged": "cannot be read"}


@dataclass(frozen=True)
class Pair:
    """One seed: the metric at both levels and their difference. `second` is None for trends and references.

    For a trend, `first` and `difference` are the slope. In a success claim, a diverged trial has no value (None) and counts
    as a failure. `diverged` says whether a trial of this seed diverged.
    """

    seed: int
    first: float | None
    second: float | None
    difference: float
    diverged: bool = False


@dataclass(frozen=True)
class Side:
    """One level of a claim.

    Attributes:
        level: Factor and level as in the file, such as `lr=0.1`.
        phrase: The same as readers say it, such as "residual networks".
        conditions: Those that the claim averages at this level.
        values: Seed to the metric, averaged over the conditions; -inf if a trial of a success claim diverged.
        seeds: All seeds of its conditions.
        diverged: Seeds of which a trial diverged.
        missing: Why other seeds have no value: status or reason to seeds.
    """

    level: str
    phrase: str
    conditions: tuple[ConditionRecord, ...]
    values: Mapping[int, float]
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    missing: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contrast:
    """What a claim compares, seed by seed.

    Attributes:
        absent: Names a level that no condition has; `""` if all levels exist.
        chance: Accuracy of a constant answer, 1/classes; what a diverged trial counts as. None if the classes are unknown.
    """

    claim: Claim
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    absent: str
    chance: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether a seed diverged at any level."""
        return any(side.diverged for side in self.sides)

    @property
    def differences(self) -> list[float]:
        """One for each seed that has all levels."""
        return [pair.difference for pair in self.pairs]

    def successes(self, place: int) -> tuple[int, int]:
        """Number of seeds of a level above the threshold, and number of seeds with an outcome."""
        values = self.sides[place].values.values()
        return sum(value > self.threshold for value in values), len(values)

    @property
    def threshold(self) -> float:
        """What the metric of a success is above."""
        return math.inf if self.claim.threshold is None else self.claim.threshold


def contrast(read: Read, experiment: ExperimentRecord, claim: Claim) -> Contrast:
    """The contrast that a claim is about."""
    conditions = [_selected(experiment, claim, level) for level in claim.levels]
    chance = next((found for group in conditions if (found := _chance(read, group)) is not None), None)
    sides = tuple(
        _side(read, group, claim, level, chance) for group, level in zip(conditions, claim.levels, strict=True)
    )
    absent = next((_absent(claim, side) for side in sides if not side.conditions), "")
    if claim.kind == "trend" and not absent and len(set(_places(claim, sides))) < len(sides):
        absent = "two levels have the same depth, or none"
    pairs = () if absent else tuple(_pairs(claim, sides))
    return Contrast(claim, sides, pairs, absent, chance)


def on_images(read: Read, found: Contrast) -> dict[str, Any] | None:
    """McNemar's test on which test images the last-epoch weights classify correctly; None if that is not stored.

    A diverged trial has no last-epoch predictions, so its pair is excluded.

    Returns:
        `b` and `c`: images that only the first, and only the second level got right, summed over seeds; the exact two-sided
        `p` over all seeds, `seeds`, `excluded` (the seeds left out), and `each`: the same per seed.
    """
    claim = found.claim
    single = len(found.sides) == 2 and all(len(side.conditions) == 1 for side in found.sides)
    if claim.kind != "difference" or claim.metric != "test/accuracy" or not single or found.absent:
        return None
    trials = [dict(side.conditions[0].trials) for side in found.sides]
    each, excluded, balance = [], list[int](), np.zeros(0, dtype=np.int64)
    for pair in found.pairs:
        first, second = (read(side[pair.seed]).correct() for side in trials)
        if first is None or second is None or len(first) != len(second):
            excluded.append(pair.seed)
            continue
        gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
        each.append({"seed": pair.seed, "b": gained, "c": lost, "p": discordant(gained, lost)})
        change = first.astype(np.int64) - second.astype(np.int64)
        if len(balance) not in (0, len(change)):
            return None
        balance = change if len(balance) == 0 else balance + change
    if not each:
        return None
    sums = {key: sum(seed[key] for seed in each) for key in ("b", "c")}
    counts = {"seeds": len(each), "excluded": excluded}
    return {**sums, "p": clustered_discordant(balance), **counts, "each": each}


def _selected(experiment: ExperimentRecord, claim: Claim, level: Any) -> tuple[ConditionRecord, ...]:
    return tuple(
        condition
        for condition in experiment.conditions
        if claim.selects({"role": condition.role, **condition.factors}, level, experiment.fixed)
    )


def _chance(read: Read, conditions: Sequence[ConditionRecord]) -> float | None:
    """Accuracy of a constant answer on a dataset with equally frequent classes."""
    for condition in conditions:
        for _, trial in condition.trials:
            data = read(trial).content.get("data")
            name = data.get("name") if isinstance(data, Mapping) else None
            if isinstance(name, str) and name in DATASETS:
                return 1 / DATASETS[name].info.classes
    return None


def _side(read: Read, conditions: tuple[ConditionRecord, ...], claim: Claim, level: Any, chance: float | None) -> Side:
    outcomes: dict[int, list[float]] = {}
    diverged: set[int] = set()
    missing: dict[str, list[int]] = {}
    for condition in conditions:
        for seed, trial in condition.trials:
            value, reason = _value(read(trial), claim, chance)
            outcomes.setdefault(seed, []).append(value)
            if reason == "diverged":
                diverged.add(seed)
            elif reason:
                missing.setdefault(reason, []).append(seed)
    means = {seed: fmean(values) for seed, values in sorted(outcomes.items())}
    values = {seed: value for seed, value in means.items() if not math.isnan(value) and value < math.inf}
    return Side(
        level=f"{_tail(claim.factor)}={level_text(to_dict(level))}",
        phrase=describe_level(claim.factor, level),
        conditions=conditions,
        values=values,
        seeds=tuple(means),
        diverged=tuple(sorted(diverged)),
        missing={reason: tuple(sorted(seeds)) for reason, seeds in missing.items()},
    )


def _value(record: TrialRecord, claim: Claim, chance: float | None) -> tuple[float, str]:
    """A trial's number (NaN if it has none), and `diverged` or the reason why it is missing."""
    loss = claim.metric.endswith("loss")
    if record.status == "diverged":
        if claim.kind == "success":
            return -math.inf, "diverged"
        return (math.nan if loss or claim.kind == "trend" or chance is None else chance), "diverged"
    if record.status != "finished":
        return math.nan, record.status if record.status in MISSING else "pending"
    value = record.metrics.get(claim.metric)
    if value is not None and math.isfinite(value):
        return value, ""
    if loss and claim.metric in record.metrics:  # stored as null: the loss was infinite or NaN
        return math.nan, "diverged"
    return math.nan, f"has no {claim.metric}"


def _pairs(claim: Claim, sides: Sequence[Side]) -> list[Pair]:
    shared = sorted(set.intersection(*(set(side.values) for side in sides)))
    diverged = {seed for side in sides for seed in side.diverged}
    if claim.kind == "trend":
        places = _places(claim, sides)
        slopes = {seed: slope(places, [side.values[seed] for side in sides]) for seed in shared}
        return [Pair(seed, value, None, value) for seed, value in slopes.items()]
    made = []
    for seed in shared:
        values = [side.values[seed] for side in sides]
        scores = [float(value > (claim.threshold or 0.0)) for value in values] if claim.kind == "success" else values
        other = scores[1] if len(scores) > 1 else claim.reference or 0.0
        shown = [value if math.isfinite(value) else None for value in values]
        second = shown[1] if len(shown) > 1 else None
        made.append(Pair(seed, shown[0], second, scores[0] - other, seed in diverged))
    return made


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of the values over log2 of the positions: the change per doubling.

    Example:
        >>> slope([5, 10, 20], [1.0, 3.0, 5.0])
        2.0
    """
    across = [math.log2(place) for place in places]
    center = fmean(across)
    return sum((x - center) * y for x, y in zip(across, values, strict=True)) / sum((x - center) ** 2 for x in across)


def _places(claim: Claim, sides: Sequence[Side]) -> list[float]:
    """Where levels stand on the axis of a trend: their numbers, or the depth of their condition where they are lists."""
    return [
        float(side.conditions[0].depth or 1) if isinstance(level, list | tuple) else float(level)
        for side, level in zip(sides, claim.levels, strict=True)
    ]


def _absent(claim: Claim, side: Side) -> str:
    where = "".join(f" {key}={level_text(to_dict(value))}" for key, value in claim.at.items())
    return f"no condition has {side.level}{where}"


def _tail(key: str) -> str:
    return key.rsplit(".", 1)[-1]
