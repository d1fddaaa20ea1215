"""Worker processes: how they start, what they are sent, and what they report."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, cast

from fathomlab.base.output import escape_control_chars

Event = tuple[int, Mapping[str, Any]]
TAIL_LINES = 8
LINE_LENGTH = 300
SHUTDOWN_SECONDS = 0.5
PACKAGE = Path(__file__).parents[1]
# Workers find the same fathomlab as this process, after everything else, so that no neighbor of it shadows another module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.run.worker import main; main()"
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),  # freed memory stays with the worker: handing it back and forth costs time
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass
class Worker:
    """A worker process.

    Attributes:
        ready: Whether it has loaded everything and takes packs.
        tail: Its last lines on standard error.
    """

    process: "subprocess.Popen[bytes]"
    ready: bool = False
    tail: "deque[str]" = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def last_lines(self) -> str:
        """The last lines on standard error, indented; `""` if there are none."""
        return "".join(f"\n    {line}" for line in self.tail)


@dataclass
class Pool:
    """The workers, and the queue of their events. A signal handler may add to the queue.

    Attributes:
        lock: Descriptor of the store's lock, which workers inherit, so that the store is free only when all have ended.
        workers: The current worker of each slot.
    """

    lock: int | None
    workers: dict[int, Worker] = field(default_factory=dict)
    events: "SimpleQueue[Event]" = field(default_factory=SimpleQueue)

    def start(self, slot: int) -> None:
        """Start the worker of a slot.

        The working directory is not on its module search path: a file `statistics.py` there must not replace a module of Python.
        """
        inherited = (self.lock,) if self.lock is not None and os.name == "posix" else ()  # Windows has no pass_fds
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            cwd=_working_directory(),
            pass_fds=inherited,
        )
        worker = Worker(process)
        self.workers[slot] = worker
        reader = threading.Thread(target=_read_errors, args=(worker,), daemon=True)
        reader.start()
        threading.Thread(target=self._read_events, args=(slot, worker, reader), daemon=True).start()

    def send(self, slot: int, message: Mapping[str, Any]) -> None:
        """Send a job or a stop request. A worker that has ended reports its death by itself."""
        with contextlib.suppress(OSError, ValueError):
            pipe = cast(IO[bytes], self.workers[slot].process.stdin)
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()

    def close(self) -> None:
        """End all workers: those that are idle end by themselves, the others are killed."""
        for worker in self.workers.values():
            with contextlib.suppress(OSError):
                cast(IO[bytes], worker.process.stdin).close()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for worker in self.workers.values():
            try:
                worker.process.wait(timeout=max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _read_events(self, slot: int, worker: Worker, errors: threading.Thread) -> None:
        with cast(IO[bytes], worker.process.stdout) as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # a line cut off by the worker's death
                    self.events.put((slot, json.loads(line)))
        code = worker.process.wait()
        errors.join(SHUTDOWN_SECONDS)  # a process that the worker started may hold the pipe open
        with contextlib.suppress(OSError):
            cast(IO[bytes], worker.process.stdin).close()
        self.events.put((slot, {"event": "died", "code": code}))


@contextlib.contextmanager
def workers(count: int, lock: int | None) -> Iterator[Pool]:
    """A pool of `count` workers, ended on exit."""
    pool = Pool(lock)
    try:
        for slot in range(count):
            pool.start(slot)
        yield pool
    finally:
        pool.close()


def _environment() -> dict[str, str]:
    """The caller's environment without entries that put the working directory on the module search path."""
    environment = SETTINGS | dict(os.environ) | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", os.curdir)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _working_directory() -> str | None:
    """The caller's, or the package's if the caller's has been deleted: the libraries of torch cannot be loaded there."""
    try:
        os.getcwd()
        return None
    except OSError:
        return str(PACKAGE)


def _read_errors(worker: Worker) -> None:
    """Remember the last lines; a line without an end is read in pieces."""
    with contextlib.suppress(OSError, ValueError), cast(IO[bytes], worker.process.stderr) as stream:
        while line := stream.readline(10 * LINE_LENGTH):
            text = escape_control_chars(line.decode("utf-8", "replace").rstrip())
            if text:
                worker.tail.append(text[:LINE_LENGTH])
