"""A figure on the page: its caption, legend, and SVG, and its data as a table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from fathomlab.analysis.study import Condition, Study
from fathomlab.report.figures.scales import evenly_spaced_indices
from fathomlab.report.figures.style import COLORS, DASHES, HALF, MAX_SERIES, SHAPES, THIRD
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 6
MAX_DOTS = 200  # more dots of one condition cover each other


@dataclass(frozen=True)
class LegendEntry:
    """A legend entry: a text with its color, and the dash, shape, or width that distinguishes it without color.

    Attributes:
        color: Number of the series, or a CSS color.
        dash: Lengths of dashes and gaps in pixels, "" for a solid line.
        shape: Name of a marker; "" for a line.
        broad: Whether the line is broad.
    """

    text: str
    color: int | str
    dash: str = ""
    shape: str = ""
    broad: bool = False

    @property
    def css_color(self) -> str:
        """The color for a style sheet."""
        return self.color if isinstance(self.color, str) else f"var(--s{self.color + 1})"


@dataclass(frozen=True)
class Chart:
    """A figure with its legend and its data as a table.

    Attributes:
        name: Its id on the page.
        title: Its caption.
        description: What it shows, for screen readers.
        draw: Draws the figure.
        narrow: Draws it for small screens, if it is wide.
        full_title: Its title for screen readers if the caption is shorter.
    """

    name: str
    title: str
    description: str
    draw: "Callable[[], Figure]"
    table: Table
    keys: tuple[LegendEntry, ...] = ()
    narrow: "Callable[[], Figure] | None" = None
    full_title: str = ""

    def svg(self, prefix: str = "") -> Markup:
        """The figure as SVG; a wide one in two sizes. The style sheet shows the one whose text is readable on the screen.

        Args:
            prefix: In front of every id, for pages with several experiments.
        """
        title, name = self.full_title or self.title, f"{prefix}{self.name}"
        if self.narrow is None:
            return inline_svg(self.draw(), name, title, self.description)
        pair = ((self.draw(), name, "wide"), (self.narrow(), f"{name}-narrow", "narrow"))
        return Markup("").join(inline_svg(figure, id_, title, self.description, kind) for figure, id_, kind in pair)


def drawn_seeds(values: Iterable[float]) -> list[float]:
    """The values that are drawn as dots: all, or `MAX_DOTS` of them from the smallest to the largest."""
    ordered = sorted(values)
    return [ordered[index] for index in evenly_spaced_indices(len(ordered), MAX_DOTS)]


def line_keys(texts: Sequence[str]) -> tuple[LegendEntry, ...]:
    """The legend of lines, distinguished by color and dash."""
    dashes = ["" if dash == (1, 0) else ",".join(map(str, dash)) for dash in DASHES]
    return tuple(LegendEntry(text, i, dash=dashes[i]) for i, text in enumerate(texts[: len(COLORS)]))


def point_keys(texts: Sequence[str]) -> tuple[LegendEntry, ...]:
    """The legend of points, distinguished by color and shape."""
    return tuple(LegendEntry(text, i, shape=SHAPES[i]) for i, text in enumerate(texts))


def columns(number: int) -> int:
    """How many of `number` figures are in a row of the page: two or three, so that no figure is alone in the last row."""
    return 2 if number % 3 and number not in (5, 7, 11) else 3


def width_of(number: int) -> int:
    """The width in pixels of each of `number` figures."""
    return HALF if columns(number) == 2 else THIRD


def panels(study: Study) -> list[tuple[str, list[Condition]]]:
    """Name and conditions of each panel: one per series or, with many series, one per depth, or slices of all conditions."""
    groups = study.by_series()
    if len(groups) <= MAX_PANELS and all(len(group) <= MAX_SERIES for group in groups.values()):
        return [(name, sorted(group, key=lambda item: item.depth or 0)) for name, group in groups.items()]
    depths: dict[int | None, list[Condition]] = {}
    for item in study.conditions:
        depths.setdefault(item.depth, []).append(replace(item, level=item.series))
    if 1 < len(depths) <= MAX_PANELS and None not in depths and max(map(len, depths.values())) <= MAX_SERIES:
        return [(f"depth {depth}", items) for depth, items in depths.items()]
    every = [replace(item, level=item.name) for item in study.conditions[: MAX_PANELS * MAX_SERIES]]
    starts = range(0, len(every), MAX_SERIES)
    slices = [(start, every[start : start + MAX_SERIES]) for start in starts]
    return [(f"conditions {start + 1} to {start + len(items)}", items) for start, items in slices]


def panels_left_out(study: Study, shown_panels: Sequence[tuple[str, Sequence[Condition]]]) -> str:
    """Which conditions these panels leave out, as a sentence; "" if none."""
    shown, total = sum(len(conditions) for _, conditions in shown_panels), len(study.conditions)
    return f"The charts show the first {shown} of {total:,} conditions." if shown < total else ""


def line_name(condition: str) -> str:
    """A condition at the end of its line, without the words that the legend repeats."""
    return condition.removeprefix("distilled, ").removesuffix(" student")
