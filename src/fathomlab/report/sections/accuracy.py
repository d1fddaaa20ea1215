"""What each factor changes in test accuracy, and the charts of accuracy that do not fit next to the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.accuracy_plots import (
    MAX_CHARTS,
    accuracy_charts,
    charts_left_out,
    effect_charts,
    effects_left_out,
    shown_effects,
)
from fathomlab.report.answers import compared
from fathomlab.report.charts import Chart
from fathomlab.report.effects import effect_panels
from fathomlab.report.findings import panel_finding
from fathomlab.report.section import Section


@dataclass(frozen=True)
class Change:
    """What one factor changes: in a sentence, in charts, and each comparison as a sentence.

    Attributes:
        left_out: How many of the comparisons are shown; "" if all are.
    """

    question: str
    finding: str
    charts: tuple[Chart, ...]
    sentences: tuple[str, ...]
    left_out: str


@dataclass(frozen=True)
class Accuracy:
    """The content of the section.

    Attributes:
        left_out: Which conditions the charts leave out; "" if none.
    """

    changes: tuple[Change, ...]
    charts: tuple[Chart, ...]
    note: str
    left_out: str


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The effects of the factors, and further charts of test accuracy."""
    changes = tuple(
        Change(
            panel.question,
            panel_finding(panel),
            tuple(effect_charts(panel)),
            tuple(card.sentence for card in compared(panel).cards[: len(shown_effects(panel))]),
            effects_left_out(panel),
        )
        for panel in effect_panels(study)
    )
    charts = tuple(accuracy_charts(study, slice(1, MAX_CHARTS)))
    return (
        Section("accuracy", "Test accuracy", Accuracy(changes, charts, changes_note(study), charts_left_out(study)))
        if changes or charts
        else None
    )


def changes_note(study: Study) -> str:
    """What the marks of the effects are; mentions only what there is."""
    if study.most_seeds < 2:
        return "Differences of equal seeds, in points of test accuracy: each dot is one seed."
    return (
        "Differences of equal seeds, in points of test accuracy: small dots are seeds, large dots are means with their 95% "
        "interval. The intervals are not adjusted for multiple comparisons. The sentences name a direction only if it "
        "remains clear after adjustment for all of them."
    )
