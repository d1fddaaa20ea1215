"""The answer: a card per claim, and the effects of the factors in words, next to the main chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, summarize
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Decision, Verdict
from fathomlab.report.accuracy_plots import accuracy_note, lead_charts
from fathomlab.report.charts import Chart
from fathomlab.report.effects import Effect, Panel, accuracy, bounded, effect_panels
from fathomlab.report.numbers import MINUS, NBSP, capital, count, plain, signed, span
from fathomlab.report.section import Section
from fathomlab.report.warnings import DataFile, data_files, data_notes, teacher_warnings

MEANINGS = {
    "supported": "The data agree with the claim.",
    "refuted": "The data contradict the claim.",
    "undecided": "There is not enough evidence yet.",
}
MOST_CARDS = 12  # of one question; its text lists all
MOST_LABELS = 6  # of one list in a sentence
NO_SEED = "no common seed"


@dataclass(frozen=True)
class VerdictCard:
    """A verdict as a card.

    Attributes:
        meaning: The verdict's word, explained.
        title: The claim.
        text: What the seeds show, in plain words.
        details: Test names, levels, p-values, and notes.
        audit: What differs between the levels except the factor; "" if nothing was compared.
        confounded: Whether a difference does not follow from the factor.
        added: Whether seeds were added after results.
    """

    kind: Decision
    meaning: str
    title: str
    text: str
    details: tuple[str, ...]
    audit: str
    confounded: bool
    exploratory: bool
    added: bool


@dataclass(frozen=True)
class Answer:
    """One card: a label, a number, its uncertainty, and the same as a sentence.

    Attributes:
        tone: "up", "down" or "open" (the interval contains zero, or there is none); "level" for a mean.
    """

    label: str
    value: str
    unit: str
    certainty: str
    sentence: str
    tone: str


@dataclass(frozen=True)
class Answers:
    """One question and its answers in order; `summary` is their main result in a line."""

    question: str
    summary: str
    cards: tuple[Answer, ...]

    @property
    def known(self) -> bool:
        """Whether any card has a number."""
        return any(card.unit for card in self.cards)


@dataclass(frozen=True)
class Lead:
    """The content of the section.

    Attributes:
        warnings: What must be read before anything else.
        problem: Why the claims cannot be evaluated; "" if they can.
        cards: Claims that were declared before results existed.
        exploratory: The other claims.
        answers: All answers; the first `leading` are next to the charts.
        modified: Data files that are not the published ones.
    """

    quick: bool
    warnings: tuple[str, ...]
    problem: str
    cards: tuple[VerdictCard, ...]
    exploratory: tuple[VerdictCard, ...]
    answers: tuple[Answers, ...]
    leading: int
    charts: tuple[Chart, ...]
    note: str
    modified: tuple[DataFile, ...]
    data_notes: tuple[str, ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section:
    """The verdicts, or the results of an experiment without claims."""
    cards = [card(verdict, audit) for verdict, audit in zip(verdicts, audits, strict=True)]
    declared = tuple(card for card in cards if not card.exploratory)
    known = tuple(answers(study))
    content = Lead(
        quick=study.experiment.quick,
        warnings=tuple(teacher_warnings(study)),
        problem="; ".join(map(str, study.problems)),
        cards=declared,
        exploratory=tuple(card for card in cards if card.exploratory),
        answers=known,
        leading=min(len(known), {0: 2, 1: 1, 2: 1}.get(len(declared), 0)),
        charts=tuple(lead_charts(study)),
        note=accuracy_note(study),
        modified=tuple(file for file in data_files(study) if not file.official),
        data_notes=tuple(data_notes(study)),
    )
    return Section("answer", "Verdicts" if cards else "Results", content)


def card(verdict: Verdict, audit: Audit) -> VerdictCard:
    """The card of one verdict with the summary of its audit."""
    text = wording.finding(verdict)
    return VerdictCard(
        kind=verdict.decision,
        meaning=MEANINGS[verdict.decision],
        title=verdict.claim.name or text,
        text=text if verdict.claim.name else "",
        details=(*wording.details(verdict), *wording.notes(verdict)),
        audit=summarize(audit) if audit.findings else "",
        confounded=bool(audit.unexpected),
        exploratory=verdict.exploratory,
        added=verdict.looks.changed,
    )


def answers(study: Study) -> list[Answers]:
    """The answers to what the factors of the experiment ask.

    With residual connections or distillation, these come first and the depth has only a figure.
    """
    known = effect_panels(study)
    main = [panel for panel in known if panel.name in ("gain", "residual")]
    others = [panel for panel in known if panel not in main and not (main and panel.name == "depth")]
    levels = [] if main or len(study.conditions) < 1 else [_levels(study)]
    return [*map(_compared, main), *levels, *map(_compared, others)]


def summary(study: Study) -> str:
    """The first question's main result, for the index."""
    first = next(iter(answers(study)), None)
    return first.summary if first is not None else ""


