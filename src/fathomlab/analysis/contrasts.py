"""From a claim and the trials to numbers: one difference, slope or success for each seed, and what was lost on the way."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from fathomlab.analysis.significance import clustered_discordant, discordant
from fathomlab.base.catalogue import plain
from fathomlab.base.labels import level_text
from fathomlab.config.schema import Claim
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

Read = Callable[[str], TrialRecord]
FATES = {"failed": "failed", "diverged": "diverged", "damaged": "cannot be read"}


@dataclass(frozen=True)
class Pair:
    """One seed: the metric at both levels and their difference; `second` is None where there is none.

    For a trend `first` and `difference` are the slope; a trial that diverged has no value (None), though it counts as a
    failure in a claim of success.
    """

    seed: int
    first: float | None
    second: float | None
    difference: float


@dataclass(frozen=True)
class Side:
    """One level of a claim.

    Attributes:
        level: As labels print it.
        conditions: Those that the claim averages at this level.
        values: Seed to the metric, averaged over the conditions; -inf where a trial of a success claim diverged.
        seeds: All seeds of its conditions.
        fates: Why seeds have no value: how a trial ended -> seeds.
    """

    level: str
    conditions: tuple[ConditionRecord, ...]
    values: Mapping[int, float]
    seeds: tuple[int, ...]
    fates: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contrast:
    """What a claim compares, seed by seed; `absent` names a level that no condition has, `""` where all are there."""

    claim: Claim
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    absent: str

    @property
    def differences(self) -> list[float]:
        """One for each seed that has all levels."""
        return [pair.difference for pair in self.pairs]

    def successes(self, place: int) -> tuple[int, int]:
        """How many seeds of a level are above the threshold, and how many have an outcome."""
        values = self.sides[place].values.values()
        return sum(value > self.threshold for value in values), len(values)

    @property
    def threshold(self) -> float:
        """What the metric of a success is above."""
        return math.inf if self.claim.threshold is None else self.claim.threshold


def contrast(read: Read, experiment: ExperimentRecord, claim: Claim) -> Contrast:
    """The contrast that a claim is about."""
    sides = tuple(_side(read, experiment, claim, level) for level in claim.levels)
    absent = next((_absent(claim, side) for side in sides if not side.conditions), "")
    if claim.kind == "trend" and not absent and len(set(_places(claim, sides))) < len(sides):
        absent = "two levels have the same depth, or none"
    pairs = () if absent else tuple(_pairs(claim, sides))
    return Contrast(claim, sides, pairs, absent)


def on_images(read: Read, found: Contrast) -> dict[str, Any] | None:
    """McNemar's test on which test images the last-epoch weights classify correctly; None where that is not stored.

    Returns:
        `b` and `c`: images that only the first, and only the second level got right, summed over seeds; the exact two-sided
        `p` over all seeds, `seeds`, and `each`: the same for each seed by itself.
    """
    claim = found.claim
    single = len(found.sides) == 2 and all(len(side.conditions) == 1 for side in found.sides)
    if claim.kind != "difference" or claim.metric != "test/accuracy" or not single or found.absent:
        return None
    trials = [dict(side.conditions[0].trials) for side in found.sides]
    each, balance = [], np.zeros(0, dtype=np.int64)
    for pair in found.pairs:
        first, second = (read(side[pair.seed]).correct() for side in trials)
        if first is None or second is None or len(first) != len(second):
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
    return {**sums, "p": clustered_discordant(balance), "seeds": len(each), "each": each}


def lost(found: Contrast) -> list[str]:
    """What happened to seeds that have no value, and what that means for the claim, in sentences."""
    notes = []
    for side in found.sides:
        for fate, seeds in side.fates.items():
            many = "1 trial" if len(seeds) == 1 else f"{len(seeds)} trials"
            which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
            means = "counted as no success" if _counts(found.claim, fate) else "left out, with the whole seed"
            if fate == "waiting":
                notes.append(f"{side.level}: {many} without a result yet ({which}).")
            else:
                notes.append(f"{side.level}: {many} {FATES.get(fate, fate)} ({which}), {means}.")
    return notes


def _counts(claim: Claim, fate: str) -> bool:
    return claim.kind == "success" and fate == "diverged"


def _side(read: Read, experiment: ExperimentRecord, claim: Claim, level: Any) -> Side:
    conditions = tuple(
        condition
        for condition in experiment.conditions
        if claim.selects({"role": condition.role, **condition.factors}, level, experiment.fixed)
    )
    found: dict[int, list[float]] = {}
    fates: dict[str, list[int]] = {}
    for condition in conditions:
        for seed, trial in condition.trials:
            value, fate = _value(read(trial), claim)
            found.setdefault(seed, []).append(value)
            if fate:
                fates.setdefault(fate, []).append(seed)
    means = {seed: fmean(values) for seed, values in sorted(found.items())}
    values = {seed: value for seed, value in means.items() if not math.isnan(value) and value < math.inf}
    ended = {fate: tuple(sorted(seeds)) for fate, seeds in fates.items()}
    return Side(f"{_tail(claim.factor)}={level_text(plain(level))}", conditions, values, tuple(means), ended)


def _value(record: TrialRecord, claim: Claim) -> tuple[float, str]:
    """A trial's number, NaN where it has none, and how it ended if not well."""
    if record.status != "finished":
        fate = record.status if record.status in FATES else "waiting"
        return (-math.inf if _counts(claim, fate) else math.nan), fate
    value = record.metrics.get(claim.metric)
    return (math.nan, f"without {claim.metric}") if value is None or not math.isfinite(value) else (value, "")


def _pairs(claim: Claim, sides: Sequence[Side]) -> list[Pair]:
    shared = sorted(set.intersection(*(set(side.values) for side in sides)))
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
        made.append(Pair(seed, shown[0], shown[1] if len(shown) > 1 else None, scores[0] - other))
    return made


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of the values over log2 of the places: what one doubling changes.

    Example:
        >>> slope([5, 10, 20], [1.0, 3.0, 5.0])
        2.0
    """
    across = [math.log2(place) for place in places]
    centre = fmean(across)
    return sum((x - centre) * y for x, y in zip(across, values, strict=True)) / sum((x - centre) ** 2 for x in across)


def _places(claim: Claim, sides: Sequence[Side]) -> list[float]:
    """Where levels stand on the axis of a trend: their numbers, or the depth of their condition where they are lists."""
    return [
        float(side.conditions[0].depth or 1) if isinstance(level, list | tuple) else float(level)
        for side, level in zip(sides, claim.levels, strict=True)
    ]


def _absent(claim: Claim, side: Side) -> str:
    where = "".join(f" {key}={level_text(plain(value))}" for key, value in claim.at.items())
    return f"the plan has no condition with {side.level}{where}"


def _tail(key: str) -> str:
    return key.rsplit(".", 1)[-1]
