"""Trials and experiments in the store, as values. Their fields have the names of the JSON keys on disk. No torch."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fathomlab.base.labels import flatten_keys

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Number: TypeAlias = int | float
Environment: TypeAlias = Mapping[str, str | int | None]
Snapshot: TypeAlias = dict[str, Any]  # a line of a probe's log: step, epoch, and the columns that the probe declares
ResultStatus: TypeAlias = Literal["finished", "failed", "diverged"]
TERMINAL_STATUSES = ("finished", "diverged")  # the trial is not trained again


class JsonFields(Mapping[str, Any]):
    """A dataclass that can also be read like its JSON object. A field that is None is not a key."""

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, key, None) if key in _names(self) else None
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in _names(self) if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _names(value: Any) -> list[str]:
    return [item.name for item in fields(value)]


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 and size (bytes) of a file when the result was written."""

    sha256: str
    size: int = 0


@dataclass(frozen=True, eq=False)
class Outcome(JsonFields):
    """Results on the test set in addition to loss and accuracy; see `fathomlab.probes.outcome`.

    Attributes:
        predicted: Number of images for which each class is predicted.
        calibration_error: Expected calibration error (fraction).
        bins: Confidence, accuracy, and number of images of each bin.
        agreement: Fraction of images for which the teacher predicts the same class.
        examples: Number of test images.
    """

    predicted: list[int] | None = None
    calibration_error: Number | None = None
    bins: list[list[Number | None]] | None = None
    agreement: Number | None = None
    examples: int | None = None


@dataclass(frozen=True, eq=False)
class BackendBuild(JsonFields):
    """The backend that computed the steps: its name, and the versions and processor features that it was built with."""

    name: str
    build: str


@dataclass(frozen=True, eq=False)
class Provenance(JsonFields):
    """Where the numbers of a trial come from. A trial that failed before training has the first three fields.

    Attributes:
        versions: Name of a library to its version.
        hardware: Processor, cores, GPU.
        git: Commit, whether files differ from it, SHA-256 of that difference.
        environment: What must be equal for a resumed trial to have the same bits.
        device: cpu or cuda.
        precision: Number format of training.
        backend: What computed the steps.
        threads: Threads per process.
        deterministic: How operations without a deterministic implementation are treated.
        data: Name, files with SHA-256, unofficial files, notes.
        started: Start of training, ISO 8601.
        resumed: Step, environment, and pack of each checkpoint that the trial was resumed from.
        pack: Size and members of the pack, and the slot in it.
        plugins: File name to SHA-256 of each plugin that the trial uses.
    """

    versions: Mapping[str, str] | None = None
    hardware: Mapping[str, str | int | None] | None = None
    git: Mapping[str, str | bool | None] | None = None
    environment: Environment | None = None
    device: str | None = None
    precision: str | None = None
    backend: BackendBuild | None = None
    threads: int | None = None
    deterministic: str | None = None
    data: Mapping[str, str | list[str] | Mapping[str, str]] | None = None
    started: str | None = None
    resumed: list[Mapping[str, int | list[str] | Environment]] | None = None
    pack: Mapping[str, int | list[str]] | None = None
    plugins: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Result:
    """The result of a trial, which is written last and finishes it.

    Attributes:
        status: finished, failed (an error), or diverged (a loss that was not finite).
        cause: Why it did not finish; None otherwise.
        parameters: Number of trained parameters.
        seconds: Training time (s).
        metrics: Accuracies (fractions), losses (nats), the best epoch.
        outcome: Further results on the test set.
        files: Name of every other file to its hash.
    """

    status: ResultStatus
    cause: str | None = None
    parameters: int | None = None
    seconds: Number | None = None
    metrics: Mapping[str, Number | None] = field(default_factory=dict[str, Number | None])
    outcome: Outcome = field(default_factory=Outcome)
    files: Mapping[str, FileDigest] = field(default_factory=dict[str, FileDigest])


@dataclass(frozen=True)
class TrialRecord:
    """Everything that the store contains about one trial.

    Attributes:
        trial: Its hash (64 hexadecimal digits).
        content: Its resolved options, nested; `{}` if corrupted.
        status: finished, failed, diverged, running (no result yet), interrupted (no result, and no process trains into this
            store), waiting (no directory yet), or damaged (a file is corrupted).
        cause: Why it did not finish, or which file is corrupted; None otherwise.
        metrics: The numbers of the result; accuracies are fractions, losses nats.
        curves: Name of a metric to its value per epoch, None if not finite; includes "epoch" and "step".
        gradients: One mapping per snapshot of the gradient probe, in order.
        probes: Name of a probe to one mapping per snapshot, in order; includes gradients.
        outcome: Results on the test set in addition to accuracy.
        provenance: Versions, hardware, commit, data; empty if not recorded yet.
    """

    trial: str
    content: Mapping[str, Any]
    status: str
    cause: str | None
    parameters: int | None
    metrics: Mapping[str, Number | None]
    curves: Mapping[str, list[Number | None]]
    gradients: list[Snapshot]
    provenance: Provenance
    seconds: Number | None
    folder: Path
    probes: Mapping[str, list[Snapshot]] = field(default_factory=dict[str, list[Snapshot]])
    outcome: Outcome = field(default_factory=Outcome)
    files: Mapping[str, FileDigest] = field(default_factory=dict[str, FileDigest])

    def correct(self) -> "npt.NDArray[np.bool_] | None":
        """Whether the weights after the last epoch classify each test image correctly, in the test set's order.

        None if this is not stored or is corrupted.
        """
        import numpy as np

        digest, examples = self.files.get("correct.bin"), self.outcome.get("examples")
        try:
            packed = (self.folder / "correct.bin").read_bytes()
        except OSError:
            return None
        if digest is None or hashlib.sha256(packed).hexdigest() != digest.sha256:
            return None
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=int(examples or 0)).astype(bool)


@dataclass(frozen=True)
class ConditionRecord:
    """One level of each factor, and its trials as (seed, hash)."""

    label: str = ""
    role: str = "supervised"
    factors: Mapping[str, Any] = field(default_factory=dict[str, Any])
    depth: int | None = None
    trials: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment as stored; `cause` names a corrupted file, None if there is none. `seal` is the document's checksum."""

    name: str
    folder: Path
    cause: str | None = None
    title: str = ""
    question: str = ""
    source: str = ""
    yaml: str = ""
    overrides: tuple[str, ...] = ()
    quick: bool = False
    resolved: Mapping[str, Any] = field(default_factory=dict[str, Any])
    factors: tuple[str, ...] = ()
    headline: Literal["last", "best"] = "last"
    seeds: tuple[int, ...] = ()
    logging: Mapping[str, str | bool] = field(default_factory=dict[str, str | bool])
    conditions: tuple[ConditionRecord, ...] = ()
    claims: tuple[Any, ...] = ()
    claims_hash: str = ""
    claims_late: bool = False
    created: str = ""
    seconds: Number | None = None
    looks: tuple[Mapping[str, Number], ...] = ()
    seal: str = ""

    @property
    def fixed(self) -> dict[str, Any]:
        """The options that all trials share, by dotted key."""
        return flatten_keys({key: value for key, value in self.resolved.items() if key not in ("factors", "seeds")})
