"""`run.slurm`: what an experiment requests from a Slurm cluster."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from fathomlab.base.errors import Issue, format_value
from fathomlab.base.options import PositiveFloat, PositiveInt

NAME = re.compile(r"[A-Za-z0-9_.,:@+-]{1,200}")
CONSTRAINT = re.compile(r"[A-Za-z0-9_.,:@+&|()\[\]*-]{1,200}")
MAX_ARRAY_PARALLELISM = 10_000


@dataclass(frozen=True)
class SlurmOptions:
    """`run.slurm`: what a job array requests. Only the executor `slurm` reads it, and it is no part of a trial's identity.

    Attributes:
        partition: Partition; the cluster's default if not given.
        account: Account that is charged.
        qos: Quality of service.
        time: Time limit of each pack (minutes). At the limit, a pack writes a checkpoint and returns to the queue.
        memory: Memory of each pack (GB); the cluster's default if not given.
        cpus: CPUs of each pack. Training uses one thread.
        gpus: GPUs of each pack.
        constraint: Required features of a node, such as `a100|h100`.
        array_parallelism: Number of packs that train at the same time. By default as many as the cluster admits.
        setup: Shell lines that run on the node before the training, such as `module load python`.
        signal_delay_s: Time between the request for a checkpoint and the time limit (s).
        cluster: `slurm`, or `local` to try the same on this machine without Slurm.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: Annotated[int, Interval(ge=1, le=525_600)] = 60
    memory: PositiveFloat | None = None
    cpus: PositiveInt = 1
    gpus: Annotated[int, Interval(ge=1)] | None = None
    constraint: str | None = None
    array_parallelism: Annotated[int, Interval(ge=1, le=MAX_ARRAY_PARALLELISM)] | None = None
    setup: tuple[str, ...] = ()
    signal_delay_s: Annotated[int, Interval(ge=10, le=3600)] = 90
    cluster: Literal["slurm", "local"] = "slurm"

    def validate(self) -> list[Issue]:
        """Names that are not single words, and a signal that would be sent before the job starts."""
        issues: list[Issue] = []
        for key, pattern in (("partition", NAME), ("account", NAME), ("qos", NAME), ("constraint", CONSTRAINT)):
            value = getattr(self, key)
            if value is not None and not pattern.fullmatch(value):
                text = "must be one word of letters, digits, and the characters that Slurm uses in names"
                issues.append(Issue("invalid-value", key, f"{text}, got {format_value(value)}"))
        for index, line in enumerate(self.setup):
            if not line.strip() or not line.isprintable():
                text = f"must be one line of shell commands, got {format_value(line)}"
                issues.append(Issue("invalid-value", f"setup[{index}]", text))
        if self.signal_delay_s >= 60 * self.time:
            text = f"must be shorter than the time limit of {self.time} min, got {self.signal_delay_s} s"
            issues.append(Issue("conflict", "signal_delay_s", text))
        return issues


@dataclass(frozen=True)
class RunSection:
    """`run`: where an experiment is trained. Other options of a run are overrides.

    Attributes:
        slurm: What each job array requests from a Slurm cluster.
    """

    slurm: SlurmOptions = field(default_factory=SlurmOptions)
