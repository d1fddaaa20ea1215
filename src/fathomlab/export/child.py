"""The child process of a live tracker: JSON lines on standard input; what it has logged, as JSON lines on standard output."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from fathomlab.base.codec import from_plain
from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Planned, Started
from fathomlab.export.replay import ENDED, trial_events
from fathomlab.export.trackers import TRACKERS
from fathomlab.export.tracking import RunInfo, Tracker
from fathomlab.store.reading import Store

MAX_WAITING = 100_000  # lines; more are dropped and taken from the store
ORPHAN_SECONDS = 60.0  # what a child may take after its parent has closed the pipe or is gone
CLOSE_SECONDS = 30.0


class Feed:
    """Gives a tracker the events of each trial in order and without gaps. What is missing comes from the store.

    Attributes:
        last: Trial to the last epoch that the tracker got; 0 before the first.
        intact: Trials without a lost event since the last one that the tracker got.
        ended: Trials that the tracker got completely, or had before.
    """

    def __init__(self, tracker: Tracker, done: Callable[[str], None]):
        """Call `done` with each trial that the tracker has completely."""
        self.tracker, self.done = tracker, done
        self.info: RunInfo | None = None
        self.last: dict[str, int] = {}
        self.intact: set[str] = set()
        self.ended: set[str] = set()
        self._measured: dict[str, list[Measured]] = {}

    def open(self, info: RunInfo) -> str:
        """Open the tracker, or add trials; returns its line for the user."""
        self.info = info
        self.ended |= {trial.trial for trial in info.trials if self.tracker.logged(info, trial.trial)}
        return self.tracker.open(info)

    def lost(self) -> None:
        """Some events were dropped."""
        self.intact.clear()

    def handle(self, event: Event) -> None:
        """Take a live event."""
        match event:
            case Planned():
                for trial in self._waiting() - set(event.work):
                    self.complete(trial)
            case Started():
                for trial in self._waiting() & set(event.trials):
                    self.intact.add(trial)
                    self._measured[trial] = []
                    if trial not in self.last:
                        self._forward(trial, Started((trial,), event.epochs, event.time))
            case Measured() if event.trial in self.intact:
                self._measured[event.trial].append(event)
            case EpochDone() if event.trial in self._waiting():
                self._epoch(event)
            case Finished() | Failed() if event.trial in self._waiting():
                self.complete(event.trial)
            case _:
                pass

    def complete(self, trial: str) -> None:
        """Give the tracker everything of a trial that the store has and that it did not get, if the trial has ended."""
        assert self.info is not None
        record = Store(self.info.root).trial(trial)
        if record.status in ENDED:
            for event in trial_events(record, self.info.log_gradients):
                self._forward_new(trial, event)

    def finish(self) -> None:
        """Complete the trials whose last event was dropped."""
        for trial in self._waiting():
            self.complete(trial)

    def _waiting(self) -> set[str]:
        trials = self.info.trials if self.info is not None else ()
        return {trial.trial for trial in trials} - self.ended

    def _epoch(self, event: EpochDone) -> None:
        """Forward an epoch with its gradients; after a gap, all epochs up to it from the store."""
        assert self.info is not None
        trial, measured = event.trial, self._measured.pop(event.trial, [])
        if trial in self.intact and event.epoch == self.last.get(trial, 0) + 1:
            for earlier in (*measured, event):
                self._forward_new(trial, earlier)
        elif event.epoch > self.last.get(trial, 0):
            for earlier in trial_events(Store(self.info.root).trial(trial), self.info.log_gradients):
                if not isinstance(earlier, Finished | Failed) and getattr(earlier, "epoch", 0) <= event.epoch:
                    self._forward_new(trial, earlier)
            self.intact.add(trial)
        self._measured[trial] = []

    def _forward_new(self, trial: str, event: Event) -> None:
        """Forward what comes after the last epoch that the tracker got."""
        last = self.last.get(trial)
        if isinstance(event, Started):
            new = last is None
        elif isinstance(event, Measured):
            new = event.epoch > (last or 0) or (event.epoch == 0 and last == 0)
        else:
            new = not isinstance(event, EpochDone) or event.epoch == (last or 0) + 1
        if new:
            self._forward(trial, event)

    def _forward(self, trial: str, event: Event) -> None:
        self.tracker.handle(event)
        if isinstance(event, Started):
            self.last[trial] = 0
        elif isinstance(event, EpochDone):
            self.last[trial] = event.epoch
        elif isinstance(event, Finished | Failed):
            self.ended.add(trial)
            self.done(trial)


def main() -> None:
    """Feed the tracker that the first argument names until standard input closes."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # the parent decides, by closing the pipe
    if hasattr(os, "nice"):
        os.nice(10)  # training comes first
    source, reports = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # a tracker must not read the pipe, nor ask a question
    os.dup2(2, 1)

    def report(kind: str, text: str) -> None:
        try:
            reports.write(json.dumps({kind: text}) + "\n")
            reports.flush()
        except OSError:  # the parent is gone
            return

    try:
        _feed(sys.argv[-1], source, report)
    except BaseException as error:
        report("error", f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise


def _feed(name: str, source: int, report: Callable[[str, str], None]) -> None:
    lines: SimpleQueue[bytes | None] = SimpleQueue()
    threading.Thread(target=_read, args=(source, lines), daemon=True).start()
    tracker, expected = TRACKERS[name](), 1
    feed = Feed(tracker, lambda trial: report("done", trial))
    while (line := lines.get()) is not None:
        number, kind, value = json.loads(line)
        if number != expected:
            feed.lost()
        expected = number + 1
        if kind == "info":
            report("note", feed.open(from_plain(RunInfo, value)))
        else:
            feed.handle(from_plain(_EVENT, value))
    feed.finish()
    tracker.close(CLOSE_SECONDS)


_EVENT: Any = Event


def _read(source: int, lines: "SimpleQueue[bytes | None]") -> None:
    """Read in a thread, so that the end of the parent is noticed while the tracker waits for a server."""
    with open(source, "rb") as stream:
        for line in stream:
            if lines.qsize() < MAX_WAITING:
                lines.put(line)
    watchdog = threading.Timer(ORPHAN_SECONDS, _end)
    watchdog.daemon = True
    watchdog.start()
    lines.put(None)


def _end() -> None:
    """End this process and those that the tracker started."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
