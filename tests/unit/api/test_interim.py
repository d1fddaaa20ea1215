"""The effect so far: when it is computed, its numbers, and what it reads."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from fathomlab.api import interim
from fathomlab.api.interim import CurrentEffect
from fathomlab.config.claims import Claim
from fathomlab.execute.events import Effect, EpochDone, Event, Finished, Planned
from fathomlab.store.reading import Store
from tests.helpers.stores import condition, write_experiment, write_trial

CLAIM = Claim("Shortcuts help", "model.params.residual", (True, False), "greater")
PLAIN = {1: 0.5, 2: 0.6, 3: 0.5, 4: 0.7}
RESIDUAL = {1: 0.6, 2: 0.8, 3: 0.9, 4: 0.7}


@pytest.fixture
def trials(tmp_path: Path) -> dict[tuple[bool, int], str]:
    """The hashes of the trials of an experiment by level and seed."""
    hashes, conditions = dict[tuple[bool, int], str](), []
    for level, accuracies in ((False, PLAIN), (True, RESIDUAL)):
        factors = {"model.params.residual": level}
        pairs = [(seed, write_trial(tmp_path, "e", factors, seed, value)) for seed, value in accuracies.items()]
        hashes |= {(level, seed): trial for seed, trial in pairs}
        conditions.append(condition(f"residual={level}", factors, None, pairs))
    write_experiment(tmp_path, "e", "An experiment", conditions, seeds=list(PLAIN))
    return hashes


class Feed:
    """Sends events at times that the test sets, and collects the effects and the trials that are read."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        """Watch the reading of trials."""
        self.now, self.effects, self.read = 0.0, list[Effect](), Counter[str]()
        monkeypatch.setattr(interim, "time", SimpleNamespace(monotonic=lambda: self.now))
        trial = Store.trial
        monkeypatch.setattr(Store, "trial", lambda store, name: self.read.update([name]) or trial(store, name))
        self.current = CurrentEffect([CLAIM], root, "e", self.report)

    def report(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Effect):
            self.effects.append(event)

    def emit(self, event: Event, seconds: float = 0.0) -> int:
        """Send an event after some time; returns the number of effects so far."""
        self.now += seconds
        self.current.emit(event)
        return len(self.effects)


def done(trial: str) -> Finished:
    """The end of a trial."""
    return Finished(trial, "finished", None, 1.0, {})


def test_effect_follows_complete_seeds(
    trials: dict[tuple[bool, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    feed = Feed(tmp_path, monkeypatch)
    work = {trial: 1.0 for trial in trials.values()}
    tick = EpochDone(trials[True, 3], 1, {})
    assert feed.emit(Planned(8, 0, 1, 1, work, {})) == 0
    assert [feed.emit(done(trials[False, seed])) for seed in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert [feed.emit(done(trials[True, seed])) for seed in (1, 2)] == [0, 0]  # a pack ends
    assert [feed.emit(tick, 0.6), feed.emit(tick, 9.0)] == [1, 1]
    (effect,) = feed.effects
    half = 12.7062 * 0.05  # t with one degree of freedom, times 0.0707 / sqrt(2)
    assert (effect.claim, effect.n, effect.effect) == ("Shortcuts help", 2, pytest.approx(0.15))
    assert (effect.low, effect.high) == (pytest.approx(0.15 - half, abs=1e-5), pytest.approx(0.15 + half, abs=1e-5))
    assert [feed.emit(done(trials[True, 3])), feed.emit(tick, 0.6)] == [1, 2]
    assert feed.effects[-1].effect == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert [feed.emit(done(trials[True, 4])), feed.emit(tick, 9.0)] == [2, 2]  # verdicts follow
    assert feed.read == {trials[level, seed]: 1 for level in (False, True) for seed in (1, 2, 3)}


def test_effect_includes_cached_trials(
    trials: dict[tuple[bool, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    feed = Feed(tmp_path, monkeypatch)
    assert feed.emit(Planned(8, 6, 1, 1, {trials[level, 4]: 1.0 for level in (False, True)}, {})) == 1
    assert (feed.effects[0].n, feed.effects[0].effect) == (3, pytest.approx(0.7 / 3))
    assert math.isfinite(feed.effects[0].low)


def test_effect_stops_at_unreadable_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run does not end because of it."""
    feed = Feed(tmp_path, monkeypatch)
    assert feed.emit(Planned(8, 6, 1, 1, {"a": 1.0}, {})) == 0
    assert feed.emit(done("a"), 60.0) == 0
