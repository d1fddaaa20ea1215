"""How a run is interrupted: the first signal requests a checkpoint and an orderly stop, the second ends it immediately."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from os import _exit as end_process  # plugins run with another one
from types import FrameType

WAKE_SECONDS = 0.1  # Python runs handlers in the main thread, which must therefore not wait without a timeout


class RunInterrupted(KeyboardInterrupt):
    """The run was interrupted by a signal. Progress is saved; the same command resumes.

    Attributes:
        signum: The signal. A command exits with 128 + signum, as shells expect.
    """

    def __init__(self, signum: int = signal.SIGINT):
        """Interrupted by `signum`."""
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [f"KeyboardInterrupt: {self}. Progress is saved. The same call resumes."]


class StopRequest:
    """Whether a signal has requested a stop.

    Attributes:
        signum: The signal; None if there was none.
    """

    def __init__(self) -> None:
        """No stop is requested yet."""
        self.signum: int | None = None

    def handle(self, signum: int, _: FrameType | None = None) -> None:
        """Handle a signal."""
        if self.signum is not None:
            with contextlib.suppress(OSError, ValueError):
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # the live table has hidden the cursor
            end_process(128 + signum)
        self.signum = signum


@contextlib.contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Handle SIGINT, SIGTERM, and SIGHUP inside this context. Only the main thread can; elsewhere nothing changes."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop.handle) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
