"""Messages between the coordinator and the process with Ray's driver."""

import pickle
from dataclasses import dataclass
from typing import IO, Any

from fathomlab.execute.events import Event
from fathomlab.prepare.jobs import Job

HEADER = 8  # bytes


@dataclass(frozen=True)
class Submit:
    """Train a job under a number."""

    number: int
    job: Job


@dataclass(frozen=True)
class Cancel:
    """Give up a job."""

    number: int


@dataclass(frozen=True)
class Stop:
    """Ask every job to write a checkpoint and end."""

    signum: int


@dataclass(frozen=True)
class Workers:
    """The workers of the cluster.

    Attributes:
        capacity: Number of jobs that may be unfinished.
        nodes: Number of nodes with workers.
        workers: Number of workers.
        cpus: Number of CPUs, or GPUs, of alive nodes.
    """

    capacity: int = 0
    nodes: int = 0
    workers: int = 0
    cpus: int = 0


@dataclass(frozen=True)
class Progress:
    """What has happened to a job."""

    number: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Problem:
    """Something went wrong; the run ends if there is a code, which is that of a `UserError`."""

    text: str
    code: str = ""


def send(stream: IO[bytes], message: object) -> None:
    """Write a message."""
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(HEADER, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next message; None at the end of the stream."""
    header = stream.read(HEADER)
    if len(header) < HEADER:
        return None
    size = int.from_bytes(header, "big")
    data = stream.read(size)
    return pickle.loads(data) if len(data) == size else None
