"""Standard error as events, one JSON object per line."""

import contextlib
import io
import json
import threading
from typing import TextIO


class EventLines(io.TextIOBase):
    """Standard error of `--progress json`: lines that are no events become events, too.

    The lines of threads do not mix, because `print` writes a line and its end one after the other.
    """

    def __init__(self, stream: TextIO):
        """Write to `stream`."""
        self.stream = stream
        self._partial = threading.local()

    def write(self, text: str) -> int:
        """Write the complete lines; the last part waits for its end."""
        *lines, self._partial.line = (getattr(self._partial, "line", "") + text).split("\n")
        for line in filter(None, lines):
            event = line if _is_event(line) else json.dumps({"event": "message", "text": line})
            self.stream.write(event + "\n")
        return len(text)

    def end(self) -> None:
        """Write the last line of this thread, if its end is missing."""
        with contextlib.suppress(OSError, ValueError):
            self.write("\n")

    def flush(self) -> None:
        """Write what is buffered."""
        self.stream.flush()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self.stream.encoding


def _is_event(line: str) -> bool:
    """Whether a line is an event; a plugin may print a dictionary."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "event" in value
