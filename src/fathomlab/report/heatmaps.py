"""Gradient heatmaps: log10 of the norm by layer and snapshot, for plain, residual, and their ratio."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fathomlab.analysis.study import Study
from fathomlab.report.charts import Chart, columns
from fathomlab.report.figures.heatmap import Heatmap, heatmap_figure
from fathomlab.report.figures.scales import SUPERSCRIPTS
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.grids import Counts, Difference, Grid, coverage, difference, evenly_spaced_indices, fewest, grid
from fathomlab.report.loose import at, number
from fathomlab.report.numbers import count, plain
from fathomlab.report.profiles import decades, profile_charts
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SNAPSHOTS = 52
MAX_CELLS = 40_000  # of all heatmaps of a page; more layers mean fewer snapshots
MAX_CONDITIONS = 16
MIN_LOG = -20.0  # smaller values (decades) share the lowest color
KINDS = (
    ("activation", "points", "Activation gradients (dLoss/dh)"),
    ("weight", "layers", "Weight gradients (dLoss/dW)"),
)


@dataclass(frozen=True)
class GradientCharts:
    """The heatmaps of one kind, and the profiles at initialization."""

    title: str
    columns: int
    maps: tuple[Chart, ...]
    profiles: tuple[Chart, ...]
    left_out: int


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


def gradient_heatmap(cells: Cells, low: int, high: int) -> "Figure":
    """Draw gradient norms by layer (rows, input on top) and snapshot (columns), with a logarithmic color scale.

    Args:
        cells: The numbers.
        low: Power of ten of the first color.
        high: Power of ten of the last color.
    """
    ends = sorted({low, high, (low + high) // 2 if high - low > 2 else low})
    scale = tuple((float(power), "1" if power == 0 else "10" + str(power).translate(SUPERSCRIPTS)) for power in ends)
    return heatmap_figure(Heatmap(cells.rows, cells.layers, cells.snapshots, low, high, scale, cells.ratio))


def gradient_charts(study: Study) -> list[GradientCharts]:
    """Activation gradients, then weight gradients; empty if no trial measured them."""
    measured = [item for item in study.conditions if any(trial.gradients for _, trial in item.trials)]
    if study.has_depths:
        measured.sort(key=lambda item: item.depth or 0)
    result: list[GradientCharts] = []
    for kind, names, title in KINDS:
        every = [item for condition in measured if (item := grid(condition, kind, names)) is not None]
        grids = every[-MAX_CONDITIONS:]  # the deepest networks differ most
        if all(value is None for item in grids for row in item.rows for value in row):
            continue
        ratios = _ratios(study, {item.condition.name for item in grids}, kind, names)
        total = sum(len(item.layers) for item in (*grids, *ratios))
        limit = max(8, min(MAX_SNAPSHOTS, MAX_CELLS // (len(KINDS) * total)))
        maps = _arranged(kind, grids, ratios, limit, study.metric)
        result.append(
            GradientCharts(
                title=title,
                columns=3 if ratios else columns(len(maps)),
                maps=maps,
                profiles=profile_charts(study, kind, every) if kind == "activation" else (),
                left_out=len(every) - len(grids),
            )
        )
    return result


def probe_cost(study: Study) -> str:
    """Cost of the gradient probe in a sentence; "" if nothing was measured."""
    for _, _, trial in study.trials:
        steps = max((step for step in trial.curves.get("step", []) if step is not None), default=None)
        examples = number(at(trial.content, "probes.gradients.examples"))
        size = number(at(trial.content, "data.batch_size"))
        if trial.gradients and steps and examples and size:
            taken = min(examples, size) * len(trial.gradients)
            return (
                f"The gradient probe ran {count(len(trial.gradients), 'time')} on {min(examples, size):.0f} images "
                f"(about {100 * taken / (steps * size):.2g}% extra compute)."
            )
    return ""


def _ratios(study: Study, shown: set[str], kind: str, names: str) -> list[Difference]:
    pairs = [pair for pair in study.residual_pairs() if pair[0].name in shown and pair[1].name in shown]
    return [item for first, second in pairs if (item := difference(first, second, kind, names)) is not None]


def _arranged(
    kind: str, grids: Sequence[Grid], ratios: Sequence[Difference], limit: int, metric: str
) -> tuple[Chart, ...]:
    """Plain, residual, and their ratio side by side, the first two with one scale; others come last."""
    maps: list[Chart] = []
    by_name = {item.condition.name: item for item in grids}
    for ratio in ratios:
        pair = [by_name.pop(side.name) for side in (ratio.first, ratio.second)]
        scale = _scale(pair)
        maps += [_map(kind, len(maps) + index, item, limit, scale, metric) for index, item in enumerate(pair, start=1)]
        maps.append(_ratio_map(kind, len(maps) + 1, ratio, limit, metric))
    for item in by_name.values():
        maps.append(_map(kind, len(maps) + 1, item, limit, _scale([item]), metric))
    return tuple(maps)


def _scale(grids: Sequence[Grid]) -> tuple[int, int]:
    """Full decades that contain the values of these maps."""
    values = [max(value, MIN_LOG) for item in grids for row in item.rows for value in row if value is not None]
    low, high = decades(values) if values else (0, 1)
    return int(low), int(high)


def _map(kind: str, index: int, item: Grid, limit: int, scale: tuple[int, int], metric: str) -> Chart:
    name = f"{kind}-gradients-{index}"
    cells = _cells(item.rows, item.layers, item.snapshots, limit)
    excluded = item.condition.excluded(metric)
    title = f"{item.condition.name} ({excluded})" if excluded else item.condition.name
    description = (
        f"log10 of the {kind} gradient norm, {count(len(cells.rows), 'layer')} from input (top) to output, "
        f"{count(len(cells.snapshots), 'snapshot')} from initialization to {cells.snapshots[-1]}, "
        f"{coverage(item.counts, item.planned, excluded)}; colors from 1e{scale[0]} to 1e{scale[1]}."
    )
    svg = inline_svg(gradient_heatmap(cells, *scale), name, f"{kind} gradients: {title}", description)
    return Chart(name, title, description, svg, _table(name, cells, item.counts))


def _ratio_map(kind: str, index: int, ratio: Difference, limit: int, metric: str) -> Chart:
    name = f"{kind}-gradients-{index}"
    cells = replace(_cells(ratio.rows, ratio.layers, ratio.snapshots, limit), ratio=True)
    title = "residual / plain" if ratio.second.level == ratio.second.name else f"residual / plain, {ratio.second.level}"
    sides = [f"{item.name}: {text}" for item in (ratio.first, ratio.second) if (text := item.excluded(metric))]
    title += f" ({'; '.join(sides)})" if sides else ""
    values = [abs(value) for row in ratio.rows for value in row if value is not None]
    reach = max(1, math.ceil(max(values, default=1.0)))
    largest = max((value for row in ratio.deviations for value in row if value is not None), default=None)
    spreads = "" if largest is None else f"; standard deviation over seeds at most {largest:.2f}"
    description = (
        f"{ratio.second.name} / {ratio.first.name}: log10 of the ratio of the {kind} gradient norms, same seed, "
        f"{coverage(ratio.counts, ratio.planned, '; '.join(sides))}{spreads}; {count(len(cells.rows), 'layer')} from "
        f"input (top) to output; colors from 1e-{reach} to 1e{reach}."
    )
    data = _table(name, cells, ratio.counts)
    ends = sorted({0, len(ratio.snapshots) - 1})
    rows = tuple(
        (*row, *(plain(deviations[end]) for end in ends))
        for row, deviations in zip(data.rows, ratio.deviations, strict=True)
    )
    also = [f"standard deviation, {ratio.snapshots[end]}" for end in ends]
    data = replace(data, columns=(*data.columns, *also), rows=rows)
    svg = inline_svg(gradient_heatmap(cells, -reach, reach), name, f"{kind} gradients: {title}", description)
    return Chart(name, title, description, svg, data)


def _cells(
    rows: Sequence[Sequence[float | None]], layers: tuple[str, ...], snapshots: Sequence[str], limit: int
) -> Cells:
    chosen = evenly_spaced_indices(len(snapshots), limit)
    return Cells(tuple(tuple(row[i] for i in chosen) for row in rows), layers, tuple(snapshots[i] for i in chosen))


def _table(name: str, cells: Cells, counts: Counts) -> Table:
    rows = [
        [layer, *(plain(value) for value in row), seeds]
        for layer, row, seeds in zip(cells.layers, cells.rows, fewest(counts), strict=True)
    ]
    return table(name, ["layer", *cells.snapshots, "fewest seeds in a cell"], rows)
