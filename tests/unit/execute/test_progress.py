"""Numbers about the run itself: time left, labels, counts."""

import io
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.base.clock import RunningClock
from fathomlab.execute import notebook
from fathomlab.execute.events import (
    Effect,
    EpochDone,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Note,
    Planned,
    Requeued,
    Started,
    Warned,
)
from fathomlab.execute.modes import MODES, Mode, resolve_mode
from fathomlab.execute.progress import progress_reporter
from fathomlab.execute.round import ProgressState
from tests.helpers.hostile_text import ALL, CONTROL


class Time:
    """A time that tests set. The processor is always busy, so that no gap is a suspension."""

    now = 100.0

    def clock(self) -> RunningClock:
        """A clock of this time."""
        return RunningClock(lambda: self.now, lambda: self.now)


def planned(work: dict[str, float], workers: int = 1, cached: int = 0) -> Planned:
    """The event at the start of a round."""
    return Planned(len(work) + cached, cached, 1, workers, work, {trial: f"condition {trial}" for trial in work})


def finished(trial: str) -> Finished:
    """A trial's end."""
    return Finished(trial, "finished", None, 1.0, {"test/accuracy": 0.5})


def shown(time: Time, *steps: tuple[float, Event]) -> list[str]:
    """The plain lines of events, each after some seconds."""
    out = io.StringIO()
    with progress_reporter("plain", out, clock=time.clock()) as emit:
        for seconds, event in steps:
            time.now += seconds
            emit(event)
    return out.getvalue().splitlines()


def test_added_seeds_start_a_new_round():
    """Earlier time and trials do not count."""
    time = Time()
    state = ProgressState(clock=time.clock())
    state.update(planned({"a": 10.0}))
    state.update(Started(("a",), 1))
    time.now += 500
    state.update(finished("a"))
    state.update(replace(planned({"b": 10.0}, cached=1), measured=True))
    assert (state.total, state.done) == (1, 0)
    assert state.seconds_left() == pytest.approx(10)


def test_summary_counts_trials_and_throughput():
    """Ten minutes of import before the first pack are no training."""
    time = Time()
    state = ProgressState(clock=time.clock())
    assert state.summary() == "preparing"
    state.update(planned(dict.fromkeys("abcdef", 10.0), workers=2, cached=3))
    time.now += 600
    state.update(Started(("a", "b", "c", "d"), 5))
    assert state.summary() == "0/6 trials trained, 3 cached, 4 running, estimating time"
    time.now += 40
    for event in (finished("a"), Finished("b", "diverged", "x", 1.0, {}), Failed("c", "x", 1.0)):
        state.update(event)
    expected = "3/6 trials trained, 3 cached, 1 running, 1 diverged, 1 failed, 4.5 trials/min, 2 s left"
    assert state.summary() == expected
    time.now += 3600
    assert "3.0 trials/h" in state.summary()


def test_plain_lines_show_condition_and_outcome():
    """Never a hash where there is a label; a diverged trial is not counted as failed."""
    diverged = Finished("b", "diverged", "x", 1.0, {"test/accuracy": None})
    events = (planned({"a": 10.0, "b": 10.0, "c": 10.0}), finished("a"), diverged, Failed("c", "x", 1.0))
    lines = shown(Time(), *((10.0, event) for event in events))
    assert lines == [
        "3 trials: 0 cached, 3 to train in 1 pack on 1 worker",
        "[1/3] condition a: test accuracy 50.00% (1.0 s, 2 s left)",
        "[2/3] condition b: diverged: x (1.0 s, 1 s left)",
        "[3/3] condition c: failed: x (1.0 s)",
    ]


def test_plain_line_of_a_cached_run():
    assert shown(Time(), (0.0, planned({}, cached=8))) == ["8 trials: all cached"]


