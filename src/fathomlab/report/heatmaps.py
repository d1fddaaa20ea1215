"""Heatmaps of a probe's column: log10 by layer and snapshot, for plain, residual, and their ratio."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis.study import Study
from fathomlab.report.charts import Chart, columns
from fathomlab.report.figures.heatmap import Heatmap, heatmap_figure
from fathomlab.report.figures.scales import SUPERSCRIPTS, evenly_spaced_indices
from fathomlab.report.grids import (
    Counts,
    Difference,
    Grid,
    Quantity,
    coverage,
    difference,
    fewest,
    grid,
)
from fathomlab.report.numbers import NBSP, capital, count, plain
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SNAPSHOTS = 52
MAX_CELLS = 20_000  # of all heatmaps of a column; more layers mean fewer snapshots
MAX_CONDITIONS = 16
MAX_TEXTS = 400  # cells of a map with a text on hover; limits the size of a page
MIN_LOG = -20.0  # smaller values (decades) share the lowest color


@dataclass(frozen=True)
class Heatmaps:
    """The heatmaps of one column.

    Attributes:
        title: What is shown.
        columns: How many are in a row of the page.
        left_out: Number of conditions that are not drawn.
    """

    title: str
    columns: int
    maps: tuple[Chart, ...]
    left_out: int


@dataclass(frozen=True)
class Subject:
    """A column as the heatmaps name it.

    Attributes:
        name: Start of the ids of the charts: "activation-gradients".
        noun: What a number is: "activation gradient norm".
        metric: Primary metric of the study, to name seeds without a value.
    """

    quantity: Quantity
    name: str
    noun: str
    metric: str

    def rows(self, number: int) -> str:
        """What the rows are: "6 layers from input (top) to output"."""
        if self.quantity.layered:
            return f"{count(number, 'layer')} from input (top) to output"
        return f"{number:,}{NBSP}{self.quantity.entry if number == 1 else self.quantity.entries}"


@dataclass(frozen=True)
class Cells:
    """The numbers of a heatmap in decades, with the snapshots that fit.

    Attributes:
        rows: A row per layer from input to output.
        layers: Names of the layers.
        snapshots: Names of the snapshots.
        ratio: Whether the numbers are ratios of two conditions, so that the scale is symmetric.
    """

    rows: tuple[tuple[float | None, ...], ...]
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    ratio: bool = False


def log_heatmap(cells: Cells, low: int, high: int) -> "Figure":
    """Draw numbers by layer (rows, input on top) and snapshot (columns), with a logarithmic color scale.

    Args:
        cells: The numbers.
        low: Power of ten of the first color.
        high: Power of ten of the last color.
    """
    ends = sorted({low, high, (low + high) // 2 if high - low > 2 else low})
    scale = tuple((float(power), "1" if power == 0 else "10" + str(power).translate(SUPERSCRIPTS)) for power in ends)
    texts = _texts(cells) if len(cells.layers) * len(cells.snapshots) <= MAX_TEXTS else ()
    return heatmap_figure(Heatmap(cells.rows, cells.layers, cells.snapshots, low, high, scale, cells.ratio, texts))


def _texts(cells: Cells) -> tuple[tuple[str, ...], ...]:
    """What each cell shows on hover: "hidden.3, epoch 2: 0.00123"; "" for an empty cell."""
    return tuple(
        tuple(
            "" if value is None else f"{layer}, {snapshot}: {_power(value)}"
            for snapshot, value in zip(cells.snapshots, row, strict=True)
        )
        for layer, row in zip(cells.layers, cells.rows, strict=True)
    )


def _power(value: float) -> str:
    """A number from its decimal logarithm, in two digits: "0.0012", "3.2e-18"."""
    exponent = math.floor(value)
    return f"{10**value:.2g}" if -4 <= value < 4 else f"{10 ** (value - exponent):.1f}e{exponent}"


def measured_grids(study: Study, quantity: Quantity) -> list[Grid]:
    """The grid of each condition that measured a column, by depth."""
    conditions = list(study.conditions)
    if study.has_depths:
        conditions.sort(key=lambda item: item.depth or 0)
    return [item for condition in conditions if (item := grid(condition, quantity)) is not None]


def heatmaps(study: Study, quantity: Quantity, every: Sequence[Grid], name: str, noun: str) -> Heatmaps | None:
    """The heatmaps of these grids; None if no cell has a number.

    Args:
        study: The experiment.
        quantity: The column.
        every: Its grids.
        name: Start of the ids of the charts.
        noun: What a number is.
    """
    subject = Subject(quantity, name, noun, study.metric)
    grids = every[-MAX_CONDITIONS:]  # the deepest networks differ most
    if all(value is None for item in grids for row in item.rows for value in row):
        return None
    ratios = _ratios(study, {item.condition.name for item in grids}, quantity)
    total = sum(len(item.layers) for item in (*grids, *ratios))
    limit = max(8, min(MAX_SNAPSHOTS, MAX_CELLS // total))
    maps = _arranged(subject, grids, ratios, limit)
    return Heatmaps(quantity.column.label, 3 if ratios else columns(len(maps)), maps, len(every) - len(grids))


def decades(values: Sequence[float]) -> tuple[float, float]:
    """The range of full decades that contains all values."""
    low, high = math.floor(min(values)), math.ceil(max(values))
    return low, max(high, low + 1)


def _ratios(study: Study, shown: set[str], quantity: Quantity) -> list[Difference]:
    pairs = [pair for pair in study.residual_pairs() if pair[0].name in shown and pair[1].name in shown]
    return [item for first, second in pairs if (item := difference(first, second, quantity)) is not None]


def _arranged(subject: Subject, grids: Sequence[Grid], ratios: Sequence[Difference], limit: int) -> tuple[Chart, ...]:
    """Plain, residual, and their ratio side by side, the first two with one scale; others come last."""
    maps: list[Chart] = []
    by_name = {item.condition.name: item for item in grids}
    for ratio in ratios:
        pair = [by_name.pop(side.name) for side in (ratio.first, ratio.second)]
        scale = _scale(pair)
        maps += [_map(subject, len(maps) + index, item, limit, scale) for index, item in enumerate(pair, start=1)]
        maps.append(_ratio_map(subject, len(maps) + 1, ratio, limit))
    for item in by_name.values():
        maps.append(_map(subject, len(maps) + 1, item, limit, _scale([item])))
    return tuple(maps)


def _scale(grids: Sequence[Grid]) -> tuple[int, int]:
    """Full decades that contain the values of these maps."""
    values = [max(value, MIN_LOG) for item in grids for row in item.rows for value in row if value is not None]
    low, high = decades(values) if values else (0, 1)
    return int(low), int(high)


def _map(subject: Subject, index: int, item: Grid, limit: int, scale: tuple[int, int]) -> Chart:
    name = f"{subject.name}-{index}"
    cells = _cells(item.rows, item.layers, item.snapshots, limit)
    excluded = item.condition.excluded(subject.metric)
    title = f"{item.condition.name} ({excluded})" if excluded else item.condition.name
    description = (
        f"log10 of the {subject.noun}, {subject.rows(len(cells.rows))}, "
        f"{count(len(cells.snapshots), 'snapshot')} from initialization to {cells.snapshots[-1]}, "
        f"{coverage(item.counts, item.planned, excluded)}; colors from 1e{scale[0]} to 1e{scale[1]}."
    )
    draw, full = partial(log_heatmap, cells, *scale), f"{capital(subject.noun)}: {title}"
    return Chart(name, title, description, draw, _table(subject, name, cells, item.counts), full_title=full)


def _ratio_map(subject: Subject, index: int, ratio: Difference, limit: int) -> Chart:
    name = f"{subject.name}-{index}"
    cells = replace(_cells(ratio.rows, ratio.layers, ratio.snapshots, limit), ratio=True)
    title = "residual / plain" if ratio.second.level == ratio.second.name else f"residual / plain, {ratio.second.level}"
    sides = [f"{item.name}: {text}" for item in (ratio.first, ratio.second) if (text := item.excluded(subject.metric))]
    title += f" ({'; '.join(sides)})" if sides else ""
    values = [abs(value) for row in ratio.rows for value in row if value is not None]
    reach = max(1, math.ceil(max(values, default=1.0)))
    largest = max((value for row in ratio.deviations for value in row if value is not None), default=None)
    spreads = "" if largest is None else f"; standard deviation over seeds at most {largest:.2f}"
    description = (
        f"{ratio.second.name} / {ratio.first.name}: log10 of the ratio of the {subject.noun}, same seed, "
        f"{coverage(ratio.counts, ratio.planned, '; '.join(sides))}{spreads}; {subject.rows(len(cells.rows))}; "
        f"colors from 1e-{reach} to 1e{reach}."
    )
    data = _table(subject, name, cells, ratio.counts)
    ends = sorted({0, len(ratio.snapshots) - 1})
    rows = tuple(
        (*row, *(plain(deviations[end]) for end in ends))
        for row, deviations in zip(data.rows, ratio.deviations, strict=True)
    )
    also = [f"standard deviation, {ratio.snapshots[end]}" for end in ends]
    data = replace(data, columns=(*data.columns, *also), rows=rows)
    draw, full = partial(log_heatmap, cells, -reach, reach), f"{capital(subject.noun)}: {title}"
    return Chart(name, title, description, draw, data, full_title=full)


def _cells(
    rows: Sequence[Sequence[float | None]], layers: tuple[str, ...], snapshots: Sequence[str], limit: int
) -> Cells:
    chosen = evenly_spaced_indices(len(snapshots), limit)
    return Cells(tuple(tuple(row[i] for i in chosen) for row in rows), layers, tuple(snapshots[i] for i in chosen))


def _table(subject: Subject, name: str, cells: Cells, counts: Counts) -> Table:
    rows = [
        [layer, *(plain(value) for value in row), seeds]
        for layer, row, seeds in zip(cells.layers, cells.rows, fewest(counts), strict=True)
    ]
    return table(name, [subject.quantity.entry, *cells.snapshots, "fewest seeds in a cell"], rows)
