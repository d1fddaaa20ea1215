"""Writes what a node without the store's file system sends, and holds the leases of its trials. No Ray."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from fathomlab.execute.events import Event, Finished, Idle, Refused, Started, Warned
from fathomlab.execute.executors.ray.transfer import Inbox, Update
from fathomlab.execute.pack.claim import claim, unwritable
from fathomlab.prepare.jobs import Job
from fathomlab.store.leases import Lease


class Delivery:
    """One job of such a node. A trial is reported as finished only when its result is in the store.

    Attributes:
        lease: The lease for its trials without a result.
    """

    def __init__(self, job: Job, lease: Lease):
        """Take what `leased` claims."""
        self._job, self.lease, self._inbox = job, lease, Inbox(job, lease)
        self._finished: list[Finished] = []
        self._warned = False

    def write(self, events: tuple[Event, ...], update: Update | None) -> tuple[Event, ...]:
        """Write an update; returns the events to report. If the last one cannot be written, the job is refused.

        Raises:
            LeaseLostError: If another process has taken over a trial.
            CorruptFileError: If a file is not what the node wrote.
        """
        events = tuple(replace(event, lease=self.lease.id) if isinstance(event, Started) else event for event in events)
        if update is None:
            return events
        self._finished += [event for event in events if isinstance(event, Finished)]
        others = tuple(event for event in events if not isinstance(event, Finished))
        try:
            self._inbox.write(update)
        except OSError as error:
            cause = unwritable(self._job, error)
            if others and isinstance(others[-1], Idle):
                return (*others[:-1], Refused(cause, ""), others[-1])
            if self._warned:
                return others
            self._warned = True
            return (Warned(f"{cause}. Trying again at the next checkpoint."), *others)
        finished, self._finished, self._warned = tuple(self._finished), [], False
        with suppress(OSError):  # checkpoints that stay do no harm
            self._inbox.finish()
        return (*others[: _end(others)], *finished, *others[_end(others) :])


def _end(events: tuple[Event, ...]) -> int:
    """Where results belong among events: before the event that ends the job."""
    return next(
        (index for index, event in enumerate(events) if event.event in ("idle", "stopped", "died")), len(events)
    )


@contextmanager
def leased(job: Job, node: str) -> Iterator[Delivery]:
    """Hold leases for the trials of a job while a node trains them.

    Raises:
        LeaseHeldError: If another process trains one of them.
        NotClaimedError: If the store cannot be written.
    """
    with claim(replace(job, leases=True), node) as lease:
        assert lease is not None
        yield Delivery(job, lease)