def test_plain_lines_are_at_most_two_per_30_s():
    """One about epochs, one about the effect, and no effect after the last trial."""
    effect = Effect("claim", 0.1, 0.05, 0.15, 2, "claim, so far: +10 points")
    steps: list[tuple[float, Event]] = [(0.0, planned({"a": 10.0})), (0.0, Started(("a",), 100))]
    for number in range(1, 62):
        steps += [(1.0, EpochDone("a", number, {"val/accuracy": 0.5}, None, float(number))), (0.0, effect)]
    lines = shown(Time(), *steps, (31.0, finished("a")), (31.0, effect))[1:]
    assert [line for line in lines if "so far" in line] == ["claim, so far: +10 points"] * 2
    assert [line.split(",")[0] for line in lines if ": epoch" in line] == ["condition a: epoch 31/100"]
    assert lines[-1].startswith("[1/1]")


def test_log_contains_lines_from_before_its_folder(tmp_path: Path):
    log = tmp_path / "experiment" / "log.txt"
    with progress_reporter("off", io.StringIO(), log) as emit:
        emit(Note("first"))
        emit(Warned("second"))
        log.parent.mkdir()
        emit(planned({}, cached=1))
    texts = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    assert texts == ["note: first", "warning: second", "1 trial: all cached"]


