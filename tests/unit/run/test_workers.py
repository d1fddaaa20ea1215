"""Worker processes: the same numbers as in one process, students after teachers, and a death that stays alone."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from fathomlab.plan import read_trial
from fathomlab.run import pool


def test_two_workers_give_the_numbers_of_one(laboratory: Any, distillation: dict[str, Any], tmp_path: Path):
    """Each metric of each trial to the last bit; every student after its teacher."""
    overrides = ("seed=0..1", "run.pack=1", "experiment.analyze_gradients=true")
    summary = laboratory.run(distillation, *overrides, workers=2)
    assert (summary.trials, summary.trained, summary.failed) == (6, 6, 0)
    assert laboratory.events[0]["workers"] == 2
    started = [event["trials"][0] for event in laboratory.events if event["event"] == "started"]
    ended = [event["trial"] for event in laboratory.events if event["event"] == "finished"]
    assert sorted(started) == sorted(ended) == sorted(trial.hash for trial in laboratory.plan.trials)
    place = {}
    for number, event in enumerate(laboratory.events):
        if event["event"] in ("started", "finished"):
            place[event["event"], event.get("trial") or event["trials"][0]] = number
    for trial in laboratory.plan.trials:
        if trial.teacher is not None:
            assert place["finished", trial.teacher.hash] < place["started", trial.hash]
    alone = type(laboratory)(tmp_path / "alone")
    alone.run(distillation, *overrides, workers=1)
    assert alone.results() == laboratory.results()
    folder = laboratory.root / "trials" / ended[0]
    assert json.loads((folder / "provenance.json").read_text())["threads"] == 1


def test_a_trial_whose_workers_are_killed_fails_alone(
    laboratory: Any, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """Tried once more, then recorded as failed with the signal and the limit of memory; the others finish."""
    holders: dict[str, int] = {}
    killed: list[str] = []
    send = pool.Pool.send

    def note(own: Any, slot: int, message: Any) -> None:
        holders[read_trial(json.loads(message["trials"][0])).hash] = own.workers[slot].process.pid
        send(own, slot, message)

    def watch(event: Any) -> None:
        if event["event"] == "started" and (not killed or event["trials"][0] == killed[0]):
            killed.append(event["trials"][0])
            os.kill(holders[killed[0]], signal.SIGKILL)

    monkeypatch.setattr(pool.Pool, "send", note)
    overrides = ("training.epochs=100", "seed=0..3", "run.pack=1")
    summary = laboratory.run(small, *overrides, workers=2, watch=watch)
    assert (summary.trained, summary.failed) == (4, 1)
    assert len(killed) == 2
    record = laboratory.store.trial(killed[0])
    assert record.status == "failed"
    assert re.search(r"SIGKILL .*limit \d+\.\d GB.* 2 times", str(record.cause))
    (warning,) = [event["text"] for event in laboratory.events if event["event"] == "warning"]
    assert killed[0][:12] in warning
    others = [trial.hash for trial in laboratory.plan.trials if trial.hash != killed[0]]
    assert [laboratory.store.trial(trial).status for trial in others] == ["finished"] * 3
    again = laboratory.run(small, *overrides)
    assert (again.trained, again.cached, again.failed) == (1, 3, 0)


def test_a_worker_that_somebody_else_stops_is_replaced(
    laboratory: Any, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """A SIGTERM that the driver has not sent is a death like others: nothing is left out, nothing waits for ever."""
    holders: dict[str, int] = {}
    killed: list[str] = []
    send = pool.Pool.send

    def note(own: Any, slot: int, message: Any) -> None:
        holders[read_trial(json.loads(message["trials"][0])).hash] = own.workers[slot].process.pid
        send(own, slot, message)

    def watch(event: Any) -> None:
        if event["event"] == "started" and not killed:
            killed.append(event["trials"][0])
            os.kill(holders[killed[0]], signal.SIGTERM)

    monkeypatch.setattr(pool.Pool, "send", note)
    summary = laboratory.run(small, "training.epochs=100", "seed=0..1", "run.pack=1", workers=2, watch=watch)
    assert (summary.trained, summary.failed, len(killed)) == (2, 0, 1)
    record = laboratory.store.trial(killed[0])
    assert record.status == "finished"
    assert len(record.provenance["resumed"]) == 1
