"""Learning curves: the mean over finished seeds with its interval, and each seed as a thin line; a panel per series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.effects import bounded
from fathomlab.report.figures import COLORS, DASHES, MOST_LINES, SHAPES, Figure, channel, drawn, line_keys, point_keys
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

MOST_POINTS = 400
MOST_PANELS = 6
ALL_POINTS = 48_000  # of all curves of a page; limits the size of a page with many seeds
FEWEST_FOR_BAND = 3


@dataclass(frozen=True)
class Quantity:
    """A metric that has a curve."""

    metric: str
    title: str
    unit: str
    scale: float

    def text(self, value: float | None) -> str:
        """A value as text for a table."""
        return plain(value, 2) if self.unit == "%" else significant(value)


QUANTITIES = (
    Quantity("train/loss", "Training loss", "nats", 1),
    Quantity("val/loss", "Validation loss", "nats", 1),
    Quantity("train/accuracy", "Training accuracy", "%", 100),
    Quantity("val/accuracy", "Validation accuracy", "%", 100),
)


@dataclass(frozen=True)
class Line:
    """The curves of one condition.

    Attributes:
        name: The condition, or its depth.
        label: Its legend text, which says how many seeds the mean excludes.
        seeds: Epoch to value of each seed, finished or not.
        means: Epoch to the mean over finished seeds.
    """

    name: str
    label: str
    seeds: tuple[dict[int, float], ...]
    means: dict[int, Interval]


def curve_figures(study: Study) -> list[tuple[str, list[Figure]]]:
    """For each quantity its title and a figure per panel. All panels of a quantity share the y-axis."""
    groups = panels(study)
    curves = sum(len(condition.trials) for _, conditions in groups for condition in conditions)
    points = max(20, min(MOST_POINTS, ALL_POINTS // max(1, curves * len(QUANTITIES))))
    found: list[tuple[str, list[Figure]]] = []
    for quantity in QUANTITIES:
        lines = [
            (name, [_line(item, quantity, points, study.metric) for item in conditions]) for name, conditions in groups
        ]
        values = [value for _, group in lines for line in group for seed in line.seeds for value in seed.values()]
        if not values:
            continue
        scale = _scale(values, quantity)
        figures = [_figure(quantity, place, name, group, scale) for place, (name, group) in enumerate(lines)]
        found.append((f"{quantity.title} ({quantity.unit})", figures))
    return found


def panels(study: Study) -> list[tuple[str, list[Condition]]]:
    """Name and conditions of each panel: one per series, or slices of all conditions if there are many series."""
    groups = study.by_series()
    if len(groups) <= MOST_PANELS and all(len(group) <= MOST_LINES for group in groups.values()):
        return [(name, sorted(group, key=lambda item: item.depth or 0)) for name, group in groups.items()]
    every = [replace(item, level=item.name) for item in study.conditions[: MOST_PANELS * MOST_LINES]]
    slices = [every[start : start + MOST_LINES] for start in range(0, len(every), MOST_LINES)]
    return [(f"Part {place}", items) for place, items in enumerate(slices, start=1)]


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most about `most` points: the minimum and maximum of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, (most - 2) // 2)
    kept = {points[0][0], points[-1][0]}
    for place in range(stretches):
        stretch = points[place * len(points) // stretches : (place + 1) * len(points) // stretches]
        kept |= {min(stretch, key=lambda point: point[1])[0], max(stretch, key=lambda point: point[1])[0]}
    return [point for point in points if point[0] in kept]


def curve_note(study: Study) -> str:
    """What the lines and bands of the curves are; mentions only what there is."""
    last = max((len(trial.curves.get("epoch", [])) for _, _, trial in study.trials), default=0)
    single, mean = ("Dots", "Bar") if last == 1 else ("Thin lines", "Thick line")
    if study.most_seeds < 2:
        text = f"{single}: single seeds."
    elif last == 1:
        text = f"{single}: single seeds. {mean}: mean of finished seeds."
    else:
        band = f" Band: 95% confidence interval of the mean ({FEWEST_FOR_BAND}+ seeds)."
        text = f"{mean}: mean of finished seeds. {single}: single seeds.{band * (study.most_seeds >= FEWEST_FOR_BAND)}"
    shown = sum(len(conditions) for _, conditions in panels(study))
    more = len(study.conditions) - shown
    cut = f" The first {shown} of {len(study.conditions)} conditions are drawn." if more else ""
    return f"{text} Panels share the y-axis.{cut}"


def _line(condition: Condition, quantity: Quantity, most: int, metric: str) -> Line:
    seeds: list[dict[int, float]] = []
    finished: list[dict[int, float]] = []
    for _, trial in condition.trials:
        epochs, values = trial.curves.get("epoch", []), trial.curves.get(quantity.metric, [])
        pairs = zip(epochs, values, strict=False)
        seed = {int(e): v * quantity.scale for e, v in pairs if e is not None and v is not None}
        seeds.append(seed)
        finished += [seed] if trial.status == "finished" else []
    epochs = sorted({epoch for seed in finished for epoch in seed})
    means = {epoch: _mean([seed[epoch] for seed in finished if epoch in seed], quantity) for epoch in epochs}
    kept = {epoch for epoch, _ in thinned([(epoch, means[epoch].mean) for epoch in epochs], most)}
    thin = tuple(dict(thinned(list(seed.items()), most)) for seed in seeds if seed)
    name, excluded = condition.level or condition.name, condition.excluded(metric)
    label = f"{name} ({excluded})" if excluded else name
    return Line(name, label, thin, {epoch: mean for epoch, mean in means.items() if epoch in kept})


def _mean(values: list[float], quantity: Quantity) -> Interval:
    interval = mean_interval(values)
    return bounded(interval) if quantity.unit == "%" else interval


def _scale(values: list[float], quantity: Quantity) -> dict[str, Any]:
    """One y-scale for all panels: logarithmic for losses that span decades."""
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
    last = max((epoch for line in lines for seed in line.seeds for epoch in seed), default=1)
    what = "value after the only epoch" if last == 1 else f"curve over {last} epochs"
    description = f"{title} ({quantity.unit}): {what} for {'; '.join(line.label for line in lines)}."
    spec = _only_epoch(lines, scale) if last == 1 else _spec(lines, scale, last)
    labels = [line.label for line in lines]
    excluded = any(line.label != line.name for line in lines)
    keys = line_keys(labels) if last > 1 else point_keys(labels) if excluded else ()
    svg = drawn(name, title, description, spec)
    return Figure(
        name, panel or f"{quantity.title} ({quantity.unit})", description, svg, _table(name, quantity, lines), keys
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
    color = channel(COLORS, len(lines))
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
    """A single epoch has no curve: a point per seed, and the mean as a horizontal bar."""
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
    color = channel(COLORS, len(lines))
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
    """Epochs to label on an axis from 1 to `last`: all if few, else the first and round numbers, at most eight.

    Example:
        >>> epoch_ticks(3), epoch_ticks(50)
        ([1, 2, 3], [1, 10, 20, 30, 40, 50])
    """
    step = next(10**power * unit for power in range(9) for unit in (1, 2, 5) if last <= 7 * 10**power * unit)
    return [1, *range(step if step > 1 else 2, last + 1, step)]


def _table(name: str, quantity: Quantity, lines: list[Line]) -> Table:
    ends = ("mean", "95% low", "95% high", "seeds")
    columns = ["epoch", *(f"{line.label}: {end}" for line in lines for end in ends)]
    rows: list[list[str]] = []
    for epoch in sorted({epoch for line in lines for epoch in line.means}):
        row = [str(epoch)]
        for line in lines:
            mean = line.means.get(epoch)
            values = (mean.mean, mean.low, mean.high) if mean is not None else (None, None, None)
            if mean is not None and mean.n < FEWEST_FOR_BAND:  # an interval of two seeds is too wide to be useful
                values = (mean.mean, None, None)
            row += [*(quantity.text(value) for value in values), str(mean.n) if mean is not None else "0"]
        rows.append(row)
    return table(name, columns, rows)
