"""An executor with two nodes that trains in this process: one worker dies, and one node is lost while it trains."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from fathomlab.execute import executors
from fathomlab.execute.events import Died, EpochDone, Event, Idle, Stopped
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.prepare.jobs import Job

NODES = ("alpha.cluster", "beta.cluster")
DEATHS = {
    2: Died("Worker on alpha.cluster died"),
    4: Died("Node beta.cluster is lost", lost=True),
}  # number of a job: its end


class _LostError(BaseException):
    """The worker ends here. What trains does not handle it."""


class TwoNodes:
    """Jobs take turns on two nodes with two workers each. The first epoch of some jobs is their last one."""

    spans_hosts: ClassVar[bool] = True
    stop_seconds: ClassVar[float] = 4.0

    def __init__(self, setting: Setting):
        """Start without a worker: the first ones join with the first look for events."""
        self.nodes: list[str] = []
        self._events = deque[tuple[int, Event]]()
        self._jobs = deque[tuple[int, Job]]()
        self._submitted = 0

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """Two per node."""
        return 4

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        return ()

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """Nothing."""
        return ""

    def capacity(self) -> int:
        """Two per node."""
        return 2 * len(self.nodes)

    def fleet(self) -> Fleet:
        """Two workers per node."""
        return Fleet(len(self.nodes), 2 * len(self.nodes))

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Remember the jobs."""
        numbers = tuple(range(self._submitted + 1, self._submitted + 1 + len(jobs)))
        self._submitted += len(jobs)
        self._jobs.extend(zip(numbers, jobs, strict=True))
        return numbers

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next event; a job trains when none is left."""
        if not self.nodes:
            self.nodes = list(NODES)
        elif self._events or self._jobs:
            if not self._events:
                self._train(*self._jobs.popleft())
            yield self._events.popleft()

    def _train(self, number: int, job: Job) -> None:
        from fathomlab.execute.pack.pack import train_job

        def emit(event: Event) -> None:
            self._events.append((number, event))
            if number in DEATHS and isinstance(event, EpochDone):
                raise _LostError

        try:
            train_job(job, emit, lambda: None, self.nodes[number % len(self.nodes)])
        except _LostError:
            self._events.append((number, DEATHS[number]))
            if DEATHS[number].lost:
                self.nodes = list(NODES[:1])
        else:
            self._events.append((number, Idle()))

    def cancel(self, number: int) -> None:
        """Nothing is silent."""

    def stop(self, signum: int) -> None:
        """End the jobs that have not started."""
        self._events.extend((number, Stopped()) for number, _ in self._jobs)
        self._jobs.clear()

    def close(self) -> None:
        """Nothing."""


def use_two_nodes(patch: pytest.MonkeyPatch) -> None:
    """Add it to the executors as `two-nodes`."""
    table: Any = {**executors.EXECUTORS, "two-nodes": TwoNodes}
    for module in ("fathomlab.execute.executors", "fathomlab.execute.experiment"):
        patch.setattr(f"{module}.EXECUTORS", table)
