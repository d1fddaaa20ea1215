# pyright: strict, reportUnknownMemberType=false
"""Lines over epochs, layers, or snapshots: means with intervals and seeds, each named at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomlab.report.figures.hover import add_points
from fathomlab.report.figures.names import CONNECTOR, INNER, End, name_ends
from fathomlab.report.figures.scales import Axis, evenly_spaced_indices, shortened_alike, text_width
from fathomlab.report.figures.style import (
    COLORS,
    DASHES,
    HALF,
    MUTED,
    RULE,
    Margins,
    figure_of,
    new_axes,
    set_axes,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BANDS = 3  # more bands in one figure cover each other
MAX_NAMED = 5  # lines with their name at the end; the legend names all
NAME_WIDTH = 100
HEIGHT = 236
LINE_WIDTH = 1.8
MAX_TARGETS = 30  # points of a line with a text on hover
TARGET = 9.0

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: Text at its end.
        points: x and mean.
        intervals: x, low, and high of the interval of the mean.
        seeds: x and value of each seed.
        theory: x and predicted value.
        texts: What each point shows on hover; empty for its name, x, and y.
    """

    name: str
    points: Points
    intervals: tuple[tuple[float, float, float], ...] = ()
    seeds: tuple[Points, ...] = ()
    theory: Points = ()
    texts: tuple[str, ...] = ()


@styled
def line_figure(
    lines: Sequence[Line], x: Axis, y: Axis, width: int = HALF, diagonal: bool = False, marks: bool = False
) -> "Figure":
    """Draw lines of distinct color and dash.

    With at most three lines, the interval is a band; with more, a bar at the end of the line.

    Args:
        lines: The lines, at most as many as there are colors.
        x: Horizontal axis.
        y: Vertical axis; values outside are drawn at its ends.
        width: Width in pixels.
        diagonal: Whether to draw the diagonal y = x.
        marks: Whether to mark each point.
    """
    names = shortened_alike([line.name for line in lines], NAME_WIDTH)
    ends = [
        End(
            names[index],
            index,
            x.position(line.points[-1][0]),
            y.position(y.clamped(line.points[-1][1])),
        )
        for index, line in enumerate(lines)
        if line.points and 1 < len(lines) <= MAX_NAMED
    ]
    left = max(map(text_width, y.tick_labels()), default=0) + 8
    room = max((text_width(end.name) + CONNECTOR + 4 for end in ends if end.x > INNER), default=0)
    right = max(room, 12)
    x = x.fitted(width - left - right)
    axes = new_axes(width, HEIGHT, Margins(left, right, 28, 40))
    if diagonal:
        corners = (max(x.low, y.low), min(x.high, y.high))
        axes.plot(corners, corners, color=MUTED, linewidth=1)
    for line in lines:
        axes.plot(*_columns(line.theory, y), color=RULE, linewidth=6, alpha=0.75)
    for index, line in enumerate(lines):
        covers = sum(_coincide(line, other, y) for other in lines[index + 1 :])
        _draw(axes, line, index, y, band=len(lines) <= MAX_BANDS, marks=marks, width=LINE_WIDTH * (1 + min(covers, 3)))
    for line in lines:
        texts = line.texts or [
            f"{line.name}, {x.quantity} {x.amount(at)}: {y.amount(value)}" for at, value in line.points
        ]
        targets = [(at, y.clamped(value), text) for (at, value), text in zip(line.points, texts, strict=True)]
        add_points(axes, [targets[index] for index in evenly_spaced_indices(len(targets), MAX_TARGETS)], TARGET)
    set_axes(axes, x, y)
    name_ends(
        axes, ends, [[(x.position(at), y.position(y.clamped(value))) for at, value in line.points] for line in lines]
    )
    return figure_of(axes)


def _draw(axes: "Axes", line: Line, index: int, y: Axis, band: bool, marks: bool, width: float) -> None:
    color = COLORS[index]
    if line.intervals and band:
        columns = [list(column) for column in zip(*line.intervals, strict=True)]
        low, high = ([y.clamped(value) for value in column] for column in columns[1:])
        axes.fill_between(columns[0], low, high, color=color, alpha=0.18, linewidth=0)
    joined = [point for seed in line.seeds for point in (*seed, (math.nan, math.nan))]  # one path for all seeds
    axes.plot(*_columns(joined, y), color=color, linewidth=0.7, alpha=0.4 if band else 0.3)
    if line.intervals and not band:
        at, low, high = line.intervals[-1]
        axes.plot([at, at], [y.clamped(low), y.clamped(high)], color=color, linewidth=2.2, clip_on=False)
    dash = DASHES[index]
    axes.plot(
        *_columns(line.points, y),
        color=color,
        linewidth=width,
        linestyle="-" if dash == (1, 0) else (0, dash),
        dash_capstyle="butt",
        marker="o" if marks else "",
        markersize=4,
        markeredgewidth=0,
        clip_on=False,
    )


def _coincide(line: Line, other: Line, y: Axis) -> bool:
    """Whether another line covers at least half of this one, which is then drawn broader so that both are visible."""
    heights = {x: y.position(y.clamped(value)) for x, value in other.points}
    near = [
        abs(heights[x] - y.position(y.clamped(value))) * HEIGHT < LINE_WIDTH for x, value in line.points if x in heights
    ]
    return len(near) > 1 and 2 * sum(near) >= len(near)


def _columns(points: Sequence[tuple[float, float]], y: Axis) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [y.clamped(point[1]) for point in points]
