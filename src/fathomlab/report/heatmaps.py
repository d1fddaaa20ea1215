"""Gradients: log10 of the norm by layer and snapshot as a heat map, and its profile over the layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fathomlab.report.figures import COLOURS, DASHES, Figure, channel, drawn, line_keys
from fathomlab.report.numbers import plain
from fathomlab.report.pixels import picture
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import table

MOST_LAYERS = 45
MOST_SNAPSHOTS = 52
MOST_CELLS = 40_000  # of all heat maps of a page; fewer snapshots where there are more layers
MOST_CONDITIONS = 24
LEAST = -20.0  # decades below which colours do not tell apart
KINDS = (("weight", "layers", "Weight gradients"), ("activation", "points", "Activation gradients"))


@dataclass(frozen=True)
class Grid:
    """Mean log10 norm over seeds of one condition: a row for each layer in network order, a column for each snapshot.

    None where no seed has a number above zero.
    """

    condition: Condition
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    seeds: int


@dataclass(frozen=True)
class GradientFigures:
    """The heat maps of one kind, so many side by side, their common scale in decades, and the profiles at the start."""

    title: str
    low: float
    high: float
    columns: int
    maps: tuple[Figure, ...]
    profiles: tuple[Figure, ...]


def gradient_figures(study: Study) -> list[GradientFigures]:
    """Weight gradients, then activation gradients; nothing where no trial has them."""
    measured = [item for item in study.conditions if any(trial.gradients for _, trial in item.trials)]
    if study.has_depths:
        measured.sort(key=lambda item: item.depth or 0)
    found: list[GradientFigures] = []
    for kind, names, title in KINDS:
        grids = [grid for item in measured[:MOST_CONDITIONS] if (grid := _grid(item, kind, names)) is not None]
        values = [value for grid in grids for row in grid.rows for value in row if value is not None]
        if not values:
            continue
        columns = max(8, min(MOST_SNAPSHOTS, MOST_CELLS // (len(KINDS) * sum(len(grid.layers) for grid in grids))))
        low, high = max(LEAST, math.floor(min(values))), math.ceil(max(values))
        high = max(high, low + 1)
        maps = tuple(_map(kind, place, grid, columns, low, high) for place, grid in enumerate(grids, start=1))
        profiles = _profiles(study, kind, grids) if kind == "weight" else ()
        found.append(GradientFigures(title, low, high, len(study.by_series()), maps, profiles))
    return found


def spread(length: int, most: int) -> list[int]:
    """At most `most` places out of `length`, evenly, the first two and the last among them."""
    if length <= most:
        return list(range(length))
    rest = [2 + round(place * (length - 3) / (most - 3)) for place in range(most - 2)]
    return sorted({0, 1, *rest})


def _grid(condition: Condition, kind: str, names: str) -> Grid | None:
    series = [trial.gradients for _, trial in condition.trials if trial.gradients]
    if not series:
        return None
    longest = max(series, key=len)
    layers = longest[0][names]
    alike = [snapshots for snapshots in series if all(snapshot[names] == layers for snapshot in snapshots)]
    chosen = spread(len(layers), MOST_LAYERS)
    rows = tuple(
        tuple(
            _mean_log([item[time][kind][layer] for item in alike if time < len(item)]) for time in range(len(longest))
        )
        for layer in chosen
    )
    labels = tuple(_snapshot(place, snapshot) for place, snapshot in enumerate(longest))
    return Grid(condition, tuple(layers[layer] for layer in chosen), labels, rows, len(alike)) if rows else None


def _mean_log(norms: Sequence[float | None]) -> float | None:
    logs = [math.log10(norm) for norm in norms if norm is not None and norm > 0]
    return round(fmean(logs), 2) if logs else None


def _snapshot(place: int, snapshot: dict[str, Any]) -> str:
    if place == 0:
        return "init"
    return "step 1" if snapshot["step"] == 1 else f"epoch {snapshot['epoch']}"


def _map(kind: str, place: int, grid: Grid, most: int, low: float, high: float) -> Figure:
    name = f"{kind}-gradients-{place}"
    columns = spread(len(grid.snapshots), most)
    rows = [[row[column] for column in columns] for row in grid.rows]
    snapshots = [grid.snapshots[column] for column in columns]
    title = grid.condition.name
    seeds = "one seed" if grid.seeds == 1 else f"mean of {grid.seeds} seeds"
    description = (
        f"log10 of the norm of the {kind} gradient, {len(rows)} layers from input (top) to output, "
        f"{len(snapshots)} snapshots from initialisation to {snapshots[-1]}, {seeds}."
    )
    cells = [[plain(value) for value in row] for row in rows]
    data = table(name, ["layer", *snapshots], [[layer, *row] for layer, row in zip(grid.layers, cells, strict=True)])
    spec = _spec(picture(rows, low, high), grid.layers, snapshots)
    return Figure(name, title, description, drawn(name, f"{kind} gradients: {title}", description, spec), data)


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


def _profiles(study: Study, kind: str, grids: list[Grid]) -> tuple[Figure, ...]:
    """For each depth the norms over the layers at initialisation, the series as lines: what the nets start from."""
    groups: dict[str, list[Grid]] = {}
    for grid in grids:
        groups.setdefault(grid.condition.level if study.has_depths else "", []).append(grid)
    usable = [(level, group) for level, group in groups.items() if 1 < len(group) <= len(COLOURS)]
    return tuple(_profile(kind, place, level, group) for place, (level, group) in enumerate(usable, start=1))


def _profile(kind: str, place: int, level: str, grids: list[Grid]) -> Figure:
    name = f"{kind}-profile-{place}"
    names = [grid.condition.series or grid.condition.name for grid in grids]
    title = f"At initialisation, {level}" if level else "At initialisation"
    description = f"log10 of the norm of the {kind} gradient over the layers at initialisation: {', '.join(names)}."
    points = [
        {"x": layer, "v": row[0], "g": group}
        for group, grid in enumerate(grids)
        for layer, row in enumerate(grid.rows)
        if row[0] is not None
    ]
    color = channel(COLOURS, len(grids))
    dash = channel(DASHES, len(grids))
    x: dict[str, Any] = {
        "field": "x",
        "type": "quantitative",
        "title": "layer, input to output",
        "scale": {"nice": False},
    }
    x["axis"] = {"tickMinStep": 1, "tickCount": 6}
    y = {"field": "v", "type": "quantitative", "scale": {"zero": False}}
    spec: dict[str, Any] = {
        "height": 150,
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 14}},
    }
    spec["encoding"] = {"x": x, "y": y, "color": color, "strokeDash": dash}
    rows = [
        [text, *(_start(grid, text) for grid in grids)] for text in max(grids, key=lambda item: len(item.layers)).layers
    ]
    data = table(name, ["layer", *names], rows)
    return Figure(name, title, description, drawn(name, title, description, spec), data, line_keys(names))


def _start(grid: Grid, layer: str) -> str:
    return plain(grid.rows[grid.layers.index(layer)][0]) if layer in grid.layers else ""
