"""Finished runs and whole stores, as records and as columns."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathomlab.analysis.tables import columns
from fathomlab.api.stores import default_runs
from fathomlab.plan import Plan
from fathomlab.run.experiment import Summary
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord


@dataclass(frozen=True)
class Results:
    """A finished run: iterate over its trials, or take them as columns."""

    store: Store
    plan: Plan
    summary: Summary
    report: Path

    def __iter__(self) -> Iterator[TrialRecord]:
        """The trials' records in the plan's order."""
        return (self.store.trial(trial.hash) for condition in self.plan.conditions for trial in condition.trials)

    def table(self) -> dict[str, list[Any]]:
        """Plain columns, one row a trial: experiment, condition, role, factors, seed, status, metrics."""
        return columns(self.store, [self.summary.experiment])

    def to_pandas(self) -> Any:
        """The table as a pandas frame.

        Raises:
            ImportError: pandas is not installed; the message says how to install it.
        """
        return _frame("pandas", self.table())

    def to_polars(self) -> Any:
        """The table as a polars frame.

        Raises:
            ImportError: polars is not installed; the message says how to install it.
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
        """One trial by the first digits of its hash.

        Raises:
            UserError: None or several begin so.
        """
        return self.store.trial(self.store.find(prefix))

    def __iter__(self) -> Iterator[TrialRecord]:
        """Every trial's record."""
        return (self.store.trial(trial) for trial in self.store.trials())

    def table(self, *experiments: str) -> dict[str, list[Any]]:
        """Plain columns over the named experiments, all where none is named."""
        return columns(self.store, experiments or self.experiments)

    def to_pandas(self, *experiments: str) -> Any:
        """The table as a pandas frame; raises ImportError where pandas is not installed."""
        return _frame("pandas", self.table(*experiments))

    def to_polars(self, *experiments: str) -> Any:
        """The table as a polars frame; raises ImportError where polars is not installed."""
        return _frame("polars", self.table(*experiments))


def open_runs(runs: str | os.PathLike[str] | None = None) -> Runs:
    """Open a store, by default that of `FATHOMLAB_RUNS` or `runs`."""
    return Runs(Store(Path(runs) if runs is not None else default_runs()))


def _frame(library: str, table: Mapping[str, Any]) -> Any:
    import importlib

    try:
        module = importlib.import_module(library)
    except ImportError:
        raise ImportError(f"{library} is not installed; install it with: pip install {library}") from None
    return module.DataFrame(table)
