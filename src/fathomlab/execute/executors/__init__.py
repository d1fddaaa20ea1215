"""Executors: where jobs are trained. A new one is a file here and a line in `EXECUTORS`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from fathomlab.config.load import run_choice
from fathomlab.execute.events import Event
from fathomlab.execute.executors.inline import Inline
from fathomlab.execute.executors.local import Local
from fathomlab.execute.executors.ray import Ray
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.executors.slurm import Slurm
from fathomlab.plan import Plan
from fathomlab.prepare.jobs import Job


class Executor(Protocol):
    """Starts, reaches, and replaces workers. The coordinator decides which jobs they train, when, and how often.

    Attributes:
        spans_hosts: Whether its workers may be on other hosts, so that trials need leases.
        stop_seconds: Time that jobs have for a checkpoint after a stop request (s).
    """

    spans_hosts: ClassVar[bool]
    stop_seconds: ClassVar[float]

    def __init__(self, setting: Setting) -> None:
        """Start.

        Raises:
            UserError: If nothing can be trained here.
        """
        ...

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """Number of jobs at the same time for `--workers`, of which `setting` does not know yet.

        Raises:
            UserError: If the value is not a number or `auto`, or if no worker can be reached.
        """
        ...

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """The packs, as hashes of trials, that jobs of an earlier run train or wait for. The packs of this run must be the same.

        Raises:
            UserError: If the executor cannot train here.
        """
        ...

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """What would be started or submitted, as text for people."""
        ...

    def capacity(self) -> int:
        """Number of jobs that may be unfinished at the same time. It changes when nodes come and go."""
        ...

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Start jobs; returns the number that names each in `events`. At most `capacity()` jobs may be unfinished."""
        ...

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next events of jobs, after waiting for them at most this long.

        The last event of a job is `Idle`, `Stopped` (only after `stop`), or `Died`.

        Raises:
            UserError: If nothing can be trained here.
        """
        ...

    def cancel(self, number: int) -> None:
        """Give up a job from which nothing is heard. Its last event is `Died`."""
        ...

    def fleet(self) -> Fleet | None:
        """The workers now; None if all of them are on this machine."""
        ...

    def stop(self, signum: int) -> None:
        """Ask every job to write a checkpoint and end because of a signal."""
        ...

    def close(self) -> None:
        """End what still runs, and release everything."""
        ...


EXECUTORS: Mapping[str, type[Executor]] = {"inline": Inline, "local": Local, "ray": Ray, "slurm": Slurm}


def requested_executor(plan: Plan) -> str:
    """Return `run.executor`: `auto` (the default), or the name of an executor.

    Raises:
        UserError: If no executor has this name.
    """
    return run_choice(plan.loaded, "executor", EXECUTORS)


def with_executor(plan: Plan, name: str | None) -> Plan:
    """The plan with another `run.executor`, as `--executor` requests; unchanged for None.

    Raises:
        UserError: If no executor has this name.
    """
    if name is None:
        return plan
    changed = replace(plan, loaded=replace(plan.loaded, run=replace(plan.loaded.run, executor=name)))
    requested_executor(changed)
    return changed


def resolve_executor(name: str) -> str:
    """The name of an executor. `auto` is Ray if `RAY_ADDRESS` is set, else workers on this machine."""
    if name != "auto":
        return name
    return "ray" if os.environ.get("RAY_ADDRESS") else "local"
