"""The executor slurm with a queue in memory: what it submits, adopts, and reports. submitit is not needed."""

import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.codec import from_json
from fathomlab.base.errors import UserError
from fathomlab.config.schema import RunOverrides
from fathomlab.config.slurm import SlurmOptions
from fathomlab.execute.events import Died, Event, Idle, Note, Refused, Started, Stopped, Warned
from fathomlab.execute.executors import slurm, slurm_queue
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.executors.slurm import MAX_ARRAY, Slurm
from fathomlab.execute.executors.slurm_element import MAX_RETURNS, Element
from fathomlab.execute.executors.slurm_files import EventLog, EventTail, read_submissions
from fathomlab.execute.executors.slurm_queue import CANCELED, QueueEntry, job_name
from fathomlab.prepare.jobs import Job
from fathomlab.store.leases import Observation

MODEL: dict[str, Any] = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}}
CONFIG: dict[str, Any] = {"model": MODEL, "training": {"epochs": 1}}


class MemoryQueue:
    """A queue whose jobs do what a test says.

    Attributes:
        arrays: The elements of each array.
        entries: The jobs that wait or run.
        states: How others ended.
        away: Whether the queue cannot be asked.
        signals: What was sent to jobs.
    """

    def __init__(self) -> None:
        self.arrays: list[Sequence[Element]] = []
        self.entries: dict[str, QueueEntry] = {}
        self.states: dict[str, str] = {}
        self.away = False
        self.signals: list[tuple[str, tuple[str, ...]]] = []
        self._numbers = count(100)

    def submit(self, folder: Path, elements: Sequence[Element]) -> tuple[str, ...]:
        array = next(self._numbers)
        self.arrays.append(elements)
        names = tuple(f"{array}_{index}" for index in range(len(elements)))
        self.entries |= dict.fromkeys(names, QueueEntry("PENDING", name=job_name(folder)))
        return names

    def remember(self, job: str, folder: Path) -> None:
        pass

    def living(self) -> Mapping[str, QueueEntry] | None:
        return None if self.away else dict(self.entries)

    def final_state(self, job: str) -> str:
        return self.states.get(job, "UNKNOWN")

    def interrupt(self, jobs: Sequence[str]) -> None:
        self.signals.append(("interrupt", tuple(jobs)))

    def cancel(self, jobs: Sequence[str]) -> None:
        self.signals.append(("cancel", tuple(jobs)))

    def close(self, ended: Sequence[str]) -> None:
        pass

    def run(self, job: str, node: str = "node-1") -> None:
        """Start a job."""
        self.entries[job] = replace(self.entries[job], state="RUNNING", node=node)

    def end(self, job: str, state: str) -> None:
        """Remove a job."""
        del self.entries[job]
        self.states[job] = state


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> MemoryQueue:
    queue = MemoryQueue()
    monkeypatch.setitem(slurm.QUEUES, "slurm", lambda options, environment: queue)  # type: ignore[arg-type]
    monkeypatch.setitem(slurm.POLL_SECONDS, "slurm", (0.0, 0.0))
    return queue


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Three jobs of one trial each."""
    return [Job((trial,), tmp_path, "cpu") for trial in fathomlab.load(CONFIG, ["seed=0..2"]).trials]


def setting(root: Path, **options: Any) -> Setting:
    return Setting(root, 1, "cpu", run=RunOverrides(slurm=SlurmOptions(**options)))


def events(executor: Slurm, times: int = 3) -> list[tuple[int, Event]]:
    """What a few polls report."""
    return [event for _ in range(times) for event in executor.events(0.0)]


def logs(root: Path) -> list[EventLog]:
    """The event files of the newest submission."""
    folder, submission = next(iter(read_submissions(root)))
    return [EventLog(folder / f"{index}.events.jsonl") for index in range(len(submission.packs))]


def test_jobs_of_one_call_are_one_array(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """The record names the jobs and trials of each element; an element contains its job as values."""
    executor = Slurm(setting(tmp_path))
    assert executor.submit(jobs) == (1, 2, 3)
    (elements,) = queue.arrays
    ((_, submission),) = read_submissions(tmp_path)
    assert [(pack.job, pack.trials) for pack in submission.packs] == [
        (f"100_{index}", job.hashes) for index, job in enumerate(jobs)
    ]
    for element, job in zip(elements, jobs, strict=True):
        assert from_json(Job, element.job) == job
        assert pickle.loads(pickle.dumps(element)) == element
        assert element.environment["OMP_NUM_THREADS"] == "1"
    assert executor.fleet() == Fleet(0, 0)


def test_array_longer_than_slurm_admits_is_split(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    Slurm(setting(tmp_path)).submit([jobs[0]] * (MAX_ARRAY + 1))
    assert [len(array) for array in queue.arrays] == [MAX_ARRAY, 1]


def test_events_arrive_in_order_under_their_number(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    log = logs(tmp_path)[1]
    queue.run("100_1", "node-7")
    sent = [Started(jobs[1].hashes, 1, node="node-7"), Warned("slow disk"), Idle()]
    for event in sent[:2]:
        log.append(event)
    assert events(executor) == [(2, event) for event in sent[:2]]
    assert executor.fleet() == Fleet(1, 1)
    log.append(sent[2])
    assert events(executor) == [(2, sent[2])]
    queue.end("100_1", "COMPLETED")
    assert events(executor) == []
    assert executor.fleet() == Fleet(0, 0)


@pytest.mark.parametrize(
    ("state", "out_of_memory", "lost"),
    [
        ("PREEMPTED", False, True),
        ("NODE_FAIL", False, True),
        ("BOOT_FAIL", False, True),
        ("OUT_OF_MEMORY", True, False),
        ("TIMEOUT", False, False),
        (CANCELED, False, False),
        ("FAILED", False, False),
        ("COMPLETED", False, False),
        ("UNKNOWN", False, False),
        ("REVOKED", False, False),
    ],
)
def test_end_without_last_event_is_a_death(
    queue: MemoryQueue, jobs: list[Job], tmp_path: Path, state: str, out_of_memory: bool, lost: bool
):
    """With the last lines that the job printed."""
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    queue.run("100_0")
    ((folder, _),) = read_submissions(tmp_path)
    (folder / "submitit" / "100_0_0_log.err").write_text("first\n" + "x\n" * 20 + "the \x1b[31mcause\n")
    logs(tmp_path)[0].append(Started(jobs[0].hashes, 1))
    events(executor)
    queue.end("100_0", state)
    ((number, death),) = events(executor)
    assert number == 1
    assert isinstance(death, Died)
    assert (death.out_of_memory, death.lost) == (out_of_memory, lost)
    assert "100_0" in death.cause
    assert "cause" in death.output
    assert "first" not in death.output
    assert "\x1b" not in death.output


def test_last_event_counts_although_the_job_has_left_the_queue(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    queue.end("100_0", "COMPLETED")
    logs(tmp_path)[0].append(Idle())
    assert events(executor) == [(1, Idle())]


def test_one_missing_look_is_no_death(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """A job that has just been submitted, or returns to the queue, may be missing; a silent controller proves nothing."""
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    entry = queue.entries.pop("100_0")
    assert events(executor, 1) == []
    queue.entries["100_0"] = entry
    assert events(executor, 1) == []
    queue.away = True
    assert events(executor, 5) == []


def test_interrupt_that_nobody_requested_loses_the_job(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    logs(tmp_path)[0].append(Stopped())
    ((_, death),) = events(executor)
    assert isinstance(death, Died)
    assert death.lost


def test_living_jobs_are_adopted(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """Only the packs without a living job are submitted. Of what a job has reported, the start of its pack is news."""
    Slurm(setting(tmp_path)).submit(jobs)
    started = Started(jobs[0].hashes, 1, node="node-1")
    files = logs(tmp_path)
    for event in (Started(jobs[0].hashes, 1, node="node-9"), Note("returned"), started, Warned("old")):
        files[0].append(event)
    files[1].append(Idle())
    queue.run("100_0")
    queue.run("100_1")  # has reported its end, and leaves the queue in a moment
    queue.end("100_2", "FAILED")
    executor = Slurm(setting(tmp_path))
    assert set(executor.adoptable) == {jobs[0].hashes}
    assert executor.submit(jobs) == (1, 2, 3)
    assert [len(array) for array in queue.arrays] == [3, 2]
    files[0].append(Idle())
    assert events(executor) == [(1, started), (1, Idle())]


def test_job_that_takes_over_a_lease_is_not_adopted(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """Its element would wait for the lease again."""
    Slurm(setting(tmp_path)).submit(jobs)
    executor = Slurm(setting(tmp_path))
    executor.submit([replace(jobs[0], expired=(Observation("lease", "content"),))])
    assert [len(array) for array in queue.arrays] == [3, 1]


def test_job_with_a_number_used_again_is_not_adopted(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    Slurm(setting(tmp_path)).submit(jobs)
    queue.entries["100_1"] = QueueEntry("RUNNING", "node-1", "another job")
    assert set(Slurm(setting(tmp_path)).adoptable) == {jobs[0].hashes, jobs[2].hashes}


def test_damaged_record_is_ignored(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    Slurm(setting(tmp_path)).submit(jobs)
    ((folder, _),) = read_submissions(tmp_path)
    text = (folder / "submission.json").read_text()
    (folder / "submission.json").write_text(text.replace("100_0", "101_0"))
    assert list(read_submissions(tmp_path)) == []
    assert Slurm(setting(tmp_path)).adoptable == {}


def test_start_needs_a_queue_that_answers(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """If jobs of an earlier run may be alive."""
    queue.away = True
    Slurm(setting(tmp_path)).submit(jobs)
    with pytest.raises(UserError) as caught:
        Slurm(setting(tmp_path))
    assert caught.value.code == "no-slurm"


def test_stop_ends_running_jobs_and_removes_waiting_ones(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    queue.run("100_0")
    queue.run("100_1")
    events(executor)
    executor.stop(signal.SIGTERM)
    assert queue.signals == [("cancel", ("100_2",)), ("interrupt", ("100_0", "100_1"))]
    queue.end("100_2", CANCELED)
    logs(tmp_path)[0].append(Stopped())
    queue.end("100_1", "FAILED")  # without a checkpoint
    assert sorted(events(executor, 5), key=lambda pair: pair[0]) == [(number, Stopped()) for number in (1, 2, 3)]


def test_closed_terminal_leaves_the_jobs(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    """SIGHUP ends the run only; the same command adopts the jobs."""
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    queue.run("100_0")
    executor.stop(signal.SIGHUP)
    assert events(executor) == [(number, Stopped()) for number in (1, 2, 3)]
    executor.close()
    assert queue.signals == []
    assert len(Slurm(setting(tmp_path)).adoptable) == 3


def test_silent_job_is_given_up(queue: MemoryQueue, jobs: list[Job], tmp_path: Path):
    executor = Slurm(setting(tmp_path))
    executor.submit(jobs)
    executor.cancel(2)
    assert queue.signals == [("cancel", ("100_1",))]
    queue.end("100_1", CANCELED)
    ((number, death),) = events(executor)
    assert number == 2
    assert isinstance(death, Died)
    assert death.lost
    executor.cancel(2)  # of a job that has ended
    assert len(queue.signals) == 1


@pytest.mark.parametrize(
    ("requested", "parallel", "packs", "workers"),
    [("auto", None, 3, 3), ("auto", None, 500, slurm.MAX_WORKERS), ("auto", 4, 3, 4), ("2", 4, 3, 2)],
)
def test_packs_are_formed_for_parallel_jobs(
    tmp_path: Path, requested: str, parallel: int | None, packs: int, workers: int
):
    assert Slurm.count_workers(setting(tmp_path, array_parallelism=parallel), requested, packs) == workers


def test_wrong_number_of_workers_is_rejected(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        Slurm.count_workers(setting(tmp_path), "many", 3)
    assert caught.value.code == "invalid-option"


def test_tail_skips_lines_that_are_cut_off(tmp_path: Path):
    """A killed process leaves part of a line; the next one starts a new line."""
    log, tail = EventLog(tmp_path / "0.events.jsonl"), EventTail(tmp_path / "0.events.jsonl")
    assert tail.read() == []
    log.begin()
    log.append(Note("first"))
    with open(log.path, "ab") as file:
        file.write(b'{"event": "no')
    assert tail.read() == [Note("first")]
    log.begin()
    log.append(Refused("process 3 on node-2", "lease"))
    log.append(Idle())
    with open(log.path, "ab") as file:
        file.write(b'{"event": "note", "text": "changed", "crc": "00000000"}\n')
    assert tail.read() == [Refused("process 3 on node-2", "lease"), Idle()]
    assert tail.last == Idle()
    assert tail.read() == []


def test_refused_array_leaves_no_record(
    queue: MemoryQueue, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(folder: Path, elements: Sequence[Element]) -> tuple[str, ...]:
        raise UserError("slurm-refused", "invalid partition")

    monkeypatch.setattr(queue, "submit", refuse)
    with pytest.raises(UserError):
        Slurm(setting(tmp_path)).submit(jobs)
    assert list((tmp_path / "slurm").iterdir()) == []


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_missing_library_is_a_user_error(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
):
    def missing(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(slurm_queue, "library", missing)
    for start in (lambda: Slurm(setting(tmp_path, cluster=cluster)), lambda: Slurm.preview(jobs, setting(tmp_path))):
        with pytest.raises(UserError, match=r"fathomlab\[slurm\]") as caught:
            start()
        assert caught.value.code == "missing-extra"


def elements(element: Element, steps: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """Step and returns of an element that returns to the queue after checkpoints at these steps."""
    for step in steps:
        element = element.again(step)
        yield element.step, element.returns


def test_element_counts_returns_without_progress():
    """A checkpoint at a later step is progress; an older one, or none, is not."""
    element = Element(b"{}", "events", "slurm", {})
    assert list(elements(element, [5, 5, None, 9, None])) == [(5, 0), (5, 1), (5, 2), (9, 0), (9, 1)]
    assert list(elements(element, [None] * MAX_RETURNS))[-1] == (0, MAX_RETURNS)
