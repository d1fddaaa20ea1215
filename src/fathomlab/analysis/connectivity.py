"""Linear mode connectivity: loss and accuracy on the line between networks that saw one initialization's data in two orders."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.base.labels import Levels

METRICS = ("train/loss", "train/accuracy", "test/loss", "test/accuracy")


@dataclass(frozen=True)
class Line:
    """The line between the weights of two trials that differ only in the order of their batches.

    Attributes:
        condition: Label of their condition, without the order.
        factors: Its levels by dotted key, without the order.
        seed: Their seed.
        streams: `data.order_stream` at alpha 0 and at alpha 1.
        alphas: Points of the line.
        values: Metric to its value at each point: losses in nats, accuracies as fractions.
    """

    condition: str
    factors: Levels
    seed: int
    streams: tuple[int, int]
    alphas: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]

    def barrier(self, metric: str) -> float:
        """How much worse the worst point is than the mean of the two ends (Frankle et al., 2020, arXiv 1912.05671, section 2).

        In nats for losses. For accuracies it is the same number of the error, as a fraction.
        """
        values = self.values[metric]
        ends = (values[0] + values[-1]) / 2
        return ends - min(values) if metric.endswith("accuracy") else max(values) - ends


@dataclass(frozen=True)
class Connectivity:
    """Lines between trials of equal initialization.

    Attributes:
        lines: One per pair of trials.
        left_out: Number of pairs of which an end has not finished, such as a diverged one.
    """

    lines: tuple[Line, ...]
    left_out: int = 0

    def table(self) -> dict[str, list[Any]]:
        """Plain columns, one row per point: condition, factors, seed, both streams, alpha, and the four metrics."""
        keys = dict.fromkeys(key for line in self.lines for key in line.factors)
        columns: dict[str, list[Any]] = {
            name: [] for name in ("condition", *keys, "seed", "stream_0", "stream_1", "alpha", *METRICS)
        }
        for line in self.lines:
            shared = [line.condition, *(line.factors.get(key) for key in keys), line.seed, *line.streams]
            for index, alpha in enumerate(line.alphas):
                row = [*shared, alpha, *(line.values[metric][index] for metric in METRICS)]
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
        return columns

    def barrier(self, condition: str, metric: str) -> Interval:
        """Mean barrier of a condition with its 95% t interval over seeds; several lines of a seed are averaged first.

        Raises:
            ValueError: If the condition has no line.
        """
        by_seed: dict[int, list[float]] = {}
        for line in self.lines:
            if line.condition == condition:
                by_seed.setdefault(line.seed, []).append(line.barrier(metric))
        return mean_interval([fmean(values) for values in by_seed.values()])

    def barriers(self) -> dict[str, list[Any]]:
        """Plain columns, one row per condition and metric: condition, metric, seeds, barrier, low, high."""
        columns: dict[str, list[Any]] = {
            name: [] for name in ("condition", "metric", "seeds", "barrier", "low", "high")
        }
        for condition in dict.fromkeys(line.condition for line in self.lines):
            for metric in METRICS:
                interval = self.barrier(condition, metric)
                row = (condition, metric, interval.n, interval.mean, interval.low, interval.high)
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
        return columns
