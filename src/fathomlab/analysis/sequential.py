"""Looking at the results and adding seeds without believing too much: group-sequential decisions with alpha spending.

At each look the error that may have been spent so far is an O'Brien-Fleming type function of n / budget (Lan & DeMets,
1983); the level of the look is what keeps the chance of a false decision at any look so far at that amount. The p of a t test
is held against it (the significance-level approach, Jennison & Turnbull, 2000, section 3.3).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomlab.analysis.significance import ONE_SIDED
from fathomlab.base.problems import UserError

Floats = NDArray[np.float64]
MOST_LOOKS = 5
POINTS = 601
CAUTION = 0.87  # t statistics of few seeds cross the normal borders up to 15 % more often (simulated)
FARTHEST = 8.5  # standard errors from 0 at which densities end


@dataclass(frozen=True)
class Extension:
    """How many seeds to add now, and why."""

    seeds: int
    reason: str


def spending(fraction: float, alpha: float = ONE_SIDED) -> float:
    """The one-sided error that may be spent once this fraction of the budget is used: 2 - 2 Phi(z(1 - alpha/2) / sqrt(t))."""
    if fraction <= 0:
        return 0.0
    normal = NormalDist()
    return 2 * normal.cdf(-normal.inv_cdf(1 - alpha / 2) / math.sqrt(min(fraction, 1.0)))


def look_levels(
    looks: Sequence[tuple[int, int]], alpha: float = ONE_SIDED, caution: float = CAUTION
) -> tuple[float, ...]:
    """The one-sided level of each look.

    Args:
        looks: Seeds at the look and the budget as it was then; seeds grow from look to look.
        alpha: One-sided error of all looks together.
        caution: Share of it that normal theory may use; 1 where the statistic is normal.

    Raises:
        ValueError: Seeds do not grow, or a budget is below 1.
    """
    sizes = [0, *(n for n, _ in looks)]
    if any(after <= before for before, after in pairwise(sizes)) or any(of < 1 for _, of in looks):
        raise ValueError(f"the seeds should grow from look to look, and a budget be at least 1 (got {list(looks)})")
    return _levels(tuple(looks), alpha, caution)


def next_look(looks: Sequence[Mapping[str, Any]], n: int, budget: int) -> dict[str, Any]:
    """The look at n seeds as plain data: seeds, budget, error spent so far, one-sided level.

    Raises:
        UserError: Five looks have been made, or a look at as many seeds.
    """
    if len(looks) >= MOST_LOOKS:
        raise UserError(
            "too-many-looks", f"{MOST_LOOKS} looks have been made; another would be one too many for the error budget."
        )
    if looks and n <= int(looks[-1]["n"]):
        raise UserError("too-many-looks", f"the last look was at {looks[-1]['n']} seeds; another needs more (got {n}).")
    made = [*_pairs(looks), (n, max(budget, n))]
    return {"n": n, "of": made[-1][1], "spent": _spent(made, ONE_SIDED)[-1], "level": look_levels(made)[-1]}


def level_now(looks: Sequence[Mapping[str, Any]], n: int, alpha: float = ONE_SIDED) -> float:
    """The one-sided level of a decision at n seeds: alpha itself where there were no looks.

    Seeds that were added since the last look count as another look, within the same budget.
    """
    made = _pairs(looks)
    if not made:
        return alpha
    before = [(seen, of) for seen, of in made if seen < n]
    budget = next((of for seen, of in made if seen >= n), made[-1][1])
    return look_levels([*before, (n, max(budget, n))], alpha)[-1] if n > 0 else 0.0


def extension(
    verdicts: Sequence[Mapping[str, Any]], n: int, looks: Sequence[Mapping[str, Any]], budget: int
) -> Extension:
    """How many seeds to add, given the verdicts at this look.

    Each look adds what the most demanding undecided claim needs, no more than there are already (the estimate is rough)
    and no less than lets the budget be reached within five looks.

    Args:
        verdicts: As `verdicts` gives them at the level of this look.
        n: Seeds so far.
        looks: All looks with this one.
        budget: Seeds at most, those so far among them.
    """
    open_ones = [verdict for verdict in verdicts if verdict["verdict"] == "undecided"]
    needs = [verdict["more_seeds"] for verdict in open_ones if verdict["more_seeds"] is not None]
    remaining = MOST_LOOKS - len(looks)
    if not open_ones:
        return Extension(0, "every claim is decided")
    if budget <= n:
        return Extension(0, f"the budget of {budget} seeds is used")
    if remaining < 1:
        return Extension(0, f"{MOST_LOOKS} looks have been made")
    if not needs:
        return Extension(0, "no number of seeds that one could train would decide the open claims")
    least = math.ceil((budget - n) / remaining)
    add = min(max(min(max(needs), max(n, 2)), least), budget - n)
    open_names = "1 claim is" if len(open_ones) == 1 else f"{len(open_ones)} claims are"
    return Extension(add, f"{open_names} undecided; about {max(needs)} more seeds would decide")


def _pairs(looks: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(int(look["n"]), int(look["of"])) for look in looks]


def _spent(looks: Sequence[tuple[int, int]], alpha: float) -> list[float]:
    """What may be spent up to each look; a budget that is raised later gives nothing back."""
    found, most = [], 0.0
    for n, of in looks:
        most = max(most, spending(n / of, alpha))
        found.append(most)
    return found


@lru_cache(maxsize=1024)
def _levels(looks: tuple[tuple[int, int], ...], alpha: float, caution: float) -> tuple[float, ...]:
    """Armitage, McPherson & Rowe (1969): the density of the statistic on paths that crossed no border yet, look by look."""
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

    levels: list[float] = []
    places = density = np.zeros(0)
    spent_before, n_before = 0.0, 0
    for (n, _), spent in zip(looks, _spent(looks, alpha), strict=True):
        step = math.sqrt(n - n_before)
        border = _solve(partial(_crossing, places, density, n, step), caution * (spent - spent_before))
        levels.append(float(ndtr(-border)))
        # weights of the trapezoid rule are part of `density`; sums, not means, so that steps add
        ahead = np.linspace(-FARTHEST, min(border, FARTHEST), POINTS) * math.sqrt(n)
        width = np.full(POINTS, ahead[1] - ahead[0])
        width[[0, -1]] /= 2
        if n_before == 0:
            own = np.exp(-0.5 * (ahead / step) ** 2)
        else:
            own = np.exp(-0.5 * ((ahead[:, None] - places) / step) ** 2) @ density
        places, density = ahead, own * width / (step * math.sqrt(2 * math.pi))
        spent_before, n_before = spent, n
    return tuple(levels)


def _crossing(places: Floats, density: Floats, n: int, step: float, border: float) -> float:
    """The chance that paths with these weights, or any path at the first look, end above `border` at n seeds."""
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

    if len(places) == 0:
        return float(ndtr(-border))
    return float(density @ ndtr((places - border * math.sqrt(n)) / step))


def _solve(crossing: Callable[[float], float], allowed: float) -> float:
    """The border that is crossed with probability `allowed`; 40, which nothing crosses, where that is nothing."""
    low, high = -FARTHEST, 40.0
    if allowed <= 0:
        return high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle) > allowed else (low, middle)
    return high
