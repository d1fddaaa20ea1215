"""Update-to-weight ratios: what the optimizer makes of the gradients, layer by layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.options import PositiveInt

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


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

    columns: ClassVar[dict[str, str | None]] = {"ratio": "layers", "weight": "layers", "update": "layers"}
    tiny: ClassVar[dict[str, object]] = {"examples": 8}

    def measure(self, snapshot: "Snapshot") -> dict[str, Any]:
        """Frobenius norms for each weight matrix or kernel, float64 (k, layers): `weight`, `update`, and their `ratio`.

        The ratio is NaN where a weight is exactly 0.
        """
        import torch

        from fathomlab.probes.norms import norms

        weights = snapshot.weights()
        with torch.enable_grad():
            loss = snapshot.loss(snapshot.fixed_batch(self.examples))
            gradients = torch.autograd.grad(loss, list(snapshot.parameters.values()))
        moved = snapshot.next_weights(gradients)
        weight = norms(weights)
        update = norms([after.double() - before.double() for after, before in zip(moved, weights, strict=True)])
        return {
            "layers": list(snapshot.layers),
            "ratio": torch.where(weight > 0, update / weight, torch.nan),
            "weight": weight,
            "update": update,
        }
