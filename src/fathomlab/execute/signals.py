"""How a run is interrupted: the first signal requests a checkpoint and an orderly stop, the second ends it immediately."""

import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from os import _exit as end_process  # plugins run with another one
from types import FrameType

from fathomlab.base.clock import RunningClock
from fathomlab.base.errors import UserError

WAKE_SECONDS = 0.1  # Python runs handlers in the main thread, which must therefore not wait without a timeout


class RunInterrupted(KeyboardInterrupt):
    """The run was stopped by a signal or by its time limit. Progress is saved; the same command resumes.

    It is a `KeyboardInterrupt`, so that a notebook stops here and a handler of `Exception` does not hide it.

    Attributes:
        signum: The signal; SIGINT for a time limit. A command exits with 128 + signum, as shells expect.
        minutes: The time limit if it was reached; None if a signal stopped the run.
    """

    def __init__(self, signum: int = signal.SIGINT, minutes: float | None = None):
        """Stopped by `signum`, or after `minutes`."""
        limit = f"stopped at the limit of {minutes:g} minute{'s' * (minutes != 1)}" if minutes is not None else ""
        super().__init__(limit or f"interrupted by {signal.Signals(signum).name}")
        self.signum, self.minutes = signum, minutes

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [f"KeyboardInterrupt: {self}. Progress is saved. The same call resumes."]


class StopRequest:
    """Whether a signal or the time limit has requested a stop.

    Attributes:
        signum: The signal, SIGINT for the time limit; None if there was none.
        minutes: The time limit if it was reached.
        clock: Time since the run started.
    """

    def __init__(self, minutes: float | None = None, clock: RunningClock | None = None) -> None:
        """No stop is requested yet.

        Args:
            minutes: Time after which `poll` requests a stop; None for no limit. Suspensions do not count.
            clock: Measures the time; a new one by default.

        Raises:
            UserError: If `minutes` is not a positive number.
        """
        if minutes is not None and not 0 < minutes < math.inf:
            raise UserError("invalid-option", f"--minutes must be a positive number, got {minutes:g}.")
        self.signum: int | None = None
        self.minutes: float | None = None
        self.clock = clock or RunningClock()
        self._limit = minutes

    def poll(self) -> int | None:
        """The signal, after a look at the time. Called several times per second while trials train."""
        seconds = self.clock.tick()
        if self.signum is None and self._limit is not None and seconds >= 60 * self._limit:
            self.signum, self.minutes = signal.SIGINT, self._limit
        return self.signum

    def check(self) -> None:
        """Raise RunInterrupted if a stop is requested, after a look at the time."""
        if self.poll() is not None:
            raise RunInterrupted(self.signum or signal.SIGINT, self.minutes)

    def handle(self, signum: int, _: FrameType | None = None) -> None:
        """Handle a signal."""
        if self.signum is not None:
            with contextlib.suppress(OSError, ValueError):
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # the live table has hidden the cursor
            end_process(128 + signum)
        self.signum = signum


@contextlib.contextmanager
def handle_signals(stop: StopRequest) -> Iterator[None]:
    """Handle SIGINT, SIGTERM, and SIGHUP inside this context. Only the main thread can; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop.handle) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
