"""The sections of an experiment file: keys, meanings, and defaults.

Sections that name a component (`model.type`, `training.optimizer`) hold the name and its raw options. The layer that owns the
table checks them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.base.options import NonNegativeFloat, PositiveInt
from fathomlab.config.claims import Claim
from fathomlab.config.published import Published
from fathomlab.config.slurm import RunSection, SlurmOptions
from fathomlab.config.training import DistillationOptions, TrainingOptions

Parent: TypeAlias = Literal["teacher", "start"]


@dataclass(frozen=True)
class DataOptions:
    """`data`: which images, and how they are split, batched, and augmented.

    Attributes:
        name: Dataset, or a function of a plugin; MNIST for an MLP and CIFAR-10 for a CNN by default.
        batch_size: Images per training step. The last batch of an epoch may be smaller.
        validation_split: Training images held out for validation (%), stratified by class.
        num_workers: Ignored: datasets stay in device memory.
        augment: Any of `flip`, `crop`.
        limit: Number of training images to use: a stratified subset, the same for every seed, so that intervals over seeds do not
            include the choice of images.
        params: Options of the dataset.
        drop_last: Leave out a last batch that is smaller than `batch_size`. The order of the images differs per epoch, so all of
            them are used over time.
        order_stream: Random stream of the order of the images. Trials of one seed that differ only in it have the same split,
            initial values, augmentation, and dropout, but other batches.
    """

    name: str | None = None
    batch_size: Annotated[int, Interval(ge=1, le=1_000_000)] = 128
    validation_split: Annotated[float, Interval(gt=0, le=90)] = 20.0
    num_workers: Annotated[int, Interval(ge=0)] = 0
    augment: tuple[str, ...] = ()
    limit: Annotated[int, Interval(ge=2)] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    drop_last: bool = False
    order_stream: Annotated[int, Interval(ge=0)] = 0

    def validate(self) -> list[Issue]:
        """A fraction where a percentage is expected."""
        if 0 < self.validation_split < 1:
            text = f"must be a percentage from 1 to 90, got {self.validation_split:g}"
            return [Issue("out-of-range", "validation_split", f"{text}. Did you mean {100 * self.validation_split:g}?")]
        return []


@dataclass(frozen=True)
class ModelChoice:
    """`model`, `teacher_model`, `student_model`: the name of a model and its options.

    Attributes:
        type: Name of the model.
        params: Options of the model.
    """

    type: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParentOptions:
    """`roles.NAME.parents`: the roles whose trials, with the same seed, a trial builds on.

    Attributes:
        teacher: Role whose outputs the trial learns from. A list is an ensemble: the trial learns from the mean of the logits.
        start: Role whose weights after the last epoch replace the initial values of the same name and shape.
    """

    teacher: str | tuple[str, ...] | None = None
    start: str | None = None

    @property
    def teachers(self) -> tuple[str, ...]:
        """The roles whose outputs the trial learns from."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    @property
    def named(self) -> tuple[tuple[Parent, str], ...]:
        """The roles that the trial builds on: teachers, then the one whose weights it starts from."""
        teachers: tuple[tuple[Parent, str], ...] = tuple(("teacher", name) for name in self.teachers)
        return teachers if self.start is None else (*teachers, ("start", self.start))


@dataclass(frozen=True)
class RoleOptions:
    """`roles.NAME`: a network with its training, and the roles that it builds on.

    Attributes:
        model: The network.
        training: How the network is trained.
        data: Which images; the file's `data` by default.
        distillation: The loss if the role has a teacher; the file's `distillation` by default.
        parents: The roles that must be trained first.
        equal_compute: Role, such as a teacher, whose training MACs (multiply-accumulates) this one spends on longer training: as
            many more whole epochs as they pay for. Not for a role that has a teacher.
        seed_offset: Added to each seed, so that roles of equal options are different trials, such as members of an ensemble.
    """

    model: ModelChoice
    training: TrainingOptions
    data: DataOptions | None = None
    distillation: DistillationOptions | None = None
    parents: ParentOptions = field(default_factory=ParentOptions)
    equal_compute: str | None = None
    seed_offset: Annotated[int, Interval(ge=0)] = 0


@dataclass(frozen=True)
class Factor:
    """A factor, as a list of levels or with a condition.

    Attributes:
        levels: Values of the key. Each is trained with every combination of the other factors.
        when: Dotted key -> level. The factor varies only if all of them have these levels.
    """

    levels: tuple[Any, ...]
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TuneOptions:
    """`experiment.tune`: factors that are tuned on the validation images for each condition, and not compared.

    Attributes:
        over: Dotted keys of factors, or their endings. An ending stands for all factors that have it.
        by: Metric of the choice: the level with the largest mean over the seeds is compared.
    """

    over: tuple[str, ...]
    by: Literal["val/accuracy", "best/val/accuracy"] = "val/accuracy"


