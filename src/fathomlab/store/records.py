"""Trials and experiments in the store, as values. Their fields have the names of the JSON keys on disk. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.labels import Levels, flatten_keys
from fathomlab.store.predictions import PREDICTIONS, StoredLabels, read_classes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Number: TypeAlias = int | float
Environment: TypeAlias = Mapping[str, str | int | None]
Snapshot: TypeAlias = dict[str, Any]  # a line of a probe's log: step, epoch, and the columns that the probe declares
ResultStatus: TypeAlias = Literal["finished", "failed", "diverged"]
TERMINAL_STATUSES = ("finished", "diverged")  # the trial is not trained again


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 and size (bytes) of a file when the result was written."""

    sha256: str
    size: int = 0


@dataclass(frozen=True)
class Outcome:
    """Results on the test set in addition to loss and accuracy; see `fathomlab.probes.outcome`. All None if it diverged.

    Attributes:
        predicted: Number of images for which each class is predicted.
        calibration_error: Expected calibration error (fraction).
        bins: Confidence, accuracy, and number of images of each bin; None if the bin is empty.
        agreement: Fraction of images for which the teacher predicts the same class; None without teacher.
        examples: Number of test images.
    """

    predicted: tuple[int, ...] | None = None
    calibration_error: Number | None = None
    bins: tuple[tuple[Number | None, ...], ...] | None = None
    agreement: Number | None = None
    examples: int | None = None


@dataclass(frozen=True)
class BackendBuild:
    """The backend that computed the steps: its name, and the versions and processor features that it was built with."""

    name: str
    build: str


@dataclass(frozen=True)
class Resumption:
    """A checkpoint that training was resumed from: its step, and the environment and the pack that wrote it."""

    step: int
    environment: Environment
    members: tuple[str, ...]


@dataclass(frozen=True)
class Hardware:
    """Name of the processor, cores that the process may use, name of the GPU."""

    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Commit:
    """The commit of fathomlab, whether files differ from it, and the SHA-256 of that difference; None outside a repository."""

    commit: str | None = None
    dirty: bool = False
    patch: str | None = None


@dataclass(frozen=True)
class DataSource:
    """Name of the dataset, file names to SHA-256, files that are not the published ones, and notes on this copy."""

    name: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    unofficial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackSlot:
    """Number and hashes of the trials that were trained together, and the slot of this one."""

    size: int
    place: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginDigest:
    """Name and SHA-256 of a plugin file whose components a trial uses."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of a trial come from. A trial that failed before training has only the first three fields.

    Attributes:
        versions: Name of a library to its version.
        hardware: Processor and GPU.
        git: Commit of fathomlab.
        environment: What must be equal for a resumed trial to have the same bits.
        device: cpu or cuda.
        precision: Number format of training.
        backend: What computed the steps.
        threads: Threads per process.
        deterministic: How operations without a deterministic implementation are treated.
        data: The dataset and its files.
        started: Start of training, ISO 8601.
        resumed: The checkpoints that the trial was resumed from, in order.
        pack: The pack and the slot in it.
        plugins: Plugin files that the trial uses.
    """

    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    hardware: Hardware | None = None
    git: Commit | None = None
    environment: Environment | None = None
    device: str | None = None
    precision: str | None = None
    backend: BackendBuild | None = None
    threads: int | None = None
    deterministic: str | None = None
    data: DataSource | None = None
    started: str | None = None
    resumed: tuple[Resumption, ...] = ()
    pack: PackSlot | None = None
    plugins: tuple[PluginDigest, ...] = ()

    def to_json(self) -> JsonObject:
        """The fields by name, without those that are None."""
        return {key: value for key, value in to_plain(self).items() if value is not None}


