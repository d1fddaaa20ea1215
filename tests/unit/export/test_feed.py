"""A tracker gets each trial in order and complete, whichever events were lost on the way."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Note, Planned, Started
from fathomlab.export.child import Feed
from fathomlab.export.replay import run_info, trial_events
from fathomlab.export.tracking import RunInfo
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord
from tests.helpers.stores import write_depths

EPOCHS = 6


class Recorder:
    """A tracker that remembers what it gets."""

    extra: ClassVar[str] = ""

    def __init__(self, logged: Sequence[str] = ()):
        self.before = set(logged)
        self.events: dict[str, list[Event]] = {}

    def logged(self, info: RunInfo, trial: str) -> bool:
        return trial in self.before

    def open(self, info: RunInfo) -> str:
        return "recorder"

    def handle(self, event: Event) -> None:
        trial = event.trials[0] if isinstance(event, Started) else getattr(event, "trial", "")
        self.events.setdefault(trial, []).append(event)

    def close(self, timeout_seconds: float) -> None:
        pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two conditions of two seeds, with gradients."""
    root = tmp_path_factory.mktemp("feed") / "runs"
    write_depths(root, seeds=2, epochs=EPOCHS, depths=(20,), logging={"log_gradients": True})
    return Store(root)


@pytest.fixture(scope="module")
def info(store: Store) -> RunInfo:
    return run_info(store.experiment("1_2"), {trial: store.trial(trial).content for trial in store.trials()})


@pytest.fixture
def live(store: Store, info: RunInfo) -> list[Event]:
    """The events of a run in which all trials are trained epoch by epoch."""
    columns = [list(trial_events(store.trial(trial.trial), log_gradients=True)) for trial in info.trials]
    return [event for row in zip(*columns, strict=True) for event in row]


def expected(store: Store, info: RunInfo) -> dict[str, list[Event]]:
    return {trial.trial: list(trial_events(store.trial(trial.trial), log_gradients=True)) for trial in info.trials}


def fed(info: RunInfo, events: Sequence[Event | None], recorder: Recorder | None = None) -> tuple[Recorder, list[str]]:
    """What a tracker got and what was done; None is a lost event."""
    done: list[str] = []
    feed = Feed(recorder or Recorder(), done.append)
    feed.open(info)
    for event in events:
        feed.lost() if event is None else feed.handle(event)
    feed.finish()
    assert isinstance(feed.tracker, Recorder)
    return feed.tracker, done


def test_events_of_a_record(store: Store, info: RunInfo) -> None:
    events = list(trial_events(store.trial(info.trials[0].trial), log_gradients=True))
    kinds = [type(event) for event in events]
    assert kinds == [Started, Measured, *[Measured, EpochDone] * EPOCHS, Finished]
    assert [event.epoch for event in events if isinstance(event, Measured)] == [*range(EPOCHS + 1)]
    measured = events[1]
    assert isinstance(measured, Measured)
    assert list(measured.gradients) == ["input", *(f"hidden.{i}" for i in range(1, 21)), "output"]
    quiet = trial_events(store.trial(info.trials[0].trial), log_gradients=False)
    assert not any(isinstance(event, Measured) for event in quiet)


def test_live_events_are_forwarded_without_the_store(
    store: Store, info: RunInfo, live: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    feed = Feed(recorder, lambda trial: None)
    feed.open(info)
    monkeypatch.setattr("fathomlab.export.child.Store", None)
    for event in (event for event in live if not isinstance(event, Finished)):
        feed.handle(event)
    assert recorder.events == {trial: events[:-1] for trial, events in expected(store, info).items()}


@pytest.mark.parametrize("lost", [0.05, 0.3, 0.9, 1.0])
def test_lost_events_come_from_the_store(
    store: Store, info: RunInfo, live: list[Event], rng: random.Random, lost: float
) -> None:
    for _ in range(10):
        recorder, done = fed(info, [None if rng.random() < lost else event for event in live])
        assert recorder.events == expected(store, info)
        assert sorted(done) == store.trials()


def test_one_gap_is_one_look_into_the_store(info: RunInfo, live: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    class Counted(Store):
        def trial(self, trial: str) -> TrialRecord:
            reads.append(trial)
            return super().trial(trial)

    monkeypatch.setattr("fathomlab.export.child.Store", Counted)
    feed = Feed(Recorder(), lambda trial: None)
    feed.open(info)
    for event in live:
        if isinstance(event, EpochDone) and event.epoch == 2 and event.trial == info.trials[0].trial:
            feed.lost()
        elif not isinstance(event, Finished):
            feed.handle(event)
    assert sorted(reads) == sorted(trial.trial for trial in info.trials)


def test_resumed_and_repeated_epochs_are_logged_once(store: Store, info: RunInfo, live: list[Event]) -> None:
    """A worker died after epoch 3, and another one continued from epoch 2."""
    starts = [event for event in live if isinstance(event, Started)]
    late = [event for event in live if getattr(event, "epoch", 9) > 2]
    early = [event for event in live if getattr(event, "epoch", 9) <= 3]
    for events in ([*starts, *late], [*starts, *early, *starts, *late]):
        assert fed(info, events)[0].events == expected(store, info)


def test_cached_trials_are_logged_unless_they_were(store: Store, info: RunInfo) -> None:
    before = info.trials[0].trial
    pending = info.trials[1].trial
    planned = Planned(4, 3, 1, 1, {pending: 1.0}, {})
    recorder, done = Recorder([before]), list[str]()
    feed = Feed(recorder, done.append)
    feed.open(info)
    feed.handle(planned)
    feed.handle(Note("text"))
    assert set(done) == {trial.trial for trial in info.trials} - {before, pending}
    feed.handle(Started((before,), EPOCHS))
    assert before not in recorder.events


def test_failed_trial_ends_with_its_error(store: Store, tmp_path: Path) -> None:
    write_depths(tmp_path, seeds=3, epochs=2, depths=(20,))
    failed = next(trial for trial in map(Store(tmp_path).trial, Store(tmp_path).trials()) if trial.status == "failed")
    assert isinstance(list(trial_events(failed, log_gradients=False))[-1], Failed)
