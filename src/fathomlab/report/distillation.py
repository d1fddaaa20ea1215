"""Teacher, baseline, and distilled students: size, accuracy, gain, gap closed, and agreement with the teacher."""

from statistics import fmean

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.effects import accuracy, bounded, distillation_gains
from fathomlab.report.loose import at, number
from fathomlab.report.numbers import count, format_int, listed, plain, signed, span
from fathomlab.report.tables import Table, table

METRICS = {"test/accuracy": "after the last epoch", "best/test/accuracy": "at the best validation epoch"}


def distillation_table(study: Study) -> Table | None:
    """A row per network; None for other experiments."""
    gains = {effect.second.name: effect for effect in distillation_gains(study)}
    if not gains and not study.with_role("teacher"):
        return None
    rows: list[list[str]] = []
    for condition in study.conditions:
        teacher = None if condition.record.role == "teacher" else study.partner(condition, "teacher")
        full = teacher.parameters if teacher is not None else None
        size, mean = condition.parameters, accuracy(study, condition)
        fewer = plain(100 * (1 - size / full), 1) if size is not None and full else ""
        effect = gains.get(condition.name)
        closed = gap_closed(study, condition) if effect is not None else None
        row = [condition.name, *_options(condition), format_int(size), fewer, *_ends(mean), str(mean.n if mean else 0)]
        row += [condition.excluded(study.metric), *_ends(effect.interval if effect else None)]
        row += [effect.excluded if effect else "", plain(closed, 1)]
        rows.append([*row, *_ends(_shown(condition, "agreement")), *_ends(_shown(condition, "calibration_error"))[:1]])
    columns = ["network", "alpha", "temperature", "parameters", "fewer than teacher (%)", "test accuracy (%)"]
    columns += ["95% low", "95% high", "seeds", "excluded", "gain over baseline (points)", "gain: 95% low"]
    columns += ["gain: 95% high", "excluded pairs", "gap closed (%)", "agreement with teacher (%)"]
    columns += ["agreement: 95% low", "agreement: 95% high", "calibration error (%)"]
    return table("distillation", columns, rows)


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


def teacher_warnings(study: Study) -> list[str]:
    """A sentence per teacher and baseline student for which the teacher is not better, on average or in some seeds."""
    pairs = [
        (teacher, baseline)
        for teacher in study.with_role("teacher")
        for baseline in study.with_role("baseline")
        if all(teacher.record.factors.get(key, level) == level for key, level in baseline.record.factors.items())
    ]
    return [text for teacher, baseline in pairs for text in _teacher_warning(teacher, baseline, len(pairs) > 1)]


def _teacher_warning(teacher: Condition, baseline: Condition, several: bool) -> list[str]:
    names = (teacher.name, baseline.name) if several else ("teacher", "baseline student")
    worse: list[tuple[str, str]] = []
    partly: list[str] = []
    for metric, when in METRICS.items():
        top, low = teacher.outcomes(metric), baseline.outcomes(metric)
        seeds = [seed for seed in top if seed in low]
        if not seeds:
            continue
        means = [fmean(values[seed] for seed in seeds) for values in (top, low)]
        numbers = f"{100 * means[0]:.1f}% vs. {100 * means[1]:.1f}%"
        behind = [str(seed) for seed in seeds if top[seed] <= low[seed]]
        if means[0] <= means[1]:
            worse.append((numbers, when))
        elif behind:
            which = f"seed{'s' * (len(behind) > 1)} {listed(behind)}"
            partly.append(f"in {len(behind)} of {count(len(seeds), 'seed')} {when} ({which}; mean {numbers})")
    sentences: list[str] = []
    if worse:
        end = "gains from distillation cannot be interpreted."
        equal = len({numbers for numbers, _ in worse}) == 1 < len(worse)
        shown = worse[0][0] if equal else "; ".join(f"{numbers} {when}" for numbers, when in worse)
        sentences.append(f"The {names[0]} is not better than the {names[1]} ({shown}); {end}")
    if partly:
        end = "Interpret gains from distillation with care."
        sentences.append(f"The {names[0]} is not better than the {names[1]} {listed(partly)}. {end}")
    gaps = [
        f"{name}: {item.excluded('test/accuracy')}"
        for item, name in zip((teacher, baseline), names, strict=True)
        if item.missing("test/accuracy")
    ]
    if sentences and gaps:
        sentences.append(f"The comparison excludes seeds ({'; '.join(gaps)}).")
    if teacher.trials and not any(teacher.outcomes(metric) for metric in METRICS) and _all_diverged(teacher):
        sentences.append(f"The {names[0]} diverged in all seeds; there is nothing to distill.")
    return sentences


def _all_diverged(condition: Condition) -> bool:
    return condition.count("diverged") == len(condition.trials)


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
    contents = [trial.content for _, trial in condition.trials if trial.content]
    values = [number(at(contents[0], f"distillation.{key}")) if contents else None for key in ("alpha", "temperature")]
    return ["" if value is None else f"{value:g}" for value in values]


def _shown(condition: Condition, key: str) -> Interval | None:
    values = [number(getattr(trial.outcome, key)) for _, trial in condition.trials if trial.status == "finished"]
    percentages = [100 * value for value in values if value is not None]
    return bounded(mean_interval(percentages)) if percentages else None


def _ends(interval: Interval | None) -> list[str]:
    return ["", "", ""] if interval is None else [plain(interval.mean), plain(interval.low), plain(interval.high)]
