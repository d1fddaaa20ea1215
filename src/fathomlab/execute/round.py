"""What the events of a round of training add up to."""

import threading
from dataclasses import dataclass, field

from fathomlab.base.clock import RunningClock
from fathomlab.execute.events import (
    Effect,
    EpochDone,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Planned,
    Requeued,
    Started,
)
from fathomlab.execute.time_left import TimeLeft

MANY_RUNNING = 64  # an estimate visits each trial that trains; of more, there is one per second
ESTIMATE_SECONDS = 1.0


@dataclass
class ProgressState:
    """The state of a round. A live table reads it in another thread.

    Attributes:
        labels: Trial hash to condition and seed in words.
        total: Trials to train.
        done: Trials with an outcome or an error.
        epochs: Trial hash to the epochs of a trial that trains.
        running: Trial hash to the validation accuracies per epoch.
        started: When the first pack started (s); None before.
        effect: The effect so far in words; `""` without one.
        fleet: The workers of a cluster, or those of this machine after a loss; None otherwise.
        clock: Time without suspensions; someone must call its `tick` about once per second.
    """

    labels: dict[str, str] = field(default_factory=dict)
    total: int = 0
    cached: int = 0
    done: int = 0
    failed: int = 0
    diverged: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    packs: int = 0
    workers: int = 1
    started: float | None = None
    running: dict[str, list[float]] = field(default_factory=dict)
    effect: str = ""
    fleet: FleetChanged | None = None
    clock: RunningClock = field(default_factory=RunningClock)
    _time_left: TimeLeft | None = None
    _estimate: tuple[float, float] | None = None  # when, and the time left then (s)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the estimate, which reads the state in loops

    def update(self, event: Event) -> None:
        """Add one event. A new plan starts a new round and a new clock."""
        now = self.clock.tick()
        if isinstance(event, Started | Requeued | EpochDone | Finished | Failed) and self._time_left is not None:
            with self._lock:
                self._time_left.update(event, now)
        match event:
            case Planned():
                self.cached, self.packs, self.workers = event.cached, event.packs, max(1, event.workers)
                self.total, self.done, self.started = event.trials - event.cached, 0, None
                self.running, self.fleet = {}, None
                self.labels |= event.labels
                self._estimate = None
                self._time_left = TimeLeft(event.work, max(1, min(event.workers, event.packs)), event.measured)
            case Started():
                self.epochs |= dict.fromkeys(event.trials, event.epochs)
                self.started = now if self.started is None else self.started
                self.running |= {trial: [] for trial in event.trials}
            case EpochDone():
                self.running.setdefault(event.trial, []).append(event.metrics["val/accuracy"] or 0.0)
            case Finished() | Failed():
                self.running.pop(event.trial, None)
                self.epochs.pop(event.trial, None)
                self.done += 1
                self.failed += event.status == "failed"
                self.diverged += event.status == "diverged"
                if self.done >= self.total:  # verdicts follow
                    self.effect = ""
            case Requeued() | FleetChanged():
                self._change_workers(event)
            case Effect():
                self.effect = event.text
            case _:
                pass

    def _change_workers(self, event: Requeued | FleetChanged) -> None:
        """Trials of a lost worker do not run; the estimate counts the workers that there are now."""
        if isinstance(event, Requeued):
            for trial in event.trials:
                self.running.pop(trial, None)
            return
        self.fleet = event
        if self._time_left is not None:
            with self._lock:
                self._time_left.workers = min(event.workers, event.running + event.waiting) or min(event.workers, 1)

    @property
    def waits(self) -> bool:
        """Whether trials are left and there is no worker, such as while jobs wait in the queue of a cluster."""
        return self.fleet is not None and self.fleet.workers == 0 and self.done < self.total

    def epoch(self, trial: str, epoch: int) -> str:
        """Completed epochs of a trial, and all of them if it is known how many there are."""
        return f"{epoch}/{self.epochs[trial]}" if trial in self.epochs else str(epoch)

    def label(self, trial: str) -> str:
        """Condition and seed of a trial in words, or the start of its hash."""
        return self.labels.get(trial, trial[:12])

    def seconds_left(self) -> float | None:
        """Time left (s); None before anything is measured and when nothing is left."""
        if self._time_left is None or self.done >= self.total:
            return None
        with self._lock:
            now = self.clock.tick()
            if self._estimate is not None and len(self.running) > MANY_RUNNING:
                at, seconds = self._estimate
                if now - at < ESTIMATE_SECONDS:
                    return max(0.0, seconds - (now - at))
            seconds = self._time_left.seconds(now)
            self._estimate = None if seconds is None else (now, seconds)
            return seconds

    def remaining(self) -> str:
        """The time left as text; `""` if it is not known."""
        if self.waits:
            return "waiting for a worker"
        seconds = self.seconds_left()
        return f"{duration(seconds)} left" if seconds is not None and seconds >= 0.5 else ""

    def throughput(self) -> str:
        """Trials per minute or hour since training started; `""` before the first outcome."""
        seconds = self.clock.tick() - self.started if self.started is not None else 0.0
        if not self.done or seconds <= 0:
            return ""
        rate = 60 * self.done / seconds
        rate, unit = (rate, "min") if rate >= 1 else (60 * rate, "h")
        return f"{rate:.{0 if rate >= 10 else 1}f} trials/{unit}"

    def summary(self) -> str:
        """Counts, throughput, and time left in one line."""
        if not self.total:
            return f"nothing to train, {self.cached} cached" if self.cached else "preparing"
        counts = (
            (self.cached, "cached"),
            (len(self.running), "running"),
            (self.diverged, "diverged"),
            (self.failed, "failed"),
        )
        texts = [f"{self.done}/{self.total} trials trained", *(f"{number} {word}" for number, word in counts if number)]
        unknown = self.done < self.total and not self.waits and self.seconds_left() is None
        left = "estimating time" if unknown else self.remaining()
        return ", ".join(filter(None, [*texts, self.throughput(), left]))


def duration(seconds: float) -> str:
    """Seconds in a readable unit: 8 s, 6 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
