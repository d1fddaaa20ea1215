# pyright: strict, reportUnknownMemberType=false
"""The look of all figures: colors, dashes, markers, axes, and labels that are drawn as they are.

matplotlib takes 0.4 s to import, so it is imported with the first figure and not with this module.
"""

import functools
import importlib
import logging
import threading
import unicodedata
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from fathomlab.report.figures.scales import FONT_SIZE, Axis, shortened, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.text import Text

# The light theme of the style sheet. On a page, each of these colors becomes its CSS variable.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#b8578f", "#e69f00", "#56b4e9", "#1a1f26", "#a59a00")
INK, MUTED, RULE, GRID, PAPER = "#1a1f26", "#55606d", "#c9ced2", "#e9ecea", "#fcfcfa"
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 2), (1, 3), (10, 4), (3, 1))
MARKERS = ("o", "^", "s", "D", "v", "P", "<", ">")
SHAPES = ("circle", "triangle-up", "square", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right")
MAX_SERIES = len(COLORS)
# Widths in pixels at which text has 12 pixels: three figures in a row, two in a row, and the main figure of a page.
THIRD, HALF, MAIN = 270, 336, 544
LINE_HEIGHT = 15
STYLE: dict[str, object] = {
    "font.family": ["DejaVu Sans"],
    "font.size": FONT_SIZE,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "text.color": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelpad": 4,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.major.width": 1,
    "xtick.major.size": 4,
    "xtick.major.pad": 3,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
    "lines.scale_dashes": False,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}
_LOCK = threading.RLock()
_PANEL: "ContextVar[SubFigure | None]" = ContextVar("panel", default=None)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Margins:
    """Space around the axes in pixels."""

    left: float
    right: float
    top: float
    bottom: float


@contextmanager
def style() -> Generator[None]:
    """Draw with matplotlib's defaults and the look of the report, whatever the caller's settings are.

    The settings belong to the process, so one figure is drawn at a time, and the caller's are restored.
    """
    with _LOCK:
        settings = _settings()
        import matplotlib as mpl

        current = cast(dict[str, object], mpl.rcParams)
        changed = {key: value for key, value in settings.items() if current[key] != value}  # each one is validated
        with mpl.rc_context(cast(Any, changed)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # browsers have more fonts
            yield


@functools.cache
def _settings() -> dict[str, object]:
    """The settings that matplotlib has without a configuration file, with the look of the report."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # a read-only home directory or a broken configuration file does not matter here
    try:
        import matplotlib as mpl

        importlib.import_module("matplotlib.font_manager")  # reads or builds its list of fonts
    finally:
        logger.setLevel(level)
    return {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"} | STYLE


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Run a drawing function in `style`."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with style():
            return draw(*args, **kwargs)

    return wrapped


def new_axes(width: float, height: float, margins: Margins) -> "Axes":
    """Axes in a new figure of this size in pixels, or in the current panel, which has it.

    pyplot is not used, so that nothing keeps the figure alive.
    """
    from matplotlib.figure import Figure

    figure = _PANEL.get() or Figure(figsize=(width / 72, height / 72))  # SVG has 72 pixels per inch
    inner = (width - margins.left - margins.right, height - margins.top - margins.bottom)
    return figure.add_axes(
        (margins.left / width, margins.bottom / height, inner[0] / width, inner[1] / height),
    )


@contextmanager
def drawing_in(panel: "SubFigure") -> Generator[None]:
    """Draw the next figure in a part of another one, which must have the size of the figure."""
    token = _PANEL.set(panel)
    try:
        yield
    finally:
        _PANEL.reset(token)


def size_of(axes: "Axes") -> tuple[float, float]:
    """Width and height in pixels of the figure or panel of axes."""
    figure = figure_of(axes)
    return figure.bbox.width * 72 / figure.dpi, figure.bbox.height * 72 / figure.dpi


def figure_of(axes: "Axes") -> "Figure":
    """The figure or panel of axes."""
    return cast("Figure", axes.figure)


def set_axes(axes: "Axes", x: Axis, y: Axis) -> None:
    """Limits, ticks, labels, and horizontal grid lines. The label of the y-axis is horizontal, above the axis."""
    if x.log:
        axes.set_xscale("log")
    if y.log:
        axes.set_yscale("log")
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    axes.set_xticks(x.ticks, x.tick_labels())
    axes.set_yticks(y.ticks, y.tick_labels())
    axes.minorticks_off()
    axes.grid(axis="y")
    across, box = size_of(axes)[0], axes.get_position()
    label = shortened(visible_text(x.label), across)
    room = min(0.5, text_width(label) / 2 / across)  # from the middle of the label to the edges of the figure
    middle = min(1 - room, max(room, box.x0 + box.width / 2))
    axes.set_xlabel(label, x=(middle - box.x0) / box.width)
    corner(axes, y.label)


def corner(axes: "Axes", label: str) -> None:
    """Write the label of the y-axis horizontally above the axis, at the left edge of the figure."""
    left = -axes.get_position().x0 / axes.get_position().width
    axes.set_ylabel(shortened(visible_text(label), size_of(axes)[0]), rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(left, 1 + 7 / (axes.get_position().height * size_of(axes)[1]))


def write(axes: "Axes", x: float, y: float, text: str, **options: Any) -> "Text":
    """Write a text at a position in shares of the axes, also outside of them."""
    return axes.text(x, y, visible_text(text), transform=axes.transAxes, clip_on=False, **options)


def visible_text(text: str) -> str:
    """A text in one line without characters that XML forbids."""
    return "".join(_allowed(char) for char in " ".join(text.split()))


def _allowed(char: str) -> str:
    forbidden = unicodedata.category(char) in ("Cc", "Cs") or char in "\ufffe\uffff"  # control characters, surrogates
    return "\N{REPLACEMENT CHARACTER}" if forbidden else char
