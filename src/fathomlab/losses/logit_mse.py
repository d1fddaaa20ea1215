"""Squared difference of logits (Ba and Caruana, 2014; Kim et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Weight
from fathomlab.losses.logits import upcast

if TYPE_CHECKING:
    from fathomlab.base.axes import Logits, PerExample


@final
@dataclass(frozen=True)
class LogitMSE(LossDefaults):
    """hard L + weight |z_s - z_t|^2 for centered logits z, where L is the student's loss on the labels.

    Kim et al., 2021, arXiv 2105.08919; Ba and Caruana, 2014, arXiv 1312.6184. The squares are summed over the classes. This is
    2 C times the limit of `Distillation` with alpha 1 for T to infinity, with C classes. A constant added to all logits of
    an example changes nothing.

    Attributes:
        weight: Weight of the squared difference.
        hard: Weight of the loss on the labels.
    """

    weight: Weight = 1.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    test_options: ClassVar[Mapping[str, object]] = {"weight": 0.3, "hard": 0.5}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels (nats) and the weighted squared difference (logits^2), each of shape (k, n)."""
        squares = logit_mse(signals.logits, signals.teacher_logits)
        return {"labels": self.hard * signals.label_losses, "logits": self.weight * squares}


def logit_mse(student: "Logits", teacher: "Logits") -> "PerExample":
    """Compute |z_s - z_t|^2 for centered logits z, summed over the classes, (k, n)."""
    difference = upcast(student) - upcast(teacher).detach()
    return (difference - difference.mean(-1, keepdim=True)).square().sum(-1)
