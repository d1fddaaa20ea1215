"""Trials and experiments in the store, as values. Their fields have the names of the JSON keys on disk. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from annotated_types import MaxLen

from fathomlab.base.codec import JsonObject
from fathomlab.base.labels import Levels, flatten_keys
from fathomlab.config.published import Published
from fathomlab.config.schema import TuneOptions
from fathomlab.data.table import DatasetInfo
from fathomlab.probes.columns import ProbeDescription
from fathomlab.store.predictions import PREDICTIONS, StoredLabels, read_classes
from fathomlab.store.provenance import Provenance
from fathomlab.store.run_records import MAX_RUNS, RunRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Number: TypeAlias = int | float
ResultStatus: TypeAlias = Literal["finished", "failed", "diverged"]
STATUSES = ("finished", "diverged", "failed", "running", "interrupted", "waiting", "damaged", "outdated")
PROBES_FILE = "probes.json"
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
        brier: Brier score: mean of the squared distance of the probabilities from the label (0 to 2).
        temperature: T of temperature scaling, which minimizes the loss of the softmax of logits / T on the validation images.
        scaled_loss: Cross-entropy with this temperature (nats).
        scaled_calibration_error: Expected calibration error with this temperature (fraction).
        scaled_brier: Brier score with this temperature.
        teacher_kl: Mean KL(teacher || student) (nats); None without teacher.
        softened_kl: Mean KL(teacher || student) of the outputs at the temperature of the loss (nats); None without one.
    """

    predicted: tuple[int, ...] | None = None
    calibration_error: Number | None = None
    bins: tuple[tuple[Number | None, ...], ...] | None = None
    agreement: Number | None = None
    examples: int | None = None
    brier: Number | None = None
    temperature: Number | None = None
    scaled_loss: Number | None = None
    scaled_calibration_error: Number | None = None
    scaled_brier: Number | None = None
    teacher_kl: Number | None = None
    softened_kl: Number | None = None


@dataclass(frozen=True)
class Speed:
    """How fast a trained network answers, measured in the worker after training: evaluation in fp32, with one thread.

    Attributes:
        p50_seconds: Median time of one image (s).
        p95_seconds: 95th percentile of the time of one image (s).
        images_per_second: Throughput in batches of `batch` images.
        batch: Images per batch.
    """

    p50_seconds: Number
    p95_seconds: Number
    images_per_second: Number
    batch: int


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
        speed: Latency and throughput; None if they were not measured.
        table_seconds: Time to compute the teacher's outputs that this trial stored (s); None if it computed none.
        fence: Number of the lease under which it was written; 0 without one.
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
    speed: Speed | None = None
    table_seconds: Number | None = None
    fence: int = 0
    files: Mapping[str, FileDigest] = field(default_factory=dict[str, FileDigest])


@dataclass(frozen=True)
class ProbeSnapshot:
    """What a probe measured at a step.

    Attributes:
        step: Optimizer steps before it.
        epoch: Epochs before it.
        names: Axis (`layer`, `point`, ...) to the names of its entries, in the order of the network.
        columns: Name of each declared column to its numbers, one per entry of its axis; None if not finite.
        dtype: Format in which products were computed; "" if not recorded.
    """

    step: int
    epoch: int
    names: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, tuple[Number | None, ...]]
    dtype: str = ""


@dataclass(frozen=True)
class DescribedProbes:
    """The content of `probes.json`: the probes of plugins that measured a trial, as a report needs them."""

    probes: Mapping[str, ProbeDescription] = field(default_factory=dict[str, ProbeDescription])


@dataclass(frozen=True, repr=False)
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
        probes: Name of a probe to its snapshots, in order.
        descriptions: Name of a probe to its title and columns; from the store for probes of plugins.
        outcome: Results on the test set in addition to accuracy.
        files: Name of every file except the result to its hash.
        labels: The labels of the test set; None without predictions.
        provenance: Versions, hardware, commit, data; empty if not recorded yet.
        dataset: Facts about the dataset; None if they are unknown.
        speed: Latency and throughput; None if they were not measured.
        table_seconds: Time to compute the teacher's outputs that this trial stored (s); None if it computed none.
    """

    trial: str
    content: JsonObject
    status: str
    cause: str | None
    parameters: int | None
    metrics: Mapping[str, Number | None]
    curves: Mapping[str, list[Number | None]]
    provenance: Provenance
    seconds: Number | None
    folder: Path
    probes: Mapping[str, tuple[ProbeSnapshot, ...]] = field(default_factory=dict[str, tuple[ProbeSnapshot, ...]])
    outcome: Outcome = field(default_factory=Outcome)
    files: Mapping[str, FileDigest] = field(default_factory=dict[str, FileDigest])
    labels: StoredLabels | None = None
    descriptions: Mapping[str, ProbeDescription] = field(default_factory=dict[str, ProbeDescription])
    dataset: DatasetInfo | None = None
    speed: Speed | None = None
    table_seconds: Number | None = None

    def __repr__(self) -> str:
        """Start of the hash, and status."""
        return f"<record of trial {self.trial[:12]}: {self.status}>"

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


@dataclass(frozen=True, repr=False)
class ExperimentRecord:
    """One experiment as stored.

    Attributes:
        name: Name of its directory; with `folder`, `cause`, `outdated`, and `corrupted` not read from the document.
        cause: Which file is corrupted or outdated; None if there is none.
        outdated: Whether the record has an older format. It is not read then, so all other fields have their defaults.
        corrupted: Whether the file was read, and is not what was written.
        tune: The factors that are tuned, by their full keys, and the metric of the choice; None if there are none.
        equal_compute: Role to the role whose training MACs it spends on longer training.
        runs: The newest runs on several machines or with lost workers, the latest last.
        seal: The document's checksum.
    """

    name: str
    folder: Path
    cause: str | None = None
    outdated: bool = False
    corrupted: bool = False
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
    tags: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    conditions: tuple[ConditionRecord, ...] = ()
    claims: tuple[Any, ...] = ()
    claims_hash: str = ""
    claims_late: bool = False
    created: str = ""
    seconds: Number | None = None
    looks: tuple[Mapping[str, Number], ...] = ()
    tune: TuneOptions | None = None
    equal_compute: Mapping[str, str] = field(default_factory=dict[str, str])
    runs: Annotated[tuple[RunRecord, ...], MaxLen(MAX_RUNS)] = ()
    seal: str = ""

    def __repr__(self) -> str:
        """Name and number of conditions."""
        return f"<record of experiment {self.name}: {len(self.conditions)} conditions>"

    @property
    def fixed(self) -> Levels:
        """The options that all trials share, by dotted key."""
        return flatten_keys({key: value for key, value in self.resolved.items() if key not in ("factors", "seeds")})
