"""A worker process: takes jobs as JSON lines on standard input, reports events as JSON lines on standard output."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any


class Requests:
    """Reads standard input in a thread, so that a stop request or the parent's end is seen while a pack trains."""

    def __init__(self) -> None:
        """Start reading."""
        self.jobs: SimpleQueue[Mapping[str, Any] | None] = SimpleQueue()
        self.stop: int | None = None
        self.busy = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with open(0, "rb", closefd=False) as lines:
            for line in lines:
                message = json.loads(line)
                if "stop" in message:
                    self.stop = message["stop"]
                else:
                    self.jobs.put(message)
        if self.busy:  # the parent is gone: nobody takes the results of this pack, and the next run resumes it
            os._exit(0)
        self.jobs.put(None)

    def take_signal(self, signum: int, _: object) -> None:
        """Stop at the next step, with a checkpoint."""
        self.stop = signum


def main() -> None:
    """Train packs until standard input closes or a stop is requested, then end the process."""
    requests = Requests()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the parent decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, requests.take_signal)
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from fathomlab.plan import read_trial
    from fathomlab.run.pack import Order, train_pack
    from fathomlab.run.settings import computing
    from fathomlab.run.signals import Stopped

    def emit(event: Mapping[str, Any]) -> None:
        try:
            reports.write(json.dumps(event) + "\n")
            reports.flush()
        except OSError:  # the parent is gone; nothing of the pack is recorded as its failure
            os._exit(0)

    with computing():
        emit({"event": "ready"})
        while (job := requests.jobs.get()) is not None:
            requests.busy = True
            trials = [read_trial(json.loads(text)) for text in job["trials"]]
            order = Order(
                Path(job["root"]), job["device"], job["logging"], job["checkpoint_seconds"], lambda: requests.stop
            )
            try:
                train_pack(trials, order, emit)
            except Stopped:
                emit({"event": "stopped"})
                os._exit(0)
            requests.busy = False
            emit({"event": "idle"})
    with contextlib.suppress(OSError):
        reports.flush()
    os._exit(0)  # the reading thread may hold standard input, at which an orderly end would stop
