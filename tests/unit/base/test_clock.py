"""The clock without suspensions, with times that the tests set."""

import threading

import pytest

from fathomlab.base.clock import RunningClock


class Machine:
    """Time and processor time."""

    now = 1000.0
    used = 50.0

    def clock(self) -> RunningClock:
        """A clock of this machine."""
        return RunningClock(lambda: self.now, lambda: self.used)

    def pass_time(self, seconds: float, share: float = 0.0) -> None:
        """Let time pass, with a share of it on the processor."""
        self.now += seconds
        self.used += seconds * share


@pytest.mark.parametrize(
    ("seconds", "share", "counted"),
    [
        (5.0, 0.0, 5.0),  # a wait, not a suspension
        (3600.0, 0.0001, 0.36),  # a suspended laptop
        (60.0, 1.0, 60.0),  # a long step
        (60.0, 0.11, 60.0),  # on a busy machine
        (60.0, 4.0, 60.0),  # with several threads
    ],
)
def test_tick_counts_suspensions_as_processor_time(seconds: float, share: float, counted: float):
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(2.0)
    assert clock.tick() == 2.0
    machine.pass_time(seconds, share)
    assert clock.tick() == pytest.approx(2.0 + counted)
    machine.pass_time(1.0)
    assert clock.tick() == pytest.approx(3.0 + counted)


def test_seconds_counts_waits_without_ticks():
    """A download of a minute uses no processor time."""
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(60.0)
    assert clock.seconds() == 60.0
    machine.pass_time(60.0)
    assert clock.tick() == 60.0


def test_seconds_and_tick_lose_nothing_in_two_threads():
    """A thread calls `tick` while another one reads the time in `seconds`."""
    machine = Machine()
    threads: list[threading.Thread] = []

    def wall() -> float:
        now = machine.now
        if machine.now == 1003.0 and not threads:
            threads.append(threading.Thread(target=clock.tick))
            threads[0].start()
            threads[0].join(0.1)
        return now

    clock = RunningClock(wall, lambda: machine.used)
    machine.pass_time(3.0)
    clock.seconds()
    threads[0].join()
    assert clock.tick() == 3.0
