"""The figures of all probes except the gradient probe, as the columns of each probe declare them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.probes import PROBES
from fathomlab.probes.columns import Column, ProbeDescription
from fathomlab.report.charts import Chart, line_keys, panels, width_of
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.scales import Axis, integer_axis, linear_axis, log_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.grids import Counts, Quantity, coverage, snapshot_label
from fathomlab.report.heatmaps import Heatmaps, heatmaps, measured_grids
from fathomlab.report.maps import MapTable, map_tables
from fathomlab.report.numbers import significant
from fathomlab.report.section import Section
from fathomlab.report.tables import table
from fathomlab.store.records import ProbeSnapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN_SECTION = "gradients"
MAX_PANELS = 2
MIN_OF_LOG = 1e-12
MAX_MARKS = 32
TIMES = (("at initialization", 0), ("at the end", -1))


@dataclass(frozen=True)
class ProbeLine:
    """The values of one condition.

    Attributes:
        name: Short name: the depth, or the condition.
        label: Legend text, with the number of seeds if some are missing.
        positions: Names of the layers or snapshots.
        values: A number for each; None if unknown.
    """

    name: str
    label: str
    positions: tuple[str, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class ProbeFigures:
    """The figures of one probe, with its heading and how to read them."""

    name: str
    title: str
    note: str
    charts: tuple[Chart, ...]
    heatmaps: tuple[Heatmaps, ...]
    maps: tuple[MapTable, ...] = ()


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The figures of each probe that a trial has."""
    figures = tuple(probe_figures(study))
    others = any(trial.probes.get(OWN_SECTION) for _, _, trial in study.trials)
    return Section("probes", "Other probes" if others else "Probes", figures) if figures else None


def probe_figures(study: Study) -> list[ProbeFigures]:
    """The figures of each probe that a trial has, except the gradient probe."""
    result: list[ProbeFigures] = []
    for name, probe in measured_probes(study).items():
        columns = [Quantity(name, key, None if name in PROBES else item) for key, item in probe.columns.items()]
        maps = [_heatmaps(study, quantity) for quantity in columns if quantity.column.figure == "heatmap"]
        charts, shown = _line_charts(study, name, columns), tuple(item for item in maps if item is not None)
        tables = map_tables(study, name, probe)
        if charts or shown or tables:
            result.append(ProbeFigures(name, probe.title, probe.note, charts, shown, tables))
    return result


def measured_probes(study: Study) -> dict[str, ProbeDescription]:
    """The probes that a trial has, except the gradient probe: the built-in ones in the order of their table, then others."""
    described: dict[str, ProbeDescription] = {}
    for _, _, trial in study.trials:
        for name, snapshots in trial.probes.items():
            if snapshots and name != OWN_SECTION and name in trial.descriptions:
                described.setdefault(name, trial.descriptions[name])
    order = [*PROBES, *sorted(described)]
    return {name: described[name] for name in dict.fromkeys(order) if name in described}


def probe_lines(lines: Sequence[ProbeLine], column: Column, along: str, width: int = HALF) -> "Figure":
    """Draw a quantity over layers, classes, or snapshots, a line per condition.

    Args:
        lines: The conditions.
        column: What is drawn.
        along: Label of the x-axis. Without the order of a network, few positions are named.
        width: Width in pixels.
    """
    points = [
        tuple(
            (float(i), value) for i, value in enumerate(line.values) if value is not None and _drawable(value, column)
        )
        for line in lines
    ]
    values = [value for line in points for _, value in line]
    positions = max((line.positions for line in lines), key=len)
    last = max(1, len(positions) - 1)
    if len(positions) <= 5 and column.axis not in ("layer", "point"):
        x = Axis(along, 0, last, tuple(range(len(positions))), texts=positions)
    else:
        x = integer_axis(along, last)
    title = _full_label(column)
    title = title[:1].lower() + title[1:]
    if column.log:
        low, high = min(values), max(values)
        y = log_axis(title, low / 1.2, high * 1.2) if high / low > 1.5 else log_axis(title, low / 3, high * 3)
    else:
        y = linear_axis(title, *range_of(values))
    drawn = [
        Line(
            line.name,
            known,
            texts=tuple(f"{line.name}, {line.positions[int(i)]}: {y.amount(value)}" for i, value in known),
        )
        for line, known in zip(lines, points, strict=True)
    ]
    return line_figure(drawn, x, y, width, marks=len(values) <= MAX_MARKS)


def _heatmaps(study: Study, quantity: Quantity) -> Heatmaps | None:
    label = quantity.column.label
    noun = label[:1].lower() + label[1:]
    name = f"{_chart_prefix(quantity.probe)}-{quantity.name}"
    name = name.replace("_", "-") if quantity.probe in PROBES else name
    return heatmaps(study, quantity, measured_grids(study, quantity), name, noun)


def _chart_prefix(probe: str) -> str:
    """Start of the ids of a probe's charts. A plugin's class may be named like a section or chart of the page."""
    return probe if probe in PROBES else f"probe-{probe}"


