"""How small an effect so many seeds can show, and about how many more would decide."""

import math
from collections.abc import Callable

from fathomlab.analysis.statistics import t_quantile

POWER_QUANTILE = 0.84  # of the normal distribution, for a power of 80 %
MOST_SEEDS = 1_000


def minimum_detectable(deviation: float, n: int, level: float = 0.025) -> float:
    """The effect that n seeds would show with a power of about 80 %: (t(1 - level, n - 1) + 0.84) sd / sqrt(n).

    Args:
        deviation: Standard deviation of the paired differences.
        n: Seeds, at least two.
        level: One-sided.

    Raises:
        ValueError: n below 2.
    """
    if n < 2:
        raise ValueError(f"an effect that can be detected needs at least two seeds (got {n})")
    return (t_quantile(1 - level, n - 1) + POWER_QUANTILE) * deviation / math.sqrt(n)


def more_seeds(deviation: float, distance: float, n: int, level: float = 0.025) -> int | None:
    """About how many seeds beside the n there are would decide; None where over 1,000 would be needed.

    Args:
        deviation: Standard deviation of the paired differences.
        distance: From the effect to the border that it must be told from.
        n: Seeds so far.
        level: One-sided level of the decision.
    """
    if distance <= 0 or level <= 0:
        return None
    return first_count(lambda seeds: minimum_detectable(deviation, seeds, level) <= distance, n)


def first_count(enough: Callable[[int], bool], n: int) -> int | None:
    """The smallest k >= 1 with `enough(n + k)`, n + k at least 2; None above 1,000."""
    return next((more for more in range(1, MOST_SEEDS + 1) if n + more > 1 and enough(n + more)), None)
