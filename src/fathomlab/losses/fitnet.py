"""Hints from a teacher's features (Romero et al., 2015)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.errors import Issue
from fathomlab.losses.defaults import LossDefaults, Points, Weight
from fathomlab.losses.features import common_points, partner, point_issues
from fathomlab.models.parameters import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import PerExample


@final
@dataclass(frozen=True)
class FitNet(LossDefaults):
    """hard L + weight |r(f_s) - f_t|^2 / size, where L is the student's loss on the labels.

    Romero et al., 2015, arXiv 1412.6550, equation 3, but in one phase together with the labels, and with a squared difference
    that is averaged over channels and positions. r is a learned linear map of the student's channels to the teacher's, with a
    bias: a 1x1 convolution for maps. It is trained with the student and the same optimizer, and stored in `adapters.safetensors`.

    Attributes:
        layer: Point of the student: the name of a layer or block as in the probe `gradients`. The teacher's point is its last one
            of the same height and width. null is the middle one of the last points of each height and width of both networks.
        weight: Weight of the squared difference.
        hard: Weight of the loss on the labels.
    """

    layer: str | None = None
    weight: Weight = 100.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"features", "teacher.features"})
    test_options: ClassVar[Mapping[str, object]] = {"weight": 2.0, "hard": 0.7}

    def mismatches(self, student: Points, teacher: Points) -> list[Issue]:
        """Return a point that the student does not have, or whose size the teacher does not have."""
        if self.layer:
            return point_issues("layer", self.layer, student, teacher)
        text = "student and teacher have no features of the same height and width"
        return [] if common_points(student, teacher) else [Issue("data-mismatch", "layer", text)]

    def parameters(self, student: Points, teacher: Points) -> tuple[Parameter, ...]:
        """The matrix of the linear map, (channels of the teacher, channels of the student), and its bias."""
        first, second = self._pair(student, teacher)
        rows, columns = teacher[second][0], student[first][0]
        return (
            Parameter("regressor.weight", (rows, columns), "weight", "weight"),
            Parameter("regressor.bias", (rows,), "bias", "bias"),
        )

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels (nats) and the weighted squared difference, each of shape (k, n)."""
        shapes = ({name: tuple(each.shape[2:]) for name, each in features.items()} for features in _both(signals))
        first, second = self._pair(*shapes)
        weight, bias = (signals.parameters[f"regressor.{kind}"] for kind in ("weight", "bias"))
        hint = hint_loss(signals.features[first], signals.teacher_features[second], weight, bias)
        return {"labels": self.hard * signals.label_losses, "hint": self.weight * hint}

    def _pair(self, student: Points, teacher: Points) -> tuple[str, str]:
        if self.layer:
            return self.layer, partner(self.layer, student, teacher)
        pairs = list(common_points(student, teacher).items())
        return pairs[len(pairs) // 2]


def _both(signals: Any) -> "tuple[Mapping[str, Tensor], Mapping[str, Tensor]]":
    return signals.features, signals.teacher_features


def hint_loss(student: "Tensor", teacher: "Tensor", weight: "Tensor", bias: "Tensor") -> "PerExample":
    """Compute the mean squared difference between mapped features and the teacher's, (k, n).

    Args:
        student: Features, (k, n, d) or (k, n, d, h, w).
        teacher: Features, (k, n, other d) or (k, n, other d, h, w). They get no gradient.
        weight: Matrix of each replica, (k, other d, d).
        bias: Bias of each replica, (k, other d).
    """
    positions = student.flatten(3) if student.dim() > 3 else student.unsqueeze(-1)
    mapped = weight.unsqueeze(1) @ positions + bias.unsqueeze(1).unsqueeze(-1)
    return (mapped - teacher.detach().reshape(mapped.shape)).square().mean((-1, -2))
