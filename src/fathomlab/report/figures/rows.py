# pyright: strict, reportUnknownMemberType=false
"""One row per seed, condition, comparison, or class: dots, a mean with its interval, a bar, or a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.hover import MAX_SEEDS, SEED, add_bar, add_points, describe
from fathomlab.report.figures.scales import Axis, shortened, shortened_alike, text_width
from fathomlab.report.figures.style import (
    COLORS,
    HALF,
    INK,
    LINE_HEIGHT,
    MUTED,
    PAPER,
    Margins,
    figure_of,
    new_axes,
    set_axes,
    styled,
    visible_text,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABEL = 0.45  # of the width
ROW = 20
BELOW = 42


@dataclass(frozen=True)
class Point:
    """A seed's value.

    Attributes:
        value: Position on the axis.
        diverged: Whether a trial of the seed diverged; drawn as a cross.
        shift: Vertical offset in rows, for seeds that share a row.
    """

    value: float
    diverged: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: Text on the left.
        note: A second line below the label.
        points: A dot per seed.
        mean: Mean with its interval.
        bar: End of a bar that starts at zero.
        predicted: Value that theory predicts; a hollow diamond.
        series: Number of its color.
        diamond: Whether the mean is a diamond of the second color; else a large dot of the row's color.
    """

    label: str
    points: tuple[Point, ...] = ()
    mean: Interval | None = None
    bar: float | None = None
    predicted: float | None = None
    series: int = 0
    diamond: bool = False
    note: str = ""


@styled
def row_figure(
    rows: Sequence[Row], x: Axis, width: int = HALF, zero: bool = False, dashed: Sequence[float] = (), row: int = ROW
) -> "Figure":
    """Draw rows from top to bottom over a common axis.

    Args:
        rows: The rows.
        x: The axis; values outside are drawn at its ends.
        width: Width in pixels.
        zero: Whether to draw a line at zero.
        dashed: Values with a dashed line, such as the smallest effect that matters.
        row: Height of a row in pixels.
    """
    names = shortened_alike([visible_text(item.label) for item in rows], MAX_LABEL * width)
    notes = [shortened(visible_text(item.note), MAX_LABEL * width) for item in rows]
    labels = list(zip(names, notes, strict=True))
    left = max((text_width(text) for lines in labels for text in lines), default=0) + 10
    row = max(row, 2 * LINE_HEIGHT + 6) if any(item.note for item in rows) else row
    right = max(10, text_width(x.tick_labels()[-1]) / 2 + 2) if x.ticks else 10
    x = x.fitted(width - left - right)
    axes = new_axes(width, row * len(rows) + 8 + BELOW, Margins(left, right, 4, BELOW))
    count = len(rows)
    if zero:
        axes.plot([0, 0], [-0.6, count - 0.4], color=INK, linewidth=1)
    for value in dashed:
        axes.plot([value, value], [-0.6, count - 0.4], color=MUTED, linewidth=1.3, linestyle=(0, (4, 3)))
    for index, item in enumerate(rows):
        _draw(axes, item, index, x)
    for index, item in enumerate(rows):
        _add_texts(axes, item, index, x)
    set_axes(axes, x, Axis("", count - 0.4, -0.6, ()))
    axes.grid(visible=False)
    for index, lines in enumerate(labels):
        for line, text in enumerate(filter(None, lines)):
            shift = (line - 0.5) * LINE_HEIGHT / row if lines[1] else 0.0
            at = (count - 0.4 - index - shift) / (count + 0.2)
            write(axes, -8 / (width - left - right), at, text, ha="right", va="center")
    return figure_of(axes)


def _add_texts(axes: "Axes", item: Row, index: int, x: Axis) -> None:
    """Values on hover: of the interval below, of each seed, and of the mean and the prediction on top."""
    if item.mean is not None and item.mean.low is not None and item.mean.high is not None:
        ends = [x.clamped(end) for end in (item.mean.low, item.mean.high)]
        add_bar(axes, ends, [index, index], describe(item.label, item.mean, x))
    seeds = [
        (x.clamped(point.value), index + point.shift, _point_text(item, point, x))
        for point in item.points
        if len(item.points) <= MAX_SEEDS
    ]
    add_points(axes, seeds, SEED)
    single = (("", item.bar), ("predicted ", item.predicted))
    parts = "; ".join(f"{what}{x.amount(value)}" for what, value in single if value is not None)
    text = f"{item.label}: {parts}"
    if item.mean is not None:
        text = describe(item.label, item.mean, x) + f"; {parts}" * bool(parts)
    ends = [item.mean and item.mean.mean, item.bar, item.predicted]  # often equal, so that each shows all
    add_points(axes, [(x.clamped(end), index, text) for end in ends if end is not None])


def _point_text(item: Row, point: Point, x: Axis) -> str:
    one = "one seed, " * (len(item.points) > 1)
    return f"{item.label}: {one}{x.amount(point.value)}{', diverged' * point.diverged}"


def _draw(axes: "Axes", item: Row, index: int, x: Axis) -> None:
    color = COLORS[item.series]
    if item.bar is not None:
        axes.barh(index, item.bar, 0.72, color=color, alpha=0.4, linewidth=0)
    for diverged, marker, size in ((False, "o", 6), (True, "P", 8)):
        points = [point for point in item.points if point.diverged is diverged]
        if points:
            values = [x.clamped(point.value) for point in points]
            heights = [index + point.shift for point in points]
            alpha = 0.9 if item.mean is None and item.bar is None else 0.55
            axes.plot(
                values, heights, marker, color=color, alpha=alpha, markersize=size, markeredgewidth=0, clip_on=False
            )
    if item.mean is not None and item.mean.low is not None and item.mean.high is not None:
        ends = [x.clamped(end) for end in (item.mean.low, item.mean.high)]
        edge = COLORS[1] if item.diamond else color
        axes.plot(ends, [index, index], color=edge, linewidth=2.2, solid_capstyle="butt", clip_on=False)
    if item.mean is not None:
        at = [x.clamped(item.mean.mean)]
        marker, size, fill = ("D", 7, COLORS[1]) if item.diamond else ("o", 8.5, color)
        axes.plot(
            at, [index], marker, color=fill, markersize=size, markeredgecolor=PAPER, markeredgewidth=0.8, clip_on=False
        )
    if item.predicted is not None:
        at, edge = [x.clamped(item.predicted)], COLORS[1]
        axes.plot(
            at,
            [index],
            "D",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=edge,
            markeredgewidth=1.8,
            clip_on=False,
        )
