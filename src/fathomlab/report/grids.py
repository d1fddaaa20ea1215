"""Gradient norms as grids of layer x snapshot: the mean over seeds of one condition, and the paired difference of two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from fathomlab.report.study import Condition

MOST_LAYERS = 45
Rows = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Grid:
    """Mean log10 norm over seeds of one condition: a row for each layer in network order, a column for each snapshot.

    None where no seed has a number above zero.
    """

    condition: Condition
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    rows: Rows
    seeds: int


@dataclass(frozen=True)
class Difference:
    """Second minus first condition in log10 norm, seed by seed: the mean over seeds, and their standard deviation."""

    first: Condition
    second: Condition
    layers: tuple[str, ...]
    snapshots: tuple[str, ...]
    rows: Rows
    deviations: Rows
    seeds: int


def grid(condition: Condition, kind: str, names: str) -> Grid | None:
    """The grid of a condition; None where no trial measured it."""
    series = [trial.gradients for _, trial in condition.trials if trial.gradients]
    if not series:
        return None
    longest = max(series, key=len)
    layers = longest[0][names]
    alike = [snapshots for snapshots in series if all(snapshot[names] == layers for snapshot in snapshots)]
    chosen = spread(len(layers), MOST_LAYERS)
    rows = tuple(
        tuple(
            _mean_log([item[time][kind][layer] for item in alike if time < len(item)]) for time in range(len(longest))
        )
        for layer in chosen
    )
    found = tuple(layers[layer] for layer in chosen)
    return Grid(condition, found, _labels(longest), rows, len(alike)) if rows else None


def difference(first: Condition, second: Condition, kind: str, names: str) -> Difference | None:
    """The paired difference of two conditions over the layers and snapshots that both have; None without a common seed."""
    before, after = (
        {seed: trial.gradients for seed, trial in side.trials if trial.gradients} for side in (first, second)
    )
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    if not pairs:
        return None
    one, other = pairs[0][0][0][names], pairs[0][1][0][names]
    layers = [name for name in one if name in other]
    pairs = [
        (here, there)
        for here, there in pairs
        if all(snapshot[names] == one for snapshot in here) and all(snapshot[names] == other for snapshot in there)
    ]
    layers = [layers[place] for place in spread(len(layers), MOST_LAYERS)]
    times = min((min(len(here), len(there)) for here, there in pairs), default=0)
    if not pairs or not layers or not times:
        return None
    means: list[tuple[float | None, ...]] = []
    deviations: list[tuple[float | None, ...]] = []
    for layer in layers:
        i, j = one.index(layer), other.index(layer)
        values = [
            _differences([(here[time][kind][i], there[time][kind][j]) for here, there in pairs])
            for time in range(times)
        ]
        means.append(tuple(round(fmean(found), 2) if found else None for found in values))
        deviations.append(tuple(stdev(found) if len(found) > 1 else None for found in values))
    labels = _labels(pairs[0][0])[:times]
    return Difference(first, second, tuple(layers), labels, tuple(means), tuple(deviations), len(pairs))


def spread(length: int, most: int) -> list[int]:
    """At most `most` places out of `length`, evenly, the first two and the last among them."""
    if length <= most:
        return list(range(length))
    rest = [2 + round(place * (length - 3) / (most - 3)) for place in range(most - 2)]
    return sorted({0, 1, *rest})


def snapshot_label(place: int, snapshot: dict[str, Any]) -> str:
    """A snapshot's name: init, a step within the first epoch, or the epoch that it ends."""
    if snapshot["step"] == 0 or place == 0:
        return "init"
    return f"step {snapshot['step']}" if snapshot["epoch"] == 0 else f"epoch {snapshot['epoch']}"


def _labels(snapshots: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(snapshot_label(place, snapshot) for place, snapshot in enumerate(snapshots))


def _differences(pairs: Sequence[tuple[float | None, float | None]]) -> list[float]:
    return [
        math.log10(after) - math.log10(before)
        for before, after in pairs
        if before is not None and after is not None and before > 0 and after > 0
    ]


def _mean_log(norms: Sequence[float | None]) -> float | None:
    logs = [math.log10(norm) for norm in norms if norm is not None and norm > 0]
    return round(fmean(logs), 2) if logs else None
