"""Gradient norms per layer, in the order of the forward pass."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import PositiveInt
from fathomlab.probes.columns import Column, Measured

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Gradients:
    """Norms of the gradient of the trial's loss on one batch of training images that is fixed per seed.

    Measured with batch statistics, without dropout and augmentation. There is one profile for the weights, dLoss/dW, without
    biases and normalization, and one for the activations, dLoss/dh, which the theory describes.

    Attributes:
        examples: Batch size, at most the trial's.
        float64: Whether to compute in float64 for every training precision. float32 loses gradients below 1e-38.
    """

    examples: PositiveInt = 128
    float64: bool = False

    title: ClassVar[str] = "Gradients by layer"
    note: ClassVar[str] = ""
    columns: ClassVar[dict[str, Column]] = {
        "activation": Column("Activation gradients (dLoss/dh)", axis="point", figure="heatmap", log=True),
        "weight": Column("Weight gradients (dLoss/dW)", axis="layer", figure="heatmap", log=True),
    }
    needs_maps: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"examples": 8, "float64": True}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Measure Frobenius norms, float64.

        Returns:
            `weight`: gradient norm of each weight matrix or kernel, (k, layers), named by `layers`.
            `activation`: gradient norm of the output of each layer or block, (k, points), named by `points`. The loss is
            the mean over the batch, which scales this gradient by 1 / batch size.
            `dtype`: format in which the products were computed.
        """
        import torch

        from fathomlab.probes.norms import norms

        snapshot = snapshot.to_float64() if self.float64 else snapshot
        weights = snapshot.weights()
        taps: list[torch.Tensor] = []
        with torch.enable_grad():
            loss = snapshot.loss(snapshot.probe_batch(self.examples), taps)
            gradients = torch.autograd.grad(loss, [*weights, *taps], materialize_grads=True)
        return {
            "dtype": snapshot.dtype,
            "layers": list(snapshot.layers),
            "weight": norms(gradients[: len(weights)]),
            "points": list(snapshot.points),
            "activation": norms([snapshot.by_replica(gradient) for gradient in gradients[len(weights) :]]),
        }
