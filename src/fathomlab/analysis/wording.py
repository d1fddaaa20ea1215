"""Sentences of verdicts in plain words; statistical terms are in the details only."""

from collections.abc import Sequence

from fathomlab.analysis.contrasts import MISSING, Contrast, Side
from fathomlab.analysis.statistics import Interval
from fathomlab.base.labels import describe_level
from fathomlab.config.schema import Claim

MINUS = "\u2212"
METRICS = {
    "test/accuracy": "Test accuracy",
    "test/loss": "Test loss",
    "val/accuracy": "Validation accuracy",
    "val/loss": "Validation loss",
    "train/accuracy": "Training accuracy",
    "train/loss": "Training loss",
    "best/test/accuracy": "Test accuracy of the best epoch",
    "best/val/accuracy": "Best validation accuracy",
}


def unit(claim: Claim) -> str:
    """Unit of an effect: points for accuracies and fractions of seeds, nats for losses."""
    name = "points" if in_points(claim) else "nats"
    return f"{name} per doubling" if claim.kind == "trend" else name


def in_points(claim: Claim) -> bool:
    """Whether an effect is a difference of fractions, shown in percentage points."""
    return claim.kind == "success" or claim.metric.endswith("accuracy")


def signed(claim: Claim, value: float) -> str:
    """An effect with its sign and without its unit.

    Example:
        >>> signed(Claim("a", "residual", (True, False), "less"), 0.0512)
        '+5.12'
    """
    text = f"{100 * value:+.2f}" if in_points(claim) else f"{value:+.4g}"
    if not text.strip("+-0."):
        return text[1:]
    return text.replace("-", MINUS)


def amount(claim: Claim, value: float) -> str:
    """An effect with its sign and unit."""
    return f"{signed(claim, value)} {unit(claim)}"


def effect_sentence(contrast: Contrast, interval: Interval) -> str:
    """What was measured: the effect with its 95% interval and the number of seeds, as one sentence."""
    claim = contrast.claim
    if claim.kind == "success":
        return f"{_successes(contrast)} ({_interval(claim, interval, 'difference ')})."
    metric = METRICS[claim.metric]
    evidence = f"({_interval(claim, interval)}, {count(interval.n, 'seed')})"
    where = location(claim)
    if claim.kind == "trend":
        return f"{metric} {_verb(interval.mean)} by {size(claim, interval.mean)} of {_axis(claim)}{where} {evidence}."
    left = contrast.sides[0].phrase
    equal = float(size(claim, interval.mean).split()[0]) == 0
    direction = "the same" if equal else f"{size(claim, interval.mean)} {'higher' if interval.mean > 0 else 'lower'}"
    if claim.reference is not None:
        than = f"{'as' if equal else 'than'} the reference value {level_value(claim, claim.reference)}"
        return f"{metric} for {left}{where} is {direction} {than} {evidence}."
    than = f"{'as' if equal else 'than'} for {contrast.sides[1].phrase}"
    return f"{metric} is {direction} for {left} {than}{where} {evidence}."


def single_seed_sentence(contrast: Contrast, interval: Interval) -> str:
    """What one seed shows."""
    return f"Only one seed so far ({amount(contrast.claim, interval.mean)}); at least 2 are needed."


def explanation(claim: Claim, verdict: str, interval: Interval) -> str:
    """Why the measured effect gives this verdict; `""` if there is nothing to add."""
    assert interval.low is not None
    assert interval.high is not None
    away = interval.low > 0 or interval.high < 0
    sign = -1.0 if claim.expect == "less" else 1.0
    matters = size(claim, claim.matters)
    if verdict == "supported":
        if claim.expect == "equal":
            return f"The difference is smaller than {matters}, which the claim considers negligible."
        return f"This is more than the {matters} that matter." if claim.matters else ""
    if verdict == "refuted":
        if claim.expect == "equal":
            return f"This is larger than the {matters} considered negligible."
        if sign * interval.mean < 0 and away:
            return "This is the opposite of the claimed direction."
        return f"This is below the {matters} that would matter." if claim.matters else "There is no such effect."
    if away and claim.matters > 0 and claim.expect != "equal" and sign * interval.mean > 0:
        return f"The direction is clear, but the effect may be too small to matter (below {matters})."
    return "The evidence is not sufficient yet."


