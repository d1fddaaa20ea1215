"""Time left of a run, from the measured time of trials and epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fathomlab.execute.events import EpochDone, Failed, Finished, Started


@dataclass
class _Running:
    """A trial that trains.

    Attributes:
        epochs: Its epochs.
        first: Epoch and training time (s) when it first reported; an epoch before the first has no share of preparation.
        last: The newest epoch and training time (s).
    """

    epochs: int
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None

    def total(self) -> float | None:
        """Its training time at the pace so far (s); None before the first epoch."""
        if self.first is None or self.last is None:
            return None
        epochs, seconds = self.last[0] - self.first[0], self.last[1] - self.first[1]
        pace = seconds / epochs if epochs else self.last[1] / self.last[0]
        return self.last[1] + pace * (self.epochs - self.last[0])


class TimeLeft:
    """The estimate of a round of training.

    Trials of equal planned time are of one kind. The time of a trial is that of finished trials of its kind, else the pace of
    running ones, else its planned time times measured over planned time of all kinds that have been measured. Training times
    are those of a pack, divided by its trials, so that their sum is the time that workers need.
    """

    def __init__(self, work: Mapping[str, float], workers: int, measured: bool):
        """Nothing has started.

        Args:
            work: Trial to planned training time (s).
            workers: Number of packs that train at the same time.
            measured: Whether the planned times were measured, so that they count before any trial of this run.
        """
        self._work, self._workers, self._planned_is_measured = work, workers, measured
        self._finished: dict[float, list[float]] = {}
        self._running: dict[str, _Running] = {}
        self._packs: dict[tuple[str, ...], float] = {}
        self._pending = set(work)

    def update(self, event: Started | EpochDone | Finished | Failed, now: float) -> None:
        """Add an event that happened at `now` (s)."""
        if isinstance(event, Started):
            self._packs = {pack: time for pack, time in self._packs.items() if not set(pack) & set(event.trials)}
            self._packs[event.trials] = now
            self._running |= {trial: _Running(event.epochs) for trial in event.trials}
            self._pending -= set(event.trials)
            return
        trial = self._running.get(event.trial)
        if isinstance(event, EpochDone):
            if trial is not None:
                trial.last = event.epoch, event.seconds
                trial.first = trial.first or trial.last
            for pack in self._packs:
                if event.trial in pack:
                    self._packs[pack] = now
            return
        self._pending.discard(event.trial)
        self._running.pop(event.trial, None)
        if isinstance(event, Finished) and event.status == "finished" and event.trial in self._work:
            self._finished.setdefault(self._work[event.trial], []).append(event.seconds)

    def seconds(self, now: float) -> float | None:
        """Time left at `now` (s); None before anything is measured."""
        kinds = self._kinds()
        planned = sum(kinds)
        scale = sum(kinds.values()) / planned if planned else 1.0 if self._planned_is_measured else None
        if scale is None:
            return None

        def cost(trial: str) -> float:
            work = self._work.get(trial, 0.0)
            return kinds.get(work, work * scale)

        packs = [self._pack_left(pack, [cost(trial) for trial in pack], now) for pack in self._packs]
        pending = sum(cost(trial) for trial in self._pending)
        return max([(sum(packs) + pending) / self._workers, *packs])

    def _kinds(self) -> dict[float, float]:
        """Planned time of a kind to its measured time (s)."""
        paces: dict[float, list[float]] = {}
        for trial, running in self._running.items():
            total = running.total()
            if total is not None and trial in self._work:
                paces.setdefault(self._work[trial], []).append(total)
        return {kind: fmean(times) for kind, times in (paces | self._finished).items()}

    def _pack_left(self, pack: Sequence[str], costs: Sequence[float], now: float) -> float:
        """Time until a pack ends (s): what its trials need, without what they have had and the time since they reported."""
        left = 0.0
        for trial, cost in zip(pack, costs, strict=True):
            running = self._running.get(trial)
            if running is not None:
                left += max(0.0, cost - (running.last[1] if running.last else 0.0))
        return max(0.0, left - (now - self._packs[tuple(pack)]))
