"""The events about workers: how many there are, and which packs have lost theirs."""

from dataclasses import dataclass, field
from typing import Literal

from fathomlab.base.labels import count
from fathomlab.store.run_records import losses


@dataclass(frozen=True)
class FleetChanged:
    """The workers, and what they do. If all of them are on this machine, only after one was lost or a pack was refused.

    Attributes:
        nodes: Number of nodes with workers.
        workers: Number of workers.
        running: Packs that train.
        waiting: Packs that wait for a worker, for their parents, or for another process that trains them.
        retried: Packs that were started again so far.
        lost: Workers that were lost so far, alone or with their node.
        refused: Packs that a worker did not train so far, because another process does or because its environment differs.
    """

    event: Literal["fleet"] = field(default="fleet", kw_only=True)
    nodes: int
    workers: int
    running: int
    waiting: int
    retried: int
    lost: int
    refused: int = 0

    def text(self) -> str:
        """Its numbers in words.

        Example:
            >>> FleetChanged(3, 12, 10, 2, 1, 1).text()
            '3 nodes, 12 workers, 10 packs running, 2 waiting, 1 retried, 1 lost'
        """
        fleet = [count(self.nodes, "node"), count(self.workers, "worker"), f"{count(self.running, 'pack')} running"]
        fleet += [f"{self.waiting:,} waiting"] if self.waiting else []
        return ", ".join([*fleet, *losses(self.retried, self.lost, self.refused)])


@dataclass(frozen=True)
class Requeued:
    """A pack is not trained any more, because its worker has died or had to stop, and waits to be started again.

    Attributes:
        trials: Hashes of its trials without a result.
    """

    event: Literal["requeued"] = field(default="requeued", kw_only=True)
    trials: tuple[str, ...]
