"""The order of jobs, and jobs that other processes train."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from fathomlab.execute import job_queue
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Event, Finished, Started
from fathomlab.execute.job_queue import HeldJobs, JobQueue
from fathomlab.execute.signals import StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store.lease_files import Owner, lease_path
from fathomlab.store.leases import Observation
from tests.unit.execute.test_coordinator import Scripted, finished

LEASE = "0" * 32


def job(root: Path, *names: str, parents: Sequence[str] = ()) -> Job:
    """A job with trials that have only a hash and parents."""
    pairs = tuple(("teacher", SimpleNamespace(hash=name)) for name in parents)
    return Job(tuple(cast(Any, SimpleNamespace(hash=name, parents=pairs)) for name in names), root)


def names(jobs: Sequence[Job]) -> list[str]:
    return ["".join(item.hashes) for item in jobs]


def test_jobs_start_in_order_and_those_that_come_back_first(tmp_path: Path):
    queue = JobQueue([job(tmp_path, name) for name in "abcd"])
    first = queue.take(2)
    assert (names(first), len(queue), queue.take(0)) == (["a", "b"], 2, [])
    queue.put_first(first)
    assert names(queue.take(9)) == ["a", "b", "c", "d"]
    assert not queue.has_ready


def test_jobs_wait_for_all_parents_in_the_queue(tmp_path: Path):
    """A parent that no job trains is finished already. A job in two parts is settled when both are."""
    jobs = [
        job(tmp_path, "s", parents="ta"),
        job(tmp_path, "t", "u"),
        job(tmp_path, "v", parents="utx"),
        job(tmp_path, "a"),
    ]
    queue = JobQueue(jobs)
    assert names(queue.take(9)) == ["tu", "a"]
    assert (len(queue), queue.has_ready) == (2, False)
    queue.settle(["t"])
    queue.settle(["t", "unknown"])
    assert not queue.has_ready
    queue.settle(["a"])
    assert names(queue.take(9)) == ["s"]
    queue.settle(["u"])
    assert names(queue.take(9)) == ["v"]
    assert queue.unfinished == {"s", "v"}


@contextmanager
def counted(counts: list[int]) -> Iterator[None]:
    """Append the number of calls of functions in Python and C."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)
    counts.append(count)


@pytest.mark.parametrize("leases", [False, True])
def test_cost_of_jobs_is_linear(tmp_path: Path, leases: bool):
    """10,000 jobs, half of them with parents, take 10 times as many calls as 1,000, and few per job."""
    counts: list[int] = []

    def script(item: Job) -> list[Event]:
        start = [Started(item.hashes, 1, lease=LEASE)] if leases else []
        return [*start, *finished(item)]

    for number in (1_000, 10_000):
        jobs = [job(tmp_path, f"t{index}") for index in range(number // 2)]
        jobs += [job(tmp_path, f"s{index}", parents=[f"t{index}"]) for index in range(number // 2)]
        executor = Scripted(script, 8)
        with counted(counts):
            events = list(run_jobs(jobs, executor, StopRequest()))
        assert sum(isinstance(event, Finished) for event in events) == number
    assert counts[1] / counts[0] == pytest.approx(10, rel=0.05)
    assert counts[1] / 10_000 < 150


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def foreign(root: Path, lease: str = LEASE, counter: int = 0) -> str:
    """The content of the lease of another host."""
    path = lease_path(root, lease)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Owner("elsewhere", "other boot", 7, "1", counter=counter).encode())
    return path.read_text()


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The trials with a result."""
    trained: set[str] = set()
    monkeypatch.setattr(job_queue, "trial_status", lambda root, trial: "finished" if trial in trained else "running")
    return trained


def polls(held: HeldJobs, clock: Clock, times: int) -> list[list[Job]]:
    """What comes back after each of this number of waits of 5 s."""
    results: list[list[Job]] = []
    for _ in range(times):
        clock.now += 5
        results.append(held.poll())
    return results


def test_held_job_comes_back_when_its_lease_expires(tmp_path: Path, untrained: set[str]):
    clock, content = Clock(), foreign(tmp_path)
    held = HeldJobs(tmp_path, clock)
    held.add(job(tmp_path, "a"), LEASE)
    assert held.poll() == []
    assert polls(held, clock, 11) == [[]] * 11
    content = foreign(tmp_path, counter=1)
    assert polls(held, clock, 12) == [[]] * 12
    ((back,),) = polls(held, clock, 1)
    assert back.expired == (Observation(LEASE, content),)
    assert len(held) == 0


@pytest.mark.parametrize("end", ["released", "trained"])
def test_held_job_comes_back_when_nobody_trains_it(tmp_path: Path, untrained: set[str], end: str):
    clock = Clock()
    foreign(tmp_path)
    held = HeldJobs(tmp_path, clock)
    for name in "ab":
        held.add(job(tmp_path, name), LEASE if name == "a" else "1" * 32)
        foreign(tmp_path, "1" * 32)
    assert held.poll() == []
    if end == "released":
        lease_path(tmp_path, LEASE).unlink()
    else:
        untrained.add("a")
    assert held.poll() == []  # it looks every 5 s
    ((back,),) = polls(held, clock, 1)
    assert back.hashes == ("a",)
    assert [item.lease for item in back.expired] == ([LEASE] if end == "released" else [])
    assert len(held) == 1


def test_job_without_a_lease_to_wait_for_comes_back_after_5_s(tmp_path: Path, untrained: set[str]):
    clock = Clock()
    held = HeldJobs(tmp_path, clock)
    held.add(job(tmp_path, "a"), "")
    assert held.poll() == []
    ((back,),) = polls(held, clock, 1)
    assert (back.expired, len(held)) == ((), 0)
