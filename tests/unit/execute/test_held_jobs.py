"""The coordinator with jobs that other processes train, that are lost, or that no worker is fit for."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute import coordinator, job_queue
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import (
    Died,
    Event,
    Failed,
    Finished,
    Idle,
    Note,
    Refused,
    Started,
    Warned,
)
from fathomlab.execute.executors.setting import Fleet
from fathomlab.execute.signals import StopRequest
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from fathomlab.store import leases
from fathomlab.store.directory import TrialFolder
from fathomlab.store.lease_files import Owner, lease_path
from fathomlab.store.leases import Lease, Observation
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import Result
from fathomlab.store.trial_files import trial_status
from tests.unit.execute.test_coordinator import Scripted, finished

ELSEWHERE = "0" * 32
LOST = Died("Node 7 was lost", lost=True)


class Elastic(Scripted):
    """Waits while nothing runs; `act` is then called. A canceled job dies."""

    def __init__(self, script: Callable[[Job], Sequence[Event]], jobs_at_once: int = 1):
        super().__init__(script, jobs_at_once)
        self.batches: list[int] = []
        self.waits = 0
        self.act: Callable[[], None] = lambda: None

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        self.batches.append(len(jobs))
        return super().submit(jobs)

    def cancel(self, number: int) -> None:
        super().cancel(number)
        self._running[number] = [Died("Worker killed by SIGKILL", out_of_memory=True)]

    def fleet(self) -> Fleet | None:
        return Fleet(1, self.jobs_at_once)

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        if any(self._running.values()):
            yield from super().events(timeout_seconds)
            return
        self.waits += 1
        assert self.waits < 10_000, "waits for ever"
        self.act()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at each opportunity; leases expire after two looks."""
    monkeypatch.setattr(job_queue, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(coordinator, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 1e-9)


@pytest.fixture
def trials(small: dict[str, Any]) -> tuple[Trial, ...]:
    return fathomlab.load(small, ["seed=0..3"]).trials


def job(trials: Sequence[Trial], root: Path) -> Job:
    return Job(tuple(trials), root, leases=True)


def claim_elsewhere(root: Path, trials: Sequence[Trial]) -> str:
    """Another host has a lease for these trials; returns its content."""
    path = lease_path(root, ELSEWHERE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Owner("elsewhere", "other boot", 7, "1").encode())
    for trial in trials:
        (root / "leases" / trial.hash).mkdir(exist_ok=True)
        (root / "leases" / trial.hash / "1").write_text(ELSEWHERE)
    return path.read_text()


def store_result(root: Path, trial: Trial) -> None:
    """Write a result, as another process does."""
    folder = TrialFolder(root, trial.hash)
    folder.create(trial.content)
    folder.write_provenance(Provenance())
    folder.finish(Result("finished", seconds=2.0, metrics={"test/accuracy": 0.5}))


def run(jobs: Sequence[Job], executor: Scripted) -> list[Event]:
    """What is said, and outcomes."""
    events = list(run_jobs(jobs, executor, StopRequest()))
    return [event for event in events if isinstance(event, Note | Warned | Finished | Failed)]


def test_refused_job_waits_until_the_lease_has_expired(trials: tuple[Trial, ...], tmp_path: Path):
    """And says for whom it waits, once."""
    content = claim_elsewhere(tmp_path, trials[:1])

    def script(item: Job) -> list[Event]:
        refusal = [Refused("process 7 on elsewhere", ELSEWHERE), Idle()]
        return finished(item) if item.expired else refusal

    executor = Elastic(script)
    events = run([job(trials[:1], tmp_path), job(trials[1:], tmp_path)], executor)
    assert [type(event) for event in events] == [Note, *[Finished] * 4]
    assert executor.submitted[-1].expired == (Observation(ELSEWHERE, content),)
    assert len(executor.submitted) == 4


def test_results_of_another_process_are_reported(trials: tuple[Trial, ...], tmp_path: Path):
    """Its trials are not submitted again, and what waits for them starts."""
    claim_elsewhere(tmp_path, trials[:2])
    executor = Elastic(lambda item: [Refused("process 7 on elsewhere", ELSEWHERE), Idle()])

    def act() -> None:
        for trial in trials[:2]:
            store_result(tmp_path, trial)
        lease_path(tmp_path, ELSEWHERE).unlink()
        executor.act = lambda: None

    executor.act = act
    events = run([job(trials[:2], tmp_path)], executor)
    expected = [Finished(trial.hash, "finished", None, 2.0, {"test/accuracy": 0.5}) for trial in trials[:2]]
    assert [event for event in events if isinstance(event, Finished)] == expected
    assert len(executor.submitted) == 1


def test_job_with_one_trial_left_is_submitted_again(trials: tuple[Trial, ...], tmp_path: Path):
    claim_elsewhere(tmp_path, trials[:2])

    def script(item: Job) -> list[Event]:
        if trial_status(tmp_path, trials[0].hash) == "finished":
            return [Finished(trials[1].hash, "finished", None, 1.0, {}), Idle()]
        store_result(tmp_path, trials[0])
        lease_path(tmp_path, ELSEWHERE).unlink()
        return [Refused("process 7 on elsewhere", ELSEWHERE), Idle()]

    executor = Elastic(script)
    events = run([job(trials[:2], tmp_path)], executor)
    assert [event.trial for event in events if isinstance(event, Finished)] == [trial.hash for trial in trials[:2]]
    assert [len(item.trials) for item in executor.submitted] == [2, 2]  # a finished trial keeps its slot


@pytest.mark.parametrize(("lease", "submissions"), [("", 10), (None, 5)])
def test_endless_refusals_end(trials: tuple[Trial, ...], tmp_path: Path, lease: str | None, submissions: int):
    """Leases that are lost again and again, and workers that do not fit. Nothing is recorded as failed."""
    executor = Elastic(lambda item: [Refused("why", lease), Idle()])
    events = run([job(trials, tmp_path)], executor)
    assert len(executor.submitted) == submissions
    (warning,) = events
    assert isinstance(warning, Warned)
    assert trials[0].hash[:12] in warning.text
    assert Store(tmp_path).trials() == []


def test_lost_nodes_are_not_the_fault_of_a_job(trials: tuple[Trial, ...], tmp_path: Path):
    executor = Elastic(lambda item: [LOST])
    events = run([job(trials[:1], tmp_path)], executor)
    assert len(executor.submitted) == 10
    assert sum(isinstance(event, Warned) for event in events) == 9
    assert events[-1] == Failed(trials[0].hash, f"{LOST.cause}, 10 times.")
    assert not list((tmp_path / "leases" / "packs").iterdir())


def test_crashes_and_lost_nodes_are_counted_apart(trials: tuple[Trial, ...], tmp_path: Path):
    deaths = iter([LOST, Died("crash"), LOST, Died("crash"), LOST])
    executor = Elastic(lambda item: [death] if (death := next(deaths, None)) else finished(item))
    events = run([job(trials[:1], tmp_path)], executor)
    assert (len(executor.submitted), type(events[-1])) == (6, Finished)


def test_silent_job_is_canceled_and_taken_over(trials: tuple[Trial, ...], tmp_path: Path):
    """Its worker was not killed by the kernel because memory ran out, although SIGKILL ended it."""
    content = claim_elsewhere(tmp_path, trials[:1])

    def script(item: Job) -> list[Event]:
        return finished(item) if len(executor.submitted) > 4 else [Started(item.hashes, 1, lease=ELSEWHERE), *silence]

    silence = [Started((), 1)] * 50
    executor = Elastic(script)
    events = run([job(trials[:1], tmp_path)], executor)
    assert executor.canceled == [1, 2, 3, 4]
    assert executor.submitted[-1].expired == (Observation(ELSEWHERE, content),)
    assert sum(isinstance(event, Warned) for event in events) == 4
    assert isinstance(events[-1], Finished)


def test_file_server_that_is_away_when_a_worker_dies(
    trials: tuple[Trial, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def away(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(coordinator, "read_lease", away)
    executor = Elastic(
        lambda item: (
            finished(item) if len(executor.submitted) > 1 else [Started(item.hashes, 1, lease=ELSEWHERE), Died("crash")]
        )
    )
    events = run([job(trials[:1], tmp_path)], executor)
    assert isinstance(events[-1], Finished)
    assert executor.submitted[1].expired == ()


def test_failure_is_not_recorded_while_another_process_trains(trials: tuple[Trial, ...], tmp_path: Path):
    """It has taken over from a worker that died for the last time. When it is done, its result counts."""
    others: list[Lease] = []

    def script(item: Job) -> list[Event]:
        if len(executor.submitted) == 3:
            others.append(Lease(tmp_path, [trials[0].hash]))
        return [Died("crash")]

    def act() -> None:
        store_result(tmp_path, trials[0])
        others[0].release()
        executor.act = lambda: None

    executor = Elastic(script)
    executor.act = act
    events = run([job(trials[:1], tmp_path)], executor)
    assert isinstance(events[-1], Finished)
    assert len(executor.submitted) == 3
    assert Store(tmp_path).trial(trials[0].hash).status == "finished"


def test_missing_workers_are_reported_once(trials: tuple[Trial, ...], tmp_path: Path):
    executor = Elastic(finished, jobs_at_once=0)

    def act() -> None:
        executor.jobs_at_once = int(executor.waits > 20)

    executor.act = act
    events = run([job((trial,), tmp_path) for trial in trials], executor)
    assert [type(event) for event in events] == [Note, *[Finished] * 4]
    assert executor.waits == 21


def test_jobs_are_submitted_in_batches(trials: tuple[Trial, ...], tmp_path: Path):
    executor = Elastic(finished, jobs_at_once=3)
    run([job((trial,), tmp_path) for trial in trials], executor)
    assert executor.batches == [3, 1]


def test_stop_request_ends_the_wait_for_another_process(trials: tuple[Trial, ...], tmp_path: Path):
    claim_elsewhere(tmp_path, trials)
    stop = StopRequest()
    executor = Elastic(lambda item: [Refused("process 7 on elsewhere", "f" * 32), Idle()])
    executor.script = lambda item: (stop.handle(2), [Refused("process 7 on elsewhere", ELSEWHERE), Idle()])[1]
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([job(trials, tmp_path)], executor, stop))
    assert len(executor.submitted) == 1
