"""From claims and finished trials to verdicts: supported, refuted or undecided, never more than the numbers allow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import stdev
from typing import Any

from fathomlab.analysis import wording
from fathomlab.analysis.contrasts import Contrast, contrast, lost, on_images
from fathomlab.analysis.power import first_count, minimum_detectable, more_seeds
from fathomlab.analysis.sequential import level_now
from fathomlab.analysis.significance import (
    ONE_SIDED,
    SignFlip,
    above,
    correlation,
    difference_above,
    fraction_above,
    holm_adjusted,
    holm_levels,
    sign_flip,
    without_spread,
)
from fathomlab.analysis.statistics import (
    FEWEST_FOR_BOOTSTRAP,
    Interval,
    bootstrap_interval,
    mean_interval,
    newcombe_interval,
    wilson_interval,
)
from fathomlab.config.load import check_claims
from fathomlab.config.schema import Claim
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord

Above = Callable[[float, float], float]


@dataclass(frozen=True)
class Evidence:
    """What the seeds say of one claim before it is decided.

    Attributes:
        support: One-sided p for the claim, on the scale where 2.5 % decides (a TOST's p halved, which takes 5 %).
        against: One-sided p for its opposite.
        deviation: Standard deviation of the paired differences; for a success that of one seed's outcome, estimated.
        flips: Sign-flip test of no difference; for successes it is the exact McNemar test over seeds.
    """

    contrast: Contrast
    interval: Interval | None
    deviation: float | None
    support: float
    against: float
    flips: SignFlip | None

    @property
    def decisive(self) -> float:
        """The smaller p: the claim and its opposite cannot both be decided."""
        return min(self.support, self.against)


def verdicts(store: Store, experiment: ExperimentRecord) -> list[dict[str, Any]]:
    """The verdict on each declared claim, as plain data in the order of the file.

    Decisions are one-sided tests against the smallest effect that matters at 2.5 % (paired t tests; for fractions exact
    tests), Holm-adjusted over the claims, at the level of the look where the experiment was extended.
    A claim of no difference needs its 90 % interval inside +-that effect (TOST). The `p` of a verdict is one-sided in the
    claimed direction; `p_holm` belongs to the smaller of `p` and `p_against` and decides at 2.5 %, for a claim of no
    difference at 5 %.
    """
    read = cache(store.trial)
    measured = [_measure(contrast(read, experiment, claim)) for claim in check_claims(list(experiment.claims))]
    looks = experiment.looks
    seeds = len({seed for condition in experiment.conditions for seed, _ in condition.trials})
    p_values = [evidence.decisive for evidence in measured]
    levels = holm_levels(p_values, lambda left: level_now(looks, seeds, ONE_SIDED / left))
    adjusted = holm_adjusted(p_values)
    made = []
    for evidence, level, p_holm in zip(measured, levels, adjusted, strict=True):
        verdict = _judge(evidence, level, p_holm, len(measured), len(looks))
        images = on_images(read, evidence.contrast) if evidence.contrast.claim.kind == "difference" else None
        made.append(verdict | {"mcnemar": images, "exploratory": experiment.claims_late})
    return made


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


def _judge(evidence: Evidence, level: float, p_holm: float, claims: int, looks: int) -> dict[str, Any]:
    """Everything of a verdict but the test on images."""
    found, claim, interval = evidence.contrast, evidence.contrast.claim, evidence.interval
    decided = level > 0 and evidence.decisive <= level
    verdict = "undecided" if not decided else "supported" if evidence.support <= level else "refuted"
    distance = _distance(claim, interval.mean) if interval else 0.0
    later = max(level, ONE_SIDED / claims) if looks else level  # the level of a look grows from look to look
    more = None if verdict != "undecided" else _more(evidence, distance, later)
    said = _said(evidence, verdict)
    if interval and interval.low is not None:
        said += wording.holm_text(200 * level, claims, looks)
        said += wording.more_text(more, distance) if verdict == "undecided" else ""
    scale = 2 if claim.expect == "equal" else 1
    pairs = [pair for pair in found.pairs if pair.first is not None and pair.second is not None]
    return {
        "name": claim.name,
        "kind": claim.kind,
        "sentence": f"{claim.name}: {said}.",
        "verdict": verdict,
        "metric": claim.metric,
        "expect": claim.expect,
        "matters": claim.matters,
        "effect": interval.mean if interval else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "n": interval.n if interval else 0,
        "sd": evidence.deviation,
        "rho": correlation([pair.first or 0.0 for pair in pairs], [pair.second or 0.0 for pair in pairs]),
        "p": min(1.0, scale * evidence.support),
        "p_against": evidence.against,
        "p_holm": min(1.0, scale * p_holm),
        "decided_at": 200 * level,
        "signflip_p": evidence.flips.p if evidence.flips else None,
        "signflip_floor": evidence.flips.floor if evidence.flips else None,
        "mde": minimum_detectable(evidence.deviation, interval.n)
        if interval and interval.n > 1 and evidence.deviation is not None
        else None,
        "more_seeds": more,
        "values": [
            {"seed": pair.seed, "first": pair.first, "second": pair.second, "difference": pair.difference}
            for pair in found.pairs
        ],
        "success": _successes(found),
        "notes": _notes(evidence, verdict, claims),
    }


def _said(evidence: Evidence, verdict: str) -> str:
    """The sentence up to the effect and the reason."""
    found, interval = evidence.contrast, evidence.interval
    if interval is None:
        return found.absent or (
            "no seed has all levels yet" if len(found.sides) != 2 else "no seed has both levels yet"
        )
    if interval.low is None:
        return f"one seed shows {wording.amount(found.claim, interval.mean)} and allows no interval"
    return wording.effect_text(found, interval) + wording.reason(found.claim, verdict, interval)


def _distance(claim: Claim, mean: float) -> float:
    """From the effect to the nearest border of a decision."""
    if claim.expect == "equal":
        return abs(claim.matters - abs(mean))
    return abs(mean + claim.matters if claim.expect == "less" else mean - claim.matters)


def _more(evidence: Evidence, distance: float, level: float) -> int | None:
    """About how many more seeds would decide, if they were as those so far."""
    if evidence.interval is None or evidence.deviation is None or distance <= 0 or level <= 0:
        return None
    if evidence.contrast.claim.kind != "success" and without_spread(evidence.contrast.differences):
        return first_count(lambda seeds: 0.5**seeds <= level, evidence.interval.n)
    return more_seeds(evidence.deviation, distance, evidence.interval.n, level)


def _successes(found: Contrast) -> list[dict[str, Any]] | None:
    if found.claim.kind != "success":
        return None
    made = []
    for place, side in enumerate(found.sides):
        successes, n = found.successes(place)
        interval = wilson_interval(successes, n) if n else Interval(0.0, None, None, 0)
        made.append({"level": side.level, "successes": successes, "n": n, "low": interval.low, "high": interval.high})
    return made


def _notes(evidence: Evidence, verdict: str, claims: int) -> list[str]:
    """What a reader should know beside the number."""
    found, notes = evidence.contrast, lost(evidence.contrast)
    values = found.differences
    n, decided = len(values), verdict != "undecided"
    if evidence.flips is not None and evidence.flips.floor > 0.05 / claims:
        needed = math.ceil(math.log2(2 * claims / 0.05))
        over = f" over {claims} claims (Holm)" if claims > 1 else ""
        least = f"{evidence.flips.floor:.2g}"
        notes.append(
            f"The sign-flip test cannot reach 5 %{over}: with {n} seed{'s' * (n > 1)} its p is at least {least}; "
            f"it would need {needed} seeds."
        )
    elif evidence.flips is not None and decided and evidence.flips.p > 0.05 and evidence.contrast.claim.matters == 0:
        notes.append(f"The sign-flip test does not agree (p = {evidence.flips.p:.2g}): one seed may carry the result.")
    if found.claim.kind == "success":
        return notes
    if without_spread(values):
        notes.append(
            f"All {n} seeds show exactly the same difference, so that the interval has no width; decided by the sign test, "
            f"whose one-sided p is 1/2^{n}."
        )
    elif n >= FEWEST_FOR_BOOTSTRAP:
        ways = (("mean", bootstrap_interval(values)), ("interquartile mean", bootstrap_interval(values, "iqm")))
        for name, ends in ways:
            assert ends.low is not None
            assert ends.high is not None
            text = f"{wording.bare(found.claim, ends.low)} to {wording.amount(found.claim, ends.high)}"
            notes.append(f"Percentile bootstrap of the {name}, 95 %: {text} (10,000 resamples of the seeds).")
    return notes
