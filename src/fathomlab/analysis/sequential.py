"""Group-sequential decisions with alpha spending, so that seeds can be added after interim analyses (looks).

At each look, the error spent so far is an O'Brien-Fleming type function of n / budget (Lan & DeMets, 1983). The level of the
look keeps the probability of a false decision at any look so far at that amount. The p value of a t test is compared with it
(the significance-level approach, Jennison & Turnbull, 2000, section 3.3).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fathomlab.analysis.significance import ONE_SIDED
from fathomlab.base.errors import UserError

Floats = NDArray[np.float64]
MOST_LOOKS = 5
POINTS = 601
T_CORRECTION = 0.87  # t statistics of few seeds cross the normal boundaries up to 15% more often (simulated)
FARTHEST = 8.5  # standard errors from 0 at which densities end


@dataclass(frozen=True)
class Look:
    """An interim analysis, after which seeds may be added.

    Attributes:
        n: Number of seeds analyzed.
        of: Budget: the largest number of seeds that was planned at that time.
        spent: One-sided error spent up to this look; None for a look that was not planned.
        level: One-sided level of decisions at this look; None for a look that was not planned.
    """

    n: int
    of: int
    spent: float | None = None
    level: float | None = None


def spending(fraction: float, alpha: float = ONE_SIDED) -> float:
    """The one-sided error available once this fraction of the budget is used: 2 - 2 Phi(z(1 - alpha/2) / sqrt(t))."""
    if fraction <= 0:
        return 0.0
    normal = NormalDist()
    return 2 * normal.cdf(-normal.inv_cdf(1 - alpha / 2) / math.sqrt(min(fraction, 1.0)))


def look_levels(
    looks: Sequence[tuple[int, int]], alpha: float = ONE_SIDED, correction: float = T_CORRECTION
) -> tuple[float, ...]:
    """The one-sided level of each look.

    Args:
        looks: Seeds at the look and the budget at that time; seeds grow from look to look.
        alpha: One-sided error of all looks together.
        correction: Fraction of it that normal theory may use; 1 if the statistic is normal.

    Raises:
        ValueError: If the seeds do not grow, or a budget is below 1.
    """
    sizes = [0, *(n for n, _ in looks)]
    if any(after <= before for before, after in pairwise(sizes)) or any(of < 1 for _, of in looks):
        raise ValueError(f"seeds must grow from look to look and budgets must be >= 1, got {list(looks)}")
    return _levels(tuple(looks), alpha, correction)


def next_look(looks: Sequence[Look], n: int, budget: int) -> Look:
    """The look at n seeds, after these looks.

    Raises:
        UserError: If there were five looks, or the last one had at least as many seeds.
    """
    if len(looks) >= MOST_LOOKS:
        raise UserError(
            "too-many-looks",
            f"no more interim analyses: the error level allows {MOST_LOOKS}, and all are done.",
        )
    if looks and n <= looks[-1].n:
        raise UserError(
            "too-many-looks", f"the last interim analysis had {looks[-1].n} seeds; the next one needs more, got {n}."
        )
    budget = max(budget, n)
    sizes = [*_sizes(looks), (n, budget)]
    return Look(n, budget, spent=_spent(sizes, ONE_SIDED)[-1], level=look_levels(sizes)[-1])


def level_now(looks: Sequence[Look], n: int, alpha: float = ONE_SIDED) -> float:
    """The one-sided level of a decision at n seeds: alpha itself without earlier looks.

    Seeds added since the last look count as another look within the same budget.
    """
    if not looks:
        return alpha
    before = [(look.n, look.of) for look in looks if look.n < n]
    budget = next((look.of for look in looks if look.n >= n), looks[-1].of)
    return look_levels([*before, (n, max(budget, n))], alpha)[-1] if n > 0 else 0.0


def _sizes(looks: Sequence[Look]) -> list[tuple[int, int]]:
    return [(look.n, look.of) for look in looks]


def _spent(looks: Sequence[tuple[int, int]], alpha: float) -> list[float]:
    """The error available up to each look. Raising the budget later does not return error already spent."""
    totals, highest = [], 0.0
    for n, of in looks:
        highest = max(highest, spending(n / of, alpha))
        totals.append(highest)
    return totals


@lru_cache(maxsize=1024)
def _levels(looks: tuple[tuple[int, int], ...], alpha: float, correction: float) -> tuple[float, ...]:
    """Armitage, McPherson & Rowe (1969): density of the statistic on paths that have crossed no boundary, look by look."""
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

    levels: list[float] = []
    positions = density = np.zeros(0)
    spent_before, n_before = 0.0, 0
    for (n, _), spent in zip(looks, _spent(looks, alpha), strict=True):
        step = math.sqrt(n - n_before)
        boundary = _solve(partial(_crossing, positions, density, n, step), correction * (spent - spent_before))
        levels.append(float(ndtr(-boundary)))
        # weights of the trapezoid rule are part of `density`; sums, not means, so that steps add
        ahead = np.linspace(-FARTHEST, min(boundary, FARTHEST), POINTS) * math.sqrt(n)
        width = np.full(POINTS, ahead[1] - ahead[0])
        width[[0, -1]] /= 2
        if n_before == 0:
            weights = np.exp(-0.5 * (ahead / step) ** 2)
        else:
            weights = np.exp(-0.5 * ((ahead[:, None] - positions) / step) ** 2) @ density
        positions, density = ahead, weights * width / (step * math.sqrt(2 * math.pi))
        spent_before, n_before = spent, n
    return tuple(levels)


def _crossing(positions: Floats, density: Floats, n: int, step: float, boundary: float) -> float:
    """Probability that paths with these weights (any path at the first look) end above `boundary` at n seeds."""
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

    if len(positions) == 0:
        return float(ndtr(-boundary))
    return float(density @ ndtr((positions - boundary * math.sqrt(n)) / step))


def _solve(crossing: Callable[[float], float], allowed: float) -> float:
    """The boundary crossed with probability `allowed`; 40, which nothing crosses, if that is 0."""
    low, high = -FARTHEST, 40.0
    if allowed <= 0:
        return high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle) > allowed else (low, middle)
    return high
