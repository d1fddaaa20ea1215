"""The charts of test accuracy that are not next to the answer."""

from collections.abc import Sequence

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.accuracy_plots import further_charts
from fathomlab.report.section import Plain, Section


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Further charts of test accuracy, and the effects of the other factors."""
    charts = further_charts(study)
    note = f"The main chart is next to the {'verdicts' if verdicts else 'results'}. Effects compare equal seeds."
    return Section("accuracy", "Test accuracy", Plain(note, charts=tuple(charts))) if charts else None
