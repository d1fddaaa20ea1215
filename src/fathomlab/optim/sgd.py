"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import Fraction
from fathomlab.base.problems import Problem
from fathomlab.optim.rates import Rates, Slots, Tensors, WeightDecay, per_replica, zeros

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD."""

    momentum: Fraction = 0.0
    dampening: Fraction = 0.0
    weight_decay: WeightDecay = 0.0
    nesterov: bool = False

    tiny: ClassVar[dict[str, object]] = {"momentum": 0.9}

    def complaints(self) -> list[Problem]:
        """Nesterov needs momentum and no dampening."""
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            return [Problem("conflict", "nesterov", "requires momentum > 0 and dampening 0")]
        return []

    def slots(self, values: Tensors) -> Slots:
        """The momentum, where there is one."""
        return {"momentum": zeros(values)} if self.momentum else {}

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            gradient = gradient + per_replica(rates.weight_decay, value) * value
            if self.momentum:
                buffer = slots["momentum"][place]
                buffer.mul_(momentum).add_(gradient * _undamped(step, self.dampening) if self.dampening else gradient)
                gradient = gradient + momentum * buffer if self.nesterov else buffer
            value.sub_(per_replica(rates.lr, value) * gradient)


def _undamped(step: "Step", dampening: float) -> "float | Tensor":
    """The share of a gradient that enters the momentum: all of the first, as torch has it."""
    return 1 - dampening * ((step != 1) if isinstance(step, int) else (step != 1).double())
