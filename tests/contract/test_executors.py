"""What the coordinator relies on, for every executor of the table."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import fathomlab
from fathomlab.execute.events import Event, Finished, Idle, Started, Stopped
from fathomlab.execute.executors import EXECUTORS, Executor
from fathomlab.execute.executors.setting import Setting
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.reading import Store

CONFIG = {
    "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
}
LONG = "training.epochs=100000"


@pytest.fixture(params=list(EXECUTORS))
def executor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """An executor whose store may be relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    with closing(EXECUTORS[request.param](Setting(tmp_path, 2, "cpu"))) as started:
        yield started


def jobs(root: Path, *overrides: str) -> list[Job]:
    """Two jobs of one trial each."""
    return [Job((trial,), root, "cpu") for trial in fathomlab.load(CONFIG, ["seed=0..1", *overrides]).trials]


def wait(executor: Executor, numbers: set[int], until: Callable[[Event], bool]) -> dict[int, list[Event]]:
    """The events of jobs, until each of them had one of these."""
    events: dict[int, list[Event]] = {number: [] for number in numbers}
    end = time.monotonic() + 60
    while numbers and time.monotonic() < end:
        for number, event in executor.events(0.1):
            events[number].append(event)
            if until(event):
                numbers = numbers - {number}
    assert not numbers, events
    return events


def test_executor_trains_jobs(executor: Executor, tmp_path: Path):
    """In a relative store. Each job reports under its number, from its start to `Idle`."""
    assert executor.capacity() >= 1
    for job in jobs(Path("runs"), "training.epochs=1"):
        (number,) = executor.submit([job])
        (events,) = wait(executor, {number}, lambda event: isinstance(event, Idle)).values()
        assert isinstance(events[0], Started)
        assert (events[0].trials, events[0].epochs) == (job.hashes, 1)
        assert isinstance(events[-2], Finished)
        assert (events[-2].trial, events[-2].status) == (job.hashes[0], "finished")
        assert Store(tmp_path / "runs").trial(job.hashes[0]).status == "finished"


def test_executor_stops_jobs_with_a_checkpoint(executor: Executor, tmp_path: Path):
    requested = jobs(tmp_path, LONG)[: executor.capacity()]
    submitted = dict(zip(executor.submit(requested), requested, strict=True))
    wait(executor, set(submitted), lambda event: isinstance(event, Started))
    executor.stop(signal.SIGTERM)
    events = wait(executor, set(submitted), lambda event: isinstance(event, Stopped))
    assert all(isinstance(last, Stopped) for *_, last in events.values())
    for job in submitted.values():
        assert latest_checkpoint(tmp_path / "trials" / job.hashes[0]) is not None


def test_executor_without_jobs_reports_nothing(executor: Executor):
    assert list(executor.events(0.0)) == []


@pytest.mark.parametrize("name", EXECUTORS)
def test_closed_executor_trains_no_more(name: str, tmp_path: Path):
    """Nothing runs afterwards, and nothing is recorded as failed."""
    (job, _) = jobs(tmp_path, LONG)
    with closing(EXECUTORS[name](Setting(tmp_path, 1, "cpu"))) as executor:
        (number,) = executor.submit([job])
        wait(executor, {number}, lambda event: isinstance(event, Started))
    log = tmp_path / "trials" / job.hashes[0] / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    time.sleep(0.3)
    assert (log.stat().st_size if log.exists() else 0) == size
    assert Store(tmp_path).trial(job.hashes[0]).status == "interrupted"
