"""Finished runs, experiments, and stores as Python values: trials to iterate over, verdicts, figures, and columns."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathomlab.analysis.study import Condition, Study, study
from fathomlab.analysis.tables import experiments_of, trial_columns
from fathomlab.analysis.verdicts import Verdict, judge
from fathomlab.api.collection import Trials, data_frame, stored_trial
from fathomlab.api.planning import readable_experiment
from fathomlab.api.stores import default_runs
from fathomlab.api.trials import StoredTrial
from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.execute.experiment import RunSummary
from fathomlab.plan import Plan
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Experiment(Trials):
    """An experiment of a store with its trials, verdicts, and figures.

    Attributes:
        name: Its name in the store.
    """

    name: str

    @property
    def record(self) -> ExperimentRecord:
        """Its file, question, conditions, and claims, as the store contains them."""
        return self.study.experiment

    @property
    def report(self) -> Path:
        """Its report."""
        return self.store.root / "experiments" / self.name / "report.html"

    @cached_property
    def study(self) -> Study:
        """The experiment with the records of all its trials, as analyses read it."""
        return study(self.store, self.store.experiment(self.name))

    @cached_property
    def every(self) -> tuple[StoredTrial, ...]:
        """All trials of the experiment, also those that a filter left out."""
        return _members(self.study)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict on each claim, in the order of the file. They use all trials, whatever the filter.

        Raises:
            ConfigError: If the claims cannot be evaluated.
        """
        return judge(self.study)

    def plot(self, kind: str = "accuracy") -> "Figure":
        """Draw a figure of the report as a matplotlib figure, with the trials of the filter.

        Args:
            kind: "accuracy", "effects", "curves", a metric such as "val/loss", "gradients", "slopes", or another probe.

        Raises:
            UserError: If there is no such kind, what it shows was not measured, or the filter leaves no trials.
        """
        from fathomlab.report.plots import plot

        if self.chosen is None:
            return plot(self.study, kind)
        if not self.chosen:
            raise UserError("no-trials", f"{self.name}: no trials to plot; the filter leaves none.")
        kept = {(item.record.trial, item.seed) for item in self.chosen}
        conditions = (_restricted(condition, kept) for condition in self.study.conditions)
        return plot(replace(self.study, conditions=tuple(item for item in conditions if item.trials)), kind)

    def export(self, exporter: str, to: str | os.PathLike[str] | None = None, **options: Any) -> tuple[Path, ...]:
        """Export all trials, whatever the filter, as the command `fathomlab export` does; returns what was written.

        Args:
            exporter: csv, parquet, bundle, tensorboard, or wandb.
            to: The directory or file to write; the exporter's default if it is None.
            options: Those of the exporter, such as `overwrite=True`.

        Raises:
            UserError: If there is no such exporter or option, its libraries are not installed, or the target exists.
        """
        from fathomlab.api.exporting import export_experiment

        return export_experiment(exporter, self.name, to, self.store.root, **options)

    def publish(self, to: str | os.PathLike[str], name: str = "") -> tuple[Path, ...]:
        """Write the experiment as a page of a repository, as the command `fathomlab publish` does; returns what was written.

        Args:
            to: The directory of the page.
            name: Name of the page; by default that of the experiment file.

        Raises:
            UserError: If the name is taken by another experiment, or the files cannot be written.
        """
        from fathomlab.api.publishing import publish_experiment

        return publish_experiment(self.name, to, self.store.root, name)

    def _title(self) -> str:
        return f"{self.name}: {super()._title()}"

    def _notes(self) -> list[str]:
        claims = (
            [f"{verdict.decision}: {verdict.claim.name}" for verdict in self.verdicts]
            if not self.study.problems
            else []
        )
        return [*claims, f"report: {self.report}"]

    def __repr__(self) -> str:
        """Name and numbers of trials by status."""
        return f"<{type(self).__name__.lower()} {self._title()}>"


@dataclass(frozen=True, repr=False, eq=False)
class Results(Experiment):
    """A finished run: its experiment, its plan, and what it trained."""

    plan: Plan
    summary: RunSummary


@dataclass(frozen=True)
class Runs:
    """A store opened for reading."""

    store: Store

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments."""
        return self.store.experiment_names()

    def experiment(self, name: str) -> Experiment:
        """One experiment, by its name or the beginning of it, its file, or the number of a bundled file.

        Raises:
            UserError: If there is none or several, or its record is corrupted or has another format.
        """
        return Experiment(self.store, readable_experiment(self.store, name).name)

    def trials(self) -> Trials:
        """Every trial once, with its condition in the first of its experiments; those without an experiment last."""
        return Trials(self.store)

    def trial(self, prefix: str) -> StoredTrial:
        """One trial by a prefix of its hash.

        Raises:
            UserError: If no trial or several match.
        """
        return stored_trial(self.store, self.store.find(prefix), experiments_of(self.store))

    def __iter__(self) -> Iterator[StoredTrial]:
        """Every trial, as in `trials`."""
        return iter(self.trials())

    def __len__(self) -> int:
        """Number of trials."""
        return len(self.store.trials())

    def table(self, *experiments: str) -> dict[str, list[Any]]:
        """Plain columns over the named experiments, or all of them, one row per trial and condition.

        Raises:
            UserError: As `experiment`.
        """
        named = [self.experiment(name) for name in experiments]
        chosen = named or [Experiment(self.store, name) for name in self.experiments]
        items = (item for experiment in chosen for item in experiment)
        return trial_columns((item.experiment, item.member, item.seed, item.record) for item in items)

    def to_pandas(self, *experiments: str) -> Any:
        """The table as a pandas data frame; raises UserError if pandas is not installed."""
        return data_frame("pandas", self.table(*experiments))

    def to_polars(self, *experiments: str) -> Any:
        """The table as a polars data frame; raises UserError if polars is not installed."""
        return data_frame("polars", self.table(*experiments))

    def __repr__(self) -> str:
        """Path and numbers."""
        return f"<store {self.store.root}: {count(len(self.experiments), 'experiment')}, {count(len(self), 'trial')}>"


def open_store(runs: str | os.PathLike[str] | None = None) -> Runs:
    """Open a store: `FATHOMLAB_RUNS` or `runs` by default, which need not exist.

    Raises:
        UserError: If `runs` is not a directory.
    """
    if runs is not None and not os.path.isdir(runs):
        raise UserError("no-such-store", f"{os.fspath(runs)}: not a results directory.")
    return Runs(Store(Path(runs) if runs is not None else default_runs()))


def _members(read: Study) -> tuple[StoredTrial, ...]:
    """The trials of an experiment with their conditions."""
    name = read.experiment.name
    return tuple(StoredTrial(record, name, seed, condition.record) for condition, seed, record in read.trials)


def _restricted(condition: Condition, kept: set[tuple[str, int | None]]) -> Condition:
    trials = tuple((seed, record) for seed, record in condition.trials if (record.trial, seed) in kept)
    return replace(condition, trials=trials)
