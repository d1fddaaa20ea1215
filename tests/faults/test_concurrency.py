"""A hundred simultaneous trials or runs: one folder per trial, and no trial is trained twice."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import fathomlab
from fathomlab.execute import recording
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack import origin
from fathomlab.execute.signals import StopRequest
from fathomlab.store import lock
from fathomlab.store.directory import TrialFolder
from fathomlab.store.reading import Store
from tests.faults.experiments import small


class Frozen(datetime):
    """A clock that does not advance."""

    @classmethod
    def now(cls, tz: Any = None) -> "Frozen":
        """Always the same instant."""
        return cls(2026, 1, 1, tzinfo=tz or UTC)


@contextmanager
def frozen() -> Iterator[None]:
    """Stop all clocks that tell the date."""
    with ExitStack() as stack:
        for module in (recording, origin, lock):
            stack.enter_context(mock.patch.object(module, "datetime", Frozen))
        stack.enter_context(mock.patch.object(time, "time", return_value=1.7e9))
        stack.enter_context(mock.patch.object(time, "time_ns", return_value=17 * 10**17))
        yield


def simultaneously(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call `work` in `count` threads that start at the same time."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_simultaneous_trials_have_separate_folders(ram_dir: Path):
    """With the same label in the same second; each folder contains its own trial."""
    trials = fathomlab.load(small(), ["experiment.seeds=100"]).trials
    assert len(trials) == 100

    def write(number: int) -> None:
        folder = TrialFolder(ram_dir, trials[number].hash)
        folder.create(trials[number].content)
        folder.append("metrics.jsonl", {"epoch": 1, "seed": trials[number].seed})

    with frozen():
        simultaneously(100, write)
    folders = list((ram_dir / "trials").iterdir())
    assert len(folders) == 100
    store = Store(ram_dir)
    for trial in trials:
        record = store.trial(trial.hash)
        assert record.status == "interrupted"
        assert record.content["seed"] == trial.seed
        assert record.curves["seed"] == [trial.seed]


def test_equal_simultaneous_trials_are_trained_once(ram_dir: Path):
    """A hundred runs start at the same time; one trains, the others wait and use its result."""
    plan = fathomlab.load(small(), ["experiment.seeds=1", "training.epochs=1"])
    events: list[str] = []

    def drive(_: int) -> int:
        how = RunOptions("cpu", 1, wait=True)
        return run_experiment(plan, ram_dir, how, lambda event: events.append(event.event), StopRequest()).trained

    with frozen():
        trained = simultaneously(100, drive)
    assert sorted(trained) == [0] * 99 + [1]
    assert events.count("finished") == 1
    assert [path.name for path in (ram_dir / "trials").iterdir()] == [plan.trials[0].hash]
    assert len(list((ram_dir / "experiments").iterdir())) == 1
