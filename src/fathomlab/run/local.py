"""Runs packs on this machine: in this process, or in workers that keep torch loaded between packs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, cast

from fathomlab.plan import Trial
from fathomlab.run import provenance
from fathomlab.run.failure import record_failure
from fathomlab.run.signals import Stop, Stopped

Emit = Callable[[Mapping[str, Any]], None]
Event = tuple[int, Mapping[str, Any]]
ATTEMPTS = 3
ATTEMPTS_KILLED = 2
STOP_SECONDS = 4.0


@dataclass(frozen=True)
class Where:
    """Where packs are trained and kept.

    Attributes:
        root: The store.
        device: auto, cpu or cuda.
        logging: What exporters want to know.
        checkpoint_seconds: Time between two checkpoints, None for the default.
        lock: Descriptor of the store's lock, which workers inherit.
    """

    root: Path
    device: str
    logging: Mapping[str, Any]
    checkpoint_seconds: float | None = None
    lock: int | None = None


def run_packs(packs: Sequence[Sequence[Trial]], where: Where, workers: int, emit: Emit, stop: Stop) -> None:
    """Train every pack, students after their teachers; `emit` is called in this thread with each event.

    Args:
        packs: Trials of one signature each.
        where: The store and the device.
        workers: Processes; with 1 the packs are trained in this process.
        emit: Takes events.
        stop: Asks for the end.

    Raises:
        Stopped: The end was asked for; what there is has been kept.
    """
    if workers == 1 or len(packs) == 1:
        from fathomlab.run.pack import Order, train_pack
        from fathomlab.run.settings import run_isolated

        order = Order(where.root, where.device, where.logging, where.checkpoint_seconds, lambda: stop.signum)

        def train() -> None:
            for pack in packs:
                if stop.signum is not None:
                    raise Stopped(stop.signum)
                train_pack(pack, order, emit)

        run_isolated(train)
        return
    with _workers(min(workers, len(packs)), where.lock) as pool:
        stop.tell = lambda: pool.events.put((-1, {"event": "stop"}))
        if stop.signum is not None:
            stop.tell()
        _Service(list(packs), where, pool, emit).serve()
        if stop.signum is not None:
            raise Stopped(stop.signum)


@dataclass
class _Pool:
    """The workers and the queue of what they say; the queue may be filled from a signal handler."""

    lock: int | None
    processes: "dict[int, subprocess.Popen[str]]" = field(default_factory=dict)
    events: "SimpleQueue[Event]" = field(default_factory=SimpleQueue)

    def start(self, number: int) -> None:
        """Start one worker; freed memory stays with it, since handing it back and forth costs system time."""
        settings = {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MALLOC_TRIM_THRESHOLD_": str(2**32),
            "MALLOC_MMAP_THRESHOLD_": str(2**30),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "fathomlab.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=settings | dict(os.environ),
            pass_fds=() if self.lock is None else (self.lock,),
        )
        self.processes[number] = process
        threading.Thread(target=self._listen, args=(number, process), daemon=True).start()

    def send(self, number: int, order: Mapping[str, Any]) -> None:
        """Give a worker a pack."""
        with contextlib.suppress(OSError, ValueError):
            pipe = cast(IO[str], self.processes[number].stdin)
            pipe.write(json.dumps(order) + "\n")
            pipe.flush()

    def _listen(self, number: int, process: "subprocess.Popen[str]") -> None:
        with cast(IO[str], process.stdout) as answers:
            for line in answers:
                with contextlib.suppress(json.JSONDecodeError):  # a line torn by the worker's death
                    self.events.put((number, json.loads(line)))
        code = process.wait()
        with contextlib.suppress(OSError):
            cast(IO[str], process.stdin).close()
        self.events.put((number, {"event": "died", "code": code}))


class _Service:
    """Hands packs to workers and takes what they say."""

    def __init__(self, waiting: list[Sequence[Trial]], where: Where, pool: _Pool, emit: Emit):
        self.waiting, self.where, self.pool, self.emit = waiting, where, pool, emit
        self.unfinished = {trial.hash for pack in waiting for trial in pack}
        self.idle, self.busy = list(pool.processes), dict[int, Sequence[Trial]]()
        self.deaths: dict[tuple[str, ...], int] = {}
        self.deadline: float | None = None

    def serve(self) -> None:
        """Until every pack is trained, or the end was asked for and the workers have kept what they have."""
        while self.busy or (self.waiting and self.deadline is None):
            if self.deadline is None:
                self._hand_out()
            try:
                left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
                worker, event = self.pool.events.get(timeout=left)
            except Empty:
                return
            self._take(worker, event)

    def _hand_out(self) -> None:
        for pack in list(self.waiting):
            needed = {trial.teacher.hash for trial in pack if trial.teacher}
            if not self.idle or needed & self.unfinished:
                continue
            self.waiting.remove(pack)
            worker = self.idle.pop()
            self.busy[worker] = pack
            order = {"trials": [trial.text for trial in pack], "root": str(self.where.root)}
            order |= {"device": self.where.device, "logging": dict(self.where.logging)}
            self.pool.send(worker, order | {"checkpoint_seconds": self.where.checkpoint_seconds})

    def _take(self, worker: int, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "stop":
            self.deadline = time.monotonic() + STOP_SECONDS
            for number in self.busy:
                with contextlib.suppress(OSError):
                    self.pool.processes[number].send_signal(signal.SIGTERM)
        elif kind == "stopped":
            if self.deadline is not None:  # else somebody else has stopped it: its end counts as a death
                self.busy.pop(worker, None)
        elif kind == "idle":
            self.unfinished -= {trial.hash for trial in self.busy.pop(worker, ())}
            self.idle.append(worker)
        elif kind == "died":
            self._died(worker, event["code"])
        else:
            if kind == "finished":
                self.unfinished.discard(event["trial"])
            self.emit(event)

    def _died(self, worker: int, code: int) -> None:
        """A worker has ended: its pack is tried again from its last checkpoint, a few times."""
        pack = self.busy.pop(worker, ())
        if worker in self.idle:
            self.idle.remove(worker)
        lost = [trial for trial in pack if trial.hash in self.unfinished]
        key = tuple(trial.hash for trial in pack)
        self.deaths[key] = self.deaths.get(key, 0) + 1
        if lost and self.deadline is None:
            if self.deaths[key] < (ATTEMPTS_KILLED if code == -signal.SIGKILL else ATTEMPTS):
                self.emit({"event": "warning", "text": f"{_cause(code)}; its {len(lost)} trials go on in another."})
                self.waiting.insert(0, pack)
            else:
                cause = f"{_cause(code)}, {self.deaths[key]} times"
                for trial in lost:
                    record_failure(trial, self.where.root, cause, self.emit, self.where.logging)
                self.unfinished -= {trial.hash for trial in pack}
        if self.waiting and self.deadline is None:
            self.pool.start(worker)
            self.idle.append(worker)


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "a worker was killed by signal 9 (SIGKILL), as the system does when memory runs out "
            f"(memory limit {provenance.memory() / 1e9:.1f} GB)"
        )
    return f"a worker was ended by signal {-code}" if code < 0 else f"a worker ended with status {code}"


@contextlib.contextmanager
def _workers(count: int, lock: int | None) -> Iterator[_Pool]:
    pool = _Pool(lock)
    for number in range(count):
        pool.start(number)
    try:
        yield pool
    finally:
        for process in pool.processes.values():
            with contextlib.suppress(OSError):
                cast(IO[str], process.stdin).close()
        until = time.monotonic() + 0.5
        for process in pool.processes.values():
            try:
                process.wait(timeout=max(0.01, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
