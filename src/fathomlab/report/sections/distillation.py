"""What students gain: teacher minus baseline first, gains, shares of the teacher's lead, and agreement with the teacher."""

from collections.abc import Sequence
from functools import partial

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.distillation import Gain, gains
from fathomlab.analysis.fidelity import Fidelity, Predictions, fidelity
from fathomlab.analysis.pairing import Student, students
from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.accuracy_plots import effects
from fathomlab.report.charts import Chart, drawn_seeds
from fathomlab.report.effects import accuracy, bounded, percentage
from fathomlab.report.figures.rows import Point, Row
from fathomlab.report.numbers import MINUS, capital, count, format_int, plain, significant
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import (
    cells,
    difference_text,
    lead_sentence,
    lead_warnings,
    mean_cells,
    named,
    placebo_text,
    points,
    share_text,
    teacher_names,
    teachers_sentence,
)
from fathomlab.report.tables import Table, compact, table

MAX_ROWS = 10  # of the chart
ENDS = ("95% low", "95% high")


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """What students gain, and how like their teachers they are."""
    members = students(study)
    if not members:
        return None
    known = Predictions()
    panel = {item.condition.name: fidelity(item, known) for item in members}
    every = gains(study, members)
    data = distillation_table(study, every, panel)
    content = Plain(
        note="Gain: accuracy over the baseline, the network with equal options and without a teacher (points, same seed). "
        "Share: gain / (teacher \u2212 baseline), with Fieller's interval, which is unbounded if the teacher's lead may be "
        "zero. Agreement: test images for which a network and its teacher predict the same class. KL: divergence of the "
        "student's outputs from the teacher's (nats), at temperature 1 and at that of the loss.",
        result=distillation_sentence(study),
        warnings=tuple(lead_warnings(study, members)),
        charts=tuple(_chart(every, panel)),
        table=compact(data) if data is not None else None,
        label="Teachers, baselines, and students",
        starts=(
            "test accuracy (%)",
            "gain over baseline (points)",
            "agreement with teacher (%)",
            "gain on teacher's errors (points)",
            "teacher's errors (%)",
        ),
    )
    return Section("distillation", "Distillation", content)


def distillation_sentence(study: Study) -> str:
    """Teacher minus baseline, the gains of the students that are no controls, and the number of teachers."""
    every = [item for item in gains(study) if item.student.is_genuine]
    every = [
        item for item in every if not item.student.is_self
    ] or every  # an equal teacher is a control of a larger one
    known = [item for item in every if item.gain is not None and item.gain.interval is not None]
    members = [item.student for item in every]
    sentences = [lead_sentence(study), *_gains(known), teachers_sentence(members)]
    missing = [named(item.student.condition) for item in every if item.gain is None]
    if missing:
        sentences.append(
            f"No network without a teacher has the options of {count(len(missing), 'student')}, so its gain is unknown."
        )
    return " ".join(filter(None, sentences))


def distillation_table(
    study: Study, every: Sequence[Gain] | None = None, panel: dict[str, Fidelity] | None = None
) -> Table | None:
    """A row per teacher, baseline, and student; None for other experiments."""
    students_gains = gains(study) if every is None else every
    if not students_gains:
        return None
    by_name = {item.student.condition.name: item for item in students_gains}
    likeness = panel or {name: fidelity(item.student) for name, item in by_name.items()}
    rows = [
        _row(study, condition, by_name.get(condition.name), likeness.get(condition.name))
        for condition in study.conditions
        if condition.name in _involved([item.student for item in students_gains])
    ]
    columns = ["network", "learns from", "placebo", "alpha", "temperature", "parameters", "fewer than teacher (%)"]
    columns += ["test accuracy (%)", *ENDS, "seeds", "excluded"]
    columns += ["gain over baseline (points)", *_ends("gain"), "excluded pairs"]
    columns += [
        "share of teacher's lead (%)",
        *_ends("share"),
    ]
    columns += ["agreement with teacher (%)", *_ends("agreement"), "on teacher's errors (%)"]
    columns += ["baseline's agreement (%)", "baseline's on teacher's errors (%)", "KL at 1 (nats)", "KL at T (nats)"]
    columns += [
        "gain on teacher's errors (points)",
        *_ends("on errors"),
        "gain elsewhere (points)",
        *_ends("elsewhere"),
    ]
    columns += ["teacher's errors (%)", "only student correct", "only baseline correct", "McNemar p"]
    return table("distillation", columns, rows, texts=3)


