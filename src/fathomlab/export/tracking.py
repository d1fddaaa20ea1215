"""Trackers: what they receive about a run. Live, a tracker runs in a child process; an export feeds it from the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from fathomlab.execute.events import Event
from fathomlab.prepare.jobs import Directory


@dataclass(frozen=True)
class TrialInfo:
    """A trial as a tracker shows it.

    Attributes:
        trial: Its hash.
        name: Condition and seed in words, unique in the experiment.
        condition: Its condition in words.
        role: Its role: supervised, teacher, ...
        seed: The seed of the condition.
        config: Its resolved options.
        epochs: Number of epochs.
    """

    trial: str
    name: str
    condition: str
    role: str
    seed: int
    config: Mapping[str, Any]
    epochs: int


@dataclass(frozen=True)
class RunInfo:
    """An experiment as a tracker shows it.

    Attributes:
        experiment: Its name in the store.
        project: The project of the tracker.
        root: The store, absolute.
        tags: Tags for all of its trials.
        log_gradients: Whether measured gradient norms are logged.
        trials: Its trials, each once.
    """

    experiment: str
    project: str
    root: Directory
    tags: tuple[str, ...]
    log_gradients: bool
    trials: tuple[TrialInfo, ...]


class Tracker(Protocol):
    """Shows trials in another program, in this process.

    For each trial, `handle` gets in this order: `Started`, `Measured` of epoch 0 (if gradients are logged), then `Measured` and
    `EpochDone` for each epoch without gaps, then `Finished` or `Failed`. Events of different trials are interleaved. Trials that
    were logged before are left out. If the run is interrupted, the last events are missing.

    Attributes:
        extra: The optional dependencies that it needs, such as `wandb`.
    """

    extra: ClassVar[str]

    def logged(self, info: RunInfo, trial: str) -> bool:
        """Whether everything of a trial was logged before; called before `open`, without the extra."""
        ...

    def open(self, info: RunInfo) -> str:
        """Prepare, and return one line for the user: where the results appear. Called again if seeds are added."""
        ...

    def handle(self, event: Event) -> None:
        """Log an event."""
        ...

    def close(self, timeout_seconds: float) -> None:
        """Write what is left, and end."""
        ...
