"""Sentences of verdicts: amounts with a true minus sign and their unit, intervals, what is missing."""

from collections.abc import Sequence

from fathomlab.analysis.contrasts import Contrast
from fathomlab.analysis.statistics import Interval
from fathomlab.config.schema import Claim

MINUS = "\u2212"


def unit(claim: Claim) -> str:
    """What an effect is counted in: points for accuracies and fractions of seeds, nats for losses."""
    own = "points" if claim.kind == "success" or claim.metric.endswith("accuracy") else "nats"
    return f"{own} per doubling" if claim.kind == "trend" else own


def bare(claim: Claim, value: float) -> str:
    """An effect with its sign and without its unit.

    Example:
        >>> bare(Claim("a", "residual", (True, False), "less"), 0.0512)
        '+5.12'
    """
    text = f"{100 * value:+.2f}" if unit(claim).startswith("points") else f"{value:+.4g}"
    if not text.strip("+-0."):
        return text[1:]
    return text.replace("-", MINUS)


def amount(claim: Claim, value: float) -> str:
    """An effect with its sign and unit."""
    return f"{bare(claim, value)} {unit(claim)}"


def effect_text(found: Contrast, interval: Interval) -> str:
    """The effect, its 95 % interval and the number of seeds."""
    claim = found.claim
    if claim.kind == "success":
        return f"{_fractions(found)}; the difference is {_ends(claim, interval)}"
    what = {"trend": "the slope is"}.get(claim.kind, "the difference is")
    if claim.reference is not None:
        what = f"the difference from {_level(claim, claim.reference)} is"
    seeds = "paired seeds" if len(found.sides) > 1 and claim.kind != "trend" else "seeds"
    return f"{what} {_ends(claim, interval)}, {interval.n} {seeds}"


def reason(claim: Claim, verdict: str, interval: Interval) -> str:
    """Why a claim is refuted, or in what it is open; `""` where there is nothing to add."""
    assert interval.low is not None
    assert interval.high is not None
    away = interval.low > 0 or interval.high < 0
    sign = -1.0 if claim.expect == "less" else 1.0
    matters = amount(claim, claim.matters).lstrip("+")
    if verdict == "refuted":
        if claim.expect == "equal":
            return f"; that is more than the {matters} that matter"
        if sign * interval.mean < 0 and away:
            return "; that is the opposite direction"
        return f"; that is less than the {matters} that matter" if claim.matters else "; that is no effect of that sign"
    if verdict == "undecided" and away and claim.matters > 0 and claim.expect != "equal" and sign * interval.mean > 0:
        return "; the direction is clear, the size is not"
    return ""


def holm_text(decided_at: float, claims: int, looks: int) -> str:
    """At which two-sided level a claim was tested where it is not 5 %; `""` where it is."""
    if abs(decided_at - 5) < 1e-9:
        return ""
    why = [f"Holm over {claims} claims"] * (claims > 1) + [f"look {looks}"] * (looks > 0)
    return f"; tested at {_per_cent(decided_at)} % instead of 5 % ({', '.join(why)})"


def more_text(more: int | None, distance: float) -> str:
    """About how many more seeds would decide."""
    if distance <= 0:
        return "; no number of seeds decides an effect of exactly the size that matters"
    if more is None:
        return "; over 1,000 seeds would be needed"
    return f"; about {more} more {'seed' if more == 1 else 'seeds'} would decide"


def _ends(claim: Claim, interval: Interval) -> str:
    assert interval.low is not None
    assert interval.high is not None
    ends = f"{bare(claim, interval.low)} to {amount(claim, interval.high)}"
    return f"{amount(claim, interval.mean)}, 95 % interval {ends}"


def _fractions(found: Contrast) -> str:
    claim = found.claim
    parts: Sequence[str] = [
        f"{successes} of {n} seeds at {at}"
        for (successes, n), at in zip(
            map(found.successes, range(len(found.sides))), (side.level for side in found.sides), strict=True
        )
    ]
    against = [] if claim.reference is None else [f"a reference of {100 * claim.reference:.4g} %"]
    return f"above {_level(claim, claim.threshold or 0.0)}: {' against '.join([*parts, *against])}"


def _level(claim: Claim, value: float) -> str:
    return f"{100 * value:.4g} %" if claim.metric.endswith("accuracy") else f"{value:.4g} nats"


def _per_cent(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.1g}" if value > 0 else "0"
