"""Time left of a run, from the measured time of trials and epochs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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


@dataclass(eq=False)
class _Pack:
    """A pack that trains.

    Attributes:
        running: Its trials without an outcome.
        reported: When it last reported (s).
    """

    running: set[str]
    reported: float


class _Kinds:
    """Trials that have not started, and measured times, by planned time.

    The sums change with each event, so that an estimate visits only the trials that train, however many there are.

    Attributes:
        waiting: Planned time to the number of trials that have not started.
        planned: Sum of the planned times that have a measured time (s).
        measured: Sum of those measured times (s).
    """

    def __init__(self, works: Iterable[float]):
        self.waiting = Counter(works)
        self.planned = self.measured = 0.0
        self._finished: dict[float, tuple[int, float]] = {}
        self._known_seconds = 0.0  # of trials that have not started, at the measured times
        self._unknown_work = sum(kind * count for kind, count in self.waiting.items())  # of those without one

    def time(self, kind: float) -> float | None:
        """Mean time of the finished trials of a kind (s)."""
        count, seconds = self._finished.get(kind, (0, 0.0))
        return seconds / count if count else None

    def start(self, kind: float) -> None:
        """A trial of this kind does not wait any more."""
        self.waiting[kind] -= 1
        time = self.time(kind)
        if time is None:
            self._unknown_work -= kind
        else:
            self._known_seconds -= time

    def finish(self, kind: float, seconds: float) -> None:
        """A trial of this kind took this time (s)."""
        count, total = self._finished.get(kind, (0, 0.0))
        before, waiting = self.time(kind), self.waiting[kind]
        self._finished[kind] = count + 1, total + seconds
        change = (total + seconds) / (count + 1) - (before or 0.0)
        if before is None:
            self.planned += kind
            self._unknown_work -= waiting * kind
        self.measured += change
        self._known_seconds += waiting * change

    def waiting_seconds(self, paces: Mapping[float, float], scale: float) -> float:
        """Time of the trials that have not started (s): at measured times, at the paces of running trials, or scaled."""
        unknown, paced = self._unknown_work, 0.0
        for kind, time in paces.items():
            unknown -= self.waiting[kind] * kind
            paced += self.waiting[kind] * time
        return max(0.0, self._known_seconds) + paced + max(0.0, unknown) * scale


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
        self._running: dict[str, _Running] = {}
        self._packs: dict[str, _Pack] = {}  # by running trial; the same one for all trials of a pack
        self._pending = set(work)
        self._kinds = _Kinds(work.values())

    def update(self, event: Started | EpochDone | Finished | Failed, now: float) -> None:
        """Add an event that happened at `now` (s)."""
        if isinstance(event, Started):
            self._start(event, now)
            return
        trial = self._running.get(event.trial)
        if isinstance(event, EpochDone):
            if trial is not None:
                trial.last = event.epoch, event.seconds
                trial.first = trial.first or trial.last
            if event.trial in self._packs:
                self._packs[event.trial].reported = now
            return
        self._leave_pending(event.trial)
        self._running.pop(event.trial, None)
        if event.trial in self._packs:
            self._packs.pop(event.trial).running.discard(event.trial)
        if isinstance(event, Finished) and event.status == "finished" and event.trial in self._work:
            self._kinds.finish(self._work[event.trial], event.seconds)

    def _start(self, event: Started, now: float) -> None:
        """A pack starts; one that contains a trial of it has ended."""
        for trial in event.trials:
            for member in self._packs[trial].running if trial in self._packs else ():
                del self._packs[member]
        pack = _Pack(set(event.trials), now)
        for trial in event.trials:
            self._packs[trial] = pack
            self._running[trial] = _Running(event.epochs)
            self._leave_pending(trial)

    def _leave_pending(self, trial: str) -> None:
        if trial in self._pending:
            self._pending.remove(trial)
            self._kinds.start(self._work[trial])

    def seconds(self, now: float) -> float | None:
        """Time left at `now` (s); None before anything is measured."""
        kinds, paces = self._kinds, self._paces()
        planned, measured = kinds.planned + sum(paces), kinds.measured + sum(paces.values())
        scale = measured / planned if planned else 1.0 if self._planned_is_measured else None
        if scale is None:
            return None

        def cost(trial: str) -> float:
            work = self._work.get(trial, 0.0)
            time = kinds.time(work)
            return time if time is not None else paces.get(work, work * scale)

        packs = [
            self._pack_left(pack, cost, now) for pack in {id(pack): pack for pack in self._packs.values()}.values()
        ]
        return max([(sum(packs) + kinds.waiting_seconds(paces, scale)) / self._workers, *packs])

    def _paces(self) -> dict[float, float]:
        """Planned time of the kinds without a finished trial to the time of running ones at their pace (s)."""
        paces: dict[float, list[float]] = {}
        for trial, running in self._running.items():
            total = running.total()
            if total is not None and trial in self._work and self._kinds.time(self._work[trial]) is None:
                paces.setdefault(self._work[trial], []).append(total)
        return {kind: fmean(times) for kind, times in paces.items()}

    def _pack_left(self, pack: _Pack, cost: Callable[[str], float], now: float) -> float:
        """Time until a pack ends (s): what its trials need, without what they have had and the time since they reported."""
        left = 0.0
        for trial in pack.running:
            last = self._running[trial].last
            left += max(0.0, cost(trial) - (last[1] if last else 0.0))
        return max(0.0, left - (now - pack.reported))
