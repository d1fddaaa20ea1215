"""Numbers about the run itself: time left, labels, counts."""

import io
from pathlib import Path

import pytest

import fathomlab
from fathomlab.execute import progress
from fathomlab.execute.events import EpochDone, Failed, Finished, Planned, Started


class Clock:
    """A clock that tests set."""

    now = 100.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the progress display."""
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def planned(work: dict[str, float], workers: int = 1, cached: int = 0) -> Planned:
    """The event at the start of a round."""
    return Planned(len(work) + cached, cached, 1, workers, work, {trial: f"condition {trial}" for trial in work})


def finished(trial: str) -> Finished:
    """A trial's end."""
    return Finished(trial, "finished", None, 1.0, {"test/accuracy": 0.5})


def test_time_left_follows_planned_cost(clock: Clock):
    """One of two trials is done and took twice its plan; the other is planned at nine times as much."""
    state = progress.ProgressState()
    state.update(planned({"a": 100.0, "b": 900.0}))
    assert state.seconds_left() == pytest.approx(1000)
    clock.now += 200
    state.update(finished("a"))
    assert state.seconds_left() == pytest.approx(900 * 2, rel=0.06)


def test_a_tiny_trial_does_not_predict_a_large_one(clock: Clock):
    """Ten times slower than planned in its first tenth of a second says little."""
    state = progress.ProgressState()
    state.update(planned({"a": 0.1, "b": 30.0}))
    clock.now += 1.0
    state.update(finished("a"))
    assert 30 < state.seconds_left() < 40


def test_epochs_of_running_trials_count(clock: Clock):
    """Half of the epochs at the planned speed leave half of the time; two workers share it."""
    state = progress.ProgressState()
    state.update(planned({"a": 40.0, "b": 40.0}, workers=2))
    state.update(Started(("a", "b"), 10))
    for epoch in range(1, 6):
        clock.now += 4.0
        for trial in ("a", "b"):
            state.update(EpochDone(trial, epoch, {"val/accuracy": 0.5}))
    assert state.seconds_left() == pytest.approx(20)


def test_each_round_has_its_own_clock(clock: Clock):
    """Seeds that are added start a new estimate; earlier time does not count."""
    state = progress.ProgressState()
    state.update(planned({"a": 10.0}))
    clock.now += 500
    state.update(finished("a"))
    state.update(planned({"b": 10.0}, cached=1))
    assert (state.total, state.done) == (1, 0)
    assert state.seconds_left() == pytest.approx(10)


def test_plain_lines_show_conditions_percentages_and_outcomes(clock: Clock):
    """Never a hash where there is a label; a diverged trial is not counted as failed."""
    out = io.StringIO()
    with progress.progress_reporter("plain", out) as emit:
        emit(planned({"a": 10.0, "b": 10.0, "c": 10.0}))
        diverged = Finished("b", "diverged", "x", 1.0, {"test/accuracy": None})
        for event in (finished("a"), diverged, Failed("c", "x", 1.0)):
            clock.now += 10
            emit(event)
    lines = out.getvalue().splitlines()
    assert lines[1].startswith("[1/3] condition a: test accuracy 50.00%")
    assert "remaining" in lines[1]
    assert "remaining" not in lines[3]
    assert "diverged" in lines[2]


def test_counts_add_up_after_seeds_were_added(tmp_path: Path):
    """trials = cached + trained, over all rounds; the labels of added seeds are known."""
    conf = {
        "seed": 1,
        "data": {"name": "mnist-sample", "limit": 300, "batch_size": 50},
        "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
        "training": {"epochs": 1},
        "experiment": {"factors": {"model.params.layers_dim": [8, 9]}, "seeds": 2},
        "claims": [
            {"name": "same", "factor": "layers_dim", "levels": [8, 9], "expect": "equal", "matters": 0.0001},
        ],
    }
    fathomlab.run(conf, "model.params.layers_dim=8", runs=tmp_path, progress="off", workers=1)
    results = fathomlab.run(conf, runs=tmp_path, progress="off", workers=1, max_seeds=6)
    summary = results.summary
    assert summary.trials == 12
    assert (summary.cached, summary.trained, summary.failed, summary.diverged) == (2, 10, 0, 0)
    log = (tmp_path / "experiments" / summary.experiment / "log.txt").read_text()
    assert "layers_dim=9 seed=6" in log


def test_diverged_trials_are_no_failures(tmp_path: Path):
    """They are counted apart."""
    conf = {
        "data": {"name": "mnist-sample", "limit": 300, "batch_size": 50},
        "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
        "training": {"epochs": 2, "optimizer": "SGD", "lr": 1.0e12},
    }
    summary = fathomlab.run(conf, runs=tmp_path, progress="off", workers=1).summary
    assert (summary.trained, summary.diverged, summary.failed) == (1, 1, 0)
