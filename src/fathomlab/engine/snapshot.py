"""The state of a pack at a step, as probes read it. Measuring changes nothing."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fathomlab.base.identity import stream
from fathomlab.base.shapes import Indices
from fathomlab.engine.state import Tensors, shared
from fathomlab.engine.step import clip
from fathomlab.engine.training import Training
from fathomlab.optim.rates import Rates

FORMATS = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16"}


class Snapshot:
    """A pack at a step. All measurements use batch statistics, without dropout and augmentation."""

    def __init__(self, training: Training):
        """Read from `training`, without copying it."""
        self._training = training
        self.replicas = len(training.recipes)
        self.layers = training.common.architecture.weighted
        self.points = training.common.architecture.taps
        self.format = FORMATS[training.common.precision]
        self.batch_size = training.common.batch_size
        self.training_images = training.train_index.shape[1]
        self.parameters = training.state.values

    def weights(self) -> list[Tensor]:
        """The weight matrix or kernel of each layer, (k, *shape)."""
        return [self.parameters[f"{name}.weight"] for name in self.layers]

    def fixed_batch(self, examples: int) -> Indices:
        """Indices of `examples` training images per replica; fewer if a batch or the training set is smaller."""
        return self.fixed_images(min(examples, self.batch_size, self.training_images))

    def fixed_images(self, count: int) -> Indices:
        """Indices of `count` different training images per replica, (k, count), from (seed, "probe") alone."""
        rows, recipes = self._training.train_index, self._training.recipes
        draws = [stream(recipe.seed, "probe").choice(rows.shape[1], count, replace=False) for recipe in recipes]
        return torch.stack([row[torch.from_numpy(draw).to(row.device)] for row, draw in zip(rows, draws, strict=True)])

    def loss(self, index: Indices, taps: list[Tensor] | None = None) -> Float[Tensor, ""]:
        """The training loss, mean over the images at `index` and summed over the replicas, whose gradients are separate.

        `taps` is filled with the output at every point.
        """
        training = self._training
        images = training.batch(index, None)
        logits = training.forward(images, "measure", None, taps)
        return training.objective(logits, index, images).mean(1).sum()

    def features(self, index: Indices) -> list[Tensor]:
        """The output at every point for the images at `index`."""
        taps: list[Tensor] = []
        self._training.forward(self._training.batch(index, None), "measure", None, taps)
        return taps

    def by_replica(self, tap: Tensor) -> Float[Tensor, "k n units cells"]:
        """Features (k, n, d) or maps (n, k * c, h, w) with the replica in front; a unit has 1 cell or h * w."""
        if tap.dim() == 4:
            return tap.unflatten(1, (self.replicas, -1)).transpose(0, 1).flatten(3)
        return tap.unsqueeze(3)

    @torch.no_grad()
    def next_weights(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The weights after the optimizer's next step with these gradients of all parameters, clipped as in training.

        After the last step the learning rate is the one of the last step.
        """
        training, state, common = self._training, self._training.state, self._training.common
        epoch = min(state.epoch, common.epochs - 1)
        batch = min(state.step - epoch * training.steps_per_epoch, training.steps_per_epoch - 1)
        clipped = list(gradients)
        if common.gradient_clip is not None:
            clip(clipped, common.gradient_clip)
        moved = {name: value.detach().clone() for name, value in state.values.items()}
        slots = {name: [tensor.clone() for tensor in tensors] for name, tensors in state.slots.items()}
        lr, momentum = training.rates(epoch, batch)
        rates = Rates(shared(lr, training.device), training.weight_decay, momentum)
        common.optimizer.update(list(moved.values()), clipped, slots, state.step + 1, rates)
        return [moved[f"{name}.weight"] for name in self.layers]

    def in_double(self) -> "Snapshot":
        """The same snapshot with parameters, statistics, images, and teachers in float64.

        The numbers are those of the pack, rounded as its format rounds them; only what is computed from them is finer.
        """
        training = copy(self._training)
        training.recipes = tuple(replace(recipe, precision="fp64") for recipe in training.recipes)
        training.common = training.recipes[0]
        data, state = training.data, training.state
        training.data = replace(data, mean=data.mean.double(), scale=data.scale.double())
        values = {name: value.requires_grad_() for name, value in _doubled(state.values).items()}
        training.state = replace(state, values=values, buffers=_doubled(state.buffers))
        if training.teachers is not None:
            teachers = training.teachers
            training.teachers = replace(teachers, values=_doubled(teachers.values), buffers=_doubled(teachers.buffers))
        return Snapshot(training)


def _doubled(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().double() for name, tensor in tensors.items()}
