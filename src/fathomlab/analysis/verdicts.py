"""From claims and trials to verdicts: supported, refuted, or undecided."""

from functools import cache
from typing import Any

from fathomlab.analysis import wording
from fathomlab.analysis.contrasts import Contrast, contrast, on_images
from fathomlab.analysis.details import details, image_notes, look_notes
from fathomlab.analysis.evidence import Evidence, additional_seeds, detectable, distance_to_threshold, measure
from fathomlab.analysis.looks import Looks, looks_at
from fathomlab.analysis.sequential import level_now
from fathomlab.analysis.significance import ONE_SIDED, correlation, holm_adjusted, holm_levels
from fathomlab.analysis.statistics import Interval, wilson_interval
from fathomlab.config.load import check_claims
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord


def verdicts(store: Store, experiment: ExperimentRecord) -> list[dict[str, Any]]:
    """The verdict on each declared claim, as plain data in the order of the file.

    Decisions are one-sided tests against the smallest effect that matters at 2.5% (paired t tests; exact tests for fractions),
    Holm-adjusted over the claims, at the level of the look if the seeds were analyzed before. A claim of no difference
    needs its 90% interval inside +-that effect (TOST). The `p` of a verdict is one-sided in the claimed direction; `p_holm`
    belongs to the smaller of `p` and `p_against` and decides at 2.5%, for a claim of no difference at 5%.

    A diverged seed counts as a failure in success claims and as chance accuracy in differences of accuracies. If a seed
    diverged, claims of no difference are never supported, and trends and losses stay undecided.
    """
    if not experiment.claims:
        return []
    read = cache(store.trial)
    measured = [measure(contrast(read, experiment, claim)) for claim in check_claims(list(experiment.claims))]
    looks = looks_at(store, experiment)
    p_values = [evidence.decisive for evidence in measured]
    levels = holm_levels(p_values, lambda left: level_now(looks.made, looks.n, ONE_SIDED / left))
    adjusted = holm_adjusted(p_values)
    results = []
    for evidence, level, p_holm in zip(measured, levels, adjusted, strict=True):
        claim = evidence.contrast.claim
        images = on_images(read, evidence.contrast) if claim.kind == "difference" else None
        verdict = _judge(evidence, level, p_holm, len(measured), looks)
        verdict["notes"] = [*verdict["notes"], *image_notes(images), *look_notes(looks)]
        marks = {"exploratory": experiment.claims_late, "seeds_added_after_results": looks.changed}
        results.append(verdict | {"mcnemar": images, **marks})
    return results


def _judge(evidence: Evidence, level: float, p_holm: float, claims: int, looks: Looks) -> dict[str, Any]:
    """Everything of a verdict except the test on images."""
    found, claim, interval = evidence.contrast, evidence.contrast.claim, evidence.interval
    decided = level > 0 and evidence.decisive <= level
    verdict = "undecided" if not decided else "supported" if evidence.support <= level else "refuted"
    distance = distance_to_threshold(claim, interval.mean) if interval else 0.0
    later = max(level, ONE_SIDED / claims) if looks.made else level  # the level grows from look to look
    more = None if decided or evidence.blocked else additional_seeds(evidence, distance, later, claims)
    finding = _finding(evidence, verdict, more, distance)
    scale = 2 if claim.expect == "equal" else 1
    pairs = [pair for pair in found.pairs if pair.first is not None and pair.second is not None]
    return {
        "name": claim.name,
        "kind": claim.kind,
        "sentence": f"{claim.name}: {finding}",
        "finding": finding,
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
        "mde": detectable(evidence),
        "more_seeds": more,
        "values": [
            {
                "seed": pair.seed,
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference,
                "diverged": pair.diverged,
            }
            for pair in found.pairs
        ],
        "diverged": [
            {"level": side.level, "diverged": len(side.diverged), "n": len(side.seeds), "seeds": list(side.diverged)}
            for side in found.sides
        ],
        "success": _successes(found),
        "notes": wording.exclusion_notes(found),
        "details": details(evidence, verdict, 200 * level, claims, looks),
    }


def _finding(evidence: Evidence, verdict: str, more: int | None, distance: float) -> str:
    """What was found, in plain words: the effect, why it gives this verdict, what diverged, and what would decide."""
    found, interval = evidence.contrast, evidence.interval
    diverged = wording.divergence_sentences(found)
    if interval is None:
        sides = "both levels" if len(found.sides) == 2 else "all levels" if len(found.sides) > 2 else "a result"
        absent = f"{found.absent[:1].upper()}{found.absent[1:]}." if found.absent else f"No seed has {sides} yet."
        return " ".join([*diverged, *([] if diverged and not found.absent else [absent])])
    if interval.low is None:
        return " ".join([wording.single_seed_sentence(found, interval), *diverged])
    sentences = [wording.effect_sentence(found, interval), *diverged]
    if not evidence.blocked or verdict != "undecided":
        sentences.append(wording.explanation(found.claim, verdict, interval))
    if verdict == "undecided" and not evidence.blocked:
        sentences.append(wording.seeds_needed_sentence(more, distance))
    return " ".join(filter(None, sentences))


def _successes(found: Contrast) -> list[dict[str, Any]] | None:
    if found.claim.kind != "success":
        return None
    made = []
    for place, side in enumerate(found.sides):
        successes, n = found.successes(place)
        interval = wilson_interval(successes, n) if n else Interval(0.0, None, None, 0)
        made.append({"level": side.level, "successes": successes, "n": n, "low": interval.low, "high": interval.high})
    return made
