"""What the seeds show for one claim, before it is decided."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import stdev

from fathomlab.analysis.contrasts import Contrast
from fathomlab.analysis.power import additional_seeds, minimum_detectable_effect, smallest_sufficient
from fathomlab.analysis.significance import (
    SignFlip,
    barnard_test_greater,
    binomial_test_greater,
    is_constant,
    sign_flip,
    t_test_greater,
)
from fathomlab.analysis.statistics import Interval, mean_interval, newcombe_interval, wilson_interval
from fathomlab.config.claims import Claim

GreaterTest = Callable[[float, float], float]  # (sign, null value) -> one-sided p for sign * effect > null value


@dataclass(frozen=True)
class ClaimEvidence:
    """What the seeds show for one claim before it is decided.

    Attributes:
        effect: Mean effect with its 95% interval; None without a value.
        p_for: One-sided p for the claim, on the scale on which 2.5% decides (half of a TOST's p, which takes 5%).
        p_against: One-sided p for its opposite.
        sd: Standard deviation of the paired differences; for a success, that of one seed's outcome (estimated).
        sign_flip: Sign-flip test of no difference; for successes it is the exact McNemar test over seeds.
        blocked: Whether divergence keeps the claim from being decided, however many seeds there are.
    """

    contrast: Contrast
    effect: Interval | None = None
    p_for: float = 1.0
    p_against: float = 1.0
    sd: float | None = None
    sign_flip: SignFlip | None = None
    blocked: bool = False

    @property
    def decisive_p(self) -> float:
        """The smaller p: the claim and its opposite cannot both be decided."""
        return min(self.p_for, self.p_against)

    @property
    def distance(self) -> float:
        """From the effect to the nearest threshold of a decision."""
        if self.effect is None:
            return 0.0
        claim, mean = self.contrast.claim, self.effect.mean
        if claim.expect == "equal":
            return abs(claim.matters - abs(mean))
        return abs(mean + claim.matters if claim.expect == "less" else mean - claim.matters)

    @property
    def detectable(self) -> float | None:
        """The effect that these seeds detect with a probability of about 80%; None for fewer than two seeds."""
        if self.effect is None or self.effect.n < 2 or self.sd is None:
            return None
        return minimum_detectable_effect(self.sd, self.effect.n)


def evaluate(contrast: Contrast) -> ClaimEvidence:
    """Effect, interval, and tests of a contrast, without the decisions that divergence does not allow."""
    evidence, claim = _measured(contrast), contrast.claim
    if not contrast.diverged:
        return evidence
    without_value = claim.kind == "trend" or not claim.in_points
    if without_value or (claim.kind == "difference" and contrast.chance is None):
        return replace(evidence, p_for=1.0, p_against=1.0, blocked=True)
    return replace(evidence, p_for=1.0, blocked=True) if claim.expect == "equal" else evidence


def seeds_needed(evidence: ClaimEvidence, level: float, claims: int) -> int | None:
    """About how many more seeds should decide, if they are like those so far, and allow the distribution-free check too.

    Args:
        evidence: What the seeds so far show.
        level: One-sided level of the decision.
        claims: Number of claims that share the error level.
    """
    if evidence.effect is None or evidence.sd is None or evidence.distance <= 0 or level <= 0:
        return None
    n = evidence.effect.n
    if evidence.contrast.claim.kind != "success" and is_constant(evidence.contrast.differences):
        more = smallest_sufficient(lambda seeds: 0.5**seeds <= level, n)
    else:
        more = additional_seeds(evidence.sd, evidence.distance, n, level)
    return more if more is None or evidence.sign_flip is None else max(more, seeds_for_check(claims) - n)


def seeds_for_check(claims: int) -> int:
    """The fewest seeds with which the two-sided sign-flip test can reach 5% over so many claims: 2 / 2^n <= 5% / claims."""
    return math.ceil(math.log2(2 * claims / 0.05))


def _measured(contrast: Contrast) -> ClaimEvidence:
    claim, values = contrast.claim, contrast.differences
    if contrast.missing_level or not values:
        return ClaimEvidence(contrast)
    flips = sign_flip(values)
    if claim.kind == "success":
        first, *others = (contrast.successes(arm) for arm in contrast.arms)
        effect, test = _fractions(first, others, claim.reference or 0.0)
        sd = math.sqrt(sum(_variance(*counts) for counts in (first, *others)))
        return ClaimEvidence(contrast, effect, *_p_values(claim, test), sd, flips if others else None)
    sd = stdev(values) if len(values) > 1 else None
    p_values = _p_values(claim, lambda sign, null: t_test_greater([sign * value for value in values], null))
    return ClaimEvidence(contrast, mean_interval(values), *p_values, sd, None if claim.expect == "equal" else flips)


def _fractions(
    first: tuple[int, int], others: Sequence[tuple[int, int]], reference: float
) -> tuple[Interval, GreaterTest]:
    """Interval and test of a fraction minus a reference, or minus another fraction."""
    if others:
        orders = {1.0: (first, others[0]), -1.0: (others[0], first)}
        return newcombe_interval(first, others[0]), lambda sign, null: barnard_test_greater(*orders[sign], null)
    successes, n = first
    wilson = wilson_interval(successes, n)
    assert wilson.low is not None
    assert wilson.high is not None
    shifted = Interval(wilson.mean - reference, wilson.low - reference, wilson.high - reference, n)
    counts = {1.0: (successes, n, reference), -1.0: (n - successes, n, 1 - reference)}
    return shifted, lambda sign, null: binomial_test_greater(*counts[sign][:2], counts[sign][2] + null)


def _variance(successes: int, n: int) -> float:
    """Variance of one seed's outcome, with one success and one failure added so that 5 of 5 has some."""
    share = (successes + 1) / (n + 2)
    return share * (1 - share)


def _p_values(claim: Claim, test: GreaterTest) -> tuple[float, float]:
    """One-sided p for the claim and for its opposite."""
    if claim.expect == "equal":
        inside = max(test(1.0, -claim.matters), test(-1.0, -claim.matters)) / 2
        return inside, min(test(1.0, claim.matters), test(-1.0, claim.matters))
    sign = -1.0 if claim.expect == "less" else 1.0
    return test(sign, claim.matters), test(-sign, -claim.matters)
