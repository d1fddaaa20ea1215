"""Learning curves: the mean of a condition with its interval, every seed thin, one panel for each series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.report.figures import COLOURS, DASHES, MOST_LINES, SHAPES, Figure, channel, drawn, line_keys
from fathomlab.report.numbers import plain, significant
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import Table, table

MOST_POINTS = 400
MOST_PANELS = 6
ALL_POINTS = 48_000  # of all curves of a page: keeps a page of many seeds small
FEWEST_FOR_BAND = 3


@dataclass(frozen=True)
class Quantity:
    """A metric that has a curve."""

    metric: str
    title: str
    unit: str
    scale: float

    def text(self, value: float | None) -> str:
        """A value as the table has it."""
        return plain(value, 2) if self.unit == "%" else significant(value)


QUANTITIES = (
    Quantity("train/loss", "Training loss", "nats", 1),
    Quantity("val/loss", "Validation loss", "nats", 1),
    Quantity("train/accuracy", "Training accuracy", "%", 100),
    Quantity("val/accuracy", "Validation accuracy", "%", 100),
)


@dataclass(frozen=True)
class Line:
    """The curves of one condition: epoch to value for each seed, and their mean at each epoch."""

    name: str
    seeds: tuple[dict[int, float], ...]
    means: dict[int, Interval]


def curve_figures(study: Study) -> list[tuple[str, list[Figure]]]:
    """For each quantity its title and a figure for each panel; all panels of a quantity share the vertical scale."""
    groups = panels(study)
    curves = sum(len(condition.trials) for _, conditions in groups for condition in conditions)
    points = max(20, min(MOST_POINTS, ALL_POINTS // max(1, curves * len(QUANTITIES))))
    found: list[tuple[str, list[Figure]]] = []
    for quantity in QUANTITIES:
        lines = [(name, [_line(item, quantity, points) for item in conditions]) for name, conditions in groups]
        values = [value for _, group in lines for line in group for seed in line.seeds for value in seed.values()]
        if not values:
            continue
        scale = _scale(values, quantity)
        figures = [_figure(quantity, place, name, group, scale) for place, (name, group) in enumerate(lines)]
        found.append((f"{quantity.title} [{quantity.unit}]", figures))
    return found


def panels(study: Study) -> list[tuple[str, list[Condition]]]:
    """Name and conditions of each panel: one for each series, or slices of all conditions where series are many."""
    groups = study.by_series()
    if len(groups) <= MOST_PANELS and all(len(group) <= MOST_LINES for group in groups.values()):
        return [(name, sorted(group, key=lambda item: item.depth or 0)) for name, group in groups.items()]
    every = [replace(item, level=item.name) for item in study.conditions[: MOST_PANELS * MOST_LINES]]
    slices = [every[start : start + MOST_LINES] for start in range(0, len(every), MOST_LINES)]
    return [(f"part {place}", items) for place, items in enumerate(slices, start=1)]


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most about `most` points: the least and the greatest of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, (most - 2) // 2)
    kept = {points[0][0], points[-1][0]}
    for place in range(stretches):
        stretch = points[place * len(points) // stretches : (place + 1) * len(points) // stretches]
        kept |= {min(stretch, key=lambda point: point[1])[0], max(stretch, key=lambda point: point[1])[0]}
    return [point for point in points if point[0] in kept]


def _line(condition: Condition, quantity: Quantity, most: int) -> Line:
    seeds: list[dict[int, float]] = []
    for _, trial in condition.trials:
        epochs, values = trial.curves.get("epoch", []), trial.curves.get(quantity.metric, [])
        pairs = zip(epochs, values, strict=False)
        seeds.append({int(e): v * quantity.scale for e, v in pairs if e is not None and v is not None})
    epochs = sorted({epoch for seed in seeds for epoch in seed})
    means = {epoch: mean_interval([seed[epoch] for seed in seeds if epoch in seed]) for epoch in epochs}
    kept = {epoch for epoch, _ in thinned([(epoch, means[epoch].mean) for epoch in epochs], most)}
    thin = tuple(dict(thinned(list(seed.items()), most)) for seed in seeds if seed)
    name = condition.level or condition.name
    return Line(name, thin, {epoch: mean for epoch, mean in means.items() if epoch in kept})


def _scale(values: list[float], quantity: Quantity) -> dict[str, Any]:
    """One vertical scale for all panels: logarithmic for losses that span decades."""
    low, high = min(values), max(values)
    if quantity.unit == "nats" and low > 0 and high / low > 30:
        return {"type": "log", "domain": [low * 0.9, high * 1.1], "nice": False, "clamp": True}
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    floor = low - margin if low < 0 else max(0.0, low - margin)
    ceiling = min(100.0, high + margin) if quantity.unit == "%" else high + margin
    return {"domain": [floor, ceiling], "nice": False, "zero": False, "clamp": True}


def _figure(quantity: Quantity, place: int, panel: str, lines: list[Line], scale: dict[str, Any]) -> Figure:
    name = f"{quantity.metric.replace('/', '-')}-{place + 1}"
    title = f"{quantity.title}, {panel}" if panel else quantity.title
    last = max((epoch for line in lines for epoch in line.means), default=1)
    what = "value after the only epoch" if last == 1 else f"curve over {last} epochs"
    description = f"{title} [{quantity.unit}]: {what} for {', '.join(line.name for line in lines)}."
    spec = _only_epoch(lines, scale) if last == 1 else _spec(lines, scale, last)
    keys = () if last == 1 else line_keys([line.name for line in lines])
    svg = drawn(name, title, description, spec)
    return Figure(
        name, panel or f"{quantity.title} [{quantity.unit}]", description, svg, _table(name, quantity, lines), keys
    )


def _spec(lines: list[Line], scale: dict[str, Any], last: int) -> dict[str, Any]:
    thin = [
        {"e": epoch, "v": value, "g": place, "s": f"{place} {seed}"}
        for place, line in enumerate(lines)
        for seed, values in enumerate(line.seeds)
        for epoch, value in values.items()
    ]
    means = [
        {"e": epoch, "v": mean.mean, "g": place}
        for place, line in enumerate(lines)
        for epoch, mean in line.means.items()
    ]
    band = [
        {"e": epoch, "l": mean.low, "h": mean.high, "g": place}
        for place, line in enumerate(lines)
        for epoch, mean in line.means.items()
        if mean.n >= FEWEST_FOR_BAND
    ]
    x: dict[str, Any] = {
        "field": "e",
        "type": "quantitative",
        "title": "epoch",
        "scale": {"domain": [1, last], "nice": False},
    }
    x["axis"] = {"values": epoch_ticks(last), "format": "d"}
    y = {"field": "v", "type": "quantitative", "scale": scale}
    color = channel(COLOURS, len(lines))
    dash = channel(DASHES, len(lines))
    low, high = {"field": "l", "type": "quantitative", "scale": scale}, {"field": "h"}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": band},
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": {"x": x, "y": low, "y2": high, "color": color},
        },
        {
            "data": {"values": thin},
            "mark": {"type": "line", "strokeWidth": 0.7, "opacity": 0.4},
            "encoding": {"x": x, "y": y, "color": color, "detail": {"field": "s"}},
        },
        {
            "data": {"values": means},
            "mark": {"type": "line", "strokeWidth": 2.2},
            "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash},
        },
    ]
    return {"height": 190, "layer": layers if band else layers[1:]}


def _only_epoch(lines: list[Line], scale: dict[str, Any]) -> dict[str, Any]:
    """After a single epoch there is no curve: every seed's point, and the mean as a bar across."""
    points = [
        {"x": line.name, "v": value, "g": place}
        for place, line in enumerate(lines)
        for seed in line.seeds
        for value in seed.values()
    ]
    means = [{"x": line.name, "v": mean.mean} for line in lines for mean in line.means.values()]
    axis = {"labelAngle": 0, "labelLimit": 90, "labelOverlap": False}
    x = {"field": "x", "type": "ordinal", "title": None, "sort": [line.name for line in lines], "axis": axis}
    y = {"field": "v", "type": "quantitative", "scale": scale}
    color = channel(COLOURS, len(lines))
    shape = channel(SHAPES, len(lines))
    tick = {"type": "tick", "color": "var(--ink)", "thickness": 1.5, "width": 26}
    point = {"type": "point", "filled": True, "size": 55, "opacity": 0.85}
    return {
        "height": 190,
        "layer": [
            {"data": {"values": means}, "mark": tick, "encoding": {"x": x, "y": y}},
            {"data": {"values": points}, "mark": point, "encoding": {"x": x, "y": y, "color": color, "shape": shape}},
        ],
    }


def epoch_ticks(last: int) -> list[int]:
    """Whole epochs to mark on an axis from 1 to `last`: all of a few, else the first and round ones, at most eight.

    Example:
        >>> epoch_ticks(3), epoch_ticks(50)
        ([1, 2, 3], [1, 10, 20, 30, 40, 50])
    """
    step = next(10**power * unit for power in range(9) for unit in (1, 2, 5) if last <= 7 * 10**power * unit)
    return [1, *range(step if step > 1 else 2, last + 1, step)]


def _table(name: str, quantity: Quantity, lines: list[Line]) -> Table:
    ends = ("mean", "95 % low", "95 % high")
    columns = ["epoch", *(f"{line.name}: {end}" for line in lines for end in ends)]
    rows: list[list[str]] = []
    for epoch in sorted({epoch for line in lines for epoch in line.means}):
        row = [str(epoch)]
        for line in lines:
            mean = line.means.get(epoch)
            values = (mean.mean, mean.low, mean.high) if mean is not None else (None, None, None)
            values = values if mean is None or mean.n >= 3 else (mean.mean, None, None)  # two seeds say next to nothing
            row += [quantity.text(value) for value in values]
        rows.append(row)
    return table(name, columns, rows)
