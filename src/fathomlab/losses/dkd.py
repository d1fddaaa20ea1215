"""Decoupled knowledge distillation (Zhao et al., 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Temperature, Weight
from fathomlab.losses.logits import divergence, of_label, others, per_class, upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Labels, Logits, PerExample


@final
@dataclass(frozen=True)
class DKD(LossDefaults):
    """hard L + T^2 (alpha TCKD + beta NCKD), where L is the student's loss on the labels.

    Zhao et al., 2022, arXiv 2203.08679, equation 7. TCKD is the divergence between teacher and student of the probability of
    the label's class against that of all others. NCKD is the divergence between their distributions over the other
    classes. The divergence of `Distillation` is TCKD + (1 - p) NCKD, where p is the teacher's probability of the label's class.
    Needs at least three classes: with two, NCKD is 0.

    Attributes:
        alpha: Weight of TCKD.
        beta: Weight of NCKD. The paper uses 1 to 10 for 100 classes, depending on the teacher.
        temperature: T > 0, which softens the outputs of both networks.
        hard: Weight of the loss on the labels.
    """

    alpha: Weight = 1.0
    beta: Weight = 8.0
    temperature: Temperature = 4.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    min_classes: ClassVar[int] = 3
    test_options: ClassVar[Mapping[str, object]] = {"alpha": 0.5, "beta": 2.0, "temperature": 2.0, "hard": 0.7}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels and both weighted divergences (nats), each of shape (k, n)."""
        target, non_target = decoupled(signals.logits, signals.teacher_logits, signals.labels, self.temperature)
        return {
            "labels": self.hard * signals.label_losses,
            "target": self.alpha * target,
            "non_target": self.beta * non_target,
        }


def decoupled(
    student: "Logits", teacher: "Logits", labels: "Labels", temperature: "float | Tensor"
) -> "tuple[PerExample, PerExample]":
    """Compute both parts of the divergence of the student from the teacher, without overflow for large logits.

    Args:
        student: Logits of the networks in training, shape (k, n, classes).
        teacher: Logits of the teachers, same shape. They get no gradient.
        labels: Class of each example, shape (k, n).
        temperature: T > 0; a (k, 1) tensor if it varies in a pack.

    Returns:
        T^2 TCKD and T^2 NCKD (nats per example), each of shape (k, n).
    """
    import torch
    import torch.nn.functional as F

    targets, rests = [], []
    for logits in (upcast(teacher).detach(), upcast(student)):
        scaled = logits / per_class(temperature)
        log_p, rest = F.log_softmax(scaled, -1), others(scaled, labels)
        log_target = of_label(log_p, labels)
        targets.append(torch.stack((log_target, others(log_p, labels).logsumexp(-1)), -1))
        rests.append(F.log_softmax(rest, -1))
    return temperature**2 * divergence(*targets), temperature**2 * divergence(*rests)
