"""Sentences of verdicts in plain words; statistical terms are in the details only."""

import math

from fathomlab.analysis.contrasts import MISSING, Contrast
from fathomlab.analysis.evidence import seeds_for_check
from fathomlab.analysis.mixtures import mixture_notes
from fathomlab.analysis.significance import is_constant
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.tuning import tuned_note
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import count, describe_level, last_part
from fathomlab.config.claims import METRIC_NAMES, Claim

MINUS = "\u2212"


def sentence(verdict: Verdict) -> str:
    """The claim and its finding."""
    return f"{verdict.claim.name}: {finding(verdict)}"


def finding(verdict: Verdict) -> str:
    """What the seeds show: the effect, why it gives this verdict, what diverged, and what would decide."""
    return " ".join([*observations(verdict), *reasons(verdict)])


def observations(verdict: Verdict) -> list[str]:
    """The effect with its interval, and what diverged or is missing."""
    contrast, effect = verdict.contrast, verdict.effect
    diverged = _divergence_sentences(contrast)
    if effect is None:
        missing, arms = contrast.missing_level, len(contrast.arms)
        levels = "both levels" if arms == 2 else "all levels" if arms > 2 else "a result"
        reason = f"{missing[:1].upper()}{missing[1:]}." if missing else f"No seed has {levels} yet."
        return [*diverged, *([] if diverged and not missing else [reason])]
    if effect.low is None:
        single = f"Only one seed so far ({format_effect(contrast.claim, effect.mean)}); at least 2 are needed."
        return [single, *diverged]
    return [_effect_sentence(contrast, effect), *mixture_notes(contrast.arms), *diverged]


def reasons(verdict: Verdict) -> list[str]:
    """Why the effect gives this verdict, and how many more seeds would decide; empty without an interval."""
    effect, advice, undecided = verdict.effect, verdict.advice, verdict.decision == "undecided"
    if effect is None or effect.low is None or (advice.blocked and undecided):
        return []
    explained = _explain(verdict, effect)
    needed = [_seeds_needed_sentence(advice.more_seeds, advice.distance)] if undecided else []
    return [*([explained] if explained else []), *needed]


def so_far(claim: Claim, effect: Interval) -> str:
    """The effect while a run trains: neither a finding nor a verdict."""
    return f"{claim.name}, so far: {_interval(claim, effect, ' ').strip()} ({count(effect.n, 'seed')})"


def notes(verdict: Verdict) -> list[str]:
    """What else readers should know: excluded seeds, and whether seeds were added after results."""
    tuned = tuned_note([condition for arm in verdict.contrast.arms for condition in arm.conditions])
    texts = [*filter(None, [tuned]), *_exclusion_notes(verdict.contrast)]
    if verdict.images is not None and verdict.images.excluded:
        seeds = ", ".join(map(str, verdict.images.excluded))
        texts.append(f"The image-by-image comparison excludes seeds without stored predictions ({seeds}).")
    if verdict.looks.changed:
        earlier = ", ".join(map(str, verdict.looks.earlier))
        texts.append(
            f"Seeds were added after results: this question was analyzed before with {earlier} seeds. The error level is "
            "shared over these analyses."
        )
    return texts


def details(verdict: Verdict) -> list[str]:
    """The statistics behind a verdict, one sentence each."""
    contrast, tests, claim = verdict.contrast, verdict.tests, verdict.claim
    if verdict.effect is None or verdict.effect.low is None:
        return []
    texts = []
    averaged = [len(arm.conditions) for arm in contrast.arms]
    if len(set(averaged)) > 1:
        texts.append(f"The levels are means over {' and '.join(map(str, averaged))} conditions of the same seed.")
    elif averaged[0] > 1:
        texts.append(f"Each level is the mean over {averaged[0]} conditions of the same seed.")
    texts.append(f"One-sided p = {tests.p:.2g} for the claim, {tests.p_against:.2g} for its opposite.")
    level = 200 * tests.level
    if abs(level - 5) > 1e-9:
        reasons = [f"corrected for {tests.claims} claims by Holm's method"] * (tests.claims > 1)
        reasons += [f"interim analysis {verdict.looks.number} with alpha spending"] * bool(verdict.looks.looks)
        percentage = f"{level:.1f}" if level >= 0.1 else f"{level:.1g}" if level > 0 else "0"
        texts.append(f"Significance level {percentage}% instead of 5% ({'; '.join(reasons)}).")
    texts += _check_sentences(verdict)
    if claim.kind == "success":
        return texts
    if verdict.advice.detectable is not None:
        texts.append(f"Smallest effect detectable with 80% probability: {size(claim, verdict.advice.detectable)}.")
    n = len(contrast.differences)
    if is_constant(contrast.differences):
        texts.append(f"All {n} seeds gave the same difference, so the sign test was used (p = 1/2^{n}).")
    for name, ends in zip(("mean", "interquartile mean"), tests.bootstraps, strict=False):
        assert ends.low is not None
        assert ends.high is not None
        interval = f"{format_signed(claim, ends.low)} to {format_effect(claim, ends.high)}"
        texts.append(f"95% percentile bootstrap of the {name}: {interval} (10,000 resamples of the seeds).")
    return texts


