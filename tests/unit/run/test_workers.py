"""Worker processes: the same numbers as in one process, students after teachers, and a death that stays alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from fathomlab.plan import Trial
from fathomlab.run import local


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


def test_a_worker_that_is_killed_costs_its_own_trials_alone(
    laboratory: Any, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The trial is recorded as failed with the signal; the others finish; the next run trains it again."""
    holders: dict[str, Any] = {}
    killed: list[str] = []
    send = local._send

    def note(process: Any, order: Any) -> None:
        holders[Trial(order["trials"][0]).hash] = process
        send(process, order)

    def watch(event: Any) -> None:
        if event["event"] == "started" and not killed:
            killed.append(event["trials"][0])
            holders[killed[0]].kill()

    monkeypatch.setattr(local, "_send", note)
    overrides = ("training.epochs=100", "seed=0..3", "run.pack=1")
    summary = laboratory.run(small, *overrides, workers=2, watch=watch)
    assert (summary.trained, summary.failed) == (4, 1)
    (lost,) = killed
    record = laboratory.store.trial(lost)
    assert (record.status, record.cause) == ("failed", "the worker was ended by signal 9")
    others = [trial.hash for trial in laboratory.plan.trials if trial.hash != lost]
    assert [laboratory.store.trial(trial).status for trial in others] == ["finished"] * 3
    again = laboratory.run(small, *overrides)
    assert (again.trained, again.cached, again.failed) == (1, 3, 0)
