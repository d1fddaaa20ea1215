"""The coordinator with packs that are refused or lost although a worker that fits is there, or their end is known."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fathomlab.execute import coordinator
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import (
    Died,
    EpochDone,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Idle,
    Refused,
    Requeued,
    Started,
    Warned,
)
from fathomlab.execute.executors.setting import Fleet
from fathomlab.execute.signals import StopRequest
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from tests.unit.execute import test_held_jobs
from tests.unit.execute.test_coordinator import finished
from tests.unit.execute.test_held_jobs import ELSEWHERE, LOST, Elastic, claim_elsewhere, job, run, store_result

quick, trials = test_held_jobs.quick, test_held_jobs.trials  # fixtures


class Fair(Elastic):
    """One event of each job in turn."""

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        if not self._running:
            yield from super().events(timeout_seconds)
        for number, events in list(self._running.items()):
            yield number, events.pop(0)
            if not events:
                del self._running[number]


def test_busy_worker_that_fits_is_awaited(trials: tuple[Trial, ...], tmp_path: Path):
    """Two packs of another environment, and a worker that fits but trains something else."""
    new, *old = (job((trial,), tmp_path) for trial in trials[:3])
    epochs = [EpochDone(new.hashes[0], epoch, {}) for epoch in range(200)]
    refused = [Refused("kernels", None), Idle()]

    def script(item: Job) -> list[Event]:
        if item.hashes == new.hashes:
            return [Started(new.hashes, 1), *epochs, *finished(new)]
        return finished(item) if any(event.event == "finished" for event in seen) else refused

    executor, seen = Fair(script, jobs_at_once=3), list[Event]()
    for event in run_jobs([new, *old], executor, StopRequest()):
        seen.append(event)
    assert sum(isinstance(event, Finished) for event in seen) == 3
    assert not any(isinstance(event, Warned) for event in seen)


def test_every_node_may_refuse_a_job(trials: tuple[Trial, ...], tmp_path: Path):
    """Only the last of eight nodes fits."""
    executor = Elastic(lambda item: finished(item) if len(executor.submitted) == 8 else [Refused("why", None), Idle()])
    executor.fleet = lambda: Fleet(8, 8)  # type: ignore[method-assign]
    (event,) = run([job(trials[:1], tmp_path)], executor)
    assert isinstance(event, Finished)


def test_pack_that_loses_its_lease_does_not_run(trials: tuple[Trial, ...], tmp_path: Path):
    """While it waits, it is not shown as running, and its trials count as work to do."""

    def script(item: Job) -> list[Event]:
        if len(executor.submitted) > 1:
            return [Started(item.hashes, 1), *finished(item)]
        done = Finished(item.hashes[0], "finished", None, 1.0, {})
        return [Started(item.hashes, 1), done, Refused("another process has taken over", ""), Idle()]

    executor = Elastic(script)
    events = list(run_jobs([job(trials[:2], tmp_path)], executor, StopRequest()))
    assert [event.trials for event in events if isinstance(event, Requeued)] == [(trials[1].hash,)]


def test_failure_that_cannot_be_recorded_ends_no_run(
    trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The file server is away, or the disk is full; the other packs are trained."""

    def away(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(coordinator, "record_failure", away)
    executor = Elastic(lambda item: [Died("crash")] if item.hashes == (trials[0].hash,) else finished(item))
    events = run([job(trials[:1], tmp_path), job(trials[1:], tmp_path)], executor)
    assert sum(isinstance(event, Finished) for event in events) == 3
    texts = [event.text for event in events if isinstance(event, Warned)]
    assert [text for text in texts if "Stale file handle" in text and "crash" in text]


def test_dead_worker_that_its_executor_reports_is_not_silent(trials: tuple[Trial, ...], tmp_path: Path):
    """Its lease is known to be dead a moment before the report arrives, which says why and counts."""
    claim_elsewhere(tmp_path, trials[:1])
    executor = Elastic(lambda item: [Started(item.hashes, 1, lease=ELSEWHERE), Started((), 1), Died("crash")])
    events = run([job(trials[:1], tmp_path)], executor)
    assert executor.canceled == []
    assert len(executor.submitted) == 3
    assert events[-1] == Failed(trials[0].hash, "crash, 3 times.")


def test_silent_job_whose_end_is_known(trials: tuple[Trial, ...], tmp_path: Path):
    """Its node was lost: that is said."""
    claim_elsewhere(tmp_path, trials[:1])
    silence = [Started((), 1)] * 50

    def script(item: Job) -> list[Event]:
        return finished(item) if len(executor.submitted) > 1 else [Started(item.hashes, 1, lease=ELSEWHERE), *silence]

    def cancel(number: int) -> None:
        executor._running[number] = [LOST]

    executor = Elastic(script)
    executor.cancel = cancel  # type: ignore[method-assign]
    warning, _ = run([job(trials[:1], tmp_path)], executor)
    assert isinstance(warning, Warned)
    assert LOST.cause in warning.text


def test_job_whose_trials_have_results_is_not_submitted(trials: tuple[Trial, ...], tmp_path: Path):
    """Another process, or a job of an earlier run, has ended since the store was read."""
    store_result(tmp_path, trials[0])
    store_result(tmp_path, trials[1])
    executor = Elastic(finished, jobs_at_once=9)
    events = run([job(trials[:1], tmp_path), job(trials[1:3], tmp_path), job(trials[3:], tmp_path)], executor)
    assert [item.hashes for item in executor.submitted] == [job(trials[1:3], tmp_path).hashes, (trials[3].hash,)]
    assert {event.trial for event in events if isinstance(event, Finished)} == {trial.hash for trial in trials}


def test_pack_that_returns_to_the_queue_of_a_cluster_does_not_run(trials: tuple[Trial, ...], tmp_path: Path):
    def script(item: Job) -> list[Event]:
        started = Started(item.hashes, 1)
        return [started, Requeued(item.hashes), Started((), 1), started, Requeued(item.hashes), *finished(item)]

    events = list(run_jobs([job(trials[:1], tmp_path)], Elastic(script), StopRequest()))
    fleet = [(event.running, event.waiting) for event in events if isinstance(event, FleetChanged)]
    assert fleet == [(0, 1), (1, 0), (0, 1), (1, 0), (0, 1), (0, 0)]
