"""A worker process: takes packs as JSON lines on standard input, reports events as JSON lines on standard output."""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve packs until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from fathomlab.plan import Trial
    from fathomlab.run.pack import train_pack
    from fathomlab.run.settings import computing

    def emit(event: Mapping[str, Any]) -> None:
        try:
            answers.write(json.dumps(event) + "\n")
            answers.flush()
        except OSError:  # whoever asked is gone; nothing of the pack is recorded as its own failure
            os._exit(0)

    with computing():
        for line in sys.stdin:
            order = json.loads(line)
            trials = [Trial(text) for text in order["trials"]]
            train_pack(trials, Path(order["root"]), order["device"], emit, order["logging"])
            emit({"event": "idle"})


def _die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when the one that started it ends; elsewhere the next answer does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
