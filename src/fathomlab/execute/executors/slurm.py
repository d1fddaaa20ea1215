"""Trains packs as elements of Slurm job arrays. The coordinator and the jobs share the store, and nothing else."""

import platform
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from fathomlab.base.codec import to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.identity import canonical_json
from fathomlab.execute.events import Died, Event, Idle, Started, Stopped
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.executors.slurm_element import Element
from fathomlab.execute.executors.slurm_files import (
    SCRIPTS,
    EventTail,
    Submission,
    SubmittedPack,
    events_path,
    last_lines,
    new_folder,
    read_submissions,
    write_submission,
)
from fathomlab.execute.executors.slurm_preview import ENVIRONMENT, MAX_ARRAY, preview
from fathomlab.execute.executors.slurm_queue import CANCELED, QUEUES, UNKNOWN, WAITING, QueueEntry, job_name
from fathomlab.prepare.jobs import Job
from fathomlab.prepare.packing import worker_count

MAX_WORKERS = 64  # for which packs are formed without `array_parallelism`
MAX_UNFINISHED = 100_000
ABSENCES = 2  # looks at the queue in which a job is missing before it counts as ended
STOP_LOOK_SECONDS = 2.0
POLL_SECONDS = {"slurm": (1.0, 15.0), "local": (0.1, 0.3)}  # between looks at event files, and at the queue
CAUSES = {
    "PREEMPTED": "was preempted and did not return to the queue",
    "TIMEOUT": "reached the time limit before it had written a checkpoint",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node, which did not start",
    CANCELED: "was canceled",
    "DEADLINE": "was removed from the queue at its deadline",
    "FAILED": "failed",
    "COMPLETED": "ended without a report",
    UNKNOWN: "ended without a report",
}
LOST = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"})


@dataclass(eq=False)
class _Pack:
    """An element of an array that has not ended, as this process follows it.

    Attributes:
        job: Its number in the queue.
        trials: Hashes of its trials.
        scripts: The folder of its script and output.
        tail: Its events.
        entry: The job in the queue when it was last seen.
        absences: Looks at the queue in which it was missing, one after the other.
        given_up: Whether the coordinator has canceled it.
    """

    job: str
    trials: tuple[str, ...]
    scripts: Path
    tail: EventTail
    entry: QueueEntry | None = None
    absences: int = 0
    given_up: bool = False


