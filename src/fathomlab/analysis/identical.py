"""Trials of several stores that come from one training, and experiments that have the same seeds.

Training is deterministic. Two students with the same options and seeds have equal metrics and weights, so equal numbers prove
nothing. Times do: when a training started and how many seconds it took are measured, and two trainings never agree in all digits.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from fathomlab.store.records import TERMINAL_STATUSES, TrialRecord

Training: TypeAlias = tuple[str, str, float]  # hash of the trial, start, measured seconds


@dataclass(frozen=True)
class Copies:
    """Trials that come from one training.

    Attributes:
        stores: The stores that contain them.
        trials: Their hashes.
    """

    stores: tuple[str, ...]
    trials: tuple[str, ...]


@dataclass(frozen=True)
class SameSeeds:
    """Stores that have an experiment with the same seeds. This is no sign of a copy.

    Attributes:
        experiment: Name of the experiment without the hash of its plan.
        seeds: The seeds.
        stores: The stores.
    """

    experiment: str
    seeds: tuple[int, ...]
    stores: tuple[str, ...]


def training(record: TrialRecord) -> Training | None:
    """What identifies the training of a trial; None if it has no outcome or no measured time."""
    started, seconds = record.provenance.started, record.seconds
    if record.status not in TERMINAL_STATUSES or not started or not seconds:
        return None
    return record.trial, started, float(seconds)


def find_copies(stores: Mapping[str, Set[Training]], shared: Set[Training]) -> tuple[Copies, ...]:
    """The trainings that several stores contain, grouped by these stores, the largest groups first.

    Args:
        stores: Name of each store to its trainings.
        shared: Trainings that everybody was given.
    """
    holders: dict[Training, list[str]] = {}
    for name, trainings in stores.items():
        for item in trainings - shared:
            holders.setdefault(item, []).append(name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for item, names in holders.items():
        if len(names) > 1:
            groups.setdefault(tuple(names), []).append(item[0])
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return tuple(Copies(names, tuple(sorted(trials))) for names, trials in ordered)


def find_same_seeds(rows: Iterable[tuple[str, Sequence[int], str]]) -> tuple[SameSeeds, ...]:
    """The experiments that several stores have with the same seeds.

    Args:
        rows: Experiment, seeds, and store.
    """
    groups: dict[tuple[str, tuple[int, ...]], dict[str, None]] = {}
    for experiment, seeds, store in rows:
        if seeds:
            groups.setdefault((experiment, tuple(seeds)), {})[store] = None
    return tuple(SameSeeds(*key, tuple(names)) for key, names in groups.items() if len(names) > 1)
