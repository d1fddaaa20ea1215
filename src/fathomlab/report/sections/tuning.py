"""Tuned factors: which level of each condition is compared, and every level that was tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.transfer import exponents
from fathomlab.analysis.tuning import describe
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import factor_name, format_level
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
        powers: A row per series of depths with its fitted exponent; None without any.
    """

    note: str
    chosen: Table
    tried: Table
    powers: Table | None


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The choices; None if no factor is tuned."""
    if not study.choices:
        return None
    content = Tuning(tuning_sentences(study), chosen_table(study), tried_table(study), powers_table(study))
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


def powers_table(study: Study) -> Table | None:
    """The best level of each depth (geometric mean over the seeds), and the exponent of the power law."""
    fitted = exponents(study)
    if not fitted:
        return None
    depths = list(dict.fromkeys(depth for item in fitted for depth in item.best))
    rows = [
        [
            item.series or "all conditions",
            factor_name(item.key),
            *(
                format_level(float(f"{geometric_mean(item.best[depth].values()):.3g}")) if depth in item.best else "-"
                for depth in depths
            ),
            plain(item.interval.mean),
            plain(item.interval.low),
            plain(item.interval.high),
            str(item.interval.n),
            f"{item.edges} of {item.total}",
        ]
        for item in fitted
    ]
    columns = ["series", "tuned", *(f"depth {depth}" for depth in depths)]
    columns += ["exponent", "low", "high", "seeds", "at the edge"]
    return table("powers", columns, rows, texts=2)
