"""Operations of a run per trial, which must not grow with the number of trials. Calls are counted, never time."""

import tracemalloc
from functools import partial
from typing import Any

import pytest

from benchmarks import scripted
from benchmarks.startup import tiny
from fathomlab import api
from fathomlab.base.clock import RunningClock
from fathomlab.execute.events import EpochDone, Finished, Planned, Started
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.round import ProgressState
from fathomlab.execute.time_left import TimeLeft
from fathomlab.prepare.jobs import Job
from tests.helpers.counting import function_calls


def prepared(conditions: int, pack: int) -> tuple[Any, ...]:
    """An experiment with two seeds per condition: its plan, its jobs, and the first event of its run."""
    plan = api.load(tiny(2, {"layers_dim": list(range(8, 8 + conditions))}))
    trials = plan.trials
    jobs = [Job(tuple(trials[start : start + pack]), scripted.NOWHERE) for start in range(0, len(trials), pack)]
    work = {trial.hash: 1.0 + index // 2 for index, trial in enumerate(trials)}  # a kind per condition
    return plan, jobs, Planned(len(trials), 0, len(jobs), 2, work, plan.labels)


@pytest.mark.parametrize("pack", [1, 8])
@pytest.mark.parametrize("workers", [1, 4])
def test_calls_of_a_run_are_proportional_to_trials(pack: int, workers: int):
    """Coordinator, progress, plain lines, and time left; with as many kinds of trials as conditions."""
    calls: list[int] = []
    for conditions in (64, 256):  # more trials than train at the same time
        plan, jobs, planned = prepared(conditions, pack)
        executor = scripted.Scripted(Setting(scripted.NOWHERE, workers))
        calls.append(function_calls(partial(scripted.run, plan, jobs, executor, planned)))
    assert calls[1] < 4.4 * calls[0]


def test_estimate_visits_only_trials_that_train():
    def estimate(trials: int) -> int:
        left = TimeLeft({str(index): 1.0 + index % 50 for index in range(trials)}, 2, measured=False)
        for index in range(trials // 2):
            left.update(Started((str(index),), 1), float(index))
            left.update(Finished(str(index), "finished", None, 1.0, {}), float(index))
        left.update(Started((str(trials - 1),), 2), 0.0)
        left.update(EpochDone(str(trials - 1), 1, {}, None, 1.0), 1.0)
        return function_calls(lambda: left.seconds(1e6))

    assert estimate(4000) == estimate(400)


def test_many_running_trials_are_visited_once_per_second():
    """On a large cluster, each line about an outcome would visit all trials that train."""
    now, names = 0.0, [str(index) for index in range(1000)]
    state = ProgressState(clock=RunningClock(lambda: now, lambda: now))
    state.update(Planned(2000, 0, 100, 100, {**dict.fromkeys(names, 1.0), "done": 1.0}, {}))
    state.update(Started(("done", *names), 2))
    state.update(Finished("done", "finished", None, 5.0, {}))
    first = state.seconds_left()
    assert first is not None
    now = 0.9
    assert function_calls(lambda: state.seconds_left()) < 20
    assert state.seconds_left() == pytest.approx(first - 0.9)
    now = 1.1
    assert function_calls(lambda: state.seconds_left()) > 1000


def test_progress_keeps_nothing_of_finished_trials():
    """The memory of a run does not grow with the trials that are done."""
    names = [f"{index:064x}" for index in range(4000)]
    state = ProgressState()
    state.update(Planned(len(names), 0, len(names), 1, dict.fromkeys(names, 1.0), {}))
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for index, name in enumerate(names):
            state.update(Started((name,), 1))
            state.update(EpochDone(name, 1, {"val/accuracy": 0.5}, None, 1.0))
            state.update(Finished(name, "finished", None, 1.0, {}))
            if index % 1000 == 999:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 3000 * 20  # bytes: less than a reference and a number per trial
    assert not state.running
