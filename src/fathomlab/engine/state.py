"""The state of a pack in training: tensors with a replica axis, counters, and what is needed to go on from here."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.engine.precision import storage
from fathomlab.engine.recipe import Recipe
from fathomlab.engine.schedules import Memory
from fathomlab.models.initial import initial_values
from fathomlab.models.network import Network

Tensors = dict[str, Tensor]
SUMS = 3


@dataclass
class Kept:
    """Weights set aside, for each replica.

    Attributes:
        epoch: When, (k,), counted from 1; 0 for the initial values.
        values: Learnt tensors then.
        buffers: Running statistics then.
    """

    epoch: Tensor
    values: Tensors
    buffers: Tensors

    @torch.no_grad()
    def take(self, chosen: Tensor, epoch: int, values: Tensors, buffers: Tensors) -> None:
        """Set the present weights of the `chosen` replicas (k,) aside instead."""
        self.epoch.masked_fill_(chosen, epoch)
        for kept, now in ((self.values, values), (self.buffers, buffers)):
            for name, tensor in now.items():
                mask = chosen.view(-1, *([1] * (tensor.dim() - 1)))
                torch.where(mask, tensor, kept[name], out=kept[name])


@dataclass
class State:
    """A pack at a step.

    Attributes:
        network: The tensor program.
        values: Learnt tensors by name, each (k, *shape).
        buffers: Running statistics by name, each (k, features).
        slots: Optimiser state by slot, one tensor for each learnt tensor in the order of `values`.
        memories: What the schedule remembers, one a replica.
        bad_step: Step of the first loss that was not finite, (k,); 0 while there is none.
        sums: Of the running epoch, float64 (3, k): cross-entropy, correct answers, the trial's own loss.
        best: Weights that were best on validation so far.
        best_accuracy: Their validation accuracy, (k,); -1 before the first epoch.
        finite: Weights at the last epoch's end with a finite loss: what is left of a replica that diverges.
        epoch: Epochs done.
        step: Optimiser steps done.
    """

    network: Network
    values: Tensors
    buffers: Tensors
    slots: dict[str, list[Tensor]]
    memories: list[Memory]
    bad_step: Tensor
    sums: Tensor
    best: Kept
    best_accuracy: Tensor
    finite: Kept
    epoch: int = 0
    step: int = 0


def initial_state(recipes: Sequence[Recipe], device: torch.device) -> State:
    """A pack before its first step."""
    dtype = storage(recipes[0].precision)
    network = Network([recipe.architecture for recipe in recipes], device)
    replicas = [initial_values(recipe.architecture, recipe.seed) for recipe in recipes]
    values = {name: _laid_out(torch.stack([own[name] for own in replicas]).to(device, dtype)) for name in replicas[0]}
    for value in values.values():
        value.requires_grad_(True)
    buffers = network.buffers(dtype, device)
    zeros = torch.zeros(len(recipes), dtype=torch.int64, device=device)
    return State(
        network,
        values,
        buffers,
        recipes[0].optimiser.slots([value.detach() for value in values.values()]),
        [{} for _ in recipes],
        bad_step=zeros,
        sums=torch.zeros(SUMS, len(recipes), dtype=torch.float64, device=device),
        best=_aside(zeros, values, buffers),
        best_accuracy=torch.full((len(recipes),), -1.0, device=device, dtype=torch.float64),
        finite=_aside(zeros, values, buffers),
    )


def _laid_out(value: Tensor) -> Tensor:
    """Kernels (k, o, i, h, w) with the channels last in memory, as convolutions read them and return their gradients.

    Kernels with one output stay as they are: torch refuses the gradient of some of them in this layout.
    """
    if value.dim() < 5 or value.shape[1] == 1:
        return value
    return value.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _aside(epoch: Tensor, values: Tensors, buffers: Tensors) -> Kept:
    copies = ({name: tensor.detach().clone() for name, tensor in group.items()} for group in (values, buffers))
    return Kept(epoch.clone(), *copies)


def replica_tensors(state: State, place: int) -> Tensors:
    """Everything of one replica that is needed to go on from here, by name, without its replica axis.

    Of a replica that has diverged it is what was last finite: nothing else of it is worth keeping.
    """
    tensors = _views(state, place)
    if not int(state.bad_step[place]):
        return tensors
    lost = ("value/", "buffer/", "slot/", "state/sums")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.startswith(lost)}
    finite = {name.removeprefix("finite/"): tensor for name, tensor in tensors.items() if name.startswith("finite/")}
    return tensors | zeros | {name: tensor for name, tensor in finite.items() if name != "epoch"}


@torch.no_grad()
def load_replica(state: State, place: int, tensors: Tensors) -> None:
    """Put what `replica_tensors` gave into a place of a pack of the same signature, bit for bit.

    Raises:
        ValueError: The names, shapes or formats are those of another network.
    """
    own = _views(state, place)
    if {name: (tensor.shape, tensor.dtype) for name, tensor in own.items()} != {
        name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()
    }:
        raise ValueError("the checkpoint belongs to another network or optimiser")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])
        if int(tensors["state/bad_step"]) and name.startswith("value/"):
            tensor.fill_(torch.nan)


def _views(state: State, place: int) -> Tensors:
    groups = {"value": state.values, "buffer": state.buffers}
    groups |= {f"slot/{slot}": dict(zip(state.values, tensors, strict=True)) for slot, tensors in state.slots.items()}
    for name, kept in (("best", state.best), ("finite", state.finite)):
        groups |= {f"{name}/value": kept.values, f"{name}/buffer": kept.buffers, name: {"epoch": kept.epoch}}
    groups["state"] = {"bad_step": state.bad_step, "best_accuracy": state.best_accuracy, "sums": state.sums.T}
    return {f"{group}/{name}": tensor.detach()[place] for group, own in groups.items() for name, tensor in own.items()}


def shared(numbers: Sequence[float], device: torch.device) -> float | Tensor:
    """One float where all replicas have the same number, else a float64 tensor (k,)."""
    first = float(numbers[0])
    return (
        first
        if all(number == first for number in numbers)
        else torch.tensor(numbers, dtype=torch.float64, device=device)
    )
