"""The training loop: a generator that yields snapshots at steps known beforehand.

Nothing in an epoch waits for the device: losses and correct answers are summed there and read once an epoch. Whoever
iterates measures and stores; the loop knows neither probes nor store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.base.identity import stream_seed
from fathomlab.base.noise import mix
from fathomlab.base.shapes import Indices, Logits, PerExample
from fathomlab.data.augment import augment
from fathomlab.engine.images import Pictures
from fathomlab.engine.precision import products, storage
from fathomlab.engine.recipe import Recipe
from fathomlab.engine.schedules import Position
from fathomlab.engine.state import State, Tensors, initial_state, rates, shared
from fathomlab.losses.distillation import softened_divergence
from fathomlab.losses.supervised import cross_entropy
from fathomlab.models.network import Mode, Network

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Outcome:
    """How well each replica does on a set: mean loss [nats] and accuracy (a fraction), float64 (k,) each."""

    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True)
class Snapshot:
    """The pack at a step.

    Attributes:
        epoch: Epochs done.
        step: Optimiser steps done.
        train: Mean over the epoch that has just ended, while the weights moved; None inside an epoch.
        validation: With the weights as they are now; None inside an epoch.
        lr: Learning rate of the last step, one a replica.
    """

    epoch: int
    step: int
    train: Outcome | None
    validation: Outcome | None
    lr: tuple[float, ...]


@dataclass(frozen=True)
class Teachers:
    """What distilled students learn from.

    Attributes:
        logits: The teachers' outputs for every training image, (k, n, classes); used where nothing is augmented.
        network: The teachers themselves; used on the very view that the student sees where there is augmentation.
        values: Their learnt tensors.
        buffers: Their running statistics.
    """

    logits: Tensor
    network: Network
    values: Tensors
    buffers: Tensors


class Training:
    """A pack on its way: what the loop, the probes and the store read."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        data: Pictures,
        train_index: Indices,
        validation_index: Indices,
        device: torch.device,
        teachers: Teachers | None = None,
    ):
        """Start from the initial values of each seed. All recipes must have one signature."""
        assert len({recipe.signature() for recipe in recipes}) == 1, "a pack has one signature"
        self.recipes, self.data, self.device, self.teachers = tuple(recipes), data, device, teachers
        self.train_index, self.validation_index = train_index, validation_index
        self.state: State = initial_state(recipes, device)
        self.common = recipes[0]
        self._smoothing = self._column([recipe.label_smoothing for recipe in recipes])
        if teachers is not None:
            self._alpha = self._column([recipe.teaching.alpha for recipe in recipes if recipe.teaching])
            self._temperature = self._column([recipe.teaching.temperature for recipe in recipes if recipe.teaching])

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the last smaller one included."""
        return -(-self.train_index.shape[1] // self.common.batch_size)

    def objective(self, logits: Logits, index: Indices, views: Tensor | None = None) -> PerExample:
        """The trial's own loss of each example, (k, n).

        Args:
            logits: Outputs for the images at `index`, (k, n, classes).
            index: Places in the training set, (k, n).
            views: The images that the network saw where they were augmented.
        """
        hard = cross_entropy(logits, self.data.labels[index], self._smoothing)
        if self.teachers is None:
            return hard
        soft = softened_divergence(logits, self._taught(index, views).to(logits.dtype), self._temperature)
        return (1 - self._alpha) * hard + self._alpha * soft

    def batch(self, index: Indices, epoch: int | None) -> Tensor:
        """Normalised images at `index`, (k, n, c, h, w); augmented as in `epoch` where the trial augments."""
        images = self.data.images[index]
        if epoch is not None and self.common.augment:
            images = augment(images, self._seeds, epoch, index, self.common.augment)
        return self.data.normalised(images)

    def forward(
        self, images: Tensor, mode: Mode, keys: Tensor | None = None, taps: list[Tensor] | None = None
    ) -> Logits:
        """Logits in the trial's precision, returned in the storage format."""
        with products(self.common.precision, self.device):
            logits = self.state.network(self.state.values, self.state.buffers, images, mode, keys, taps)
        return logits.to(storage(self.common.precision))

    @property
    def _seeds(self) -> Tensor:
        return self._keys("augment")

    def _keys(self, purpose: str, *keys: int) -> Tensor:
        numbers = [stream_seed(recipe.seed, purpose, *keys) for recipe in self.recipes]
        return torch.tensor([number - 2**63 for number in numbers], dtype=torch.int64, device=self.device)

    def _column(self, numbers: Sequence[float]) -> float | Tensor:
        value = shared(numbers, self.device)
        return value.to(storage(self.common.precision)).unsqueeze(1) if isinstance(value, Tensor) else value

    @torch.no_grad()
    def _taught(self, index: Indices, views: Tensor | None) -> Tensor:
        teachers = self.teachers
        assert teachers is not None
        if views is None or not self.common.augment:
            return teachers.logits[torch.arange(len(index), device=self.device).unsqueeze(1), index]
        with products(self.common.precision, self.device):
            return teachers.network(teachers.values, teachers.buffers, views, "eval")


