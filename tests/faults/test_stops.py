"""A3-A6, A10: what stops a run stops it orderly, in time, and with the status that shells expect."""

import subprocess
import sys
from pathlib import Path

import pytest

from fathomlab.store.reading import Store
from tests.faults.chance import chance
from tests.faults.forks import ROOT, SURROUNDINGS, Server
from tests.faults.kills import command, digest, unlike
from tests.faults.stops import dead_workers, signals, signals_to_workers


def test_six_signals_stop_a_run(forks: Server, fast: Path):
    """Once: a checkpoint and the status. Twice: gone. The full numbers also check the time, on an idle machine."""
    found = signals(forks, fast, 6, chance("signals"), timed=False)
    assert (found.counts["once"], found.counts["twice"]) == (3, 3)
    found.must_hold()


@pytest.mark.slow
def test_a_hundred_signals_are_obeyed_in_time(forks: Server, fast: Path):
    """The same in full."""
    signals(forks, fast, 100, chance("signals", fresh=True)).must_hold()


def test_workers_are_stopped_with_their_driver(fast: Path):
    """A real command with two workers: both keep what they have, none is left."""
    signals_to_workers(fast, 1, chance("workers stopped"), timed=False).must_hold()


@pytest.mark.slow
def test_workers_are_stopped_with_their_driver_again_and_again(fast: Path):
    """The same in full."""
    signals_to_workers(fast, 10, chance("workers stopped", fresh=True)).must_hold()


def test_a_dead_worker_is_replaced(forks: Server, fast: Path):
    """Its pack goes on from its checkpoint; nothing fails, no bit differs."""
    found = dead_workers(forks, fast, 1, chance("dead workers"))
    assert found.counts["dead workers"] == 1
    found.must_hold()


@pytest.mark.slow
def test_many_dead_workers_are_replaced(forks: Server, fast: Path):
    """The same in full."""
    dead_workers(forks, fast, 20, chance("dead workers", fresh=True)).must_hold()


def test_a_full_disk_behind_stdout_stops_nothing(forks: Server, fast: Path):
    """A6: every trial is finished, with the same bits; the experiment's log has the text."""
    golden, runs = fast / "golden", fast / "runs"
    assert forks.run(command(fast, golden), report=False)[0] == 0
    running = forks.start([*command(fast, runs), "--progress", "plain"], output=Path("/dev/full"))
    assert running.wait(60) is not None
    assert not unlike(digest(golden), digest(runs))
    (log,) = runs.glob("experiments/*/log.txt")
    assert log.read_text().count("test accuracy") == 8
    assert list(runs.glob("experiments/*/report.html"))


def test_a_reader_that_leaves_stops_nothing(fast: Path):
    """A6: `fathomlab run ... 2>&1 | head -1`."""
    words = " ".join([sys.executable, "-m", "fathomlab", *command(fast, fast / "runs"), "--progress", "plain"])
    line = f"{words} 2>&1 | head -1"
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, env=SURROUNDINGS, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout.count("\n") == 1
    store = Store(fast / "runs")
    assert [store.trial(trial).status for trial in store.trials()] == ["finished"] * 8
    (log,) = (fast / "runs").glob("experiments/*/log.txt")
    assert log.read_text().count("test accuracy") == 8
