"""The training loop: a generator that yields at given steps.

Nothing in an epoch waits for the device: losses and correct predictions are summed there and read once per epoch. The caller
measures and stores. The loop does not depend on probes or on the store.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from fathomlab.base.axes import Indices
from fathomlab.base.counter_rng import splitmix64
from fathomlab.config.plugins import plugin_of
from fathomlab.engine.evaluation import EvalResult, evaluate
from fathomlab.engine.step import step_inputs, step_keys, train_steps
from fathomlab.engine.step_inputs import ManySteps, StepFunction, StepInputs
from fathomlab.engine.training import PackTrainer
from fathomlab.optim.user import checked_memory


@dataclass(frozen=True)
class Progress:
    """A position in training, and the metrics of the epoch that ends there.

    Attributes:
        epoch: Completed epochs.
        step: Completed optimizer steps.
        train: Mean over the steps of the epoch that ends here; None inside an epoch.
        validation: Evaluation of the current weights; None inside an epoch.
        lr: Learning rate of the last step, one per replica.
        objective: Mean of the training loss over the epoch that ends here, (k,); None inside an epoch.
    """

    epoch: int
    step: int
    train: EvalResult | None
    validation: EvalResult | None
    lr: tuple[float, ...]
    objective: Tensor | None = None


def train(trainer: PackTrainer, snapshots: frozenset[int], step: StepFunction | None = None) -> Iterator[Progress]:
    """Train to the end. Yield at each step of `snapshots` and after every epoch.

    The steps are given in advance, so that everything between two of them can run on the device. A replica whose loss is not
    finite stays in the pack; `state.diverged_at_step` is the step at which it diverged. A loaded state resumes at its step.
    `trainer.between_batches` is called between two calls of the step function. If it raises, the state is consistent and can
    be saved.

    Args:
        trainer: The pack.
        snapshots: The steps to yield at.
        step: Computes the steps, as a backend prepared it; None uses the reference.
    """
    state, recipe = trainer.state, trainer.shared_recipe
    if state.step == 0 and 0 in snapshots:
        yield Progress(0, 0, None, None, _lr(trainer, 0))
    by_position = "shuffled_cache" in recipe.emulate  # teachers' outputs are looked up by position in the first epoch
    first_order = image_order(trainer, 0) if by_position else None
    at_once = step.at_once if isinstance(step, ManySteps) else 1
    for epoch in range(state.epoch, recipe.epochs):
        inputs = _inputs(trainer, epoch, first_order)
        while steps := _group(inputs, at_once, snapshots):
            train_steps(trainer, steps, step)
            batch_index = (state.step - 1) % trainer.steps_per_epoch
            if state.step in snapshots and batch_index + 1 < trainer.steps_per_epoch:
                yield Progress(epoch, state.step, None, None, _lr(trainer, batch_index))
            trainer.between_batches()
        yield _end_epoch(trainer, trainer.images_per_epoch)


def _inputs(trainer: PackTrainer, epoch: int, first_order: Indices | None) -> Iterator[StepInputs]:
    """Yield the inputs of the remaining steps of an epoch. Teachers see the images of `first_order`, if it is given."""
    size, steps = trainer.shared_recipe.batch_size, trainer.steps_per_epoch
    order = image_order(trainer, epoch)
    keys = step_keys(trainer, epoch)
    for batch_index in range(trainer.state.step - epoch * steps, steps):
        positions = slice(batch_index * size, (batch_index + 1) * size)
        taught = None if first_order is None else first_order[:, positions]
        yield step_inputs(trainer, order[:, positions], epoch, batch_index, keys[:, batch_index], taught)


def _group(inputs: Iterator[StepInputs], size: int, snapshots: frozenset[int]) -> list[StepInputs]:
    """The next steps, at most `size`, up to the next snapshot."""
    steps = []
    for step in islice(inputs, size):
        steps.append(step)
        if step.count in snapshots:
            break
    return steps


def _end_epoch(trainer: PackTrainer, images: int) -> Progress:
    """Evaluate, copy the best and the last finite weights, and reset the sums."""
    state = trainer.state
    outputs: list[Tensor] | None = [] if state.epoch + 1 == trainer.shared_recipe.epochs else None
    validation = evaluate(trainer, state.params, state.buffers, validation=True, keep=outputs)
    lr = _lr(trainer, trainer.steps_per_epoch - 1)
    state.epoch += 1
    trainer.validation_outputs = None if outputs is None else torch.cat(outputs, 1)
    loss, correct, objective = state.epoch_sums / images
    state.epoch_sums.zero_()
    newly_diverged = ~torch.isfinite(validation.loss) & (state.diverged_at_step == 0)
    state.diverged_at_step.masked_fill_(newly_diverged, state.step)
    finite = state.diverged_at_step == 0
    state.last_finite.update_where(finite, state.epoch, state.params, state.buffers)
    better = finite & (validation.accuracy > state.best_accuracy)
    state.best_accuracy.copy_(torch.where(better, validation.accuracy, state.best_accuracy))
    state.best.update_where(better, state.epoch, state.params, state.buffers)
    _observe(trainer, validation)
    return Progress(state.epoch, state.step, EvalResult(loss, correct), validation, lr, objective)


def image_order(trainer: PackTrainer, epoch: int) -> Indices:
    """Return the order of the images in an epoch, (k, n): sorted by random bits of (seed, order stream, epoch, image)."""
    keys = trainer.order_keys(epoch)
    bits = splitmix64(keys.unsqueeze(1), trainer.train_index)
    return trainer.train_index.gather(1, bits.argsort(dim=1, stable=True))


def _lr(trainer: PackTrainer, batch_index: int) -> tuple[float, ...]:
    return tuple(trainer.rates(min(trainer.state.epoch, trainer.shared_recipe.epochs - 1), batch_index)[0])


def _observe(trainer: PackTrainer, validation: EvalResult) -> None:
    """Pass the validation loss to a schedule that adapts to it. A user's schedule never gets a loss that is not finite."""
    schedule = trainer.shared_recipe.schedule
    observe, from_plugin = getattr(schedule, "observe", None), plugin_of(schedule) is not None
    if observe is None:
        return
    losses = validation.loss.tolist()
    for slot, recipe in enumerate(trainer.recipes):
        if from_plugin and not math.isfinite(losses[slot]):
            continue
        memory = observe(recipe.lr, trainer.state.memories[slot], losses[slot])
        trainer.state.memories[slot] = checked_memory(schedule, memory) if from_plugin else memory
