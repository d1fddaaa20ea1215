"""Figures of what trials record per epoch: the mean over finished seeds with its interval, and each seed as a thin line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.charts import MAX_DOTS, Chart, line_keys, line_name, point_keys
from fathomlab.report.effects import bounded
from fathomlab.report.figures.hover import describe
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import Axis, evenly_spaced_indices, linear_axis, log_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 400
MIN_SEEDS_FOR_INTERVAL = 3


@dataclass(frozen=True)
class Quantity:
    """A metric that has a curve."""

    metric: str
    title: str
    unit: str
    scale: float

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None) -> str:
        """A value as text for a table."""
        return plain(value, 2) if self.unit == "%" else significant(value)


@dataclass(frozen=True)
class Curve:
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


def learning_curves(curves: Sequence[Curve], y: Axis, width: int = HALF) -> "Figure":
    """Draw the curves of several conditions; a row of dots for each condition if there is only one epoch.

    Args:
        curves: The conditions, at most as many as there are colors.
        y: Axis of the quantity.
        width: Width in pixels.
    """
    last = _last_epoch(curves)
    if last == 1:
        return row_figure([_only_epoch(index, curve) for index, curve in enumerate(curves)], y, width, row=26)
    lines = [
        Line(
            name=line_name(curve.name),
            points=tuple((float(epoch), mean.mean) for epoch, mean in curve.means.items()),
            intervals=tuple(
                (float(epoch), mean.low, mean.high)
                for epoch, mean in curve.means.items()
                if mean.n >= MIN_SEEDS_FOR_INTERVAL and mean.low is not None and mean.high is not None
            ),
            seeds=tuple(tuple((float(epoch), value) for epoch, value in seed.items()) for seed in curve.seeds),
            texts=tuple(
                describe(f"{curve.name}, epoch {epoch}", _drawn(mean), y) for epoch, mean in curve.means.items()
            ),
        )
        for curve in curves
    ]
    return line_figure(lines, Axis("epoch", 1, last, tuple(map(float, epoch_ticks(last)))), y, width)


def condition_charts(study: Study, quantity: Quantity, groups: Sequence[Sequence[Condition]]) -> list[Chart]:
    """A chart per group of conditions for a quantity that only some trials record; empty without any value."""
    curves = [[condition_curve(item, quantity, MAX_POINTS // 4, study.metric) for item in group] for group in groups]
    values = [value for group in curves for curve in group for seed in curve.seeds for value in seed.values()]
    if not values:
        return []
    y = quantity_axis(values, quantity)
    return [curve_chart(quantity, index, "", group, y, HALF) for index, group in enumerate(curves, start=1)]


def downsample(points: Sequence[tuple[int, float]], limit: int) -> list[tuple[int, float]]:
    """At most about `limit` points: the minimum and maximum of each stretch, so that no spike is lost."""
    if len(points) <= limit:
        return list(points)
    stretches = max(1, (limit - 2) // 2)
    retained = {points[0][0], points[-1][0]}
    for index in range(stretches):
        stretch = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        retained |= {min(stretch, key=lambda point: point[1])[0], max(stretch, key=lambda point: point[1])[0]}
    return [point for point in points if point[0] in retained]


def epoch_ticks(last: int) -> list[int]:
    """Epochs to label on an axis from 1 to `last`: all if few, else the first and round numbers, at most eight.

    Example:
        >>> epoch_ticks(3), epoch_ticks(50)
        ([1, 2, 3], [1, 10, 20, 30, 40, 50])
    """
    step = next(10**power * unit for power in range(9) for unit in (1, 2, 5) if last <= 7 * 10**power * unit)
    return [1, *range(step if step > 1 else 2, last + 1, step)]


def condition_curve(condition: Condition, quantity: Quantity, limit: int, metric: str) -> Curve:
    """The curves of one condition, with at most about `limit` points."""
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
    retained = {epoch for epoch, _ in downsample([(epoch, means[epoch].mean) for epoch in epochs], limit)}
    known = [seed for seed in seeds if seed]
    drawn = [known[index] for index in evenly_spaced_indices(len(known), MAX_DOTS)]
    thin = tuple(dict(downsample(list(seed.items()), limit)) for seed in drawn)
    name, excluded = condition.level or condition.name, condition.excluded(metric)
    label = f"{name} ({excluded})" if excluded else name
    return Curve(name, label, thin, {epoch: mean for epoch, mean in means.items() if epoch in retained})


def _mean(values: list[float], quantity: Quantity) -> Interval:
    interval = mean_interval(values)
    return bounded(interval) if quantity.unit == "%" else interval


def quantity_axis(values: list[float], quantity: Quantity) -> Axis:
    """One scale for all panels: logarithmic for losses that span decades."""
    label = quantity.heading[:1].lower() + quantity.heading[1:]
    low, high = min(values), max(values)
    if quantity.unit == "nats" and low > 0 and high / low > 30:
        return log_axis(label, low * 0.9, high * 1.1)
    floor, ceiling = range_of(values, 0.04)
    floor = floor if low < 0 else max(0.0, floor)
    return linear_axis(label, floor, min(100.0, ceiling) if quantity.unit == "%" else ceiling)


def _last_epoch(curves: Sequence[Curve]) -> int:
    return max((epoch for curve in curves for seed in curve.seeds for epoch in seed), default=1)


def _only_epoch(index: int, curve: Curve) -> Row:
    points = tuple(Point(value) for seed in curve.seeds for value in seed.values())
    mean = next((mean for mean in curve.means.values() if len(points) > 1), None)
    return Row(curve.name, points, mean and _drawn(mean), series=index)


def _drawn(mean: Interval) -> Interval:
    """A mean without an interval of fewer than three seeds, which is too wide to be useful."""
    return mean if mean.n >= MIN_SEEDS_FOR_INTERVAL else replace(mean, low=None, high=None)


def curve_chart(quantity: Quantity, number: int, panel: str, curves: list[Curve], y: Axis, width: int) -> Chart:
    """A chart of several conditions."""
    name = f"{quantity.metric.replace('/', '-')}-{number}"
    title = f"{quantity.title}, {panel}" if panel else quantity.title
    last = _last_epoch(curves)
    what = "value after the only epoch" if last == 1 else f"curve over {last} epochs"
    unit = f" ({quantity.unit})" if quantity.unit else ""
    description = f"{title}{unit}: {what} for {'; '.join(curve.label for curve in curves)}."
    labels = [curve.label for curve in curves]
    excluded = any(curve.label != curve.name for curve in curves)
    keys = line_keys(labels) if last > 1 else point_keys(labels) if excluded else ()
    caption = panel or quantity.heading
    draw = partial(learning_curves, curves, y, width)
    return Chart(name, caption, description, draw, _table(name, quantity, curves), keys, full_title=title)


def _table(name: str, quantity: Quantity, curves: list[Curve]) -> Table:
    ends = ("mean", "95% low", "95% high", "seeds")
    columns = ["epoch", *(f"{curve.label}: {end}" for curve in curves for end in ends)]
    rows: list[list[str]] = []
    for epoch in sorted({epoch for curve in curves for epoch in curve.means}):
        row = [str(epoch)]
        for curve in curves:
            mean = curve.means.get(epoch)
            drawn = mean and _drawn(mean)
            values = (None, None, None) if drawn is None else (drawn.mean, drawn.low, drawn.high)
            row += [*(quantity.text(value) for value in values), str(mean.n) if mean is not None else "0"]
        rows.append(row)
    return table(name, columns, rows)