class Slurm:
    """Job arrays, and their events in the store.

    Attributes:
        adoptable: Packs of an earlier run that wait or run and that nobody has submitted here, by the hashes of their trials.
    """

    spans_hosts: ClassVar[bool] = True
    stop_seconds: ClassVar[float] = 60.0

    def __init__(self, setting: Setting):
        """Look for jobs of an earlier run that are alive: they are adopted when their packs are submitted.

        Raises:
            UserError: If submitit or Slurm is missing.
        """
        self._options, self._root = setting.run.slurm, setting.root.absolute()
        self._queue = QUEUES[self._options.cluster](self._options, ENVIRONMENT)
        self._poll_seconds, self._queue_seconds = POLL_SECONDS[self._options.cluster]
        self._next_poll = self._next_look = 0.0
        self._submitted = 0
        self._stopped_by: int | None = None
        self._packs: dict[int, _Pack] = {}
        self._ended: list[str] = []
        self.adoptable = self._living_packs()

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """`run.slurm.array_parallelism` or `--workers`; otherwise one per pack, at most 64."""
        worker_count(requested, 1)
        if str(requested) != "auto":
            return int(requested)
        return setting.run.slurm.array_parallelism or max(1, min(packs, MAX_WORKERS))

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """The packs of jobs that are still in the queue."""
        return tuple(Slurm(setting).adoptable)

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """The script of the first job array, its packs, and what may go wrong."""
        return preview(jobs, setting)

    def capacity(self) -> int:
        """All packs: those that cannot start wait in Slurm's queue."""
        return MAX_UNFINISHED

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Submit the jobs as one array, except those that an earlier run has submitted and that are alive.

        Raises:
            UserError: If Slurm refuses the array, or the store cannot be written.
        """
        numbers = range(self._submitted + 1, self._submitted + 1 + len(jobs))
        self._submitted += len(jobs)
        missing: list[tuple[int, Job]] = []
        for number, job in zip(numbers, jobs, strict=True):
            pack = None if job.expired else self.adoptable.pop(job.hashes, None)
            if pack is None:
                missing.append((number, job))
            else:
                self._packs[number] = pack
        for start in range(0, len(missing), MAX_ARRAY):
            self._submit(missing[start : start + MAX_ARRAY])
        return tuple(numbers)

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next events: those of running packs every second, the state of the queue every 15 s."""
        now = time.monotonic()
        if now < self._next_poll:
            time.sleep(max(0.0, min(timeout_seconds, self._next_poll - now)))
            if time.monotonic() < self._next_poll:
                return
        self._next_poll = time.monotonic() + self._poll_seconds
        looked = time.monotonic() >= self._next_look
        if looked:
            self._next_look = time.monotonic() + self._queue_seconds
            self._look()
        for number, pack in list(self._packs.items()):
            if looked or pack.entry is None or pack.entry.state not in WAITING:
                yield from self._report(number, pack)

    def cancel(self, number: int) -> None:
        """Remove the job from the queue. Its end is reported when it has left the queue."""
        if number in self._packs:
            self._packs[number].given_up = True
            self._queue.cancel([self._packs[number].job])

    def fleet(self) -> Fleet:
        """The nodes on which packs run, and the number of these packs."""
        running = [pack.entry for pack in self._packs.values() if pack.entry is not None and pack.entry.runs]
        return Fleet(len({entry.node for entry in running}), len(running))

    def stop(self, signum: int) -> None:
        """End the jobs with checkpoints, and remove the waiting ones; after SIGHUP, leave them: the same command adopts them."""
        self._stopped_by = signum
        self._next_poll = self._next_look = 0.0
        if self._leaves_jobs:
            return
        self._look()
        self._queue_seconds = min(self._queue_seconds, STOP_LOOK_SECONDS)
        waiting = [pack for pack in self._packs.values() if pack.entry is not None and pack.entry.state in WAITING]
        self._queue.cancel([pack.job for pack in waiting])
        self._queue.interrupt([pack.job for pack in self._packs.values() if pack not in waiting])
        for pack in waiting:
            pack.absences = ABSENCES

    def close(self) -> None:
        """Leave the jobs that live after an error of the coordinator: the next run adopts them."""
        self._queue.close(self._ended)

    @property
    def _leaves_jobs(self) -> bool:
        """Whether the run ends because its terminal was closed."""
        return self._stopped_by is not None and self._stopped_by == getattr(signal, "SIGHUP", None)

    def _living_packs(self) -> dict[tuple[str, ...], _Pack]:
        """The packs of earlier runs that wait or run, by the hashes of their trials."""
        packs: list[tuple[str, _Pack]] = []
        for folder, submission in read_submissions(self._root):
            if submission.cluster != self._options.cluster:
                continue
            if submission.cluster == "local" and submission.host != platform.node():
                continue
            scripts = folder / submission.scripts
            for index, element in enumerate(submission.packs):
                tail = EventTail(events_path(folder, index))
                packs.append((job_name(scripts), _Pack(element.job, element.trials, scripts, tail)))
        if not packs:
            return {}
        for _, pack in packs:
            self._queue.remember(pack.job, pack.scripts)
        living = self._queue.living()
        if living is None:
            raise UserError("no-slurm", "squeue fails, so jobs of an earlier run cannot be seen. Try again later.")
        names = {job: entry.name for job, entry in living.items()}  # numbers of jobs are used again
        alive = [pack for name, pack in packs if names.get(pack.job) == name and not _has_ended(pack)]
        return {pack.trials: pack for pack in reversed(alive)}

    def _submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Submit one array, and record it."""
        try:
            folder = new_folder(self._root)
            paths = [events_path(folder, index) for index in range(len(jobs))]
            for path in paths:
                path.touch()  # a host may remember for a minute that a file did not exist
        except OSError as error:
            raise self._unwritable(error) from None
        contents = [canonical_json(to_plain(replace(job, root=job.root.absolute()))).encode() for _, job in jobs]
        cluster = self._options.cluster
        elements = [
            Element(content, str(path), cluster, ENVIRONMENT) for content, path in zip(contents, paths, strict=True)
        ]
        scripts = folder / SCRIPTS
        try:
            names = self._queue.submit(scripts, elements)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        packs = tuple(SubmittedPack(name, job.hashes) for name, (_, job) in zip(names, jobs, strict=True))
        try:
            write_submission(folder, Submission(cluster, platform.node(), SCRIPTS, packs))
        except OSError as error:
            self._queue.cancel(names)  # no later run would know them
            raise self._unwritable(error) from None
        for pack, path, (number, _) in zip(packs, paths, jobs, strict=True):
            self._packs[number] = _Pack(pack.job, pack.trials, scripts, EventTail(path))
        self._next_look = 0.0

    def _unwritable(self, error: OSError) -> UserError:
        return UserError("unwritable", f"{self._root}: cannot write: {error.strerror or error}.")

    def _look(self) -> None:
        """Look at the queue."""
        living = self._queue.living()
        if living is None:  # Slurm's controller may come back
            return
        for pack in self._packs.values():
            entry = living.get(pack.job)
            pack.absences = pack.absences + 1 if entry is None else 0
            pack.entry = entry or QueueEntry(UNKNOWN)

    def _report(self, number: int, pack: _Pack) -> Iterator[tuple[int, Event]]:
        """The new events of a pack, and its end."""
        if self._leaves_jobs:
            yield from self._end(number, Stopped())
            return
        gone = pack.absences >= ABSENCES  # before the events are read: they contain the last one then
        for event in pack.tail.read():
            if isinstance(event, Idle | Stopped):
                stopped = isinstance(event, Stopped)
                lost = Died(f"{_name(pack)} was interrupted", lost=True)
                yield from self._end(number, lost if stopped and self._stopped_by is None else event)
                return
            if isinstance(event, Started) and pack.entry is not None:
                pack.entry = replace(pack.entry, state="RUNNING", node=event.node or pack.entry.node)
            yield number, event
        if gone:
            yield from self._end(number, Stopped() if self._stopped_by is not None else self._death(pack))

    def _end(self, number: int, event: Event) -> Iterator[tuple[int, Event]]:
        pack = self._packs.pop(number)
        if not self._leaves_jobs:
            self._ended.append(pack.job)
        yield number, event

    def _death(self, pack: _Pack) -> Died:
        state = self._queue.final_state(pack.job)
        if pack.given_up and state in (CANCELED, UNKNOWN):
            return Died(f"Nothing was heard from {_name(pack)}", lost=True)
        cause = f"{_name(pack)} {CAUSES.get(state, f'ended with the state {state}')}"
        return Died(cause, last_lines(pack.scripts, pack.job), state == "OUT_OF_MEMORY", state in LOST)


def _has_ended(pack: _Pack) -> bool:
    """Whether the last event of a pack is in its file, although its job has not left the queue."""
    pack.tail.skip()
    return pack.tail.last is not None


def _name(pack: _Pack) -> str:
    return f"Slurm job {pack.job}"
