"""A worker process: takes jobs as JSON lines on standard input, reports events as JSON lines on standard output."""

import contextlib
import gc
import json
import os
import signal
import threading
from os import _exit as end_process  # plugins run with another one
from queue import SimpleQueue

from fathomlab.execute.worker_process import receive_lock

NODE_VARIABLE = "FATHOMLAB_NODE"  # the name of the node of a cluster


class Requests:
    """Reads standard input in a thread, so that a stop request or the parent's end is seen while a job trains.

    Attributes:
        jobs: Lines with jobs; None at the end of the input.
        signum: The signal of a stop request, or None.
        busy: Whether a job trains.
    """

    def __init__(self) -> None:
        """Start reading. A plugin that reads standard input finds it empty, and takes no job."""
        self._lines = os.dup(0)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        self.jobs: SimpleQueue[bytes | None] = SimpleQueue()
        self.signum: int | None = None
        self.busy = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with open(self._lines, "rb", closefd=False) as lines:
            for line in lines:
                signum = json.loads(line).get("stop")
                if signum is None:
                    self.jobs.put(line)
                else:
                    self.signum = signum
        if self.busy:  # the parent is gone: nobody takes the results of this job, and the next run resumes it
            end_process(0)
        self.jobs.put(None)

    def handle(self, signum: int, _: object) -> None:
        """Stop at the next step, with a checkpoint."""
        self.signum = signum


def main() -> None:
    """Train jobs until standard input closes or a stop is requested, then end the process."""
    requests = Requests()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the process group; the parent decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, requests.handle)
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    gc.disable()  # modules stay: looking for garbage among them takes a tenth of the import
    from fathomlab.base.codec import from_json, to_plain
    from fathomlab.base.user_code import contained
    from fathomlab.execute.events import Event, Idle, Ready, Stopped
    from fathomlab.execute.pack.pack import train_job
    from fathomlab.execute.signals import RunInterrupted
    from fathomlab.prepare.jobs import Job

    gc.freeze()
    gc.enable()

    def emit(event: Event) -> None:
        try:
            # Not as ASCII, so that what is not valid text is replaced here: JSON cannot contain it.
            reports.write(json.dumps(to_plain(event), ensure_ascii=False) + "\n")
            reports.flush()
        except OSError:  # the parent is gone; nothing of the job is recorded as its failure
            end_process(0)

    emit(Ready())
    receive_lock()
    while (line := requests.jobs.get()) is not None:
        requests.busy = True
        job = from_json(Job, line)
        try:
            with contained():
                train_job(job, emit, lambda: requests.signum, os.environ.get(NODE_VARIABLE, ""))
        except RunInterrupted:
            emit(Stopped())
            end_process(0)
        requests.busy = False
        emit(Idle())
    with contextlib.suppress(OSError):
        reports.flush()
    end_process(0)  # the reading thread may hold standard input, at which an orderly end would stop
