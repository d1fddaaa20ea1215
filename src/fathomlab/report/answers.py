"""The answer first: sentences computed from the records alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fathomlab.analysis.statistics import Interval
from fathomlab.report.effects import Effect, accuracy, depth_effects, distillation_gains, residual_effects
from fathomlab.report.numbers import NBSP, capital, count, plain, signed, span
from fathomlab.report.study import Condition, Study


@dataclass(frozen=True)
class Answer:
    """One card: what it is about, the number, how sure it is, and the whole as a sentence.

    Attributes:
        tone: "up", "down" or "open" (the interval holds zero, or there is none), "level" for a value.
    """

    label: str
    value: str
    unit: str
    certainty: str
    sentence: str
    tone: str


@dataclass(frozen=True)
class Answers:
    """What the experiment asks, and its answers in order; `summary` is the one line of the index."""

    question: str
    summary: str
    cards: tuple[Answer, ...]

    @property
    def known(self) -> bool:
        """Whether any card has a number."""
        return any(card.unit for card in self.cards)


def answers(study: Study) -> Answers:
    """The answers to what the factors of the experiment ask."""
    effects = residual_effects(study)
    if effects:
        question = "What do residual connections change? Residual minus plain in test accuracy, paired by seed."
        return _compared(question, effects, "residual minus plain")
    gains = distillation_gains(study)
    if gains:
        question = "What does distillation gain? Distilled minus baseline student in test accuracy, paired by seed."
        return _compared(question, gains, "distilled minus baseline student")
    if study.has_depths:
        return _grid(study)
    cards = [_level(study, condition) for condition in study.conditions]
    return _answers("How accurate is each condition on the test set?", cards)


def _compared(question: str, effects: Sequence[Effect], what: str) -> Answers:
    cards = [_difference(effect, what) for effect in effects]
    known = [effect for effect in effects if effect.interval is not None]
    if not known:
        return Answers(question, "No pair of trials has finished yet.", tuple(cards))
    largest = max(known, key=lambda effect: abs(effect.interval.mean) if effect.interval else 0)
    sentence = _difference(largest, what).sentence
    if len(known) > 1:
        sentence = f"The largest of {len(known)} differences: {sentence[:1].lower()}{sentence[1:]}"
    return Answers(question, f"{sentence}{_signs(known)}", tuple(cards))


def _signs(effects: Sequence[Effect]) -> str:
    """Where the interval lies above zero, below it or holds it; nothing for a single effect, which says so itself."""
    tones = [(effect.label, _tone(effect.interval)) for effect in effects if effect.interval is not None]
    if len(tones) < 2 or all(effect.interval is None or effect.interval.low is None for effect in effects):
        return ""
    words = (("up", "interval above zero"), ("down", "interval below zero"), ("open", "interval holds zero"))
    parts = [(text, [label for label, found in tones if found == tone]) for tone, text in words]
    return " " + capital("; ".join(f"{text}: {', '.join(labels)}" for text, labels in parts if labels)) + "."


def _grid(study: Study) -> Answers:
    known = [
        (interval.mean, place) for place, item in enumerate(study.conditions) if (interval := accuracy(study, item))
    ]
    cards: list[Answer] = []
    if known:
        best, worst = study.conditions[max(known)[1]], study.conditions[min(known)[1]]
        cards = [_level(study, best, "Best: "), _level(study, worst, "Worst: ")]
    for effect in depth_effects(study):
        card = _difference(effect, f"{effect.second.level} minus {effect.first.level}")
        cards.append(replace(card, label=f"{card.label}: {effect.second.level} minus {effect.first.level}"))
    question = "What does depth change? The deepest minus the shallowest net in test accuracy, paired by seed."
    return _answers(question, cards)


def _answers(question: str, cards: list[Answer]) -> Answers:
    summary = " ".join(card.sentence for card in cards[:2])
    return Answers(question, summary or "No trial has finished yet.", tuple(cards))


def _difference(effect: Effect, what: str) -> Answer:
    interval, subject = effect.interval, capital(f"{effect.label}: {what}")
    lost = f" {capital(count(effect.lost, 'pair'))} without a result left out." if effect.lost else ""
    if interval is None:
        return Answer(capital(effect.label), "?", "", "no finished pair", f"{subject}: no finished pair.{lost}", "open")
    certainty = _certainty(interval, sign=True)
    sentence = f"{subject} is {signed(interval.mean)} points ({certainty}).{lost}"
    return Answer(
        capital(effect.label), signed(interval.mean), "points", certainty + _short(effect), sentence, _tone(interval)
    )


def _level(study: Study, condition: Condition, prefix: str = "") -> Answer:
    interval = accuracy(study, condition)
    label = prefix + condition.name if prefix else capital(condition.name)
    if interval is None:
        return Answer(label, "?", "", "no finished trial", f"{label}: no finished trial.", "open")
    certainty = _certainty(interval, sign=False)
    sentence = f"{label}: mean test accuracy {plain(interval.mean)} % ({certainty})."
    return Answer(label, plain(interval.mean), "%", certainty, sentence, "level")


def _certainty(interval: Interval, sign: bool) -> str:
    if interval.low is None:
        return "one seed allows no interval"
    return f"95{NBSP}% interval {span(interval, sign=sign)}, n{NBSP}={NBSP}{count(interval.n, 'seed')}"


def _short(effect: Effect) -> str:
    return f"; {count(effect.lost, 'pair')} lost" if effect.lost else ""


def _tone(interval: Interval) -> str:
    if interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
        return "open"
    return "up" if interval.low > 0 else "down"
