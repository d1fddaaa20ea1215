"""Correlation of predictions (Huang et al., 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Temperature, Weight
from fathomlab.losses.logits import per_class, unit_deviations, upcast

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Logits, PerExample


@final
@dataclass(frozen=True)
class DIST(LossDefaults):
    """hard L + T^2 (beta inter + gamma intra), where L is the student's loss on the labels.

    Huang et al., 2022, arXiv 2205.10536, equations 8 to 10. Both terms are 1 - r, where r is Pearson's correlation of the
    probabilities of student and teacher at temperature T. `inter` correlates over the classes of an example, `intra` over the
    examples of a batch for each class, so it depends on the batch size. The correlation with a constant is 0. A batch of
    one example has the intra term 1 without a gradient.

    Attributes:
        beta: Weight of the correlation over classes. The paper uses 1 to 2.
        gamma: Weight of the correlation over examples. The paper uses 1 to 2.
        temperature: T > 0, which softens the outputs of both networks. The paper uses 1, and 4 for CIFAR-100.
        hard: Weight of the loss on the labels.
    """

    beta: Weight = 1.0
    gamma: Weight = 1.0
    temperature: Temperature = 1.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"teacher.logits"})
    compares_examples: ClassVar[bool] = True
    test_options: ClassVar[Mapping[str, object]] = {"beta": 2.0, "gamma": 0.5, "temperature": 4.0, "hard": 0.7}

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels (nats) and both weighted correlation terms, each of shape (k, n)."""
        inter, intra = correlation_losses(signals.logits, signals.teacher_logits, self.temperature)
        return {"labels": self.hard * signals.label_losses, "inter": self.beta * inter, "intra": self.gamma * intra}


def correlation_losses(
    student: "Logits", teacher: "Logits", temperature: "float | Tensor"
) -> "tuple[PerExample, PerExample]":
    """Compute T^2 (1 - r) over the classes of each example, and its mean over the classes for each batch.

    Args:
        student: Logits of the networks in training, shape (k, n, classes).
        teacher: Logits of the teachers, same shape. They get no gradient.
        temperature: T > 0; a (k, 1) tensor if it varies in a pack.

    Returns:
        The terms over classes and over examples, each of shape (k, n). The second is equal for all examples of a replica.
    """
    import torch.nn.functional as F

    scale = per_class(temperature)
    p, q = F.softmax(upcast(teacher).detach() / scale, -1), F.softmax(upcast(student) / scale, -1)
    inter = 1 - correlation(p, q, -1)
    intra = 1 - correlation(p, q, 1).mean(-1, keepdim=True)
    return temperature**2 * inter, (temperature**2 * intra).expand_as(inter)


def correlation(first: "Tensor", second: "Tensor", dim: int) -> "Tensor":
    """Compute Pearson's correlation along `dim`; 0 if one of the two is constant."""
    return (unit_deviations(first, dim) * unit_deviations(second, dim)).sum(dim)
