# pyright: strict, reportUnknownMemberType=false
"""Named points in two dimensions with an interval in y, and the line of those that no other point beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.hover import add_bar, add_points, describe
from fathomlab.report.figures.scales import Axis, shortened_alike, spread_apart, text_width
from fathomlab.report.figures.style import (
    COLORS,
    HALF,
    LINE_HEIGHT,
    MARKERS,
    PAPER,
    RULE,
    Margins,
    figure_of,
    new_axes,
    set_axes,
    styled,
    visible_text,
    write,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 260
NAME_WIDTH = 130
CONNECTOR = 8


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes:
        name: Text next to it.
        x: Position on the x-axis.
        y: Mean and interval on the y-axis.
        series: Number of its color and marker.
    """

    name: str
    x: float
    y: Interval
    series: int = 0


def pareto_front(marks: Sequence[Mark]) -> list[Mark]:
    """The points for which no other has a smaller or equal x and a larger y, by x.

    Example:
        >>> points = [Mark(name, x, Interval(y, None, None, 1)) for name, x, y in (("a", 1, 5), ("b", 2, 4), ("c", 3, 6))]
        >>> [mark.name for mark in pareto_front(points)]
        ['a', 'c']
    """
    front: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.x, -mark.y.mean)):
        if not front or mark.y.mean > front[-1].y.mean:
            front.append(mark)
    return front


@styled
def scatter_figure(marks: Sequence[Mark], x: Axis, y: Axis, width: int = HALF) -> "Figure":
    """Draw the points, their names on the right, and the Pareto front as a step line.

    Args:
        marks: The points.
        x: Horizontal axis; smaller is better.
        y: Vertical axis; larger is better.
        width: Width in pixels.
    """
    names = shortened_alike([visible_text(mark.name) for mark in marks], min(NAME_WIDTH, 0.4 * width))
    left = max(map(text_width, y.tick_labels()), default=0) + 8
    right = max(map(text_width, names), default=0) + CONNECTOR + 6
    x = x.fitted(width - left - right)
    axes = new_axes(width, HEIGHT, Margins(left, right, 28, 40))
    front = pareto_front(marks)
    axes.step(
        [*(mark.x for mark in front), x.high],
        [*(y.clamped(mark.y.mean) for mark in front), y.clamped(front[-1].y.mean)] if front else [],
        where="post",
        color=RULE,
        linewidth=1.6,
    )
    for mark in marks:
        color = COLORS[mark.series]
        if mark.y.low is not None and mark.y.high is not None:
            ends = [y.clamped(mark.y.low), y.clamped(mark.y.high)]
            axes.plot([mark.x, mark.x], ends, color=color, linewidth=2, solid_capstyle="butt", clip_on=False)
            add_bar(axes, [mark.x, mark.x], ends, describe(mark.name, mark.y, y))
    for mark in marks:
        at = [y.clamped(mark.y.mean)]
        axes.plot(
            [mark.x],
            at,
            MARKERS[mark.series],
            color=COLORS[mark.series],
            markersize=8.5,
            markeredgecolor=PAPER,
            markeredgewidth=0.8,
            clip_on=False,
        )
        text = f"{describe(mark.name, mark.y, y)}, {x.quantity} {x.amount(mark.x)}"
        add_points(axes, [(mark.x, at[0], text)])
    set_axes(axes, x, y)
    inner = (width - left - right, HEIGHT - 68)
    order = sorted(range(len(marks)), key=lambda index: marks[index].y.mean)
    heights = [inner[1] * y.position(y.clamped(marks[index].y.mean)) for index in order]
    for index, at in zip(order, spread_apart(heights, LINE_HEIGHT), strict=True):
        mark = marks[index]
        ends = (
            [x.position(mark.x) + 6 / inner[0], 1 + 2 / inner[0]],
            [y.position(y.clamped(mark.y.mean)), at / inner[1]],
        )
        axes.plot(*ends, color=COLORS[mark.series], linewidth=0.7, alpha=0.6, transform=axes.transAxes, clip_on=False)
        write(axes, 1 + CONNECTOR / inner[0], at / inner[1], names[index], va="center")
    return figure_of(axes)
