"""Relational knowledge distillation (Park et al., 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import PerExample

TRIPLES = 8  # numbers per three examples of a batch: four for the gradient, and temporary ones


@final
@dataclass(frozen=True)
class RKD(LossDefaults):
    """hard L + distance D + angle A, where L is the student's loss on the labels.

    Park et al., 2019, arXiv 1904.05068, equations 5 to 9. D and A are Huber losses between student and teacher: of the distances
    between the features of two examples of a batch, divided by their mean over the batch, and of the cosines of the angles of
    three examples. The features are the outputs of the last point of each network (the last block), averaged over positions;
    their numbers may differ. Both means include pairs of an example with itself, as in the authors' code. Cost and
    memory of A grow with the cube of the batch size.

    Attributes:
        distance: Weight of the distances.
        angle: Weight of the angles.
        hard: Weight of the loss on the labels.
    """

    distance: Weight = 25.0
    angle: Weight = 50.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"features", "teacher.features"})
    compares_examples: ClassVar[bool] = True
    test_options: ClassVar[Mapping[str, object]] = {"distance": 2.0, "angle": 3.0, "hard": 0.7}

    def batch_numbers(self, batch_size: int) -> int:
        """The angles of all triples, and what their gradient needs."""
        return TRIPLES * batch_size**3

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels (nats) and both weighted relations (dimensionless), each of shape (k, n)."""
        student, teacher = (_last(features) for features in (signals.features, signals.teacher_features))
        distance, angle = relation_losses(student, teacher.detach())
        return {
            "labels": self.hard * signals.label_losses,
            "distance": self.distance * distance,
            "angle": self.angle * angle,
        }


def relation_losses(student: "Tensor", teacher: "Tensor") -> "tuple[PerExample, PerExample]":
    """Compare the distances and angles between the examples of a batch.

    Args:
        student: Features, (k, n, d).
        teacher: Features, (k, n, other d).

    Returns:
        Mean Huber loss of the distances to all examples, and of the angles at this example between all pairs, each (k, n).
    """
    import torch.nn.functional as F

    distances, angles = zip(*(_relations(features) for features in (student, teacher)), strict=True)
    distance = F.smooth_l1_loss(*distances, reduction="none").mean(-1)
    return distance, F.smooth_l1_loss(*angles, reduction="none").mean((-1, -2))


def _relations(features: "Tensor") -> "tuple[Tensor, Tensor]":
    """Distances divided by their mean, (k, n, n), and cosines of the angles at the first of three examples, (k, n, n, n)."""
    import torch

    exact = "donot_use_mm_for_euclid_dist"  # products lose the distances of similar examples
    distances = torch.cdist(features, features, compute_mode=exact)
    apart = distances > 0
    mean = distances.sum((-1, -2), keepdim=True) / apart.sum((-1, -2), keepdim=True).clamp(min=1)
    centered = features - features.mean(1, keepdim=True)
    products = centered @ centered.transpose(1, 2)
    at_vertex = products.unsqueeze(1) - products.unsqueeze(2) - products.unsqueeze(3)  # (b - a)(c - a) without aa
    squares = products.diagonal(dim1=1, dim2=2).unsqueeze(-1).unsqueeze(-1)
    inverse = torch.where(apart, distances, 1).reciprocal() * apart
    cosines = (at_vertex + squares) * inverse.unsqueeze(3) * inverse.unsqueeze(2)
    return distances / torch.where(mean > 0, mean, 1), cosines


def _last(features: "Mapping[str, Tensor]") -> "Tensor":
    """The features of the last point, averaged over positions, (k, n, d)."""
    values = list(features.values())[-1]
    return values.flatten(3).mean(-1) if values.dim() > 3 else values
