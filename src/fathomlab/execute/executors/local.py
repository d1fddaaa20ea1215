"""Trains jobs in worker processes on this machine, which keep torch loaded between jobs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, ClassVar, cast

from fathomlab.base.codec import from_json, to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.execute.events import Died, Event, Idle, Ready, Stopped
from fathomlab.execute.executors.setting import Setting
from fathomlab.prepare import machine
from fathomlab.prepare.gpus import worker_device
from fathomlab.prepare.jobs import Job
from fathomlab.prepare.packing import worker_count

MAX_ATTEMPTS_TO_START = 2
TAIL_LINES = 8
LINE_LENGTH = 300
SHUTDOWN_SECONDS = 0.5
SIGKILL = 9  # Windows has no name for it
PACKAGE = Path(__file__).parents[2]
# Workers find the same fathomlab as this process, after everything else, so that no neighbor of it shadows another module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.execute.worker import main; main()"
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),  # freed memory stays with the worker: handing it back and forth costs time
    "MALLOC_MMAP_THRESHOLD_": str(2**26),  # but larger blocks go back: they would not fit into the holes of others
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass(eq=False)
class Worker:
    """A worker process.

    Attributes:
        slot: Its number among the workers, from 0, which selects its GPU. A worker that replaces another one has the same.
        number: The number of its job, or None.
        job: Its job, or None.
        ready: Whether it has loaded everything and takes jobs.
        tail: Its last lines on standard error.
    """

    process: "subprocess.Popen[bytes]"
    slot: int = 0
    number: int | None = None
    job: Job | None = None
    ready: bool = False
    tail: "deque[str]" = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def send(self, message: object) -> None:
        """Send a job or a stop request. A worker that has ended reports its death by itself."""
        with contextlib.suppress(OSError, ValueError):
            pipe = cast(IO[bytes], self.process.stdin)
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()


class Local:
    """Worker processes, and the queue of their events."""

    spans_hosts: ClassVar[bool] = False
    stop_seconds: ClassVar[float] = 4.0

    def __init__(self, setting: Setting):
        """Start the workers. They inherit the lock's descriptor, so that the store is free only when all have ended."""
        self._count, self._lock = setting.workers, setting.lock
        self._directory = _working_directory()  # it may go away while workers train
        self._events: SimpleQueue[tuple[Worker, Event | int]] = SimpleQueue()
        self._submitted = self._failed_starts = 0
        self._stopping = False
        self.workers: list[Worker] = []
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """One per core, at most one per pack; one in total on a CUDA device."""
        return worker_count(requested, packs, setting.device)

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """None: jobs end with the run."""
        return ()

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """One line."""
        return f"{count(len(jobs), 'pack')} on {count(setting.workers, 'worker')} of this machine"

    def capacity(self) -> int:
        """One job per worker."""
        return self._count

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Give jobs to idle workers, or to new ones if workers have died."""
        return tuple(map(self._submit, jobs))

    def _submit(self, job: Job) -> int:
        worker = next((worker for worker in self.workers if worker.job is None), None) or self._start()
        self._submitted += 1
        self._assign(worker, self._submitted, replace(job, root=Path(os.path.normpath(self._directory / job.root))))
        return self._submitted

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next event of a job.

        Raises:
            UserError: If workers repeatedly cannot load their modules.
        """
        try:
            worker, event = self._events.get(timeout=timeout_seconds)
        except Empty:
            return
        number = worker.number
        if isinstance(event, int):
            death = self._on_exit(worker, event)
            if death is not None and number is not None:
                yield number, death
        elif isinstance(event, Ready):
            worker.ready = True
            self._failed_starts = 0
        elif number is not None and (self._stopping or not isinstance(event, Stopped)):  # a stop by others is a crash
            if isinstance(event, Idle | Stopped):
                worker.number = worker.job = None
            yield number, event

    def cancel(self, number: int) -> None:
        """Kill the worker of a job; its end is reported as that of any worker."""
        for worker in self.workers:
            if worker.number == number:
                worker.process.kill()

    def fleet(self) -> None:
        """None: all workers are on this machine."""

    def stop(self, signum: int) -> None:
        """Send a stop request to every worker: signals do not exist everywhere."""
        self._stopping = True
        for worker in self.workers:
            worker.send({"stop": signum})

    def close(self) -> None:
        """End all workers: those that are idle end by themselves, the others are killed."""
        for worker in self.workers:
            with contextlib.suppress(OSError):
                cast(IO[bytes], worker.process.stdin).close()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for worker in self.workers:
            try:
                worker.process.wait(timeout=max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> Worker:
        """Start a worker.

        The working directory is not on its module search path: a file `statistics.py` there must not replace a module of Python.
        """
        inherited = (self._lock,) if self._lock is not None and os.name == "posix" else ()  # Windows has no pass_fds
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            cwd=_working_directory(),
            pass_fds=inherited,
        )
        used = {worker.slot for worker in self.workers}
        worker = Worker(process, min(set(range(len(used) + 1)) - used))
        self.workers.append(worker)
        reader = threading.Thread(target=_read_errors, args=(worker,), daemon=True)
        reader.start()
        threading.Thread(target=self._read_events, args=(worker, reader), daemon=True).start()
        return worker

    def _assign(self, worker: Worker, number: int, job: Job) -> None:
        worker.number, worker.job = number, job
        worker.send(to_plain(replace(job, device=worker_device(job.device, worker.slot))))

    def _on_exit(self, worker: Worker, code: int) -> Died | None:
        """Forget a worker that has ended. If it could not load its modules, its job is not the cause: another worker gets it."""
        self.workers.remove(worker)
        output = "".join(f"\n    {line}" for line in worker.tail)
        if worker.ready or self._stopping:
            return Died(_cause(code), output, code == -SIGKILL)
        self._failed_starts += 1
        if self._failed_starts >= MAX_ATTEMPTS_TO_START:
            raise UserError(
                "worker-start-failed",
                f"worker processes cannot start: {_cause(code)}. No trial was recorded as failed. "
                f"Check this computer with: fathomlab doctor. Last lines:{output}",
            )
        if worker.number is not None and worker.job is not None:
            self._assign(self._start(), worker.number, worker.job)
        return None

    def _read_events(self, worker: Worker, errors: threading.Thread) -> None:
        """Queue the events of a worker, and its exit status when it has ended."""
        with cast(IO[bytes], worker.process.stdout) as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # a line cut off by the worker's death
                    self._events.put((worker, from_json(Event, line)))  # pyright: ignore[reportArgumentType]
        code = worker.process.wait()
        errors.join(SHUTDOWN_SECONDS)  # a process that the worker started may hold the pipe open
        with contextlib.suppress(OSError):
            cast(IO[bytes], worker.process.stdin).close()
        self._events.put((worker, code))


def _environment() -> dict[str, str]:
    """The caller's environment without entries that put the working directory on the module search path."""
    environment = SETTINGS | dict(os.environ) | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", os.curdir)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _working_directory() -> Path:
    """The caller's, or the package's if the caller's has been deleted: the libraries of torch cannot be loaded there."""
    try:
        return Path.cwd()
    except OSError:
        return PACKAGE


def _read_errors(worker: Worker) -> None:
    """Remember the last lines; a line without an end is read in pieces."""
    with contextlib.suppress(OSError, ValueError), cast(IO[bytes], worker.process.stderr) as stream:
        while line := stream.readline(10 * LINE_LENGTH):
            text = escape_control_chars(line.decode("utf-8", "replace").rstrip())
            if text:
                worker.tail.append(text[:LINE_LENGTH])


def _cause(code: int) -> str:
    """How a worker ended, in words."""
    if code == -SIGKILL:
        return f"Worker killed by SIGKILL (probably out of memory; limit {machine.memory() / 1e9:.1f} GB)"
    if code < 0:
        try:
            return f"Worker killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"Worker killed by signal {-code}"
    return f"Worker exited with status {code}"
