"""The sections of an experiment file: keys, meanings, and defaults.

Sections that name a component (`model.type`, `training.optimizer`) hold the name and its raw options. The layer that owns the
table checks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.base.options import Fraction, PositiveFloat, PositiveInt, to_dict

Epochs = Annotated[int, Interval(ge=1, le=100_000)]
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
    """`data`: which images, and how they are split, batched, and augmented.

    Attributes:
        name: Dataset; MNIST for an MLP and CIFAR-10 for a CNN by default.
        batch_size: Images per training step. The last batch of an epoch may be smaller.
        validation_split: Training images held out for validation (%), stratified by class.
        num_workers: Ignored: datasets are kept in device memory.
        augment: Any of `flip`, `crop`.
        limit: Number of training images to use: a stratified subset, the same for every seed, so that intervals over seeds do not
            include the choice of images.
        params: Options of the dataset.
        drop_last: Leave out a last batch that is smaller than `batch_size`. The order of the images differs per epoch, so all of
            them are used over time.
    """

    name: str | None = None
    batch_size: Annotated[int, Interval(ge=1, le=1_000_000)] = 128
    validation_split: Annotated[float, Interval(gt=0, le=90)] = 20.0
    num_workers: Annotated[int, Interval(ge=0)] = 0
    augment: tuple[str, ...] = ()
    limit: Annotated[int, Interval(ge=2)] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    drop_last: bool = False

    def validate(self) -> list[Issue]:
        """A fraction where a percentage is expected."""
        if 0 < self.validation_split < 1:
            text = f"must be a percentage from 1 to 90, got {self.validation_split:g}"
            return [Issue("out-of-range", "validation_split", f"{text}. Did you mean {100 * self.validation_split:g}?")]
        return []


@dataclass(frozen=True)
class ModelChoice:
    """`model`, `teacher_model`, `student_model`: the name of a model and its options."""

    type: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingOptions:
    """`training`, `training_teacher`, `training_student`: names as torch spells them.

    Attributes:
        epochs: Passes over the training images.
        criterion: Loss on the labels.
        optimizer: Optimizer; `optimizer_params` are its options except for the learning rate.
        lr: Initial learning rate.
        scheduler: Learning-rate schedule or none; `scheduler_params` are its options.
        precision: Number format of matrix products; parameters and statistics stay in fp32 (fp64 with fp64). bf16 requires a
            self-test on the network's shapes; auto uses it if it is correct and faster.
        label_smoothing: Fraction of the label spread evenly over the classes.
        gradient_clip: Maximum norm of the full gradient, or none.
    """

    epochs: Epochs
    criterion: str = "CrossEntropyLoss"
    optimizer: str = "Adam"
    lr: PositiveFloat = 0.001
    scheduler: str | None = None
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    scheduler_params: dict[str, Any] = field(default_factory=dict)
    precision: Literal["fp32", "bf16", "auto", "fp64"] = "fp32"
    label_smoothing: Fraction = 0.0
    gradient_clip: PositiveFloat | None = None


@dataclass(frozen=True)
class DistillationOptions:
    """`distillation`: (1 - alpha) cross-entropy + alpha T^2 KL(teacher || student).

    Attributes:
        temperature: T, softens the outputs of both networks.
        alpha: Weight of the teacher.
    """

    temperature: Annotated[float, Interval(gt=0, le=1e6)] = 3.0
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7


@dataclass(frozen=True)
class Factor:
    """A factor with a condition: it varies only if all keys of `when` have the given levels."""

    levels: tuple[Any, ...]
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentOptions:
    """`experiment`: what varies, the number of replicates, and what is measured.

    Attributes:
        title: Heading of the report.
        question: What the experiment asks, in one or two sentences.
        depths: Levels of the model's depth; without `factors`, crossed with residual false and true.
        widths: Levels of the model's width.
        factors: Dotted key -> list of levels, or `{levels, when}`.
        seeds: Number of replicates (seed, seed + 1, ...), or their list.
        analyze_gradients: Measure gradient norms per layer at initialization, after step 1, and after each epoch.
        probes: Other measurements: names of probes, or name -> {at: [init, epochs, end, log, step numbers], options}.
        primary_metric: Metric that the report leads with: test accuracy after the last epoch, or of the best epoch on the
            validation set.
    """

    title: str = ""
    question: str = ""
    depths: tuple[int | tuple[int, ...], ...] | None = None
    widths: tuple[PositiveInt, ...] | None = None
    factors: dict[str, Any] = field(default_factory=dict)
    seeds: Annotated[int, Interval(ge=1, le=100_000)] | tuple[Annotated[int, Interval(ge=0)], ...] = 1
    analyze_gradients: bool = False
    probes: dict[str, Any] | tuple[str, ...] = ()
    primary_metric: Literal["test/accuracy", "best/test/accuracy"] = "test/accuracy"


@dataclass(frozen=True)
class LoggingOptions:
    """`logging`: options for exporters. They do not affect training."""

    project_name: str = ""
    log_gradients: bool = False


@dataclass(frozen=True)
class Claim:
    """A contrast with an expected direction and a smallest effect that matters.

    Attributes:
        name: The claim in one sentence.
        factor: Dotted key of the factor that the contrast compares, or its ending, or `role` for distillation.
        levels: Two levels: the effect is the metric at the first minus the metric at the second. One level with a `reference`;
            three or more for a trend.
        expect: Sign of the effect that the claim asserts.
        matters: Smallest effect that matters: a fraction for accuracies and successes (0.02 is 2 percentage points), nats for
            losses.
        at: Levels of other factors at which the contrast is taken; the others are averaged within each seed.
        metric: The metric to compare.
        kind: `difference` of means; `trend`, the slope of the metric over log2 of the levels (of the depth if levels are lists),
            per doubling; `success`, the fraction of seeds whose metric is above `threshold`.
        threshold: The metric of a success is above this value.
        reference: The number that one level is compared with; a fraction of seeds for a success.
    """

    name: str
    factor: str
    levels: tuple[Any, ...]
    expect: Literal["greater", "less", "equal"]
    matters: Annotated[float, Interval(ge=0)] = 0.0
    at: dict[str, Any] = field(default_factory=dict)
    metric: Metric = "test/accuracy"
    kind: Literal["difference", "trend", "success"] = "difference"
    threshold: float | None = None
    reference: float | None = None

    @property
    def in_points(self) -> bool:
        """Whether effects are differences of fractions, shown in percentage points."""
        return self.kind == "success" or self.metric.endswith("accuracy")

    def validate(self) -> list[Issue]:
        """Wrong levels, equality without an effect that matters, a success without a threshold, percentages."""
        found = [Issue("invalid-claim", "levels", text) for text in (self._levels_complaint(),) if text]
        if self.expect == "equal" and self.matters == 0:
            found.append(Issue("invalid-claim", "matters", "must be > 0 for `expect: equal`"))
        if self.kind == "trend" and self.reference is not None:
            found.append(Issue("invalid-claim", "reference", "not allowed with `kind: trend`; remove it"))
        if self.kind != "success" and self.threshold is not None:
            found.append(Issue("invalid-claim", "threshold", "requires `kind: success`; set the kind, or remove it"))
        if self.kind == "success" and self.threshold is None:
            found.append(Issue("invalid-claim", "threshold", "required for `kind: success`"))
        if self.kind == "success" and self.metric.endswith("loss"):
            found.append(Issue("invalid-claim", "metric", f"a success needs an accuracy, got {self.metric}"))
        return found + self._fraction_problems()

    def _fraction_problems(self) -> list[Issue]:
        """Accuracies and fractions of seeds that were given in percent."""
        accuracy = self.metric.endswith("accuracy")
        fractions = {
            "matters": self.matters if accuracy or self.kind == "success" else None,
            "threshold": self.threshold if accuracy else None,
            "reference": self.reference if accuracy or self.kind == "success" else None,
        }
        problems = []
        for key, value in fractions.items():
            if value is not None and not 0 <= value <= 1:
                hint = f". Did you mean {value / 100:g}?" if 1 < value <= 100 else ""
                problems.append(Issue("out-of-range", key, f"must be a fraction between 0 and 1, got {value:g}{hint}"))
        return problems

    def selects(self, factors: Mapping[str, Any], level: Any, fixed: Mapping[str, Any]) -> bool:
        """Whether a condition belongs to the contrast at `level`.

        Args:
            factors: Its levels by dotted key, including `role`.
            level: Level of the claim's factor.
            fixed: Options that all conditions share, by dotted key; a factor that an override has fixed is found there.
        """
        wanted = {**self.at, self.factor: level}
        return all(_level(factors, fixed, key) == _exactly(own) for key, own in wanted.items())

    def _levels_complaint(self) -> str:
        count = len(self.levels)
        if len({repr(_exactly(level)) for level in self.levels}) < count:
            return "duplicate level"
        if self.kind == "trend":
            numbers = all(type(level) in (int, float) and level > 0 for level in self.levels)
            if count < 3:
                return f"a trend needs at least three levels, got {count}"
            if not numbers and not all(isinstance(level, list | tuple) for level in self.levels):
                return "a trend needs numbers > 0, or lists of blocks"
        elif self.reference is not None and count != 1:
            return f"must be one level if `reference` is given, got {count}"
        elif self.reference is None and count != 2:
            return f"must have exactly two levels (effect = first - second), got {count}"
        return ""


def _level(factors: Mapping[str, Any], fixed: Mapping[str, Any], key: str) -> Any:
    """The level of the factor `key` (or the one whose dotted key ends with it), or the option; `()` equals no level."""
    for options in (factors, fixed):
        found = [level for name, level in options.items() if name == key or name.endswith(f".{key}")]
        if found:
            return _exactly(found[0]) if len(found) == 1 else ()
    return ()


def _exactly(level: Any) -> Any:
    """A level for comparison: lists equal tuples, and true does not equal 1."""
    value = to_dict(level)
    return ("truth", value) if isinstance(value, bool) else value


@dataclass(frozen=True)
class ExperimentFile:
    """A complete experiment file."""

    seed: Annotated[int, Interval(ge=0)] = 0
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
