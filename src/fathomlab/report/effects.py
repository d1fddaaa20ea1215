"""Differences between conditions, paired by seed: what the answers, a figure and a table say alike."""

from dataclasses import dataclass

from fathomlab.analysis.statistics import Interval, mean_interval, paired_interval
from fathomlab.report.study import Condition, Study


@dataclass(frozen=True)
class Effect:
    """One condition minus another in test accuracy, in points.

    Attributes:
        label: What distinguishes it from the other effects of the experiment: "depth 40".
        first: The condition that is added to (plain, baseline, shallow).
        second: The condition in question (residual, distilled, deep).
        differences: Seed to difference [points] where both finished.
        interval: Mean of the differences with its 95 % interval [points]; None where no pair finished.
        lost: How many pairs are left out because a trial has no result.
    """

    label: str
    first: Condition
    second: Condition
    differences: dict[int, float]
    interval: Interval | None
    lost: int


def effect(study: Study, label: str, first: Condition, second: Condition) -> Effect:
    """The second condition minus the first."""
    before, after = first.outcomes(study.metric), second.outcomes(study.metric)
    differences = {seed: 100 * (after[seed] - before[seed]) for seed in before if seed in after}
    seeds = {seed for seed, _ in first.trials} & {seed for seed, _ in second.trials}
    interval = paired_interval(list(differences.values())) if differences else None
    return Effect(label, first, second, differences, interval, len(seeds) - len(differences))


def residual_effects(study: Study) -> list[Effect]:
    """Residual minus plain, for each pair of conditions that differ in nothing else, by depth."""
    pairs = study.residual_pairs()
    ordered = sorted(pairs, key=lambda pair: pair[1].depth or 0)
    return [effect(study, _without_residual(residual), plain, residual) for plain, residual in ordered]


def depth_effects(study: Study) -> list[Effect]:
    """The deepest minus the shallowest condition of each series."""
    found: list[Effect] = []
    for name, conditions in study.by_series().items():
        ordered = sorted(conditions, key=lambda condition: condition.depth or 0)
        if len(ordered) > 1:
            found.append(effect(study, name or "depth", ordered[0], ordered[-1]))
    return found


def distillation_gains(study: Study) -> list[Effect]:
    """Each distilled student minus the baseline student."""
    baseline = study.with_role("baseline")
    if baseline is None:
        return []
    return [effect(study, student.name.removeprefix("distilled, "), baseline, student) for student in study.distilled]


def accuracy(study: Study, condition: Condition) -> Interval | None:
    """Mean test accuracy over seeds with its 95 % interval [per cent]; None where no trial finished."""
    values = [100 * value for value in condition.outcomes(study.metric).values()]
    return mean_interval(values) if values else None


def _without_residual(condition: Condition) -> str:
    words = [text for text in condition.name.split(", ") if text != "residual"]
    return ", ".join(words) or "residual"
