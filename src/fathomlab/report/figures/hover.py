# pyright: strict, reportUnknownMemberType=false
"""Values that a reader sees when the pointer is over a mark: invisible marks whose texts become `<title>` elements of the SVG."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.scales import Axis
from fathomlab.report.figures.style import visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SEEDS = 30  # of one mean; more are too dense to point at
SEED, MEAN = 7.0, 13.0  # diameters in pixels


def add_points(axes: "Axes", targets: Sequence[tuple[float, float, str]], size: float = MEAN) -> None:
    """Add invisible discs at x and y [data] that show a text."""
    if targets:
        x, y, texts = zip(*targets, strict=True)
        axes.plot(
            x,
            y,
            "o",
            color="black",
            alpha=0,
            markersize=size,
            markeredgewidth=0,
            clip_on=False,
            zorder=10,
            gid=_encoded(texts),
        )


def add_bar(axes: "Axes", x: Sequence[float], y: Sequence[float], text: str) -> None:
    """Add an invisible broad line between two points [data] that shows a text."""
    axes.plot(
        x, y, color="black", alpha=0, linewidth=9, solid_capstyle="butt", clip_on=False, zorder=10, gid=_encoded([text])
    )


def add_cells(axes: "Axes", targets: Sequence[tuple[float, float, str]], width: float, height: float) -> None:
    """Add invisible rectangles of a size in pixels around x and y [data] that show a text."""
    x, y, texts = zip(*targets, strict=True)
    corners = [(sign * width, other * height) for sign, other in ((-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1))]
    size = max(width, height)
    axes.plot(
        x,
        y,
        marker=corners,
        linestyle="",
        color="black",
        alpha=0,
        markersize=size,
        markeredgewidth=0,
        clip_on=False,
        gid=_encoded(texts),
    )


def describe(name: str, mean: Interval, axis: Axis) -> str:
    """A mean with its interval: "plain, depth 5: mean 58.64% (95% interval 43.7 to 73.58%, 7 seeds)"."""
    seeds = f"{mean.n} seed{'s' * (mean.n != 1)}"
    ends = "" if mean.low is None or mean.high is None else f"95% interval {axis.span(mean.low, mean.high)}, "
    word = "mean " * (mean.n > 1 and name != "mean")
    return f"{name}: {word}{axis.amount(mean.mean)} ({ends}{seeds})"


def move_texts(root: ElementTree.Element) -> None:
    """Move the texts of invisible marks from the ids of their groups into `<title>` elements."""
    for group in root.iter():
        if group.get("id", "").startswith('["'):
            texts = json.loads(group.attrib.pop("id"))
            marks = [item for item in group.iter() if item.tag.endswith("}use")]
            marks = marks or [item for item in group.iter() if item.tag.endswith("}path")]
            for mark, text in zip(marks, texts, strict=True):
                ElementTree.SubElement(mark, group.tag.replace("}g", "}title")).text = text


def _encoded(texts: Sequence[str]) -> str:
    return json.dumps([visible_text(text) for text in texts])