def train(training: Training, snapshots: frozenset[int]) -> Iterator[Snapshot]:
    """Train to the end, yielding at each step of `snapshots` and after every epoch.

    The steps are known beforehand so that everything between two of them may run without a look at the host. A replica whose
    loss is not finite goes on alone in its place; `state.bad_step` says when it diverged.
    """
    state, common = training.state, training.common
    if state.step == 0 and 0 in snapshots:
        yield Snapshot(0, 0, None, None, _lr(training, 0))
    for epoch in range(state.epoch, common.epochs):
        order = _order(training, epoch)
        dropout = training._keys("dropout", epoch)
        sums = torch.zeros(2, len(training.recipes), dtype=torch.float64, device=training.device)
        for place in range(training.steps_per_epoch):
            index = order[:, place * common.batch_size : (place + 1) * common.batch_size]
            _step(training, index, epoch, place, mix(dropout, place), sums)
            if state.step in snapshots and place + 1 < training.steps_per_epoch:
                yield Snapshot(epoch, state.step, None, None, _lr(training, place))
        lr = _lr(training, training.steps_per_epoch - 1)
        state.epoch = epoch + 1
        loss, correct = sums / order.shape[1]
        validation = evaluate(training, state.values, state.buffers, validation=True)
        finite = torch.where(state.bad_step == 0, validation.accuracy, torch.full_like(validation.accuracy, -1))
        state.best.update(finite, state.epoch, state.values, state.buffers)
        _observe(training, validation)
        yield Snapshot(state.epoch, state.step, Outcome(loss, correct), validation, lr)


@torch.no_grad()
def evaluate(training: Training, values: Tensors, buffers: Tensors, validation: bool) -> Outcome:
    """Loss and accuracy of every replica on its validation images, or on the test set.

    Running statistics are used and nothing is changed. The loss is plain cross-entropy, whatever the trial trains on.
    """
    data, state = training.data, training.state
    total = training.validation_index.shape[1] if validation else len(data.test_labels)
    sums = torch.zeros(2, len(training.recipes), dtype=torch.float64, device=training.device)
    for start in range(0, total, EVALUATION_BATCH):
        if validation:
            index = training.validation_index[:, start : start + EVALUATION_BATCH]
            images, labels = data.normalised(data.images[index]), data.labels[index]
        else:
            rows = slice(start, start + EVALUATION_BATCH)
            images = data.normalised(data.test_images[rows]).expand(len(training.recipes), -1, -1, -1, -1)
            labels = data.test_labels[rows].expand(len(training.recipes), -1)
        with products(training.common.precision, training.device):
            logits = state.network(values, buffers, images, "eval").to(storage(training.common.precision))
        sums[0] += cross_entropy(logits, labels).double().sum(1)
        sums[1] += (logits.argmax(-1) == labels).sum(1)
    loss, accuracy = sums / total
    return Outcome(loss, accuracy)


def _order(training: Training, epoch: int) -> Indices:
    """The images of an epoch in their order, (k, n): sorted by random bits of (seed, epoch, image)."""
    keys = training._keys("order", epoch)
    bits = mix(keys.unsqueeze(1), training.train_index)
    return training.train_index.gather(1, bits.argsort(dim=1, stable=True))


def _step(training: Training, index: Indices, epoch: int, place: int, keys: Tensor, sums: Tensor) -> None:
    state, common = training.state, training.common
    images = training.batch(index, epoch)
    logits = training.forward(images, "train", keys)
    losses = training.objective(logits, index, images)
    loss = losses.mean(1)
    names, values = list(state.values), list(state.values.values())
    gradients = list(torch.autograd.grad(loss.sum(), values))
    with torch.no_grad():
        if common.gradient_clip is not None:
            _clip(gradients, common.gradient_clip)
        state.step += 1
        lr, momentum = _rates(training, epoch, place)
        plain = [state.values[name].detach() for name in names]
        common.optimiser.update(
            plain, gradients, state.slots, state.step, rates(training.recipes, lr, momentum, training.device)
        )
        bad = ~torch.isfinite(loss) & (state.bad_step == 0)
        state.bad_step.masked_fill_(bad, state.step)
        sums[0] += losses.double().sum(1)
        sums[1] += (logits.argmax(-1) == training.data.labels[index]).sum(1)


def _clip(gradients: list[Tensor], largest: float) -> None:
    """Scale each replica's gradient to a norm of at most `largest`, as torch's clip_grad_norm_ does for one network."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    scale = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *([1] * (gradient.dim() - 1))))


def _rates(training: Training, epoch: int, place: int) -> tuple[list[float], float | None]:
    common = training.common
    at = Position(epoch, place, common.epochs, training.steps_per_epoch)
    lr = [
        common.schedule.rate(recipe.lr, at, memory)
        for recipe, memory in zip(training.recipes, training.state.memories, strict=True)
    ]
    return lr, common.schedule.momentum(at) if common.schedule.per_step else None


def _lr(training: Training, place: int) -> tuple[float, ...]:
    return tuple(_rates(training, min(training.state.epoch, training.common.epochs - 1), place)[0])


def _observe(training: Training, validation: Outcome) -> None:
    """Tell a schedule that adapts how the epoch went."""
    observe = getattr(training.common.schedule, "observe", None)
    if observe is None:
        return
    losses = validation.loss.tolist()
    for place, recipe in enumerate(training.recipes):
        training.state.memories[place] = observe(recipe.lr, training.state.memories[place], losses[place])
