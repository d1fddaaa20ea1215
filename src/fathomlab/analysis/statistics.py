"""Intervals over seeds: the paired t interval, Wilson's and Newcombe's for fractions, and the bootstrap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import Literal

import numpy as np

from fathomlab.base.identity import make_rng

FEWEST_FOR_BOOTSTRAP = 20
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval; `low` and `high` are None for a single value."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of a mean: mean +- t((1 + level) / 2, n - 1) * sd / sqrt(n), sd with n - 1.

    Args:
        values: One per seed; at least one.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: If there is no value, or the level is outside (0, 1).

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0])
        >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3), interval.n
        (2.0, -0.484, 4.484, 3)
    """
    n = len(values)
    if n == 0:
        raise ValueError("an interval needs at least one value, got none")
    _check_level(level)
    mean = fmean(values)
    if n < 2:
        return Interval(mean, None, None, n)
    half = t_quantile((1 + level) / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_interval(differences: Sequence[float], level: float = 0.95) -> Interval:
    """The t interval of the mean difference of two conditions, paired by seed (the seed is the unit of replication).

    Args:
        differences: One per seed that both conditions have.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: If there is no difference, or the level is outside (0, 1).
    """
    return mean_interval(differences, level)


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], level: float = 0.95) -> Interval:
    """Fieller's interval of the ratio of two paired means (Fieller, 1954, J. Royal Statistical Society B 16, section 2).

    It contains each R for which the t interval of the mean of `numerators - R * denominators` contains zero.

    Args:
        numerators: One per seed.
        denominators: One per seed, in the same order.
        level: Coverage, between 0 and 1.

    Returns:
        The ratio of the means. It has no ends for one seed, and the ends are infinite if the interval of the mean denominator
        contains zero. The ratio is NaN if that mean is zero.

    Raises:
        ValueError: If there is no value, the numbers of values differ, or the level is outside (0, 1).

    Example:
        >>> interval = ratio_interval([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
        >>> interval.mean, round(interval.low, 3), round(interval.high, 3)
        (0.5, -0.121, 1.121)
    """
    n = len(numerators)
    if n == 0 or n != len(denominators):
        raise ValueError(f"a ratio needs equally many values of both, got {n} and {len(denominators)}")
    _check_level(level)
    top, bottom = fmean(numerators), fmean(denominators)
    ratio = top / bottom if bottom else math.nan
    if n < 2:
        return Interval(ratio, None, None, n)
    t = t_quantile((1 + level) / 2, n - 1)
    scale = t * t / (n * (n - 1))
    deviations = [(a - top, b - bottom) for a, b in zip(numerators, denominators, strict=True)]
    # The ends are the roots of a R^2 - 2 b R + c = 0.
    a = bottom * bottom - scale * math.fsum(y * y for _, y in deviations)
    b = top * bottom - scale * math.fsum(x * y for x, y in deviations)
    c = top * top - scale * math.fsum(x * x for x, _ in deviations)
    if a <= 0:
        return Interval(ratio, -math.inf, math.inf, n)
    half = math.sqrt(max(0.0, b * b - a * c))
    return Interval(ratio, (b - half) / a, (b + half) / a, n)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a fraction of seeds.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with p = successes / n and
    z the normal quantile. Unlike p +- z sd, it stays inside [0, 1] and has a width at p = 0 and p = 1.

    Raises:
        ValueError: If n is below 1, successes are outside [0, n], or the level is outside (0, 1).
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n, and n at least 1, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    center = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (center - half) / scale  # exact: rounding would leave 3e-17
    high = 1.0 if successes == n else (center + half) / scale
    return Interval(p, low, high, n)


def newcombe_interval(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval of a difference of two fractions (1998, Statistics in Medicine 17, method 10).

    It combines Wilson's limits (l, u) of each fraction: d - sqrt((p1 - l1)^2 + (u2 - p2)^2) to
    d + sqrt((u1 - p1)^2 + (p2 - l2)^2) with d = p1 - p2. The fractions are treated as independent.

    Args:
        first: Successes and n.
        second: Successes and n of the second fraction.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: As in `wilson_interval`.
    """
    ends = wilson_interval(*first, level), wilson_interval(*second, level)
    (low1, high1), (low2, high2) = ((end.low or 0.0, 1.0 if end.high is None else end.high) for end in ends)
    p, q = ends[0].mean, ends[1].mean
    low, high = p - q - math.hypot(p - low1, high2 - q), p - q + math.hypot(high1 - p, q - low2)
    return Interval(p - q, low, high, min(first[1], second[1]))


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: a quarter of the values, rounded down, is removed at each end.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("a mean needs at least one value, got none")
    cut = len(values) // 4
    return fmean(sorted(values)[cut : len(values) - cut])


def bootstrap_interval(
    values: Sequence[float], statistic: Literal["mean", "iqm"] = "mean", level: float = 0.95
) -> Interval:
    """The percentile bootstrap of the mean, or of the interquartile mean (Agarwal et al., 2021), 10,000 resamples.

    The same values always give the same interval. With 5 seeds, its nominal 95% would be 84%.

    Raises:
        ValueError: If there are fewer than 20 values, or the level is outside (0, 1).
    """
    n = len(values)
    if n < FEWEST_FOR_BOOTSTRAP:
        raise ValueError(f"the bootstrap needs at least {FEWEST_FOR_BOOTSTRAP} values, got {n}")
    _check_level(level)
    picked = make_rng(0, "bootstrap", n).integers(0, n, size=(RESAMPLES, n))
    drawn = np.asarray(values, dtype=np.float64)[picked]
    if statistic == "mean":
        center, means = fmean(values), drawn.mean(axis=1)
    else:
        cut = n // 4
        center, means = interquartile_mean(values), np.sort(drawn, axis=1)[:, cut : n - cut].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(center, float(low), float(high), n)


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t with `freedom` degrees of freedom."""
    # scipy.stats calls the same function and takes twice as long to import
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtrit(freedom, probability))


def t_tail(t: float, freedom: int) -> float:
    """P(T > t) of Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtr  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtr(freedom, -t))


def chi_squared_quantile(probability: float, freedom: int) -> float:
    """The quantile of the chi-squared distribution with `freedom` degrees of freedom."""
    from scipy.special import chdtri  # pyright: ignore[reportMissingTypeStubs]

    return float(chdtri(freedom, 1 - probability))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
