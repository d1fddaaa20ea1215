"""Time left, from events with exact times."""

from collections.abc import Mapping

import pytest

from fathomlab.execute.events import EpochDone, Failed, Finished, Requeued, Started
from fathomlab.execute.time_left import TimeLeft


def epoch(trial: str, number: int, seconds: float) -> EpochDone:
    """The end of an epoch."""
    return EpochDone(trial, number, {}, None, seconds)


def finished(trial: str, seconds: float, status: str = "finished") -> Finished:
    """The end of a trial."""
    return Finished(trial, "diverged" if status == "diverged" else "finished", None, seconds, {})


def test_time_left_is_unknown_before_measurements():
    estimate = TimeLeft({"a": 10.0}, 1, measured=False)
    assert estimate.seconds(0.0) is None
    estimate.update(Started(("a",), 4), 7.0)
    assert estimate.seconds(9.0) is None
    estimate.update(finished("a", 1.0, "diverged"), 9.0)  # ends early, so it says nothing about others
    assert estimate.seconds(9.0) is None


def test_time_left_uses_stored_times_at_once():
    """Two workers share 12 s; the time that passes before the first pack starts is not work."""
    assert TimeLeft({"a": 4.0, "b": 8.0}, 2, measured=True).seconds(5.0) == 6.0


def test_pace_excludes_what_precedes_the_first_epoch():
    """Preparation takes 6 s, an epoch 2 s: after two of five epochs, three are left."""
    estimate = TimeLeft({"a": 1.0}, 1, measured=False)
    estimate.update(Started(("a",), 5), 0.0)
    estimate.update(epoch("a", 1, 8.0), 8.0)
    assert estimate.seconds(8.0) == pytest.approx(8.0 * 4)
    estimate.update(epoch("a", 2, 10.0), 10.0)
    assert estimate.seconds(10.0) == pytest.approx(6.0)
    assert estimate.seconds(11.5) == pytest.approx(4.5)
    assert estimate.seconds(99.0) == 0.0


def test_resumed_trial_has_the_pace_of_its_new_epochs():
    estimate = TimeLeft({"a": 1.0}, 1, measured=False)
    estimate.update(Started(("a",), 10), 0.0)
    estimate.update(epoch("a", 5, 100.0), 3.0)
    assert estimate.seconds(3.0) == pytest.approx(100.0)
    estimate.update(epoch("a", 6, 101.0), 4.0)
    assert estimate.seconds(4.0) == pytest.approx(4.0)


def test_each_kind_has_its_measured_time():
    """The first kind takes twice its plan, and so do others until one of them is measured."""
    estimate = TimeLeft({"a": 2.0, "b": 2.0, "c": 10.0, "d": 10.0}, 1, measured=False)
    estimate.update(Started(("a",), 1), 0.0)
    estimate.update(finished("a", 4.0), 4.0)
    assert estimate.seconds(4.0) == pytest.approx(4 + 20 + 20)
    estimate.update(Started(("c",), 1), 4.0)
    estimate.update(finished("c", 5.0), 9.0)
    assert estimate.seconds(9.0) == pytest.approx(4 + 5)


def test_longest_pack_bounds_time_left():
    """A pack of three trials trains on one worker, whatever the others do."""
    work: Mapping[str, float] = dict.fromkeys("abcd", 5.0)
    estimate = TimeLeft(work, 2, measured=True)
    estimate.update(Started(("a", "b", "c"), 10), 0.0)
    estimate.update(Started(("d",), 10), 0.0)
    assert estimate.seconds(0.0) == pytest.approx(15.0)
    for trial in "abc":
        estimate.update(epoch(trial, 5, 2.5), 7.5)
    assert estimate.seconds(7.5) == pytest.approx(7.5)


def test_restarted_and_failed_trials_are_counted_once():
    estimate = TimeLeft({"a": 5.0, "b": 5.0}, 1, measured=True)
    estimate.update(Started(("a", "b"), 2), 0.0)
    estimate.update(Started(("a",), 2), 4.0)  # one by one, after a crash
    estimate.update(Failed("a", "error"), 6.0)
    estimate.update(Started(("b",), 2), 6.0)
    assert estimate.seconds(6.0) == pytest.approx(5.0)
    estimate.update(finished("b", 5.0), 11.0)
    assert estimate.seconds(11.0) == 0.0


def test_time_left_follows_the_number_of_workers():
    """24 s of work on 1, 3, and no worker."""
    estimate = TimeLeft(dict.fromkeys("abcdef", 4.0), 1, measured=True)
    assert estimate.seconds(0.0) == pytest.approx(24.0)
    estimate.workers = 3
    assert estimate.seconds(0.0) == pytest.approx(8.0)
    estimate.workers = 0
    assert estimate.seconds(0.0) is None


def test_pack_of_a_lost_worker_waits_with_the_time_it_had():
    """Time passes while it waits, and it is not the time of a worker. A start from scratch is seen at the next epoch."""
    estimate = TimeLeft({"a": 10.0, "b": 10.0, "c": 10.0}, 1, measured=True)
    estimate.update(Started(("a", "b"), 10), 0.0)
    for trial in "ab":
        estimate.update(epoch(trial, 4, 4.0), 8.0)
    assert estimate.seconds(8.0) == pytest.approx(6 + 6 + 10)
    estimate.update(Requeued(("a", "b")), 8.0)
    assert estimate.seconds(8.0) == pytest.approx(6 + 6 + 10)
    assert estimate.seconds(100.0) == pytest.approx(6 + 6 + 10)
    estimate.update(Started(("a", "b"), 10), 100.0)
    assert estimate.seconds(100.0) == pytest.approx(6 + 6 + 10)
    estimate.update(epoch("a", 1, 1.0), 102.0)
    assert estimate.seconds(102.0) == pytest.approx(9 + 6 + 10)
    for trial in "abc":
        estimate.update(finished(trial, 10.0), 120.0)
    assert estimate.seconds(120.0) == 0.0
