"""Finished runs and stores, as records and as columns."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathomlab.analysis.study import study
from fathomlab.analysis.tables import columns
from fathomlab.api.stores import default_runs
from fathomlab.execute.experiment import RunSummary
from fathomlab.plan import Plan
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord


@dataclass(frozen=True)
class Results:
    """A finished run: iterate over its trials, or get them as columns."""

    store: Store
    plan: Plan
    summary: RunSummary
    report: Path

    def __iter__(self) -> Iterator[TrialRecord]:
        """The trials' records in the plan's order."""
        return (self.store.trial(trial.hash) for condition in self.plan.conditions for trial in condition.trials)

    def table(self) -> dict[str, list[Any]]:
        """Plain columns, one row per trial: experiment, condition, role, factors, seed, status, metrics."""
        return columns([study(self.store, self.store.experiment(self.summary.experiment))])

    def to_pandas(self) -> Any:
        """The table as a pandas data frame.

        Raises:
            ImportError: If pandas is not installed.
        """
        return _frame("pandas", self.table())

    def to_polars(self) -> Any:
        """The table as a polars data frame.

        Raises:
            ImportError: If polars is not installed.
        """
        return _frame("polars", self.table())


@dataclass(frozen=True)
class Runs:
    """A store opened for reading."""

    store: Store

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments."""
        return [record.name for record in self.store.experiments()]

    def trial(self, prefix: str) -> TrialRecord:
        """One trial by a prefix of its hash.

        Raises:
            UserError: If no trial or several match.
        """
        return self.store.trial(self.store.find(prefix))

    def __iter__(self) -> Iterator[TrialRecord]:
        """Every trial's record."""
        return (self.store.trial(trial) for trial in self.store.trials())

    def table(self, *experiments: str) -> dict[str, list[Any]]:
        """Plain columns over the named experiments, or all of them."""
        return columns(study(self.store, self.store.experiment(name)) for name in experiments or self.experiments)

    def to_pandas(self, *experiments: str) -> Any:
        """The table as a pandas data frame; raises ImportError if pandas is not installed."""
        return _frame("pandas", self.table(*experiments))

    def to_polars(self, *experiments: str) -> Any:
        """The table as a polars data frame; raises ImportError if polars is not installed."""
        return _frame("polars", self.table(*experiments))


def open_store(runs: str | os.PathLike[str] | None = None) -> Runs:
    """Open a store: `FATHOMLAB_RUNS` or `runs` by default."""
    return Runs(Store(Path(runs) if runs is not None else default_runs()))


def _frame(library: str, table: Mapping[str, list[Any]]) -> Any:
    import importlib

    try:
        module = importlib.import_module(library)
    except ImportError:
        raise ImportError(f"{library} is not installed; install it with: pip install {library}") from None
    return module.DataFrame(table)
