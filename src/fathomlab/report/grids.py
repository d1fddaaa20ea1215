"""A column of a probe as a grid of layer x snapshot: the mean over seeds of one condition, and the paired difference of two.

A cell averages all seeds that reached the snapshot with a number above zero, including seeds that diverged later. Each grid
counts the seeds of its cells, so that a cell of fewer seeds can say so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fathomlab.analysis.study import Condition
from fathomlab.probes import PROBES
from fathomlab.probes.columns import NAMES, Column
from fathomlab.report.figures.scales import evenly_spaced_indices
from fathomlab.store.records import ProbeSnapshot, TrialRecord

MAX_LAYERS = 45
Rows = tuple[tuple[float | None, ...], ...]
Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Quantity:
    """A column of a probe that has a number per layer (or point, class, cell); `declared` is that of a plugin's probe."""

    probe: str
    name: str
    declared: Column | None = None

    @property
    def column(self) -> Column:
        """What it is, and how it is plotted."""
        return self.declared or PROBES[self.probe].columns[self.name]

    def of(self, trial: TrialRecord) -> tuple[ProbeSnapshot, ...]:
        """The snapshots of a trial that have it. A plugin's probe may have had other columns in other trials."""
        description = trial.descriptions.get(self.probe)
        same = self.declared is None or (
            description is not None and description.columns.get(self.name) == self.declared
        )
        return trial.probes.get(self.probe, ()) if same else ()

    @property
    def layered(self) -> bool:
        """Whether its numbers belong to layers, in the order of the network."""
        return self.column.axis in ("layer", "point")

    @property
    def entry(self) -> str:
        """What a number belongs to: "layer", "class", "cell"."""
        return "layer" if self.layered else self.column.axis

    @property
    def entries(self) -> str:
        """The plural of `entry`."""
        return "layers" if self.layered else NAMES[self.column.axis]

    def snapshots(self, condition: Condition) -> dict[int, tuple[ProbeSnapshot, ...]]:
        """Seed to snapshots, for each trial that has any."""
        series = {seed: self.of(trial) for seed, trial in condition.trials}
        return {seed: snapshots for seed, snapshots in series.items() if snapshots}

    def labels(self, snapshot: ProbeSnapshot) -> tuple[str, ...]:
        """The names of the layers."""
        return snapshot.names[self.column.axis]

    def values(self, snapshot: ProbeSnapshot) -> tuple[float | None, ...]:
        """A number per layer; None if not finite."""
        return snapshot.columns[self.name]


@dataclass(frozen=True)
class Grid:
    """Mean log10 over seeds of one condition: a row per layer in network order, a column per snapshot.

    Attributes:
        rows: None if no seed has a number above zero.
        counts: Number of seeds in each cell.
        planned: Number of seeds of the condition.
    """

    condition: Condition
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    rows: Rows
    counts: Counts
    planned: int


@dataclass(frozen=True)
class Difference:
    """Second minus first condition in log10, paired by seed: the mean over seeds, and their standard deviation.

    Attributes:
        counts: Number of pairs in each cell.
        planned: Number of seeds that both conditions have.
    """

    first: Condition
    second: Condition
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    rows: Rows
    deviations: Rows
    counts: Counts
    planned: int


def grid(condition: Condition, quantity: Quantity) -> Grid | None:
    """The grid of a condition; None if no trial measured it."""
    series = list(quantity.snapshots(condition).values())
    if not series:
        return None
    longest = max(series, key=len)
    layers = quantity.labels(longest[0])
    equal = [snapshots for snapshots in series if all(quantity.labels(snapshot) == layers for snapshot in snapshots)]
    chosen = evenly_spaced_indices(len(layers), MAX_LAYERS)
    cells = [
        [
            _logs([quantity.values(item[time])[layer] for item in equal if time < len(item)])
            for time in range(len(longest))
        ]
        for layer in chosen
    ]
    rows = tuple(tuple(round(fmean(logs), 2) if logs else None for logs in row) for row in cells)
    counts = tuple(tuple(len(logs) for logs in row) for row in cells)
    names_shown = tuple(layers[layer] for layer in chosen)
    return Grid(condition, names_shown, _labels(longest), rows, counts, len(condition.trials)) if rows else None


