"""What a page owes its reader besides the answer: every trial with its numbers, and those without a result."""

from collections import Counter
from dataclasses import dataclass

from fathomlab.report.numbers import percent, plain, significant, whole
from fathomlab.report.study import Study
from fathomlab.report.tables import Table, table

BROKEN = ("failed", "diverged", "damaged")
PENDING = ("running", "waiting", "interrupted")


@dataclass(frozen=True)
class Failure:
    """A trial without a result, and why."""

    condition: str
    seed: int
    trial: str
    status: str
    cause: str


def failures(study: Study) -> list[Failure]:
    """All trials that failed, diverged or are damaged."""
    return [
        Failure(condition.name, seed, trial.trial, trial.status, trial.cause or "no cause recorded")
        for condition, seed, trial in study.trials
        if trial.status in BROKEN
    ]


def tally(study: Study) -> Counter[str]:
    """How many trials have each status."""
    return Counter(trial.status for _, _, trial in study.trials)


def trials_table(study: Study) -> Table:
    """Every trial with its numbers."""
    rows: list[list[str]] = []
    for condition, seed, trial in study.trials:
        numbers = trial.metrics
        row = [condition.name, str(seed), trial.status, trial.trial[:10], whole(trial.parameters)]
        row += [percent(numbers.get(name)) for name in ("test/accuracy", "best/test/accuracy", "val/accuracy")]
        row += [significant(numbers.get(name)) for name in ("test/loss", "val/loss", "train/loss")]
        row += [percent(numbers.get("train/accuracy")), whole(numbers.get("best/epoch")), plain(trial.seconds, 1)]
        rows.append([*row, trial.cause or ""])
    columns = ["condition", "seed", "status", "trial", "parameters", "test acc. last [%]", "test acc. best [%]"]
    columns += ["val. acc. [%]", "test loss", "val. loss", "train loss", "train acc. [%]", "best epoch", "seconds"]
    return table("trials", [*columns, "cause"], rows)
