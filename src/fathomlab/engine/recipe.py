"""How one trial is trained, as a value: parts instead of names. What two recipes must share to be packed is `signature`."""

from dataclasses import dataclass, replace
from typing import Any

from fathomlab.models.architecture import Architecture, signature


@dataclass(frozen=True)
class Teaching:
    """Distillation: the weight of the teacher, the temperature, and the teacher's network."""

    alpha: float
    temperature: float
    architecture: Architecture


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trial's numbers.

    Attributes:
        seed: Root of all random streams.
        architecture: The network.
        optimizer: A part of `optim.OPTIMIZERS`.
        schedule: A part of `schedules.SCHEDULES`, or `Constant`.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Learning rate at the start.
        precision: fp32, bf16 or fp64.
        label_smoothing: Share of the label spread over the classes.
        gradient_clip: Largest norm of the whole gradient of a replica, or None.
        augment: Names of augmentations.
        validation_split: Held out [percent].
        limit: Training images used, or None for all.
        data: Name and options of the dataset, as canonical JSON.
        teaching: Distillation, or None.
        drop_last: Whether an incomplete last batch is left out.
    """

    seed: int
    architecture: Architecture
    optimizer: Any
    schedule: Any
    epochs: int
    batch_size: int
    lr: float
    precision: str
    label_smoothing: float
    gradient_clip: float | None
    augment: tuple[str, ...]
    validation_split: float
    limit: int | None
    data: str
    teaching: Teaching | None = None
    drop_last: bool = False

    @property
    def plain(self) -> bool:
        """Whether the trial's own loss is the plain cross-entropy on its labels."""
        return self.teaching is None and self.label_smoothing == 0

    def signature(self) -> "Recipe":
        """The recipe with everything removed that may differ between the trials of one pack.

        Those are: seed, initial values, learning rate, weight decay, label smoothing, dropout rate, batch-norm eps,
        residual connections around identity shortcuts, alpha and temperature.
        """
        teaching = self.teaching and Teaching(0.0, 1.0, signature(self.teaching.architecture))
        return replace(
            self,
            seed=0,
            architecture=signature(self.architecture),
            optimizer=replace(self.optimizer, weight_decay=0.0),
            lr=0.0,
            label_smoothing=0.0,
            teaching=teaching,
        )
