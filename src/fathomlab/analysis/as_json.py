"""Verdicts, looks, and differences as JSON: for `--json`, for records on disk, and in reports.

Everything that leaves the analysis as JSON is created here. The keys are a public interface and do not change.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from fathomlab.analysis.breakdown import Breakdown, breakdowns
from fathomlab.analysis.compare import Difference, Summary, summarize_study
from fathomlab.analysis.distillation import Gain, gains, leads
from fathomlab.analysis.fidelity import fidelity
from fathomlab.analysis.pairing import students, teacher_count
from fathomlab.analysis.recorded import MAX_CONDITIONS, embedded, record_trials
from fathomlab.analysis.sequential import Look
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.tuning import choice_json
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import details, finding, notes
from fathomlab.base.codec import JsonObject, from_plain, to_plain
from fathomlab.store.reading import Store

FORMAT = 1


def verdict_json(verdict: Verdict) -> JsonObject:
    """A verdict with its sentences. `decided_at` is the two-sided level (%) of the decision."""
    contrast, tests, advice = verdict.contrast, verdict.tests, verdict.advice
    claim, effect, text = verdict.claim, verdict.effect, finding(verdict)
    return {
        "name": claim.name,
        "kind": claim.kind,
        "sentence": f"{claim.name}: {text}",
        "finding": text,
        "verdict": verdict.decision,
        "metric": claim.metric,
        "expect": claim.expect,
        "matters": claim.matters,
        "effect": effect.mean if effect else None,
        "low": effect.low if effect else None,
        "high": effect.high if effect else None,
        "n": verdict.n,
        "sd": tests.sd,
        "rho": tests.correlation,
        "p": tests.p,
        "p_against": tests.p_against,
        "p_holm": tests.p_holm,
        "decided_at": 200 * tests.level,
        "signflip_p": tests.sign_flip.p if tests.sign_flip else None,
        "signflip_floor": tests.sign_flip.floor if tests.sign_flip else None,
        "mde": advice.detectable,
        "more_seeds": advice.more_seeds,
        "values": [to_plain(pair) for pair in contrast.pairs],
        "diverged": [
            {"level": arm.level, "diverged": len(arm.diverged), "n": len(arm.seeds), "seeds": list(arm.diverged)}
            for arm in contrast.arms
        ],
        "success": [to_plain(success) for success in verdict.success] if claim.kind == "success" else None,
        "notes": notes(verdict),
        "details": details(verdict),
        "mcnemar": to_plain(verdict.images) if verdict.images else None,
        "exploratory": verdict.exploratory,
        "seeds_added_after_results": verdict.looks.changed,
        **({"tuned": tuned} if (tuned := _tuned(verdict)) else {}),
    }


def _tuned(verdict: Verdict) -> list[JsonObject]:
    """The tuned levels of the conditions that a claim compares."""
    return [
        {
            "level": arm.level,
            "condition": condition.record.label,
            "picked": to_plain(dict(condition.choice.picked.levels)),
            "tries": len(condition.choice.tries),
        }
        for arm in verdict.contrast.arms
        for condition in arm.conditions
        if condition.choice is not None
    ]


def summary_json(study: Study, verdicts: Sequence[Verdict]) -> JsonObject:
    """The numbers of an experiment, as its report embeds them: of a large one, those of the first conditions and trials."""
    experiment, distillation = study.experiment, distillation_json(study)
    shown, left_out = replace(study, conditions=study.conditions[:MAX_CONDITIONS]), _left_out(study)
    return {
        "format": FORMAT,
        "name": experiment.name,
        "title": experiment.title,
        "headline": experiment.headline,
        "seeds": list(experiment.seeds),
        "claims_hash": experiment.claims_hash,
        "conditions": to_plain(summarize_study(shown, verdicts))["conditions"],
        "verdicts": [verdict_json(verdict) for verdict in verdicts],
        **({"distillation": distillation} if distillation else {}),
        "trials": to_plain(record_trials(study)),
        **({"left_out": left_out} if any(left_out.values()) else {}),
        **({"tuned": [choice_json(*pair) for pair in study.choices]} if study.choices else {}),
    }


def _left_out(study: Study) -> dict[str, int]:
    """Numbers of conditions and trials that the report of a large study does not embed."""
    trials = sum(len(condition.trials) for condition in embedded(study.every))
    return {
        "conditions": max(0, len(study.conditions) - MAX_CONDITIONS),
        "trials": len(study.trials) - trials,
    }


def distillation_json(study: Study) -> JsonObject:
    """What students gain and what the gain is made of, in fractions of images; empty without students.

    `teachers` counts different teachers. An interval of several seeds without ends is unbounded.
    """
    members = students(study)
    if not members:
        return {}
    return {
        "teachers": teacher_count(members),
        "leads": [
            {
                "teachers": [teacher.record.label for teacher in lead.teachers],
                "baseline": lead.baseline.record.label,
                "difference": _interval(lead.difference.interval),
            }
            for lead in leads(study, members)
        ],
        "students": [_student(item) for item in gains(study, members)],
        "breakdowns": [_breakdown(item) for item in breakdowns(study)],
    }


def tuned_json(store: Store, experiments: Sequence[str]) -> list[JsonObject]:
    """How each tuned condition of these experiments was chosen."""
    tuned = [record for name in experiments if (record := store.experiment(name)).tune is not None]
    return [
        {"experiment": record.name, **choice_json(*pair)} for record in tuned for pair in study(store, record).choices
    ]


def read_summary(value: Any) -> Summary:
    """The numbers that a report embeds; the inverse of `summary_json`.

    Raises:
        ValueError: If these are not the numbers of a report.
    """
    return from_plain(Summary, value)


def conditions_left_out(value: Any) -> int:
    """How many conditions the numbers that a report embeds lack, because the experiment is large."""
    left_out = value.get("left_out") if isinstance(value, dict) else None
    number = cast("dict[str, Any]", left_out).get("conditions") if isinstance(left_out, dict) else None
    return number if isinstance(number, int) else 0


def looks_json(looks: Sequence[Look]) -> list[JsonObject]:
    """Interim analyses for the record of their experiment, without what is not known."""
    return [{key: value for key, value in to_plain(look).items() if value is not None} for look in looks]


def differences_json(rows: Sequence[Difference]) -> list[JsonObject]:
    """The rows of a comparison."""
    return [to_plain(row) for row in rows]


def _student(item: Gain) -> JsonObject:
    student, like = item.student, fidelity(item.student)
    means = {"agreement": like.agreement, "teacher_kl": like.teacher_kl, "softened_kl": like.softened_kl}
    means |= {"gain_on_errors": like.gain_on_errors, "gain_elsewhere": like.gain_elsewhere}
    return {
        "condition": student.condition.record.label,
        "baseline": student.baseline.record.label if student.baseline is not None else None,
        "teachers": [teacher.record.label for teacher in student.teachers],
        "placebo": student.placebo or None,
        "emulated": list(student.emulated),
        "gain": _interval(item.gain.interval if item.gain is not None else None),
        "share_of_lead": _interval(item.share),
        **{name: _interval(mean_interval(list(values.values())) if values else None) for name, values in means.items()},
    }


def _breakdown(item: Breakdown) -> JsonObject:
    return {
        "student": item.student.condition.record.label,
        "steps": [
            {
                "kind": step.kind,
                "condition": step.condition.record.label,
                "gain": _interval(step.gain.interval),
                "share": _interval(step.share),
            }
            for step in item.steps
        ],
        "parts": [
            {"name": part.name, "verdict": part.decision, "difference": _interval(part.difference.interval)}
            for part in item.parts
        ],
        "suspicious": item.is_suspicious,
    }


def _interval(interval: Interval | None) -> JsonObject | None:
    """An interval; numbers that are not finite become None."""
    if interval is None:
        return None
    return {key: value if value is None or math.isfinite(value) else None for key, value in to_plain(interval).items()}
