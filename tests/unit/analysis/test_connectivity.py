"""Barriers of lines: closed forms, and intervals over seeds."""

import pytest

from fathomlab.analysis.connectivity import METRICS, Connectivity, Line
from fathomlab.analysis.statistics import mean_interval

ALPHAS = (0.0, 0.5, 1.0)


def line(condition: str, seed: int, losses: tuple[float, ...], accuracies: tuple[float, ...], stream: int = 1) -> Line:
    values = {metric: losses if metric.endswith("loss") else accuracies for metric in METRICS}
    return Line(condition, {"depth": len(condition)}, seed, (0, stream), ALPHAS, values)


def test_barrier_is_the_worst_point_minus_the_mean_of_the_ends():
    uneven = line("a", 1, (1.0, 2.5, 2.0), (0.9, 0.1, 0.7))
    assert uneven.barrier("test/loss") == pytest.approx(2.5 - 1.5)
    assert uneven.barrier("train/accuracy") == pytest.approx(0.8 - 0.1)
    falling = line("a", 1, (3.0, 2.0, 1.0), (0.5, 0.7, 0.9))
    assert falling.barrier("test/loss") == pytest.approx(1.0)  # an end is the worst point
    assert falling.barrier("test/accuracy") == pytest.approx(0.2)
    assert line("a", 1, (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)).barrier("test/loss") == 0


def test_intervals_are_over_seeds_and_not_over_lines():
    """Three lines of three streams of a seed are averaged first."""
    lines = [line("a", seed, (0.0, height, 0.0), (1.0, 1 - height, 1.0)) for seed, height in ((1, 0.1), (2, 0.4))]
    lines += [line("b", 1, (0.0, height, 0.0), (1.0, 1.0, 1.0), stream) for stream, height in enumerate((1.0, 2.0), 1)]
    result = Connectivity(tuple(lines), 3)
    assert result.barrier("a", "test/loss") == mean_interval([0.1, 0.4])
    assert (result.barrier("b", "test/loss").mean, result.barrier("b", "test/loss").n) == (1.5, 1)
    table = result.barriers()
    assert list(zip(table["condition"], table["metric"], strict=True)) == [
        (name, key) for name in "ab" for key in METRICS
    ]
    assert table["seeds"] == [2] * 4 + [1] * 4
    assert table["barrier"][1] == pytest.approx(0.25)
    assert table["low"][4] is None


def test_table_has_a_row_per_point():
    table = Connectivity((line("a", 5, (0.0, 1.0, 2.0), (0.1, 0.2, 0.3)),)).table()
    assert (table["alpha"], table["test/loss"], table["train/accuracy"]) == ([*ALPHAS], [0, 1, 2], [0.1, 0.2, 0.3])
    assert (table["stream_0"], table["stream_1"], table["seed"], table["depth"]) == ([0] * 3, [1] * 3, [5] * 3, [1] * 3)
