"""One optimizer step of a pack: batch, loss, gradients, update. Nothing here waits for the device."""

import torch
from torch import Tensor

from fathomlab.base.axes import Indices
from fathomlab.base.counter_rng import splitmix64
from fathomlab.engine.state import scalar_or_tensor
from fathomlab.engine.training import PackTrainer, StepInputs
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.optim.rates import Rates


def train_step(trainer: PackTrainer, index: Indices, epoch: int, batch_index: int, dropout_keys: Tensor) -> None:
    """Train on the images at `index`, (k, n), and update the state and the sums of the pack.

    Args:
        trainer: The pack.
        index: Indices into the training set.
        epoch: Completed epochs.
        batch_index: Completed batches of the current epoch.
        dropout_keys: Random keys of this epoch, (k,).
    """
    lr, momentum = trainer.rates(epoch, batch_index)
    rates = Rates(scalar_or_tensor(lr, trainer.device), trainer.weight_decay, momentum)
    inputs = StepInputs(index, epoch, splitmix64(dropout_keys, batch_index), rates, trainer.state.step + 1)
    if trainer.captured_step is not None and index.shape[1] == trainer.shared_recipe.batch_size:
        trainer.captured_step(inputs)
    else:
        train_step_on_device(trainer, inputs)
    trainer.state.step += 1


def train_step_on_device(trainer: PackTrainer, inputs: StepInputs) -> None:
    """Run a step on the device.

    Everything that changes from step to step is in `inputs`, so that a CUDA graph can replay the step.
    """
    if trainer.replica_trainers:
        _step_replicas(trainer, inputs)
        return
    state, recipe = trainer.state, trainer.shared_recipe
    images, labels = trainer.batch(inputs.index, inputs.epoch), trainer.data.labels[inputs.index]
    teacher_logits = trainer.teacher_logits(inputs.index, images)
    full_batch = inputs.index.shape[1] == recipe.batch_size
    forward = _compiled_forward if trainer.compiled and full_batch else _forward
    logits, losses = forward(trainer, images, labels, teacher_logits, inputs.dropout_keys)
    loss = losses.mean(1)
    grads = list(torch.autograd.grad(loss.sum(), list(state.params.values())))
    with torch.no_grad():
        if recipe.gradient_clip is not None:
            clip_gradients(grads, recipe.gradient_clip)
        params = [param.detach() for param in state.params.values()]
        recipe.optimizer.step(params, grads, state.optimizer_state, inputs.count, inputs.rates)
        diverged = ~torch.isfinite(loss) & (state.diverged_at_step == 0)
        state.diverged_at_step.copy_(torch.where(diverged, inputs.count, state.diverged_at_step))
        hard = losses if trainer.plain else cross_entropy(logits, labels)
        state.epoch_sums[0] += hard.double().sum(1)
        state.epoch_sums[1] += (logits.argmax(-1) == labels).sum(1)
        state.epoch_sums[2] += losses.double().sum(1)


def _step_replicas(trainer: PackTrainer, inputs: StepInputs) -> None:
    """Step each replica separately, on a CUDA device in parallel streams, because one replica cannot fill the device."""
    streams = trainer.streams
    current = torch.cuda.current_stream(trainer.device) if streams else None
    for slot, replica_trainer in enumerate(trainer.replica_trainers):
        if current is None:
            train_step_on_device(replica_trainer, inputs.replica(slot))
            continue
        streams[slot].wait_stream(current)
        with torch.cuda.stream(streams[slot]):
            train_step_on_device(replica_trainer, inputs.replica(slot))
    if current is not None:
        for stream in streams:
            current.wait_stream(stream)


def _forward(
    trainer: PackTrainer, images: Tensor, labels: Tensor, teacher_logits: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits and the training loss of each example."""
    logits = trainer.forward(images, "train", keys)
    return logits, trainer.loss(logits, labels, teacher_logits)


def _compiled_forward(
    trainer: PackTrainer, images: Tensor, labels: Tensor, teacher_logits: Tensor | None, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the same as `_forward`, compiled once per shape, with its gradient."""
    if trainer.compiled_forward is None:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import, and few packs compile

        torch.compiler.reset()  # torch limits the shapes per function, and each pack is a new shape
        # Otherwise torch reuses code that was compiled for a wider instruction set, and gets NaN.
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        trainer.compiled_forward = torch.compile(_forward, dynamic=False)
        try:
            return trainer.compiled_forward(trainer, images, labels, teacher_logits, keys)
        except TorchDynamoException:  # for example, a compiler without headers: run eagerly
            trainer.compiled = False
            return _forward(trainer, images, labels, teacher_logits, keys)
    return trainer.compiled_forward(trainer, images, labels, teacher_logits, keys)


def clip_gradients(grads: list[Tensor], max_norm: float) -> None:
    """Scale the gradient of each replica to a norm of at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    squares = torch.stack([grad.flatten(1).square().sum(1) for grad in grads]).sum(0)
    scale = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *([1] * (grad.dim() - 1))))
