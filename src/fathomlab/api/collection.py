"""Trials to iterate over, filter, and turn into columns."""

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from fathomlab.analysis.seed_spread import SeedSpread, seed_spread
from fathomlab.analysis.tables import Memberships, experiments_of, trial_columns
from fathomlab.api.selection import select
from fathomlab.api.trials import StoredTrial
from fathomlab.base.errors import UserError
from fathomlab.base.inline import mimebundle
from fathomlab.base.labels import count
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord

if TYPE_CHECKING:
    import numpy.typing as npt

    from fathomlab.analysis.connectivity import Connectivity


@dataclass(frozen=True, repr=False, eq=False)
class Trials:
    """The trials of a store: iterate, index, slice, filter, or get them as columns. They are read once."""

    store: Store
    chosen: tuple[StoredTrial, ...] | None = field(default=None, kw_only=True)

    @cached_property
    def every(self) -> tuple[StoredTrial, ...]:
        """All trials, also those that a filter left out."""
        members, names = experiments_of(self.store), dict.fromkeys(self.store.trials())
        ordered = [*(name for name in members if name in names), *(name for name in names if name not in members)]
        return tuple(stored_trial(self.store, name, members) for name in ordered)

    @property
    def _selected(self) -> tuple[StoredTrial, ...]:
        return self.every if self.chosen is None else self.chosen

    def _with(self, chosen: tuple[StoredTrial, ...]) -> Self:
        """The same value with other trials; what it has read stays."""
        other = copy(self)
        object.__setattr__(other, "chosen", chosen)
        return other

    def __iter__(self) -> Iterator[StoredTrial]:
        """The trials, in the order of experiments, conditions, and seeds."""
        return iter(self._selected)

    def __len__(self) -> int:
        """Number of trials."""
        return len(self._selected)

    @overload
    def __getitem__(self, index: int) -> StoredTrial: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> "StoredTrial | Self":
        """One trial by position, or the trials of a slice."""
        return self._with(self._selected[index]) if isinstance(index, slice) else self._selected[index]

    def filter(self, levels: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """The trials with these levels: `filter(residual=True, seed=[0, 1])`.

        Names are factors, by full key or its end, and `condition`, `role`, `seed`, and `status`. A value is a level, or a list,
        tuple, set, or range of levels. Keys with dots go into a mapping: `filter({"training.lr": 0.01})`.

        Raises:
            UserError: If a name is unknown or ambiguous, or no trial has the level; suggests the most similar one.
        """
        return self._with(select(self._selected, self.every, {**(levels or {}), **more}))

    def table(self) -> dict[str, list[Any]]:
        """Plain columns, one row per trial: experiment, condition, role, seed, factors, hash, status, metrics."""
        return trial_columns((item.experiment, item.member, item.seed, item.record) for item in self)

    def connectivity(self, points: int = 11, plugins: Sequence[str] = ()) -> "Connectivity":
        """Evaluate the straight line between the weights of each two trials that differ only in `data.order_stream`.

        Running statistics of batch normalization are computed again at every point, also at the ends. Takes about as long as two
        passes of `points` networks through the training images.

        Args:
            points: Number of networks on a line, including both ends.
            plugins: The plugin files of the experiment. They are not needed in the process that ran it.

        Returns:
            Loss and accuracy at each point, and barriers with their intervals over seeds.

        Raises:
            UserError: If there are no such trials, weights are missing or corrupted, or the dataset is not available.
        """
        from fathomlab.api.connectivity import connectivity  # imports torch

        return connectivity(self, points, plugins)

    def seed_spread(self) -> tuple[SeedSpread, ...]:
        """How far the test accuracies of seeds spread, for each condition of each experiment.

        Conditions with fewer than two finished seeds whose predictions are stored are left out.
        """
        correct: dict[tuple[str, str], list[npt.NDArray[np.bool_]]] = {}
        for trial in self:
            row = trial.record.correct() if trial.status == "finished" else None
            if row is not None:
                correct.setdefault((trial.experiment, trial.condition), []).append(row)
        return tuple(
            replace(seed_spread(np.stack(rows)), experiment=experiment, condition=condition)
            for (experiment, condition), rows in correct.items()
            if len(rows) > 1
        )

    def to_pandas(self) -> Any:
        """The table as a pandas data frame.

        Raises:
            UserError: If pandas is not installed.
        """
        return data_frame("pandas", self.table())

    def to_polars(self) -> Any:
        """The table as a polars data frame.

        Raises:
            UserError: If polars is not installed.
        """
        return data_frame("polars", self.table())

    def _title(self) -> str:
        counts = Counter(item.status for item in self)
        statuses = ", ".join(f"{number} {status}" for status, number in counts.most_common())
        return count(len(self), "trial") + (f" ({statuses})" if statuses else "")

    def __repr__(self) -> str:
        """Numbers of trials by status."""
        return f"<{self._title()} of {self.store.root}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """A row per condition, for notebooks."""
        groups: dict[tuple[str, str], list[StoredTrial]] = {}
        for item in self:
            groups.setdefault((item.experiment, item.condition), []).append(item)
        several = len({experiment for experiment, _ in groups}) > 1
        rows = [
            [*([experiment] if several else []), condition, str(len(items)), *_accuracy(items)]
            for (experiment, condition), items in groups.items()
        ]
        header = [*(["experiment"] if several else []), "condition", "trials", "test accuracy (%)", "status"]
        return mimebundle(self._title(), header, rows, self._notes())

    def _notes(self) -> list[str]:
        return []


def stored_trial(store: Store, name: str, members: Memberships) -> StoredTrial:
    """A trial with its condition in the first of its experiments."""
    experiment, condition = next(iter(members.get(name, ())), ("", ConditionRecord()))
    seed = next((pair.seed for pair in condition.trials if pair.trial == name), None)
    return StoredTrial(store.trial(name), experiment, seed, condition)


def data_frame(library: str, table: Mapping[str, list[Any]]) -> Any:
    """A data frame of pandas or polars.

    Raises:
        UserError: If the library is not installed; names the command that installs it.
    """
    try:
        module = importlib.import_module(library)
    except ImportError:
        text = f"{library} is not installed. Install it with: pip install {library}"
        raise UserError("missing-package", text) from None
    return module.DataFrame(table)


def _accuracy(items: list[StoredTrial]) -> tuple[str, str]:
    """The mean test accuracy of finished trials (%), and the number of trials by status."""
    finished = (item.metrics.get("test/accuracy") for item in items if item.status == "finished")
    known = [value for value in finished if value is not None]
    counts = Counter(item.status for item in items)
    statuses = ", ".join(status if len(counts) == 1 else f"{number} {status}" for status, number in counts.items())
    return f"{100 * fmean(known):.2f}" if known else "", statuses
