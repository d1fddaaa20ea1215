"""The first screen: what was found in a sentence, the main chart, and a card per claim or per effect."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, summarize
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Decision, Verdict
from fathomlab.report.accuracy_plots import FIRST, accuracy_charts, accuracy_note
from fathomlab.report.answers import Answers, answers
from fathomlab.report.charts import Chart
from fathomlab.report.findings import finding
from fathomlab.report.section import Section
from fathomlab.report.students import lead_sentence, mistake_warnings
from fathomlab.report.tuning import tuning_warnings
from fathomlab.report.warnings import DataFile, data_files, data_notes, teacher_warnings

MEANINGS = {
    "supported": "The data agree with the claim.",
    "refuted": "The data contradict the claim.",
    "undecided": "There is not enough evidence yet.",
}


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
class Lead:
    """The content of the section.

    Attributes:
        warnings: What must be read before anything else.
        problem: Why the claims cannot be evaluated; "" if they can.
        lead: Teacher minus baseline, in a sentence; "" for other experiments.
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
    lead: str
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
        warnings=(*mistake_warnings(study), *teacher_warnings(study), *tuning_warnings(study)),
        problem="; ".join(map(str, study.problems)),
        lead=lead_sentence(study),
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
