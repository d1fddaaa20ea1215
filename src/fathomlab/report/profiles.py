"""Gradient norms over the layers at initialization, measured and predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.analysis.study import Study
from fathomlab.report.figures import COLORS, DASHES, Figure, Key, channel, drawn, line_keys
from fathomlab.report.grids import Grid, coverage
from fathomlab.report.numbers import plain
from fathomlab.report.slopes import predicted_logs
from fathomlab.report.tables import Table, table

MOST_PROFILES = 6


@dataclass(frozen=True)
class _Line:
    name: str
    layers: tuple[str, ...]
    values: tuple[float | None, ...]
    theory: tuple[float, ...]


def profiles(study: Study, kind: str, grids: Sequence[Grid]) -> tuple[Figure, ...]:
    """For each depth the norms over the layers at initialization, with a line per series."""
    groups: dict[str, list[Grid]] = {}
    for grid in grids:
        groups.setdefault(grid.condition.level if study.has_depths else "", []).append(grid)
    usable = [(level, group) for level, group in groups.items() if len(group) <= len(COLORS)]
    chosen = usable[:MOST_PROFILES]
    return tuple(_profile(kind, place, level, group) for place, (level, group) in enumerate(chosen, start=1))


def _profile(kind: str, place: int, level: str, grids: Sequence[Grid]) -> Figure:
    name = f"{kind}-profile-{place}"
    lines = [_line(kind, grid) for grid in grids]
    title = f"At initialization, {level}" if level else "At initialization"
    texts = [line.name for line in lines]
    predicted = any(line.theory for line in lines)
    description = (
        f"log10 of the {kind} gradient norm over the layers at initialization, input to output: {', '.join(texts)}"
        f"{'; thick gray line: theory, shifted to the mean of the measured line' if predicted else ''}."
    )
    svg = drawn(name, title, description, _spec(lines))
    keys = line_keys(texts)
    if predicted:
        keys = (*keys, Key("theory", "var(--rule)", broad=True))
    return Figure(name, title, description, svg, _table(name, lines), keys)


def _line(kind: str, grid: Grid) -> _Line:
    values = tuple(row[0] for row in grid.rows)
    theory: list[float] = []
    if kind == "activation":
        trial = next((trial for _, trial in grid.condition.trials if trial.content), None)
        theory = predicted_logs(trial, values) if trial is not None else []
    name, counts = grid.condition.series or grid.condition.name, tuple(row[:1] for row in grid.counts)
    full = all(number == grid.planned for row in counts for number in row)
    label = name if full else f"{name} ({coverage(counts, grid.planned, '')})"
    return _Line(label, grid.layers, values, tuple(theory))


def _spec(lines: Sequence[_Line]) -> dict[str, Any]:
    points = [
        {"x": layer, "v": value, "g": group}
        for group, line in enumerate(lines)
        for layer, value in enumerate(line.values)
        if value is not None
    ]
    theory = [
        {"x": layer, "v": round(value, 3), "g": group}
        for group, line in enumerate(lines)
        for layer, value in enumerate(line.theory)
    ]
    color = channel(COLORS, len(lines))
    dash = channel(DASHES, len(lines))
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": "layer, input to output"}
    x |= {"scale": {"nice": False}, "axis": {"tickMinStep": 1, "tickCount": 6}}
    y = {"field": "v", "type": "quantitative", "scale": {"zero": False}}
    under = {"type": "line", "strokeWidth": 7, "color": "var(--rule)", "opacity": 0.75, "strokeCap": "round"}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": points},
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash},
        },
        {
            "data": {"values": theory},
            "mark": under,
            "encoding": {"x": x, "y": y, "detail": {"field": "g"}},
        },
    ]
    return {"height": 170, "layer": layers[::-1] if theory else layers[:1]}


def _table(name: str, lines: Sequence[_Line]) -> Table:
    longest = max(lines, key=lambda line: len(line.layers))
    columns = ["layer"]
    for line in lines:
        columns += [line.name, *([f"{line.name}: predicted"] if line.theory else [])]
    rows: list[list[str]] = []
    for layer in longest.layers:
        row = [layer]
        for line in lines:
            place = line.layers.index(layer) if layer in line.layers else None
            row.append("" if place is None else plain(line.values[place]))
            if line.theory:
                row.append("" if place is None else plain(line.theory[place]))
        rows.append(row)
    return table(name, columns, rows)


def decades(values: Sequence[float]) -> tuple[float, float]:
    """The range of full decades that contains all values."""
    low, high = math.floor(min(values)), math.ceil(max(values))
    return low, max(high, low + 1)
