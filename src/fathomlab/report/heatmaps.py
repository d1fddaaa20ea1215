"""Gradient heatmaps: log10 of the norm by layer and snapshot, for plain, residual, and their difference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.analysis.study import Study
from fathomlab.report.figures import Figure, drawn
from fathomlab.report.grids import Counts, Difference, Grid, coverage, difference, fewest, grid, spread
from fathomlab.report.loose import at, number
from fathomlab.report.numbers import count, plain
from fathomlab.report.pixels import APART, STOPS, picture
from fathomlab.report.profiles import decades, profiles
from fathomlab.report.tables import Table, table

MOST_SNAPSHOTS = 52
MOST_CELLS = 40_000  # of all heatmaps of a page; more layers mean fewer snapshots
MOST_CONDITIONS = 16
LEAST = -20.0  # smaller values (decades) share the lowest color
KINDS = (
    ("activation", "points", "Activation gradients (dLoss/dh)"),
    ("weight", "layers", "Weight gradients (dLoss/dW)"),
)


@dataclass(frozen=True)
class Scale:
    """The color scale of maps: its two ends in decades, and the colors between."""

    low: float
    high: float
    stops: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class GradientFigures:
    """The heatmaps of one kind, their common scales, and the profiles at initialization."""

    title: str
    scales: tuple[Scale, ...]
    columns: int
    maps: tuple[Figure, ...]
    profiles: tuple[Figure, ...]
    left_out: int


def gradient_figures(study: Study) -> list[GradientFigures]:
    """Activation gradients, then weight gradients; empty if no trial measured them."""
    measured = [item for item in study.conditions if any(trial.gradients for _, trial in item.trials)]
    if study.has_depths:
        measured.sort(key=lambda item: item.depth or 0)
    found: list[GradientFigures] = []
    for kind, names, title in KINDS:
        every = [own for item in measured if (own := grid(item, kind, names)) is not None]
        grids = every[-MOST_CONDITIONS:]  # the deepest networks differ most
        values = [value for own in grids for row in own.rows for value in row if value is not None]
        if not values:
            continue
        low, high = decades([max(value, LEAST) for value in values])
        gaps = _gaps(study, {own.condition.name for own in grids}, kind, names)
        cells = sum(len(own.layers) for own in (*grids, *gaps))
        most = max(8, min(MOST_SNAPSHOTS, MOST_CELLS // (len(KINDS) * cells)))
        scale = Scale(low, high, STOPS, "gradient norm")
        reach = _reach(gaps)
        apart = Scale(-reach, reach, APART, "residual / plain")
        maps = _arranged(kind, grids, gaps, most, scale, apart, study.metric)
        found.append(
            GradientFigures(
                title=title,
                scales=(scale, apart) if gaps else (scale,),
                columns=3 if gaps else len(study.by_series()),
                maps=maps,
                profiles=profiles(study, kind, every) if kind == "activation" else (),
                left_out=len(every) - len(grids),
            )
        )
    return found


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


def _gaps(study: Study, shown: set[str], kind: str, names: str) -> list[Difference]:
    pairs = [pair for pair in study.residual_pairs() if pair[0].name in shown and pair[1].name in shown]
    return [gap for first, second in pairs if (gap := difference(first, second, kind, names)) is not None]


def _reach(gaps: Sequence[Difference]) -> float:
    """The largest difference in decades, rounded up; the scale is symmetric."""
    values = [abs(value) for gap in gaps for row in gap.rows for value in row if value is not None]
    return float(max(1, math.ceil(max(values)))) if values else 1.0


def _arranged(
    kind: str, grids: Sequence[Grid], gaps: Sequence[Difference], most: int, scale: Scale, apart: Scale, metric: str
) -> tuple[Figure, ...]:
    """Plain, residual, and their difference side by side; conditions without a partner come last."""
    maps: list[Figure] = []
    by_name = {own.condition.name: own for own in grids}
    for gap in gaps:
        for side in (gap.first, gap.second):
            maps.append(_map(kind, len(maps) + 1, by_name.pop(side.name), most, scale, metric))
        maps.append(_gap_map(kind, len(maps) + 1, gap, most, apart, metric))
    for own in by_name.values():
        maps.append(_map(kind, len(maps) + 1, own, most, scale, metric))
    return tuple(maps)


def _map(kind: str, place: int, own: Grid, most: int, scale: Scale, metric: str) -> Figure:
    name = f"{kind}-gradients-{place}"
    columns = spread(len(own.snapshots), most)
    rows = [[row[column] for column in columns] for row in own.rows]
    snapshots = [own.snapshots[column] for column in columns]
    excluded = own.condition.excluded(metric)
    title = f"{own.condition.name} ({excluded})" if excluded else own.condition.name
    description = (
        f"log10 of the {kind} gradient norm, {count(len(rows), 'layer')} from input (top) to output, "
        f"{count(len(snapshots), 'snapshot')} from initialization to {snapshots[-1]}, "
        f"{coverage(own.counts, own.planned, excluded)}."
    )
    spec = _spec(picture(rows, scale.low, scale.high), own.layers, snapshots)
    svg = drawn(name, f"{kind} gradients: {title}", description, spec)
    return Figure(name, title, description, svg, _table(name, own.layers, snapshots, rows, own.counts))


def _gap_map(kind: str, place: int, gap: Difference, most: int, scale: Scale, metric: str) -> Figure:
    name = f"{kind}-gradients-{place}"
    columns = spread(len(gap.snapshots), most)
    rows = [[row[column] for column in columns] for row in gap.rows]
    snapshots = [gap.snapshots[column] for column in columns]
    title = "residual / plain" if gap.second.level == gap.second.name else f"residual / plain, {gap.second.level}"
    sides = [f"{item.name}: {text}" for item in (gap.first, gap.second) if (text := item.excluded(metric))]
    title += f" ({'; '.join(sides)})" if sides else ""
    largest = max((value for row in gap.deviations for value in row if value is not None), default=None)
    spreads = "" if largest is None else f"; standard deviation over seeds at most {largest:.2f}"
    description = (
        f"{gap.second.name} / {gap.first.name}: log10 of the ratio of the {kind} gradient norms, same seed, "
        f"{coverage(gap.counts, gap.planned, '; '.join(sides))}{spreads}; {count(len(rows), 'layer')} from input (top) to "
        "output."
    )
    spec = _spec(picture(rows, scale.low, scale.high, scale.stops), gap.layers, snapshots)
    data = _table(name, gap.layers, snapshots, rows, gap.counts)
    ends = sorted({0, len(gap.snapshots) - 1})
    also = [f"standard deviation, {gap.snapshots[end]}" for end in ends]
    cells = tuple(
        (*row, *(plain(deviations[end]) for end in ends))
        for row, deviations in zip(data.rows, gap.deviations, strict=True)
    )
    data = replace(data, columns=(*data.columns, *also), rows=cells)
    return Figure(name, title, description, drawn(name, f"{kind} gradients: {title}", description, spec), data)


def _table(
    name: str, layers: Sequence[str], snapshots: Sequence[str], rows: list[list[float | None]], counts: Counts
) -> Table:
    cells = [
        [layer, *(plain(value) for value in row), seeds]
        for layer, row, seeds in zip(layers, rows, fewest(counts), strict=True)
    ]
    return table(name, ["layer", *snapshots, "fewest seeds in a cell"], cells)


def _spec(image: str, layers: Sequence[str], snapshots: Sequence[str]) -> dict[str, Any]:
    """The image with labels of layers and snapshots, thinned so that they do not overlap."""
    height = min(300, max(96, 9 * len(layers)))
    width = min(236, max(120, 22 * len(snapshots)))
    longest = 1.3 * max(len(text) for text in layers)
    every = max(1, math.ceil(len(layers) * 12 / height))
    rows = [{"y": place + 0.5, "t": text} for place, text in enumerate(layers) if place % every == 0]
    short = [text.removeprefix("epoch ") for text in snapshots]
    columns = [{"x": place + 0.5, "t": short[place]} for place in _ticks(short, width)]
    y = {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [len(layers), 0], "nice": False}}
    x = {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [0, len(snapshots)], "nice": False}}
    text = {"type": "text", "fontSize": 10, "color": "var(--muted)", "limit": 84}
    shape = {"x": {"value": 0}, "x2": {"value": "width"}, "y": {"value": 0}, "y2": {"value": "height"}}
    below = {**text, "y": height + 5, "baseline": "top"}
    title = {**text, "fontSize": 11, "y": height + 20, "baseline": "top"}
    return {
        "width": width,
        "padding": {"left": 3 + longest, "right": 6, "top": 3, "bottom": 3},  # fonts differ in width
        "height": height,
        "data": {"values": [{}]},
        "layer": [
            {"mark": {"type": "image", "aspect": False, "smooth": False, "url": image}, "encoding": shape},
            {
                "data": {"values": rows},
                "mark": {**text, "align": "right", "x": -5},
                "encoding": {"y": y, "text": {"field": "t"}},
            },
            {"data": {"values": columns}, "mark": below, "encoding": {"x": x, "text": {"field": "t"}}},
            {
                "data": {"values": [{"t": "epoch"}]},
                "mark": {**title, "x": width / 2},
                "encoding": {"text": {"field": "t"}},
            },
        ],
    }


def _ticks(labels: Sequence[str], width: float) -> list[int]:
    """The positions whose labels do not overlap, starting with the first."""
    cell, kept, end = width / len(labels), list[int](), -math.inf
    for place, label in enumerate(labels):
        half = 3.0 * len(label) + 2
        if (place + 0.5) * cell - half >= end:
            kept.append(place)
            end = (place + 0.5) * cell + half
    return kept
