"""From a claim and its trials to numbers: one difference, slope, or success per seed, and the seeds without one.

Divergence is an outcome of its condition, never a missing value: a diverged trial counts as a failure in success claims and
as chance accuracy in differences of accuracies. Losses and slopes have no such number, so these claims stay undecided.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fathomlab.analysis.significance import mcnemar_clustered, mcnemar_exact
from fathomlab.analysis.study import Condition, Study
from fathomlab.base.labels import describe_level, format_level, last_part
from fathomlab.base.options import to_dict
from fathomlab.config.claims import Claim
from fathomlab.store.records import TrialRecord

Answers: TypeAlias = NDArray[np.bool_] | None
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
class Arm:
    """One level of a claim.

    Attributes:
        level: Factor and level as in the file, such as `lr=0.1`.
        phrase: The same for readers, such as "residual networks".
        conditions: Those that the claim averages at this level.
        values: Seed to the metric, averaged over the conditions; -inf if a trial of a success claim diverged.
        seeds: All seeds of its conditions.
        diverged: Seeds of which a trial diverged.
        missing: Why other seeds have no value: status or reason to seeds.
    """

    level: str
    phrase: str
    conditions: tuple[Condition, ...]
    values: Mapping[int, float]
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    missing: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contrast:
    """What a claim compares, seed by seed.

    Attributes:
        arms: One for each level of the claim.
        pairs: One for each seed that has all levels.
        missing_level: Names a level that no condition has; `""` if all levels exist.
        chance: Accuracy of a constant answer, 1/classes; what a diverged trial counts as. None if the classes are unknown.
    """

    claim: Claim
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    missing_level: str
    chance: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether a seed diverged at any level."""
        return any(arm.diverged for arm in self.arms)

    @property
    def differences(self) -> list[float]:
        """One for each seed that has all levels."""
        return [pair.difference for pair in self.pairs]

    def successes(self, arm: Arm) -> tuple[int, int]:
        """Number of seeds of a level above the threshold, and number of seeds with an outcome."""
        threshold = math.inf if self.claim.threshold is None else self.claim.threshold
        return sum(value > threshold for value in arm.values.values()), len(arm.values)


@dataclass(frozen=True)
class ImageCounts:
    """McNemar's test of one seed.

    Attributes:
        b: Number of test images that only the first level classifies correctly.
        c: Number of test images that only the second level classifies correctly.
        p: Exact, two-sided.
    """

    seed: int
    b: int
    c: int
    p: float


@dataclass(frozen=True)
class ImageTest:
    """McNemar's test over seeds on which test images the last-epoch weights classify correctly.

    Attributes:
        b: Images that only the first level classifies correctly, summed over seeds.
        c: Images that only the second level classifies correctly, summed over seeds.
        p: Exact and two-sided over all seeds.
        seeds: Number of seeds.
        excluded: Seeds without stored predictions, such as diverged ones.
        each: The same per seed.
    """

    b: int
    c: int
    p: float
    seeds: int
    excluded: tuple[int, ...]
    each: tuple[ImageCounts, ...]


def contrast(study: Study, claim: Claim) -> Contrast:
    """The contrast that a claim declares."""
    groups = [study.selected(claim, level) for level in claim.levels]
    chance = next((value for group in groups if (value := _chance(group)) is not None), None)
    arms = tuple(_arm(group, claim, level, chance) for group, level in zip(groups, claim.levels, strict=True))
    missing_level = next((_missing_level(claim, arm) for arm in arms if not arm.conditions), "")
    if claim.kind == "trend" and not missing_level and len(set(_trend_positions(claim, arms))) < len(arms):
        missing_level = "two levels have the same depth, or none"
    return Contrast(claim, arms, () if missing_level else tuple(_pairs(claim, arms)), missing_level, chance)


def per_image_test(contrast: Contrast) -> ImageTest | None:
    """McNemar's test of a difference in test accuracy; None for other claims or if predictions are not stored."""
    claim, arms = contrast.claim, contrast.arms
    single = len(arms) == 2 and all(len(arm.conditions) == 1 for arm in arms)
    if claim.kind != "difference" or claim.metric != "test/accuracy" or not single or contrast.missing_level:
        return None
    trials = [dict(arm.conditions[0].trials) for arm in arms]
    return compare_images(
        (pair.seed, trials[0][pair.seed].correct(), trials[1][pair.seed].correct()) for pair in contrast.pairs
    )


