"""Intervals against closed forms and published tables."""

import math
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from fathomlab.analysis.statistics import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    newcombe_interval,
    paired_interval,
    ratio_interval,
    t_quantile,
    wilson_interval,
)


def test_mean_interval_of_two_uses_the_cauchy_quantile():
    """With one degree of freedom t(p) = tan(pi (p - 1/2)), and the half width is t |a - b| / 2."""
    result = mean_interval([1.0, 4.0])
    half = math.tan(math.pi * 0.475) * 1.5
    assert result.mean == 2.5
    assert result.n == 2
    assert result.low == pytest.approx(2.5 - half, rel=1e-9)
    assert result.high == pytest.approx(2.5 + half, rel=1e-9)


@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_quantile_of_three_has_a_closed_form(probability: float):
    """With two degrees of freedom t(p) = (2p - 1) / sqrt(2 p (1 - p))."""
    closed = (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    assert t_quantile(probability, 2) == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize(("freedom", "printed"), [(4, 2.776), (5, 2.571), (9, 2.262), (29, 2.045)])
def test_quantiles_equal_published_values(freedom: int, printed: float):
    """The 97.5 % column that every textbook prints."""
    assert t_quantile(0.975, freedom) == pytest.approx(printed, abs=5e-4)


def test_mean_interval_of_one_value_is_open():
    """A single seed has a mean and nothing else."""
    assert paired_interval([0.7]) == Interval(0.7, None, None, 1)


def test_mean_interval_of_equal_values_has_no_width():
    """Without spread the interval is the mean."""
    assert paired_interval([0.25] * 5) == Interval(0.25, 0.25, 0.25, 5)


def test_mean_interval_grows_with_the_level():
    """99 % holds 95 %."""
    narrow, wide = (paired_interval([1.0, 2.0, 4.0, 3.0], level) for level in (0.95, 0.99))
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_wilson_equals_its_formula():
    """8 of 10: the score interval that Newcombe's formula gives by hand."""
    z = 1.959963984540054
    result = wilson_interval(8, 10)
    half = z * math.sqrt(0.8 * 0.2 / 10 + z * z / 400)
    assert result.mean == 0.8
    assert result.low == pytest.approx((0.8 + z * z / 20 - half) / (1 + z * z / 10), rel=1e-12)
    assert (result.low, result.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_wilson_of_no_success_has_a_closed_form():
    """k = 0: from 0 to z^2 / (n + z^2); k = n is its mirror image."""
    z = 1.959963984540054
    result, mirrored = wilson_interval(0, 5), wilson_interval(5, 5)
    assert result.low == 0
    assert result.high == pytest.approx(z * z / (5 + z * z), rel=1e-12)
    assert mirrored.low == pytest.approx(1 - z * z / (5 + z * z), rel=1e-12)
    assert mirrored.high == 1


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_intervals_reject_impossible_levels(level: float):
    """A level is a fraction."""
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0, 2.0], level)
    with pytest.raises(ValueError, match="level"):
        wilson_interval(1, 2, level)


def test_intervals_reject_impossible_counts():
    """No value, no trial, more successes than trials."""
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(successes, n)


def test_statistics_import_no_scipy():
    """Commands that print no interval must not pay for scipy."""
    code = "import sys; from fathomlab.analysis import audit, compare, verdicts; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NEWCOMBE = [
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0),
    ((10, 10), (0, 10), 0.6075, 1.0),
]


@pytest.mark.parametrize(("first", "second", "low", "high"), NEWCOMBE)
def test_newcombe_equals_published_values(first: tuple[int, int], second: tuple[int, int], low: float, high: float):
    """Newcombe (1998), Table II, method 10."""
    result = newcombe_interval(first, second)
    assert (result.low, result.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))
    assert result.mean == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert result.n == min(first[1], second[1])


def test_newcombe_is_antisymmetric():
    """The difference changes its sign."""
    one, other = newcombe_interval((7, 9), (2, 8)), newcombe_interval((2, 8), (7, 9))
    assert (one.low, one.high) == (pytest.approx(-(other.high or 0)), pytest.approx(-(other.low or 0)))


def test_interquartile_mean_equals_scipy():
    """A quarter, rounded down, is cut off at each end."""
    values = [math.sin(7 * place) for place in range(23)]
    for n in (1, 3, 4, 7, 8, 23):
        assert interquartile_mean(values[:n]) == pytest.approx(float(stats.trim_mean(values[:n], 0.25)))
    with pytest.raises(ValueError, match="at least one value"):
        interquartile_mean([])


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_bootstrap_is_deterministic_and_near_scipy(statistic: Literal["mean", "iqm"]):
    """The percentile interval of another implementation, within what 10,000 resamples leave open."""
    values = [math.sin(3 * place) + 0.1 * place for place in range(24)]
    result = bootstrap_interval(values, statistic)
    assert result == bootstrap_interval(values, statistic)
    function = np.mean if statistic == "mean" else lambda drawn, axis: stats.trim_mean(drawn, 0.25, axis=axis)
    other = stats.bootstrap(
        (values,), function, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    width = other.high - other.low
    assert result.low == pytest.approx(other.low, abs=0.03 * width)
    assert result.high == pytest.approx(other.high, abs=0.03 * width)
    assert result.mean == pytest.approx(function(np.array([values]), axis=1)[0])


def test_bootstrap_rejects_fewer_than_twenty():
    """With fewer seeds it covers too little."""
    with pytest.raises(ValueError, match="at least 20 values"):
        bootstrap_interval([0.1] * 19)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([0.1] * 20, level=95)


def test_ratio_interval_inverts_the_t_interval():
    """The interval contains R exactly if the t interval of the mean of numerators - R denominators contains zero."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, y = rng.normal(1, 0.5, 6).tolist(), rng.normal(2, 0.4, 6).tolist()
        interval = ratio_interval(x, y)
        low, high = interval.low, interval.high
        assert low is not None
        assert high is not None
        assert interval.mean == pytest.approx(sum(x) / sum(y))
        for end, inside in ((low, 1e-6), (high, -1e-6)):
            for step, contains in ((inside, True), (-inside, False)):
                mean = mean_interval([a - (end + step) * b for a, b in zip(x, y, strict=True)])
                assert mean.low is not None
                assert mean.high is not None
                assert (mean.low <= 0 <= mean.high) is contains


def test_ratio_interval_is_unbounded_if_the_denominator_may_be_zero():
    interval = ratio_interval([1.0, 1.1, 0.9], [1.0, -1.0, 0.5])
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert math.isnan(ratio_interval([1.0, 2.0], [1.0, -1.0]).mean)
    assert ratio_interval([1.0], [4.0]) == Interval(0.25, None, None, 1)
    with pytest.raises(ValueError, match="equally many"):
        ratio_interval([1.0], [])
