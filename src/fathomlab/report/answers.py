"""The answers to what the factors of an experiment ask: each comparison as a card and as a sentence."""

from dataclasses import dataclass

from fathomlab.analysis.pairing import emulated_mistakes
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.effects import Effect, Panel, accuracy, bounded
from fathomlab.report.findings import NO_SEED, main_panels, tone
from fathomlab.report.numbers import MINUS, NBSP, capital, count, plain, signed, span

MOST_CARDS = 12  # of one question; its text lists all


@dataclass(frozen=True)
class Answer:
    """One card: a label, a number, its uncertainty, and the same as a sentence.

    Attributes:
        tone: "up", "down", or "open" (not clear, or no number); "level" for a mean.
    """

    label: str
    value: str
    unit: str
    certainty: str
    sentence: str
    tone: str


@dataclass(frozen=True)
class Answers:
    """One question and its answers in order."""

    question: str
    cards: tuple[Answer, ...]


def answers(study: Study) -> list[Answers]:
    """The answers to what the factors of the experiment ask.

    With residual connections or distillation, these come first; without, the accuracies of the conditions do.
    """
    panels = main_panels(study)
    main = bool(panels) and panels[0].name in ("gain", "residual")
    return [*([] if main or not study.conditions else [_levels(study)]), *map(compared, panels)]


def compared(panel: Panel) -> Answers:
    """The effects of one factor."""
    question = f"Effect of {panel.subject} on test accuracy ({panel.contrast}, same seed)"
    return Answers(question, tuple(_difference(effect) for effect in panel.effects))


def _levels(study: Study) -> Answers:
    """The test accuracy of each condition, or of the best and the worst if there are many."""
    question = "Mean test accuracy of each condition"
    correct = [(place, item) for place, item in enumerate(study.conditions) if not emulated_mistakes(item)]
    ranked = [(mean.mean, place) for place, item in correct if (mean := accuracy(study, item))]
    if len(study.conditions) <= MOST_CARDS // 2 or not ranked:
        cards = tuple(_level(study, condition) for condition in study.conditions)
    else:
        best, worst = study.conditions[max(ranked)[1]], study.conditions[min(ranked)[1]]
        cards = (_level(study, best, "Best: "), _level(study, worst, "Worst: "))
        question = "Best and worst mean test accuracy"
    return Answers(question, cards)


def _difference(effect: Effect) -> Answer:
    interval, label = effect.interval, capital(effect.label)
    excluded = f"{count(effect.lost, 'pair')} excluded ({effect.excluded})" if effect.excluded else ""
    if interval is None:
        why = effect.excluded or NO_SEED
        return Answer(label, "n/a", "", why, f"{label}: no value ({why}).", "open")
    clipped = f"clipped to {MINUS}100 to +100 points" * effect.clipped
    certainty = "; ".join(filter(None, (_certainty(interval, sign=True), excluded, clipped)))
    sentence = f"{label}: {signed(interval.mean)} points ({certainty})."
    return Answer(label, signed(interval.mean), "points", certainty, sentence, tone(effect))


def _level(study: Study, condition: Condition, prefix: str = "") -> Answer:
    values = [100 * value for value in condition.outcomes(study.metric).values()]
    label = prefix + condition.name if prefix else capital(condition.name)
    excluded = condition.excluded(study.metric)
    if not values:
        return Answer(label, "n/a", "", excluded, f"{label}: no value ({excluded or 'no trial'}).", "open")
    interval = mean_interval(values)
    shown = bounded(interval)
    notes = (_certainty(shown, sign=False), excluded, "clipped to 0 to 100%" if shown != interval else "")
    certainty = "; ".join(filter(None, notes))
    sentence = f"{label}: {plain(interval.mean)}% ({certainty})."
    return Answer(label, plain(interval.mean), "%", certainty, sentence, "level")


def _certainty(interval: Interval, sign: bool) -> str:
    if interval.low is None:
        return f"1{NBSP}seed: no confidence interval"
    return f"95% interval {span(interval, sign=sign)}, {count(interval.n, 'seed')}"
