"""Acts at a poll for a stop request, between two steps or two batches, in the training thread."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from fathomlab.execute.pack import pack
from fathomlab.execute.signals import StopRequest


@contextmanager
def polled(act: Callable[[], Any]) -> Iterator[None]:
    """Call `act` at each poll of a run in this process; stop if it returns a signal number."""
    real = pack.train_job
    with mock.patch.object(pack, "train_job", lambda job, emit, stop: real(job, emit, lambda: act() or stop())):
        yield


@contextmanager
def stopped(after: int) -> Iterator[StopRequest]:
    """A stop request that is made at a poll, after this number of polls."""
    stop, polls = StopRequest(), itertools.count()

    def act() -> int | None:
        if next(polls) == after:
            stop.handle(2)
        return stop.signum

    with polled(act):
        yield stop
