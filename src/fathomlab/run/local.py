"""Runs packs on this machine: in this process, or in workers that keep torch loaded between packs."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from fathomlab.base.errors import UserError
from fathomlab.plan import Trial
from fathomlab.run import provenance
from fathomlab.run.failure import record_failure
from fathomlab.run.pool import Pool, workers
from fathomlab.run.signals import WAKE_SECONDS, Stop, Stopped

Emit = Callable[[Mapping[str, Any]], None]
ATTEMPTS = 3
ATTEMPTS_KILLED = 2
ATTEMPTS_TO_START = 2
STOP_SECONDS = 4.0
SIGKILL = 9  # Windows has no name for it


@dataclass(frozen=True)
class Where:
    """Where packs are trained and stored.

    Attributes:
        root: The store.
        device: auto, cpu or cuda.
        logging: Options for exporters.
        checkpoint_seconds: Time between two checkpoints (s); None for the default.
        lock: Descriptor of the store's lock, which workers inherit.
    """

    root: Path
    device: str
    logging: Mapping[str, Any]
    checkpoint_seconds: float | None = None
    lock: int | None = None


def run_packs(packs: Sequence[Sequence[Trial]], where: Where, count: int, emit: Emit, stop: Stop) -> None:
    """Train every pack, students after their teachers; `emit` is called in this thread with each event.

    Args:
        packs: Trials of one signature each.
        where: The store and the device.
        count: Number of worker processes; with 1, the packs are trained in this process.
        emit: Takes events.
        stop: Says whether a stop is requested.

    Raises:
        Stopped: If a stop was requested; progress is saved.
        UserError: If workers cannot start.
    """
    if count == 1 or len(packs) == 1:
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
    with workers(min(count, len(packs)), where.lock) as pool:
        stop.tell = lambda: pool.events.put((-1, {"event": "stop"}))
        if stop.signum is not None:
            stop.tell()
        _Scheduler(list(packs), where, pool, emit).run()
        if stop.signum is not None:
            raise Stopped(stop.signum)


class _Scheduler:
    """Gives packs to workers and handles their events."""

    def __init__(self, pending: list[Sequence[Trial]], where: Where, pool: Pool, emit: Emit):
        self.pending, self.where, self.pool, self.emit = pending, where, pool, emit
        self.root = os.path.abspath(where.root)  # the working directory may go away while workers train
        self.unfinished = {trial.hash for pack in pending for trial in pack}
        self.idle, self.busy = list(pool.workers), dict[int, Sequence[Trial]]()
        self.crashes: dict[tuple[str, ...], int] = {}
        self.failed_starts = 0
        self.deadline: float | None = None

    def run(self) -> None:
        """Return when every pack is trained, or when a stop was requested and the workers have saved their progress."""
        while self.busy or (self.pending and self.deadline is None):
            if self.deadline is None:
                self._dispatch()
            try:
                timeout = WAKE_SECONDS if self.deadline is None else max(0.0, self.deadline - time.monotonic())
                slot, event = self.pool.events.get(timeout=timeout)
            except Empty:
                if self.deadline is None:
                    continue
                return
            self._handle(slot, event)

    def _dispatch(self) -> None:
        for pack in list(self.pending):
            parents = {trial.teacher.hash for trial in pack if trial.teacher}
            if not self.idle or parents & self.unfinished:
                continue
            self.pending.remove(pack)
            slot = self.idle.pop()
            self.busy[slot] = pack
            job = {"trials": [trial.canonical_json for trial in pack], "root": self.root, "device": self.where.device}
            job |= {"logging": dict(self.where.logging), "checkpoint_seconds": self.where.checkpoint_seconds}
            self.pool.send(slot, job)

    def _handle(self, slot: int, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "stop":
            self.deadline = time.monotonic() + STOP_SECONDS
            for number in self.busy:
                self.pool.send(number, {"stop": int(signal.SIGTERM)})
        elif kind == "ready":
            self.pool.workers[slot].ready = True
            self.failed_starts = 0
        elif kind == "stopped":
            if self.deadline is not None:  # otherwise this process did not request the stop: a crash
                self.busy.pop(slot, None)
        elif kind == "idle":
            self.unfinished -= {trial.hash for trial in self.busy.pop(slot, ())}
            self.idle.append(slot)
        elif kind == "died":
            self._on_exit(slot, event["code"])
        else:
            if kind == "finished":
                self.unfinished.discard(event["trial"])
            self.emit(event)

    def _on_exit(self, slot: int, code: int) -> None:
        """Retry the pack of a worker that has ended, and replace the worker."""
        worker, pack = self.pool.workers[slot], self.busy.pop(slot, ())
        if slot in self.idle:
            self.idle.remove(slot)
        if self.deadline is None:
            if not worker.ready:
                self._on_failed_start(code, worker.last_lines)
                self.pending[:0] = [pack] if pack else []
            elif any(trial.hash in self.unfinished for trial in pack):
                self._retry(pack, code, worker.last_lines)
        if self.pending and self.deadline is None:
            self.pool.start(slot)
            self.idle.append(slot)

    def _on_failed_start(self, code: int, lines: str) -> None:
        """A worker that cannot load its modules says nothing about its trials.

        Raises:
            UserError: If this happens repeatedly.
        """
        self.failed_starts += 1
        if self.failed_starts >= ATTEMPTS_TO_START:
            raise UserError(
                "worker-start-failed",
                f"worker processes cannot start: {_cause(code)}. No trial was recorded as failed. Last lines:{lines}",
            )

    def _retry(self, pack: Sequence[Trial], code: int, lines: str) -> None:
        """Restart a pack a few times, then its trials one by one, so that only the trial that ends workers fails."""
        lost = [trial for trial in pack if trial.hash in self.unfinished]
        key = tuple(trial.hash for trial in pack)
        limit = ATTEMPTS_KILLED if code == -SIGKILL else ATTEMPTS
        self.crashes[key] = self.crashes.get(key, 0) + 1
        names = ", ".join(trial.hash[:12] for trial in lost[:3]) + (", ..." if len(lost) > 3 else "")
        trials = f"{'its trial' if len(lost) == 1 else f'its {len(lost)} trials'} ({names})"
        if self.crashes[key] < limit:
            self.emit({"event": "warning", "text": f"{_cause(code)}. Restarting {trials}."})
            self.pending.insert(0, pack)
        elif len(lost) > 1:
            self.emit({"event": "warning", "text": f"{_cause(code)}. Restarting {trials} one by one."})
            for trial in lost:
                self.crashes[trial.hash,] = limit - 1
            self.pending[:0] = [[trial] for trial in lost]
            self.unfinished -= set(key) - {trial.hash for trial in lost}
        else:
            cause = f"{_cause(code)}, {self.crashes[key]} times.{lines}"
            for trial in lost:
                record_failure(trial, self.where.root, cause, self.emit, self.where.logging)
            self.unfinished -= set(key)


def _cause(code: int) -> str:
    """How a worker ended, in words."""
    if code == -SIGKILL:
        return f"Worker killed by SIGKILL (probably out of memory; limit {provenance.memory() / 1e9:.1f} GB)"
    if code < 0:
        try:
            return f"Worker killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"Worker killed by signal {-code}"
    return f"Worker exited with status {code}"
