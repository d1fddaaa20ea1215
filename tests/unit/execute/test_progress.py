"""Numbers about the run itself: time left, labels, counts."""

import io

import pytest

from fathomlab.execute import progress
from fathomlab.execute.events import EpochDone, Failed, Finished, Planned, Started
from fathomlab.execute.progress import MODES, Mode, progress_reporter
from tests.helpers.hostile_text import ALL, CONTROL


class Clock:
    """A clock that tests set."""

    now = 100.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the progress display."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


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


def test_time_left_ignores_tiny_trials(clock: Clock):
    """Ten times slower than planned in its first tenth of a second says little."""
    state = progress.ProgressState()
    state.update(planned({"a": 0.1, "b": 30.0}))
    clock.now += 1.0
    state.update(finished("a"))
    assert 30 < state.seconds_left() < 40


def test_time_left_counts_epochs_of_running_trials(clock: Clock):
    """Half of the epochs at the planned speed leave half of the time; two workers share it."""
    state = progress.ProgressState()
    state.update(planned({"a": 40.0, "b": 40.0}, workers=2))
    state.update(Started(("a", "b"), 10))
    for epoch in range(1, 6):
        clock.now += 4.0
        for trial in ("a", "b"):
            state.update(EpochDone(trial, epoch, {"val/accuracy": 0.5}))
    assert state.seconds_left() == pytest.approx(20)


def test_added_seeds_start_a_new_estimate(clock: Clock):
    """Seeds that are added start a new estimate; earlier time does not count."""
    state = progress.ProgressState()
    state.update(planned({"a": 10.0}))
    clock.now += 500
    state.update(finished("a"))
    state.update(planned({"b": 10.0}, cached=1))
    assert (state.total, state.done) == (1, 0)
    assert state.seconds_left() == pytest.approx(10)


def test_plain_lines_show_condition_and_outcome(clock: Clock):
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


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize("mode", MODES)
def test_progress_shows_hostile_text_as_text(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    """In every mode on a terminal. Control sequences of a text never arrive; those of the table are its own."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)
    for text in ALL:
        out = Terminal()
        with progress_reporter(mode, out) as emit:
            emit(Planned(1, 0, 1, 1, {}, {"ab" * 32: f"{text} seed=1"}))
            emit(Started(("ab" * 32,), 1))
            emit(EpochDone("ab" * 32, 1, {"val/accuracy": 0.5}))
            emit(Failed("ab" * 32, text, 1.0))
        printed = out.getvalue()
        for sequence in ("\x1b]", "\x1b[2J\x1b[H\n", *(CONTROL - {"\x1b", "\r"})):
            assert sequence not in printed, ascii(text)
        if mode in ("plain", "json", "off"):
            assert not CONTROL & set(printed), ascii(text)
            assert printed.count("\n") == {"plain": 2, "json": 4, "off": 0}[mode], ascii(text)
        if mode == "plain" and text.isprintable():
            assert text in printed
