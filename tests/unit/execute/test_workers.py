"""Worker processes: the same numbers as in one process, students after teachers, and a death that stays alone."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from fathomlab.execute.events import Finished, Started, Warned
from fathomlab.execute.executors import local
from fathomlab.prepare.jobs import Job


@pytest.fixture
def holders(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Hash of the first trial of each job, to the process that trains it."""
    pids: dict[str, int] = {}
    assign = local.Local._assign

    def note(executor: local.Local, worker: local.Worker, number: int, job: Job) -> None:
        pids[job.hashes[0]] = worker.process.pid
        assign(executor, worker, number, job)

    monkeypatch.setattr(local.Local, "_assign", note)
    return pids


def test_two_workers_give_the_numbers_of_one(laboratory: Any, distillation: dict[str, Any], tmp_path: Path):
    """Each metric of each trial to the last bit; every student after its teacher."""
    overrides = ("seed=0..1", "run.pack=1", "experiment.analyze_gradients=true")
    summary = laboratory.run(distillation, *overrides, workers=2)
    assert (summary.trials, summary.trained, summary.failed) == (6, 6, 0)
    assert laboratory.events[0].workers == 2
    started = [event.trials[0] for event in laboratory.events if isinstance(event, Started)]
    ended = [event.trial for event in laboratory.events if isinstance(event, Finished)]
    assert sorted(started) == sorted(ended) == sorted(trial.hash for trial in laboratory.plan.trials)
    order = [
        event.trials[0] if isinstance(event, Started) else f"end of {event.trial}"
        for event in laboratory.events
        if isinstance(event, Started | Finished)
    ]
    for trial in laboratory.plan.trials:
        if trial.teachers:
            assert order.index(f"end of {trial.teachers[0].hash}") < order.index(trial.hash)
    alone = type(laboratory)(tmp_path / "alone")
    alone.run(distillation, *overrides, workers=1)
    assert alone.results() == laboratory.results()
    folder = laboratory.root / "trials" / ended[0]
    assert json.loads((folder / "provenance.json").read_text())["threads"] == 1


def test_a_trial_whose_workers_are_killed_fails_alone(laboratory: Any, small: dict[str, Any], holders: dict[str, int]):
    """Tried once more, then recorded as failed with the signal and the limit of memory; the others finish."""
    killed: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, Started) and (not killed or event.trials[0] == killed[0]):
            killed.append(event.trials[0])
            os.kill(holders[killed[0]], signal.SIGKILL)

    overrides = ("training.epochs=100", "seed=0..3", "run.pack=1")
    summary = laboratory.run(small, *overrides, workers=2, watch=watch)
    assert (summary.trained, summary.failed) == (4, 1)
    assert len(killed) == 2
    record = laboratory.store.trial(killed[0])
    assert record.status == "failed"
    assert re.search(r"SIGKILL .*limit \d+\.\d GB.* 2 times", str(record.cause))
    (warning,) = [event.text for event in laboratory.events if isinstance(event, Warned)]
    assert killed[0][:12] in warning
    others = [trial.hash for trial in laboratory.plan.trials if trial.hash != killed[0]]
    assert [laboratory.store.trial(trial).status for trial in others] == ["finished"] * 3
    again = laboratory.run(small, *overrides)
    assert (again.trained, again.cached, again.failed) == (1, 3, 0)


def test_a_worker_that_somebody_else_stops_is_replaced(laboratory: Any, small: dict[str, Any], holders: dict[str, int]):
    """A SIGTERM that the driver has not sent is a death like others: nothing is left out, nothing waits for ever."""
    killed: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, Started) and not killed:
            killed.append(event.trials[0])
            os.kill(holders[killed[0]], signal.SIGTERM)

    summary = laboratory.run(small, "training.epochs=100", "seed=0..1", "run.pack=1", workers=2, watch=watch)
    assert (summary.trained, summary.failed, len(killed)) == (2, 0, 1)
    record = laboratory.store.trial(killed[0])
    assert record.status == "finished"
    assert len(record.provenance.resumed) == 1
