"""How much of the gradient comes from the teacher: the soft share and the cosine of soft and hard gradients, per epoch."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.pairing import Student, students
from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.charts import Chart
from fathomlab.report.curve_figures import Quantity, condition_charts
from fathomlab.report.effects import bounded, percentage
from fathomlab.report.figures.style import MAX_SERIES
from fathomlab.report.numbers import capital, percent, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import cells, named
from fathomlab.report.tables import Table, table

SHARE = Quantity("distillation/soft_share", "Share of the soft gradient", "%", 100)
COSINE = Quantity("distillation/cosine", "Cosine of soft and hard gradient", "", 1)
MIN_SHARE = 0.05  # below this, distillation is nearly off
MAX_CHARTS = 2  # of each quantity


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The curves; None if no trial recorded them."""
    members = [item for item in students(study) if mean_share(item) is not None]
    if not members:
        return None
    content = Plain(
        note="Soft share: norm of the gradient of the soft terms with respect to the logits, divided by the sum of the norms of "
        "the soft and hard gradients, weighted as in the loss. Cosine: 1 if both ask for the same change, 0 if they are "
        "unrelated, below 0 if they oppose each other.",
        result=share_sentence(members),
        warnings=tuple(share_warnings(members)),
        charts=tuple(_charts(study, members)),
        table=shares_table(members),
        label="Share of the soft gradient",
    )
    return Section("soft_share", "How much of the gradient is the teacher's", content, link="Soft share")


def mean_share(student: Student, metric: str = SHARE.metric) -> float | None:
    """Mean over epochs, then over trials; None if no trial recorded it."""
    values = list(shares(student, metric).values())
    return fmean(values) if values else None


def shares(student: Student, metric: str = SHARE.metric) -> dict[int, float]:
    """Seed to mean over epochs."""
    curves = {seed: trial.curves.get(metric, []) for seed, trial in student.condition.trials}
    known = {seed: [value for value in curve if value is not None] for seed, curve in curves.items()}
    return {seed: fmean(values) for seed, values in known.items() if values}


def share_warnings(members: Sequence[Student]) -> list[str]:
    """A sentence for each student whose soft term should matter but has less than 5% of the gradient."""
    texts: list[str] = []
    for item in members:
        share = mean_share(item)
        if share is not None and share < MIN_SHARE and item.options.get("alpha") != 0:
            texts.append(
                f"{capital(named(item.condition))}: distillation is nearly off; the mean share of its gradient is "
                f"{plain(100 * share, 1)}%. Check alpha, the factor T\u00b2, and how the loss is averaged."
            )
    return texts


def share_sentence(members: Sequence[Student]) -> str:
    """The range of the mean shares, without placebos and mistakes if there are other students."""
    shown = [item for item in members if item.is_genuine] or members
    values = [share for item in shown if (share := mean_share(item)) is not None]
    if len(values) == 1:
        return f"On average, {percent(values[0], 1)}% of the gradient is the teacher's."
    return f"On average, {percent(min(values), 1)} to {percent(max(values), 1)}% of the gradient is the teacher's."


def shares_table(members: Sequence[Student]) -> Table:
    """A row per student: mean over epochs and seeds, and the first and last epoch."""
    rows: list[list[str]] = []
    for item in members:
        curves = [trial.curves.get(SHARE.metric, []) for _, trial in item.condition.trials]
        first = [curve[0] for curve in curves if curve and curve[0] is not None]
        last = [curve[-1] for curve in curves if curve and curve[-1] is not None]
        row = [named(item.condition), *cells(percentage(shares(item).values())), str(len(shares(item)))]
        row += [percent(fmean(first)) if first else "", percent(fmean(last)) if last else ""]
        cosines = [100 * value for value in shares(item, COSINE.metric).values()]
        rows.append([*row, *cells(bounded(mean_interval(cosines), -100.0) if cosines else None, 0.01)])
    columns = ["network", "soft share (%)", "95% low", "95% high", "seeds", "first epoch (%)", "last epoch (%)"]
    return table("soft-share", [*columns, "cosine", "cosine: 95% low", "cosine: 95% high"], rows)


def _charts(study: Study, members: Sequence[Student]) -> list[Chart]:
    conditions = [replace(item.condition, level=named(item.condition)) for item in members]
    starts = range(0, min(len(conditions), MAX_CHARTS * MAX_SERIES), MAX_SERIES)
    groups = [conditions[start : start + MAX_SERIES] for start in starts]
    shares_, cosines = (condition_charts(study, quantity, groups) for quantity in (SHARE, COSINE))
    return [chart for pair in zip_longest(shares_, cosines) for chart in pair if chart is not None]
