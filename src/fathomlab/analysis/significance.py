"""Tests: one-sided t, exact sign-flip, fractions, paired successes, and images paired over seeds; Holm's procedure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from fathomlab.analysis.statistics import t_tail
from fathomlab.base.identity import make_rng

ONE_SIDED = 0.025
MOST_ENUMERATED = 20
DRAWS = 100_000
CHUNK = 5_000
FLOAT32_TOL = 1e-7  # the metrics are float32: smaller differences near 1 are rounding
SMALLEST = 1e-14  # resolution of sums of float64 probabilities
GRID_SIZE = 401
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SignFlip:
    """A two-sided sign-flip test of no difference.

    Attributes:
        p: Fraction of the sign patterns whose mean is at least as far from 0.
        floor: The smallest p that this many differences can give, 2 / 2^n.
        draws: Number of random patterns behind p; None if all patterns were counted.
    """

    p: float
    floor: float
    draws: int | None = None


def t_test_greater(values: Sequence[float], null_value: float) -> float:
    """One-sided p of the t test of a mean above `null_value`.

    Without spread (except for float32 rounding) the t test is undefined, and the sign test decides: its p is 1 / 2^n. The
    result is 1 for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return 1.0
    distance = fmean(values) - null_value
    if is_constant(values):
        return 0.5**n if distance > FLOAT32_TOL else 1.0
    return t_tail(distance * math.sqrt(n) / stdev(values), n - 1)


def is_constant(values: Sequence[float]) -> bool:
    """Whether two or more values differ only by rounding."""
    return len(values) > 1 and max(values) - min(values) <= FLOAT32_TOL


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """The exact sign-flip test of the mean: without an effect, all sign patterns of the differences are equally likely.

    Up to 20 differences all patterns are counted. Above that, 100,000 random ones are, including the observed one, which
    keeps the test valid (Phipson & Smyth, 2010). The same differences always give the same p.

    Raises:
        ValueError: If there is no difference.
    """
    n = len(differences)
    if n == 0:
        raise ValueError("a sign-flip test needs at least one difference, got none")
    values = np.asarray(differences, dtype=np.float64)
    reach = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    floor = 2.0 ** (1 - n)
    if n > MOST_ENUMERATED:
        generator, hits = make_rng(0, "sign-flip", n), 1
        for _ in range(DRAWS // CHUNK):
            signs = generator.integers(0, 2, size=(CHUNK, n)) * 2 - 1
            hits += int((np.abs(signs @ values) >= reach).sum())
        return SignFlip(hits / (DRAWS + 1), floor, DRAWS)
    sums = values[:1]  # its other sign mirrors every pattern
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return SignFlip(float((np.abs(sums) >= reach).mean()), floor)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar (sign) test for the numbers of pairs that only the first, and only the second, got right."""
    from scipy.special import bdtr  # pyright: ignore[reportMissingTypeStubs]

    n = first_only + second_only
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), n, 0.5))) if n else 1.0


def mcnemar_clustered(balance: NDArray[np.int64]) -> float:
    """McNemar's exact test over several seeds on the same test images, two-sided.

    The images are the sample: the same image is easy or hard under every seed, so its outcomes are not independent. Under
    equal accuracy, the two levels can be swapped image by image in all seeds together. This gives an exact sign-flip test of
    the sum of `balance`, whose null distribution has the characteristic function prod_i cos(theta balance_i). With one seed it
    is McNemar's exact test. The result applies to these networks on images like these.

    Args:
        balance: Per image, seeds in which only the first level is right minus seeds in which only the second is.
    """
    sizes, counts = np.unique(np.abs(balance[balance != 0]), return_counts=True)
    total, observed = int((sizes * counts).sum()), abs(int(balance.sum()))
    if total == 0:
        return 1.0
    num_sums = 2 * total + 1
    angle = 2 * np.pi * np.arange(num_sums) / num_sums
    characteristic = np.ones(num_sums)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angle) ** int(count)
    probability = np.fft.fft(characteristic).real / num_sums  # of each sum, negative ones from the end
    return float(np.clip(probability[observed : num_sums - observed + 1].sum(), SMALLEST, 1.0))


def binomial_test_greater(successes: int, n: int, null_value: float) -> float:
    """Exact one-sided binomial p of a success probability above `null_value`."""
    from scipy.special import bdtrc  # pyright: ignore[reportMissingTypeStubs]

    return float(bdtrc(successes - 1, n, min(max(null_value, 0.0), 1.0))) if successes else 1.0


def barnard_test_greater(first: tuple[int, int], second: tuple[int, int], null_value: float) -> float:
    """Exact unconditional one-sided p (Barnard, 1945) of a difference p1 - p2 above `null_value`.

    Outcomes are ordered by Agresti & Caffo's statistic (one success and one failure added on each side). p is the largest
    probability, over all p2, of an outcome at least as extreme. Newcombe's interval alone would err in up to 3.8% of cases
    at a nominal 2.5%.

    Args:
        first: Successes and n.
        second: Successes and n of the second level.
        null_value: A difference of the two fractions.
    """
    far = _agresti_caffo(np.arange(first[1] + 1)[:, None], first[1], np.arange(second[1] + 1), second[1], null_value)
    beyond = far >= far[first[0], second[0]] - 1e-9
    chances = np.linspace(max(0.0, -null_value), min(1.0, 1.0 - null_value), GRID_SIZE)
    if null_value >= 1 or null_value < -1:
        return 1.0 if null_value >= 1 else 0.0
    either = (_binomial(first[1], chances + null_value) @ beyond) * _binomial(second[1], chances)
    return min(1.0, float(either.sum(axis=1).max()))


def _agresti_caffo(successes: Counts, n: int, others: Counts, m: int, null_value: float) -> Floats:
    p, q = (successes + 1) / (n + 2), (others + 1) / (m + 2)
    return (p - q - null_value) / np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))


def _binomial(n: int, chances: Floats) -> Floats:
    """The probabilities of 0 to n successes, (chances, n + 1)."""
    from scipy.special import gammaln, xlog1py, xlogy  # pyright: ignore[reportMissingTypeStubs]

    successes, p = np.arange(n + 1), np.clip(chances, 0.0, 1.0)[:, None]
    ways = gammaln(n + 1) - gammaln(successes + 1) - gammaln(n - successes + 1)
    return np.exp(ways + xlogy(successes, p) + xlog1py(n - successes, -p))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation; None for fewer than three pairs or if one side is constant."""
    if len(first) < 3 or is_constant(first) or is_constant(second):
        return None
    return float(np.corrcoef(first, second)[0, 1])


def holm_levels(p_values: Sequence[float], level: Callable[[int], float]) -> list[float]:
    """Holm's step-down procedure: the level at which each hypothesis is decided.

    Args:
        p_values: One-sided.
        level: Maps the number of remaining hypotheses to the level of each, such as 2.5% / remaining.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    levels = [0.0] * len(p_values)
    for rank, index in enumerate(order):
        allowed = level(len(p_values) - rank)
        if p_values[index] > allowed:
            for later in order[rank:]:
                levels[later] = allowed
            break
        levels[index] = allowed
    return levels


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: at most 2.5% exactly if the step-down procedure at 2.5% decides.

    Example:
        >>> holm_adjusted([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, most = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = most
    return adjusted
