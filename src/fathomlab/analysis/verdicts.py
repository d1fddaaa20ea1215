"""From claims and finished trials to verdicts: supported, refuted or undecided, never more than the numbers allow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

from fathomlab.analysis.statistics import mean_interval, t_quantile, t_tail
from fathomlab.base.catalogue import plain
from fathomlab.base.labels import level_text
from fathomlab.config.load import check_claims
from fathomlab.config.schema import Claim
from fathomlab.store.reading import ConditionRecord, ExperimentRecord, Store

POWER_QUANTILE = 0.84
ONE_SIDED = 0.025


@dataclass(frozen=True)
class Verdict:
    """What the trials allow one to say of a claim.

    Attributes:
        name: The claim.
        sentence: Effect, interval and number of seeds in words.
        verdict: supported, refuted or undecided.
        effect: Mean over seeds of the metric at the first level minus at the second; None without a pair.
        low: Lower end of the unadjusted 95 % t interval.
        high: Upper end.
        n: Seeds with both levels.
        exploratory: Declared after the first trial.
    """

    name: str
    sentence: str
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    n: int
    exploratory: bool = False


def verdicts(store: Store, experiment: ExperimentRecord) -> list[dict[str, Any]]:
    """The verdict on each declared claim, as plain data in the order of the file.

    Decisions are one-sided paired t tests against the smallest effect that matters at 2.5 %, Holm-adjusted over the
    claims; a claim of no difference needs its 90 % interval inside +-that effect (TOST).
    """
    claims = check_claims(list(experiment.claims))
    differences = [_differences(store, experiment, claim) for claim in claims]
    levels = _holm([_p_values(claim, found) for claim, found in zip(claims, differences, strict=True)])
    return [
        asdict(replace(_judge(claim, found, allowed, _absent(experiment, claim)), exploratory=experiment.claims_late))
        for claim, found, allowed in zip(claims, differences, levels, strict=True)
    ]


def _absent(experiment: ExperimentRecord, claim: Claim) -> str:
    """The level of a claim that no condition of the plan has, in words; `""` where both are there."""
    for level in claim.levels:
        if not any(_matches(condition, {claim.factor: level, **claim.at}) for condition in experiment.conditions):
            where = "".join(f" {key}={level_text(plain(value))}" for key, value in claim.at.items())
            return f"the plan has no condition with {claim.factor}={level_text(plain(level))}{where}"
    return ""


def _differences(store: Store, experiment: ExperimentRecord, claim: Claim) -> list[float]:
    """First level minus second for each seed that has both, averaged over what the claim leaves open."""
    sides: list[dict[int, list[float]]] = [{}, {}]
    for condition in experiment.conditions:
        for side, level in zip(sides, claim.levels, strict=True):
            if _matches(condition, {claim.factor: level, **claim.at}):
                for seed, trial in condition.trials:
                    record = store.trial(trial)
                    value = record.metrics.get(claim.metric) if record.status == "finished" else None
                    side.setdefault(seed, []).append(math.nan if value is None else value)
    first, second = sides
    pairs = [fmean(first[seed]) - fmean(second[seed]) for seed in sorted(first.keys() & second.keys())]
    return [difference for difference in pairs if math.isfinite(difference)]


def _matches(condition: ConditionRecord, levels: Mapping[str, Any]) -> bool:
    have = {"role": condition.role, **condition.factors}
    return all(_endswith(have, key) == plain(level) for key, level in levels.items())


def _endswith(factors: Mapping[str, Any], key: str) -> Any:
    """The level of the factor called `key`, or whose dotted key ends so."""
    found = [plain(level) for name, level in factors.items() if name == key or name.endswith(f".{key}")]
    return found[0] if len(found) == 1 else None


def _p_values(claim: Claim, found: Sequence[float]) -> float:
    """One-sided p against the smallest effect that matters, in the claimed direction; 1 where it cannot be computed."""
    if len(found) < 2:
        return 1.0
    error = stdev(found) / math.sqrt(len(found))
    sign = -1.0 if claim.expect == "less" else 1.0
    if claim.expect == "equal":
        return max(_tail(claim.matters - value, error, len(found)) for value in (fmean(found), -fmean(found))) / 2
    return _tail(sign * fmean(found) - claim.matters, error, len(found))


def _tail(distance: float, error: float, n: int) -> float:
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return t_tail(distance / error, n - 1)


def _holm(p_values: Sequence[float]) -> list[float]:
    """The one-sided level at which each claim is decided, 2.5 % for one claim: Holm's step-down procedure."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    levels = [ONE_SIDED / len(p_values)] * len(p_values) if p_values else []
    for rank, place in enumerate(order):
        levels[place] = ONE_SIDED / (len(p_values) - rank)
        if p_values[place] > levels[place]:
            for later in order[rank:]:
                levels[later] = ONE_SIDED / (len(p_values) - rank)
            break
    return levels


def _judge(claim: Claim, found: Sequence[float], level: float, absent: str) -> Verdict:
    n = len(found)
    if n < 2:
        effect = found[0] if found else None
        said = absent or "no seed has both levels yet"
        if found:
            said = f"one seed shows {_amount(claim, found[0])} and allows no interval"
        return Verdict(claim.name, f"{claim.name}: {said}.", "undecided", effect, None, None, n)
    interval = mean_interval(found)
    assert interval.low is not None
    assert interval.high is not None
    error = stdev(found) / math.sqrt(n)
    half = t_quantile(1 - level, n - 1) * error
    low, high = interval.mean - half, interval.mean + half
    verdict = _decide(claim, interval.mean, low, high, t_quantile(1 - 2 * level, n - 1) * error)
    said = (
        f"the difference is {_amount(claim, interval.mean)}, 95 % interval {_amount(claim, interval.low)} to "
        f"{_amount(claim, interval.high)}, {n} paired seeds"
    )
    if level < ONE_SIDED:
        said += f"; decided at {100 * (1 - 2 * level):.1f} % (Holm over the claims)"
    if verdict == "undecided":
        said += _missing(claim, interval.mean, stdev(found), n, level)
    return Verdict(claim.name, f"{claim.name}: {said}.", verdict, interval.mean, interval.low, interval.high, n)


def _decide(claim: Claim, mean: float, low: float, high: float, narrow: float) -> str:
    if claim.expect == "equal":
        if -claim.matters < mean - narrow and mean + narrow < claim.matters:
            return "supported"
        return "refuted" if low > claim.matters or high < -claim.matters else "undecided"
    if claim.expect == "less":
        low, high = -high, -low
    if low > claim.matters:
        return "supported"
    return "refuted" if high < claim.matters else "undecided"


def _missing(claim: Claim, mean: float, deviation: float, n: int, level: float) -> str:
    """About how many more seeds would decide: ((t + 0.84) sd / |mean - delta|)^2."""
    target = claim.matters if claim.expect != "less" else -claim.matters
    if claim.expect == "equal":
        target = math.copysign(claim.matters, mean)
    distance = abs(mean - target)
    if distance == 0:
        return "; no number of seeds decides an effect of exactly the size that matters"
    needed = math.ceil(((t_quantile(1 - level, n - 1) + POWER_QUANTILE) * deviation / distance) ** 2)
    more = max(needed - n, 1)
    return (
        f"; about {more} more {'seed' if more == 1 else 'seeds'} would decide"
        if more <= 1000
        else "; over 1,000 seeds would be needed"
    )


def _amount(claim: Claim, value: float) -> str:
    return f"{100 * value:+.2f} points" if claim.metric.endswith("accuracy") else f"{value:+.4g} nats"
