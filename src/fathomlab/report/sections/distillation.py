"""Teacher, baseline, and distilled students: size, accuracy, gain, gap closed, and agreement with the teacher."""

from collections.abc import Sequence
from statistics import fmean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import number
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.plan.trial import parent_hashes
from fathomlab.report.effects import accuracy, distillation_gains, percentage
from fathomlab.report.numbers import count, format_int, listed, plain, signed, span
from fathomlab.report.parents import has_own_roles
from fathomlab.report.section import Plain, Section
from fathomlab.report.tables import Table, table
from fathomlab.report.warnings import teacher_warnings

LIKENESS = ("agreement with teacher (%)", "agreement: 95% low", "agreement: 95% high", "calibration error (%)")


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The result of the best student, and a row per network; a row per student for other roles than the lab's."""
    if has_own_roles(study):
        return _students(study)
    data = distillation_table(study)
    if data is None:
        return None
    content = Plain(
        note="Both students are identical except for the loss. Gain: accuracy over the baseline (points, same seed). Gap closed: "
        "gain / teacher's lead. Agreement: test images for which student and teacher predict the same class.",
        result=distillation_sentence(study),
        table=data,
        label="Teacher, baseline and distilled students",
        starts=("gain over baseline (points)", "agreement with teacher (%)"),
    )
    return Section("distillation", "Distillation", content)


def distillation_table(study: Study) -> Table | None:
    """A row per network; None for other experiments."""
    gains = {effect.second.name: effect for effect in distillation_gains(study)}
    if not gains and not study.with_role("teacher"):
        return None
    rows: list[list[str]] = []
    for condition in study.conditions:
        teacher = None if condition.record.role == "teacher" else study.partner(condition, "teacher")
        full = teacher.total_parameters if teacher is not None else None
        size, mean = condition.total_parameters, accuracy(study, condition)
        fewer = plain(100 * (1 - size / full), 1) if size is not None and full else ""
        effect = gains.get(condition.name)
        closed = gap_closed(study, condition) if effect is not None else None
        row = [condition.name, *_options(condition), format_int(size), fewer, *_ends(mean), str(mean.n if mean else 0)]
        row += [condition.excluded(study.metric), *_ends(effect.interval if effect else None)]
        row += [effect.excluded if effect else "", plain(closed, 1)]
        rows.append([*row, *_likeness(condition)])
    columns = ["network", "alpha", "temperature", "parameters", "fewer than teacher (%)", "test accuracy (%)"]
    columns += ["95% low", "95% high", "seeds", "excluded", "gain over baseline (points)", "gain: 95% low"]
    columns += ["gain: 95% high", "excluded pairs", "gap closed (%)", *LIKENESS]
    return table("distillation", columns, rows)


def _students(study: Study) -> Section:
    """A row per condition that learns from others."""
    role_of = {trial.trial: condition.name for condition, _, trial in study.trials}
    rows: list[list[str]] = []
    for condition in study.conditions:
        hashes = [parent_hashes(trial.content) for _, trial in condition.trials]
        teachers = [
            role_of.get(name, "another network") for kind, name in next(filter(None, hashes), ()) if kind == "teacher"
        ]
        if teachers:
            mean = accuracy(study, condition)
            row = [
                condition.name,
                listed(teachers),
                *_options(condition),
                format_int(condition.total_parameters),
                *_ends(mean),
            ]
            row += [str(mean.n if mean else 0), condition.excluded(study.metric)]
            rows.append([*row, *_likeness(condition)])
    columns = [
        "network",
        "learns from",
        "alpha",
        "temperature",
        "parameters",
        "test accuracy (%)",
        "95% low",
        "95% high",
    ]
    columns += ["seeds", "excluded", *LIKENESS]
    content = Plain(
        note="Agreement: test images for which a network and its teacher, or the mean of its teachers' logits, predict the same "
        "class.",
        table=table("distillation", columns, rows, texts=2),
        label="Networks that learn from others",
        starts=("seeds",),
    )
    return Section("distillation", "Distillation", content)


def distillation_sentence(study: Study) -> str:
    """The result of the student with the largest mean gain; "" if none finished."""
    gains = [(effect, effect.interval) for effect in distillation_gains(study) if effect.interval is not None]
    if not gains:
        return ""
    effect, gain = max(gains, key=lambda pair: pair[1].mean)
    seeds = f"95% interval {span(gain)}, {count(gain.n, 'seed')}" if gain.low is not None else "1 seed"
    pairs = f"; {count(effect.lost, 'pair')} excluded: {effect.excluded}" if effect.excluded else ""
    text = (
        f"Best distilled student: {effect.label}, {signed(gain.mean)} points over the baseline student ({seeds}{pairs})"
    )
    closed = gap_closed(study, effect.second)
    sentences = [f"{text}, which closes {plain(closed, 0)}% of the gap to the teacher." if closed else f"{text}."]
    if len(gains) > 1:
        sentences.append(f"It was selected as the best of {len(gains)}, so the true gain is probably smaller.")
    if closed is None and teacher_warnings(study):
        sentences.append('The teacher does not beat the baseline, so "gap closed" is undefined.')
    return " ".join(sentences)


def gap_closed(study: Study, student: Condition) -> float | None:
    """Mean gain over the mean distance from baseline to teacher, over the seeds that all three have [%].

    None if the teacher is not better than the baseline, or no seed has all three.
    """
    teacher, baseline = study.partner(student, "teacher"), study.partner(student, "baseline")
    if teacher is None or baseline is None:
        return None
    top, low, student_values = (condition.outcomes(study.metric) for condition in (teacher, baseline, student))
    seeds = [seed for seed in student_values if seed in low and seed in top]
    gap = fmean(top[seed] - low[seed] for seed in seeds) if seeds else 0.0
    return 100 * fmean(student_values[seed] - low[seed] for seed in seeds) / gap if gap > 0 else None


def _options(condition: Condition) -> list[str]:
    """Alpha and temperature of the trials."""
    trial = next((trial for _, trial in condition.trials if trial.content), None)
    keys = ("distillation.alpha", "distillation.temperature")
    return [f"{value:g}" if trial and (value := number(trial, key)) is not None else "" for key in keys]


def _likeness(condition: Condition) -> list[str]:
    """Agreement with the teacher and calibration error of the finished trials, as in `LIKENESS`."""
    outcomes = [trial.outcome for _, trial in condition.trials if trial.status == "finished"]
    agreement = percentage([outcome.agreement for outcome in outcomes])
    calibration = percentage([outcome.calibration_error for outcome in outcomes])
    return [*_ends(agreement), *_ends(calibration)[:1]]


def _ends(interval: Interval | None) -> list[str]:
    return ["", "", ""] if interval is None else [plain(interval.mean), plain(interval.low), plain(interval.high)]
