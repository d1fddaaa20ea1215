# pyright: strict, reportUnknownMemberType=false
"""Names next to the ends of lines, apart from each other where lines end close together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from fathomlab.report.figures.scales import spread_apart, text_width
from fathomlab.report.figures.style import COLORS, LINE_HEIGHT, size_of, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONNECTOR = 11  # pixels from the end of a line to its name
INNER = 0.8
SHIFTS = [0.0, *(sign * 13.0 * step for step in range(1, 9) for sign in (1, -1))]  # pixels, nearest first


@dataclass(frozen=True)
class End:
    """The end of a line.

    Attributes:
        name: Its text.
        series: Number of its color.
        x: Position in shares of the axes.
        y: Height in shares of the axes.
    """

    name: str
    series: int
    x: float
    y: float


def name_ends(
    axes: "Axes", ends: Sequence[End], lines: Sequence[Sequence[tuple[float, float]]] = (), inner: float = INNER
) -> None:
    """Write a name to the right of each end, with a connector in the color of its line.

    Args:
        axes: The axes.
        ends: The ends. Those on the right are named outside of the axes, the others where there is the most room.
        lines: Points of all lines in shares of the axes, which names of inner ends avoid.
        inner: Names of lines that end before this share of the axes are inside.
    """
    box = axes.get_position()
    across, down = size_of(axes)
    width, height = across * box.width, down * box.height
    outer = [end for end in ends if end.x > inner]
    right = width * max((end.x for end in outer), default=0.0) + CONNECTOR
    heights = spread_apart([height * end.y for end in outer], LINE_HEIGHT)
    excess = max(0.0, max(heights, default=0) - height - 4) + min(0.0, min(heights, default=4) - 4)
    names = [(end, right, at - excess) for end, at in zip(outer, heights, strict=True)]
    label = (-across * box.x0, height + LINE_HEIGHT, text_width(axes.get_ylabel()))
    taken = [(label[0], label[1], sum(label[::2])), *((x, y, x + text_width(end.name)) for end, x, y in names)]
    marks = [mark for line in lines for mark in _samples([(width * x, height * y) for x, y in line])]
    for at, group in groupby(sorted((end for end in ends if end.x <= inner), key=lambda end: end.x), lambda end: end.x):
        members, x = list(group), width * at + CONNECTOR
        heights = spread_apart([height * end.y for end in members], LINE_HEIGHT)
        boxes = [(x, y, x + text_width(end.name)) for end, y in zip(members, heights, strict=True)]
        shift = min(SHIFTS, key=lambda shift: sum(_crowding(box, shift, taken, marks, height) for box in boxes))
        names += [(end, x, box[1] + shift) for end, box in zip(members, boxes, strict=True)]
        taken += [(left, y + shift, right) for left, y, right in boxes]
    for end, x, y in names:
        connector = ([end.x, (x - 2) / width], [end.y, y / height])
        axes.plot(*connector, color=COLORS[end.series], linewidth=0.8, transform=axes.transAxes, clip_on=False)
        write(axes, x / width, y / height, end.name, va="center")


def _crowding(
    name: tuple[float, float, float],
    shift: float,
    taken: Sequence[tuple[float, float, float]],
    marks: Sequence[tuple[float, float]],
    height: float,
) -> float:
    """How much a name (left, middle, right) covers after a vertical shift: names and edges weigh more than lines."""
    left, middle, right = name[0], name[1] + shift, name[2]
    covered = sum(left - 3 <= x <= right + 3 and abs(y - middle) < LINE_HEIGHT / 2 + 1 for x, y in marks)
    names = sum(left < end + 4 and start < right + 4 and abs(y - middle) < LINE_HEIGHT for start, y, end in taken)
    return covered + 100 * names + 100 * (not 6 < middle < height + 8)


def _samples(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Points on a line, at most 4 pixels apart."""
    yield from points
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) // 4)
        for step in range(1, steps):
            yield x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
