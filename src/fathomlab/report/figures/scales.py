"""Axes with round ticks, and the width of labels."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from fathomlab.report.numbers import MINUS

FONT_SIZE = 12
ELLIPSIS = "\u2026"
LARGEST = 1e100  # larger numbers overflow in the arithmetic of axes; they are drawn at the end
NARROW, BROAD = frozenset("fijlrt.,:;'|!()[]I -"), frozenset("mwMW@%\u2014")
SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        label: Quantity with its unit in parentheses.
        low: Value at the start; below `high`.
        high: Value at the end.
        ticks: Values with a label.
        log: Whether the scale is logarithmic.
        texts: Labels of the ticks; empty for their numbers.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False
    texts: tuple[str, ...] = ()

    def position(self, value: float) -> float:
        """The position of a value on the axis: 0 at the start, 1 at the end."""
        low, high, scaled = (math.log10(number) if self.log else number for number in (self.low, self.high, value))
        return (scaled - low) / (high - low)

    def clamped(self, value: float) -> float:
        """The value, or the end of the axis that is nearest to it."""
        return value if math.isnan(value) else min(self.high, max(self.low, value))

    def tick_labels(self) -> list[str]:
        """The texts of the ticks."""
        if self.texts:
            return list(self.texts)
        return [power_text(tick) for tick in self.ticks] if self.log else tick_texts(self.ticks)

    @property
    def quantity(self) -> str:
        """The label without its unit."""
        return self.label.rpartition(" (")[0] if self.unit else self.label

    @property
    def unit(self) -> str:
        """The unit in the label, with a space in front unless it is %."""
        unit = self.label.rpartition("(")[2].removesuffix(")") if self.label.endswith(")") else ""
        return unit if unit in ("", "%") else f" {unit}"

    def amount(self, value: float) -> str:
        """A value with its unit, in four digits: "58.64%", "−0.3125 nats"."""
        return f"{_digits(value)}{self.unit}"

    def span(self, low: float, high: float) -> str:
        """The two ends of an interval with their unit."""
        return f"{_digits(low)} to {self.amount(high)}"

    def fitted(self, pixels: float) -> "Axis":
        """The axis with fewer ticks if their texts would overlap on a width of `pixels`: own texts at the ends only."""
        pairs = pairwise(zip(self.ticks, self.tick_labels(), strict=True))
        if len(self.ticks) < 3 or all(
            (self.position(right) - self.position(left)) * pixels > (text_width(first) + text_width(second)) / 2 + 4
            for (left, first), (right, second) in pairs
        ):
            return self
        if self.texts:
            return replace(self, ticks=(self.ticks[0], self.ticks[-1]), texts=(self.texts[0], self.texts[-1]))
        start = self.ticks.index(0.0) % 2 if 0.0 in self.ticks else 0
        return replace(self, ticks=self.ticks[start::2]).fitted(pixels)


def linear_axis(label: str, low: float, high: float, count: int = 5) -> Axis:
    """An axis from `low` to `high` with about `count` round ticks."""
    return Axis(label, low, high, round_ticks(low, high, count))


def integer_axis(label: str, high: float) -> Axis:
    """An axis from 0 to `high` with about 5 round ticks, none of them between two integers.

    Example:
        >>> integer_axis("layer", 2).ticks, integer_axis("layer", 40).ticks
        ((0.0, 1.0, 2.0), (0.0, 10.0, 20.0, 30.0, 40.0))
    """
    return Axis(label, 0, high, tuple(tick for tick in round_ticks(0, high) if tick.is_integer()))


def log_axis(label: str, low: float, high: float) -> Axis:
    """A logarithmic axis; `low` and `high` are above zero."""
    low = min(LARGEST / 10, max(1 / LARGEST, low))
    high = min(LARGEST, max(2 * low, high))
    return Axis(label, low, high, power_ticks(low, high), log=True)


def range_of(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """The range of values with a margin, as a share of it; never empty."""
    known = [min(LARGEST, max(-LARGEST, value)) for value in values]
    low, high = min(known, default=0.0), max(known, default=1.0)
    space = margin * (high - low) or 0.05 * abs(high) or 1.0
    return low - space, high + space


def round_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """About `count` multiples of 1, 2, or 5 times a power of ten.

    Example:
        >>> round_ticks(0.03, 1.0), round_ticks(-25, 0.5, 3)
        ((0.2, 0.4, 0.6, 0.8, 1.0), (-20.0, -10.0, 0.0))
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((unit * power for unit in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    tolerance = 1e-9 * step
    first, last = math.ceil((low - tolerance) / step), math.floor((high + tolerance) / step)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def power_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Powers of ten; within two decades, also 2 and 5 times them."""
    first, last = math.log10(low), math.log10(high)
    if last - first < 2:
        units = (1, 2, 5) if last - first < 1.2 else (1, 3)
        every = [unit * 10.0**power for power in range(math.floor(first), math.ceil(last) + 1) for unit in units]
        ticks = tuple(tick for tick in every if low * 0.999 <= tick <= high * 1.001)
        return ticks if len(ticks) > 1 else round_ticks(low, high, count)
    every = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    step = math.ceil(len(every) / (count + 1))
    return tuple(10.0**power for power in every if power % step == 0)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Numbers with equal decimals and a true minus sign.

    Example:
        >>> tick_texts((-0.5, 0.0, 0.5)), tick_texts((20.0, 40.0))
        (['−0.5', '0.0', '0.5'], ['20', '40'])
    """
    digits = next((digits for digits in range(7) if all(abs(t - round(t, digits)) < 1e-9 for t in ticks)), 7)
    if max(map(abs, ticks), default=0) < 1e5 and digits < 5:
        return [f"{tick:,.{digits}f}".replace("-", MINUS) for tick in ticks]
    return [f"{tick:.2g}".replace("-", MINUS) for tick in ticks]


def power_text(value: float) -> str:
    """A number on a logarithmic axis.

    Example:
        >>> power_text(1e-4), power_text(0.02), power_text(100.0)
        ('10⁻⁴', '0.02', '100')
    """
    power = math.log10(value)
    if abs(power) < 3.01 and value < 1e4:
        return f"{value:.3g}"
    exponent = round(power)
    if abs(power - exponent) < 1e-6:
        return "10" + str(exponent).translate(SUPERSCRIPTS)
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """The width of a text in pixels, about; never much too small."""
    return size * sum(0.36 if char in NARROW else 0.95 if char in BROAD else 0.63 for char in text)


def shortened(text: str, width: float) -> str:
    """A text that fits, with an ellipsis in place of its middle if it is too long."""
    if text_width(text) <= width:
        return text
    keep = max(4, int(len(text) * width / text_width(text)) - 1)
    return f"{text[: keep - keep // 2]}\u2026{text[-(keep // 2) :]}"


def shortened_alike(texts: Sequence[str], width: float) -> list[str]:
    """Texts that fit. If one is too long, words that all have in the same place are left out: the longest, then its neighbors.

    Example:
        >>> shortened_alike(["width 8, learning rate 0.01", "width 16, learning rate 0.001"], 130)
        ['width 8, … 0.01', 'width 16, … 0.001']
    """
    rows = [text.split() for text in texts]
    if len(set(map(len, rows))) == 1 and len(set(texts)) > 1:
        shared = [position for position, words in enumerate(zip(*rows, strict=True)) if len(set(words)) == 1]
        first = rows[0]
        while shared and max(map(text_width, texts)) > width:
            position = max(
                shared, key=lambda index: (ELLIPSIS in first[max(0, index - 1) : index + 2], len(first[index]))
            )
            shared.remove(position)
            for row in rows:
                row[position] = ELLIPSIS
            texts = [" ".join(word for word, _ in groupby(row)) for row in rows]
    short = [shortened(text, width) for text in texts]
    return [re.sub(f"{ELLIPSIS}[ {ELLIPSIS}]*{ELLIPSIS}", ELLIPSIS, text) for text in short]


def evenly_spaced_indices(length: int, limit: int) -> list[int]:
    """At most `limit` evenly spaced indices below `length`, including the first two and the last."""
    if length <= limit:
        return list(range(length))
    rest = [2 + round(index * (length - 3) / (limit - 3)) for index in range(limit - 2)]
    return sorted({0, 1, *rest})


def spread_apart(targets: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the order of the targets and as close to them as possible.

    Example:
        >>> spread_apart([0.0, 1.0, 30.0], 10)
        [-4.5, 5.5, 30.0]
    """
    order = sorted(range(len(targets)), key=lambda index: targets[index])
    blocks: list[list[float]] = []  # least squares under an order: neighbors that collide share their mean
    for rank, index in enumerate(order):
        blocks.append([targets[index] - rank * gap])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    levels = [_mean(block) for block in blocks for _ in block]
    positions = [0.0] * len(targets)
    for rank, index in enumerate(order):
        positions[index] = levels[rank] + rank * gap
    return positions


def _digits(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
