# pyright: strict, reportUnknownMemberType=false
"""Several figures with their titles and legends as one figure that a notebook shows."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomlab.report.figures.scales import shortened, text_width
from fathomlab.report.figures.style import COLORS, INK, LINE_HEIGHT, MARKERS, drawing_in, styled, visible_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

GAP = 14
SWATCH = 26
DPI = 144  # twice the size on the screen, for sharp text


@dataclass(frozen=True)
class Key:
    """An entry of a legend.

    Attributes:
        color: Number of the series, or a color.
        dash: Lengths of dashes and gaps in pixels.
        marker: Number of the marker; None for a line.
        hollow: Whether the marker is not filled.
        broad: Whether the line is broad.
    """

    text: str
    color: int | str
    dash: tuple[int, ...]
    marker: int | None
    hollow: bool = False
    broad: bool = False


@dataclass(frozen=True)
class Panel:
    """A figure with its title and its legend."""

    title: str
    draw: "Callable[[], Figure]"
    keys: tuple[Key, ...]


@styled
def joined_figure(rows: Sequence[Sequence[Panel]], note: str = "") -> "Figure":
    """Draw figures row by row.

    Args:
        rows: The figures of each row, at least one.
        note: A text below the figures.
    """
    sizes = [[_size(panel.draw()) for panel in row] for row in rows]
    pitches = [max(width for width, _ in row) + GAP for row in sizes]
    legends = [
        [_legend_rows(panel.keys, width) for panel, (width, _) in zip(row, known, strict=True)]
        for row, known in zip(rows, sizes, strict=True)
    ]
    titles = [
        [_wrapped(panel.title, width) for panel, (width, _) in zip(row, known, strict=True)]
        for row, known in zip(rows, sizes, strict=True)
    ]
    heads = [
        GAP + 6 + LINE_HEIGHT * max(len(text) + len(keys) for text, keys in zip(*both, strict=True))
        for both in zip(titles, legends, strict=True)
    ]
    heights = [head + max(height for _, height in row) for head, row in zip(heads, sizes, strict=True)]
    width = GAP + max(pitch * len(row) for pitch, row in zip(pitches, rows, strict=True))
    figure = _notebook_figure((width, sum(heights) + GAP + (LINE_HEIGHT if note else 0)))
    for number, row in enumerate(rows):
        top = sum(heights[:number])
        for column, panel in enumerate(row):
            left, size = GAP + column * pitches[number], sizes[number][column]
            _head(figure, titles[number][column], legends[number][column], (left, top + GAP))
            with drawing_in(_part(figure, (left, top + heads[number]), size)):
                panel.draw()
    if note:
        _write(figure, GAP, sum(heights) + GAP, note)
    return figure


def _part(figure: "Figure", corner: tuple[float, float], size: tuple[float, float]) -> "SubFigure":
    """A part of a figure; its upper left corner and its size in pixels."""
    from matplotlib.gridspec import GridSpec

    widths, heights = (
        [start, length, max(0.0, total - start - length)]
        for start, length, total in zip(corner, size, _size(figure), strict=True)
    )
    return figure.add_subfigure(GridSpec(3, 3, figure=figure, width_ratios=widths, height_ratios=heights)[1, 1])


def _write(figure: "Figure", x: float, y: float, text: str, **options: Any) -> None:
    """Write a text at a position in pixels from the upper left corner."""
    width, height = _size(figure)
    figure.text(x / width, 1 - y / height, visible_text(text), va="center", **options)


def _notebook_figure(size: tuple[float, float]) -> "Figure":
    """A figure that a notebook shows as an image without pyplot."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure of the report."""

        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            """PNG, and its size on the screen in pixels."""
            target = io.BytesIO()
            self.savefig(target, format="png", dpi=DPI)
            width, height = (round(72 * inches) for inches in self.get_size_inches())
            return target.getvalue(), {"width": width, "height": height}

    return NotebookFigure(figsize=(size[0] / 72, size[1] / 72))


def _size(figure: "Figure") -> tuple[float, float]:
    """Width and height in pixels."""
    width, height = figure.get_size_inches()
    return 72 * float(width), 72 * float(height)


def _legend_rows(keys: Sequence[Key], width: float) -> list[list[tuple[Key, str, float]]]:
    """The lines of a legend: each entry with its text and its position in pixels."""
    rows: list[list[tuple[Key, str, float]]] = []
    end = width + 1
    for key in keys:
        text = shortened(key.text, width - SWATCH - 8)
        needed = SWATCH + 6 + text_width(text)
        if end + needed > width:
            rows.append([])
            end = 0.0
        rows[-1].append((key, text, end))
        end += needed + 14
    return rows


def _wrapped(title: str, width: float) -> list[str]:
    """The lines of a title."""
    lines: list[str] = []
    for word in title.split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [shortened(line, width) for line in lines] or [""]


def _head(
    figure: "Figure",
    title: Sequence[str],
    rows: Sequence[Sequence[tuple[Key, str, float]]],
    corner: tuple[float, float],
) -> None:
    """Write a title and a legend below a corner; positions in pixels from the upper left corner of the figure."""
    (left, top), (width, height) = corner, _size(figure)
    for number, line in enumerate(title):
        _write(figure, left, top + number * LINE_HEIGHT, line, color=INK)
    for number, row in enumerate(rows, start=len(title)):
        y = top + number * LINE_HEIGHT
        for key, text, at in row:
            figure.add_artist(_swatch(key, [(left + at + x) / width for x in (0, SWATCH)], 1 - y / height))
            _write(figure, left + at + SWATCH + 6, y, text)


def _swatch(key: Key, ends: Sequence[float], y: float) -> "Line2D":
    """The line or the marker of a legend entry, in shares of the figure."""
    from matplotlib.lines import Line2D

    color = COLORS[key.color] if isinstance(key.color, int) else key.color
    if key.marker is not None:
        style = "none" if key.hollow else "full"
        return Line2D([sum(ends) / 2], [y], color=color, marker=MARKERS[key.marker], fillstyle=style)
    line = Line2D(list(ends), [y, y], color=color, linewidth=6 if key.broad else 2)
    if key.dash != (1, 0):
        line.set_linestyle((0, key.dash))
    return line
