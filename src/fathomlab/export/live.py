"""Live tracking from the process that coordinates a run: one child process per tracker, which can never delay the run."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Full, Queue, SimpleQueue
from typing import IO, Any, Self, cast

from fathomlab.base.codec import to_plain
from fathomlab.execute.events import Emit, Event, Failed, Finished, Note, Planned, Warned
from fathomlab.execute.signals import StopRequest
from fathomlab.export.replay import run_info
from fathomlab.export.trackers import TRACKERS
from fathomlab.export.tracking import RunInfo
from fathomlab.plan import Plan
from fathomlab.store.reading import Store

QUEUE_SIZE = 10_000
SILENT_SECONDS = 10.0  # at the end, a child is killed if it reports nothing for so long
CLOSE_SECONDS = 60.0  # and in any case after this time
STOP_SECONDS = 1.0  # both, if the run was interrupted
WAKE_SECONDS = 0.1
PACKAGE = Path(__file__).parents[1]
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.export.child import main; main()"


class Child:
    """A tracker in a child process.

    Everything that can wait happens in threads: starting the process, writing to it, and reading what it reports.

    Attributes:
        name: Name of the tracker.
        done: Trials that it has completely.
        messages: Lines for the user.
        error: Why it ended.
    """

    def __init__(self, name: str, log: Path):
        """Start the child; its output goes to the file `log`."""
        self.name, self.log = name, log
        self.done: set[str] = set()
        self.messages: SimpleQueue[str] = SimpleQueue()
        self.error = ""
        self._queue: Queue[tuple[int, str, Any] | None] = Queue(QUEUE_SIZE)
        self._number = 0
        self._heard = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, value: RunInfo | Event) -> None:
        """Send a value, or drop it if the child is too slow. The child notices, because the numbers have a gap."""
        self._number += 1
        with contextlib.suppress(Full):
            self._queue.put_nowait((self._number, "info" if isinstance(value, RunInfo) else "event", value))

    def close(self, silent_seconds: float, seconds: float) -> None:
        """Wait until the child has logged everything, or kill it.

        Args:
            silent_seconds: How long the child may report nothing.
            seconds: How long it may take in any case.
        """
        self._heard = time.monotonic()
        deadline = self._heard + seconds
        closing = False
        while not self._ended.wait(WAKE_SECONDS):
            if not closing:
                with contextlib.suppress(Full):
                    self._queue.put_nowait(None)
                    closing = True
            if time.monotonic() > min(deadline, self._heard + silent_seconds):
                self._kill()
                self._ended.wait(1.0)
                return

    def _run(self) -> None:
        """Start the process, and write to it until the queue is closed or the process has ended."""
        try:
            self._process = process = self._start()
        except (OSError, subprocess.SubprocessError) as error:
            self.error = str(error)
            self._ended.set()
            return
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        with contextlib.suppress(OSError), cast(IO[bytes], process.stdin) as pipe:
            while (item := self._queue.get()) is not None:
                number, kind, value = item
                pipe.write(json.dumps([number, kind, to_plain(value)]).encode() + b"\n")
                pipe.flush()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start in an own session: a signal from a terminal does not reach the child, and it is killed with its processes."""
        with contextlib.ExitStack() as stack:
            output: Any = subprocess.DEVNULL
            with contextlib.suppress(OSError):
                output = stack.enter_context(open(self.log, "wb"))
            return subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(PACKAGE.parent), self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        with cast(IO[bytes], process.stdout) as lines:
            for line in lines:
                self._heard = time.monotonic()
                with contextlib.suppress(ValueError):  # a line cut off by the child's death
                    for kind, text in json.loads(line).items():
                        if kind == "done":
                            self.done.add(text)
                        elif kind == "error":
                            self.error = text
                        elif text:
                            self.messages.put(text)
        process.wait()
        self._ended.set()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


class Live:
    """The live trackers of a run, as a context. `emit` takes the run's events and never waits."""

    def __init__(self, names: Sequence[str], root: Path, experiment: str, report: Emit, stop: StopRequest):
        """Track nothing yet: the trackers start when the experiment is recorded.

        Args:
            names: Names of trackers.
            root: The store.
            experiment: Name of the experiment.
            report: Takes all events, and what the trackers have to say.
            stop: Whether the user wants the run to end.
        """
        self._names, self._root, self._experiment = tuple(names), root, experiment
        self._report, self._stop = report, stop
        self._plan: Plan | None = None
        self._children: dict[str, Child] = {}
        self._shown: set[str] = set()
        self._expected: dict[str, set[str]] = {name: set() for name in names}

    def expect(self, plan: Plan) -> Plan:
        """Remember and return the plan that is run next."""
        self._plan = plan
        return plan

    def emit(self, event: Event) -> None:
        """Report an event and send it to the trackers."""
        self._report(event)
        try:
            if isinstance(event, Planned) and self._names:
                self._open(event)
            for name, child in self._children.items():
                if isinstance(event, Finished | Failed):
                    self._expected[name].add(event.trial)
                child.send(event)
            self._show_messages()
        except Exception as error:  # whatever it is, it must not end the run
            self._names, self._children = (), {}
            self._report(Warned(f"tracking stopped: {type(error).__name__}: {error}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the trackers, for a limited time, and warn about what they could not log."""
        for name, child in self._children.items():
            stopped = self._stop.signum is not None
            child.close(*((STOP_SECONDS, STOP_SECONDS) if stopped else (SILENT_SECONDS, CLOSE_SECONDS)))
            self._show_messages()
            missing = len(self._expected[name] - child.done)
            if missing:
                trials = "1 trial was" if missing == 1 else f"{missing} trials were"
                cause = f" ({child.error})" if child.error else ""
                command = f"fathomlab export {name} {self._experiment}"
                if self._root != Path("runs"):
                    command += f" --runs {shlex.quote(str(self._root))}"
                text = f"{name}: {trials} not logged completely{cause}. Complete with: {command}"
                self._report(Warned(f"{text} (log: {child.log})"))

    def _open(self, event: Planned) -> None:
        """Start the trackers that have something to log, or tell them about added seeds."""
        assert self._plan is not None
        record = Store(self._root).experiment(self._experiment)
        info = run_info(record, {trial.hash: trial.content for trial in self._plan.trials})
        for name in self._names:
            tracker = TRACKERS[name]()
            missing = {trial.trial for trial in info.trials if not tracker.logged(info, trial.trial)}
            self._expected[name] |= missing - set(event.work)
            if missing and name not in self._children:
                self._children[name] = Child(name, record.folder / f"{name}.log")
            if name in self._children:
                self._children[name].send(info)

    def _show_messages(self) -> None:
        for child in self._children.values():
            while not child.messages.empty():
                text = child.messages.get()
                if text not in self._shown:  # repeated when seeds are added
                    self._shown.add(text)
                    self._report(Note(text))