def compare_images(seeds: Iterable[tuple[int, Answers, Answers]]) -> ImageTest | None:
    """McNemar's test over seeds on which test images two networks classify correctly.

    Args:
        seeds: Seed, and whether the first and the second network classify each image correctly, (n,); None if unknown.

    Returns:
        None if no seed has both, or if seeds have different numbers of images.
    """
    each, excluded, balance = list[ImageCounts](), list[int](), np.zeros(0, dtype=np.int64)
    for seed, first, second in seeds:
        if first is None or second is None or len(first) != len(second):
            excluded.append(seed)
            continue
        b, c = int((first & ~second).sum()), int((second & ~first).sum())
        each.append(ImageCounts(seed, b, c, mcnemar_exact(b, c)))
        change = first.astype(np.int64) - second.astype(np.int64)
        if len(balance) not in (0, len(change)):
            return None
        balance = change if len(balance) == 0 else balance + change
    if not each:
        return None
    b, c = sum(seed.b for seed in each), sum(seed.c for seed in each)
    return ImageTest(b, c, mcnemar_clustered(balance), len(each), tuple(excluded), tuple(each))


def slope(positions: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of the values over log2 of the positions: the change per doubling.

    Example:
        >>> slope([5, 10, 20], [1.0, 3.0, 5.0])
        2.0
    """
    logs = [math.log2(position) for position in positions]
    center = fmean(logs)
    return sum((x - center) * y for x, y in zip(logs, values, strict=True)) / sum((x - center) ** 2 for x in logs)


def _chance(conditions: Sequence[Condition]) -> float | None:
    """Accuracy of a constant answer on a dataset with equally frequent classes."""
    for condition in conditions:
        for _, trial in condition.trials:
            if trial.dataset is not None:
                return 1 / trial.dataset.classes
    return None


def _arm(conditions: tuple[Condition, ...], claim: Claim, level: Any, chance: float | None) -> Arm:
    outcomes: dict[int, list[float]] = {}
    diverged: set[int] = set()
    missing: dict[str, list[int]] = {}
    for condition in conditions:
        for seed, trial in condition.trials:
            value, reason = _value(trial, claim, chance)
            outcomes.setdefault(seed, []).append(value)
            if reason == "diverged":
                diverged.add(seed)
            elif reason:
                missing.setdefault(reason, []).append(seed)
    means = {seed: fmean(values) for seed, values in sorted(outcomes.items())}
    return Arm(
        level=f"{last_part(claim.factor)}={format_level(to_dict(level))}",
        phrase=describe_level(claim.factor, level),
        conditions=conditions,
        values={seed: value for seed, value in means.items() if not math.isnan(value) and value < math.inf},
        seeds=tuple(means),
        diverged=tuple(sorted(diverged)),
        missing={reason: tuple(sorted(seeds)) for reason, seeds in missing.items()},
    )


def _value(trial: TrialRecord, claim: Claim, chance: float | None) -> tuple[float, str]:
    """A trial's number (NaN if it has none), and `diverged` or the reason why it is missing."""
    loss = claim.metric.endswith("loss")
    if trial.status == "diverged":
        if claim.kind == "success":
            return -math.inf, "diverged"
        return (math.nan if loss or claim.kind == "trend" or chance is None else chance), "diverged"
    if trial.status != "finished":
        return math.nan, trial.status if trial.status in MISSING else "pending"
    value = trial.metrics.get(claim.metric)
    if value is not None and math.isfinite(value):
        return value, ""
    if loss and claim.metric in trial.metrics:  # stored as null: the loss was infinite or NaN
        return math.nan, "diverged"
    return math.nan, f"has no {claim.metric}"


def _pairs(claim: Claim, arms: Sequence[Arm]) -> list[Pair]:
    shared = sorted(set.intersection(*(set(arm.values) for arm in arms)))
    diverged = {seed for arm in arms for seed in arm.diverged}
    if claim.kind == "trend":
        positions = _trend_positions(claim, arms)
        slopes = {seed: slope(positions, [arm.values[seed] for arm in arms]) for seed in shared}
        return [Pair(seed, value, None, value) for seed, value in slopes.items()]
    pairs = []
    for seed in shared:
        values = [arm.values[seed] for arm in arms]
        scores = [float(value > (claim.threshold or 0.0)) for value in values] if claim.kind == "success" else values
        other = scores[1] if len(scores) > 1 else claim.reference or 0.0
        finite = [value if math.isfinite(value) else None for value in values]
        second = finite[1] if len(finite) > 1 else None
        pairs.append(Pair(seed, finite[0], second, scores[0] - other, seed in diverged))
    return pairs


def _trend_positions(claim: Claim, arms: Sequence[Arm]) -> list[float]:
    """The levels on the axis of a trend: their numbers, or the depth of their condition if they are lists."""
    return [
        float(arm.conditions[0].depth or 1) if isinstance(level, list | tuple) else float(level)
        for arm, level in zip(arms, claim.levels, strict=True)
    ]


def _missing_level(claim: Claim, arm: Arm) -> str:
    others = "".join(f" {key}={format_level(to_dict(value))}" for key, value in claim.at.items())
    return f"no condition has {arm.level}{others}"
