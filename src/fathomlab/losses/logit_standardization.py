"""Distillation of standardized logits (Sun et al., 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Temperature, Weight
from fathomlab.losses.distillation import distillation_loss
from fathomlab.losses.logits import unit_deviations, upcast

if TYPE_CHECKING:
    from fathomlab.base.axes import Logits, PerExample


@final
@dataclass(frozen=True)
class LogitStandardization(LossDefaults):
    """hard L + weight T^2 KL(teacher || student) for standardized logits, where L is the student's loss on the labels.

    Sun et al., 2024, arXiv 2403.01427, algorithm 1. The logits of each example are shifted and scaled to mean 0 and standard
    deviation 1 (divisor C - 1, with C classes). Equal logits become zeros. A positive scale or a shift of the logits of a
    network changes nothing. The defaults are the paper's for CIFAR-100. No probability exceeds
    1 / (1 + (C - 1) exp(-sqrt(C) / T)): with T = 2, 0.60 for 100 classes, and 0.35 for 10, where a T of about 1 suits better.

    Attributes:
        weight: Weight of the divergence from the teacher. The paper's tuned weights depend on the pair of networks.
        temperature: T > 0, which softens the outputs of both networks.
        hard: Weight of the loss on the labels.
    """

    weight: Weight = 9.0
    temperature: Temperature = 2.0
    hard: Weight = 0.1

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    test_options: ClassVar[Mapping[str, object]] = {"weight": 3.0, "temperature": 1.0, "hard": 0.5}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels and the weighted divergence (nats), each of shape (k, n)."""
        student, teacher = standardize(signals.logits), standardize(signals.teacher_logits)
        soft = distillation_loss(student, teacher, self.temperature)
        return {"labels": self.hard * signals.label_losses, "distillation": self.weight * soft}


def standardize(logits: "Logits") -> "Logits":
    """Shift and scale the logits of each example to mean 0 and standard deviation 1 (divisor C - 1); equal logits to 0."""
    return unit_deviations(upcast(logits), -1) * (logits.shape[-1] - 1) ** 0.5
