"""What happens during a run, as values that are sent by workers, shown as progress, and written to the log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fathomlab.base.codec import to_plain
from fathomlab.store.records import Number


@dataclass(frozen=True)
class Planned:
    """A round of training starts.

    Attributes:
        trials: Number of trials in the plan.
        cached: Trials that have their outcome.
        packs: Packs to train.
        workers: Number of workers.
        work: Hash of each trial to train, to its expected time on one core (s).
        labels: Hash to condition and seed in words.
        measured: Whether the expected times are based on stored times of similar trials.
    """

    event: Literal["planned"] = field(default="planned", kw_only=True)
    trials: int
    cached: int
    packs: int
    workers: int
    work: Mapping[str, float]
    labels: Mapping[str, str]
    measured: bool = False


@dataclass(frozen=True)
class Note:
    """Something that is good to know.

    Attributes:
        text: The message.
    """

    event: Literal["note"] = field(default="note", kw_only=True)
    text: str


@dataclass(frozen=True)
class Warned:
    """Something went wrong, and the run continues.

    Attributes:
        text: The message.
    """

    event: Literal["warning"] = field(default="warning", kw_only=True)
    text: str


@dataclass(frozen=True)
class Started:
    """A pack has its data and starts to train.

    Attributes:
        trials: Hashes of its trials without a result.
        epochs: Number of epochs of each.
        time: When training started (s since 1970), as if all of it, before and after interruptions, were in one piece.
        node: The node of a cluster that trains; `""` on this machine.
        lease: The lease that the worker holds for the pack; `""` without one.
    """

    event: Literal["started"] = field(default="started", kw_only=True)
    trials: tuple[str, ...]
    epochs: int
    time: float = 0.0
    node: str = ""
    lease: str = ""


@dataclass(frozen=True)
class Saved:
    """A checkpoint of every trial of a pack without a result is on the disk.

    Attributes:
        trials: Hashes of these trials.
        step: Completed steps.
    """

    event: Literal["saved"] = field(default="saved", kw_only=True)
    trials: tuple[str, ...]
    step: int


@dataclass(frozen=True)
class Refused:
    """A worker does not train a job, or not to its end. `Idle` follows.

    Attributes:
        cause: The process that trains it, or what differs from the environment of its checkpoint.
        lease: The lease of that process, `""` if it is not known; None if the environment differs.
    """

    event: Literal["refused"] = field(default="refused", kw_only=True)
    cause: str
    lease: str | None = None


@dataclass(frozen=True)
class FleetChanged:
    """The workers of a cluster, and what they do. Only of executors that span machines.

    Attributes:
        nodes: Number of nodes with workers.
        workers: Number of workers.
        running: Packs that train.
        waiting: Packs that wait for a worker, for their parents, or for another process that trains them.
        retried: Packs that were started again so far.
        lost: Workers and nodes that were lost so far.
    """

    event: Literal["fleet"] = field(default="fleet", kw_only=True)
    nodes: int
    workers: int
    running: int
    waiting: int
    retried: int
    lost: int


@dataclass(frozen=True)
class EpochDone:
    """A trial has completed an epoch.

    Attributes:
        trial: Its hash.
        epoch: Completed epochs.
        metrics: Name to value; None if it is not finite.
        lr: Learning rate of the last step.
        seconds: Training time so far (s).
    """

    event: Literal["epoch"] = field(default="epoch", kw_only=True)
    trial: str
    epoch: int
    metrics: Mapping[str, float | None]
    lr: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The gradients probe has measured a trial, before the `EpochDone` of the same epoch. Only if trackers log gradients.

    Attributes:
        trial: Its hash.
        epoch: Completed epochs; 0 at initialization.
        gradients: Layer to the norm of its weight gradient, in network order; None if it is not finite.
    """

    event: Literal["measured"] = field(default="measured", kw_only=True)
    trial: str
    epoch: int
    gradients: Mapping[str, float | None]


@dataclass(frozen=True)
class Finished:
    """A trial has its outcome, and its result is in the store.

    Attributes:
        trial: Its hash.
        status: The outcome.
        cause: Why it diverged.
        seconds: Training time (s).
        metrics: Name to value; None if it is not finite or not measured.
        parameters: Number of trained parameters.
    """

    event: Literal["finished"] = field(default="finished", kw_only=True)
    trial: str
    status: Literal["finished", "diverged"]
    cause: str | None
    seconds: float
    metrics: Mapping[str, Number | None]
    parameters: int | None = None


@dataclass(frozen=True)
class Failed:
    """An error has ended a trial. Other programs read it as a kind of `finished`.

    Attributes:
        trial: Its hash.
        status: Always `failed`.
        cause: The error.
        seconds: Training time (s).
    """

    event: Literal["finished"] = field(default="finished", kw_only=True)
    trial: str
    status: Literal["failed"] = field(default="failed", kw_only=True)
    cause: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Effect:
    """The effect that the first claim is about, in the seeds that are finished so far. It is not a verdict.

    Attributes:
        claim: Name of the claim.
        effect: Mean effect, as in verdicts: a fraction (accuracies, successes) or nats (losses).
        low: Lower end of its 95% interval.
        high: Upper end.
        n: Number of seeds.
        text: The effect in words.
    """

    event: Literal["effect"] = field(default="effect", kw_only=True)
    claim: str
    effect: float
    low: float
    high: float
    n: int
    text: str


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its modules and takes jobs."""

    event: Literal["ready"] = field(default="ready", kw_only=True)


@dataclass(frozen=True)
class Idle:
    """A job has ended: each of its trials has its result, or could not write it."""

    event: Literal["idle"] = field(default="idle", kw_only=True)


@dataclass(frozen=True)
class Stopped:
    """A job has ended because a stop was requested. Its progress is saved."""

    event: Literal["stopped"] = field(default="stopped", kw_only=True)


@dataclass(frozen=True)
class Died:
    """What trained a job has ended without notice.

    Attributes:
        cause: How it ended, in words.
        output: What it printed last, one indented line each, each after a line break.
        out_of_memory: Whether memory probably ran out, so that few attempts are enough.
        lost: Whether the node was lost, or nothing is heard from it, so that the job is not the cause.
    """

    event: Literal["died"] = field(default="died", kw_only=True)
    cause: str
    output: str = ""
    out_of_memory: bool = False
    lost: bool = False


Event: TypeAlias = (
    Planned
    | Note
    | Warned
    | Started
    | Saved
    | Refused
    | FleetChanged
    | EpochDone
    | Measured
    | Finished
    | Failed
    | Effect
    | Ready
    | Idle
    | Stopped
    | Died
)
Emit: TypeAlias = Callable[[Event], None]


def to_document(event: Event) -> dict[str, Any]:
    """The event as other programs read it: the metrics of an epoch stand next to its number."""
    document = to_plain(event)
    if isinstance(event, EpochDone):
        document |= document.pop("metrics")
    return document
