"""What the parts of the benchmark share: what is asked for, targets that are met or missed, tables, fitted slopes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Protocol


@dataclass(frozen=True)
class Asked:
    """How much is measured: rounds of everything, and four cells of the grid instead of nine."""

    rounds: int = 5
    corners: bool = False


@dataclass(frozen=True)
class Target:
    """A number that should be reached.

    Attributes:
        what: Who and what, in words.
        wanted: The number.
        reached: What was measured.
        unit: Stands behind both; `%` shows fractions in percent.
        most: Whether the number is the largest allowed, not the smallest.
    """

    what: str
    wanted: float
    reached: float
    unit: str = "x"
    most: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached; a number that is none is not."""
        return self.reached <= self.wanted if self.most else self.reached >= self.wanted

    def row(self) -> list[str]:
        """As the table of targets shows it."""
        sign = "at most" if self.most else "at least"
        return [
            self.what,
            f"{sign} {self._shown(self.wanted)}",
            self._shown(self.reached),
            "met" if self.met else "missed",
        ]

    def _shown(self, number: float) -> str:
        return f"{100 * number:.3g}%" if self.unit == "%" else f"{number:.3g}{self.unit}"


class Part(Protocol):
    """A module that measures one part and says what it found."""

    TITLE: str

    def measure(self, asked: Asked) -> dict[str, Any]:
        """Plain data of what was found."""
        ...

    def text(self, found: Mapping[str, Any]) -> list[str]:
        """Lines of Markdown."""
        ...

    def targets(self, found: Mapping[str, Any]) -> list[Target]:
        """The targets that this part decides."""
        ...


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, and an empty one behind it."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def exponent(points: Mapping[float, float]) -> float:
    """b of the least-squares fit y = a x^b: the slope on logarithmic axes."""
    across, up = ([log(number) for number in numbers] for numbers in (points.keys(), points.values()))
    center, height = sum(across) / len(across), sum(up) / len(up)
    rise = sum((x - center) * (y - height) for x, y in zip(across, up, strict=True))
    return rise / sum((x - center) ** 2 for x in across)
