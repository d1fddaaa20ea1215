"""Gives jobs to an executor: trials after their parents, again if what trained them died, and no more after a signal."""

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext, suppress
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
    Requeued,
    Saved,
    Started,
    Stopped,
    Warned,
)
from fathomlab.execute.executors import Executor
from fathomlab.execute.executors.setting import Fleet
from fathomlab.execute.job_queue import POLL_SECONDS, HeldJobs, JobQueue, first_names, stored_results
from fathomlab.execute.pack.failure import record_failure
from fathomlab.execute.signals import WAKE_SECONDS, RunInterrupted, StopRequest
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from fathomlab.store.lease_files import read_lease
from fathomlab.store.leases import EXPIRY_SECONDS, Lease, LeaseHeldError, LeaseLostError, LeaseWatch, Observation

MAX_ATTEMPTS = 3
MAX_ATTEMPTS_OUT_OF_MEMORY = 2
MAX_ATTEMPTS_LOST = 10  # a lost node, or a lost lease, is not the fault of the job
MAX_REFUSALS = 5  # or one per node
LOOKS = 2  # at an expired lease, because the executor may know more: it reports a dead worker meanwhile
LONGEST_PAUSE = 60.0  # before a job is tried again that no idle worker is fit for (s)


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
        refusals: Number of times that a worker was not fit for a job, or lost its lease.
        retried: Number of jobs that were started again.
        lost: Number of jobs whose worker has died.
        passed_on: The hashes of each job that a worker has refused.
        deadline: The time until which jobs may write a checkpoint after a stop request.
    """

    def __init__(self, jobs: Sequence[Job], executor: Executor, stop: StopRequest):
        self.executor, self.stop, self.root = executor, stop, jobs[0].root
        self.queue, self.held = JobQueue(jobs), HeldJobs(jobs[0].root)
        self.running: dict[int, Job] = {}
        self.crash_counts, self.lost_counts = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        self.refusals = Counter[tuple[str, ...]]()
        self.retried = self.lost = 0
        self.passed_on = set[tuple[str, ...]]()
        self.deadline: float | None = None
        self._refused: dict[int, Refused] = {}
        self._leases: dict[int, str] = {}
        self._training = set[int]()  # jobs that have started
        self._unheard = Counter[int]()  # looks at the expired lease of a job, one after the other
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
        if back := self.held.poll():
            self.queue.put_first((yield from self._untrained(back)))
        capacity = self.executor.capacity() if self.queue.has_ready else 0
        taken = self.queue.take(max(0, capacity - len(self.running)))
        if jobs := (yield from self._untrained(taken)):
            self.running |= zip(self.executor.submit(jobs), jobs, strict=True)
        elif not taken and not self.running and self.queue.has_ready:
            yield from self._note("No worker is available. Waiting for one.")
        self._cancel_silent()

    def _handle(self, number: int, event: Event) -> Iterator[Event]:
        match event:
            case Idle():
                yield from self._end(number)
            case Stopped():
                self._remove(number)
            case Died():
                yield from self._on_death(number, event)
            case Refused():
                self._refused[number] = event
            case Saved():
                pass
            case _:
                if isinstance(event, Started):
                    self._training.add(number)
                    if event.lease:
                        self._leases[number] = event.lease
                elif isinstance(event, Requeued):  # by a cluster
                    self._training.discard(number)
                if isinstance(event, Finished | Failed):
                    self.queue.settle([event.trial])
                yield event

    def _remove(self, number: int) -> Job:
        self._watch.forget(self._leases.pop(number, ""))
        self._unheard.pop(number, None)
        self._refused.pop(number, None)
        self._training.discard(number)
        return self.running.pop(number)

    def _on_death(self, number: int, death: Died) -> Iterator[Event]:
        """A worker has died: restart its job, unless a stop was requested."""
        if self._unheard[number] >= LOOKS and not death.lost:
            death = Died(f"Nothing was heard from a worker for {EXPIRY_SECONDS:.0f} s", death.output, lost=True)
        job = self._remove_dead(number)
        self.lost += self.stop.signum is None
        if self.stop.signum is None and self.queue.unfinished.intersection(job.hashes):
            yield from self._retry(job, death)

    def _remove_dead(self, number: int) -> Job:
        """Remove the job of a worker that has died; another one may take over its lease at once, because writes are fenced."""
        lease, content = self._leases.get(number), None
        with suppress(OSError):
            content = read_lease(self.root, lease) if lease else None
        job = self._remove(number)
        return job if lease is None or content is None else replace(job, expired=(Observation(lease, content),))

    def _end(self, number: int) -> Iterator[Event]:
        """A job has ended: it was trained, or its worker has refused it."""
        refusal, has_started = self._refused.get(number), number in self._training
        job = self._remove(number)
        yield from self._settle_stored(job)
        if refusal is None or self.queue.unfinished.isdisjoint(job.hashes):
            self.queue.settle(job.hashes)
            return
        self.passed_on.add(job.hashes)
        if has_started:
            yield Requeued(tuple(trial for trial in job.hashes if trial in self.queue.unfinished))
        if refusal.lease:
            yield from self._note(f"{refusal.cause} trains some of the trials. Waiting for it.")
            self.held.add(job, refusal.lease)
        else:
            yield from self._refuse(job, refusal)

    def _refuse(self, job: Job, refusal: Refused) -> Iterator[Event]:
        """Try a job again that a worker was not fit for, or whose lease was lost, a few times.

        A worker that is fit may be busy: while other jobs train, a job that none was fit for is tried without a limit.
        """
        self.refusals[job.hashes] += 1
        nodes = fleet.nodes if (fleet := self.executor.fleet()) else 1
        limit = max(MAX_REFUSALS, nodes + 1) if refusal.lease is None else MAX_ATTEMPTS_LOST
        more = self.refusals[job.hashes] - limit
        if more < 0 or (refusal.lease is None and self._trains_others()):
            self.held.add(job, "", min(LONGEST_PAUSE, POLL_SECONDS * 2 ** min(max(0, more + 1), 10)))
            return
        names = first_names([trial for trial in job.hashes if trial in self.queue.unfinished])
        if refusal.lease is None:
            yield Warned(
                f"Not resumed: {names}. Every worker differs from the environment of the checkpoint: {refusal.cause}. "
                "Use --allow-drift to resume anyway."
            )
        else:
            times = self.refusals[job.hashes]
            yield Warned(f"Not trained: {names}. {refusal.cause}, {times} times. Run the same command again to resume.")
        self.queue.settle(job.hashes)

    def _trains_others(self) -> bool:
        """Whether jobs run that no worker has refused, or that have started since."""
        return any(job.hashes not in self.passed_on or number in self._training for number, job in self.running.items())

    def _untrained(self, jobs: Sequence[Job]) -> Generator[Event, None, list[Job]]:
        """The jobs without those whose trials other processes have trained since the store was read."""
        untrained: list[Job] = []
        for job in jobs:
            if job.leases:
                yield from self._settle_stored(job)
            if not job.leases or not self.queue.unfinished.isdisjoint(job.hashes):
                untrained.append(job)
        return untrained

    def _settle_stored(self, job: Job) -> Iterator[Event]:
        """Yield the outcomes of a job that another process has written."""
        unfinished = [trial for trial in job.hashes if trial in self.queue.unfinished] if job.leases else []
        for event in stored_results(self.root, unfinished):
            self.queue.settle([event.trial])
            yield event

    def _retry(self, job: Job, death: Died) -> Iterator[Event]:
        """Restart a job a few times, then its trials one by one, so that only the trial that causes the deaths fails."""
        lost = [trial for trial in job.trials if trial.hash in self.queue.unfinished]
        counts, limit = self.crash_counts, MAX_ATTEMPTS_OUT_OF_MEMORY if death.out_of_memory else MAX_ATTEMPTS
        if death.lost:
            counts, limit = self.lost_counts, MAX_ATTEMPTS_LOST
        attempts = counts[job.hashes] = counts[job.hashes] + 1
        trials = "its trial" if len(lost) == 1 else f"its {len(lost)} trials"
        trials += f" ({first_names([trial.hash for trial in lost])})"
        if attempts < limit:
            self.retried += 1
            yield Warned(f"{death.cause}. Restarting {trials}.")
            yield Requeued(tuple(trial.hash for trial in lost))
            self.queue.put_first([job])
            return
        if len(lost) > 1:
            self.retried += len(lost)
            yield Warned(f"{death.cause}. Restarting {trials} one by one.")
            yield Requeued(tuple(trial.hash for trial in lost))
            for trial in lost:
                counts[trial.hash,] = limit - 1
            self.queue.put_first([replace(job, trials=(trial,)) for trial in lost])
            self.queue.settle(set(job.hashes) - {trial.hash for trial in lost})
            return
        for trial in lost:
            yield from self._fail(trial, job, f"{death.cause}, {attempts} times.{death.output}")

    def _fail(self, trial: Trial, job: Job, cause: str) -> Iterator[Event]:
        """Record that a trial has failed, unless another process trains it by now, or the store cannot be written."""
        try:
            with Lease(self.root, [trial.hash], expired=job.expired) if job.leases else nullcontext() as lease:
                failure = record_failure(trial, job, cause, lease)
        except (LeaseHeldError, LeaseLostError) as error:
            self.held.add(replace(job, trials=(trial,)), getattr(error, "lease", ""))
            return
        except OSError as error:
            text = f"{self.root}: cannot record that {first_names([trial.hash])} failed ({error.strerror or error}): {cause}"
            yield Warned(text)
            self.queue.settle([trial.hash])
            return
        yield from self._settle_stored(replace(job, trials=(trial,)))
        self.queue.settle([trial.hash])
        if failure is not None:
            yield failure

    def _cancel_silent(self) -> None:
        """Give up the jobs whose lease has expired: their workers may not write any more."""
        if not self._leases or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + POLL_SECONDS
        for number, lease in list(self._leases.items()):
            if self._unheard[number] < LOOKS:
                seen = self._watch.look(lease)
                self._unheard[number] = self._unheard[number] + 1 if seen and seen.content else 0
                if self._unheard[number] == LOOKS:
                    self.executor.cancel(number)

    def _fleet(self) -> Iterator[Event]:
        """Yield what the workers of a cluster do, if it has changed; of this machine's workers, only after a loss or refusal."""
        fleet, refused = self.executor.fleet(), len(self.passed_on)
        if fleet is None:
            if not (self.lost or refused):
                return
            fleet = Fleet(1, self.executor.capacity())
        running = len(self._training)
        waiting = len(self.queue) + len(self.held) + len(self.running) - running
        now = FleetChanged(fleet.nodes, fleet.workers, running, waiting, self.retried, self.lost, refused)
        if now != self._shown:
            self._shown = now
            yield now

    def _note(self, text: str) -> Iterator[Event]:
        """Yield a line, once per run."""
        if text not in self._notes:
            self._notes.add(text)
            yield Note(text)