def seeds_needed_sentence(more: int | None, distance: float) -> str:
    """About how many more seeds should decide an open claim."""
    if distance <= 0:
        return "The effect sits exactly on the threshold, so more seeds will not decide it."
    if more is None:
        return "More than 1,000 seeds would be needed."
    return f"About {count(more, 'more seed')} should settle it."


def divergence_sentences(contrast: Contrast) -> list[str]:
    """How many seeds diverged at which level, and what that means for the claim."""
    claim = contrast.claim
    sentences = [
        f"{len(side.diverged)} of {count(len(side.seeds), 'seed')} diverged at {side.level}."
        for side in contrast.sides
        if side.diverged
    ]
    if not sentences:
        return []
    if claim.kind == "success":
        meaning = "A diverged seed counts as a failure."
    elif claim.kind == "trend" or not in_points(claim) or contrast.chance is None:
        meaning = "A diverged seed has no value here, so the claim stays undecided."
    else:
        meaning = f"A diverged seed counts as chance accuracy ({percent(contrast.chance)})."
    if claim.expect == "equal" and claim.kind != "trend" and in_points(claim):
        meaning += " Levels of which one diverges are never called equal."
    return [*sentences, meaning]


def exclusion_notes(contrast: Contrast) -> list[str]:
    """Seeds without a value for other reasons than divergence, one sentence each."""
    notes = []
    for side in contrast.sides:
        for reason, seeds in side.missing.items():
            listed = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
            trials = count(len(seeds), "trial")
            if reason == "pending":
                notes.append(f"{trials} at {side.level} {'is' if len(seeds) == 1 else 'are'} not finished ({listed}).")
            else:
                notes.append(f"{trials} at {side.level} {MISSING.get(reason, reason)} ({listed}); excluded.")
    return notes


def size(claim: Claim, value: float) -> str:
    """The size of an effect without its sign, with its unit: 2.00 points, 81.0 points, 0.375 nats per doubling."""
    if in_points(claim):
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


def location(claim: Claim) -> str:
    """The levels at which other factors are held: " at depth 40 and learning rate 0.1"; `""` without any."""
    phrases = [describe_level(key, level) for key, level in claim.at.items()]
    if not phrases:
        return ""
    return f" at {', '.join(phrases[:-1])} and {phrases[-1]}" if len(phrases) > 1 else f" at {phrases[0]}"


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 2 seeds."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _interval(claim: Claim, interval: Interval, prefix: str = "") -> str:
    """The 95% interval: sizes where the direction is clear (as the sentence names it), signed numbers where it is not."""
    assert interval.low is not None
    assert interval.high is not None
    head = f"{prefix}{amount(claim, interval.mean)}, " if prefix else ""
    if prefix or interval.low < 0 < interval.high:
        return f"{head}95% interval {signed(claim, interval.low)} to {amount(claim, interval.high)}"
    ends = sorted((abs(interval.low), abs(interval.high)))
    lower, upper = size(claim, ends[0]), size(claim, ends[1])
    return f"95% interval {lower.partition(' ')[0]} to {upper}"


def _successes(contrast: Contrast) -> str:
    """How many seeds of each level succeed: "5 of 6 seeds exceed 90% test accuracy for width 64, 0 of 6 for width 32"."""
    claim = contrast.claim
    counts = [_fraction(contrast, index, side) for index, side in enumerate(contrast.sides)]
    first = f"{counts[0][0]} of {count(counts[0][1], 'seed')} exceed{'s' * (counts[0][1] == 1)}"
    bar = f"{level_value(claim, claim.threshold or 0.0)} {METRICS[claim.metric].lower()}"
    text = f"{first} {bar} for {contrast.sides[0].phrase}{location(claim)}"
    text += "".join(f", {hits} of {n} for {side.phrase}" for hits, n, side in counts[1:])
    return text if claim.reference is None else f"{text}, compared with a reference of {percent(claim.reference)}"


def _fraction(contrast: Contrast, index: int, side: Side) -> tuple[int, int, Side]:
    return (*contrast.successes(index), side)


def _verb(value: float) -> str:
    return "rises" if value > 0 else "falls" if value < 0 else "changes"


def _axis(claim: Claim) -> str:
    """What doubles along a trend."""
    levels: Sequence[object] = claim.levels
    if levels and isinstance(levels[0], list | tuple):
        return "depth"
    return describe_level(claim.factor, "").strip()
