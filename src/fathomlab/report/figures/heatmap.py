# pyright: strict, reportUnknownMemberType=false
"""A grid of numbers as an image, with the names of its rows and columns and its color scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fathomlab.report.figures.hover import add_cells
from fathomlab.report.figures.scales import FONT_SIZE, shortened, text_width
from fathomlab.report.figures.style import RULE, THIRD, Margins, figure_of, new_axes, styled, write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# purple to light gray to orange: a diverging scale for any color vision; viridis is the sequential one
DIVERGING = ("#4a2c9b", "#6a57b5", "#928bcb", "#bdb9dd", "#ececec", "#f3cfa2", "#e3a456", "#c87a1c", "#914d06")
LABEL_WIDTH = 74
TOP, BOTTOM = 8, 40


@dataclass(frozen=True)
class Heatmap:
    """A map of numbers.

    Attributes:
        rows: Numbers from top to bottom; None is transparent.
        row_labels: One per row.
        column_labels: One per column.
        low: Number of the first color.
        high: Number of the last color.
        scale: Numbers with a label on the color scale, and their labels.
        diverging: Whether the colors diverge from the middle.
        texts: What each number shows on hover; empty for a map whose cells are too many or too small to point at.
    """

    rows: tuple[tuple[float | None, ...], ...]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    low: float
    high: float
    scale: tuple[tuple[float, str], ...]
    diverging: bool = False
    texts: tuple[tuple[str, ...], ...] = ()


@styled
def heatmap_figure(heatmap: Heatmap, width: int = THIRD) -> "Figure":
    """Draw a map: an image with one pixel per number, labels that do not overlap, and the color scale on the right."""
    import numpy as np

    labels = [shortened(label, LABEL_WIDTH) for label in heatmap.row_labels]
    left = max(map(text_width, labels)) + 8
    bar = 20 + max(text_width(label) for _, label in heatmap.scale)
    inner = min(300, max(96, 9 * len(labels)))
    across = width - left - bar - 8
    axes = new_axes(width, inner + TOP + BOTTOM, Margins(left, bar + 8, TOP, BOTTOM))
    values = np.array([[np.nan if value is None else value for value in row] for row in heatmap.rows], float)
    _draw_image(axes, values, heatmap)
    cells = [
        (column, row, text) for row, texts in enumerate(heatmap.texts) for column, text in enumerate(texts) if text
    ]
    if cells:
        add_cells(axes, cells, across / len(values[0]), inner / len(values))
    every = -(-len(labels) * (FONT_SIZE + 1) // inner)
    for index, label in enumerate(labels):
        if index % every == 0:
            write(axes, -5 / across, 1 - (index + 0.5) / len(labels), label, ha="right", va="center")
    _label_columns(axes, heatmap.column_labels, across, inner)
    box = axes.get_position()
    scale = figure_of(axes).add_axes((box.x1 + 10 / width, box.y0, 9 / width, box.height))
    _draw_image(scale, np.linspace(heatmap.high, heatmap.low, 64)[:, None], heatmap)
    for number, label in heatmap.scale:
        at = (number - heatmap.low) / (heatmap.high - heatmap.low)
        write(scale, 14 / 9, at, label, va="center")
    return figure_of(axes)


def _label_columns(axes: "Axes", labels: Sequence[str], across: float, inner: float) -> None:
    """Epochs in the first line; "step 1" and the name of the axis in the second, where both have room."""
    end, steps = float("-inf"), list[float]()
    cell, first, second = across / len(labels), -5 / inner, -21 / inner
    for index, label in enumerate(labels):
        at = (index + 0.5) * cell
        if label.startswith("step ") and at >= (steps[-1] if steps else float("-inf")):
            axes.plot([at / across] * 2, [0, second + 2 / inner], color=RULE, transform=axes.transAxes, clip_on=False)
            write(axes, at / across, second, label, ha="center", va="top")
            steps.append(at + text_width(label) + 6)
            continue
        text = label.removeprefix("epoch ")
        half = text_width(text) / 2 + 3
        if at - half >= end and not label.startswith("step "):
            write(axes, at / across, first, text, ha="center", va="top")
            end = at + half
    start = max(across / 2, steps[-1] + 12 if steps else 0.0)
    if any(label.startswith("epoch ") for label in labels):
        write(axes, min(start, across - 12) / across, second, "epoch", ha="center", va="top")


def _draw_image(axes: "Axes", values: "npt.NDArray[np.float64]", heatmap: Heatmap) -> None:
    """Draw numbers in the colors of a map, without ticks and a frame."""
    colors = _colors(heatmap.diverging)
    axes.imshow(values, cmap=colors, vmin=heatmap.low, vmax=heatmap.high, aspect="auto", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


@cache
def _colors(diverging: bool) -> "Colormap":
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("diverging", DIVERGING) if diverging else mpl.colormaps["viridis"]
