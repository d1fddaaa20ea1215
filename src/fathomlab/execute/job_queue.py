"""Jobs that wait: until the trials that they start from are trained, or until another process has trained them."""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fathomlab.execute.events import Finished
from fathomlab.prepare.jobs import Job
from fathomlab.store.leases import LeaseWatch, Observation
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.trial_files import trial_status

POLL_SECONDS = 5.0


class JobQueue:
    """Jobs that are not submitted, in the order in which they are to start.

    Attributes:
        unfinished: Hashes of the trials that another trial may have to wait for.
    """

    def __init__(self, jobs: Sequence[Job]):
        """Jobs whose parents are not among them are ready."""
        self.unfinished = {trial for job in jobs for trial in job.hashes}
        self._ready: list[tuple[int, int, Job]] = []
        self._missing: dict[int, set[str]] = {}
        self._blocked: dict[int, Job] = {}
        self._dependents: dict[str, list[int]] = {}
        self._pushed = 0
        for index, job in enumerate(jobs):
            parents = {parent.hash for trial in job.trials for _, parent in trial.parents} & self.unfinished
            if not parents:
                self._push(index, job)
                continue
            self._blocked[index], self._missing[index] = job, parents
            for parent in parents:
                self._dependents.setdefault(parent, []).append(index)

    def __len__(self) -> int:
        return len(self._ready) + len(self._blocked)

    @property
    def has_ready(self) -> bool:
        """Whether a job can be submitted."""
        return bool(self._ready)

    def take(self, number: int) -> list[Job]:
        """Remove the first ready jobs, at most `number`."""
        return [heapq.heappop(self._ready)[-1] for _ in range(min(number, len(self._ready)))]

    def put_first(self, jobs: Sequence[Job]) -> None:
        """Add jobs that were submitted before, in front of all others."""
        for job in jobs:
            self._push(-1, job)

    def settle(self, trials: Iterable[str]) -> None:
        """Trials have their results, or never will: what waits for them is ready."""
        for trial in self.unfinished.intersection(trials):
            self.unfinished.discard(trial)
            for index in self._dependents.pop(trial, ()):
                self._missing[index].discard(trial)
                if not self._missing[index]:
                    self._push(index, self._blocked.pop(index))

    def _push(self, order: int, job: Job) -> None:
        self._pushed += 1
        heapq.heappush(self._ready, (order, self._pushed, job))


@dataclass(frozen=True)
class _Elsewhere:
    """A job that another process trains, or that no worker was fit for, and the lease, or the time, to wait for."""

    job: Job
    lease: str
    until: float


class HeldJobs:
    """Jobs that another process trains. They come back when their trials have results, or when its lease has expired."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic):
        """None yet."""
        self._root, self._clock, self._watch = root, clock, LeaseWatch(root, clock)
        self._jobs: list[_Elsewhere] = []
        self._next_poll = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, lease: str, seconds: float = 0.0) -> None:
        """Wait for a lease; for `""`, some seconds, at least five."""
        self._jobs.append(_Elsewhere(job, lease, self._clock() + max(POLL_SECONDS, seconds)))
        self._next_poll = 0.0 if lease else self._next_poll

    def poll(self) -> list[Job]:
        """The jobs to submit again, with the leases that have expired. Looks at the store every five seconds."""
        now = self._clock()
        if not self._jobs or now < self._next_poll:
            return []
        self._next_poll = now + POLL_SECONDS
        waiting: list[_Elsewhere] = []
        ready: list[Job] = []
        for held in self._jobs:
            expired = self._observe(held, now)
            if expired is None:
                waiting.append(held)
            else:
                self._watch.forget(held.lease)
                ready.append(replace(held.job, expired=expired))
        self._jobs = waiting
        return ready

    def _observe(self, held: _Elsewhere, now: float) -> tuple[Observation, ...] | None:
        """The expired lease of a job that can be tried again; None if it must wait."""
        if not held.lease:
            return () if now >= held.until else None
        seen = self._watch.look(held.lease)
        if seen is not None:
            return (seen,)
        trained = all(trial_status(self._root, trial) in TERMINAL_STATUSES for trial in held.job.hashes)
        return () if trained else None


def stored_results(root: Path, trials: Iterable[str]) -> Iterator[Finished]:
    """The outcomes that other processes have written."""
    for trial in trials:
        if trial_status(root, trial) in TERMINAL_STATUSES:
            record = Store(root).trial(trial)
            status = "diverged" if record.status == "diverged" else "finished"
            seconds = float(record.seconds or 0.0)
            yield Finished(trial, status, record.cause, seconds, record.metrics, record.parameters)


def first_names(trials: Sequence[str]) -> str:
    """The short names of the first three of some trials."""
    return ", ".join(trial[:12] for trial in trials[:3]) + (", ..." if len(trials) > 3 else "")
