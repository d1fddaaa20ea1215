"""Transformed teacher matching (Zheng and Yang, 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from annotated_types import Interval

from fathomlab.base.packing import Varies
from fathomlab.losses.defaults import LossDefaults, Weight
from fathomlab.losses.logits import divergence, per_class, upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Logits, PerExample

Exponent = Annotated[float, Interval(gt=0, le=100), Varies()]


@final
@dataclass(frozen=True)
class TTM(LossDefaults):
    """hard L + weight KL(p^gamma || q), where L is the student's loss on the labels.

    Zheng and Yang, 2024, arXiv 2402.11148. p^gamma are the teacher's probabilities to the power gamma, normalized to a sum of 1,
    which is its distribution at temperature 1 / gamma. The student's distribution q has temperature 1. With gamma 1, the
    divergence is that of `Distillation` with T = 1.

    Attributes:
        gamma: Exponent > 0; below 1, it softens the teacher's probabilities.
        weight: Weight of the divergence from the teacher.
        hard: Weight of the loss on the labels.
    """

    gamma: Exponent = 0.1
    weight: Weight = 1.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    test_options: ClassVar[Mapping[str, object]] = {"gamma": 0.5, "weight": 3.0, "hard": 0.7}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels and the weighted divergence (nats), each of shape (k, n)."""
        soft = matching_loss(signals.logits, signals.teacher_logits, self.gamma)
        return {"labels": self.hard * signals.label_losses, "distillation": self.weight * soft}


@final
@dataclass(frozen=True)
class WTTM(LossDefaults):
    """`TTM` with the divergence of each example multiplied by the sum of p^gamma over the classes.

    Zheng and Yang, 2024, arXiv 2402.11148. p are the teacher's probabilities. For gamma below 1, the sum is 1 if one class has
    probability 1, and C^(1 - gamma) if all C classes have equal ones, so examples of which the teacher is unsure count more.

    Attributes:
        gamma: Exponent > 0; below 1, it softens the teacher's probabilities.
        weight: Weight of the divergence from the teacher.
        hard: Weight of the loss on the labels.
    """

    gamma: Exponent = 0.1
    weight: Weight = 1.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    test_options: ClassVar[Mapping[str, object]] = {"gamma": 0.5, "weight": 3.0, "hard": 0.7}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels and the weighted divergence (nats), each of shape (k, n)."""
        soft = matching_loss(signals.logits, signals.teacher_logits, self.gamma)
        importance = power_sum(signals.teacher_logits, self.gamma)
        return {"labels": self.hard * signals.label_losses, "distillation": self.weight * importance * soft}


def matching_loss(student: "Logits", teacher: "Logits", gamma: "float | Tensor") -> "PerExample":
    """Compute KL(p^gamma / sum p^gamma || q) (nats per example), shape (k, n).

    Args:
        student: Logits of the networks in training, shape (k, n, classes).
        teacher: Logits of the teachers, same shape. They get no gradient.
        gamma: Exponent > 0; a (k, 1) tensor if it varies in a pack.
    """
    import torch.nn.functional as F

    log_p = F.log_softmax(upcast(teacher).detach() * per_class(gamma), -1)
    return divergence(log_p, F.log_softmax(upcast(student), -1))


def power_sum(teacher: "Logits", gamma: "float | Tensor") -> "PerExample":
    """Compute the sum of p^gamma over the classes, shape (k, n), without a gradient."""
    import torch.nn.functional as F

    return (F.log_softmax(upcast(teacher).detach(), -1) * per_class(gamma)).logsumexp(-1).exp()
