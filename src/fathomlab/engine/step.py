"""One optimiser step of a pack: batch, loss, gradients, update. Nothing here waits for the device."""

import torch
from torch import Tensor

from fathomlab.base.shapes import Indices
from fathomlab.engine.state import rates
from fathomlab.engine.training import Training
from fathomlab.losses.supervised import cross_entropy

SUMS = 3


def step(training: Training, index: Indices, epoch: int, place: int, keys: Tensor, sums: Tensor) -> None:
    """Train on the images at `index`, (k, n).

    Args:
        training: The pack; its state is moved.
        index: Places in the training set.
        epoch: Epochs done.
        place: Batches of the present epoch done.
        keys: Random keys of this step, (k,).
        sums: Added to in place, float64 (3, k): cross-entropy, correct answers, the trial's own loss.
    """
    state, common = training.state, training.common
    images, labels = training.batch(index, epoch), training.data.labels[index]
    taught = training.taught(index, images)
    whole = index.shape[1] == common.batch_size
    logits, losses = (_compiled if training.compiled and whole else _forward)(training, images, labels, taught, keys)
    loss = losses.mean(1)
    gradients = list(torch.autograd.grad(loss.sum(), list(state.values.values())))
    with torch.no_grad():
        if common.gradient_clip is not None:
            _clip(gradients, common.gradient_clip)
        state.step += 1
        lr, momentum = training.rates(epoch, place)
        values = [value.detach() for value in state.values.values()]
        now = rates(training.recipes, lr, momentum, training.device)
        common.optimiser.update(values, gradients, state.slots, state.step, now)
        bad = ~torch.isfinite(loss) & (state.bad_step == 0)
        state.bad_step.masked_fill_(bad, state.step)
        hard = losses if training.plain else cross_entropy(logits, labels)
        sums[0] += hard.double().sum(1)
        sums[1] += (logits.argmax(-1) == labels).sum(1)
        sums[2] += losses.double().sum(1)


def _forward(
    training: Training, images: Tensor, labels: Tensor, taught: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and the trial's own loss of each example."""
    logits = training.forward(images, "train", keys)
    return logits, training.loss(logits, labels, taught)


def _compiled(
    training: Training, images: Tensor, labels: Tensor, taught: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """The same, compiled once for each shape; its gradient is compiled with it."""
    if training.program is None:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to load, and few packs compile

        torch.compiler.reset()  # torch compiles one function for a few shapes only; each pack is a shape of its own
        training.program = torch.compile(_forward, dynamic=False)
        try:
            return training.program(training, images, labels, taught, keys)
        except TorchDynamoException:  # a compiler without its headers, say: slower is better than failed
            training.compiled = False
            return _forward(training, images, labels, taught, keys)
    return training.program(training, images, labels, taught, keys)


def _clip(gradients: list[Tensor], largest: float) -> None:
    """Scale each replica's gradient to a norm of at most `largest`, as torch's clip_grad_norm_ does for one network."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    scale = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *([1] * (gradient.dim() - 1))))
