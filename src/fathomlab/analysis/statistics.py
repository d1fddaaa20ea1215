"""Intervals over seeds: the paired t interval by default, Wilson's for fractions of seeds that succeed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval; `low` and `high` are None where one value allows none."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of a mean: mean +- t((1 + level) / 2, n - 1) * sd / sqrt(n), sd with n - 1.

    Args:
        values: One for each seed; at least one.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: No value, or a level outside (0, 1).

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0])
        >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3), interval.n
        (2.0, -0.484, 4.484, 3)
    """
    n = len(values)
    if n == 0:
        raise ValueError("an interval needs at least one value (got none)")
    if not 0 < level < 1:
        raise ValueError(f"level should be between 0 and 1 (got {level!r})")
    mean = fmean(values)
    if n < 2:
        return Interval(mean, None, None, n)
    half = t_quantile((1 + level) / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_interval(differences: Sequence[float], level: float = 0.95) -> Interval:
    """The t interval of the mean difference of two conditions, seed by seed: the seed is the unit of replication.

    Args:
        differences: One for each seed that both conditions have.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: No difference, or a level outside (0, 1).
    """
    return mean_interval(differences, level)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a fraction of seeds.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with p = successes / n and
    z the normal quantile; unlike p +- z sd it stays inside [0, 1] and has width at p = 0 and p = 1.

    Raises:
        ValueError: n below 1, successes outside [0, n], or a level outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes should be between 0 and n, and n at least 1 (got {successes} of {n})")
    if not 0 < level < 1:
        raise ValueError(f"level should be between 0 and 1 (got {level!r})")
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale  # exact where rounding would leave 3e-17
    high = 1.0 if successes == n else (centre + half) / scale
    return Interval(p, low, high, n)


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t with `freedom` degrees of freedom."""
    # half the start-up time of scipy.stats, which calls the same function
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtrit(freedom, probability))


def t_tail(t: float, freedom: int) -> float:
    """P(T > t) of Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtr  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtr(freedom, -t))
