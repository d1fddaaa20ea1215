"""Teacher, baseline and distilled students: size, accuracy, gain, the gap closed, and agreement with the teacher."""

from statistics import fmean

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.report.effects import accuracy, distillation_gains
from fathomlab.report.loose import at, number
from fathomlab.report.numbers import count, plain, signed, span, whole
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import Table, table


def distillation_table(study: Study) -> Table | None:
    """A row for each network; None for other experiments."""
    gains = {effect.second.name: effect for effect in distillation_gains(study)}
    teacher = study.with_role("teacher")
    if not gains and teacher is None:
        return None
    full = teacher.parameters if teacher is not None else None
    rows: list[list[str]] = []
    for condition in study.conditions:
        size, mean = condition.parameters, accuracy(study, condition)
        fewer = plain(100 * (1 - size / full), 1) if size is not None and full and condition is not teacher else ""
        effect = gains.get(condition.name)
        closed = gap_closed(study, condition) if effect is not None else None
        row = [condition.name, *_options(condition), whole(size), fewer, *_ends(mean), str(mean.n if mean else 0)]
        row += [*_ends(effect.interval if effect else None), plain(closed, 1)]
        rows.append([*row, *_ends(_shown(condition, "agreement")), *_ends(_shown(condition, "calibration_error"))[:1]])
    columns = ["network", "alpha", "temperature", "parameters", "fewer than teacher [%]", "test accuracy [%]"]
    columns += ["95 % low", "95 % high", "n", "gain over baseline [points]", "gain: 95 % low", "gain: 95 % high"]
    columns += ["gap closed [%]", "agreement with teacher [%]", "agreement: 95 % low", "agreement: 95 % high"]
    return table("distillation", [*columns, "calibration error [%]"], rows)


def distillation_sentence(study: Study) -> str:
    """What the best student by mean gain has, in words; "" where none finished."""
    known = [(effect, effect.interval) for effect in distillation_gains(study) if effect.interval is not None]
    if not known:
        return ""
    effect, gain = max(known, key=lambda pair: pair[1].mean)
    ends = f" (95 % interval {span(gain)}, n = {count(gain.n, 'seed')})" if gain.low is not None else " (one seed)"
    said = f"Best against the baseline student: {effect.label}, {signed(gain.mean)} points{ends}"
    closed = gap_closed(study, effect.second)
    if closed is not None:
        said += f", {plain(closed, 0)} % of the gap to the teacher"
    elif study.with_role("teacher") is not None:
        said += "; the teacher is no better than the baseline, so there is no gap to close"
    if len(known) > 1:
        said += f". It is the best of {len(known)}, which flatters it"
    return f"{said}."


def gap_closed(study: Study, student: Condition) -> float | None:
    """Mean gain over the mean distance from baseline to teacher, over the seeds that all three have [%].

    None where the teacher is no better than the baseline, or no seed has all three.
    """
    teacher, baseline = study.with_role("teacher"), study.with_role("baseline")
    if teacher is None or baseline is None:
        return None
    top, low, own = (condition.outcomes(study.metric) for condition in (teacher, baseline, student))
    seeds = [seed for seed in own if seed in low and seed in top]
    gap = fmean(top[seed] - low[seed] for seed in seeds) if seeds else 0.0
    return 100 * fmean(own[seed] - low[seed] for seed in seeds) / gap if gap > 0 else None


def _options(condition: Condition) -> list[str]:
    """Alpha and temperature, as the trials were trained with."""
    contents = [trial.content for _, trial in condition.trials if trial.content]
    values = [number(at(contents[0], f"distillation.{key}")) if contents else None for key in ("alpha", "temperature")]
    return ["" if value is None else f"{value:g}" for value in values]


def _shown(condition: Condition, key: str) -> Interval | None:
    values = [number(trial.outcome.get(key)) for _, trial in condition.trials if trial.status == "finished"]
    known = [100 * value for value in values if value is not None]
    return mean_interval(known) if known else None


def _ends(interval: Interval | None) -> list[str]:
    return ["", "", ""] if interval is None else [plain(interval.mean), plain(interval.low), plain(interval.high)]
