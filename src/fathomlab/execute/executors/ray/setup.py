"""What the process with Ray's driver and the workers on nodes are started with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOCAL = "local"


@dataclass(frozen=True)
class RaySetup:
    """What a run tells its workers.

    Attributes:
        root: The store.
        token: A file of the store with random text, by which a worker finds out whether it shares the file system.
        secret: The text.
        run: Random name of the run.
        device: auto, cpu, or cuda.
        workers: Number of jobs at the same time; None for as many as the nodes have CPUs, or GPUs.
        code: Digest of the code that decides numbers. Nodes with other code are not used.
        variables: Environment variables of workers.
        address: The cluster; "local" to start one on this machine.
    """

    root: Path
    token: Path
    secret: str
    run: str
    device: str
    workers: int | None
    code: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = LOCAL
