"""Executors: where jobs are trained. A new one is a file here and a line in `EXECUTORS`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from fathomlab.config.load import run_choice
from fathomlab.execute.events import Event
from fathomlab.execute.executors.inline import Inline
from fathomlab.execute.executors.local import Local
from fathomlab.plan import Plan
from fathomlab.prepare.jobs import Job


class Executor(Protocol):
    """Starts jobs and reports their events. The coordinator decides which, when, and how often."""

    def capacity(self) -> int:
        """Number of jobs that it trains at the same time."""
        ...

    def submit(self, job: Job) -> int:
        """Start a job; returns a number that names it in `events`. At most `capacity()` jobs may be unfinished."""
        ...

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next events of jobs, after waiting for them at most this long.

        The last event of a job is `Idle`, `Stopped` (only after `stop`), or `Died`.

        Raises:
            UserError: If nothing can be trained here.
        """
        ...

    def stop(self, signum: int) -> None:
        """Ask every job to write a checkpoint and end because of a signal."""
        ...

    def close(self) -> None:
        """End what still runs, and release everything."""
        ...


# Number of jobs at the same time, and descriptor of the store's lock, which processes that write to the store inherit.
EXECUTORS: Mapping[str, Callable[[int, int | None], Executor]] = {"inline": Inline, "local": Local}


def requested_executor(plan: Plan) -> str:
    """Return `run.executor`: `auto` (the default), or the name of an executor.

    Raises:
        UserError: If no executor has this name.
    """
    return run_choice(plan.loaded, "executor", EXECUTORS)
