"""How a run is stopped: the first signal asks for a checkpoint and an orderly end, the second ends it at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The run was stopped by a signal; what it has is kept and the same command goes on.

    Attributes:
        signum: The signal; a command ends with 128 + signum, as shells expect.
    """

    def __init__(self, signum: int = signal.SIGINT):
        """Stopped by `signum`."""
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Stop:
    """Whether a signal has asked for the end, and whom to tell."""

    def __init__(self) -> None:
        """Nobody has asked."""
        self.signum: int | None = None
        self.tell: Callable[[], None] = lambda: None

    def asked(self) -> bool:
        """Whether to stop."""
        return self.signum is not None

    def take(self, signum: int, _: FrameType | None = None) -> None:
        """Handle a signal."""
        if self.signum is not None:
            with contextlib.suppress(OSError, ValueError):
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # the live table has hidden the cursor
            os._exit(128 + signum)
        self.signum = signum
        self.tell()


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Take SIGINT, SIGTERM and SIGHUP as long as this lasts; only the main thread can, elsewhere nothing changes."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop.take) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
