"""The coordinator with an executor that follows a script: order, capacity, retries, and stop requests."""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import fathomlab
from fathomlab.base.clock import RunningClock
from fathomlab.base.errors import UserError
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import (
    Died,
    EpochDone,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Idle,
    Requeued,
    Stopped,
    Warned,
)
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store

ABORTED = Died("Worker killed by SIGABRT", "\n    last line")
KILLED = Died("Worker killed by SIGKILL", "", out_of_memory=True)


class Scripted:
    """Answers each submitted job with the events that `script` returns for it; the last job to be submitted ends first."""

    spans_hosts: ClassVar[bool] = False
    stop_seconds: ClassVar[float] = 4.0

    def __init__(self, script: Callable[[Job], Sequence[Event]], jobs_at_once: int = 1):
        self.script, self.jobs_at_once = script, jobs_at_once
        self.submitted: list[Job] = []
        self.signals: list[int] = []
        self.canceled: list[int] = []
        self.largest = 0
        self._running: dict[int, list[Event]] = {}

    def capacity(self) -> int:
        return self.jobs_at_once

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        return packs

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        return ()

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        return ""

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        return tuple(map(self._submit, jobs))

    def _submit(self, job: Job) -> int:
        self.submitted.append(job)
        self._running[len(self.submitted)] = list(self.script(job))
        self.largest = max(self.largest, len(self._running))
        return len(self.submitted)

    def cancel(self, number: int) -> None:
        self.canceled.append(number)

    def fleet(self) -> Fleet | None:
        return None

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        if not self._running:
            raise AssertionError("nothing runs, so waiting would take forever")
        number = max(self._running)
        event = self._running[number].pop(0)
        if not self._running[number]:
            del self._running[number]
        yield number, event

    def stop(self, signum: int) -> None:
        self.signals.append(signum)

    def close(self) -> None:
        pass


def finished(job: Job) -> list[Event]:
    """The events of a job without problems."""
    return [*(Finished(trial, "finished", None, 1.0, {}) for trial in job.hashes), Idle()]


@pytest.fixture
def trials(small: dict[str, Any]) -> tuple[Trial, ...]:
    """Four trials that could be one pack."""
    return fathomlab.load(small, ["seed=0..3"]).trials


@pytest.mark.parametrize("jobs_at_once", [1, 2, 9])
def test_students_start_after_their_teachers(distillation: dict[str, Any], tmp_path: Path, jobs_at_once: int):
    plan = fathomlab.load(distillation, ["seed=0..3"])
    executor = Scripted(finished, jobs_at_once)
    jobs = [Job((trial,), tmp_path) for trial in reversed(plan.trials)]
    order = [event.trial for event in run_jobs(jobs, executor, StopRequest()) if isinstance(event, Finished)]
    assert sorted(order) == sorted(trial.hash for trial in plan.trials)
    assert executor.largest == jobs_at_once
    for trial in plan.trials:
        if trial.teachers:
            assert order.index(trial.teachers[0].hash) < order.index(trial.hash)


@pytest.mark.parametrize("result", ["failed", "none"])
def test_students_of_a_teacher_without_weights_start(distillation: dict[str, Any], tmp_path: Path, result: str):
    """They fail with their cause, instead of waiting forever; a full disk leaves no result at all."""
    plan = fathomlab.load(distillation)
    executor = Scripted(lambda job: [*([Failed(job.hashes[0], "broken")] if result == "failed" else []), Idle()])
    events = list(run_jobs([Job((trial,), tmp_path) for trial in plan.trials], executor, StopRequest()))
    assert [job.trials[0] for job in executor.submitted] == list(plan.trials)
    assert len(events) == (len(plan.trials) if result == "failed" else 0)


@pytest.mark.parametrize(("death", "attempts"), [(ABORTED, 3), (KILLED, 2)])
def test_dead_job_restarts_until_its_trial_fails(trials: tuple[Trial, ...], tmp_path: Path, death: Died, attempts: int):
    executor = Scripted(lambda job: [death])
    events = list(run_jobs([Job(trials[:1], tmp_path)], executor, StopRequest()))
    *warnings, failure = [event for event in events if isinstance(event, Warned | Failed)]
    assert [event.trials for event in events if isinstance(event, Requeued)] == [(trials[0].hash,)] * (attempts - 1)
    counts = [(event.retried, event.lost) for event in events if isinstance(event, FleetChanged)]
    assert counts[-1] == (attempts - 1, attempts)
    name = trials[0].hash[:12]
    assert warnings == [Warned(f"{death.cause}. Restarting its trial ({name}).")] * (attempts - 1)
    assert len(executor.submitted) == attempts
    assert failure == Failed(trials[0].hash, f"{death.cause}, {attempts} times.{death.output}")
    record = Store(tmp_path).trial(trials[0].hash)
    assert (record.status, record.cause) == ("failed", failure.cause)


