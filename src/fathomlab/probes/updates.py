"""Update-to-weight ratios: what the optimizer makes of the gradients, layer by layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.options import PositiveInt

if TYPE_CHECKING:
    from fathomlab.engine.training import Training


@final
@dataclass(frozen=True)
class Updates:
    """|dW| / |W| for the step that the optimizer would take next, on one batch of training images fixed for each seed.

    The optimizer's own rule on copies of weights and optimizer state, with weight decay, clipping and the next step's
    learning rate: under Adam the size of a gradient says little about the size of its step. The gradient is that of the
    fixed batch (batch statistics, no dropout, no augmentation), so that a step is comparable between snapshots. After the
    last step the rates are the last step's.

    Attributes:
        examples: Size of the batch, the trial's batch size where it is smaller.
    """

    examples: PositiveInt = 128

    tiny: ClassVar[dict[str, object]] = {"examples": 8}

    def measure(self, training: "Training") -> dict[str, Any]:
        """Frobenius norms for each weight matrix or kernel, float64 (k, layers): `weight`, `update`, and their `ratio`.

        The ratio is NaN where a weight is exactly 0.
        """
        import torch

        from fathomlab.engine.optim import Rates
        from fathomlab.engine.state import shared
        from fathomlab.engine.step import clip
        from fathomlab.probes.fixed import fixed_batch, loss, norms

        state, common = training.state, training.common
        with torch.enable_grad():
            total = loss(training, fixed_batch(training, self.examples))
            gradients = list(torch.autograd.grad(total, list(state.values.values())))
        epoch = min(state.epoch, common.epochs - 1)
        place = min(state.step - epoch * training.steps_per_epoch, training.steps_per_epoch - 1)
        with torch.no_grad():
            if common.gradient_clip is not None:
                clip(gradients, common.gradient_clip)
            moved = {name: value.detach().clone() for name, value in state.values.items()}
            slots = {name: [tensor.clone() for tensor in tensors] for name, tensors in state.slots.items()}
            lr, momentum = training.rates(epoch, place)
            rates = Rates(shared(lr, training.device), training.weight_decay, momentum)
            common.optimizer.update(list(moved.values()), gradients, slots, state.step + 1, rates)
            names = [f"{name}.weight" for name in common.architecture.weighted]
            weight = norms([state.values[name] for name in names])
            update = norms([moved[name].double() - state.values[name].double() for name in names])
        return {
            "layers": list(common.architecture.weighted),
            "ratio": torch.where(weight > 0, update / weight, torch.nan),
            "weight": weight,
            "update": update,
        }
