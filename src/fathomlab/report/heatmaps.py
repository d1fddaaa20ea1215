"""Gradients: log10 of the norm by layer and snapshot as heat maps, plain beside residual beside their difference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.report.figures import Figure, drawn
from fathomlab.report.grids import Difference, Grid, difference, grid, spread
from fathomlab.report.loose import at, number
from fathomlab.report.numbers import count, plain
from fathomlab.report.pixels import APART, STOPS, picture
from fathomlab.report.profiles import decades, profiles
from fathomlab.report.study import Study
from fathomlab.report.tables import Table, table

MOST_SNAPSHOTS = 52
MOST_CELLS = 40_000  # of all heat maps of a page; fewer snapshots where there are more layers
MOST_CONDITIONS = 16
LEAST = -20.0  # decades below which colours do not tell apart
KINDS = (
    ("activation", "points", "Activation gradients dLoss/dh"),
    ("weight", "layers", "Weight gradients dLoss/dW"),
)


@dataclass(frozen=True)
class Scale:
    """The colours of maps: what the two ends stand for, in decades, and the stops between."""

    low: float
    high: float
    stops: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class GradientFigures:
    """The heat maps of one kind, so many side by side, their common scales, and the profiles at the start."""

    title: str
    scales: tuple[Scale, ...]
    columns: int
    maps: tuple[Figure, ...]
    profiles: tuple[Figure, ...]
    left_out: int


def gradient_figures(study: Study) -> list[GradientFigures]:
    """Activation gradients, then weight gradients; nothing where no trial has them."""
    measured = [item for item in study.conditions if any(trial.gradients for _, trial in item.trials)]
    if study.has_depths:
        measured.sort(key=lambda item: item.depth or 0)
    found: list[GradientFigures] = []
    for kind, names, title in KINDS:
        every = [own for item in measured if (own := grid(item, kind, names)) is not None]
        grids = every[-MOST_CONDITIONS:]  # the deepest, which differ most
        values = [value for own in grids for row in own.rows for value in row if value is not None]
        if not values:
            continue
        low, high = decades([max(value, LEAST) for value in values])
        gaps = _gaps(study, {own.condition.name for own in grids}, kind, names)
        cells = sum(len(own.layers) for own in (*grids, *gaps))
        most = max(8, min(MOST_SNAPSHOTS, MOST_CELLS // (len(KINDS) * cells)))
        scale = Scale(low, high, STOPS, "norm")
        reach = _reach(gaps)
        apart = Scale(-reach, reach, APART, "residual over plain")
        maps = _arranged(kind, grids, gaps, most, scale, apart)
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
    """How many images the gradient probe took beside those of training, in a sentence; "" where nothing was measured."""
    for _, _, trial in study.trials:
        steps = max((step for step in trial.curves.get("step", []) if step is not None), default=None)
        examples = number(at(trial.content, "probes.gradients.examples"))
        size = number(at(trial.content, "data.batch_size"))
        if trial.gradients and steps and examples and size:
            taken = min(examples, size) * len(trial.gradients)
            return (
                f"A trial's gradients were measured {count(len(trial.gradients), 'time')} on {min(examples, size):.0f} images: "
                f"forward and backward passes of {100 * taken / (steps * size):.2g} % of the images that training took."
            )
    return ""


def _gaps(study: Study, shown: set[str], kind: str, names: str) -> list[Difference]:
    pairs = [pair for pair in study.residual_pairs() if pair[0].name in shown and pair[1].name in shown]
    return [gap for first, second in pairs if (gap := difference(first, second, kind, names)) is not None]


def _reach(gaps: Sequence[Difference]) -> float:
    """The largest difference in whole decades, the same to both sides."""
    values = [abs(value) for gap in gaps for row in gap.rows for value in row if value is not None]
    return float(max(1, math.ceil(max(values)))) if values else 1.0


def _arranged(
    kind: str, grids: Sequence[Grid], gaps: Sequence[Difference], most: int, scale: Scale, apart: Scale
) -> tuple[Figure, ...]:
    """Plain, residual and their difference side by side; conditions without a partner come last."""
    maps: list[Figure] = []
    by_name = {own.condition.name: own for own in grids}
    for gap in gaps:
        for side in (gap.first, gap.second):
            maps.append(_map(kind, len(maps) + 1, by_name.pop(side.name), most, scale))
        maps.append(_gap_map(kind, len(maps) + 1, gap, most, apart))
    for own in by_name.values():
        maps.append(_map(kind, len(maps) + 1, own, most, scale))
    return tuple(maps)


def _map(kind: str, place: int, own: Grid, most: int, scale: Scale) -> Figure:
    name = f"{kind}-gradients-{place}"
    columns = spread(len(own.snapshots), most)
    rows = [[row[column] for column in columns] for row in own.rows]
    snapshots = [own.snapshots[column] for column in columns]
    title = own.condition.name
    seeds = "one seed" if own.seeds == 1 else f"mean of {own.seeds} seeds"
    description = (
        f"log10 of the norm of the {kind} gradient, {len(rows)} layers from input (top) to output, "
        f"{len(snapshots)} snapshots from initialisation to {snapshots[-1]}, {seeds}."
    )
    spec = _spec(picture(rows, scale.low, scale.high), own.layers, snapshots)
    svg = drawn(name, f"{kind} gradients: {title}", description, spec)
    return Figure(name, title, description, svg, _table(name, own.layers, snapshots, rows))


def _gap_map(kind: str, place: int, gap: Difference, most: int, scale: Scale) -> Figure:
    name = f"{kind}-gradients-{place}"
    columns = spread(len(gap.snapshots), most)
    rows = [[row[column] for column in columns] for row in gap.rows]
    snapshots = [gap.snapshots[column] for column in columns]
    title = (
        f"residual minus plain, {gap.second.level}" if gap.second.level != gap.second.name else "residual minus plain"
    )
    largest = max((value for row in gap.deviations for value in row if value is not None), default=None)
    spreads = "" if largest is None else f"; standard deviation over seeds at most {largest:.2f}"
    description = (
        f"{gap.second.name} minus {gap.first.name}: log10 of the ratio of the norms of the {kind} gradient, paired by seed, "
        f"mean of {count(gap.seeds, 'seed')}{spreads}; {len(rows)} layers from input (top) to output."
    )
    spec = _spec(picture(rows, scale.low, scale.high, scale.stops), gap.layers, snapshots)
    data = _table(name, gap.layers, snapshots, rows)
    ends = sorted({0, len(gap.snapshots) - 1})
    also = [f"sd over seeds, {gap.snapshots[end]}" for end in ends]
    cells = tuple(
        (*row, *(plain(deviations[end]) for end in ends))
        for row, deviations in zip(data.rows, gap.deviations, strict=True)
    )
    data = replace(data, columns=(*data.columns, *also), rows=cells)
    return Figure(name, title, description, drawn(name, f"{kind} gradients: {title}", description, spec), data)


def _table(name: str, layers: Sequence[str], snapshots: Sequence[str], rows: list[list[float | None]]) -> Table:
    cells = [[plain(value) for value in row] for row in rows]
    return table(name, ["layer", *snapshots], [[layer, *row] for layer, row in zip(layers, cells, strict=True)])


def _spec(image: str, layers: Sequence[str], snapshots: Sequence[str]) -> dict[str, Any]:
    """The picture between names of layers and snapshots, thinned so that none touch."""
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
        "padding": {"left": 3 + longest, "right": 6, "top": 3, "bottom": 3},  # a reader's font may be wider than ours
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
    """The places whose labels do not touch: the first, the last, and what fits between."""
    cell, kept, end = width / len(labels), list[int](), -math.inf
    for place, label in enumerate(labels):
        half = 3.0 * len(label) + 2
        if (place + 0.5) * cell - half >= end:
            kept.append(place)
            end = (place + 0.5) * cell + half
    return kept
