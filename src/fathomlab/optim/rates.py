"""Inputs of an optimizer step in addition to gradients, and helpers for stacked tensors."""

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
OptimizerState = dict[str, list["Tensor"]]


@dataclass
class Rates:
    """Hyperparameters that change between steps or differ between replicas.

    Attributes:
        lr: Learning rate; a tensor (k,) if it differs between the replicas.
        weight_decay: Weight decay; a tensor (k,) if it differs between the replicas.
        momentum: First-moment decay if a schedule cycles it; None to use the option of the optimizer.

    In a captured step, `lr` and `momentum` are tensors on the device. The host fills them before each replay.
    """

    lr: "float | Tensor"
    weight_decay: "float | Tensor"
    momentum: "float | Tensor | None" = None

    def fused(self) -> bool:
        """Whether torch's fused kernels accept the values: equal for all replicas, and no momentum tensor."""
        lr_is_shared = isinstance(self.lr, float | int) or self.lr.dim() == 0
        return lr_is_shared and isinstance(self.weight_decay, float) and isinstance(self.momentum, float | None)


def per_replica(value: "float | Tensor", like: "Tensor") -> "float | Tensor":
    """Reshape a value per replica so that it broadcasts against the stacked tensor `like`."""
    if isinstance(value, int | float) or value.dim() == 0:
        return value
    return value.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))


def zeros_like(params: Tensors) -> "list[Tensor]":
    """Create zeros with the shapes and the memory layout of `params`. The planner passes no tensors, and loads no torch."""
    return [param.clone().zero_() for param in params]
