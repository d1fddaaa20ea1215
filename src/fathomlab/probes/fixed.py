"""What probes share: training images fixed for each seed, the loss there, its norms, and a pack in float64."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from fathomlab.base.identity import stream
from fathomlab.base.shapes import Indices
from fathomlab.engine.state import Tensors
from fathomlab.engine.training import Training

FORMATS = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16"}


def fixed_batch(training: Training, examples: int) -> Indices:
    """Places of `examples` training images of each replica, fewer where a batch or the training set is smaller."""
    return fixed_images(training, min(examples, training.common.batch_size, training.train_index.shape[1]))


def fixed_images(training: Training, count: int) -> Indices:
    """Places of `count` training images of each replica, (k, count): each once, from (seed, "probe") alone."""
    rows = training.train_index
    places = [stream(recipe.seed, "probe").choice(rows.shape[1], count, replace=False) for recipe in training.recipes]
    return torch.stack([row[torch.from_numpy(place).to(row.device)] for row, place in zip(rows, places, strict=True)])


def loss(training: Training, index: Indices, taps: list[Tensor] | None = None) -> Float[Tensor, ""]:
    """The trials' own loss, mean over the images at `index` and summed over the replicas, whose gradients are apart.

    Batch statistics, no dropout, no augmentation. `taps` is filled with the tensor at every tap.
    """
    images = training.batch(index, None)
    logits = training.forward(images, "measure", None, taps)
    return training.objective(logits, index, images).mean(1).sum()


def norms(rows: Sequence[Shaped[Tensor, "k ..."]]) -> Float[Tensor, "k tensors"]:
    """Norm of each replica's part in float64, so that squares of tiny numbers do not vanish; one column a tensor."""
    return torch.stack([row.detach().double().flatten(1).square().sum(1).sqrt() for row in rows], 1)


def by_replica(tap: Tensor, replicas: int) -> Float[Tensor, "k n units cells"]:
    """Features (k, n, d) or maps (n, k * c, h, w) with the replica in front, and the cells of a unit: 1, or h * w."""
    if tap.dim() == 4:
        return tap.unflatten(1, (replicas, -1)).transpose(0, 1).flatten(3)
    return tap.unsqueeze(3)


def in_double(training: Training) -> Training:
    """The same pack with parameters, statistics, images and teachers in float64, for measuring alone.

    The numbers are those of the pack, rounded as its format rounds them; only what is computed from them is finer. Optimizer
    state is left as it is.
    """
    made = copy(training)
    made.recipes = tuple(replace(recipe, precision="fp64") for recipe in training.recipes)
    made.common = made.recipes[0]
    made.data = replace(training.data, mean=training.data.mean.double(), scale=training.data.scale.double())
    values = {name: value.requires_grad_() for name, value in _doubled(training.state.values).items()}
    made.state = replace(training.state, values=values, buffers=_doubled(training.state.buffers))
    if training.teachers is not None:
        teachers = training.teachers
        made.teachers = replace(teachers, values=_doubled(teachers.values), buffers=_doubled(teachers.buffers))
    return made


def _doubled(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().double() for name, tensor in tensors.items()}