def _line_charts(study: Study, probe: str, columns: Sequence[Quantity]) -> tuple[Chart, ...]:
    """The charts over layers and snapshots, in the order of the columns."""
    groups = [
        (panel, [item for item in conditions if any(trial.probes.get(probe) for _, trial in item.trials)])
        for panel, conditions in panels(study)
    ]
    groups = [(panel, conditions) for panel, conditions in groups if conditions][:MAX_PANELS]
    drawn: list[tuple[Quantity, str, list[ProbeLine]]] = []
    for quantity in columns:
        column = quantity.column
        times = {"profile": TIMES, "lines": (("", None),)}.get(column.figure, ())
        for panel, conditions in groups:
            for when, index in times:
                lines = [
                    line for item in conditions if (line := _line(quantity, item, index, study.metric)) is not None
                ]
                if any(_drawable(value, column) for line in lines for value in line.values):
                    drawn.append((quantity, ", ".join(filter(None, (_full_label(column), panel, when))), lines))
    width = width_of(len(drawn))
    return tuple(_chart(item, f"{_chart_prefix(probe)}-{index}", width) for index, item in enumerate(drawn, start=1))


def _chart(item: tuple[Quantity, str, list[ProbeLine]], name: str, width: int) -> Chart:
    quantity, title, lines = item
    texts = [line.label for line in lines]
    entry = quantity.entry
    order = "input to output" if quantity.layered else ""
    if quantity.column.figure == "lines":
        entry, along, where = "snapshot", "snapshot", " at each snapshot, starting at initialization"
    else:
        along = ", ".join(filter(None, (entry, order)))
        where = f": over the {quantity.entries}{f' from {order}' if order else ''}, mean over seeds"
    description = f"{title}{where}, for {'; '.join(texts)}."
    draw = partial(probe_lines, lines, quantity.column, along, width)
    longest = max(lines, key=lambda line: len(line.positions)).positions
    cells = [dict(zip(line.positions, line.values, strict=True)) for line in lines]
    rows = [[position, *(significant(cell.get(position)) for cell in cells)] for position in longest]
    return Chart(name, title, description, draw, table(name, [entry, *texts], rows), line_keys(texts))


def _line(quantity: Quantity, condition: Condition, index: int | None, metric: str) -> ProbeLine | None:
    """The values of a condition at a snapshot, or at all snapshots if `index` is None; None if none is known at this snapshot."""
    if index is None:
        positions, values, counts = _over_snapshots(condition, quantity)
    else:
        positions, values, counts = _over_layers(condition, quantity, index)
        if all(value is None for value in values):
            return None
    label = _label(condition, metric, counts)
    return ProbeLine(condition.level or condition.name, label, positions, values)


Averages = tuple[tuple[str, ...], tuple[float | None, ...], Counts]  # positions, means over seeds, numbers of seeds


def _over_layers(condition: Condition, quantity: Quantity, index: int) -> Averages:
    """The means at one snapshot. At the end, only of trials that finished and have more than one snapshot."""
    trials = [trial for _, trial in condition.trials if index == 0 or trial.status == "finished"]
    series = [quantity.of(trial) for trial in trials]
    snapshots = [item[index] for item in series if len(item) > (index == -1)]
    positions = quantity.labels(snapshots[0]) if snapshots else ()
    rows = [quantity.values(item) for item in snapshots if quantity.labels(item) == positions]
    columns = [_averaged(column, quantity.column) for column in zip(*rows, strict=True)]
    return positions, tuple(_mean(known, quantity.column) for known in columns), tuple((len(c),) for c in columns)


def _over_snapshots(condition: Condition, quantity: Quantity) -> Averages:
    """The mean at each snapshot."""
    series = list(quantity.snapshots(condition).values())
    longest = max(series, key=len, default=())
    values: list[float | None] = []
    counts: list[tuple[int, ...]] = []
    for index in range(len(longest)):
        mean, number = _mean_of([item[index] for item in series if index < len(item)], quantity)
        values.append(mean)
        counts.append((number,))
    positions = tuple(snapshot_label(index, snapshot) for index, snapshot in enumerate(longest))
    return positions, tuple(values), tuple(counts)


def _mean_of(snapshots: Sequence[ProbeSnapshot], quantity: Quantity) -> tuple[float | None, int]:
    """Mean over seeds, and their number; of a quotient, the mean numerator divided by the mean denominator."""
    column = quantity.column
    if column.quotient is None:
        known = _averaged([item.columns[quantity.name][0] for item in snapshots], column)
        return _mean(known, column), len(known)
    pairs = [tuple(item.columns[name][0] for name in column.quotient) for item in snapshots]
    both = [(top, bottom) for top, bottom in pairs if top is not None and bottom is not None]
    top, bottom = (fmean(pair[side] for pair in both) if both else 0.0 for side in (0, 1))
    return (top / bottom if bottom > 0 and (top > 0 or not column.log) else None), len(both)


def _label(condition: Condition, metric: str, counts: Counts) -> str:
    """A condition in a legend, with the number of seeds in its means if some are missing."""
    name, planned = condition.level or condition.name, len(condition.trials)
    if all(number in (0, planned) for row in counts for number in row):
        return name
    return f"{name}: {coverage(counts, planned, condition.excluded(metric))}"


def _full_label(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _averaged(values: Sequence[float | None], column: Column) -> list[float]:
    """The values of the seeds that can be averaged."""
    return [value for value in values if value is not None and (value > 0 or not column.log)]


def _mean(known: Sequence[float], column: Column) -> float | None:
    """Mean over seeds; the geometric mean on a logarithmic scale."""
    if not known:
        return None
    return math.exp(fmean(math.log(value) for value in known)) if column.log else fmean(known)


def _drawable(value: float | None, column: Column) -> bool:
    return value is not None and (not column.log or value > MIN_OF_LOG)
