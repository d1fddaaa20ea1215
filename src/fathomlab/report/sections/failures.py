"""Trials without a result, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import FAILED_STATUSES, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.numbers import count, listed
from fathomlab.report.section import Section

WITHOUT_RESULT = ("diverged", *FAILED_STATUSES)
NAMES = {"diverged": "diverged", "failed": "failed", "damaged": "corrupted"}


@dataclass(frozen=True)
class Failure:
    """A trial without a result, and why."""

    condition: str
    seed: int
    trial: str
    status: str
    cause: str


@dataclass(frozen=True)
class Failures:
    """The content of the section."""

    note: str
    trials: tuple[Failure, ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """All trials that diverged, failed, or have corrupted files."""
    failures = tuple(
        Failure(condition.name, seed, trial.trial, trial.status, trial.cause or "no cause recorded")
        for condition, seed, trial in study.trials
        if trial.status in WITHOUT_RESULT
    )
    if not failures:
        return None
    content = Failures(_note(failures), failures)
    return Section("failures", summary(study), content, link="Trials without a result", notice=True)


def summary(study: Study) -> str:
    """How many trials have no result, by status: "2 trials diverged and 1 trial failed"; "" if all have one."""
    tally = study.tally
    return listed([f"{count(tally[status], 'trial')} {NAMES[status]}" for status in WITHOUT_RESULT if tally[status]])


def _note(failures: Sequence[Failure]) -> str:
    """What trials without a result mean for the numbers of the page."""
    text = "These trials are excluded from all means and intervals."
    if any(failure.status == "diverged" for failure in failures):
        text += (
            " In claims about accuracy, a diverged trial counts as chance accuracy; in success rates it counts as a failure. "
            "Claims about losses and trends stay undecided."
        )
    return text
