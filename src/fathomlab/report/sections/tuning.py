"""Tuned factors: which level of each condition is compared, and every level that was tried."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.tuning import describe
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.numbers import percent, plain
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table
from fathomlab.report.tuning import mean_percent, tuning_sentences


@dataclass(frozen=True)
class Tuning:
    """The content of the section.

    Attributes:
        note: How the levels were chosen.
        chosen: A row per condition that is compared.
        tried: A row per level of each of them.
    """

    note: str
    chosen: Table
    tried: Table


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The choices; None if no factor is tuned."""
    if not study.choices:
        return None
    content = Tuning(tuning_sentences(study), chosen_table(study), tried_table(study))
    return Section("tuning", "Tuned on validation", content, link="Tuning")


def chosen_table(study: Study) -> Table:
    """The picked levels of each condition, the number of tries, and the lead over the second best."""
    rows = [
        [
            condition.name,
            describe(choice.picked.levels),
            str(len(choice.tries)),
            percent(choice.picked.score),
            plain(None if choice.lead is None else 100 * choice.lead),
            "yes" if choice.edges else "no",
        ]
        for condition, choice in study.choices
    ]
    columns = [
        "condition",
        "picked",
        "tries",
        "validation accuracy (%)",
        "lead over the second best (points)",
        "at the edge",
    ]
    return table("tuning", columns, rows, texts=2)


def tried_table(study: Study) -> Table:
    """Every level that was tried, with its test accuracy, which had no part in the choice."""
    rows = [
        [
            condition.name,
            describe(item.levels),
            "picked" if item.picked else "",
            percent(item.score),
            str(item.seeds),
            str(item.condition.count("diverged")),
            plain(mean_percent(list(item.condition.outcomes(study.metric).values()))),
        ]
        for condition, choice in study.choices
        for item in choice.tries
    ]
    columns = ["condition", "tried", "picked", "validation accuracy (%)", "seeds", "diverged", "test accuracy (%)"]
    return table("tried", columns, rows, texts=3)