def _compared(panel: Panel) -> Answers:
    question = f"Effect of {panel.subject} on test accuracy ({panel.contrast}, same seed)"
    cards = tuple(_difference(effect) for effect in panel.effects)
    known = panel.known
    if not known:
        reasons = "; ".join(f"{effect.label}: {effect.excluded}" for effect in panel.effects if effect.excluded)
        return Answers(question, f"No pair of trials has finished{f' ({reasons})' if reasons else ''}.", cards)
    largest = max(known, key=lambda effect: abs(effect.interval.mean) if effect.interval else 0)
    shown = _difference(largest)
    sentence = shown.sentence
    if len(known) > 1:
        sentence = f"Largest effect of {panel.subject}: {largest.label}, {shown.value} points ({shown.certainty})."
    empty = [f"{effect.label} ({effect.excluded or NO_SEED})" for effect in panel.effects if effect.interval is None]
    missing = f" No value: {_shortened(empty)}." if empty else ""
    return Answers(question, f"{sentence}{_signs(known)}{missing}", cards)


def _signs(effects: Sequence[Effect]) -> str:
    """Which effects are clear; nothing for a single effect, whose sentence says so."""
    tones = [(effect.label, _tone(effect.interval)) for effect in effects if effect.interval is not None]
    if len(tones) < 2 or all(effect.interval is None or effect.interval.low is None for effect in effects):
        return ""
    parts = (("up", "Clear gain"), ("down", "Clear loss"), ("open", "Inconclusive"))
    sentences: list[str] = []
    for tone, text in parts:
        labels = [label for label, other in tones if other == tone]
        sentences += [f"{text}: {_shortened(labels)}."] * bool(labels)
    return " " + " ".join(sentences)


def _shortened(labels: Sequence[str]) -> str:
    return "; ".join(labels) if len(labels) <= MOST_LABELS else f"{len(labels)} comparisons"


def _levels(study: Study) -> Answers:
    """The test accuracy of each condition, or of the best and the worst if there are many."""
    question = "Mean test accuracy of each condition"
    ranked = [(mean.mean, place) for place, item in enumerate(study.conditions) if (mean := accuracy(study, item))]
    if len(study.conditions) <= MOST_CARDS // 2 or not ranked:
        cards = tuple(_level(study, condition) for condition in study.conditions)
    else:
        best, worst = study.conditions[max(ranked)[1]], study.conditions[min(ranked)[1]]
        cards = (_level(study, best, "Best: "), _level(study, worst, "Worst: "))
        question = "Best and worst mean test accuracy"
    sentences = " ".join(card.sentence for card in cards[:2])
    return Answers(question, sentences if ranked else _nothing(study), cards)


def _nothing(study: Study) -> str:
    reasons = [f"{item.name}: {item.excluded(study.metric)}" for item in study.conditions]
    return f"No trial has finished ({'; '.join(reasons)})." if len(reasons) <= MOST_CARDS else "No trial has finished."


def _difference(effect: Effect) -> Answer:
    interval, label = effect.interval, capital(effect.label)
    excluded = f"{count(effect.lost, 'pair')} excluded ({effect.excluded})" if effect.excluded else ""
    if interval is None:
        why = effect.excluded or NO_SEED
        return Answer(label, "n/a", "", why, f"{label}: no value ({why}).", "open")
    clipped = f"clipped to {MINUS}100 to +100 points" * effect.clipped
    certainty = "; ".join(filter(None, (_certainty(interval, sign=True), excluded, clipped)))
    sentence = f"{label}: {signed(interval.mean)} points ({certainty})."
    return Answer(label, signed(interval.mean), "points", certainty, sentence, _tone(interval))


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


def _tone(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
        return "open"
    return "up" if interval.low > 0 else "down"
