"""An executor without work: it answers each job at once, so that what remains is the coordinator and the progress."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.startup import tiny
from fathomlab import api
from fathomlab.api.interim import CurrentEffect
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import EpochDone, Event, Finished, Idle, Planned, Started
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.progress import progress_reporter
from fathomlab.execute.signals import StopRequest
from fathomlab.export.live import Live
from fathomlab.plan import Plan
from fathomlab.prepare.cost import planned_seconds
from fathomlab.prepare.jobs import Job

CONDITIONS = 50
METRICS = {"train/loss": 0.1, "train/accuracy": 0.9, "val/loss": 0.2, "val/accuracy": 0.9}
TEST = {"test/loss": 0.2, "test/accuracy": 0.9}
NOWHERE = Path("no-store")


class Scripted:
    """Answers each job with the events of an epoch and of the outcome of each trial; jobs take turns."""

    spans_hosts: ClassVar[bool] = False
    stop_seconds: ClassVar[float] = 1.0

    def __init__(self, setting: Setting) -> None:
        """As many jobs at a time as there are workers in `setting`."""
        self.workers, self.submitted = setting.workers, 0
        self._running: dict[int, Iterator[Event]] = {}

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """As requested."""
        return int(requested)

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """Nothing is started."""
        return ""

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """No job of an earlier run trains."""
        return ()

    def capacity(self) -> int:
        """Jobs at the same time."""
        return self.workers

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Number the jobs."""
        numbers = tuple(range(self.submitted + 1, self.submitted + 1 + len(jobs)))
        self.submitted += len(jobs)
        self._running |= {number: script(job) for number, job in zip(numbers, jobs, strict=True)}
        return numbers

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next event of each job."""
        for number in list(self._running):
            event = next(self._running[number])
            if isinstance(event, Idle):
                del self._running[number]
            yield number, event

    def cancel(self, number: int) -> None:
        """Nothing is ever silent."""

    def fleet(self) -> Fleet | None:
        """Everything is on this machine."""
        return None

    def stop(self, signum: int) -> None:
        """Nothing has to be saved."""

    def close(self) -> None:
        """Nothing has to be released."""


def script(job: Job) -> Iterator[Event]:
    """What a worker reports of a job with one epoch."""
    yield Started(job.hashes, 1, 0.0)
    for trial in job.hashes:
        yield EpochDone(trial, 1, METRICS, 1e-3, 0.1)
    for trial in job.hashes:
        yield Finished(trial, "finished", None, 0.1, TEST, 100)
    yield Idle()


def overhead(trials: int, pack: int, workers: int) -> dict[str, Any]:
    """CPU time per trial (ms) and growth of the memory (MB) while all trials pass through coordinator and progress.

    Args:
        trials: Number of trials.
        pack: Trials per job.
        workers: Jobs at the same time.
    """
    plan = api.load(tiny(trials // CONDITIONS, {"layers_dim": [8 * (i + 1) for i in range(CONDITIONS)]}))
    every = plan.trials
    jobs = [Job(tuple(every[start : start + pack]), NOWHERE) for start in range(0, len(every), pack)]
    planned = Planned(
        len(every), 0, len(jobs), workers, {trial.hash: planned_seconds(trial) for trial in every}, plan.labels
    )
    before = resident()
    marks = run(plan, jobs, Scripted(Setting(NOWHERE, workers)), planned)
    return {
        "trials": len(every),
        "milliseconds": 1e3 * (marks[-1] - marks[0]) / len(every),
        "first": 1e3 * (marks[1] - marks[0]) / (len(every) // 4),
        "last": 1e3 * (marks[-1] - marks[-2]) / (len(every) // 4),
        "growth": resident() - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run(plan: Plan, jobs: Sequence[Job], executor: Scripted, planned: Planned) -> list[float]:
    """Processor time (s) at the start and after each quarter of the trials."""
    stop, done, quarter = StopRequest(), 0, planned.trials // 4
    with ExitStack() as stack:
        out = stack.enter_context(open("/dev/null", "w"))
        report = stack.enter_context(progress_reporter("plain", out, clock=stop.clock))
        effects = CurrentEffect((), NOWHERE, "none", report)
        live = stack.enter_context(Live((), NOWHERE, "none", effects.emit, stop))
        live.expect(plan)
        marks = [time.process_time()]
        live.emit(planned)
        for event in run_jobs(jobs, executor, stop):
            live.emit(event)
            if isinstance(event, Finished):
                done += 1
                if done % quarter == 0:
                    marks.append(time.process_time())
    assert done == planned.trials, done
    return marks


def resident() -> float:
    """Memory of this process (MB)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
