"""Line plots as text, for terminals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Sequence[int | float | None]
LABEL_WIDTH = 9


@dataclass(frozen=True)
class Characters:
    """What a plot is drawn with: the markers of its series, and its axes."""

    markers: str = "•○"
    axis: str = "┤"
    corner: str = "└"
    line: str = "─"


ASCII = Characters("*o", "|", "+", "-")


def characters(encoding: str | None) -> Characters:
    """The characters that an encoding can represent."""
    unicode = Characters()
    try:
        "".join((unicode.markers, unicode.axis, unicode.corner, unicode.line)).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return unicode


def text_plot(
    title: str,
    series: Mapping[str, Values],
    ends: tuple[str, str],
    width: int,
    height: int = 8,
    log: bool = False,
    drawn_with: Characters = ASCII,
) -> list[str]:
    """Draw at most two series over the same positions; values that are not finite leave gaps.

    Args:
        title: First line; the legend follows it.
        series: Name to values. The later series is drawn over the earlier one.
        ends: Labels of the first and the last position.
        width: Columns of the plot with its labels.
        height: Rows of the plot.
        log: Whether the vertical axis is logarithmic; values that are not positive are left out.
        drawn_with: The characters.

    Returns:
        The lines; none if no value can be drawn.
    """
    scaled = {name: [_scaled(value, log) for value in values] for name, values in series.items()}
    known = [value for values in scaled.values() for value in values if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    columns = max(10, width - LABEL_WIDTH - 2)
    rows = [[" "] * columns for _ in range(height)]
    for marker, values in zip(drawn_with.markers, scaled.values(), strict=False):
        for column, value in _sampled(values, columns).items():
            share = (value - low) / (high - low) if high > low else 0.5
            rows[height - 1 - round(share * (height - 1))][column] = marker
    legend = ", ".join(f"{marker} {name}" for marker, name in zip(drawn_with.markers, series, strict=False))
    lines = [f"{title}  {legend}"]
    for index, row in enumerate(rows):
        share = (height - 1 - index) / (height - 1)
        labeled = index in (0, height // 2, height - 1) and (high > low or index == height // 2)
        value = low + share * (high - low)
        label = f"{10**value if log else value:.3g}" if labeled else ""
        lines.append(f"{label:>{LABEL_WIDTH}} {drawn_with.axis}{''.join(row)}".rstrip())
    lines.append(f"{'':>{LABEL_WIDTH}} {drawn_with.corner}{drawn_with.line * columns}")
    first, last = ends
    lines.append(f"{'':>{LABEL_WIDTH + 2}}{first}{last:>{max(1, columns - len(first))}}")
    return lines


def _scaled(value: int | float | None, log: bool) -> float | None:
    if value is None or not math.isfinite(value) or (log and value <= 0):
        return None
    return math.log10(value) if log else float(value)


def _sampled(values: Sequence[float | None], columns: int) -> dict[int, float]:
    """Column to value: each known value, and those interpolated between known neighbors."""
    scale = (columns - 1) / max(1, len(values) - 1)
    result = {round(index * scale): value for index, value in enumerate(values) if value is not None}
    for column in range(columns if len(values) > 1 else 0):
        position = column / scale
        left, right = values[math.floor(position)], values[min(math.ceil(position), len(values) - 1)]
        if left is not None and right is not None:
            result[column] = left + (position % 1) * (right - left)
    return result
