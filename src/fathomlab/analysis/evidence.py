"""What the seeds show for one claim, before it is decided."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import stdev

from fathomlab.analysis import wording
from fathomlab.analysis.contrasts import Contrast
from fathomlab.analysis.power import first_count, minimum_detectable, more_seeds
from fathomlab.analysis.significance import (
    SignFlip,
    above,
    difference_above,
    fraction_above,
    sign_flip,
    without_spread,
)
from fathomlab.analysis.statistics import Interval, mean_interval, newcombe_interval, wilson_interval
from fathomlab.config.schema import Claim

Above = Callable[[float, float], float]


@dataclass(frozen=True)
class Evidence:
    """What the seeds show for one claim before it is decided.

    Attributes:
        support: One-sided p for the claim, on the scale on which 2.5% decides (half of a TOST's p, which takes 5%).
        against: One-sided p for its opposite.
        deviation: Standard deviation of the paired differences; for a success, that of one seed's outcome (estimated).
        flips: Sign-flip test of no difference; for successes it is the exact McNemar test over seeds.
        blocked: Whether divergence keeps the claim from being decided, however many seeds there are.
    """

    contrast: Contrast
    interval: Interval | None
    deviation: float | None
    support: float
    against: float
    flips: SignFlip | None
    blocked: bool = False

    @property
    def decisive(self) -> float:
        """The smaller p: the claim and its opposite cannot both be decided."""
        return min(self.support, self.against)


def _guarded(evidence: Evidence) -> Evidence:
    """The evidence without decisions that divergence does not allow."""
    found, claim = evidence.contrast, evidence.contrast.claim
    if not found.diverged:
        return evidence
    without_value = claim.kind == "trend" or not wording.in_points(claim)
    if without_value or (claim.kind == "difference" and found.chance is None):
        return replace(evidence, support=1.0, against=1.0, blocked=True)
    return replace(evidence, support=1.0, blocked=True) if claim.expect == "equal" else evidence


def measure(found: Contrast) -> Evidence:
    """Effect, interval, and tests of a contrast, without the decisions that divergence does not allow."""
    return _guarded(_measure(found))


def _measure(found: Contrast) -> Evidence:
    claim = found.claim
    if found.absent or not found.differences:
        return Evidence(found, None, None, 1.0, 1.0, None)
    flips = sign_flip(found.differences)
    if claim.kind == "success":
        first, *others = (found.successes(place) for place in range(len(found.sides)))
        interval, test = _fractions(first, others, claim.reference or 0.0)
        deviation = math.sqrt(sum(_variance(*counts) for counts in (first, *others)))
        return Evidence(found, interval, deviation, *_sides(claim, test), flips if others else None)
    values = found.differences
    interval = mean_interval(values)
    deviation = stdev(values) if len(values) > 1 else None
    test = _t_test(values)
    return Evidence(found, interval, deviation, *_sides(claim, test), None if claim.expect == "equal" else flips)


def _t_test(values: Sequence[float]) -> Above:
    return lambda sign, border: above([sign * value for value in values], border)


def _fractions(first: tuple[int, int], others: Sequence[tuple[int, int]], reference: float) -> tuple[Interval, Above]:
    """Interval and test of a fraction less a reference, or less another fraction."""
    if others:
        sides = {1.0: (first, others[0]), -1.0: (others[0], first)}
        return newcombe_interval(first, others[0]), lambda sign, border: difference_above(*sides[sign], border)
    successes, n = first
    wilson = wilson_interval(successes, n)
    assert wilson.low is not None
    assert wilson.high is not None
    shifted = Interval(wilson.mean - reference, wilson.low - reference, wilson.high - reference, n)
    counts = {1.0: (successes, n, reference), -1.0: (n - successes, n, 1 - reference)}
    return shifted, lambda sign, border: fraction_above(*counts[sign][:2], counts[sign][2] + border)


def _variance(successes: int, n: int) -> float:
    """Variance of one seed's outcome, with one success and one failure added so that 5 of 5 has some."""
    share = (successes + 1) / (n + 2)
    return share * (1 - share)


def _sides(claim: Claim, test: Above) -> tuple[float, float]:
    """One-sided p for the claim and for its opposite; `test(sign, border)` is the p for sign * effect > border."""
    if claim.expect == "equal":
        inside = max(test(1.0, -claim.matters), test(-1.0, -claim.matters)) / 2
        return inside, min(test(1.0, claim.matters), test(-1.0, claim.matters))
    sign = -1.0 if claim.expect == "less" else 1.0
    return test(sign, claim.matters), test(-sign, -claim.matters)


def detectable(evidence: Evidence) -> float | None:
    """The effect that these seeds detect with a probability of about 80%; None for fewer than two seeds."""
    if evidence.interval is None or evidence.interval.n < 2 or evidence.deviation is None:
        return None
    return minimum_detectable(evidence.deviation, evidence.interval.n)


def distance_to_threshold(claim: Claim, mean: float) -> float:
    """From the effect to the nearest threshold of a decision."""
    if claim.expect == "equal":
        return abs(claim.matters - abs(mean))
    return abs(mean + claim.matters if claim.expect == "less" else mean - claim.matters)


def additional_seeds(evidence: Evidence, distance: float, level: float, claims: int) -> int | None:
    """About how many more seeds should decide, if they are like those so far, and allow the distribution-free check too."""
    if evidence.interval is None or evidence.deviation is None or distance <= 0 or level <= 0:
        return None
    n = evidence.interval.n
    if evidence.contrast.claim.kind != "success" and without_spread(evidence.contrast.differences):
        more = first_count(lambda seeds: 0.5**seeds <= level, n)
    else:
        more = more_seeds(evidence.deviation, distance, n, level)
    return more if more is None or evidence.flips is None else max(more, seeds_for_check(claims) - n)


def seeds_for_check(claims: int) -> int:
    """The fewest seeds with which the two-sided sign-flip test can reach 5% over so many claims: 2 / 2^n <= 5% / claims."""
    return math.ceil(math.log2(2 * claims / 0.05))
