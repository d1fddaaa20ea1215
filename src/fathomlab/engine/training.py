"""A pack in training: its recipes, data, state, and teachers, and what is computed from them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.identity import stream_seed
from fathomlab.base.packing import signature
from fathomlab.base.shapes import Images, Indices, Logits, PerExample
from fathomlab.data.augment import augment
from fathomlab.engine.images import Pictures
from fathomlab.engine.network import Mode, Network
from fathomlab.engine.precision import products, storage
from fathomlab.engine.stacking import stacked
from fathomlab.engine.state import State, Tensors, initial_state, shared
from fathomlab.optim.rates import Rates
from fathomlab.optim.schedules import Position
from fathomlab.plan.recipe import Recipe


@dataclass(frozen=True)
class Teachers:
    """The teachers of distilled students.

    Attributes:
        logits: Outputs for every training image, (k, n, classes); used without augmentation.
        network: The networks; with augmentation, they see the same augmented images as the students.
        values: Their learned tensors.
        buffers: Their running statistics.
    """

    logits: Tensor
    network: Network
    values: Tensors
    buffers: Tensors

    def part(self, place: int) -> "Teachers":
        """The teacher of one replica."""
        network = Network([self.network.architecture], self.logits.device)
        return Teachers(
            self.logits[place : place + 1], network, *(_rows(own, place) for own in (self.values, self.buffers))
        )


@dataclass(frozen=True)
class Batch:
    """What a loss reads of one batch.

    Attributes:
        logits: Outputs, (k, n, classes).
        labels: Classes, (k, n).
        teacher_logits: Outputs of the teachers for the same images, (k, n, classes); None without teachers.
    """

    logits: Logits
    labels: Tensor
    teacher_logits: Any = None


@dataclass
class Feed:
    """The inputs of a step: numbers, or tensors on the device if the step is captured.

    Attributes:
        index: Indices into the training set, (k, n).
        epoch: Completed epochs.
        dropout: Random keys of this step, (k,).
        rates: Learning rate, weight decay, and momentum of the optimizer.
        count: Steps, including this one.
    """

    index: Indices
    epoch: int | Tensor
    dropout: Tensor
    rates: Rates
    count: int | Tensor

    def part(self, place: int) -> "Feed":
        """The inputs of one replica."""
        rows = slice(place, place + 1)
        lr, decay = (
            value[rows] if isinstance(value, Tensor) and value.dim() else value
            for value in (self.rates.lr, self.rates.weight_decay)
        )
        own = Rates(lr, decay, self.rates.momentum)
        return Feed(self.index[rows], self.epoch, self.dropout[rows], own, self.count)


class Training:
    """A pack in training, as the loop, the probes, and the store read it."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        data: Pictures,
        train_index: Indices,
        validation_index: Int[Tensor, "k held_out"],
        device: torch.device,
        teachers: Teachers | None = None,
        compiled: bool = False,
        apart: bool = False,
    ):
        """Start from the initial values of each seed. All recipes must have the same signature.

        `compiled` compiles the forward and backward pass once for this pack. `apart` runs each replica as a separate network,
        on a CUDA device in parallel: grouped wide convolutions are slower than separate ones.
        """
        self.compiled = compiled
        self.program: Callable[..., tuple[Tensor, Tensor]] | None = None
        self.replay: Callable[[Feed], None] | None = None
        self.poll: Callable[[], None] = lambda: None
        assert len({signature(recipe) for recipe in recipes}) == 1, "a pack has one signature"
        self.recipes, self.data, self.device, self.teachers = tuple(recipes), data, device, teachers
        self.train_index, self.validation_index = train_index, validation_index
        self.state: State = initial_state(recipes, device)
        self.common = recipes[0]
        self.weight_decay = shared([recipe.optimizer.weight_decay for recipe in recipes], device)
        self._views = self.keys("augment")
        self._loss = stacked([recipe.loss for recipe in recipes], self._column)
        self.parts = tuple(self._part(place) for place in range(len(recipes))) if apart and len(recipes) > 1 else ()
        self.streams = [torch.cuda.Stream(device) for _ in self.parts] if device.type == "cuda" else []

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, including a smaller last one unless the trial leaves it out."""
        images, batch = self.train_index.shape[1], self.common.batch_size
        return images // batch if self.common.drop_last else -(-images // batch)

    @property
    def images_per_epoch(self) -> int:
        """Images that an epoch trains on."""
        return min(self.train_index.shape[1], self.steps_per_epoch * self.common.batch_size)

    @property
    def plain(self) -> bool:
        """Whether the training loss of every trial is plain cross-entropy on the labels."""
        return all(recipe.plain for recipe in self.recipes)

    def objective(self, logits: Logits, index: Indices, views: Tensor | None = None) -> PerExample:
        """The training loss of each example, (k, n).

        Args:
            logits: Outputs for the images at `index`, (k, n, classes).
            index: Indices into the training set, (k, n).
            views: The images as the network saw them; required with augmentation.
        """
        return self.loss(logits, self.data.labels[index], self.taught(index, views))

    def loss(self, logits: Logits, labels: Tensor, taught: Logits | None) -> PerExample:
        """The training loss of each example, (k, n), from labels and teacher outputs.

        Args:
            logits: Outputs, (k, n, classes).
            labels: Classes, (k, n).
            taught: The teachers' outputs for the same images, as returned by `taught`.
        """
        return reduce(add, self._loss.terms(Batch(logits, labels, taught)).values())

    @torch.no_grad()
    def taught(self, index: Indices, views: Tensor | None) -> Logits | None:
        """The teachers' outputs for the images at `index`, (k, n, classes); None without teachers.

        Without augmentation they are stored; with augmentation the teachers see the same augmented images as the students.
        """
        teachers = self.teachers
        if teachers is None:
            return None
        if views is None or not self.common.augment:
            rows = torch.arange(len(index), device=self.device).unsqueeze(1)
            return teachers.logits[rows, index].to(storage(self.common.precision))
        with products(self.common.precision, self.device):
            logits = teachers.network(teachers.values, teachers.buffers, views, "eval")
        return logits.to(storage(self.common.precision))

    def rates(self, epoch: int, place: int) -> tuple[list[float], float | None]:
        """Learning rate of each replica at a step, and the momentum if the schedule changes it."""
        common = self.common
        at = Position(epoch, place, common.epochs, self.steps_per_epoch)
        lr = [
            common.schedule.rate(recipe.lr, at, memory)
            for recipe, memory in zip(self.recipes, self.state.memories, strict=True)
        ]
        return lr, common.schedule.momentum(at) if common.schedule.per_step else None

    def batch(self, index: Indices, epoch: int | Tensor | None) -> Tensor:
        """Normalized images at `index`, (k, n, c, h, w), with the augmentation of `epoch` if there is one."""
        if epoch is None or not self.common.augment:
            return self.data.batch(index)
        images = augment(self.data.images[index], self._views, epoch, index, self.common.augment)
        return self.data.normalized(images)

    def forward(
        self, images: Tensor, mode: Mode, keys: Tensor | None = None, taps: list[Tensor] | None = None
    ) -> Logits:
        """Compute logits in the precision of the trial; they are returned in the storage format."""
        with products(self.common.precision, self.device):
            logits = self.state.network(self.state.values, self.state.buffers, images, mode, keys, taps)
        return logits.to(storage(self.common.precision))

    @torch.no_grad()
    def predict(self, values: Tensors, buffers: Tensors, images: Images) -> Logits:
        """Compute logits with the running statistics, in the storage format. Changes nothing."""
        with products(self.common.precision, self.device):
            if not self.parts:
                logits = self.state.network(values, buffers, images, "eval")
            else:
                logits = torch.cat(
                    [
                        part.state.network(
                            _rows(values, place), _rows(buffers, place), images[place : place + 1], "eval"
                        )
                        for place, part in enumerate(self.parts)
                    ]
                )
        return logits.to(storage(self.common.precision))

    def keys(self, purpose: str, *keys: int) -> Tensor:
        """One random key per replica for a purpose, (k,) int64."""
        numbers = [stream_seed(recipe.seed, purpose, *keys) for recipe in self.recipes]
        return torch.tensor([number - 2**63 for number in numbers], dtype=torch.int64, device=self.device)

    def _part(self, place: int) -> "Training":
        """One replica as a separate training that shares the memory of the pack."""
        part, state, rows = copy.copy(self), self.state, slice(place, place + 1)
        part.recipes, part.common = (self.recipes[place],), self.recipes[place]
        part.train_index, part.validation_index = self.train_index[rows], self.validation_index[rows]
        part.teachers = self.teachers and self.teachers.part(place)
        part.weight_decay = shared([self.recipes[place].optimizer.weight_decay], self.device)
        part.parts, part._views = (), self._views[rows]
        part._loss = stacked(
            [self._loss], lambda values: values[0][rows] if isinstance(values[0], Tensor) else values[0]
        )
        part.state = replace(
            state,
            network=Network([self.recipes[place].architecture], self.device),
            values={name: value.requires_grad_() for name, value in _rows(state.values, place).items()},
            buffers=_rows(state.buffers, place),
            slots={slot: [tensor[rows] for tensor in tensors] for slot, tensors in state.slots.items()},
            bad_step=state.bad_step[rows],
            sums=state.sums[:, rows],
        )
        return part

    def _column(self, numbers: Sequence[float]) -> float | Tensor:
        value = shared(numbers, self.device)
        return value.to(storage(self.common.precision)).unsqueeze(1) if isinstance(value, Tensor) else value


def _rows(tensors: Tensors, place: int) -> Tensors:
    return {name: tensor.detach()[place : place + 1] for name, tensor in tensors.items()}
