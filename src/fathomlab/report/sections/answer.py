"""The first screen: what was found in a sentence, the main chart, and a card per claim or per effect."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, summarize
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Decision, Verdict
from fathomlab.report.accuracy_plots import FIRST, accuracy_charts, accuracy_note
from fathomlab.report.charts import Chart
from fathomlab.report.effects import Effect, Panel, accuracy, bounded
from fathomlab.report.findings import NO_SEED, finding, main_panels, tone
from fathomlab.report.numbers import MINUS, NBSP, capital, count, plain, signed, span
from fathomlab.report.section import Section
from fathomlab.report.warnings import DataFile, data_files, data_notes, teacher_warnings

MEANINGS = {
    "supported": "The data agree with the claim.",
    "refuted": "The data contradict the claim.",
    "undecided": "There is not enough evidence yet.",
}
MOST_CARDS = 12  # of one question; its text lists all


@dataclass(frozen=True)
class VerdictCard:
    """A verdict as a card.

    Attributes:
        meaning: The verdict's word, explained.
        title: The claim.
        text: What the seeds show, in plain words.
        details: Why this gives the verdict, what would decide, test names, levels, p-values, and notes.
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
    """One question and its answers in order."""

    question: str
    cards: tuple[Answer, ...]


@dataclass(frozen=True)
class Lead:
    """The content of the section.

    Attributes:
        warnings: What must be read before anything else.
        problem: Why the claims cannot be evaluated; "" if they can.
        finding: What was found, in a sentence.
        cards: Claims that were declared before results existed.
        exploratory: The other claims.
        answers: The effects, or the mean accuracies, if there are no declared claims.
        charts: The main chart, if any trial has an accuracy.
        modified: Data files that are not the published ones.
    """

    quick: bool
    warnings: tuple[str, ...]
    problem: str
    finding: str
    cards: tuple[VerdictCard, ...]
    exploratory: tuple[VerdictCard, ...]
    answers: Answers | None
    charts: tuple[Chart, ...]
    note: str
    modified: tuple[DataFile, ...]
    data_notes: tuple[str, ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section:
    """The verdicts, or the results of an experiment without claims."""
    cards = [card(verdict, audit) for verdict, audit in zip(verdicts, audits, strict=True)]
    declared = tuple(card for card in cards if not card.exploratory)
    content = Lead(
        quick=study.experiment.quick,
        warnings=tuple(teacher_warnings(study)),
        problem="; ".join(map(str, study.problems)),
        finding=finding(study) if study.conditions else "This experiment has no conditions yet.",
        cards=declared,
        exploratory=tuple(card for card in cards if card.exploratory),
        answers=answers(study)[0] if study.conditions and not declared else None,
        charts=tuple(accuracy_charts(study, FIRST)),
        note=accuracy_note(study),
        modified=tuple(file for file in data_files(study) if not file.official),
        data_notes=tuple(data_notes(study)),
    )
    return Section("answer", "What was found", content, link="Answer")


def card(verdict: Verdict, audit: Audit) -> VerdictCard:
    """The card of one verdict with the summary of its audit."""
    text = " ".join(wording.observations(verdict))
    return VerdictCard(
        kind=verdict.decision,
        meaning=MEANINGS[verdict.decision],
        title=verdict.claim.name or text,
        text=text if verdict.claim.name else "",
        details=(
            *filter(None, [" ".join(wording.reasons(verdict))]),
            *wording.details(verdict),
            *wording.notes(verdict),
        ),
        audit=summarize(audit) if audit.findings else "",
        confounded=bool(audit.unexpected),
        exploratory=verdict.exploratory,
        added=verdict.looks.changed,
    )


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
    ranked = [(mean.mean, place) for place, item in enumerate(study.conditions) if (mean := accuracy(study, item))]
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
