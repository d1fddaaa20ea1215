"""Every trial with its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import total_parameters
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.numbers import count, format_int, percent, plain, significant
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table


@dataclass(frozen=True)
class Trials:
    """The content of the section."""

    title: str
    table: Table


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The table of all trials."""
    if not study.trials:
        return None
    title = f"{count(len(study.trials), 'trial')}: all numbers"
    return Section("trials", "All trials", Trials(title, trials_table(study)))


def trials_table(study: Study) -> Table:
    """Every trial with its numbers."""
    rows: list[list[str]] = []
    for condition, seed, trial in study.trials:
        numbers = trial.metrics
        row = [condition.name, str(seed), trial.status, trial.trial[:10], format_int(total_parameters(trial))]
        row += [percent(numbers.get(name)) for name in ("test/accuracy", "best/test/accuracy", "val/accuracy")]
        row += [significant(numbers.get(name)) for name in ("test/loss", "val/loss", "train/loss")]
        row += [percent(numbers.get("train/accuracy")), format_int(numbers.get("best/epoch")), plain(trial.seconds, 1)]
        rows.append([*row, trial.cause or ""])
    columns = ["condition", "seed", "status", "trial", "parameters", "test acc., last epoch (%)"]
    columns += ["test acc., best epoch (%)", "val. acc. (%)", "test loss (nats)", "val. loss (nats)"]
    columns += ["train loss (nats)", "train acc. (%)", "best epoch", "time (s)"]
    return table("trials", [*columns, "cause"], rows)
