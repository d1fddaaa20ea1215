"""`run --minutes`: status 130, saved progress, and the bits of an uninterrupted run from the same command."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.clock import RunningClock
from fathomlab.cli import laboratory
from fathomlab.execute import signals
from fathomlab.execute.executors.inline import Inline
from fathomlab.store.reading import Store
from tests.faults.polls import polled
from tests.helpers.commands import RUN, TRIALS, Command

pytestmark = pytest.mark.usefixtures("no_charts")
LIMIT = ("run.checkpoint_seconds=0", "--minutes", "30")


def outcome(root: Path) -> dict[str, Any]:
    """What must be equal: metrics, probes, and the weights of each trial."""
    store = Store(root)
    records = [store.trial(trial) for trial in store.trials()]
    return {record.trial: (record.metrics, record.probes, record.files["checkpoint.safetensors"]) for record in records}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Minutes that pass at the seventh poll of a run, between two steps; training then waits for the stop."""
    minutes, polls, requested = [0.0], [0], threading.Event()
    monkeypatch.setattr(signals, "RunningClock", lambda: RunningClock(lambda: 60 * minutes[0], lambda: 60 * minutes[0]))
    stop = Inline.stop

    def request(self: Inline, signum: int) -> None:
        stop(self, signum)
        requested.set()

    def act() -> None:
        polls[0] += 1
        if polls[0] == 7:
            minutes[0] = 31.0
            assert requested.wait(20)

    monkeypatch.setattr(Inline, "stop", request)
    with polled(act):
        yield minutes


def test_time_limit_saves_and_resumes_bit_identically(command: Command, store: Path, late: list[float]):
    """Also at the limit of a later command: what is cached needs no time."""
    complete = outcome(store)
    shutil.rmtree(store)
    stopped = command(*RUN, *LIMIT)
    assert (stopped.status, stopped.out) == (130, "")
    assert stopped.err == "Stopped at the limit of 30 minutes. Progress is saved; run the same command to resume.\n"
    assert len(list(store.glob("trials/*/state-*"))) > 0
    assert list(store.glob("trials/*/result.json")) == []
    assert command(*RUN, *LIMIT).status == 0
    assert outcome(store) == complete
    assert len(complete) == TRIALS


def test_time_limit_stops_main_and_python_resumes(workspace: Path, late: list[float]):
    assert laboratory(["--experiment", *RUN[1:], *LIMIT]) == 130
    late[0] = 0.0
    results = fathomlab.run("tiny.yaml", "run.checkpoint_seconds=0", workers=1, progress="off", minutes=30)
    assert (results.summary.trained, results.summary.failed) == (TRIALS, 0)
    assert fathomlab.RunInterrupted is signals.RunInterrupted


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "x"])
def test_time_limit_must_be_a_positive_number(command: Command, workspace: Path, minutes: str):
    output = command(*RUN, "--minutes", minutes)
    assert (output.status, output.out) == (2, "")
    assert "--minutes" in output.err
    assert not (workspace / "runs" / "trials").exists()