def test_only_the_trial_that_causes_the_deaths_fails(trials: tuple[Trial, ...], tmp_path: Path):
    """A pack is restarted whole, then its unfinished trials one by one, each once; the others wait for nothing."""

    def script(job: Job) -> list[Event]:
        first, *_, last = [trial.hash for trial in trials]
        if len(job.trials) > 1:
            return [Finished(first, "finished", None, 1.0, {}), ABORTED]
        return [ABORTED] if job.hashes == (last,) else finished(job)

    executor = Scripted(script)
    events = list(run_jobs([Job(trials, tmp_path)], executor, StopRequest()))
    assert [len(job.trials) for job in executor.submitted] == [4, 4, 4, 1, 1, 1]
    assert [event.text.partition(" (")[0] for event in events if isinstance(event, Warned)] == [
        "Worker killed by SIGABRT. Restarting its 3 trials",
        "Worker killed by SIGABRT. Restarting its 3 trials",
        "Worker killed by SIGABRT. Restarting its 3 trials",
    ]
    (failure,) = [event for event in events if isinstance(event, Failed)]
    assert failure.trial == trials[3].hash
    (*_, last) = [event for event in events if isinstance(event, FleetChanged)]
    assert (last.retried, last.lost) == (5, 4)  # twice as a pack, then three trials, of which one dies again


def test_job_that_dies_after_its_results_is_not_restarted(trials: tuple[Trial, ...], tmp_path: Path):
    executor = Scripted(lambda job: [*finished(job)[:-1], ABORTED])
    events = list(run_jobs([Job(trials[:1], tmp_path)], executor, StopRequest()))
    assert len(executor.submitted) == 1
    assert [type(event) for event in events] == [Finished, FleetChanged]
    assert events[-1] == FleetChanged(1, 1, 0, 0, retried=0, lost=1)


@pytest.mark.parametrize("end", [Stopped(), ABORTED, Idle()])
def test_stop_request_ends_running_jobs_and_starts_none(trials: tuple[Trial, ...], tmp_path: Path, end: Event):
    """Whatever becomes of the jobs that run: none is started again, and none is recorded as failed."""
    executor = Scripted(lambda job: [EpochDone(job.hashes[0], 1, {}), end], jobs_at_once=2)
    stop = StopRequest()
    running = run_jobs([Job((trial,), tmp_path) for trial in trials], executor, stop)
    assert isinstance(next(running), EpochDone)
    stop.handle(signal.SIGTERM)
    events: list[Event] = []
    with pytest.raises(RunInterrupted) as caught:
        events.extend(running)
    assert [type(event) for event in events] == [EpochDone]
    assert caught.value.signum == signal.SIGTERM
    assert executor.signals == [signal.SIGTERM]
    assert len(executor.submitted) == 2
    assert Store(tmp_path).trials() == []


def test_stop_request_does_not_wait_forever(trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Scripted, "stop_seconds", 0.0)
    executor = Scripted(lambda job: [EpochDone(job.hashes[0], 1, {})] * 1_000_000)
    executor.stop = lambda signum: None  # type: ignore[method-assign]
    stop = StopRequest()
    stop.handle(signal.SIGINT)
    with pytest.raises(RunInterrupted):
        list(run_jobs([Job(trials, tmp_path)], executor, stop))


def test_time_limit_stops_jobs_like_an_interrupt(
    trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After 10 s of preparation and 30 s of training; the hour in which the machine sleeps does not count."""
    monkeypatch.setattr(Scripted, "stop_seconds", 0.0)
    now, seen, requests = [0.0], [0], list[tuple[int, int]]()

    def watch(event: Event) -> None:
        seen[0] += 1
        now[0] += 3600 if seen[0] == 5 else 1

    stop = StopRequest(40 / 60, RunningClock(lambda: now[0], lambda: 0.0))
    now[0] += 10
    executor = Scripted(lambda job: [EpochDone(job.hashes[0], epoch, {}) for epoch in range(99)])
    executor.stop = lambda signum: requests.append((signum, seen[0]))  # type: ignore[method-assign]
    with pytest.raises(RunInterrupted) as caught:
        list(map(watch, run_jobs([Job(trials, tmp_path)], executor, stop)))
    assert requests == [(signal.SIGINT, 31)]  # one of these events is the sleep
    assert (caught.value.signum, caught.value.minutes) == (signal.SIGINT, pytest.approx(2 / 3))


def test_time_limit_after_the_last_job_is_no_interrupt(trials: tuple[Trial, ...], tmp_path: Path):
    now = [0.0]
    stop = StopRequest(1.0, RunningClock(lambda: now[0], lambda: now[0]))
    for _ in run_jobs([Job(trials, tmp_path)], Scripted(finished), stop):
        now[0] += 14.0
    now[0] += 60
    assert list(run_jobs([], Scripted(finished), stop)) == []


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_time_limit_must_be_positive(minutes: float):
    with pytest.raises(UserError) as caught:
        StopRequest(minutes)
    assert caught.value.code == "invalid-option"
