"""A loss as a function of tensors without the replica axis."""

from functools import reduce
from operator import add

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fathomlab.engine.signals import LossInputs
from fathomlab.losses import Loss
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.logits import upcast


class LossFunction:
    """A loss of the table, with cross-entropy as the loss on the labels.

    Attributes:
        loss: The component.
    """

    def __init__(self, loss: Loss):
        """Wrap a loss of logits."""
        self.loss = loss

    def __repr__(self) -> str:
        """The loss with its options."""
        return f"<loss {self.loss}>"

    def __call__(
        self,
        logits: Float[Tensor, "n classes"],
        labels: Int[Tensor, " n"],
        teacher: Float[Tensor, "n classes"] | None = None,
    ) -> Float[Tensor, " n"]:
        """Compute the loss of each example (nats); in float32 for inputs in half precision.

        Args:
            logits: Outputs of the network in training.
            labels: Class of each example.
            teacher: Outputs of its teacher for the same images. They get no gradient.

        Raises:
            TypeError: If an input is no tensor of its kind: floating-point outputs, and whole numbers as labels.
            ValueError: If a shape is wrong, the teacher is missing, a label on the CPU is out of range, or there are fewer
                classes than the loss needs.
        """
        self._check(logits, labels, teacher)
        others = None if teacher is None else upcast(teacher).unsqueeze(0)
        inputs = LossInputs(upcast(logits).unsqueeze(0), labels.long().unsqueeze(0), others, CrossEntropy())
        return reduce(add, self.loss.terms(inputs).values())[0]

    def _check(self, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        name = type(self.loss).__name__
        inputs: list[tuple[str, object]] = [("logits", logits), ("labels", labels)]
        for what, value in [*inputs, *([] if teacher is None else [("teacher", teacher)])]:
            if not isinstance(value, Tensor):
                raise TypeError(f"{what} must be a torch.Tensor, got {type(value).__name__}")
            if what != "labels" and not value.is_floating_point():
                raise TypeError(f"{what} must be floating-point numbers, got {value.dtype}")
        if logits.dim() != 2 or labels.shape != logits.shape[:1]:
            got = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"logits must have the shape (n, classes), and labels (n,), got {got}")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {labels.dtype}")
        if not len(logits):
            raise ValueError("the batch must have at least one example, got none")
        if logits.shape[1] < self.loss.min_classes:
            raise ValueError(f"{name} needs at least {self.loss.min_classes} classes, got {logits.shape[1]}")
        outside = (labels < 0) | (labels >= logits.shape[1])
        if labels.device.type == "cpu" and outside.any():  # another device would have to be waited for
            raise ValueError(f"labels must be from 0 to {logits.shape[1] - 1}, got {int(labels[outside][0])}")
        if "teacher.logits" in self.loss.needs and (teacher is None or teacher.shape != logits.shape):
            got = "none" if teacher is None else f"shape {tuple(teacher.shape)}"
            raise ValueError(f"{name} needs teacher logits of the shape {tuple(logits.shape)}, got {got}")
