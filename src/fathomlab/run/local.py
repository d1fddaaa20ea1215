"""Runs packs on this machine: in this process, or in workers that keep torch loaded between packs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import IO, Any, cast

from fathomlab.plan import Trial
from fathomlab.run.failure import record_failure

Emit = Callable[[Mapping[str, Any]], None]
Event = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Where:
    """Where packs are trained and kept: the store, the device (auto, cpu or cuda), and what exporters want to know."""

    root: Path
    device: str
    logging: Mapping[str, Any]


def run_packs(packs: Sequence[Sequence[Trial]], where: Where, workers: int, emit: Emit) -> None:
    """Train every pack, students after their teachers; `emit` is called in this thread with each event.

    Args:
        packs: Trials of one signature each.
        where: The store and the device.
        workers: Processes; with 1 the packs are trained in this process.
    """
    if workers == 1 or len(packs) == 1:
        from fathomlab.run.pack import train_pack
        from fathomlab.run.settings import computing

        with computing():
            for pack in packs:
                train_pack(pack, where.root, where.device, emit, where.logging)
        return
    with _workers(min(workers, len(packs))) as (processes, events):
        _serve(list(packs), where, processes, events, emit)


def _serve(
    waiting: list[Sequence[Trial]],
    where: Where,
    processes: "dict[int, subprocess.Popen[str]]",
    events: "Queue[Event]",
    emit: Emit,
) -> None:
    unfinished = {trial.hash for pack in waiting for trial in pack}
    idle, busy = list(processes), dict[int, Sequence[Trial]]()
    while waiting or busy:
        for pack in list(waiting):
            needed = {trial.teacher.hash for trial in pack if trial.teacher}
            if not idle or needed & unfinished:
                continue
            waiting.remove(pack)
            worker = idle.pop()
            busy[worker] = pack
            order = {"trials": [trial.text for trial in pack], "root": str(where.root)}
            _send(processes[worker], order | {"device": where.device, "logging": dict(where.logging)})
        worker, event = events.get()
        if event["event"] == "finished":
            unfinished.discard(event["trial"])
        if event["event"] in ("idle", "died"):
            pack = busy.pop(worker, ())
            lost = [trial for trial in pack if trial.hash in unfinished]
            for trial in lost:
                record_failure(
                    trial, where.root, str(event.get("cause", "the worker ended early")), emit, where.logging
                )
            unfinished -= {trial.hash for trial in pack}
            if event["event"] == "idle":
                idle.append(worker)
            elif waiting:
                processes[worker] = _start(worker, events)
                idle.append(worker)
        else:
            emit(event)


@contextlib.contextmanager
def _workers(count: int) -> "Iterator[tuple[dict[int, subprocess.Popen[str]], Queue[Event]]]":
    events: Queue[Event] = Queue()
    processes = {number: _start(number, events) for number in range(count)}
    try:
        yield processes, events
    finally:
        previous = _deaf()
        for process in processes.values():
            with contextlib.suppress(OSError):
                cast(IO[str], process.stdin).close()
        for process in processes.values():
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if previous is not None:
            signal.signal(signal.SIGINT, previous)


def _deaf() -> Any:
    """Ignore a further Ctrl-C while workers are ended; returns the handler to put back, None outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start(number: int, events: "Queue[Event]") -> "subprocess.Popen[str]":
    """One worker process; freed memory stays with it, since handing it back and forth costs system time."""
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
    )
    threading.Thread(target=_listen, args=(number, process, events), daemon=True).start()
    return process


def _listen(number: int, process: "subprocess.Popen[str]", events: "Queue[Event]") -> None:
    with cast(IO[str], process.stdout) as answers:
        for line in answers:
            with contextlib.suppress(json.JSONDecodeError):  # a line torn by the worker's death
                events.put((number, json.loads(line)))
    code = process.wait()
    with contextlib.suppress(OSError):
        cast(IO[str], process.stdin).close()
    cause = f"the worker was ended by signal {-code}" if code < 0 else f"the worker ended with status {code}"
    events.put((number, {"event": "died", "cause": cause}))


def _send(process: "subprocess.Popen[str]", order: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe = cast(IO[str], process.stdin)
        pipe.write(json.dumps(order) + "\n")
        pipe.flush()
