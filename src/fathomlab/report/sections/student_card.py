"""What each trained network needs: parameters, bytes, multiply-accumulates, latency, and throughput; and what it reaches."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.costs import BYTES, Card, cards
from fathomlab.analysis.pairing import students
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.charts import Chart
from fathomlab.report.effects import accuracy
from fathomlab.report.figures.scales import linear_axis, log_axis, range_of
from fathomlab.report.figures.scatter import Mark, pareto_front, scatter_figure
from fathomlab.report.figures.style import HALF, MAIN
from fathomlab.report.numbers import format_int, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import cells, named
from fathomlab.report.tables import Table, compact, table

MAX_MARKS = 12
ROLE_COLORS = {"teacher": 2, "baseline": 0, "student": 1}


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """A row per teacher, baseline, and student."""
    every = [card for card in cards(study) if card.parameters is not None]
    if not every:
        return None
    measured = any(card.speeds for card in every)
    batch = next((speed.batch for card in every for speed in card.speeds), None)
    note = "Bytes: parameters only, computed for each number format; the networks were not quantized. MACs: multiply-accumulates "
    note += "of one image."
    if measured:
        note += (
            " Latency: one image, median (p50) and 95th percentile (p95), fp32, one thread, measured after training."
        )
        note += f" Throughput: batches of {batch} images." if batch is not None else ""
    content = Plain(
        note=note,
        charts=tuple(_charts(study, every)),
        table=compact(card_table(study, every)),
        label="Size, speed, and accuracy of each network",
        starts=("latency p50 (ms)",),
    )
    return Section("student_card", "Size and speed", content)


def card_table(study: Study, every: Sequence[Card]) -> Table:
    """Size, speed, and accuracy; speeds only if they were measured."""
    measured = any(card.speeds for card in every)
    rows: list[list[str]] = []
    for card in every:
        sizes = [size / 1e6 if (size := card.size(format_)) is not None else None for format_ in BYTES]
        row = [named(card.condition), format_int(card.parameters), *(plain(size, 3) for size in sizes)]
        row += ["" if card.macs is None else plain(card.macs / 1e6, 3), *cells(accuracy(study, card.condition))]
        if measured:
            for name in ("p50_seconds", "p95_seconds"):
                values = [1e3 * float(getattr(speed, name)) for speed in card.speeds]
                row.append("" if not values else f"{fmean(values):.4g}")
            rates = [speed.images_per_second for speed in card.speeds]
            row.append(format_int(round(fmean(rates))) if rates else "")
        rows.append(row)
    columns = ["network", "parameters", *(f"{format_} (MB)" for format_ in BYTES), "MACs (millions)"]
    columns += ["test accuracy (%)", "95% low", "95% high"]
    columns += ["latency p50 (ms)", "latency p95 (ms)", "throughput (images/s)"] if measured else []
    return table("student-card", columns, rows)


def _charts(study: Study, every: Sequence[Card]) -> list[Chart]:
    """Accuracy against multiply-accumulates, or against parameters where these are unknown; none for equal sizes."""
    controls = {item.condition.name for item in students(study) if not item.is_genuine}
    shown = [
        card for card in every if accuracy(study, card.condition) is not None and card.condition.name not in controls
    ]
    shown = shown[:MAX_MARKS]
    by_macs = all(card.macs for card in shown)
    sizes = [card.macs if by_macs else card.parameters for card in shown]
    if len({size for size in sizes if size}) < 2 or not all(sizes):
        return []
    learners = {item.condition.name for item in students(study)}
    marks: list[Mark] = []
    for card, size in zip(shown, sizes, strict=True):
        mean = accuracy(study, card.condition)
        if mean is not None and size:
            taught = card.condition.name in learners
            teaches = any(card.condition in item.teachers for item in students(study))
            kind = "student" if taught else "teacher" if teaches else "baseline"
            marks.append(Mark(card.condition.name, float(size), mean, ROLE_COLORS[kind]))
    return [_chart(marks, "multiply-accumulates" if by_macs else "parameters")]


def _chart(marks: Sequence[Mark], quantity: str) -> Chart:
    front = {mark.name for mark in pareto_front(marks)}
    x = log_axis(
        f"{quantity} per image" if quantity != "parameters" else quantity, *_around([mark.x for mark in marks])
    )
    ends = [end for mark in marks for end in (mark.y.mean, mark.y.low, mark.y.high) if end is not None]
    low, high = range_of(ends)
    y = linear_axis("test accuracy (%)", max(0.0, low), min(100.0, high))
    title = f"Test accuracy (%) against {quantity}"
    names = "; ".join(mark.name for mark in marks if mark.name in front)
    description = (
        f"{title}: mean and 95% interval of each network. Gray line: no network is better in both than {names}."
    )
    rows = [
        [mark.name, format_int(mark.x), *cells(mark.y), "yes" if mark.name in front else "no"]
        for mark in sorted(marks, key=lambda mark: mark.x)
    ]
    columns = ["network", quantity, "test accuracy (%)", "95% low", "95% high", "on the line"]
    draw, narrow = (partial(scatter_figure, marks, x, y, width) for width in (MAIN, HALF))
    return Chart("pareto", title, description, draw, table("pareto", columns, rows), narrow=narrow)


def _around(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.5, max(values) * 1.5
