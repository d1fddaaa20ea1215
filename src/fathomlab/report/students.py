"""Sentences, names, and cells that the sections about distillation share."""

import math
from collections.abc import Iterable, Sequence

from fathomlab.analysis.distillation import Lead, leads
from fathomlab.analysis.pairing import Paired, Student, emulated_mistakes, teacher_count
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.numbers import MINUS, capital, count, listed, plain, signed, span

MAX_LEADS = 3  # named in one sentence
UNBOUNDED = "unbounded"
MISTAKE = "(mistake: "  # the style sheet's red, in tables
MISTAKES = {
    "no_t2": "no T\u00b2",
    "mean_reduction": "mean over classes",
    "shuffled_cache": "targets of other images",
    "student_eval": "student in evaluation mode",
    "unmatched_schedule": "unmatched schedule",
}
PLACEBOS = {
    "label_smoothing": "label smoothing",
    "shuffled": "shuffled teacher",
    "class_mean": "class-mean teacher",
    "within_class": "within-class teacher",
}


def named(condition: Condition) -> str:
    """The name of a condition with the mistakes that it emulates: "distilled, alpha 0.7 (mistake: no T²)"."""
    texts = [MISTAKES.get(name, name.replace("_", " ")) for name in emulated_mistakes(condition)]
    return f"{condition.name} {MISTAKE}{', '.join(texts)})" if texts else condition.name


def mistake_warnings(study: Study) -> list[str]:
    """A sentence about the conditions that emulate a classic mistake; empty without any."""
    names = [named(condition) for condition in study.conditions if emulated_mistakes(condition)]
    if not names:
        return []
    if len(names) == 1:
        return [f"{capital(names[0])} repeats a classic mistake on purpose. Do not read its numbers as results."]
    which = f"{len(names)} conditions repeat classic mistakes on purpose: {'; '.join(names)}."
    return [f"{which} Do not read their numbers as results."]


def lead_sentence(study: Study, members: Sequence[Student] | None = None) -> str:
    """Teacher minus baseline for each pair that students compare, or why no pair has it; "" without results."""
    every = leads(study, members)
    known = [lead for lead in every if lead.difference.interval is not None]
    lost = [lead for lead in every if lead.difference.excluded]
    if not known and len(lost) > MAX_LEADS:
        return f"Teacher {MINUS} baseline: no value for {len(lost)} pairs."
    known = known or lost
    if not known:
        return ""
    if len(known) == 1:
        return f"Teacher {MINUS} baseline: {difference_text(known[0].difference)}."
    if len(known) <= MAX_LEADS:
        return f"Teacher {MINUS} baseline: {'; '.join(f'{_pair(lead)}: {difference_text(lead.difference)}' for lead in known)}."
    means = [lead.difference.mean or 0.0 for lead in known]
    worst = known[means.index(min(means))]
    ends = f"{points(min(means))} to {points(max(means))} points"
    smallest = f"smallest for {_pair(worst)}: {difference_text(worst.difference)}"
    return f"Teacher {MINUS} baseline: {ends} over {len(known)} pairs; {smallest}."


def lead_warnings(study: Study, members: Sequence[Student] | None = None) -> list[str]:
    """A sentence for each pair whose teacher is not clearly better than the baseline."""
    texts: list[str] = []
    every = leads(study, members)
    for lead in every:
        who = "The teacher" if len(every) == 1 else f"The teacher of {_pair(lead)}"
        mean = lead.difference.mean
        if mean is None:
            continue
        if mean <= 0:
            texts.append(f"{who} is not better than the baseline, so gains from distillation cannot be interpreted.")
        elif not lead.is_positive or (len(lead.difference.differences) > 1 and not lead.difference.is_clear):
            texts.append(f"{who} is not clearly better than the baseline. Interpret gains from distillation with care.")
    return texts


def teachers_sentence(members: Sequence[Student]) -> str:
    """How many different teachers the trials have; nine students of one teacher are one teacher."""
    number, trials = teacher_count(members), sum(len(item.condition.trials) for item in members)
    if not number:
        return ""
    if number == 1:
        what = f"All {trials} trials of students" if trials > 1 else "The only trial of a student"
        return f"{what} learned from one teacher, so the results hold for this teacher only."
    return f"The {count(trials, 'trial')} of students learned from {count(number, 'different teacher')}."


def difference_text(value: Paired, unit: str = "points", scale: float = 100.0) -> str:
    """A paired difference: "+2.40 points (95% interval +1.90 to +2.90, 5 seeds; 1 of 6 diverged)"."""
    interval = value.interval
    if interval is None:
        return f"no value ({value.excluded})" if value.excluded else "no value"
    seeds = (
        f"95% interval {span(interval, scale)}, {count(interval.n, 'seed')}" if interval.low is not None else "1 seed"
    )
    excluded = f"; {value.excluded}" if value.excluded else ""
    return f"{signed(scale * interval.mean)} {unit} ({seeds}{excluded})"


def share_text(share: Interval | None) -> str:
    """A share of a gain: "62% (95% interval 41 to 88%)"; "" if it is not defined."""
    if share is None or math.isnan(share.mean) or is_unbounded(share):
        return ""
    if share.low is None or share.high is None:
        return f"{plain(100 * share.mean, 0)}%"
    low, high = (plain(100 * end, 0).replace("-", MINUS) for end in (share.low, share.high))
    return f"{plain(100 * share.mean, 0).replace('-', MINUS)}% (95% interval {low} to {high}%)"


def is_unbounded(interval: Interval) -> bool:
    """Whether the denominator of a ratio may be zero, so that the interval of the ratio has no ends."""
    return interval.low is not None and math.isinf(interval.low)


def cells(interval: Interval | None, scale: float = 1.0, digits: int = 2) -> list[str]:
    """Mean and ends for a table; empty texts without a value, and `unbounded` for ends that do not exist."""
    if interval is None or math.isnan(interval.mean):
        return ["", "", ""]
    ends = (interval.mean, interval.low, interval.high)
    return [
        UNBOUNDED if end is not None and math.isinf(end) else plain(None if end is None else scale * end, digits)
        for end in ends
    ]


def mean_cells(values: Iterable[float], scale: float = 1.0, digits: int = 2) -> list[str]:
    """Mean and 95% interval of values for a table."""
    known = list(values)
    return cells(mean_interval(known) if known else None, scale, digits)


def points(fraction: float) -> str:
    """A difference of fractions in points, with its sign."""
    return signed(100 * fraction)


def placebo_text(student: Student) -> str:
    """Name of its placebo; "" without one."""
    return PLACEBOS.get(student.placebo, student.placebo.replace("_", " "))


def teacher_names(student: Student) -> str:
    """What a student learns from."""
    return listed([teacher.name for teacher in student.teachers]) or "another network"


def _pair(lead: Lead) -> str:
    return f"{listed([teacher.name for teacher in lead.teachers])} {MINUS} {lead.baseline.name}"
