"""Gradient norms per layer, in the network's order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from fathomlab.base.identity import stream
from fathomlab.engine.training import Training


@final
@dataclass(frozen=True)
class Gradients:
    """Norms of the gradient of the trial's loss, on one batch of training images fixed for each seed.

    Batch statistics, no dropout, no augmentation; weights apart from biases and normalisation (science: one profile for the
    weights dLoss/dW, one for the activations dLoss/dh, which is the object of the theory).

    Attributes:
        examples: Size of the batch, the trial's batch size where it is smaller.
    """

    examples: int = 128

    tiny: ClassVar[dict[str, object]] = {"examples": 8}

    def measure(self, training: Training) -> dict[str, Any]:
        """Frobenius norms, float64 (k, layers): `weight` for each weight matrix or kernel, `activation` for each layer's output.

        The loss is the mean over the batch, so that an activation gradient is that of one example's share.
        """
        index = self._index(training)
        names = training.common.architecture.weighted
        weights = [training.state.values[f"{name}.weight"] for name in names]
        taps: list[Tensor] = []
        with torch.enable_grad():
            images = training.batch(index, None)
            logits = training.forward(images, "measure", None, taps)
            loss = training.objective(logits, index, images).mean(1).sum()
            gradients = torch.autograd.grad(loss, [*weights, *taps])
        of_weights = [gradient.flatten(1) for gradient in gradients[: len(weights)]]
        of_outputs = [_by_replica(gradient, len(training.recipes)) for gradient in gradients[len(weights) :]]
        return {
            "layers": list(names),
            "weight": _norms(of_weights),
            "points": list(training.common.architecture.taps),
            "activation": _norms(of_outputs),
        }

    def _index(self, training: Training) -> Tensor:
        rows = training.train_index
        count = min(self.examples, training.common.batch_size, rows.shape[1])
        places = [
            stream(recipe.seed, "probe").choice(rows.shape[1], count, replace=False) for recipe in training.recipes
        ]
        return torch.stack(
            [row[torch.from_numpy(place).to(row.device)] for row, place in zip(rows, places, strict=True)]
        )


def _by_replica(gradient: Tensor, replicas: int) -> Tensor:
    """Features (k, n, d) or maps (n, k * c, h, w) as one row a replica."""
    if gradient.dim() == 4:
        gradient = gradient.unflatten(1, (replicas, -1)).transpose(0, 1)
    return gradient.flatten(1)


def _norms(rows: Sequence[Tensor]) -> Tensor:
    """Norm of each row in float64, so that squares of tiny gradients do not vanish; one column a tensor."""
    return torch.stack([row.detach().double().square().sum(1).sqrt() for row in rows], 1)