def unit(claim: Claim) -> str:
    """Unit of an effect: points for accuracies and fractions of seeds, nats for losses."""
    name = "points" if claim.in_points else "nats"
    return f"{name} per doubling" if claim.kind == "trend" else name


def format_signed(claim: Claim, value: float) -> str:
    """An effect with its sign and without its unit.

    Example:
        >>> format_signed(Claim("a", "residual", (True, False), "less"), 0.0512)
        '+5.12'
    """
    text = f"{100 * value:+.2f}" if claim.in_points else f"{value:+.4g}"
    if not text.strip("+-0."):
        return text[1:]
    return text.replace("-", MINUS)


def format_effect(claim: Claim, value: float) -> str:
    """An effect with its sign and unit."""
    return f"{format_signed(claim, value)} {unit(claim)}"


def size(claim: Claim, value: float) -> str:
    """The size of an effect without its sign, with its unit: 2.00 points, 81.0 points, 0.375 nats per doubling."""
    if claim.in_points:
        points = abs(100 * value)
        text = f"{points:.1f}" if points >= 9.995 else f"{points:.2f}"
    else:
        text = f"{abs(value):.4g}"
    return f"{text} {unit(claim)}"


def percent(value: float) -> str:
    """A fraction as a percentage: 90%, 11.35%."""
    return f"{100 * value:.4g}%"


def level_value(claim: Claim, value: float) -> str:
    """A value of the claim's metric, or a fraction of seeds: 90%, 0.5 nats."""
    return percent(value) if claim.metric.endswith("accuracy") else f"{value:.4g} nats"


def _effect_sentence(contrast: Contrast, effect: Interval) -> str:
    """The effect with its 95% interval and the number of seeds."""
    claim = contrast.claim
    if claim.kind == "success":
        return f"{_success_counts(contrast)} ({_interval(claim, effect, 'difference ')})."
    metric = METRIC_NAMES[claim.metric]
    evidence = f"({_interval(claim, effect)}, {count(effect.n, 'seed')})"
    where = _location(claim)
    magnitude = size(claim, effect.mean)
    if claim.kind == "trend":
        verb = "rises" if effect.mean > 0 else "falls" if effect.mean < 0 else "changes"
        return f"{metric} {verb} by {magnitude} of {_axis(claim)}{where} {evidence}."
    left = contrast.arms[0].phrase
    equal = float(magnitude.split()[0]) == 0
    direction = "the same" if equal else f"{magnitude} {'higher' if effect.mean > 0 else 'lower'}"
    than = "as" if equal else "than"
    if claim.reference is not None:
        reference = level_value(claim, claim.reference)
        return f"{metric} for {left}{where} is {direction} {than} the reference value {reference} {evidence}."
    return f"{metric} is {direction} for {left} {than} for {contrast.arms[1].phrase}{where} {evidence}."


def _explain(verdict: Verdict, effect: Interval) -> str:
    """Why the measured effect gives this verdict; `""` if there is nothing to add."""
    assert effect.low is not None
    assert effect.high is not None
    claim, decision = verdict.claim, verdict.decision
    excludes_zero = effect.low > 0 or effect.high < 0
    sign = -1.0 if claim.expect == "less" else 1.0
    matters = size(claim, claim.matters)
    if decision == "supported":
        if claim.expect == "equal":
            return f"The difference is smaller than {matters}, which the claim considers negligible."
        return f"This is more than the {matters} that matter." if claim.matters else ""
    if decision == "refuted":
        if claim.expect == "equal":
            return f"This is larger than the {matters} considered negligible."
        if sign * effect.mean < 0 and excludes_zero:
            return "This is the opposite of the claimed direction."
        return f"This is below the {matters} that would matter." if claim.matters else "There is no such effect."
    if excludes_zero and claim.matters > 0 and claim.expect != "equal" and sign * effect.mean > 0:
        return f"The direction is clear, but the effect may be too small to matter (below {matters})."
    return "The evidence is not sufficient yet."


def _seeds_needed_sentence(more: int | None, distance: float) -> str:
    if distance <= 0:
        return "The effect sits exactly on the threshold, so more seeds will not decide it."
    if more is None:
        return "More than 1,000 seeds would be needed."
    return f"About {count(more, 'more seed')} should settle it."


