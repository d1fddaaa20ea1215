"""Group-sequential decisions with alpha spending, so that seeds can be added after interim analyses (looks).

At each look, the error spent so far is an O'Brien-Fleming type function of n / budget (Lan & DeMets, 1983). The level of the
look keeps the probability of a false decision at any look so far at that amount. The p value of a t test is compared with it
(the significance-level approach, Jennison & Turnbull, 2000, section 3.3).
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
CAUTION = 0.87  # t statistics of few seeds cross the normal boundaries up to 15% more often (simulated)
FARTHEST = 8.5  # standard errors from 0 at which densities end


@dataclass(frozen=True)
class Extension:
    """Number of seeds to add now, and the reason."""

    seeds: int
    reason: str


def spending(fraction: float, alpha: float = ONE_SIDED) -> float:
    """The one-sided error available once this fraction of the budget is used: 2 - 2 Phi(z(1 - alpha/2) / sqrt(t))."""
    if fraction <= 0:
        return 0.0
    normal = NormalDist()
    return 2 * normal.cdf(-normal.inv_cdf(1 - alpha / 2) / math.sqrt(min(fraction, 1.0)))


def look_levels(
    looks: Sequence[tuple[int, int]], alpha: float = ONE_SIDED, caution: float = CAUTION
) -> tuple[float, ...]:
    """The one-sided level of each look.

    Args:
        looks: Seeds at the look and the budget at that time; seeds grow from look to look.
        alpha: One-sided error of all looks together.
        caution: Fraction of it that normal theory may use; 1 if the statistic is normal.

    Raises:
        ValueError: If the seeds do not grow, or a budget is below 1.
    """
    sizes = [0, *(n for n, _ in looks)]
    if any(after <= before for before, after in pairwise(sizes)) or any(of < 1 for _, of in looks):
        raise ValueError(f"seeds must grow from look to look and budgets must be >= 1, got {list(looks)}")
    return _levels(tuple(looks), alpha, caution)


def next_look(looks: Sequence[Mapping[str, Any]], n: int, budget: int) -> dict[str, Any]:
    """The look at n seeds as plain data: seeds, budget, error spent so far, one-sided level.

    Raises:
        UserError: If five looks have been made, or the last one had at least as many seeds.
    """
    if len(looks) >= MOST_LOOKS:
        raise UserError(
            "too-many-looks",
            f"no more interim analyses: the error level allows {MOST_LOOKS}, and {MOST_LOOKS} have been made.",
        )
    if looks and n <= int(looks[-1]["n"]):
        raise UserError(
            "too-many-looks", f"the last interim analysis had {looks[-1]['n']} seeds; the next one needs more, got {n}."
        )
    made = [*_pairs(looks), (n, max(budget, n))]
    return {"n": n, "of": made[-1][1], "spent": _spent(made, ONE_SIDED)[-1], "level": look_levels(made)[-1]}


def level_now(looks: Sequence[Mapping[str, Any]], n: int, alpha: float = ONE_SIDED) -> float:
    """The one-sided level of a decision at n seeds: alpha itself without earlier looks.

    Seeds added since the last look count as another look within the same budget.
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

    Each look adds what the most demanding undecided claim needs, at most doubling the seeds (the estimate is rough) and at
    least enough to reach the budget within five looks. Claims that divergence keeps open get no seeds.

    Args:
        verdicts: As `verdicts` gives them at the level of this look.
        n: Seeds so far.
        looks: All looks including this one.
        budget: Maximum total number of seeds.
    """
    undecided = [verdict for verdict in verdicts if verdict["verdict"] == "undecided"]
    needs = [verdict["more_seeds"] for verdict in undecided if verdict["more_seeds"] is not None]
    remaining = MOST_LOOKS - len(looks)
    if not undecided:
        return Extension(0, "all claims are decided")
    if budget <= n:
        return Extension(0, f"the maximum of {budget} seeds is reached")
    if remaining < 1:
        return Extension(0, f"{MOST_LOOKS} interim analyses have been made")
    if not needs:
        diverged = any(level["diverged"] for verdict in undecided for level in verdict.get("diverged", ()))
        reason = "because seeds diverged" if diverged else "and would need more than 1,000 seeds"
        return Extension(0, f"{_claims(len(undecided))} undecided {reason}")
    smallest = math.ceil((budget - n) / remaining)
    add = min(max(min(max(needs), max(n, 2)), smallest), budget - n)
    return Extension(add, f"{_claims(len(undecided))} undecided; about {max(needs)} more seeds should settle them")


def _claims(number: int) -> str:
    return "1 claim is" if number == 1 else f"{number} claims are"


def _pairs(looks: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(int(look["n"]), int(look["of"])) for look in looks]


def _spent(looks: Sequence[tuple[int, int]], alpha: float) -> list[float]:
    """The error available up to each look. Raising the budget later does not return error already spent."""
    totals, highest = [], 0.0
    for n, of in looks:
        highest = max(highest, spending(n / of, alpha))
        totals.append(highest)
    return totals


@lru_cache(maxsize=1024)
def _levels(looks: tuple[tuple[int, int], ...], alpha: float, caution: float) -> tuple[float, ...]:
    """Armitage, McPherson & Rowe (1969): density of the statistic on paths that have crossed no boundary, look by look."""
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
    """Probability that paths with these weights (any path at the first look) end above `border` at n seeds."""
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

    if len(places) == 0:
        return float(ndtr(-border))
    return float(density @ ndtr((places - border * math.sqrt(n)) / step))


def _solve(crossing: Callable[[float], float], allowed: float) -> float:
    """The boundary crossed with probability `allowed`; 40, which nothing crosses, if that is 0."""
    low, high = -FARTHEST, 40.0
    if allowed <= 0:
        return high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle) > allowed else (low, middle)
    return high
