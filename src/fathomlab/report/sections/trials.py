"""Every trial with its numbers."""

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import total_parameters
from fathomlab.analysis.recorded import MAX_TRIALS, embedded
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.nodes import shown_node
from fathomlab.report.numbers import count, format_int, percent, plain, significant
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TERMINAL_STATUSES, Number

SHOWN_DIGITS = 10
NUMBERS: dict[str, tuple[str, Callable[[Number | None], str]]] = {  # column: metric, format
    "test acc., last epoch (%)": ("test/accuracy", percent),
    "test acc., best epoch (%)": ("best/test/accuracy", percent),
    "val. acc. (%)": ("val/accuracy", percent),
    "test loss (nats)": ("test/loss", significant),
    "val. loss (nats)": ("val/loss", significant),
    "train loss (nats)": ("train/loss", significant),
    "train acc. (%)": ("train/accuracy", percent),
    "best epoch": ("best/epoch", format_int),
}


@dataclass(frozen=True)
class Trials:
    """The content of the section.

    Attributes:
        ids: The id of each row: the beginning of the trial's hash; "" if another row of the page has it.
        example: The id of the trial that trains fastest; "" if none can be repeated.
        command: The command that runs the experiment; "" if it was not run from a file.
        max_rows: Number of rows that are shown.
    """

    title: str
    table: Table
    ids: tuple[str, ...]
    example: str
    command: str
    max_rows: int

    def without_ids(self, taken: Collection[str]) -> Self:
        """The same content without these ids, which other rows of the page have."""
        return replace(self, ids=tuple("" if name in taken else name for name in self.ids))


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The table of all trials."""
    if not study.trials:
        return None
    title = f"{count(len(study.trials), 'trial')}: all numbers"
    kept = [trial for condition in embedded(study.every) for _, trial in condition.trials]
    first: dict[str, int] = {}
    for row, trial in enumerate(kept):
        first.setdefault(trial.trial[:SHOWN_DIGITS], row)
    names = [trial.trial[:SHOWN_DIGITS] for trial in kept]
    ids = tuple(name if first[name] == row else "" for row, name in enumerate(names))
    ids += ("",) * (
        len(study.trials) - len(ids)
    )  # their rows are not embedded, so they cannot be repeated from the page
    repeatable = [trial for trial in kept if trial.status in TERMINAL_STATUSES]
    fastest = min(repeatable, key=lambda trial: trial.seconds or 0.0, default=None)
    example = fastest.trial[:SHOWN_DIGITS] if fastest else ""
    content = Trials(title, trials_table(study), ids, example, _command(study), len(kept) or MAX_TRIALS)
    return Section("trials", "All trials", content)


def trials_table(study: Study) -> Table:
    """Every trial with its numbers."""
    rows: list[list[str]] = []
    on_nodes = any(trial.provenance.node for _, _, trial in study.trials)
    for condition, seed, trial in study.trials:
        numbers = trial.metrics
        row = [condition.name, str(seed), trial.status, trial.trial[:SHOWN_DIGITS], format_int(total_parameters(trial))]
        row += [text(numbers.get(metric)) for metric, text in NUMBERS.values()]
        node = [shown_node(trial)] if on_nodes else []
        rows.append([*row, plain(trial.seconds, 1), *node, trial.cause or ""])
    columns = ["condition", "seed", "status", "trial", "parameters", *NUMBERS, "time (s)", *["node"] * on_nodes]
    return table("trials", [*columns, "cause"], rows)


def _command(study: Study) -> str:
    record = study.experiment
    if not record.yaml:
        return ""
    return shlex.join(["fathomlab", "run", record.source, *["--quick"] * record.quick, *record.overrides])
