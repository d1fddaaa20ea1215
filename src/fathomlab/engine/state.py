"""The state of a pack in training: tensors with a replica axis, counters, and what is needed to resume."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.engine.initial import initial_values
from fathomlab.engine.network import Network
from fathomlab.engine.precision import storage
from fathomlab.optim.schedules import Memory
from fathomlab.plan.recipe import Recipe

Tensors = dict[str, Tensor]
SUMS = 3


@dataclass
class Kept:
    """A copy of the weights of each replica.

    Attributes:
        epoch: Epoch of the copy, (k,), counted from 1; 0 for the initial values.
        values: Learned tensors.
        buffers: Running statistics.
    """

    epoch: Tensor
    values: Tensors
    buffers: Tensors

    @torch.no_grad()
    def take(self, chosen: Tensor, epoch: int, values: Tensors, buffers: Tensors) -> None:
        """Copy the current weights of the `chosen` replicas (k,)."""
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
        values: Learned tensors by name, each (k, *shape).
        buffers: Running statistics by name, each (k, features).
        slots: Optimizer state by slot, one tensor per learned tensor in the order of `values`.
        memories: State of the schedule, one per replica.
        bad_step: Step of the first loss that was not finite, (k,); 0 while there is none.
        sums: Sums over the current epoch, float64 (3, k): cross-entropy, correct predictions, training loss.
        best: Weights with the best validation accuracy so far.
        best_accuracy: Their validation accuracy, (k,); -1 before the first epoch.
        finite: Weights at the end of the last epoch with a finite loss; stored if the replica diverges.
        epoch: Completed epochs.
        step: Completed optimizer steps.
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
        recipes[0].optimizer.slots([value.detach() for value in values.values()]),
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
    """Return everything that one replica needs to resume, by name, without the replica axis.

    For a replica that has diverged, these are its last finite weights.
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
    """Copy the result of `replica_tensors` into a slot of a pack of the same signature, bit for bit.

    Raises:
        ValueError: If names, shapes, or formats belong to another network.
    """
    own = _views(state, place)
    if {name: (tensor.shape, tensor.dtype) for name, tensor in own.items()} != {
        name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()
    }:
        raise ValueError("the checkpoint belongs to another network or optimizer")
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
    """Return one float if all numbers are equal, else a float64 tensor (k,)."""
    first = float(numbers[0])
    return (
        first
        if all(number == first for number in numbers)
        else torch.tensor(numbers, dtype=torch.float64, device=device)
    )
