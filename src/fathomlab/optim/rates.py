"""What an optimizer's step reads besides gradients, and helpers on stacked tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from fathomlab.base.packing import Varies

if TYPE_CHECKING:
    from torch import Tensor

    Step = int | Tensor

WeightDecay = Annotated[float, Interval(ge=0), Varies()]
Tensors = Sequence["Tensor"]
Slots = dict[str, list["Tensor"]]


@dataclass
class Rates:
    """What changes from step to step, or from replica to replica.

    Attributes:
        lr: Learning rate; (k,) where it differs between the replicas.
        weight_decay: Likewise.
        momentum: First-moment decay that a schedule cycles, or None for the optimizer's own.

    In a captured step lr and momentum are tensors on the device, which the host fills before each replay.
    """

    lr: "float | Tensor"
    weight_decay: "float | Tensor"
    momentum: "float | Tensor | None" = None

    def fused(self) -> bool:
        """Whether torch's fused kernels can take them: all replicas have the same, and nothing that is cycled is a tensor."""
        alike = isinstance(self.lr, float | int) or self.lr.dim() == 0
        return alike and isinstance(self.weight_decay, float) and isinstance(self.momentum, float | None)


def per_replica(value: "float | Tensor", like: "Tensor") -> "float | Tensor":
    """A value per replica, shaped to act on a stacked tensor."""
    if isinstance(value, int | float) or value.dim() == 0:
        return value
    return value.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))


def zeros(values: Tensors) -> "list[Tensor]":
    """New tensors of the same shapes and memory order."""
    import torch

    return [torch.zeros_like(value) for value in values]
