"""Evaluates networks on the straight line between the weights of two trained ones."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathomlab.engine.evaluation import EVALUATION_BATCH

MIN_BATCHES = 50  # the weight of the first statistics in a moving average with momentum 0.1 is then 0.005
Examples = tuple[Tensor, Tensor]  # normalized images (n, c, h, w) and labels (n,)


@torch.no_grad()
def evaluate_line(
    ends: tuple[nn.Module, nn.Module],
    alphas: Sequence[float],
    parts: Mapping[str, Examples],
    order: Tensor,
    batch_size: int,
) -> dict[str, list[float]]:
    """Evaluate (1 - alpha) first + alpha second for each alpha. The first module is changed.

    Running statistics do not belong to averaged weights. At each point, also at the ends, they are computed again: moving
    averages over passes through the training images in training mode, as in training with a learning rate of 0.

    Args:
        ends: Two networks of one architecture.
        alphas: Points of the line: 0 is the first network, 1 the second.
        parts: `train` and `test`.
        order: A permutation of the training images, for the batches of the running statistics.
        batch_size: Their size.

    Returns:
        `train/loss` (nats), `train/accuracy` (fraction), `test/loss`, and `test/accuracy`, one number per alpha.
    """
    network = ends[0]
    first, second = ({name: tensor.clone() for name, tensor in module.state_dict().items()} for module in ends)
    statistics = any(buffer.is_floating_point() for buffer in network.buffers())
    values: dict[str, list[float]] = {f"{part}/{name}": [] for part in parts for name in ("loss", "accuracy")}
    for alpha in alphas:
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(first[name], second[name], alpha))
        if statistics:
            _update_statistics(network, parts["train"][0], order, batch_size)
        for part, examples in parts.items():
            for name, value in zip(("loss", "accuracy"), _evaluate(network.eval(), *examples), strict=True):
                values[f"{part}/{name}"].append(value)
    return values


def _update_statistics(network: nn.Module, images: Tensor, order: Tensor, batch_size: int) -> None:
    """Run full batches in training mode: all of them, and at least `MIN_BATCHES`."""
    network.train()
    batches = order[: max(len(order) // batch_size, 1) * batch_size].split(batch_size)
    for _ in range(-(-MIN_BATCHES // len(batches))):
        for rows in batches:
            network(images[rows])


def _evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and fraction of correct predictions."""
    loss, correct = 0.0, 0
    for start in range(0, len(labels), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        logits = network(images[rows])
        loss += float(F.cross_entropy(logits.double(), labels[rows], reduction="sum"))
        correct += int((logits.argmax(-1) == labels[rows]).sum())
    return loss / len(labels), correct / len(labels)
