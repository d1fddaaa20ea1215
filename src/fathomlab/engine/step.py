"""One optimizer step of a pack: batch, loss, gradients, update. Nothing here waits for the device."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.axes import Indices
from fathomlab.base.counter_rng import splitmix64
from fathomlab.engine.network import Mode
from fathomlab.engine.state import scalar_or_tensor
from fathomlab.engine.step_inputs import ManySteps, StepFunction, StepInputs
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.optim.rates import Rates


def step_inputs(
    trainer: PackTrainer,
    index: Indices,
    epoch: int,
    batch_index: int,
    dropout_keys: Tensor,
    teacher_index: Indices | None = None,
) -> StepInputs:
    """Return the inputs of a step.

    Args:
        trainer: The pack.
        index: Indices into the training set, (k, n).
        epoch: Completed epochs.
        batch_index: Completed batches of the current epoch.
        dropout_keys: Random keys of this step, (k,).
        teacher_index: Indices of the images whose stored outputs the teachers give, (k, n), if they are other images.
    """
    lr, momentum = trainer.rates(epoch, batch_index)
    rates = Rates(scalar_or_tensor(lr, trainer.device), trainer.weight_decay, momentum)
    count = epoch * trainer.steps_per_epoch + batch_index + 1
    return StepInputs(index, epoch, dropout_keys, rates, count, teacher_index)


def step_keys(trainer: PackTrainer, epoch: int) -> Int[Tensor, "k steps"]:
    """Return the random keys of dropout for all steps of an epoch."""
    steps = torch.arange(trainer.steps_per_epoch, device=trainer.device)
    return splitmix64(trainer.keys("dropout", epoch).unsqueeze(1), steps)


def train_steps(trainer: PackTrainer, steps: Sequence[StepInputs], compute: StepFunction | None = None) -> None:
    """Train on batches one after the other, and update the state and the sums of the pack.

    Args:
        trainer: The pack.
        steps: Their inputs.
        compute: Computes a step, as a backend prepared it; None uses the reference.
    """
    if isinstance(compute, ManySteps):
        compute.together(steps)
    else:
        for inputs in steps:
            compute(inputs) if compute is not None else train_step_on_device(trainer, inputs)
    trainer.state.step += len(steps)


def for_full_batches(trainer: PackTrainer, step: StepFunction) -> StepFunction:
    """A step function that computes full batches with `step`, and a smaller last batch of an epoch with the reference."""

    def either(inputs: StepInputs) -> None:
        full = inputs.index.shape[1] == trainer.shared_recipe.batch_size
        step(inputs) if full else train_step_on_device(trainer, inputs)

    return either


def forward_and_loss(
    trainer: PackTrainer,
    images: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    keys: Tensor,
    mode: Mode = "train",
) -> tuple[Tensor, Tensor]:
    """Return logits (k, n, classes) and the training loss of each example, (k, n)."""
    taps: list[Tensor] | None = [] if trainer.shared_recipe.needs_features else None
    logits = trainer.forward(images, mode, keys, taps)
    return logits, trainer.loss(logits, labels, teacher_logits, images, taps)


def train_step_on_device(
    trainer: PackTrainer,
    inputs: StepInputs,
    forward: Callable[..., tuple[Tensor, Tensor]] = forward_and_loss,
) -> None:
    """Run a step on the device: the reference for every backend.

    Everything that changes from step to step is in `inputs`, so that a CUDA graph can replay the step.

    Args:
        trainer: The pack.
        inputs: Images, rates, and counters of this step.
        forward: Computes the same as `forward_and_loss`.
    """
    if trainer.replica_trainers:
        _step_replicas(trainer, inputs, forward)
        return
    state, recipe = trainer.state, trainer.shared_recipe
    images, labels = trainer.batch(inputs.index, inputs.epoch), trainer.data.labels[inputs.index]
    if inputs.teacher_index is None:
        teacher_logits = trainer.teacher_logits(inputs.index, images, inputs.epoch)
    else:
        teacher_logits = trainer.teacher_logits(inputs.teacher_index, None)
    mode: Mode = "eval" if "student_eval" in recipe.emulate and inputs.epoch > 0 else "train"
    logits, losses = forward(trainer, images, labels, teacher_logits, inputs.dropout_keys, mode)
    loss = losses.mean(1)
    # A loss of features may read no output, so that the last layers have no gradient.
    grads = list(torch.autograd.grad(loss.sum(), list(state.params.values()), materialize_grads=True))
    with torch.no_grad():
        if recipe.gradient_clip is not None:
            clip_gradients(grads, recipe.gradient_clip)
        params = [param.detach() for param in state.params.values()]
        trainer.optimizer.step(params, grads, state.optimizer_state, inputs.count, inputs.rates)
        diverged = ~torch.isfinite(loss) & (state.diverged_at_step == 0)
        state.diverged_at_step.copy_(torch.where(diverged, inputs.count, state.diverged_at_step))
        hard = losses if trainer.plain else cross_entropy(logits, labels)
        state.epoch_sums[0] += hard.double().sum(1)
        state.epoch_sums[1] += (logits.argmax(-1) == labels).sum(1)
        state.epoch_sums[2] += losses.double().sum(1)


def _step_replicas(trainer: PackTrainer, inputs: StepInputs, forward: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Step each replica separately, on a CUDA device in parallel streams, because one replica cannot fill the device."""
    streams = trainer.streams
    current = torch.cuda.current_stream(trainer.device) if streams else None
    for slot, replica_trainer in enumerate(trainer.replica_trainers):
        if current is None:
            train_step_on_device(replica_trainer, inputs.replica(slot), forward)
            continue
        streams[slot].wait_stream(current)
        with torch.cuda.stream(streams[slot]):
            train_step_on_device(replica_trainer, inputs.replica(slot), forward)
    if current is not None:
        for stream in streams:
            current.wait_stream(stream)


def clip_gradients(grads: list[Tensor], max_norm: float) -> None:
    """Scale the gradient of each replica to a norm of at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
    squares = torch.stack([grad.flatten(1).square().sum(1) for grad in grads]).sum(0)
    scale = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *([1] * (grad.dim() - 1))))
