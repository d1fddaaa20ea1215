"""Update-to-weight ratios: the size of the optimizer's step in each layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import PositiveInt
from fathomlab.probes.columns import Column, Measured

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Updates:
    """|dW| / |W| of the optimizer's next step on one batch of training images that is fixed per seed.

    Applies the optimizer to copies of weights and optimizer state, with weight decay, clipping, and the learning rate of the
    next step. With Adam, the size of a gradient says little about the size of the step. The gradient is that of the fixed
    batch (batch statistics, no dropout, no augmentation), so steps are comparable between snapshots. After the last step,
    the learning rate of the last step is used.

    Attributes:
        examples: Batch size, at most the trial's.
    """

    examples: PositiveInt = 128

    title: ClassVar[str] = "Optimizer updates by layer"
    note: ClassVar[str] = (
        "Size of each optimizer step relative to the weights, |ΔW| / |W|. With Adam, gradient norms do not show this."
    )
    columns: ClassVar[dict[str, Column]] = {
        "ratio": Column("Update size |ΔW| / |W|", axis="layer", figure="profile", log=True),
        "weight": Column("Norm of the weights", axis="layer"),
        "update": Column("Norm of the update", axis="layer"),
    }
    needs_maps: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"examples": 8}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Measure each weight matrix or kernel, float64 (k, layers).

        Returns:
            `weight`, `update`: Frobenius norms of the weight and of its update.
            `ratio`: update / weight; NaN if the weight is exactly 0.
        """
        import torch

        from fathomlab.probes.norms import norms

        weights = snapshot.weights()
        with torch.enable_grad():
            loss = snapshot.loss(snapshot.probe_batch(self.examples))
            gradients = torch.autograd.grad(loss, list(snapshot.params.values()), materialize_grads=True)
        updated = snapshot.next_weights(gradients)
        weight = norms(weights)
        update = norms([after.double() - before.double() for after, before in zip(updated, weights, strict=True)])
        return {
            "layers": list(snapshot.layers),
            "ratio": torch.where(weight > 0, update / weight, torch.nan),
            "weight": weight,
            "update": update,
        }
