"""Tests: one-sided t, exact sign-flip, fractions, paired successes, and images paired over seeds; Holm's procedure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from fathomlab.analysis.statistics import t_tail
from fathomlab.base.identity import stream

ONE_SIDED = 0.025
MOST_ENUMERATED = 20
DRAWS = 100_000
CHUNK = 5_000
ROUNDING = 1e-7  # the metrics are float32: smaller differences near 1 are none
SMALLEST = 1e-14  # where sums of float64 probabilities end
CHANCES = 401
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SignFlip:
    """A two-sided sign-flip test of no difference.

    Attributes:
        p: Share of the sign patterns whose mean is at least as far from 0.
        floor: The smallest p that this many differences can give, 2 / 2^n.
        draws: Random patterns behind p; None where all were counted.
    """

    p: float
    floor: float
    draws: int | None = None


def above(values: Sequence[float], border: float) -> float:
    """One-sided p of the t test: how surprising these values are if their mean were at most `border`.

    Values without spread (float32 rounding aside) leave the t test nothing to go by; there the sign test decides, whose p is
    1 / 2^n. 1 for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return 1.0
    distance = fmean(values) - border
    if without_spread(values):
        return 0.5**n if distance > ROUNDING else 1.0
    return t_tail(distance * math.sqrt(n) / stdev(values), n - 1)


def without_spread(values: Sequence[float]) -> bool:
    """Whether two or more values differ by rounding alone."""
    return len(values) > 1 and max(values) - min(values) <= ROUNDING


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """The exact sign-flip test of the mean: under no difference every sign pattern of the differences is as likely.

    Up to 20 differences every pattern is counted; above that 100,000 random ones are, the observed one among them, which
    keeps the test valid (Phipson & Smyth, 2010). The same differences always give the same p.

    Raises:
        ValueError: No difference.
    """
    n = len(differences)
    if n == 0:
        raise ValueError("a sign-flip test needs at least one difference (got none)")
    values = np.asarray(differences, dtype=np.float64)
    reach = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    floor = 2.0 ** (1 - n)
    if n > MOST_ENUMERATED:
        generator, hits = stream(0, "sign-flip", n), 1
        for _ in range(DRAWS // CHUNK):
            signs = generator.integers(0, 2, size=(CHUNK, n)) * 2 - 1
            hits += int((np.abs(signs @ values) >= reach).sum())
        return SignFlip(hits / (DRAWS + 1), floor, DRAWS)
    sums = values[:1]  # its other sign mirrors every pattern
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return SignFlip(float((np.abs(sums) >= reach).mean()), floor)


def discordant(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar (sign) test: pairs that only the first, and only the second, got right."""
    from scipy.special import bdtr  # pyright: ignore[reportMissingTypeStubs]

    n = first_only + second_only
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), n, 0.5))) if n else 1.0


def clustered_discordant(balance: NDArray[np.int64]) -> float:
    """McNemar's exact test over several seeds on the same test images, two-sided.

    The images are the sample, for the same image is hard or easy under every seed and its outcomes are no independent
    draws. Under equal accuracy the two levels may be swapped image by image, in all seeds at once: an exact sign-flip test of
    the sum of `balance`, whose null distribution has the characteristic function prod_i cos(theta balance_i). With one
    seed it is McNemar's exact test. It speaks of these networks on images like these.

    Args:
        balance: For each image, seeds in which only the first level is right minus those in which only the second is.
    """
    sizes, counts = np.unique(np.abs(balance[balance != 0]), return_counts=True)
    total, observed = int((sizes * counts).sum()), abs(int(balance.sum()))
    if total == 0:
        return 1.0
    places = 2 * total + 1
    angle = 2 * np.pi * np.arange(places) / places
    characteristic = np.ones(places)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angle) ** int(count)
    chance = np.fft.fft(characteristic).real / places  # of each sum, negative ones from the end
    return float(np.clip(chance[observed : places - observed + 1].sum(), SMALLEST, 1.0))


def fraction_above(successes: int, n: int, border: float) -> float:
    """Exact binomial one-sided p: how surprising so many successes are if the chance were at most `border`."""
    from scipy.special import bdtrc  # pyright: ignore[reportMissingTypeStubs]

    return float(bdtrc(successes - 1, n, min(max(border, 0.0), 1.0))) if successes else 1.0


def difference_above(first: tuple[int, int], second: tuple[int, int], border: float) -> float:
    """Exact unconditional one-sided p (Barnard, 1945): how surprising these fractions are if p1 - p2 were at most `border`.

    Outcomes are ordered by Agresti & Caffo's statistic (one success and one failure added on each side); p is the largest
    chance, over all p2, of an outcome as far out. Without it Newcombe's interval alone would err in up to 3.8 % of cases
    where 2.5 % are asked for.

    Args:
        first: Successes and n.
        second: Likewise.
        border: A difference of the two fractions.
    """
    far = _apart(np.arange(first[1] + 1)[:, None], first[1], np.arange(second[1] + 1), second[1], border)
    beyond = far >= far[first[0], second[0]] - 1e-9
    chances = np.linspace(max(0.0, -border), min(1.0, 1.0 - border), CHANCES)
    if border >= 1 or border < -1:
        return 1.0 if border >= 1 else 0.0
    either = (_binomial(first[1], chances + border) @ beyond) * _binomial(second[1], chances)
    return min(1.0, float(either.sum(axis=1).max()))


def _apart(found: Counts, n: int, others: Counts, m: int, border: float) -> Floats:
    p, q = (found + 1) / (n + 2), (others + 1) / (m + 2)
    return (p - q - border) / np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))


def _binomial(n: int, chances: Floats) -> Floats:
    """The chance of 0 to n successes, (chances, n + 1)."""
    from scipy.special import gammaln, xlog1py, xlogy  # pyright: ignore[reportMissingTypeStubs]

    found, p = np.arange(n + 1), np.clip(chances, 0.0, 1.0)[:, None]
    ways = gammaln(n + 1) - gammaln(found + 1) - gammaln(n - found + 1)
    return np.exp(ways + xlogy(found, p) + xlog1py(n - found, -p))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation; None for fewer than three pairs or a side without spread."""
    if len(first) < 3 or without_spread(first) or without_spread(second):
        return None
    return float(np.corrcoef(first, second)[0, 1])


def holm_levels(p_values: Sequence[float], level: Callable[[int], float]) -> list[float]:
    """Holm's step-down procedure: the level at which each hypothesis is decided.

    Args:
        p_values: One-sided.
        level: How many hypotheses are left -> the level of each, such as 2.5 % / left.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    levels = [0.0] * len(p_values)
    for rank, place in enumerate(order):
        allowed = level(len(p_values) - rank)
        if p_values[place] > allowed:
            for later in order[rank:]:
                levels[later] = allowed
            break
        levels[place] = allowed
    return levels


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: at most 2.5 % exactly where the step-down procedure at 2.5 % decides.

    Example:
        >>> holm_adjusted([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, most = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = most
    return adjusted
