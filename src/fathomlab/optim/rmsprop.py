"""RMSprop."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import Fraction, NonNegativeFloat
from fathomlab.optim.rates import Rates, Slots, Tensors, WeightDecay, per_replica, zeros

if TYPE_CHECKING:
    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton's lecture 6e), as torch.optim.RMSprop."""

    alpha: Fraction = 0.99
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum: Fraction = 0.0
    centered: bool = False

    tiny: ClassVar[dict[str, object]] = {"momentum": 0.5}

    def slots(self, values: Tensors) -> Slots:
        """The mean square, the mean where centered, the momentum where there is one."""
        made = {"square": zeros(values)}
        if self.centered:
            made["mean"] = zeros(values)
        if self.momentum:
            made["momentum"] = zeros(values)
        return made

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            gradient = gradient + per_replica(rates.weight_decay, value) * value
            square = slots["square"][place].mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
            if self.centered:
                mean = slots["mean"][place].lerp_(gradient, 1 - self.alpha)
                square = square - mean**2
            gradient = gradient / (square.sqrt() + self.eps)
            if self.momentum:
                gradient = slots["momentum"][place].mul_(momentum).add_(gradient)
            value.sub_(per_replica(rates.lr, value) * gradient)
