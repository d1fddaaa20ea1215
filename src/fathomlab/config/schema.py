"""The sections of an experiment file, with the seed's keys, meanings and defaults.

Sections that name a part (`model.type`, `training.optimizer`) hold the name and its raw options; the layer that owns the
table checks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fathomlab.base.catalogue import Bound, Count, Fraction, Positive, plain
from fathomlab.base.problems import Problem

Epochs = Annotated[int, Bound(least=1, most=100_000)]
Metric = Literal[
    "test/accuracy",
    "test/loss",
    "val/accuracy",
    "val/loss",
    "train/accuracy",
    "train/loss",
    "best/test/accuracy",
    "best/val/accuracy",
]


@dataclass(frozen=True)
class DataOptions:
    """`data`: which images, how they are split, batched and augmented.

    Attributes:
        name: Data set; MNIST for an MLP and CIFAR-10 for a CNN where it is not given.
        batch_size: Images a training step; the last batch of an epoch may be smaller and is kept.
        validation_split: Share of the training images held out [per cent], stratified by class.
        num_workers: Accepted for the seed's files; the data live on the device, so it does nothing.
        augment: Any of `flip`, `crop`.
        limit: Use only so many training images (a stratified sample, the same for every seed).
        params: Options of the data set itself.
    """

    name: str | None = None
    batch_size: Annotated[int, Bound(least=1, most=1_000_000)] = 128
    validation_split: Annotated[float, Bound(above=0, most=90)] = 20.0
    num_workers: Annotated[int, Bound(least=0)] = 0
    augment: tuple[str, ...] = ()
    limit: Annotated[int, Bound(least=2)] | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelChoice:
    """`model`, `teacher_model`, `student_model`: a name from the table of models and its options."""

    type: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingOptions:
    """`training`, `training_teacher`, `training_student`: names as torch spells them.

    Attributes:
        epochs: Passes over the training images.
        criterion: Loss on the labels.
        optimizer: Optimiser; `optimizer_params` are its options beside the learning rate.
        lr: Learning rate at the start.
        scheduler: Learning-rate schedule or none; `scheduler_params` are its options.
        precision: Number format of the matrix products; parameters and statistics stay in fp32 (fp64 with fp64). bf16 runs
            only after a self-test on the network's own shapes; auto takes it where it is right and pays.
        label_smoothing: Share of the label spread evenly over the classes.
        gradient_clip: Largest norm of the whole gradient, or none.
    """

    epochs: Epochs
    criterion: str = "CrossEntropyLoss"
    optimizer: str = "Adam"
    lr: Positive = 0.001
    scheduler: str | None = None
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    scheduler_params: dict[str, Any] = field(default_factory=dict)
    precision: Literal["fp32", "bf16", "auto", "fp64"] = "fp32"
    label_smoothing: Fraction = 0.0
    gradient_clip: Positive | None = None


@dataclass(frozen=True)
class DistillationOptions:
    """`distillation`: (1 - alpha) cross-entropy + alpha T^2 KL(teacher || student).

    Attributes:
        temperature: T, softens both networks' outputs.
        alpha: Weight of the teacher.
    """

    temperature: Annotated[float, Bound(above=0, most=1e6)] = 3.0
    alpha: Annotated[float, Bound(least=0, most=1)] = 0.7


@dataclass(frozen=True)
class Factor:
    """A factor with a condition: it varies only where all keys of `when` have the given levels."""

    levels: tuple[Any, ...]
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentOptions:
    """`experiment`: what varies, how often it is repeated, what is measured.

    Attributes:
        title: Heading of the report.
        question: What the experiment asks, one or two sentences.
        depths: Levels of the model's depth; without `factors` crossed with residual false and true, as the seed runs it.
        widths: Levels of the model's width.
        factors: Dotted key -> list of levels, or `{levels, when}`.
        seeds: How many replicates (seed, seed + 1, ...), or their list.
        analyze_gradients: Measure gradient norms per layer at initialisation, after step 1 and after each epoch.
        probes: What else to measure: names of probes, or name -> {at: [init, epochs, end, log, step numbers], options}.
        headline: Which weights the answer is about: those of the last epoch, or the best on validation.
    """

    title: str = ""
    question: str = ""
    depths: tuple[int | tuple[int, ...], ...] | None = None
    widths: tuple[Count, ...] | None = None
    factors: dict[str, Any] = field(default_factory=dict)
    seeds: Annotated[int, Bound(least=1, most=100_000)] | tuple[Annotated[int, Bound(least=0)], ...] = 1
    analyze_gradients: bool = False
    probes: dict[str, Any] | tuple[str, ...] = ()
    headline: Literal["last", "best"] = "last"


@dataclass(frozen=True)
class LoggingOptions:
    """`logging`: kept with the experiment for exporters; it changes nothing in training."""

    project_name: str = ""
    log_gradients: bool = False


@dataclass(frozen=True)
class Claim:
    """A contrast with an expected direction and a smallest effect that matters.

    Attributes:
        name: The claim in one sentence.
        factor: Dotted key of the factor that the contrast compares, or its ending, or `role` for distillation.
        levels: Two levels: the effect is the metric at the first minus the metric at the second. One level beside a
            `reference`; three or more for a trend.
        expect: Sign of the effect that the claim asserts.
        matters: Smallest effect that matters, in the effect's unit.
        at: Levels of other factors at which the contrast is taken; the rest is averaged within each seed.
        metric: What is compared.
        kind: `difference` of means; `trend`, the slope of the metric over log2 of the levels (of the depth where levels are
            lists), per doubling; `success`, the fraction of seeds whose metric is above `threshold`.
        threshold: What the metric of a success is above.
        reference: The number that one level is compared with; a fraction of seeds for a success.
    """

    name: str
    factor: str
    levels: tuple[Any, ...]
    expect: Literal["greater", "less", "equal"]
    matters: Annotated[float, Bound(least=0)] = 0.0
    at: dict[str, Any] = field(default_factory=dict)
    metric: Metric = "test/accuracy"
    kind: Literal["difference", "trend", "success"] = "difference"
    threshold: float | None = None
    reference: float | None = None

    def complaints(self) -> list[Problem]:
        """What cannot be asked: too few levels, equality without an effect that matters, a success without a threshold."""
        found = [Problem("invalid-claim", "levels", text) for text in (self._levels_complaint(),) if text]
        if self.expect == "equal" and self.matters == 0:
            found.append(
                Problem("invalid-claim", "matters", "should be above 0 where no difference is claimed (got 0).")
            )
        if self.kind == "trend" and self.reference is not None:
            found.append(Problem("invalid-claim", "reference", "has nothing to do in a trend. Remove it."))
        if self.kind != "success" and self.threshold is not None:
            found.append(
                Problem("invalid-claim", "threshold", "belongs to `kind: success`. Set the kind, or remove it.")
            )
        if self.kind == "success" and self.threshold is None:
            found.append(Problem("invalid-claim", "threshold", "is missing: a success is a metric above it."))
        if self.kind == "success" and self.metric.endswith("loss"):
            found.append(
                Problem(
                    "invalid-claim",
                    "metric",
                    f"should be an accuracy, which a success has more of (got {self.metric}).",
                )
            )
        return found

    def selects(self, factors: Mapping[str, Any], level: Any, fixed: Mapping[str, Any]) -> bool:
        """Whether a condition is one of the contrast's at `level`.

        Args:
            factors: Its levels by dotted key, `role` among them.
            level: Of the claim's own factor.
            fixed: Options that all conditions share, by dotted key: what an override has made of a factor is looked up there.
        """
        wanted = {**self.at, self.factor: level}
        return all(_level(factors, fixed, key) == _exactly(own) for key, own in wanted.items())

    def _levels_complaint(self) -> str:
        count = len(self.levels)
        if len({repr(_exactly(level)) for level in self.levels}) < count:
            return "names a level twice."
        if self.kind == "trend":
            numbers = all(type(level) in (int, float) and level > 0 for level in self.levels)
            if count < 3:
                return f"should be three levels or more for a trend (got {count})."
            if not numbers and not all(isinstance(level, list | tuple) for level in self.levels):
                return "should be numbers above 0, or lists of blocks, for a trend."
        elif self.reference is not None and count != 1:
            return f"should be one level where it is compared with a reference (got {count})."
        elif self.reference is None and count != 2:
            return f"should be two levels, the effect is first minus second (got {count})."
        return ""


def _level(factors: Mapping[str, Any], fixed: Mapping[str, Any], key: str) -> Any:
    """The level of the one factor called `key`, or whose dotted key ends so, else the option; else what no level equals."""
    for options in (factors, fixed):
        found = [level for name, level in options.items() if name == key or name.endswith(f".{key}")]
        if found:
            return _exactly(found[0]) if len(found) == 1 else ()
    return ()


def _exactly(level: Any) -> Any:
    """A level for comparison: lists and tuples alike, and true is not 1."""
    value = plain(level)
    return ("truth", value) if isinstance(value, bool) else value


@dataclass(frozen=True)
class ExperimentFile:
    """The whole document."""

    seed: Annotated[int, Bound(least=0)] = 0
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelChoice | None = None
    training: TrainingOptions | None = None
    teacher_model: ModelChoice | None = None
    student_model: ModelChoice | None = None
    training_teacher: TrainingOptions | None = None
    training_student: TrainingOptions | None = None
    distillation: DistillationOptions | None = None
    experiment: ExperimentOptions = field(default_factory=ExperimentOptions)
    logging: LoggingOptions = field(default_factory=LoggingOptions)
    claims: tuple[Claim, ...] = ()
    quick: dict[str, Any] = field(default_factory=dict)
