"""Gives jobs to an executor: trials after their parents, again if what trained them died, and no more after a signal."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fathomlab.execute.events import (
    Died,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Idle,
    Note,
    Refused,
    Saved,
    Started,
    Stopped,
    Warned,
)
from fathomlab.execute.executors import Executor
from fathomlab.execute.job_queue import POLL_SECONDS, HeldJobs, JobQueue, stored_results
from fathomlab.execute.pack.failure import record_failure
from fathomlab.execute.signals import WAKE_SECONDS, RunInterrupted, StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store.lease_files import read_lease
from fathomlab.store.leases import LeaseWatch, Observation

MAX_ATTEMPTS = 3
MAX_ATTEMPTS_OUT_OF_MEMORY = 2
MAX_ATTEMPTS_LOST = 10  # a lost node is not the fault of the job
MAX_REFUSALS = 5


def run_jobs(jobs: Sequence[Job], executor: Executor, stop: StopRequest) -> Iterator[Event]:
    """Train every job, trials after their parents; yields what happens.

    Raises:
        RunInterrupted: If a stop was requested; progress is saved.
        UserError: If the executor cannot train.
    """
    if jobs:
        yield from _Coordinator(jobs, executor, stop).run()
    if stop.signum is not None:
        raise RunInterrupted(stop.signum, stop.minutes)


class _Coordinator:
    """The state of a run.

    Attributes:
        queue: Jobs to submit.
        held: Jobs that another process trains.
        running: Submitted jobs by the number that the executor gave them.
        crash_counts: Number of times that a job died, by the hashes of its trials.
        lost_counts: Number of times that the node of a job was lost.
        refusals: Number of times that no worker was fit for a job.
        retried: Number of jobs that were started again.
        deadline: The time until which jobs may write a checkpoint after a stop request.
    """

    def __init__(self, jobs: Sequence[Job], executor: Executor, stop: StopRequest):
        self.executor, self.stop, self.root = executor, stop, jobs[0].root
        self.queue, self.held = JobQueue(jobs), HeldJobs(jobs[0].root)
        self.running: dict[int, Job] = {}
        self.crash_counts, self.lost_counts = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        self.refusals = Counter[tuple[str, ...]]()
        self.retried = 0
        self.deadline: float | None = None
        self._refused: dict[int, Refused] = {}
        self._leases: dict[int, str] = {}
        self._watch, self._next_look = LeaseWatch(self.root), 0.0
        self._shown: FleetChanged | None = None
        self._notes = set[str]()

    def run(self) -> Iterator[Event]:
        """Return when every job has ended, or when a stop was requested and the running jobs have saved their progress."""
        self.stop.clock.seconds()  # imports wait without a tick
        while self.running or ((self.queue or self.held) and self.deadline is None):
            signum = self.stop.poll()
            if self.deadline is None and signum is not None:
                self.deadline = time.monotonic() + self.executor.stop_seconds
                self.executor.stop(signum)
            if self.deadline is None:
                yield from self._dispatch()
            elif time.monotonic() > self.deadline:
                return
            yield from self._fleet()
            for number, event in self.executor.events(WAKE_SECONDS):
                yield from self._handle(number, event)
        yield from self._fleet()

    def _dispatch(self) -> Iterator[Event]:
        """Submit the jobs whose parents are trained, while the executor has capacity; give up jobs that are silent."""
        for job in self.held.poll():
            yield from self._settle_stored(job)
            if self.queue.unfinished.intersection(job.hashes):
                self.queue.put_first([job])
        capacity = self.executor.capacity() if self.queue.has_ready else 0
        jobs = self.queue.take(max(0, capacity - len(self.running)))
        if jobs:
            self.running |= zip(self.executor.submit(jobs), jobs, strict=True)
        elif not self.running and self.queue.has_ready:
            yield from self._note("No worker is available. Waiting for one.")
        self._cancel_silent()

    def _handle(self, number: int, event: Event) -> Iterator[Event]:
        match event:
            case Idle():
                yield from self._end(number)
            case Stopped():
                self._remove(number)
            case Died():
                job = self._remove_dead(number)
                if self.stop.signum is None and self.queue.unfinished.intersection(job.hashes):
                    yield from self._retry(job, event)
            case Refused():
                self._refused[number] = event
            case Saved():
                pass
            case _:
                if isinstance(event, Started) and event.lease:
                    self._leases[number] = event.lease
                if isinstance(event, Finished | Failed):
                    self.queue.settle([event.trial])
                yield event

    def _remove(self, number: int) -> Job:
        self._leases.pop(number, None)
        self._refused.pop(number, None)
        return self.running.pop(number)

    def _remove_dead(self, number: int) -> Job:
        """Remove the job of a worker that has died; another one may take over its lease at once, because writes are fenced."""
        lease = self._leases.get(number)
        content = read_lease(self.root, lease) if lease else None
        job = self._remove(number)
        return job if lease is None or content is None else replace(job, expired=(Observation(lease, content),))

    def _end(self, number: int) -> Iterator[Event]:
        """A job has ended: it was trained, or its worker has refused it."""
        refusal = self._refused.get(number)
        job = self._remove(number)
        yield from self._settle_stored(job)
        if refusal is None or not self.queue.unfinished.intersection(job.hashes):
            self.queue.settle(job.hashes)
        elif refusal.lease is not None:
            if refusal.lease:
                yield from self._note(f"{refusal.cause} trains some of the trials. Waiting for it.")
            self.held.add(job, refusal.lease)
        else:
            yield from self._refuse(job, refusal.cause)

    def _refuse(self, job: Job, cause: str) -> Iterator[Event]:
        """Try a job again that a worker was not fit for, a few times."""
        self.refusals[job.hashes] += 1
        if self.refusals[job.hashes] < MAX_REFUSALS:
            self.held.add(job, "")
            return
        names = _names([trial for trial in job.hashes if trial in self.queue.unfinished])
        yield Warned(
            f"Not resumed: {names}. Every worker differs from the environment of the checkpoint: {cause}. "
            "Use --allow-drift to resume anyway."
        )
        self.queue.settle(job.hashes)

    def _settle_stored(self, job: Job) -> Iterator[Event]:
        """Yield the outcomes of a job that another process has written."""
        if job.leases:
            unfinished = [trial for trial in job.hashes if trial in self.queue.unfinished]
            for event in stored_results(self.root, unfinished):
                self.queue.settle([event.trial])
                yield event

    def _retry(self, job: Job, death: Died) -> Iterator[Event]:
        """Restart a job a few times, then its trials one by one, so that only the trial that causes the deaths fails."""
        lost = [trial for trial in job.trials if trial.hash in self.queue.unfinished]
        counts, limit = self.crash_counts, MAX_ATTEMPTS_OUT_OF_MEMORY if death.out_of_memory else MAX_ATTEMPTS
        if death.lost:
            counts, limit = self.lost_counts, MAX_ATTEMPTS_LOST
        counts[job.hashes] += 1
        attempts = counts[job.hashes]
        trials = "its trial" if len(lost) == 1 else f"its {len(lost)} trials"
        trials += f" ({_names([trial.hash for trial in lost])})"
        if attempts < limit:
            self.retried += 1
            yield Warned(f"{death.cause}. Restarting {trials}.")
            self.queue.put_first([job])
            return
        if len(lost) > 1:
            self.retried += len(lost)
            yield Warned(f"{death.cause}. Restarting {trials} one by one.")
            for trial in lost:
                counts[trial.hash,] = limit - 1
            self.queue.put_first([replace(job, trials=(trial,)) for trial in lost])
            self.queue.settle(set(job.hashes) - {trial.hash for trial in lost})
            return
        self.queue.settle(job.hashes)
        for trial in lost:
            failure = record_failure(trial, job, f"{death.cause}, {attempts} times.{death.output}")
            if failure is not None:
                yield failure

    def _cancel_silent(self) -> None:
        """Give up the jobs whose lease has expired: their workers may not write any more."""
        if not self._leases or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + POLL_SECONDS
        for number, lease in list(self._leases.items()):
            seen = self._watch.look(lease)
            if seen is not None and seen.content:
                del self._leases[number]
                self.executor.cancel(number)

    def _fleet(self) -> Iterator[Event]:
        """Yield what the workers of a cluster do, if it has changed."""
        fleet = self.executor.fleet()
        if fleet is None:
            return
        lost = sum(self.lost_counts.values()) + sum(self.crash_counts.values())
        waiting = len(self.queue) + len(self.held)
        now = FleetChanged(fleet.nodes, fleet.workers, len(self.running), waiting, self.retried, lost)
        if now != self._shown:
            self._shown = now
            yield now

    def _note(self, text: str) -> Iterator[Event]:
        """Yield a line, once per run."""
        if text not in self._notes:
            self._notes.add(text)
            yield Note(text)


def _names(trials: Sequence[str]) -> str:
    return ", ".join(trial[:12] for trial in trials[:3]) + (", ..." if len(trials) > 3 else "")
