"""What distillation costs: the teacher, its stored outputs, and the students, with the teacher shared over its students."""

from collections.abc import Sequence

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.costs import Cost, costs
from fathomlab.analysis.pairing import students
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.numbers import duration, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.students import named
from fathomlab.report.tables import Table, compact, table

GIGA = 1e9


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """A row per teacher, baseline, and student."""
    every = costs(study)
    if not every:
        return None
    content = Plain(
        note="Means per trial. Teacher's share: the training of the teacher, divided among the trials that learn from it. "
        "GMAC: billions of multiply-accumulates, 3 forward passes per training step; evaluation is excluded. Seconds of "
        "a student include the teacher's forward passes during training; trials of one pack share their time.",
        result=cost_sentence(study, every),
        table=compact(distillation_cost_table(every)),
        label="Cost of teachers, baselines, and students",
        starts=("training (GMAC)",),
    )
    return Section("distillation_cost", "Cost of distillation", content, link="Distillation cost")


def distillation_cost_table(every: Sequence[Cost]) -> Table:
    """Seconds and multiply-accumulates of a trial of each condition."""
    rows: list[list[str]] = []
    for cost in every:
        seconds = (cost.seconds, cost.table_seconds, cost.teacher_seconds, cost.total_seconds)
        macs = (cost.training, cost.targets, cost.teacher, cost.total_macs)
        row = [named(cost.condition), *(plain(value, 1) for value in seconds)]
        rows.append([*row, *("" if value is None else f"{value / GIGA:.4g}" for value in macs)])
    columns = ["network", "training (s)", "stored targets (s)", "teacher's share (s)", "total (s)"]
    columns += ["training (GMAC)", "targets (GMAC)", "teacher's share (GMAC)", "total (GMAC)"]
    return table("distillation-cost", columns, rows)


def cost_sentence(study: Study, every: Sequence[Cost]) -> str:
    """How much more a student costs than its baseline: the first student with both."""
    by_name = {cost.condition.name: cost for cost in every}
    for student in students(study):
        cost = by_name.get(student.condition.name)
        base = by_name.get(student.baseline.name) if student.baseline is not None else None
        if cost is None or base is None or not student.is_genuine:
            continue
        parts: list[str] = []
        if cost.total_seconds is not None and base.seconds:
            times = f"{plain(cost.total_seconds / base.seconds, 1)} times the seconds"
            parts.append(f"{times} of its baseline ({duration(cost.total_seconds)} vs. {duration(base.seconds)})")
        if cost.total_macs is not None and base.training and cost.targets is not None and cost.teacher is not None:
            parts.append(f"{plain(cost.total_macs / base.training, 1)} times its multiply-accumulates")
        if parts:
            return f"With its share of the teacher, a trial of {named(student.condition)} needs {' and '.join(parts)}."
    return ""