@pytest.mark.parametrize(
    ("variables", "terminal", "expected"),
    [
        ({}, True, "rich"),
        ({}, False, "plain"),
        ({"FORCE_COLOR": "1"}, False, "plain"),
        ({"NO_COLOR": "1"}, True, "rich"),
        ({"TERM": "dumb"}, True, "plain"),
        ({"CI": "true"}, True, "plain"),
        ({"CI": "1"}, True, "plain"),
        ({"CI": "false"}, True, "rich"),
    ],
)
def test_auto_mode_depends_on_the_stream(
    variables: dict[str, str], terminal: bool, expected: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in ({"TERM": "xterm", "CI": "", "NO_COLOR": "", "FORCE_COLOR": ""} | variables).items():
        monkeypatch.setenv(name, value)
    assert resolve_mode("auto", Terminal() if terminal else io.StringIO()) == expected
    assert resolve_mode("auto", None) == "off"


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


@pytest.mark.parametrize("columns", [40, 120])
def test_live_table_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch):
    """A narrow one has no bars; the label, the epoch, and the accuracy are complete."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with progress_reporter("rich", out) as emit:
        emit(Planned(2, 0, 1, 1, {"a": 1.0, "b": 1.0}, {"a": "hidden_layers_num=10 residual=true seed=43"}))
        emit(Started(("a",), 10))
        emit(EpochDone("a", 1, {"val/accuracy": 0.5}, None, 1.0))
        emit(Effect("claim", 0.1, 0.05, 0.15, 2, "claim, so far: +10.00 points, 95% interval +5.00 to +15.00 points"))
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert (
        max(len(line) for line in lines if not line.startswith("2 trials: ")) <= columns
    )  # it is wrapped by the terminal
    words = " ".join(lines).split()
    assert {"hidden_layers_num=10", "residual=true", "seed=43", "1/10", "50.00%", "+15.00"} <= set(words)
    assert ("▅" in words) == (columns == 120)


def test_summary_waits_for_an_update_in_another_thread():
    """A live table reads the estimate while events arrive; it would end with an error."""

    class Work(dict[str, float]):
        """Planned times, whose reader is overtaken by an event."""

        overtaking: threading.Thread | None = None

        def __contains__(self, trial: object) -> bool:
            if self.overtaking is None:
                self.overtaking = threading.Thread(target=state.update, args=(finished("a"),))
                self.overtaking.start()
                self.overtaking.join(0.1)
            return super().__contains__(trial)

    state, work = ProgressState(), Work(a=1.0, b=1.0)
    state.update(planned(work))
    state.update(Started(("a", "b"), 2))
    for trial in work:
        state.update(EpochDone(trial, 1, {"val/accuracy": 0.5}, None, 1.0))
    assert state.summary().startswith("0/2 trials trained, 2 running")
    assert work.overtaking is not None
    work.overtaking.join()
    assert state.summary().startswith("1/2 trials trained, 1 running")


def test_summary_waits_for_a_worker():
    """While jobs are in the queue of a cluster, no time is shown; with twice as many workers, half of it."""
    state = ProgressState(clock=Time().clock())
    state.update(replace(planned(dict.fromkeys("abcd", 60.0), workers=4), measured=True, packs=4))
    state.update(FleetChanged(0, 0, 0, 4, 0, 0))
    assert state.summary() == "0/4 trials trained, waiting for a worker"
    assert state.seconds_left() is None
    for workers, seconds in ((1, 240), (2, 120), (4, 60), (9, 60)):
        state.update(FleetChanged(1, workers, 0, 4, 0, 0))
        assert state.seconds_left() == pytest.approx(seconds)
    state.update(planned({}, cached=4))
    assert state.fleet is None


def test_each_trial_has_its_number_of_epochs():
    """A teacher trains longer than its student, and starts first."""
    events = [planned(dict.fromkeys("ab", 10.0)), Started(("a",), 100), Started(("b",), 50)]
    steps = [(0.0, event) for event in events]
    done = [EpochDone(trial, 7, {"val/accuracy": 0.5}, None, 1.0) for trial in "ab"]
    lines = shown(Time(), *steps, *((31.0, event) for event in done))
    assert [line.split(",")[0] for line in lines[1:]] == ["condition a: epoch 7/100", "condition b: epoch 7/50"]


def test_trials_of_a_lost_worker_do_not_run():
    state = ProgressState(clock=Time().clock())
    state.update(planned(dict.fromkeys("abc", 10.0)))
    state.update(Started(("a", "b"), 5))
    state.update(Started(("c",), 5))
    state.update(Requeued(("a", "b")))
    assert list(state.running) == ["c"]


def test_plain_lines_about_workers_are_limited():
    """At once if workers come, go, or are lost; else one per 30 s."""
    steps: list[tuple[float, Event]] = [(0.0, planned(dict.fromkeys("abcd", 10.0)))]
    steps += [(1.0, FleetChanged(1, 2, number % 2, 4, 0, 0)) for number in range(40)]
    steps += [(1.0, FleetChanged(1, 1, 1, 3, 0, 0)), (1.0, FleetChanged(1, 1, 0, 4, 0, 1))]
    steps += [(1.0, FleetChanged(1, 1, 0, 4, 1, 1)), (1.0, FleetChanged(2, 1, 0, 4, 1, 1))]
    lines = [line.partition(", waiting for")[0] for line in shown(Time(), *steps)[1:]]
    assert lines == [
        "1 node, 2 workers, 0 packs running, 4 waiting",
        "1 node, 2 workers, 1 pack running, 4 waiting",
        "1 node, 1 worker, 1 pack running, 3 waiting",
        "1 node, 1 worker, 0 packs running, 4 waiting, 1 lost",
        "2 nodes, 1 worker, 0 packs running, 4 waiting, 1 retried, 1 lost",
    ]


@pytest.mark.parametrize("columns", [40, 120])
def test_live_table_shows_the_workers(columns: int, monkeypatch: pytest.MonkeyPatch):
    """In the table, also in a narrow terminal, and not as messages above it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with progress_reporter("rich", out) as emit:
        emit(planned({"a": 1.0, "b": 1.0}))
        emit(FleetChanged(3, 12, 10, 2, 1, 1))
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    shown_lines = [line for line in lines if not line.startswith("2 trials: ")]
    assert max(map(len, shown_lines)) <= columns
    text = " ".join(" ".join(shown_lines).split())
    assert text.count("3 nodes, 12 workers, 10 packs running, 2 waiting, 1 retried, 1 lost") == 1


def test_notebook_shows_the_workers(monkeypatch: pytest.MonkeyPatch):
    shown_bundles: list[dict[str, str]] = []

    def display(bundle: dict[str, str], **_: Any) -> Any:
        shown_bundles.append(bundle)
        return SimpleNamespace(update=display)

    monkeypatch.setattr(notebook, "library", lambda _: SimpleNamespace(display=display))
    state = ProgressState()
    view = notebook.NotebookDisplay(state)
    for event in (planned({"a": 1.0}), FleetChanged(3, 12, 10, 2, 1, 1)):
        state.update(event)
        view.report(event)
    view.close()
    assert "3 nodes, 12 workers, 10 packs running, 2 waiting, 1 retried, 1 lost" in shown_bundles[-1]["text/plain"]
