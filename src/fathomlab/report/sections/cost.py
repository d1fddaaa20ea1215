"""What the experiment cost: wall time, operations, and trials reused from earlier runs."""

from collections.abc import Sequence
from statistics import fmean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import network, number
from fathomlab.analysis.study import FAILED_STATUSES, PENDING_STATUSES, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.nodes import runs_table
from fathomlab.report.numbers import count, duration, format_int, plain
from fathomlab.report.section import Plain, Section
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Wall time and the cost of each condition."""
    if not study.trials:
        return None
    unknown = any(operations(trial) is None for _, _, trial in study.trials)
    note = (
        f"{total_time(study)} Trials of one pack share their time. TFLOP: 6 operations per multiply-accumulate, image, and "
        f"epoch of training{'; unknown for modules of plugins' if unknown else ''}."
    )
    runs = study.experiment.runs
    more = ("Runs on several machines, or with lost workers", runs_table(runs)) if runs else None
    content = Plain(note, table=cost_table(study), label="Cost of each condition", starts=("reused",), more=more)
    return Section("cost", "Cost", content)


def cost_table(study: Study) -> Table:
    """Wall time, outcomes, and operations of each condition, and trained parameters if others are frozen."""
    rows: list[list[str]] = []
    frozen = any(item.parameters != item.total_parameters for item in study.every)
    for condition in study.every:
        times = [trial.seconds for _, trial in condition.trials if trial.seconds is not None]
        epochs = max((len(trial.curves.get("epoch", [])) for _, trial in condition.trials), default=0)
        work = [done for _, trial in condition.trials if (done := operations(trial)) is not None]
        cached = sum(reused(study, trial) for _, trial in condition.trials)
        row = [
            condition.name,
            format_int(condition.total_parameters),
            *([format_int(condition.parameters)] if frozen else []),
            str(len(condition.trials)),
            str(condition.count("finished")),
        ]
        statuses = (("diverged",), FAILED_STATUSES, PENDING_STATUSES)
        row += [str(condition.count(*group)) for group in statuses]
        row += [str(cached), str(epochs), plain(fmean(times) if times else None, 1)]
        rows.append([*row, plain(sum(times), 1), f"{fmean(work) / 1e12:.3g}" if work else ""])
    columns = [
        "condition",
        "parameters",
        *(["trained parameters"] if frozen else []),
        "trials",
        "finished",
        "diverged",
        "failed",
        "pending",
        "reused",
        "epochs",
    ]
    return table("cost", [*columns, "time per trial (s)", "total time (s)", "TFLOP per trial"], rows)


def total_time(study: Study) -> str:
    """Wall time of the experiment, sum over its trials, and number of reused trials, in sentences."""
    times = [trial.seconds for _, _, trial in study.trials if trial.seconds is not None]
    cached = sum(reused(study, trial) for _, _, trial in study.trials)
    summed, total = duration(sum(times)), duration(study.experiment.seconds)
    sentence = f"Wall time {total} ({summed} summed over trials)." if total else f"{summed} summed over trials."
    were = "was" if cached == 1 else "were"
    return f"{sentence} {count(cached, 'trial')} {were} reused from earlier runs." if cached else sentence


def reused(study: Study, trial: TrialRecord) -> bool:
    """Whether the trial started before the experiment was first run."""
    started = trial.provenance.started or ""
    return bool(started and study.experiment.created) and started < study.experiment.created


def operations(trial: TrialRecord) -> float | None:
    """Floating-point operations of a trial's training: 6 x multiply-accumulates x images x epochs; None if unknown.

    Each multiply-accumulate counts 2 operations forward and 4 backward. Evaluation and forward passes of a teacher are excluded.
    """
    model, epochs, info = network(trial), number(trial, "training.epochs"), trial.dataset
    if model is None or epochs is None or info is None:
        return None
    images = number(trial, "data.limit") or info.train_examples
    held_out = (number(trial, "data.validation_split") or 0.0) / 100
    return 6.0 * model.architecture(info).macs * round(images * (1 - held_out)) * epochs
