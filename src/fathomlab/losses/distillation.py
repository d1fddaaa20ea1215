"""Distillation from a teacher's logits (Hinton, Vinyals, Dean, 2015, arXiv 1503.02531)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from annotated_types import Interval

from fathomlab.base.packing import Varies
from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.logits import upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Logits, PerExample


@final
@dataclass(frozen=True)
class Distillation(LossDefaults):
    """(1 - alpha) L + alpha T^2 KL(teacher || student), where L is the student's loss on the labels (`label_losses`).

    Attributes:
        temperature: T > 0, which softens the outputs of both networks.
        alpha: Weight of the divergence from the teacher, 0 to 1.
    """

    temperature: Annotated[float, Interval(gt=0, le=1e6), Varies()] = 3.0
    alpha: Annotated[float, Interval(ge=0, le=1), Varies()] = 0.7

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    test_options: ClassVar[Mapping[str, object]] = {"temperature": 5.0, "alpha": 0.4}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss with the labels and the weighted divergence (nats), each of shape (k, n)."""
        soft = distillation_loss(signals.logits, signals.teacher_logits, self.temperature)
        return {"labels": (1 - self.alpha) * signals.label_losses, "distillation": self.alpha * soft}


def distillation_loss(student: "Logits", teacher: "Logits", temperature: "float | Tensor") -> "PerExample":
    """Compute the temperature-scaled divergence of the student from the teacher.

    Args:
        student: Logits of the networks in training, shape (k, n, classes).
        teacher: Logits of the teachers, same shape. They get no gradient.
        temperature: T > 0, dimensionless; a (k, 1) tensor if it varies in a pack.

    Returns:
        T^2 KL(teacher || student) (nats per example), shape (k, n). The gradient per example is
        T (softmax(z_s / T) - softmax(z_t / T)). The factor T^2 makes its size nearly independent of T.

    Raises:
        ValueError: If the networks have different numbers of classes.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
        >>> distillation_loss(logits, logits, 4.0).tolist()
        [[0.0, 0.0]]
    """
    import torch.nn.functional as F
    from torch import Tensor

    if student.shape != teacher.shape:
        raise ValueError(f"student has logits {tuple(student.shape)}, teacher {tuple(teacher.shape)}; they must agree")
    scale = temperature.unsqueeze(-1) if isinstance(temperature, Tensor) else temperature
    log_teacher = F.log_softmax(upcast(teacher).detach() / scale, dim=-1)
    log_student = F.log_softmax(upcast(student) / scale, dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
