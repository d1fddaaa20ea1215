"""The smallest effect that a number of seeds can detect, and about how many more seeds should decide."""

import math
from collections.abc import Callable

from fathomlab.analysis.statistics import t_quantile

POWER_QUANTILE = 0.84  # of the normal distribution, for a power of 80%
MOST_SEEDS = 1_000


def minimum_detectable_effect(deviation: float, n: int, level: float = 0.025) -> float:
    """The effect that n seeds detect with a power of about 80%: (t(1 - level, n - 1) + 0.84) sd / sqrt(n).

    Args:
        deviation: Standard deviation of the paired differences.
        n: Number of seeds, at least two.
        level: One-sided level.

    Raises:
        ValueError: If n is below 2.
    """
    if n < 2:
        raise ValueError(f"n must be >= 2, got {n}")
    return (t_quantile(1 - level, n - 1) + POWER_QUANTILE) * deviation / math.sqrt(n)


def additional_seeds(deviation: float, distance: float, n: int, level: float = 0.025) -> int | None:
    """About how many seeds in addition to n should decide; None if more than 1,000 would be needed.

    Args:
        deviation: Standard deviation of the paired differences.
        distance: From the effect to the threshold of the decision.
        n: Seeds so far.
        level: One-sided level of the decision.
    """
    if distance <= 0 or level <= 0:
        return None
    return smallest_sufficient(lambda seeds: minimum_detectable_effect(deviation, seeds, level) <= distance, n)


def smallest_sufficient(enough: Callable[[int], bool], n: int) -> int | None:
    """The smallest k >= 1 with `enough(n + k)`, n + k at least 2; None above 1,000."""
    return next((more for more in range(1, MOST_SEEDS + 1) if n + more > 1 and enough(n + more)), None)
