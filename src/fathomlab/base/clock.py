"""A clock that stands still while the process or the machine is suspended."""

import threading
import time
from collections.abc import Callable

GAP_SECONDS = 5.0
MAX_IDLE_SHARE = 0.1


class RunningClock:
    """Seconds since it was created, without suspensions between two calls of `tick`.

    `time.monotonic` excludes the sleep of a machine on Linux and macOS, not on Windows, and nowhere the time that a process is
    stopped (Ctrl-Z). A gap of more than 5 s between two ticks, in which the process used the processor for less than 10% of
    the time, is therefore a suspension. It counts as the processor time used in it. Several threads may call all methods.
    """

    def __init__(self, wall: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time):
        """Start at 0.

        Args:
            wall: The time (s).
            processor: The processor time of this process (s).
        """
        self._wall, self._processor = wall, processor
        self._last = wall(), processor()
        self._seconds = 0.0
        self._lock = threading.Lock()

    def tick(self) -> float:
        """The time (s). Call it about once per second; a gap is read as a suspension."""
        return self._advance(waits=False)

    def seconds(self) -> float:
        """The time (s) after work that may wait for long without a tick, such as a download. All of it counts."""
        return self._advance(waits=True)

    def _advance(self, waits: bool) -> float:
        with self._lock:
            now = self._wall(), self._processor()
            elapsed, used = now[0] - self._last[0], now[1] - self._last[1]
            self._last = now
            suspended = not waits and elapsed > GAP_SECONDS and used < MAX_IDLE_SHARE * elapsed
            self._seconds += used if suspended else elapsed
            return self._seconds
