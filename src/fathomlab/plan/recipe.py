"""How one trial is trained, as a value: components instead of names. `base.packing.signature` says what can be packed."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fathomlab.base.packing import Varies
from fathomlab.config.plugins import plugin_of
from fathomlab.config.training import Placebo, Targets
from fathomlab.data.table import num_views
from fathomlab.losses import Loss
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.architecture import Architecture

BY_CLASS = ("class_mean", "label_smoothing")  # placebos that depend on the label of an image only


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trial's numbers.

    Attributes:
        seed: Root of all random streams.
        architecture: The network.
        loss: A component of the table of losses.
        optimizer: A component of `optim.OPTIMIZERS`.
        schedule: A component of `schedules.SCHEDULES`, or `Constant`.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Initial learning rate.
        precision: fp32, bf16, or fp64.
        gradient_clip: Maximum norm of the full gradient of a replica, or None.
        augment: Names of augmentations.
        validation_split: Training images held out (%).
        limit: Training images used, or None for all.
        data: What identifies the dataset (`data.Data.identity`), as canonical JSON.
        teachers: The networks whose mean logits the loss needs; empty without teachers.
        drop_last: Whether an incomplete last batch is left out.
        order_stream: Selects the random stream of the order of the images.
        frozen: Beginnings of the names of the parameters that are not trained.
        targets: The views whose teacher outputs the student learns from; see `DistillationOptions`.
        placebo: What replaces the teacher's outputs, or None.
        emulate: Mistakes of published distillation code that act on this trial, sorted. Those of the loss and of the schedule
            are already part of these components.
        label_loss: The loss on the labels, which `loss` can read if there are teachers.
    """

    seed: Annotated[int, Varies()]
    architecture: Architecture
    loss: Loss
    optimizer: Any
    schedule: Any
    epochs: int
    batch_size: int
    lr: Annotated[float, Varies()]
    precision: str
    gradient_clip: float | None
    augment: tuple[str, ...]
    validation_split: float
    limit: int | None
    data: str
    teachers: tuple[Architecture, ...] = ()
    drop_last: bool = False
    order_stream: Annotated[int, Varies()] = 0
    frozen: tuple[str, ...] = ()
    emulate: tuple[str, ...] = ()
    targets: Targets = "on_the_fly"
    placebo: Placebo | None = None
    label_loss: Loss = field(default_factory=CrossEntropy)

    @property
    def temperature(self) -> float | None:
        """The option `temperature` of the loss; None if it has no such number."""
        value: object = getattr(self.loss, "temperature", None)
        return float(value) if isinstance(value, int | float) and value > 0 else None

    @property
    def table_views(self) -> int:
        """Views of each image whose teacher outputs are stored, in addition to the image without augmentation."""
        if not self.augment or not self.teachers:
            return 0
        if self.placebo in BY_CLASS:  # statistics of the outputs for one random view per image
            return int(self.targets != "clean")
        return {"consistent": num_views(self.augment), "cached": 1}.get(self.targets, 0)

    @property
    def runs_teachers(self) -> bool:
        """Whether the teachers run in each step, because their outputs are not stored."""
        stored = self.targets != "on_the_fly" or self.placebo in BY_CLASS or "shuffled_cache" in self.emulate
        return bool(self.augment and self.teachers) and "teacher.logits" in self.loss.needs and not stored

    @property
    def num_trained(self) -> int:
        """Number of trained parameters."""
        return sum(each.numel for each in self.architecture.parameters() if not each.name.startswith(self.frozen))

    @property
    def needs_features(self) -> bool:
        """Whether the loss reads the outputs of layers or blocks, so that a step must keep them."""
        return bool(self.loss.needs & {"features", "teacher.features"})

    @property
    def plain(self) -> bool:
        """Whether the training loss is cross-entropy on the labels, so that no other loss is recorded next to it."""
        return self.loss == CrossEntropy()

    @property
    def runs_plugins(self) -> bool:
        """Whether the code of a plugin is part of a step. It may do what cannot be compiled or captured.

        A schedule is not part of it, because the host computes the learning rate, unless it also sets the momentum.
        """
        networks = (self.architecture, *self.teachers)
        parts = (self.loss, self.label_loss, self.optimizer)
        parts = (*parts, self.schedule) if self.schedule.per_step else parts
        return any(network.opaque is not None for network in networks) or any(
            plugin_of(part) is not None for part in parts
        )
