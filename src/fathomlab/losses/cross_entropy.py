"""Cross-entropy with the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from annotated_types import Interval

from fathomlab.base.packing import Varies
from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.logits import of_label, upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Labels, Logits, PerExample


@final
@dataclass(frozen=True)
class CrossEntropy(LossDefaults):
    """Cross-entropy with label smoothing (Szegedy et al., 2016), equal to torch's CrossEntropyLoss.

    Attributes:
        label_smoothing: Fraction s of the label that is distributed evenly over the classes.
    """

    label_smoothing: Annotated[float, Interval(ge=0, lt=1), Varies()] = 0.0

    test_options: ClassVar[Mapping[str, object]] = {"label_smoothing": 0.1}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute (1 - s) (-log p_y) + s mean_c(-log p_c) (nats), shape (k, n)."""
        return {"cross_entropy": cross_entropy(signals.logits, signals.labels, self.label_smoothing)}


def cross_entropy(logits: "Logits", labels: "Labels", smoothing: "float | Tensor" = 0.0) -> "PerExample":
    """Compute cross-entropy with label smoothing.

    Args:
        logits: Outputs, shape (k, n, classes).
        labels: Class of each example, shape (k, n).
        smoothing: Fraction s of the label that is distributed evenly over the classes; a (k, 1) tensor if it varies in a pack.

    Returns:
        (1 - s) (-log p_y) + s mean_c(-log p_c) (nats per example), shape (k, n). Not averaged.
    """
    import torch.nn.functional as F

    log_p = F.log_softmax(upcast(logits), dim=-1)
    hard = -of_label(log_p, labels)
    if isinstance(smoothing, float) and smoothing == 0:
        return hard
    return (1 - smoothing) * hard - smoothing * log_p.mean(-1)
