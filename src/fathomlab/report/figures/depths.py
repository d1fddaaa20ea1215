# pyright: strict, reportUnknownMemberType=false
"""Accuracy against depth: each seed, the mean, and its interval, with a joined line per series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.hover import MAX_SEEDS, SEED, add_bar, add_points, describe
from fathomlab.report.figures.names import CONNECTOR, End, name_ends
from fathomlab.report.figures.scales import Axis, shortened_alike, text_width
from fathomlab.report.figures.style import (
    COLORS,
    MAIN,
    MARKERS,
    PAPER,
    Margins,
    figure_of,
    new_axes,
    set_axes,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """The seeds of one series at one depth [%].

    Attributes:
        depth: Position of the depth, starting at 0.
        seeds: A value per finished seed.
        mean: Mean with its interval.
    """

    depth: int
    seeds: tuple[float, ...]
    mean: Interval


@dataclass(frozen=True)
class Series:
    """The conditions of one series, by increasing depth."""

    name: str
    cells: tuple[Cell, ...]


@styled
def depth_figure(
    series: Sequence[Series], depths: Sequence[int], y: Axis, width: int = MAIN, height: int = 320
) -> "Figure":
    """Draw the accuracy of each series over equally spaced depths.

    Args:
        series: The series, at most as many as there are colors.
        depths: Labels of the positions, in layers.
        y: The axis of the accuracy (%); values outside are drawn at its ends.
        width: Width in pixels.
        height: Height in pixels.
    """
    names = shortened_alike([item.name for item in series], 0.3 * width)
    right = max(map(text_width, names)) + CONNECTOR if len(series) > 1 else 12
    left = max(map(text_width, y.tick_labels()), default=0) + 8
    axes = new_axes(width, height, Margins(left, right, 28, 40))
    spread = min(0.12, 0.5 / max(1, len(series)))
    ends: list[tuple[int, float, float]] = []
    for index, item in enumerate(series):
        shift = spread * (index - (len(series) - 1) / 2)
        color, marker = COLORS[index], MARKERS[index]
        at = [cell.depth + shift for cell in item.cells]
        means = [y.clamped(cell.mean.mean) for cell in item.cells]
        axes.plot(at, means, color=color, linewidth=1.2, alpha=0.8)
        for position, cell in zip(at, item.cells, strict=True):
            at_seeds, seeds = [position] * len(cell.seeds), [*map(y.clamped, cell.seeds)]
            axes.plot(
                at_seeds, seeds, marker, color=color, markersize=4.5, markeredgewidth=0, alpha=0.45, clip_on=False
            )
            if cell.mean.low is not None and cell.mean.high is not None:
                bar = [y.clamped(end) for end in (cell.mean.low, cell.mean.high)]
                axes.plot([position, position], bar, color=color, linewidth=2.2, solid_capstyle="butt", clip_on=False)
        axes.plot(
            at, means, marker, color=color, markersize=8.5, markeredgecolor=PAPER, markeredgewidth=0.8, clip_on=False
        )
        for position, cell in zip(at, item.cells, strict=True):
            name = ", ".join(filter(None, (item.name, f"depth {depths[cell.depth]}")))
            text = describe(name, cell.mean, y)
            if cell.mean.low is not None and cell.mean.high is not None:
                add_bar(axes, [position] * 2, [y.clamped(cell.mean.low), y.clamped(cell.mean.high)], text)
            seeds = cell.seeds if len(cell.seeds) <= MAX_SEEDS else ()
            one = [(position, y.clamped(seed), f"{name}: one seed, {y.amount(seed)}") for seed in seeds]
            add_points(axes, one, SEED)
            add_points(axes, [(position, y.clamped(cell.mean.mean), text)])
        ends += [(index, at[-1], means[-1])] if item.cells and len(series) > 1 else []
    x = Axis("depth (layers)", -0.45, len(depths) - 0.55, tuple(range(len(depths))), texts=tuple(map(str, depths)))
    set_axes(axes, x, y)
    marks = [End(names[index], index, x.position(at), y.position(value)) for index, at, value in ends]
    name_ends(axes, marks, inner=x.position(len(depths) - 1.5))
    return figure_of(axes)
