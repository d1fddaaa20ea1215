"""What a run on several machines used, or one that lost workers: a list in the record of an experiment. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

from annotated_types import Interval, MaxLen

from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars

MAX_RUNS = 20  # of an experiment; the newest ones
MAX_NODES = 64  # whose names a run records
MAX_NAME = 100  # characters
Name: TypeAlias = Annotated[str, MaxLen(MAX_NAME)]
Count: TypeAlias = Annotated[int, Interval(ge=0, le=2**53)]


@dataclass(frozen=True)
class RunRecord:
    """What a run on several machines used, or one that lost workers.

    Attributes:
        executor: Where its workers ran: `ray`, `slurm`, `local`, or `inline`.
        started: Start of the run, ISO 8601.
        seconds: Its time, without suspensions (s).
        nodes: Names of the nodes that trained, in order, at most 64; empty for this machine.
        node_count: Number of nodes that trained.
        workers: Largest number of workers at the same time.
        packs: Packs to train.
        retried: Packs that were started again, because their worker was lost.
        lost: Workers that were lost, alone or with their node.
        refused: Packs that a worker did not train, because another process did or because its environment differed.
    """

    executor: Name
    started: Annotated[str, MaxLen(40)]
    seconds: Annotated[float, Interval(ge=0, le=1e12)]
    nodes: Annotated[tuple[Name, ...], MaxLen(MAX_NODES)] = ()
    node_count: Count = 1
    workers: Count = 1
    packs: Count = 0
    retried: Count = 0
    lost: Count = 0
    refused: Count = 0

    def text(self) -> str:
        """What it used, in words.

        Example:
            >>> RunRecord("ray", "", 1.0, ("a", "b"), 2, 4, 10, 1, 1).text()
            'ray: 2 nodes, 4 workers, 10 packs, 1 retried, 1 lost'
        """
        numbers = (count(self.node_count, "node"), count(self.workers, "worker"), count(self.packs, "pack"))
        return f"{self.executor}: {', '.join([*numbers, *losses(self.retried, self.lost, self.refused)])}"

    def __add__(self, other: "RunRecord") -> "RunRecord":
        """This run and a later one of the same command as one."""
        nodes = tuple(sorted({*self.nodes, *other.nodes}))
        fewest = max(self.node_count, other.node_count)
        return replace(
            self,
            seconds=self.seconds + other.seconds,
            nodes=nodes[:MAX_NODES],
            node_count=max(fewest, len(nodes)),
            workers=max(self.workers, other.workers),
            packs=self.packs + other.packs,
            retried=self.retried + other.retried,
            lost=self.lost + other.lost,
            refused=self.refused + other.refused,
        )


def losses(retried: int, lost: int, refused: int) -> list[str]:
    """These numbers with their words, without zeros."""
    counts = ((retried, "retried"), (lost, "lost"), (refused, "refused"))
    return [f"{number:,} {word}" for number, word in counts if number]


def node_name(text: str) -> str:
    """The name of a node as records contain it, without control characters."""
    return escape_control_chars(text)[:MAX_NAME]


def latest(runs: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """The newest runs, as many as an experiment records."""
    return tuple(runs)[-MAX_RUNS:]
