"""What the parts of the benchmark share: options, targets that are met or missed, tables, means, and fitted slopes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, Protocol


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        rounds: Interleaved rounds.
        corners: Whether to measure four cells of the grid instead of nine, and one round of what takes minutes.
        against: The commit whose `make run` is compared with this one; `""` without comparison.
    """

    rounds: int = 5
    corners: bool = False
    against: str = ""

    def at_most(self, rounds: int) -> int:
        """Rounds of a measurement that takes minutes."""
        return 1 if self.corners else min(rounds, self.rounds)


@dataclass(frozen=True)
class Target:
    """A number that should be reached.

    Attributes:
        what: Description.
        wanted: The number.
        reached: The measured number; of ratios between systems, that of their CPU times.
        unit: Follows both; `%` shows fractions in percent.
        most: Whether the number is the largest allowed, not the smallest.
        wall: The measured number by wall time, which does not decide; None if there is only one.
    """

    what: str
    wanted: float
    reached: float
    unit: str = "x"
    most: bool = False
    wall: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was reached; NaN is not."""
        return self.reached <= self.wanted if self.most else self.reached >= self.wanted

    def row(self) -> list[str]:
        """Return the row of the table of targets."""
        sign = "at most" if self.most else "at least"
        wall = "" if self.wall is None else self._shown(self.wall)
        numbers = [f"{sign} {self._shown(self.wanted)}", self._shown(self.reached), wall]
        return [self.what, *numbers, "met" if self.met else "missed"]

    def _shown(self, number: float) -> str:
        return f"{100 * number:.3g}%" if self.unit == "%" else f"{number:.3g}{self.unit}"


class Part(Protocol):
    """A module that measures one part, and describes its record."""

    TITLE: str

    def measure(self, options: Options) -> dict[str, Any]:
        """Return the record: plain data."""
        ...

    def text(self, record: Mapping[str, Any]) -> list[str]:
        """Lines of Markdown."""
        ...

    def targets(self, record: Mapping[str, Any]) -> list[Target]:
        """Return the targets that this part decides."""
        ...


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def geometric_mean(numbers: Iterable[float]) -> float:
    """Geometric mean of positive numbers."""
    logarithms = [log(number) for number in numbers]
    return exp(sum(logarithms) / len(logarithms))


def exponent(points: Mapping[float, float]) -> float:
    """b of the least-squares fit y = a x^b: the slope on logarithmic axes."""
    across, up = ([log(number) for number in numbers] for numbers in (points.keys(), points.values()))
    center, height = sum(across) / len(across), sum(up) / len(up)
    rise = sum((x - center) * (y - height) for x, y in zip(across, up, strict=True))
    return rise / sum((x - center) ** 2 for x in across)
