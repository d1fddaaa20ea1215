"""The charts of test accuracy that are not next to the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.accuracy_plots import further_charts
from fathomlab.report.charts import Chart
from fathomlab.report.section import Section


@dataclass(frozen=True)
class Accuracy:
    """The content of the section."""

    claims: bool
    charts: tuple[Chart, ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Further charts of test accuracy, and the effects of the other factors."""
    charts = tuple(further_charts(study))
    return Section("accuracy", "Test accuracy", Accuracy(bool(verdicts), charts)) if charts else None
