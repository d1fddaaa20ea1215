"""What the engine passes to a loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from fathomlab.base.axes import Logits, PerExample


@dataclass(frozen=True)
class LossInputs:
    """What a loss reads of one batch; see `losses.Signals`.

    Attributes:
        logits: Outputs, (k, n, classes).
        labels: Classes, (k, n).
        teacher_logits: Outputs of the teachers for the same images, (k, n, classes); None without teachers.
        label_loss: The loss on the labels of students, a component; None for networks without a teacher.
        features: Outputs at each point, (k, n, d) or (k, n, c, h, w); empty if no loss needs them.
        teacher_features: Outputs of the teachers at each point for the same images; empty if the loss does not need them.
        parameters: What the loss learns, each (k, *shape).
    """

    logits: Logits
    labels: Tensor
    teacher_logits: Any = None
    label_loss: Any = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def label_losses(self) -> PerExample:
        """The loss on the labels, (k, n). It is computed when a loss reads it, so that others do not pay for it.

        Raises:
            ValueError: If the networks have no teacher: the loss that reads it is then the loss on the labels itself.
        """
        if self.label_loss is None:
            raise ValueError("label_losses exists only for networks with a teacher; set distillation.loss instead")
        inputs = LossInputs(self.logits, self.labels)
        return reduce(add, self.label_loss.terms(inputs).values())