@dataclass(frozen=True)
class Result:
    """The result of a trial, which is written last and finishes it.

    Attributes:
        status: finished, failed (an error), or diverged (a loss that was not finite).
        cause: Why it did not finish; None otherwise.
        parameters: Number of trained parameters.
        epochs: Completed epochs.
        steps: Completed steps.
        seconds: Training time (s).
        metrics: Accuracies (fractions), losses (nats), the best epoch.
        outcome: Further results on the test set.
        labels: The labels of the test set; None without predictions.
        fence: Number of the lease under which it was written. 0 until several hosts can share a store.
        files: Name of every other file to its hash.
    """

    status: ResultStatus
    cause: str | None = None
    parameters: int | None = None
    epochs: int | None = None
    steps: int | None = None
    seconds: Number | None = None
    metrics: Mapping[str, Number | None] = field(default_factory=dict[str, Number | None])
    outcome: Outcome = field(default_factory=Outcome)
    labels: StoredLabels | None = None
    fence: int = 0
    files: Mapping[str, FileDigest] = field(default_factory=dict[str, FileDigest])


@dataclass(frozen=True)
class TrialRecord:
    """Everything that the store contains about one trial.

    Attributes:
        trial: Its hash (64 hexadecimal digits).
        content: Its resolved options, nested; `{}` if corrupted.
        status: finished, failed, diverged, running (no result yet), interrupted (no result, and no process trains into this
            store), waiting (no directory yet), damaged (a file is corrupted), or outdated (of an older format, never reused).
        cause: Why it did not finish, or which file is corrupted or outdated; None otherwise.
        metrics: The numbers of the result; accuracies are fractions, losses nats.
        curves: Name of a metric to its value per epoch, None if not finite; includes "epoch" and "step".
        gradients: One mapping per snapshot of the gradient probe, in order.
        probes: Name of a probe to one mapping per snapshot, in order; includes gradients.
        outcome: Results on the test set in addition to accuracy.
        files: Name of every file except the result to its hash.
        labels: The labels of the test set; None without predictions.
        provenance: Versions, hardware, commit, data; empty if not recorded yet.
    """

    trial: str
    content: JsonObject
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
    labels: StoredLabels | None = None

    def predictions(self) -> "npt.NDArray[np.uint16] | None":
        """The class that the weights after the last epoch predict for each test image, in the test set's order.

        None if the predictions are not stored or are corrupted.
        """
        digest = self.files.get(PREDICTIONS)
        return read_classes(self.folder / PREDICTIONS, digest.sha256) if digest else None

    def correct(self) -> "npt.NDArray[np.bool_] | None":
        """Whether the weights after the last epoch classify each test image correctly, in the test set's order.

        None if predictions or labels are not stored or are corrupted.
        """
        if self.labels is None:
            return None
        predictions = self.predictions()
        labels = read_classes(self.labels.path(self.folder.parents[1]), self.labels.sha256)
        if predictions is None or labels is None or len(predictions) != len(labels):
            return None
        return predictions == labels


@dataclass(frozen=True)
class SeedTrial:
    """A seed of a condition and the hash of its trial."""

    seed: int
    trial: str


@dataclass(frozen=True)
class ConditionRecord:
    """One level of each factor, and its trials by seed."""

    label: str = ""
    role: str = "supervised"
    factors: Levels = field(default_factory=dict[str, object])
    depth: int | None = None
    trials: tuple[SeedTrial, ...] = ()


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment as stored.

    Attributes:
        name: Name of its directory; with `folder`, `cause`, and `outdated` not read from the document.
        cause: Which file is corrupted or outdated; None if there is none.
        outdated: Whether the record has an older format. It is not read then, so all other fields have their defaults.
        seal: The document's checksum.
    """

    name: str
    folder: Path
    cause: str | None = None
    outdated: bool = False
    title: str = ""
    question: str = ""
    source: str = ""
    yaml: str = ""
    overrides: tuple[str, ...] = ()
    quick: bool = False
    resolved: JsonObject = field(default_factory=dict[str, object])
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
    def fixed(self) -> Levels:
        """The options that all trials share, by dotted key."""
        return flatten_keys({key: value for key, value in self.resolved.items() if key not in ("factors", "seeds")})
