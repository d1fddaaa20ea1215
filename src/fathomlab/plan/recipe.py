"""How one trial is trained, as a value: components instead of names. `base.packing.signature` says what can be packed."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fathomlab.base.packing import Varies
from fathomlab.config.plugins import plugin_of
from fathomlab.losses import Loss
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.architecture import Architecture


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
        frozen: Beginnings of the names of the parameters that are not trained.
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
    frozen: tuple[str, ...] = ()
    label_loss: Loss = field(default_factory=CrossEntropy)

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
