"""Gradient norms as grids of layer x snapshot: the mean over seeds of one condition, and the paired difference of two.

A cell averages all seeds that reached the snapshot with a norm above zero, including seeds that diverged later. Each grid
counts the seeds of its cells, so that a cell of fewer seeds can say so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from fathomlab.analysis.study import Condition

MAX_LAYERS = 45
Rows = tuple[tuple[float | None, ...], ...]
Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Grid:
    """Mean log10 norm over seeds of one condition: a row per layer in network order, a column per snapshot.

    Attributes:
        rows: None if no seed has a norm above zero.
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
    """Second minus first condition in log10 norm, paired by seed: the mean over seeds, and their standard deviation.

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


def grid(condition: Condition, kind: str, names: str) -> Grid | None:
    """The grid of a condition; None if no trial measured it."""
    series = [trial.gradients for _, trial in condition.trials if trial.gradients]
    if not series:
        return None
    longest = max(series, key=len)
    layers = longest[0][names]
    equal = [snapshots for snapshots in series if all(snapshot[names] == layers for snapshot in snapshots)]
    chosen = evenly_spaced_indices(len(layers), MAX_LAYERS)
    cells = [
        [_logs([item[time][kind][layer] for item in equal if time < len(item)]) for time in range(len(longest))]
        for layer in chosen
    ]
    rows = tuple(tuple(round(fmean(logs), 2) if logs else None for logs in row) for row in cells)
    counts = tuple(tuple(len(logs) for logs in row) for row in cells)
    names_shown = tuple(layers[layer] for layer in chosen)
    return Grid(condition, names_shown, _labels(longest), rows, counts, len(condition.trials)) if rows else None


def difference(first: Condition, second: Condition, kind: str, names: str) -> Difference | None:
    """The paired difference of two conditions over their common layers and snapshots; None without a common seed."""
    before, after = (
        {seed: trial.gradients for seed, trial in side.trials if trial.gradients} for side in (first, second)
    )
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    if not pairs:
        return None
    before_layers, after_layers = pairs[0][0][0][names], pairs[0][1][0][names]
    layers = [name for name in before_layers if name in after_layers]
    pairs = [
        (a, b)
        for a, b in pairs
        if all(snapshot[names] == before_layers for snapshot in a)
        and all(snapshot[names] == after_layers for snapshot in b)
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
            _differences([(a[time][kind][i], b[time][kind][j]) for a, b in pairs if time < min(len(a), len(b))])
            for time in range(times)
        ]
        means.append(tuple(round(fmean(logs), 2) if logs else None for logs in values))
        deviations.append(tuple(stdev(logs) if len(logs) > 1 else None for logs in values))
        counts.append(tuple(map(len, values)))
    labels = _labels(max((a for a, _ in pairs), key=len))[:times]
    planned = len({seed for seed, _ in first.trials} & {seed for seed, _ in second.trials})
    return Difference(first, second, tuple(layers), labels, tuple(means), tuple(deviations), tuple(counts), planned)


def evenly_spaced_indices(length: int, limit: int) -> list[int]:
    """At most `limit` evenly spaced indices below `length`, including the first two and the last."""
    if length <= limit:
        return list(range(length))
    rest = [2 + round(index * (length - 3) / (limit - 3)) for index in range(limit - 2)]
    return sorted({0, 1, *rest})


def snapshot_label(index: int, snapshot: Mapping[str, Any]) -> str:
    """A snapshot's name: "init", a step of the first epoch, or the epoch that it ends."""
    if snapshot["step"] == 0 or index == 0:
        return "init"
    return f"step {snapshot['step']}" if snapshot["epoch"] == 0 else f"epoch {snapshot['epoch']}"


def _labels(snapshots: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
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
