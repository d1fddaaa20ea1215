"""The sections of an experiment file that say how a network is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Interval

from fathomlab.base.options import Fraction, Later, PositiveFloat

Epochs = Annotated[int, Interval(ge=1, le=100_000)]
Targets: TypeAlias = Literal["on_the_fly", "consistent", "clean", "cached"]
Placebo: TypeAlias = Literal["label_smoothing", "class_mean", "within_class", "shuffled"]
Mistake: TypeAlias = Literal["no_t2", "mean_reduction", "shuffled_cache", "student_eval", "unmatched_schedule"]


@dataclass(frozen=True)
class LossChoice:
    """`training.loss`, `distillation.loss`: the name of a loss and its options.

    Attributes:
        type: Name of the loss.
        params: Options of the loss.
    """

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
        optimizer_params: Options of the optimizer.
        scheduler_params: Options of the schedule.
        precision: Number format of matrix products; parameters and statistics stay in fp32 (fp64 with fp64). bf16 requires a
            self-test on the network's shapes; auto uses it if training steps are also faster.
        label_smoothing: Fraction of the label spread evenly over the classes.
        gradient_clip: Maximum norm of the full gradient, or none.
        loss: A loss by name, with its options, instead of `criterion` and `label_smoothing`.
        frozen: Beginnings of parameter names, such as `[stem, stage1.]`. These parameters keep their start values. Running
            statistics of batch normalization are still updated.
        emulate: Mistakes of published distillation code, to show what they do to the numbers: `no_t2` (divergence without the
            factor T^2), `mean_reduction` (divergence divided by the number of classes), `shuffled_cache` (stored outputs of the
            teacher that belong to other images from epoch 2 on), `student_eval` (the student is in evaluation mode from epoch 2
            on), `unmatched_schedule` (the student keeps its initial learning rate). They act only on networks with a teacher.
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
    loss: LossChoice | None = None
    frozen: Annotated[tuple[str, ...], Later()] = ()
    emulate: Annotated[tuple[Mistake, ...], Later()] = ()


@dataclass(frozen=True)
class DistillationOptions:
    """`distillation`: (1 - alpha) cross-entropy + alpha T^2 KL(teacher || student).

    Attributes:
        temperature: T, softens the outputs of both networks.
        alpha: Weight of the teacher.
        loss: A loss by name, with its options, instead of `temperature` and `alpha`.
        targets: With augmentation, the view of an image whose teacher outputs the student learns from. on_the_fly computes
            them for the student's view. consistent reads the same outputs from a table of all views. clean uses the image
            without augmentation, and cached one random view per image; with both, student and teacher see different views.
        placebo: Replaces the teacher's outputs by outputs with less information, as a control. shuffled uses another image,
            within_class another image of the class, class_mean the mean of the class, and label_smoothing a smoothed label
            with the mean entropy of the teacher.
    """

    temperature: Annotated[float, Interval(gt=0, le=1e6)] = 3.0
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7
    loss: LossChoice | None = None
    targets: Annotated[Targets, Later()] = "on_the_fly"
    placebo: Annotated[Placebo | None, Later()] = None