@dataclass(frozen=True)
class ExperimentOptions:
    """`experiment`: what varies, the number of replicates, and what is measured.

    Attributes:
        title: Heading of the report.
        question: What the experiment asks, in one or two sentences.
        depths: Levels of the model's depth; without `factors`, crossed with residual false and true.
        widths: Levels of the model's width.
        factors: Dotted key -> list of levels, or `{levels, when}`.
        tune: Factors that are tuned instead of compared: `{over: [KEY, ...], by: METRIC}`.
        seeds: Number of replicates (seed, seed + 1, ...), or their list.
        analyze_gradients: Measure gradient norms per layer at initialization, after step 1, and after each epoch.
        probes: Other measurements: names of probes, or name -> {at: [init, epochs, end, log, step numbers], options}.
        primary_metric: Metric that the report leads with: test accuracy after the last epoch, or of the best epoch on the
            validation set.
        tags: Labels for trackers and `fathomlab list --tag`. They do not affect training.
        published: Statements of a publication, which the report shows next to the results.
    """

    title: str = ""
    question: str = ""
    depths: tuple[int | tuple[int, ...], ...] | None = None
    widths: tuple[PositiveInt, ...] | None = None
    factors: dict[str, Any] = field(default_factory=dict)
    tune: TuneOptions | None = None
    seeds: Annotated[int, Interval(ge=1, le=100_000)] | tuple[Annotated[int, Interval(ge=0)], ...] = 1
    analyze_gradients: bool = False
    probes: dict[str, Any] | tuple[str, ...] = ()
    primary_metric: Literal["test/accuracy", "best/test/accuracy"] = "test/accuracy"
    tags: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class LoggingOptions:
    """`logging`: options for trackers. They do not affect training.

    Attributes:
        project_name: Project in Weights & Biases. Runs are logged there if `wandb` is installed, except quick runs.
        log_gradients: Whether gradient norms are logged. They are measured only with `experiment.analyze_gradients`.
    """

    project_name: str = ""
    log_gradients: bool = False


@dataclass(frozen=True)
class RunOverrides:
    """`run.*` overrides: options of the run. They are not part of a trial's identity.

    Attributes:
        pack: Trials per pack; as many as memory and the kind of network allow by default.
        checkpoint_seconds: Time between two checkpoints (s); at most 1% of the time is spent on them by default.
        backend: Name of a backend, or `auto`.
        executor: Name of an executor, or `auto`: `ray` if `RAY_ADDRESS` is set, `inline` for one worker (in a command: for
            `--workers 1`), else `local`.
        slurm: What each job array requests from a Slurm cluster, as in the file.
    """

    pack: PositiveInt | None = None
    checkpoint_seconds: NonNegativeFloat | None = None
    backend: str = "auto"
    executor: str = "auto"
    slurm: SlurmOptions = field(default_factory=SlurmOptions)


@dataclass(frozen=True)
class ExperimentFile:
    """A complete experiment file: the sections of one network, those of a teacher and a student, or any number of roles.

    Attributes:
        seed: First random seed.
        data: Which images, and how they are split, batched, and augmented.
        model: The network.
        training: How the network is trained.
        teacher_model: The network of the teacher.
        student_model: The network of the baseline and of the distilled student.
        training_teacher: How the teacher is trained.
        training_student: How baseline and student are trained.
        distillation: The loss of the distilled student.
        roles: Networks by name that build on each other. The sections of a teacher and a student are a short form of the roles
            `teacher`, `baseline`, and `distilled`.
        experiment: What varies, the number of replicates, and what is measured.
        logging: Options for trackers.
        claims: Expected effects, on which the report gives verdicts.
        quick: Changes of the other sections for `--quick`.
        plugins: Python files with models, datasets, losses, probes, optimizers, and schedules, relative to this file; see
            docs/tutorials/your-own-parts.md. Their code runs.
        run: Where the experiment is trained.
    """

    seed: Annotated[int, Interval(ge=0)] = 0
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelChoice | None = None
    training: TrainingOptions | None = None
    teacher_model: ModelChoice | None = None
    student_model: ModelChoice | None = None
    training_teacher: TrainingOptions | None = None
    training_student: TrainingOptions | None = None
    distillation: DistillationOptions | None = None
    roles: dict[str, RoleOptions] = field(default_factory=dict[str, RoleOptions])
    experiment: ExperimentOptions = field(default_factory=ExperimentOptions)
    logging: LoggingOptions = field(default_factory=LoggingOptions)
    claims: tuple[Claim, ...] = ()
    quick: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    run: RunSection = field(default_factory=RunSection)
