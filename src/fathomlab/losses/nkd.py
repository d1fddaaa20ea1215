"""Normalized knowledge distillation (Yang et al., 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Temperature, Weight
from fathomlab.losses.logits import of_label, others, per_class, upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Labels, Logits, PerExample


@final
@dataclass(frozen=True)
class NKD(LossDefaults):
    """hard L - p_y log q_y - gamma T^2 sum_i p_i log q_i, where L is the student's loss on the labels.

    Yang et al., 2023, arXiv 2303.13005, equation 9. p_y and q_y are the probabilities that teacher and student give to the
    label's class at temperature 1. The sum is over the other classes; there, p and q are their distributions at temperature T,
    normalized without the label's class. As in the authors' code, both terms are added to the loss on the labels. Both are
    cross-entropies, so they are positive even if the student equals its teacher. Needs at least three classes.

    Attributes:
        gamma: Weight of the other classes. The paper uses 1.5 for ImageNet, and 3.5 for CIFAR-100.
        temperature: T > 0, which softens the distributions over the other classes. The paper uses 1 and 3 for them.
        hard: Weight of the loss on the labels.
    """

    gamma: Weight = 1.5
    temperature: Temperature = 1.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    min_classes: ClassVar[int] = 3
    test_options: ClassVar[Mapping[str, object]] = {"gamma": 3.5, "temperature": 3.0, "hard": 0.7}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels and both terms of the teacher (nats), each of shape (k, n)."""
        target, rest = normalized_losses(signals.logits, signals.teacher_logits, signals.labels, self.temperature)
        return {"labels": self.hard * signals.label_losses, "target": target, "non_target": self.gamma * rest}


def normalized_losses(
    student: "Logits", teacher: "Logits", labels: "Labels", temperature: "float | Tensor"
) -> "tuple[PerExample, PerExample]":
    """Compute -p_y log q_y, and -T^2 sum_i p_i log q_i over the other classes.

    Args:
        student: Logits of the networks in training, shape (k, n, classes).
        teacher: Logits of the teachers, same shape. They get no gradient.
        labels: Class of each example, shape (k, n).
        temperature: T > 0 of the second term; a (k, 1) tensor if it varies in a pack.

    Returns:
        Both terms (nats per example), each of shape (k, n).
    """
    import torch.nn.functional as F

    student, teacher = upcast(student), upcast(teacher).detach()
    target = -of_label(F.softmax(teacher, -1) * F.log_softmax(student, -1), labels)
    p, log_q = (others(logits, labels) / per_class(temperature) for logits in (teacher, student))
    return target, -(temperature**2) * (F.softmax(p, -1) * F.log_softmax(log_q, -1)).sum(-1)
