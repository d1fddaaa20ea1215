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
    """Serve packs until standard input closes, or a signal asks to keep what there is and end."""
    asked: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the driver decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, _: asked.append(signum))
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from fathomlab.plan import Trial
    from fathomlab.run.pack import Order, train_pack
    from fathomlab.run.settings import computing
    from fathomlab.run.signals import Stopped

    def emit(event: Mapping[str, Any]) -> None:
        try:
            answers.write(json.dumps(event) + "\n")
            answers.flush()
        except OSError:  # whoever asked is gone; nothing of the pack is recorded as its own failure
            os._exit(0)

    with computing():
        for line in sys.stdin:
            told = json.loads(line)
            trials = [Trial(text) for text in told["trials"]]
            order = Order(
                Path(told["root"]),
                told["device"],
                told["logging"],
                told["checkpoint_seconds"],
                lambda: asked[0] if asked else None,
            )
            try:
                train_pack(trials, order, emit)
            except Stopped:
                emit({"event": "stopped"})
                os._exit(0)
            emit({"event": "idle"})


def _die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when the one that started it ends; elsewhere the next answer does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