def _involved(members: Sequence[Student]) -> set[str]:
    names = {teacher.name for item in members for teacher in item.teachers}
    return names | {
        item.name for student in members for item in (student.condition, student.baseline) if item is not None
    }


def _row(study: Study, condition: Condition, item: Gain | None, like: Fidelity | None) -> list[str]:
    student = item.student if item is not None else None
    mean, size = accuracy(study, condition), condition.total_parameters
    full = student.teacher.total_parameters if student is not None and student.teacher is not None else None
    options = student.options if student is not None else dict[str, object]()
    row = [named(condition)]
    row += [teacher_names(student), placebo_text(student)] if student is not None else ["", ""]
    row += [
        f"{value:g}" if isinstance(value := options.get(key), int | float) else "" for key in ("alpha", "temperature")
    ]
    row += [format_int(size), plain(100 * (1 - size / full), 1) if size is not None and full else ""]
    row += [*cells(mean), str(mean.n if mean else 0), condition.excluded(study.metric)]
    gain = item.gain if item is not None else None
    row += [*cells(gain.interval if gain else None, 100), gain.excluded if gain else ""]
    row += cells(item.share if item is not None else None, 100, 1)
    images = item.images if item is not None else None
    row += _likeness(like)
    return [*row, *([str(images.b), str(images.c), f"{images.p:.2g}"] if images is not None else ["", "", ""])]


def _likeness(like: Fidelity | None) -> list[str]:
    if like is None:
        return [""] * 15
    agreement = percentage(like.agreement.values())
    row = [*cells(agreement), mean_cells(like.on_errors.values(), 100)[0]]
    row += [mean_cells(values.values(), 100)[0] for values in (like.baseline_agreement, like.baseline_on_errors)]
    for values in (like.teacher_kl, like.softened_kl):
        row.append(significant(mean_interval(list(values.values())).mean if values else None))
    row += [*mean_cells(like.gain_on_errors.values(), 100), *mean_cells(like.gain_elsewhere.values(), 100)]
    return [*row, mean_cells(like.errors.values(), 100)[0]]


def _gains(known: Sequence[Gain]) -> list[str]:
    """The gains in one or two sentences."""
    values = [item.gain for item in known if item.gain is not None]
    if not values:
        return []
    if len(values) == 1:
        share = share_text(known[0].share)
        kept = f", which is {share} of the teacher's lead" if share else ""
        return [f"{capital(named(known[0].student.condition))} {MINUS} baseline: {difference_text(values[0])}{kept}."]
    means = [item.mean or 0.0 for item in values]
    clear = [item for item in values if item.is_clear and item.is_positive]
    ends = f"{points(min(means))} to {points(max(means))} points"
    text = f"{count(len(values), 'student')} {MINUS} baseline: {ends}"
    if all(len(item.differences) < 2 for item in values):
        return [f"{text}; one seed has no interval."]
    return [f"{text}; the 95% interval is above zero for {len(clear)} of {len(values)}."]


def _chart(every: Sequence[Gain], panel: dict[str, Fidelity]) -> list[Chart]:
    """Where the gains are: over the images that the teacher gets wrong, and over the others."""
    rows: list[Row] = []
    cells_: list[list[str]] = []
    chosen = [item for item in every if panel[item.student.condition.name].gain_on_errors][: MAX_ROWS // 2]
    for item in chosen:
        like, name = panel[item.student.condition.name], named(item.student.condition)
        for index, (label, values) in enumerate(
            (("teacher's errors", like.gain_on_errors), ("elsewhere", like.gain_elsewhere))
        ):
            numbers = [100 * value for value in values.values()]
            if numbers:
                mean = bounded(mean_interval(numbers), -100.0)
                rows.append(Row(name, tuple(map(Point, drawn_seeds(numbers))), mean, note=label, series=index))
                cells_.append([f"{name}: {label}", *cells(mean), str(len(numbers))])
    if not rows:
        return []
    title = "Where the gain is (student \u2212 baseline, points)"
    names = "; ".join(named(item.student.condition) for item in chosen)
    description = (
        f"{title}: mean and 95% interval over the images that the teacher gets wrong, and elsewhere, for {names}."
    )
    data = table("gain-by-image", ["student and images", "mean (points)", *ENDS, "seeds"], cells_)
    return [Chart("gain-by-image", title, description, partial(effects, rows, f"student {MINUS} baseline"), data)]


def _ends(name: str) -> list[str]:
    return [f"{name}: {end}" for end in ENDS]
