"""The state of a pack in training: tensors with a replica axis, counters, and what is needed to go on from here."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.engine.optim import Rates
from fathomlab.engine.precision import storage
from fathomlab.engine.recipe import Recipe
from fathomlab.models.initial import initial_values
from fathomlab.models.network import Network

Tensors = dict[str, Tensor]


@dataclass
class Best:
    """The weights that were best on validation so far, for each replica.

    Attributes:
        accuracy: On validation, (k,); -1 before the first epoch.
        epoch: When, (k,), counted from 1.
        values: Learnt tensors then.
        buffers: Running statistics then.
    """

    accuracy: Tensor
    epoch: Tensor
    values: Tensors
    buffers: Tensors

    @torch.no_grad()
    def update(self, accuracy: Tensor, epoch: int, values: Tensors, buffers: Tensors) -> None:
        """Keep the present weights of the replicas whose validation accuracy is above all before."""
        better = accuracy > self.accuracy
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        self.epoch = torch.where(better, torch.full_like(self.epoch, epoch), self.epoch)
        for kept, now in ((self.values, values), (self.buffers, buffers)):
            for name, tensor in now.items():
                mask = better.view(-1, *([1] * (tensor.dim() - 1)))
                torch.where(mask, tensor, kept[name], out=kept[name])


@dataclass
class State:
    """A pack at a step.

    Attributes:
        network: The tensor program.
        values: Learnt tensors by name, each (k, *shape).
        buffers: Running statistics by name, each (k, features).
        slots: Optimiser state by slot, one tensor for each learnt tensor in the order of `values`.
        epoch: Epochs done.
        step: Optimiser steps done.
        memories: What the schedule remembers, one a replica.
        bad_step: Step of the first loss that was not finite, (k,); 0 while there is none.
        best: Best weights on validation.
    """

    network: Network
    values: Tensors
    buffers: Tensors
    slots: dict[str, list[Tensor]]
    memories: list[dict[str, float]]
    bad_step: Tensor
    best: Best
    epoch: int = 0
    step: int = 0


def initial_state(recipes: Sequence[Recipe], device: torch.device) -> State:
    """A pack before its first step."""
    dtype = storage(recipes[0].precision)
    network = Network([recipe.architecture for recipe in recipes], device)
    replicas = [initial_values(recipe.architecture, recipe.seed) for recipe in recipes]
    values = {name: torch.stack([values[name] for values in replicas]).to(device, dtype) for name in replicas[0]}
    for value in values.values():
        value.requires_grad_(True)
    buffers = network.buffers(dtype, device)
    best = Best(
        torch.full((len(recipes),), -1.0, device=device, dtype=torch.float64),
        torch.zeros(len(recipes), device=device, dtype=torch.int64),
        {name: value.detach().clone() for name, value in values.items()},
        {name: value.clone() for name, value in buffers.items()},
    )
    return State(
        network,
        values,
        buffers,
        recipes[0].optimiser.slots([value.detach() for value in values.values()]),
        [{} for _ in recipes],
        torch.zeros(len(recipes), dtype=torch.int64, device=device),
        best,
    )


def shared(numbers: Sequence[float], device: torch.device) -> float | Tensor:
    """One float where all replicas have the same number, else a float64 tensor (k,)."""
    first = float(numbers[0])
    return (
        first
        if all(number == first for number in numbers)
        else torch.tensor(numbers, dtype=torch.float64, device=device)
    )


def rates(recipes: Sequence[Recipe], lr: Sequence[float], momentum: float | None, device: torch.device) -> Rates:
    """The rates of a step from the learning rate of each replica."""
    decay = [recipe.optimiser.weight_decay for recipe in recipes]
    return Rates(shared(lr, device), shared(decay, device), momentum)
