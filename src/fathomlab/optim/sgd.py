"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.errors import Issue
from fathomlab.base.options import Fraction
from fathomlab.optim.rates import OptimizerState, Rates, Tensors, WeightDecay, per_replica, zeros_like

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, equal to torch.optim.SGD.

    Attributes:
        momentum: Decay of the sum of gradients; 0 for none.
        dampening: Fraction by which a gradient is reduced before it is added to the momentum.
        weight_decay: Factor of the parameters that is added to the gradients.
        nesterov: Use Nesterov's momentum; needs `momentum` and no `dampening`.
    """

    momentum: Fraction = 0.0
    dampening: Fraction = 0.0
    weight_decay: WeightDecay = 0.0
    nesterov: bool = False

    test_options: ClassVar[dict[str, object]] = {"momentum": 0.9}

    def validate(self) -> list[Issue]:
        """Return conflicts between the options: Nesterov requires momentum without dampening."""
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            return [Issue("conflict", "nesterov", "requires momentum > 0 and dampening 0")]
        return []

    def init_state(self, params: Tensors) -> OptimizerState:
        """Create the momentum if it is used."""
        return {"momentum": zeros_like(params)} if self.momentum else {}

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place. `count` is the number of this step, from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
            grad = grad + per_replica(rates.weight_decay, param) * param
            if self.momentum:
                buffer = state["momentum"][index]
                buffer.mul_(momentum).add_(grad * _undamped(count, self.dampening) if self.dampening else grad)
                grad = grad + momentum * buffer if self.nesterov else buffer
            param.sub_(per_replica(rates.lr, param) * grad)


def _undamped(count: "Step", dampening: float) -> "float | Tensor":
    """Return the factor of a gradient in the momentum. As in torch, the first gradient is not dampened."""
    return 1 - dampening * ((count != 1) if isinstance(count, int) else (count != 1).double())
