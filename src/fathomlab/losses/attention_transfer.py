"""Attention transfer (Zagoruyko and Komodakis, 2017)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.errors import Issue
from fathomlab.losses.defaults import LossDefaults, Points, Weight
from fathomlab.losses.features import common_points, partner, point_issues, unit

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import PerExample


@final
@dataclass(frozen=True)
class AttentionTransfer(LossDefaults):
    """hard L + weight sum over layers |a_s - a_t|^2 / positions, where L is the student's loss on the labels.

    Zagoruyko and Komodakis, 2017, arXiv 1612.03928, equation 2, with squares averaged over positions, as in the authors' code. An
    attention map a is the sum of the squared channels at each position, divided by its Euclidean norm. The maps of student and
    teacher must have equal sizes; numbers of channels may differ. Networks without maps are refused.

    Attributes:
        layers: Points of the student: names of blocks as in the probe `gradients`. The teacher's point is its last one of the
            same height and width. `[]` selects the last point of each height and width that both networks have.
        weight: Weight of the difference of the maps.
        hard: Weight of the loss on the labels.
    """

    layers: tuple[str, ...] = ()
    weight: Weight = 1000.0
    hard: Weight = 1.0

    needs: ClassVar[frozenset[Any]] = frozenset({"features", "teacher.features"})
    test_options: ClassVar[Mapping[str, object]] = {"weight": 20.0, "hard": 0.7}

    def mismatches(self, student: Points, teacher: Points) -> list[Issue]:
        """Return points that the student does not have, without positions, or whose size the teacher does not have."""
        issues = [issue for name in self.layers for issue in point_issues("layers", name, student, teacher)]
        if issues or len(self._pairs(student, teacher)) >= max(1, len(self.layers)):
            return issues
        where = " at each of these points" if self.layers else ""
        text = f"student and teacher must have maps of the same height and width, larger than 1 x 1{where}"
        return [Issue("data-mismatch", "layers", text)]

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the weighted loss on the labels (nats) and the weighted difference of the maps, each of shape (k, n)."""
        student, teacher = signals.features, signals.teacher_features
        shapes = ({name: tuple(each.shape[2:]) for name, each in features.items()} for features in (student, teacher))
        losses = [attention_loss(student[first], teacher[second]) for first, second in self._pairs(*shapes)]
        return {"labels": self.hard * signals.label_losses, "attention": self.weight * sum(losses[1:], losses[0])}

    def _pairs(self, student: Points, teacher: Points) -> list[tuple[str, str]]:
        """Points of both networks with more than one position; the map of one position is always 1."""
        if self.layers:
            pairs = [(name, partner(name, student, teacher)) for name in self.layers]
        else:
            pairs = list(common_points(student, teacher).items())
        return [(first, second) for first, second in pairs if student[first][1:] not in ((), (1, 1))]


def attention_loss(student: "Tensor", teacher: "Tensor") -> "PerExample":
    """Compute the mean squared difference between normalized attention maps, (k, n).

    Args:
        student: Maps, (k, n, c, h, w).
        teacher: Maps, (k, n, other c, h, w). They get no gradient.
    """
    first, second = (unit(maps.square().mean(2).flatten(2)) for maps in (student, teacher.detach()))
    return (first - second).square().mean(-1)
