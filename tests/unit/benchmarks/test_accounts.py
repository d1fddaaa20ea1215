"""Exclusive accounts of time, by a clock that is moved by hand."""

import pytest

from benchmarks.accounts import Accounts


class Hand:
    """A clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def test_accounts_are_exclusive():
    """What is nested is not counted twice, and what comes before the first step is apart from the rest."""
    clock = Hand()
    accounts = Accounts("training", clock)
    clock.wait(1)
    with accounts.account("store"):
        clock.wait(2)
    clock.wait(4)

    def steps():
        for _ in range(2):
            clock.wait(8)
            accounts.charged("evaluation", clock.wait)(16)
            yield

    for _ in accounts.iterated("training", steps)():
        clock.wait(32)
        accounts.charged("store", clock.wait)(64)
    expected = {"preparing": 5, "store": 2 + 128, "training": 16, "evaluation": 32, "rest": 64}
    assert accounts.closed() == expected


def test_error_closes_an_account():
    """What comes afterwards is the rest again."""
    clock = Hand()
    accounts = Accounts("training", clock)

    def failing() -> None:
        clock.wait(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        accounts.charged("training", failing)()
    clock.wait(2)
    assert accounts.closed() == {"preparing": 0, "training": 1, "rest": 2}
