"""Collects from the events of a run what it used: nodes, workers, and packs that were started again."""

from datetime import UTC, datetime

from fathomlab.execute.events import Event, FleetChanged, Started
from fathomlab.store.run_records import MAX_NODES, RunRecord, node_name


class RunLog:
    """What a run has used so far."""

    def __init__(self, executor: str, packs: int):
        """A run that starts now."""
        self._executor, self._packs = executor, packs
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._nodes = set[str]()
        self._workers = 0
        self._last: FleetChanged | None = None

    def update(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, Started) and event.node:
            self._nodes.add(node_name(event.node))
        elif isinstance(event, FleetChanged):
            self._last, self._workers = event, max(self._workers, event.workers)

    def record(self, seconds: float) -> RunRecord | None:
        """The run, which took this time (s); None if this machine alone trained and nothing was lost or refused."""
        last = self._last or FleetChanged(0, 0, 0, 0, 0, 0)
        if not (self._nodes or last.retried or last.lost or last.refused):
            return None
        return RunRecord(
            self._executor,
            self._started,
            round(seconds, 3),
            tuple(sorted(self._nodes)[:MAX_NODES]),
            max(1, len(self._nodes)),
            max(1, self._workers),
            self._packs,
            last.retried,
            last.lost,
            last.refused,
        )
