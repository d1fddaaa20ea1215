"""Writes what a node without the store's file system sends, and holds the leases of its trials. No Ray."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fathomlab.execute.events import Event, Finished, Started, Warned
from fathomlab.execute.executors.ray.transfer import Inbox, Update, unfinished_trials
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
        """Write an update; returns the events to report.

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
            if self._warned:
                return others
            self._warned = True
            reason = error.strerror or str(error)
            return (
                Warned(f"{self._job.root}: cannot write results: {reason}. Trying again at the next checkpoint."),
                *others,
            )
        finished, self._finished, self._warned = tuple(self._finished), [], False
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
    """
    with Lease(job.root, unfinished_trials(job), node, job.expired) as lease:
        yield Delivery(job, lease)