def difference(first: Condition, second: Condition, quantity: Quantity) -> Difference | None:
    """The paired difference of two conditions over their common layers and snapshots; None without a common seed."""
    before, after = quantity.snapshots(first), quantity.snapshots(second)
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    if not pairs:
        return None
    before_layers, after_layers = (quantity.labels(side[0]) for side in pairs[0])
    layers = [name for name in before_layers if name in after_layers]
    pairs = [
        (a, b)
        for a, b in pairs
        if all(quantity.labels(snapshot) == before_layers for snapshot in a)
        and all(quantity.labels(snapshot) == after_layers for snapshot in b)
    ]
    layers = [layers[index] for index in evenly_spaced_indices(len(layers), MAX_LAYERS)]
    times = max((min(len(a), len(b)) for a, b in pairs), default=0)
    if not pairs or not layers or not times:
        return None
    means: list[tuple[float | None, ...]] = []
    deviations: list[tuple[float | None, ...]] = []
    counts: list[tuple[int, ...]] = []
    for layer in layers:
        i, j = before_layers.index(layer), after_layers.index(layer)
        values = [
            _differences(
                [
                    (quantity.values(a[time])[i], quantity.values(b[time])[j])
                    for a, b in pairs
                    if time < min(len(a), len(b))
                ]
            )
            for time in range(times)
        ]
        means.append(tuple(round(fmean(logs), 2) if logs else None for logs in values))
        deviations.append(tuple(stdev(logs) if len(logs) > 1 else None for logs in values))
        counts.append(tuple(map(len, values)))
    labels = _labels(max((a for a, _ in pairs), key=len))[:times]
    planned = len({seed for seed, _ in first.trials} & {seed for seed, _ in second.trials})
    return Difference(first, second, tuple(layers), labels, tuple(means), tuple(deviations), tuple(counts), planned)


def snapshot_label(index: int, snapshot: ProbeSnapshot) -> str:
    """A snapshot's name: "init", a step of the first epoch, or the epoch that it ends."""
    if snapshot.step == 0 or index == 0:
        return "init"
    return f"step {snapshot.step}" if snapshot.epoch == 0 else f"epoch {snapshot.epoch}"


def _labels(snapshots: Sequence[ProbeSnapshot]) -> tuple[str, ...]:
    return tuple(snapshot_label(index, snapshot) for index, snapshot in enumerate(snapshots))


def _differences(pairs: Sequence[tuple[float | None, float | None]]) -> list[float]:
    return [
        math.log10(after) - math.log10(before)
        for before, after in pairs
        if before is not None and after is not None and before > 0 and after > 0
    ]


def _logs(norms: Sequence[float | None]) -> list[float]:
    return [math.log10(norm) for norm in norms if norm is not None and norm > 0]


def coverage(counts: Counts, planned: int, excluded: str) -> str:
    """How many seeds the cells average: "mean of 5 seeds", or "mean of 3 to 5 of 5 seeds (2 of 5 diverged)"."""
    numbers = [number for row in counts for number in row if number]
    low, high = min(numbers, default=0), max(numbers, default=0)
    reasons = f" ({excluded})" if excluded else ""
    if low == high == planned and not excluded:
        return "1 seed" if planned == 1 else f"mean of {planned} seeds"
    seeds = f"{low} to {high}" if low < high else str(high)
    return f"mean of {seeds} of {planned} seeds{reasons}"


def fewest(counts: Counts) -> list[str]:
    """The smallest number of seeds in a cell of each layer, for a table."""
    return [str(min(row, default=0)) for row in counts]
