"""RMSprop."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import Fraction, NonNegativeFloat
from fathomlab.optim.rates import OptimizerState, Rates, Tensors, WeightDecay, per_replica, zeros_like

if TYPE_CHECKING:
    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton, lecture 6e), equal to torch.optim.RMSprop.

    Attributes:
        alpha: Decay of the mean square.
        eps: Added to the root of the mean square.
        weight_decay: Factor of the parameters that is added to the gradients.
        momentum: Decay of the sum of steps; 0 for none.
        centered: Subtract the square of the mean gradient from the mean square.
    """

    alpha: Fraction = 0.99
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum: Fraction = 0.0
    centered: bool = False

    test_options: ClassVar[dict[str, object]] = {"momentum": 0.5}

    def init_state(self, params: Tensors) -> OptimizerState:
        """Create the mean square, the mean if centered, and the momentum if it is used."""
        state = {"square": zeros_like(params)}
        if self.centered:
            state["mean"] = zeros_like(params)
        if self.momentum:
            state["momentum"] = zeros_like(params)
        return state

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place. `count` is the number of this step, from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
            grad = grad + per_replica(rates.weight_decay, param) * param
            square = state["square"][index].mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
            if self.centered:
                mean = state["mean"][index].lerp_(grad, 1 - self.alpha)
                square = square - mean**2
            grad = grad / (square.sqrt() + self.eps)
            if self.momentum:
                grad = state["momentum"][index].mul_(momentum).add_(grad)
            param.sub_(per_replica(rates.lr, param) * grad)
