"""Gives jobs to an executor: trials after their parents, again if what trained them died, and no more after a signal."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fathomlab.execute.events import Died, Event, Failed, Finished, Idle, Stopped, Warned
from fathomlab.execute.executors import Executor
from fathomlab.execute.pack.failure import record_failure
from fathomlab.execute.signals import WAKE_SECONDS, RunInterrupted, StopRequest
from fathomlab.prepare.jobs import Job

MAX_ATTEMPTS = 3
MAX_ATTEMPTS_OUT_OF_MEMORY = 2
STOP_SECONDS = 4.0


def run_jobs(jobs: Sequence[Job], executor: Executor, stop: StopRequest) -> Iterator[Event]:
    """Train every job, trials after their parents; yields what happens.

    Raises:
        RunInterrupted: If a stop was requested; progress is saved.
        UserError: If the executor cannot train.
    """
    yield from _Coordinator(jobs, executor, stop).run()
    if stop.signum is not None:
        raise RunInterrupted(stop.signum, stop.minutes)


class _Coordinator:
    """The state of a run.

    Attributes:
        pending: Jobs to submit, in order.
        running: Submitted jobs by the number that the executor gave them.
        unfinished: Hashes of the trials that another trial may have to wait for.
        crash_counts: Number of times that a job died, by the hashes of its trials.
        deadline: The time until which jobs may write a checkpoint after a stop request.
    """

    def __init__(self, jobs: Sequence[Job], executor: Executor, stop: StopRequest):
        self.pending, self.executor, self.stop = list(jobs), executor, stop
        self.running: dict[int, Job] = {}
        self.unfinished = {trial for job in jobs for trial in job.hashes}
        self.crash_counts = Counter[tuple[str, ...]]()
        self.deadline: float | None = None

    def run(self) -> Iterator[Event]:
        """Return when every job has ended, or when a stop was requested and the running jobs have saved their progress."""
        self.stop.clock.seconds()  # imports wait without a tick
        while self.running or (self.pending and self.deadline is None):
            signum = self.stop.poll()
            if self.deadline is None and signum is not None:
                self.deadline = time.monotonic() + STOP_SECONDS
                self.executor.stop(signum)
            if self.deadline is None:
                self._dispatch()
            elif time.monotonic() > self.deadline:
                return
            for number, event in self.executor.events(WAKE_SECONDS):
                yield from self._handle(number, event)

    def _dispatch(self) -> None:
        """Submit the jobs whose parents are trained, while the executor has capacity."""
        for job in list(self.pending):
            parents = {parent.hash for trial in job.trials for _, parent in trial.parents}
            if len(self.running) < self.executor.capacity() and not parents & self.unfinished:
                self.pending.remove(job)
                self.running[self.executor.submit(job)] = job

    def _handle(self, number: int, event: Event) -> Iterator[Event]:
        match event:
            case Idle():
                self.unfinished.difference_update(self.running.pop(number).hashes)
            case Stopped():
                self.running.pop(number)
            case Died():
                job = self.running.pop(number)
                if self.stop.signum is None and self.unfinished.intersection(job.hashes):
                    yield from self._retry(job, event)
            case _:
                if isinstance(event, Finished | Failed):
                    self.unfinished.discard(event.trial)
                yield event

    def _retry(self, job: Job, death: Died) -> Iterator[Event]:
        """Restart a job a few times, then its trials one by one, so that only the trial that causes the deaths fails."""
        lost = [trial for trial in job.trials if trial.hash in self.unfinished]
        self.crash_counts[job.hashes] += 1
        crashes = self.crash_counts[job.hashes]
        limit = MAX_ATTEMPTS_OUT_OF_MEMORY if death.out_of_memory else MAX_ATTEMPTS
        names = ", ".join(trial.hash[:12] for trial in lost[:3]) + (", ..." if len(lost) > 3 else "")
        trials = f"{'its trial' if len(lost) == 1 else f'its {len(lost)} trials'} ({names})"
        if crashes < limit:
            yield Warned(f"{death.cause}. Restarting {trials}.")
            self.pending.insert(0, job)
            return
        if len(lost) > 1:
            yield Warned(f"{death.cause}. Restarting {trials} one by one.")
            for trial in lost:
                self.crash_counts[trial.hash,] = limit - 1
            self.pending[:0] = [replace(job, trials=(trial,)) for trial in lost]
            self.unfinished.difference_update(set(job.hashes) - {trial.hash for trial in lost})
            return
        self.unfinished.difference_update(job.hashes)
        for trial in lost:
            failure = record_failure(trial, job, f"{death.cause}, {crashes} times.{death.output}")
            if failure is not None:
                yield failure
