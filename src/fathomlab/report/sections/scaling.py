"""Calibration of baselines and students, as trained and after temperature scaling."""

from collections.abc import Sequence
from functools import partial

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.distillation import outcomes
from fathomlab.analysis.fidelity import MEASURES, Measure, measured
from fathomlab.analysis.pairing import Paired, Student, paired, students
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.charts import Chart, drawn_seeds
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.numbers import MINUS, capital, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import cells, difference_text, mean_cells, named
from fathomlab.report.tables import Table, compact, table

MAX_ROWS = 12  # of the chart
DIGITS = {"ECE (%)": 2, "NLL (nats)": 4, "Brier score": 4}


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Calibration errors, losses, and Brier scores; None if no student or baseline has numbers after temperature scaling."""
    members = students(study)
    compared = [item for student in members for item in (student.condition, student.baseline) if item is not None]
    if not any(measured(item, MEASURES[1].scaled) for item in compared):
        return None
    data = compact(scaling_table(study, members))
    content = Plain(
        note="ECE: expected calibration error over 15 bins. NLL: cross-entropy. Brier: mean squared distance of the "
        "probabilities from the label. Scaled: the logits are divided by the T that minimizes the NLL on the validation images. "
        "Differences: student \u2212 baseline, same seed; negative is better.",
        result=scaling_sentence(members),
        charts=tuple(_charts(members)),
        table=data,
        label="Calibration as trained and after temperature scaling",
        starts=("NLL (nats)", "Brier score"),
    )
    return Section("scaling", "Calibration and temperature scaling", content, link="Temperature scaling")


def change(student: Student, measure: Measure, scaled: bool) -> Paired:
    """Student minus baseline in a measure, raw or after temperature scaling of both."""
    value = measure.scaled if scaled else measure.raw
    before = measured(student.baseline, value) if student.baseline is not None else {}
    return paired(before, measured(student.condition, value))


def scaling_table(study: Study, members: Sequence[Student]) -> Table:
    """A row per baseline and student: each measure raw and scaled, and the paired differences from the baseline."""
    by_name = {item.condition.name: item for item in members}
    baselines = {item.baseline.name for item in members if item.baseline is not None}
    rows = [
        _row(condition, by_name.get(condition.name))
        for condition in study.conditions
        if condition.name in by_name or condition.name in baselines
    ]
    columns = ["network", "T"]
    for measure in MEASURES:
        short = measure.name.partition(" ")[0]
        columns += [measure.name, f"{short} scaled"]
        columns += [f"{short} {end}" for end in ("difference", "difference: 95% low", "difference: 95% high")]
        columns += [f"{short} scaled {end}" for end in ("difference", "difference: 95% low", "difference: 95% high")]
    return table("temperature-scaling", columns, rows)


def scaling_sentence(members: Sequence[Student]) -> str:
    """ECE of the first student against that of its baseline with temperature scaling alone."""
    measure = MEASURES[0]
    for item in members:
        if item.is_genuine and item.baseline is not None:
            alone = measured(item.baseline, measure.scaled)
            value = paired(alone, measured(item.condition, measure.raw))
            if value.interval is not None:
                raw = mean_interval(list(measured(item.baseline, measure.raw).values()) or [0.0]).mean
                scaled = mean_interval(list(alone.values())).mean
                text = difference_text(value)
                return (
                    f"Temperature scaling alone changes the baseline's ECE from {plain(100 * raw)}% to {plain(100 * scaled)}%. "
                    f"{capital(named(item.condition))} without it {MINUS} baseline with it: {text}."
                )
    return ""


def _row(condition: Condition, student: Student | None) -> list[str]:
    temperatures = outcomes(condition, lambda outcome: outcome.temperature)
    row = [named(condition), mean_cells(temperatures.values())[0]]
    for measure in MEASURES:
        digits = DIGITS[measure.name]
        for value in (measure.raw, measure.scaled):
            row.append(mean_cells(measured(condition, value).values(), measure.scale, digits)[0])
        for scaled in (False, True):
            interval = change(student, measure, scaled).interval if student is not None else None
            row += cells(interval, measure.scale, digits)
    return row


def _charts(members: Sequence[Student]) -> list[Chart]:
    """The differences of the first two measures as forest plots: raw above scaled."""
    charts: list[Chart] = []
    for measure in MEASURES[:2]:
        rows: list[Row] = []
        values: list[list[str]] = []
        for item in [item for item in members if item.baseline is not None][: MAX_ROWS // 2]:
            for index, scaled in enumerate((False, True)):
                numbers = [measure.scale * value for value in change(item, measure, scaled).differences.values()]
                if numbers:
                    label = "scaled" if scaled else "as trained"
                    mean = mean_interval(numbers)
                    points = tuple(map(Point, drawn_seeds(numbers)))
                    rows.append(Row(named(item.condition), points, mean, note=label, series=index))
                    values.append([f"{named(item.condition)}, {label}", *cells(mean, 1, 4), str(mean.n)])
        if rows:
            charts.append(_chart(measure, rows, values))
    return charts


def _chart(measure: Measure, rows: Sequence[Row], values: Sequence[Sequence[str]]) -> Chart:
    short, _, unit = measure.name.partition(" ")
    name = f"scaling-{short.lower()}"
    unit = "(points)" if unit == "(%)" else unit
    title = f"{short}, student {MINUS} baseline {unit}"
    means: list[Interval] = [row.mean for row in rows if row.mean is not None]
    numbers = [point.value for row in rows for point in row.points]
    numbers += [end for mean in means for end in (mean.mean, mean.low, mean.high) if end is not None]
    axis = linear_axis(f"{short} difference {unit}", *range_of([*numbers, 0.0]))
    description = f"{title}: mean and 95% interval as trained and after temperature scaling; negative is better."
    columns = ["network", "mean", "95% low", "95% high", "seeds"]
    draw = partial(row_figure, rows, axis, HALF, True, (), 26)
    return Chart(name, title, description, draw, table(name, columns, values))
