"""One optimizer step of a pack: batch, loss, gradients, update. Nothing here waits for the device."""

import torch
from torch import Tensor

from fathomlab.base.noise import mix
from fathomlab.base.shapes import Indices
from fathomlab.engine.state import shared
from fathomlab.engine.training import Feed, Training
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.optim.rates import Rates


def step(training: Training, index: Indices, epoch: int, place: int, dropout: Tensor) -> None:
    """Train on the images at `index`, (k, n), and update the state and the sums of the pack.

    Args:
        training: The pack.
        index: Indices into the training set.
        epoch: Completed epochs.
        place: Completed batches of the current epoch.
        dropout: Random keys of this epoch, (k,).
    """
    lr, momentum = training.rates(epoch, place)
    own = Rates(shared(lr, training.device), training.weight_decay, momentum)
    feed = Feed(index, epoch, mix(dropout, place), own, training.state.step + 1)
    if training.replay is not None and index.shape[1] == training.common.batch_size:
        training.replay(feed)
    else:
        advance(training, feed)
    training.state.step += 1


def advance(training: Training, feed: Feed) -> None:
    """Run a step on the device. Everything that changes from step to step is in `feed`, so that a CUDA graph can replay it."""
    if training.parts:
        _apart(training, feed)
        return
    state, common = training.state, training.common
    images, labels = training.batch(feed.index, feed.epoch), training.data.labels[feed.index]
    taught = training.taught(feed.index, images)
    whole = feed.index.shape[1] == common.batch_size
    logits, losses = (_compiled if training.compiled and whole else _forward)(
        training, images, labels, taught, feed.dropout
    )
    loss = losses.mean(1)
    gradients = list(torch.autograd.grad(loss.sum(), list(state.values.values())))
    with torch.no_grad():
        if common.gradient_clip is not None:
            clip(gradients, common.gradient_clip)
        values = [value.detach() for value in state.values.values()]
        common.optimizer.update(values, gradients, state.slots, feed.count, feed.rates)
        bad = ~torch.isfinite(loss) & (state.bad_step == 0)
        state.bad_step.copy_(torch.where(bad, feed.count, state.bad_step))
        hard = losses if training.plain else cross_entropy(logits, labels)
        state.sums[0] += hard.double().sum(1)
        state.sums[1] += (logits.argmax(-1) == labels).sum(1)
        state.sums[2] += losses.double().sum(1)


def _apart(training: Training, feed: Feed) -> None:
    """Step each replica separately; on a CUDA device in parallel streams, because one replica cannot fill the device."""
    streams = training.streams
    now = torch.cuda.current_stream(training.device) if streams else None
    for place, part in enumerate(training.parts):
        if now is None:
            advance(part, feed.part(place))
            continue
        streams[place].wait_stream(now)
        with torch.cuda.stream(streams[place]):
            advance(part, feed.part(place))
    if now is not None:
        for stream in streams:
            now.wait_stream(stream)


def _forward(
    training: Training, images: Tensor, labels: Tensor, taught: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits and the training loss of each example."""
    logits = training.forward(images, "train", keys)
    return logits, training.loss(logits, labels, taught)


def _compiled(
    training: Training, images: Tensor, labels: Tensor, taught: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """The same, compiled once per shape, with its gradient."""
    if training.program is None:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import, and few packs compile

        torch.compiler.reset()  # torch limits the shapes per function, and each pack is a new shape
        # Otherwise torch reuses code that was compiled for a wider instruction set, and gets NaN.
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        training.program = torch.compile(_forward, dynamic=False)
        try:
            return training.program(training, images, labels, taught, keys)
        except TorchDynamoException:  # for example, a compiler without headers: run eagerly
            training.compiled = False
            return _forward(training, images, labels, taught, keys)
    return training.program(training, images, labels, taught, keys)


def clip(gradients: list[Tensor], largest: float) -> None:
    """Scale the gradient of each replica to a norm of at most `largest`, as `torch.nn.utils.clip_grad_norm_` does."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    scale = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *([1] * (gradient.dim() - 1))))
