"""Trains jobs one after the other in a thread of this process, with settings that are not the caller's."""

import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import ClassVar

from fathomlab.base.labels import count
from fathomlab.base.user_code import contained
from fathomlab.execute.events import Event, Idle, Stopped
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.signals import WAKE_SECONDS, RunInterrupted
from fathomlab.prepare.jobs import Job
from fathomlab.prepare.packing import worker_count


class Inline:
    """One thread that trains. Settings of torch that belong to a thread have their defaults there, known or not.

    The caller's thread only waits for events, so that it handles signals.
    """

    spans_hosts: ClassVar[bool] = False
    stop_seconds: ClassVar[float] = 4.0

    def __init__(self, setting: Setting):
        """Start the thread. It trains one job at a time, and this process already holds the lock."""
        from fathomlab.execute.pack.pack import train_job  # imports torch

        self._train_job = train_job
        self._jobs: SimpleQueue[tuple[int, Job] | None] = SimpleQueue()
        self._events: SimpleQueue[tuple[int, Event | BaseException]] = SimpleQueue()
        self._submitted = 0
        self._signum: int | None = None
        self._thread = threading.Thread(target=self._train, name="fathomlab-training")
        self._thread.start()

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """One, after checking the value."""
        worker_count(requested, packs)
        return 1

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """None: jobs end with the run."""
        return ()

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """One line."""
        return f"{count(len(jobs), 'pack')} one after the other in this process"

    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Give jobs to the thread."""
        numbers = range(self._submitted + 1, self._submitted + len(jobs) + 1)
        self._submitted += len(jobs)
        for number, job in zip(numbers, jobs, strict=True):
            self._jobs.put((number, job))
        return tuple(numbers)

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next event. What ends the thread is raised here."""
        try:
            number, event = self._events.get(timeout=timeout_seconds)
        except Empty:
            return
        if isinstance(event, BaseException):
            raise event
        yield number, event

    def cancel(self, number: int) -> None:
        """Nothing: a thread of this process cannot be lost."""

    def fleet(self) -> None:
        """None: it is on this machine."""

    def stop(self, signum: int) -> None:
        """Request a checkpoint and the end of the job at the next step."""
        self._signum = signum

    def close(self) -> None:
        """Wait until the thread has ended; a job that still runs writes a checkpoint first."""
        self._signum = self._signum or signal.SIGINT
        self._jobs.put(None)
        while self._thread.is_alive():
            self._thread.join(WAKE_SECONDS)  # a signal may be delivered to another thread; this one must wake up for it

    def _train(self) -> None:
        number = 0
        try:
            while (entry := self._jobs.get()) is not None:
                number, job = entry
                report = partial(self._report, number)
                with contained():
                    self._train_job(job, report, lambda: self._signum)
                report(Idle())
        except RunInterrupted:
            self._report(number, Stopped())
        except BaseException as error:  # raised in the caller's thread
            self._report(number, error)

    def _report(self, number: int, event: Event | BaseException) -> None:
        self._events.put((number, event))
