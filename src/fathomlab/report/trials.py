"""Every trial with its numbers, and the trials without a result."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.study import Study
from fathomlab.report.numbers import count, format_int, listed, percent, plain, significant
from fathomlab.report.tables import Table, table

FAILED_STATUSES = ("failed", "damaged")
WITHOUT_RESULT = ("diverged", *FAILED_STATUSES)
PENDING_STATUSES = ("running", "waiting", "interrupted")
NAMES = {"diverged": "diverged", "failed": "failed", "damaged": "corrupted"}


@dataclass(frozen=True)
class Failure:
    """A trial without a result, and why."""

    condition: str
    seed: int
    trial: str
    status: str
    cause: str


def failures(study: Study) -> list[Failure]:
    """All trials that diverged, failed, or have corrupted files."""
    return [
        Failure(condition.name, seed, trial.trial, trial.status, trial.cause or "no cause recorded")
        for condition, seed, trial in study.trials
        if trial.status in WITHOUT_RESULT
    ]


def failures_title(trials: Sequence[Failure]) -> str:
    """How many trials have no result, by status: "2 trials diverged and 1 trial failed"."""
    numbers = Counter(failure.status for failure in trials)
    return listed(
        [f"{count(numbers[status], 'trial')} {NAMES[status]}" for status in WITHOUT_RESULT if numbers[status]]
    )


def failures_note(trials: Sequence[Failure]) -> str:
    """What trials without a result mean for the numbers of the page."""
    text = "These trials are excluded from all means and intervals."
    if any(failure.status == "diverged" for failure in trials):
        text += (
            " In claims about accuracy, a diverged trial counts as chance accuracy; in success rates it counts as a failure. "
            "Claims about losses and trends stay undecided."
        )
    return text


def count_by_status(study: Study) -> Counter[str]:
    """Number of trials with each status."""
    return Counter(trial.status for _, _, trial in study.trials)


def trials_table(study: Study) -> Table:
    """Every trial with its numbers."""
    rows: list[list[str]] = []
    for condition, seed, trial in study.trials:
        numbers = trial.metrics
        row = [condition.name, str(seed), trial.status, trial.trial[:10], format_int(trial.parameters)]
        row += [percent(numbers.get(name)) for name in ("test/accuracy", "best/test/accuracy", "val/accuracy")]
        row += [significant(numbers.get(name)) for name in ("test/loss", "val/loss", "train/loss")]
        row += [percent(numbers.get("train/accuracy")), format_int(numbers.get("best/epoch")), plain(trial.seconds, 1)]
        rows.append([*row, trial.cause or ""])
    columns = ["condition", "seed", "status", "trial", "parameters", "test acc., last epoch (%)"]
    columns += ["test acc., best epoch (%)", "val. acc. (%)", "test loss (nats)", "val. loss (nats)"]
    columns += ["train loss (nats)", "train acc. (%)", "best epoch", "time (s)"]
    return table("trials", [*columns, "cause"], rows)
