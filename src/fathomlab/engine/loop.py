"""The training loop: a generator that yields at given steps.

Nothing in an epoch waits for the device: losses and correct predictions are summed there and read once per epoch. The caller
measures and stores; the loop knows neither probes nor the store.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.base.noise import mix
from fathomlab.base.shapes import Indices
from fathomlab.engine.evaluation import Outcome, evaluate
from fathomlab.engine.step import step
from fathomlab.engine.training import Training


@dataclass(frozen=True)
class Progress:
    """Where training is, and the metrics of the epoch that ends there.

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
    train: Outcome | None
    validation: Outcome | None
    lr: tuple[float, ...]
    objective: Tensor | None = None


def train(training: Training, snapshots: frozenset[int]) -> Iterator[Progress]:
    """Train to the end, yielding at each step of `snapshots` and after every epoch.

    The steps are given in advance, so that everything between two of them can run on the device. A replica whose loss is not
    finite keeps its slot; `state.bad_step` is the step at which it diverged. A loaded state resumes at its step.
    `training.poll` is called between two steps; if it raises, the state is consistent and can be saved.
    """
    state, common = training.state, training.common
    if state.step == 0 and 0 in snapshots:
        yield Progress(0, 0, None, None, _lr(training, 0))
    for epoch in range(state.epoch, common.epochs):
        order = _order(training, epoch)
        dropout = training.keys("dropout", epoch)
        for place in range(state.step - epoch * training.steps_per_epoch, training.steps_per_epoch):
            index = order[:, place * common.batch_size : (place + 1) * common.batch_size]
            step(training, index, epoch, place, dropout)
            if state.step in snapshots and place + 1 < training.steps_per_epoch:
                yield Progress(epoch, state.step, None, None, _lr(training, place))
            training.poll()
        yield _end_epoch(training, training.images_per_epoch)


def _end_epoch(training: Training, images: int) -> Progress:
    """Evaluate, copy the best and the last finite weights, and reset the sums."""
    state = training.state
    validation = evaluate(training, state.values, state.buffers, validation=True)
    lr = _lr(training, training.steps_per_epoch - 1)
    state.epoch += 1
    loss, correct, objective = state.sums / images
    state.sums.zero_()
    unfinished = ~torch.isfinite(validation.loss) & (state.bad_step == 0)
    state.bad_step.masked_fill_(unfinished, state.step)
    finite = state.bad_step == 0
    state.finite.take(finite, state.epoch, state.values, state.buffers)
    better = finite & (validation.accuracy > state.best_accuracy)
    state.best_accuracy.copy_(torch.where(better, validation.accuracy, state.best_accuracy))
    state.best.take(better, state.epoch, state.values, state.buffers)
    _observe(training, validation)
    return Progress(state.epoch, state.step, Outcome(loss, correct), validation, lr, objective)


def _order(training: Training, epoch: int) -> Indices:
    """The order of the images in an epoch, (k, n): sorted by random bits of (seed, epoch, image)."""
    keys = training.keys("order", epoch)
    bits = mix(keys.unsqueeze(1), training.train_index)
    return training.train_index.gather(1, bits.argsort(dim=1, stable=True))


def _lr(training: Training, place: int) -> tuple[float, ...]:
    return tuple(training.rates(min(training.state.epoch, training.common.epochs - 1), place)[0])


def _observe(training: Training, validation: Outcome) -> None:
    """Pass the validation loss to a schedule that adapts to it."""
    observe = getattr(training.common.schedule, "observe", None)
    if observe is None:
        return
    losses = validation.loss.tolist()
    for place, recipe in enumerate(training.recipes):
        training.state.memories[place] = observe(recipe.lr, training.state.memories[place], losses[place])
