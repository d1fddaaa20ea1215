"""The statistics behind a verdict and what readers should know about it, as sentences."""

from collections.abc import Mapping
from typing import Any

from fathomlab.analysis import wording
from fathomlab.analysis.evidence import Evidence, detectable, seeds_for_check
from fathomlab.analysis.looks import Looks
from fathomlab.analysis.significance import without_spread
from fathomlab.analysis.statistics import FEWEST_FOR_BOOTSTRAP, bootstrap_interval


def image_notes(images: Mapping[str, Any] | None) -> list[str]:
    """Seeds that the image-by-image comparison leaves out."""
    if not images or not images["excluded"]:
        return []
    seeds = ", ".join(map(str, images["excluded"]))
    return [f"The image-by-image comparison excludes seeds without stored predictions ({seeds})."]


def look_notes(looks: Looks) -> list[str]:
    """Whether the seeds were chosen after results."""
    if not looks.changed:
        return []
    earlier = ", ".join(map(str, looks.earlier))
    return [
        f"Seeds were added after results: this question was analyzed before with {earlier} seeds. The error level is shared "
        "over these analyses."
    ]


def details(evidence: Evidence, verdict: str, decided_at: float, claims: int, looks: Looks) -> list[str]:
    """The statistics behind a verdict, one sentence each."""
    found, interval = evidence.contrast, evidence.interval
    if interval is None or interval.low is None:
        return []
    claim, values = found.claim, found.differences
    sentences = []
    averaged = max(len(side.conditions) for side in found.sides)
    if averaged > 1:
        sentences.append(f"Each level is the mean over {averaged} conditions of the same seed.")
    scale = 2 if claim.expect == "equal" else 1
    sentences.append(
        f"One-sided p = {min(1.0, scale * evidence.support):.2g} for the claim, {evidence.against:.2g} for its opposite."
    )
    if abs(decided_at - 5) > 1e-9:
        reasons = [f"corrected for {claims} claims by Holm's method"] * (claims > 1)
        reasons += [f"interim analysis {looks.before} with alpha spending"] * bool(looks.made)
        sentences.append(f"Significance level {_percent(decided_at)}% instead of 5% ({'; '.join(reasons)}).")
    sentences += _check(evidence, verdict, claims)
    mde = detectable(evidence)
    if mde is not None and claim.kind != "success":
        sentences.append(f"Smallest effect detectable with 80% probability: {wording.size(claim, mde)}.")
    if claim.kind == "success":
        return sentences
    if without_spread(values):
        sentences.append(
            f"All {len(values)} seeds gave the same difference, so the sign test was used (p = 1/2^{len(values)})."
        )
    elif len(values) >= FEWEST_FOR_BOOTSTRAP:
        for name, ends in (
            ("mean", bootstrap_interval(values)),
            ("interquartile mean", bootstrap_interval(values, "iqm")),
        ):
            assert ends.low is not None
            assert ends.high is not None
            text = f"{wording.signed(claim, ends.low)} to {wording.amount(claim, ends.high)}"
            sentences.append(f"95% percentile bootstrap of the {name}: {text} (10,000 resamples of the seeds).")
    return sentences


def _check(evidence: Evidence, verdict: str, claims: int) -> list[str]:
    """What the distribution-free check says."""
    flips, n = evidence.flips, len(evidence.contrast.differences)
    if flips is None:
        return []
    if flips.floor > 0.05 / claims:
        needed = seeds_for_check(claims)
        return [f"Too few seeds for the distribution-free check (sign-flip test): {needed} are needed, there are {n}."]
    text = f"Distribution-free check (sign-flip test): p = {flips.p:.2g}"
    if verdict != "undecided" and flips.p > 0.05 and evidence.contrast.claim.matters == 0:
        return [f"{text}. It disagrees: a single seed may drive this result."]
    return [f"{text}."]


def _percent(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.1g}" if value > 0 else "0"
