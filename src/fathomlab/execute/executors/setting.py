"""What an executor is started with, and what it says about its workers. A file of its own, because every executor imports it."""

from dataclasses import dataclass, field
from pathlib import Path

from fathomlab.config.schema import RunOverrides


@dataclass(frozen=True)
class Setting:
    """What an executor is started with.

    Attributes:
        root: The store.
        workers: Number of jobs at the same time.
        device: auto, cpu, cuda, or cuda:N.
        lock: Descriptor of the store's lock, which processes that write to the store inherit; None without locks.
        run: The `run.*` options.
    """

    root: Path
    workers: int
    device: str = "auto"
    lock: int | None = None
    run: RunOverrides = field(default_factory=RunOverrides)


@dataclass(frozen=True)
class Fleet:
    """The workers of an executor that spans machines.

    Attributes:
        nodes: Number of nodes with workers.
        workers: Number of workers.
    """

    nodes: int
    workers: int
