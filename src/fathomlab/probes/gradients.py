"""Gradient norms per layer, in the network's order."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.options import PositiveInt

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Gradients:
    """Norms of the gradient of the trial's loss, on one batch of training images fixed for each seed.

    Batch statistics, no dropout, no augmentation; weights apart from biases and normalization (science: one profile for the
    weights dLoss/dW, one for the activations dLoss/dh, which is the object of the theory).

    Attributes:
        examples: Size of the batch, the trial's batch size where it is smaller.
        float64: Compute in float64 whatever the trial trains in: float32 loses gradients below 1e-38, and their slope.
    """

    examples: PositiveInt = 128
    float64: bool = False

    columns: ClassVar[dict[str, str | None]] = {"weight": "layers", "activation": "points"}
    tiny: ClassVar[dict[str, object]] = {"examples": 8, "float64": True}

    def measure(self, snapshot: "Snapshot") -> dict[str, Any]:
        """Frobenius norms, float64 (k, layers): `weight` for each weight matrix or kernel, `activation` for each layer's output.

        The loss is the mean over the batch, so that an activation gradient is that of one example's share. `dtype` is the
        format in which the products were computed.
        """
        import torch

        from fathomlab.probes.norms import norms

        snapshot = snapshot.in_double() if self.float64 else snapshot
        weights = snapshot.weights()
        taps: list[torch.Tensor] = []
        with torch.enable_grad():
            loss = snapshot.loss(snapshot.fixed_batch(self.examples), taps)
            gradients = torch.autograd.grad(loss, [*weights, *taps])
        return {
            "dtype": snapshot.format,
            "layers": list(snapshot.layers),
            "weight": norms(gradients[: len(weights)]),
            "points": list(snapshot.points),
            "activation": norms([snapshot.by_replica(gradient) for gradient in gradients[len(weights) :]]),
        }
