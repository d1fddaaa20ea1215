"""Differences between conditions, paired by seed. The answers, the figures, and the tables all show these."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.analysis.pairing import students
from fathomlab.analysis.significance import ONE_SIDED, holm_adjusted, t_test_greater
from fathomlab.analysis.statistics import Interval, mean_interval, paired_interval
from fathomlab.analysis.study import DEPTH_KEYS, Condition, Study, exclusions
from fathomlab.base.labels import factor_name, format_factor_level
from fathomlab.report.numbers import MINUS, first_of


@dataclass(frozen=True)
class Effect:
    """One condition minus another in test accuracy, in points.

    Attributes:
        label: What distinguishes it from the other effects of its panel: "depth 40".
        first: The condition that is subtracted (plain, baseline, shallow).
        second: The condition in question (residual, distilled, deep).
        differences: Seed to difference [points], for each pair that finished.
        interval: Mean of the differences with its 95% interval [points]; None if no pair finished.
        pairs: Number of planned pairs.
        excluded: Which pairs have no difference: "2 of 5 diverged"; "" if all have one.
        clipped: Whether the interval was clipped to a difference of 100 points, the largest that is possible.
        clear: Whether its direction is clear; see `mark_clear`.
    """

    label: str
    first: Condition
    second: Condition
    differences: dict[int, float]
    interval: Interval | None
    pairs: int
    excluded: str
    clipped: bool = False
    clear: bool = False

    @property
    def lost(self) -> int:
        """Number of pairs without a difference."""
        return self.pairs - len(self.differences)


@dataclass(frozen=True)
class Panel:
    """The effects of one factor.

    Attributes:
        name: For ids and file names: "gain", "residual", "depth", or "factor-2".
        subject: What is varied: "residual connections", "depth".
        contrast: What is subtracted from what: "residual − plain".
        change: What changes, at the end of a sentence: " with residual connections", " for ReLU than for tanh"; "" if
            the effects compare different levels, which their labels name.
        effects: One per combination of the other factors.
    """

    name: str
    subject: str
    contrast: str
    change: str
    effects: tuple[Effect, ...]

    @property
    def question(self) -> str:
        """What the effects answer: "What does depth change?"."""
        return f"What {'do' if self.name == 'residual' else 'does'} {self.subject} change?"

    @property
    def known(self) -> list[Effect]:
        """The effects with a number."""
        return [effect for effect in self.effects if effect.interval is not None]


def effect(study: Study, label: str, first: Condition, second: Condition) -> Effect:
    """The second condition minus the first."""
    before, after = first.outcomes(study.metric), second.outcomes(study.metric)
    differences = {seed: 100 * (after[seed] - before[seed]) for seed in before if seed in after}
    seeds = [seed for seed, _ in second.trials if seed in dict(first.trials)]
    reasons = [first.missing(study.metric), second.missing(study.metric)]
    lost = [_worst([reason[seed] for reason in reasons if seed in reason]) for seed in seeds if seed not in differences]
    interval = paired_interval(list(differences.values())) if differences else None
    possible = bounded(interval, -100.0) if interval is not None else None
    excluded = exclusions(lost, len(seeds))
    return Effect(label, first, second, differences, possible, len(seeds), excluded, clipped=possible != interval)


def effect_panels(study: Study) -> list[Panel]:
    """The effects that an experiment asks for: residual connections or distillation first, then the other factors."""
    gains = distillation_gains(study)
    residual = residual_effects(study)
    result: list[Panel] = []
    if gains:
        lab = all(gain.second.record.role == "distilled" for gain in gains)
        contrast = f"distilled {MINUS} baseline student" if lab else f"student {MINUS} baseline"
        result.append(Panel("gain", "distillation", contrast, " with distillation", tuple(gains)))
    if residual:
        change = " with residual connections"
        result.append(Panel("residual", "residual connections", f"residual {MINUS} plain", change, tuple(residual)))
    keys = dict.fromkeys(key for condition in study.conditions for key in condition.record.factors)
    for place, key in enumerate(keys, start=1):
        if not (residual and _tail(key) == "residual"):
            result.append(_factor_panel(study, key, place))
    return mark_clear([panel for panel in result if panel.effects])


def mark_clear(panels: Sequence[Panel]) -> list[Panel]:
    """Mark the effects whose direction is clear: by t tests at 2.5% per direction, Holm-adjusted over all effects.

    Of many comparisons without an effect, some have a 95% interval without zero. Verdicts are adjusted over claims, too.
    """
    values = [list(effect.differences.values()) for panel in panels for effect in panel.effects]
    p_values = [min(t_test_greater(side, 0.0) for side in (item, [-value for value in item])) for item in values]
    clear = iter([p <= ONE_SIDED for p in holm_adjusted(p_values)])
    return [
        replace(panel, effects=tuple(replace(effect, clear=next(clear)) for effect in panel.effects))
        for panel in panels
    ]


def residual_effects(study: Study) -> list[Effect]:
    """Residual minus plain, for each pair of conditions that differ only in that, by depth."""
    pairs = study.residual_pairs()
    ordered = sorted(pairs, key=lambda pair: pair[1].depth or 0)
    return [effect(study, _without_residual(residual), plain, residual) for plain, residual in ordered]


def distillation_gains(study: Study) -> list[Effect]:
    """Each student minus its baseline, without placebos and emulated mistakes."""
    return [
        effect(study, student.condition.name.removeprefix("distilled, "), student.baseline, student.condition)
        for student in students(study)
        if student.baseline is not None and student.is_genuine
    ]


def accuracy(study: Study, condition: Condition) -> Interval | None:
    """Mean test accuracy over finished seeds with its 95% interval [%], clipped to 0 to 100; None if none finished."""
    return percentage(condition.outcomes(study.metric).values())


def percentage(fractions: Iterable[float | None]) -> Interval | None:
    """Mean of the known fractions with its 95% interval [%], clipped to 0 to 100; None if none is known."""
    values = [100 * fraction for fraction in fractions if fraction is not None]
    return bounded(mean_interval(values)) if values else None


def bounded(interval: Interval, lowest: float = 0.0) -> Interval:
    """An interval of a mean percentage, clipped to what is possible: 0 to 100, or -100 to 100 for a difference."""
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(lowest, interval.low), high=min(100.0, interval.high))


def clipped(study: Study) -> str:
    """Says for which conditions `accuracy` clips the interval; "" if for none."""
    names: list[str] = []
    for condition in study.conditions:
        values = [100 * value for value in condition.outcomes(study.metric).values()]
        interval = mean_interval(values) if values else None
        if interval is not None and bounded(interval) != interval:
            names.append(condition.name)
    return f"Intervals are clipped to 0 to 100% for: {first_of(names)}." if names else ""


def _factor_panel(study: Study, key: str, number: int) -> Panel:
    """The effects of one factor, one per combination of the others.

    Depths and numbers: the largest level minus the smallest. Other levels: each minus the first.
    """
    groups: dict[tuple[str, ...], list[Condition]] = {}
    for condition in study.conditions:
        factors = condition.record.factors
        if key in factors:
            others = [f"{other}={level!r}" for other, level in factors.items() if other != key]
            groups.setdefault((condition.record.role, *others), []).append(condition)
    ordered = _is_ordered(study, key)
    if ordered:
        groups = {name: sorted(group, key=lambda item: _position(item, key)) for name, group in groups.items()}
    pairs = [
        (group[0], second)
        for group in groups.values()
        for second in (group[-1:] if ordered else group[1:])
        if group[1:]
    ]
    contrasts = [_contrast(first, second, key) for first, second in pairs]
    same = len(set(contrasts)) == 1
    effects: list[Effect] = []
    for (first, second), contrast in zip(pairs, contrasts, strict=True):
        others = _without(second, key) if len(groups) > 1 else ""
        label = contrast if len(pairs) == 1 else others or contrast
        label = label if same else ", ".join(filter(None, (contrast, others)))
        effects.append(effect(study, label, first, second))
    subject = "depth" if _tail(key) in DEPTH_KEYS and study.has_depths else factor_name(key)
    contrast = contrasts[0] if same else "each level minus the first" if not ordered else "largest minus smallest level"
    change = f" for {contrast.replace(f' {MINUS} ', ' than for ')}" if same else ""
    return Panel("depth" if subject == "depth" else f"factor-{number}", subject, contrast, change, tuple(effects))


def _is_ordered(study: Study, key: str) -> bool:
    levels = [item.record.factors[key] for item in study.conditions if key in item.record.factors]
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    return numbers or (_tail(key) in DEPTH_KEYS and study.has_depths)


def _position(condition: Condition, key: str) -> float:
    level: Any = condition.record.factors[key]
    return float(condition.depth or 0) if _tail(key) in DEPTH_KEYS and condition.depth is not None else float(level)


def _contrast(first: Condition, second: Condition, key: str) -> str:
    return f"{_level(second, key)} {MINUS} {_level(first, key)}"


def _level(condition: Condition, key: str) -> str:
    depth = f"depth {condition.depth}"
    if _tail(key) in DEPTH_KEYS and depth in condition.name.split(", "):
        return depth
    return format_factor_level(key, condition.record.factors[key])


def _without(condition: Condition, key: str) -> str:
    """The name of a condition without one factor, whose level may contain commas."""
    return f", {condition.name}, ".replace(f", {_level(condition, key)}, ", ", ", 1).strip(", ")


def _without_residual(condition: Condition) -> str:
    return ", ".join(text for text in condition.name.split(", ") if text != "residual") or "residual"


def _worst(reasons: Sequence[str]) -> str:
    """The reason of a pair: divergence is an outcome, so it comes first."""
    return "diverged" if "diverged" in reasons else reasons[0]


def _tail(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def excluded_pairs(effects: Sequence[Effect]) -> str:
    """Says which pairs a figure or table leaves out; "" if none."""
    parts = [f"{item.label}: {item.excluded}" for item in effects if item.excluded]
    return f"Excluded pairs: {first_of(parts)}." if parts else ""


def excluded_trials(study: Study, conditions: Sequence[Condition]) -> str:
    """Says which trials the means of these conditions leave out; "" if none."""
    parts = [f"{item.name}: {reason}" for item in conditions if (reason := item.excluded(study.metric))]
    return f"Excluded from means: {first_of(parts)}." if parts else ""
