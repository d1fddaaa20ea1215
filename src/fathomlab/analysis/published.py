"""Published statements next to what the trials of an experiment show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fathomlab.analysis.contrasts import contrast
from fathomlab.analysis.evidence import evaluate
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.config.claims import Claim
from fathomlab.config.published import Published

Agreement = Literal["agrees", "disagrees", "undecided", "not tested"]
AGREEMENTS: dict[str, Agreement] = {"supported": "agrees", "refuted": "disagrees", "undecided": "undecided"}


@dataclass(frozen=True)
class Comparison:
    """A published statement and what this experiment shows.

    Attributes:
        agreement: Of a claim: its verdict. Of a number: whether the 95% interval contains it; without an interval it is
            undecided. A number of parameters agrees if it rounds to the published number.
        verdict: On the claim that says the same; None without one.
        result: The number of this experiment with its 95% interval; None without a published number, or without a result.
    """

    published: Published
    agreement: Agreement
    verdict: Verdict | None = None
    result: Interval | None = None


def comparisons(study: Study, verdicts: Sequence[Verdict]) -> tuple[Comparison, ...]:
    """Each published statement of the experiment, in the order of the file."""
    by_name = {verdict.claim.name: verdict for verdict in verdicts}
    return tuple(_comparison(study, item, by_name.get(item.claim)) for item in study.experiment.published)


def _comparison(study: Study, published: Published, verdict: Verdict | None) -> Comparison:
    claim = published.contrast
    if claim is None or published.value is None:
        return Comparison(published, AGREEMENTS[verdict.decision] if verdict else "not tested", verdict)
    if published.metric == "parameters":
        result = _parameters(study, claim)
        agrees = result is not None and round(result, decimals(published.value)) == published.value
        decided: Agreement = "not tested" if result is None else "agrees" if agrees else "disagrees"
        return Comparison(published, decided, result=None if result is None else Interval(result, None, None, 1))
    effect = evaluate(contrast(study, claim)).effect
    if effect is None:
        return Comparison(published, "not tested")
    result = _shifted(effect, claim.reference or 0.0)
    if result.low is None or result.high is None:
        return Comparison(published, "undecided", result=result)
    inside = result.low <= published.value <= result.high
    return Comparison(published, "agrees" if inside else "disagrees", result=result)


def _parameters(study: Study, claim: Claim) -> float | None:
    """The number of parameters at one level, or the relative difference of two; None if one is unknown, or several differ."""
    numbers: list[int] = []
    for level in claim.levels:
        counts = {condition.total_parameters for condition in study.selected(claim, level)} - {None}
        if len(counts) != 1:
            return None
        numbers += [count for count in counts if count is not None]
    return float(numbers[0]) if len(numbers) == 1 else numbers[0] / numbers[1] - 1


def _shifted(interval: Interval, by: float) -> Interval:
    """The metric itself, from its difference to a reference."""
    ends = [None if end is None else end + by for end in (interval.low, interval.high)]
    return Interval(interval.mean + by, ends[0], ends[1], interval.n)


def decimals(value: float) -> int:
    """The decimals to which a published number of parameters is given, at least two for a relative difference.

    Trailing zeros of a count are taken as rounded, so their number is negative.

    Example:
        >>> decimals(-0.785), decimals(-0.8), decimals(21_282_122.0), decimals(21_300_000.0)
        (3, 2, 0, -5)
    """
    whole, _, fraction = f"{value:f}".rstrip("0").partition(".")
    if fraction or abs(value) < 1:
        return max(2, len(fraction))
    return len(whole.rstrip("0")) - len(whole)
