"""Trains one pack as an element of a Slurm job array, in a process of its own on any node.

submitit stores the element, starts a process that calls it, and calls `checkpoint` in that process before Slurm takes the node
away. What `checkpoint` returns is stored in place of the element, and the job returns to the queue.
"""

import os
import platform
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fathomlab.base.libraries import library
from fathomlab.execute.events import Event, Idle, Note, Requeued, Saved, Started, Stopped
from fathomlab.execute.executors.slurm_files import Cluster, EventLog

WAKE_SECONDS = 0.05
MAX_RETURNS = 5  # to the queue one after the other without a step trained


class Training:
    """The training of one pack in a thread. The main thread waits, so that it can handle signals.

    Attributes:
        signum: The signal of a stop request, or None.
        ended: Whether the thread has ended.
        step: The step of the newest checkpoint that was written here, or None.
        trials: Hashes of the trials that train.
    """

    def __init__(self, job: bytes, log: EventLog, node: str):
        """Start the thread."""
        self.signum: int | None = None
        self.ended = False
        self.step: int | None = None
        self.trials: tuple[str, ...] = ()
        self._stopped = False
        self._error: BaseException | None = None
        self._job, self._log, self._node = job, log, node
        threading.Thread(target=self._train, name="fathomlab-training", daemon=True).start()

    def wait(self) -> bool:
        """Wait for the end of the thread; returns whether a stop request has ended it. What it raised is raised here."""
        while not self.ended:  # a lock could be held by the code that a signal has interrupted
            time.sleep(WAKE_SECONDS)
        if self._error is not None:
            raise self._error
        return self._stopped

    def _train(self) -> None:
        from fathomlab.base.codec import from_json
        from fathomlab.base.user_code import contained
        from fathomlab.execute.pack.pack import train_job  # imports torch
        from fathomlab.execute.signals import RunInterrupted
        from fathomlab.prepare.jobs import Job

        try:
            with contained():
                train_job(from_json(Job, self._job), self._emit, lambda: self.signum, self._node)
        except RunInterrupted:
            self._stopped = True
        except BaseException as error:  # raised in the main thread
            self._error = error
        finally:
            self.ended = True

    def _emit(self, event: Event) -> None:
        if isinstance(event, Started):
            self.trials = event.trials
        elif isinstance(event, Saved):
            self.step = event.step
        self._log.append(event)


@dataclass
class Element:
    """One pack to train: values only, because another process on another node reads them.

    Attributes:
        job: The job as JSON.
        events: File for its events.
        cluster: `slurm`, or `local` for processes of one machine.
        environment: Variables to set before torch is loaded.
        step: Step of the newest checkpoint when it last returned to the queue.
        returns: Number of times that it returned to the queue without a step trained, one after the other.
    """

    job: bytes
    events: str
    cluster: Cluster
    environment: dict[str, str]
    step: int = 0
    returns: int = 0
    _training: Training | None = field(default=None, init=False, repr=False, compare=False)
    _leave: bool = field(default=False, init=False, repr=False, compare=False)

    def __call__(self) -> None:
        """Train the pack. The last event tells how it ended."""
        os.environ.update({key: value for key, value in self.environment.items() if key not in os.environ})
        self._log.begin()
        signal.signal(signal.SIGINT, self._stop)
        if self.cluster == "local":  # Slurm sends it before it takes the node away
            signal.signal(signal.SIGTERM, self._stop)
        self._training = Training(self.job, self._log, node_name())
        if self._leave:  # the signal came before the training
            self._training.signum = signal.SIGINT
        self._log.append(Stopped() if self._training.wait() else Idle())

    def checkpoint(self) -> Any:
        """Write a checkpoint and end, because Slurm takes the node away.

        Returns:
            What trains the pack when a node is free again, as a `DelayedSubmission`; None if nothing should.
        """
        training = self._training
        if training is None:
            return library("submitit").helpers.DelayedSubmission(self.again(None))
        training.signum = training.signum or signal.SIGTERM
        stopped = training.wait()
        if self._leave or not stopped:
            self._log.append(Stopped() if stopped else Idle())
            return None
        following = self.again(training.step)
        if following.returns >= MAX_RETURNS:
            return None  # the coordinator reports that the job has ended
        self._log.append(Note(f"A pack on {node_name()} has written a checkpoint and returned to the queue."))
        self._log.append(Requeued(training.trials))
        return library("submitit").helpers.DelayedSubmission(following)

    def again(self, step: int | None) -> "Element":
        """The element that continues after a checkpoint at `step`, or after none."""
        progress = step is not None and step > self.step
        values = (step, 0) if progress else (self.step, self.returns + 1)
        return Element(self.job, self.events, self.cluster, self.environment, *values)  # type: ignore[arg-type]

    @property
    def _log(self) -> EventLog:
        return EventLog(Path(self.events))

    def _stop(self, signum: int, _: FrameType | None) -> None:
        """Write a checkpoint and end without a return to the queue: the run was stopped."""
        self._leave = True
        if self._training is not None:
            self._training.signum = signum


def node_name() -> str:
    """The name of this node, as Slurm or the system knows it."""
    return os.environ.get("SLURMD_NODENAME") or platform.node() or "unknown"