def _divergence_sentences(contrast: Contrast) -> list[str]:
    """How many seeds diverged at which level, and what that means for the claim."""
    claim = contrast.claim
    if not contrast.diverged:
        return []
    if claim.kind == "success":
        meaning = "A diverged seed counts as a failure."
    elif claim.kind == "trend" or not claim.in_points or contrast.chance is None:
        meaning = "A diverged seed has no value here, so the claim stays undecided."
    else:
        meaning = f"A diverged seed counts as chance accuracy ({percent(contrast.chance)})."
    if claim.expect == "equal" and claim.kind != "trend" and claim.in_points:
        meaning += " Levels of which one diverges are never called equal."
    counts = [
        f"{len(arm.diverged)} of {count(len(arm.seeds), 'seed')} diverged at {arm.level}."
        for arm in contrast.arms
        if arm.diverged
    ]
    return [*counts, meaning]


def _exclusion_notes(contrast: Contrast) -> list[str]:
    """Seeds without a value for other reasons than divergence, one sentence each."""
    texts = []
    for arm in contrast.arms:
        for reason, seeds in arm.missing.items():
            listed = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
            trials = count(len(seeds), "trial")
            if reason == "pending":
                texts.append(f"{trials} at {arm.level} {'is' if len(seeds) == 1 else 'are'} not finished ({listed}).")
            else:
                texts.append(f"{trials} at {arm.level} {MISSING.get(reason, reason)} ({listed}); excluded.")
    return texts


def _check_sentences(verdict: Verdict) -> list[str]:
    """The result of the distribution-free check."""
    flips, claims, n = verdict.tests.sign_flip, verdict.tests.claims, len(verdict.contrast.differences)
    if flips is None:
        return []
    if flips.floor > 0.05 / claims:
        needed = seeds_for_check(claims)
        return [f"Too few seeds for the distribution-free check (sign-flip test): {needed} are needed, there are {n}."]
    text = f"Distribution-free check (sign-flip test): p = {flips.p:.2g}"
    if verdict.decision != "undecided" and flips.p > 0.05 and verdict.claim.matters == 0:
        return [f"{text}. It disagrees: a single seed may drive this result."]
    return [f"{text}."]


def _location(claim: Claim) -> str:
    """The levels at which other factors are held: " at depth 40 and width 32 in plain networks"; `""` without any."""
    networks = [describe_level(key, level) for key, level in claim.at.items() if last_part(key) in ("residual", "role")]
    others = [
        describe_level(key, level) for key, level in claim.at.items() if last_part(key) not in ("residual", "role")
    ]
    listed = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else "".join(others)
    return f" at {listed}" * bool(others) + f" in {' and '.join(networks)}" * bool(networks)


def _interval(claim: Claim, interval: Interval, prefix: str = "") -> str:
    """The 95% interval: sizes if the direction is clear (as the sentence names it), signed numbers if it is not.

    Ends beyond the largest possible difference, 100 points, are clipped.
    """
    assert interval.low is not None
    assert interval.high is not None
    limit = 1.0 if claim.in_points and claim.kind != "trend" else math.inf
    low, high = max(-limit, interval.low), min(limit, interval.high)
    clipped = ", clipped to the possible differences" * ((low, high) != (interval.low, interval.high))
    head = f"{prefix}{format_effect(claim, interval.mean)}, " if prefix else ""
    if prefix or low < 0 < high:
        return f"{head}95% interval {format_signed(claim, low)} to {format_effect(claim, high)}{clipped}"
    lower, upper = (size(claim, end) for end in sorted((abs(low), abs(high))))
    return f"95% interval {lower.partition(' ')[0]} to {upper}{clipped}"


def _success_counts(contrast: Contrast) -> str:
    """How many seeds of each level succeed: "5 of 6 seeds exceed 90% test accuracy for width 64, 0 of 6 for width 32"."""
    claim = contrast.claim
    (hits, n), *others = (contrast.successes(arm) for arm in contrast.arms)
    threshold = f"{level_value(claim, claim.threshold or 0.0)} {METRIC_NAMES[claim.metric].lower()}"
    text = f"{hits} of {count(n, 'seed')} exceed{'s' * (n == 1)} {threshold} for {contrast.arms[0].phrase}"
    text += _location(claim)
    for (hits, n), arm in zip(others, contrast.arms[1:], strict=True):
        text += f", {hits} of {n} for {arm.phrase}"
    return text if claim.reference is None else f"{text}, compared with a reference of {percent(claim.reference)}"


def _axis(claim: Claim) -> str:
    """What doubles along a trend."""
    if claim.levels and isinstance(claim.levels[0], list | tuple):
        return "depth"
    return describe_level(claim.factor, "").strip()
