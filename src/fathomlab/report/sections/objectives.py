"""Students by loss, weight of the teacher, and temperature; the best one is marked only in a fair comparison."""

from collections.abc import Sequence

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.distillation import Choice, Gain, choices, gains
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import format_level
from fathomlab.report.effects import accuracy
from fathomlab.report.numbers import count, percent, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import cells, difference_text, named, teacher_names
from fathomlab.report.tables import Table, compact, table

SHOWN = ("alpha", "temperature")


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """A row per student; None with fewer than two objectives."""
    every = [item for item in gains(study) if not item.student.placebo]
    if len({(item.student.objective, item.student.emulated) for item in every}) < 2:
        return None
    groups = choices(study, every)
    content = Plain(
        note="Gain: accuracy over the baseline (points, same seed). A student is marked as the best only among students with the "
        "same baseline, teacher, and seeds. The intervals are not adjusted for the number of students.",
        result=choice_sentence(groups),
        table=compact(objectives_table(study, every, groups)),
        label="Students by loss, weight of the teacher, and temperature",
        starts=("gain over baseline (points)", "test accuracy (%)"),
    )
    return Section("objectives", "Losses, weights, and temperatures", content, link="Losses")


def objectives_table(study: Study, every: Sequence[Gain], groups: Sequence[Choice]) -> Table:
    """A row per student, with the options of its loss."""
    best = {choice.best.student.condition.name for choice in groups}
    rows: list[list[str]] = []
    for item in every:
        student = item.student
        options = {key: value for key, value in student.options.items() if key not in SHOWN}
        row = [named(student.condition), student.loss]
        row += [
            ", ".join(f"{key} {format_level(value)}" for key, value in options.items() if not isinstance(value, dict))
        ]
        row += [teacher_names(student), "best" if student.condition.name in best else ""]
        row += [format_level(student.options[key]) if key in student.options else "" for key in SHOWN]
        gain = item.gain
        row += [*cells(gain.interval if gain else None, 100), str(len(gain.differences) if gain else 0)]
        row.append(gain.excluded if gain else "no baseline")
        row += cells(accuracy(study, student.condition))
        selection = student.condition.outcomes("val/accuracy")
        rows.append([*row, percent(sum(selection.values()) / len(selection)) if selection else ""])
    columns = ["network", "loss", "options", "learns from", "choice", *SHOWN, "gain over baseline (points)"]
    columns += [
        "gain: 95% low",
        "gain: 95% high",
        "pairs",
        "excluded pairs",
        "test accuracy (%)",
        "95% low",
        "95% high",
    ]
    return table("objectives", [*columns, "validation accuracy (%)"], rows, texts=5)


def choice_sentence(groups: Sequence[Choice]) -> str:
    """The best student of each group, and how much choosing it overstates its gain."""
    return " ".join(map(_chosen, groups))


def _chosen(choice: Choice) -> str:
    number, name = len(choice.members), named(choice.best.student.condition)
    gain = difference_text(choice.best.gain) if choice.best.gain is not None else "no value"
    if choice.inflation == 0.0 and choice.metric.endswith("val/accuracy"):
        return f"Best of {number} on the validation images: {name}. Its gain on the test images: {gain}."
    text = f"Largest gain of {number} on the test images: {name}, {gain}."
    if choice.inflation is None:
        return f"{text} The largest of several is probably too large; one seed cannot say by how much."
    by = plain(100 * choice.inflation)
    return (
        f"{text} Choosing and reporting on the same images overstates it: if {count(number, 'student')} were equally good, the "
        f"largest gain would be about {by} points too large."
    )
