"""The state of a pack in training: tensors with a replica axis, and counters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.engine.adapters import initial_adapters
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.precision import param_dtype
from fathomlab.optim.schedules import Memory
from fathomlab.plan.recipe import Recipe

Tensors = dict[str, Tensor]
NUM_SUMS = 3


@dataclass
class WeightCopy:
    """A copy of the weights of each replica.

    Attributes:
        epoch: Epoch of the copy, (k,), counted from 1; 0 for the initial values.
        params: Learned tensors.
        buffers: Running statistics.
    """

    epoch: Tensor
    params: Tensors
    buffers: Tensors

    @torch.no_grad()
    def update_where(self, selected: Tensor, epoch: int, params: Tensors, buffers: Tensors) -> None:
        """Copy the current weights of the `selected` replicas (k,)."""
        self.epoch.masked_fill_(selected, epoch)
        for copies, current in ((self.params, params), (self.buffers, buffers)):
            for name, tensor in current.items():
                mask = selected.view(-1, *([1] * (tensor.dim() - 1)))
                torch.where(mask, tensor, copies[name], out=copies[name])


@dataclass
class PackState:
    """A pack at a step.

    Attributes:
        network: The tensor program.
        params: Learned tensors by name, each (k, *shape), also those of the loss (`engine.adapters`).
        buffers: Running statistics by name, each (k, features), and the frozen parameters.
        optimizer_state: For each name of the optimizer, one tensor per learned tensor in the order of `params`.
        memories: State of the schedule, one per replica.
        diverged_at_step: Step of the first loss that was not finite, (k,); 0 if there is none.
        epoch_sums: Sums over the current epoch, float64 (3, k): cross-entropy, correct predictions, training loss.
        best: Weights with the best validation accuracy so far.
        best_accuracy: Validation accuracy of these weights, (k,); -1 before the first epoch.
        last_finite: Weights at the end of the last epoch with a finite loss. They are stored if the replica diverges.
        epoch: Completed epochs.
        step: Completed optimizer steps.
    """

    network: PackedNetwork
    params: Tensors
    buffers: Tensors
    optimizer_state: dict[str, list[Tensor]]
    memories: list[Memory]
    diverged_at_step: Tensor
    epoch_sums: Tensor
    best: WeightCopy
    best_accuracy: Tensor
    last_finite: WeightCopy
    epoch: int = 0
    step: int = 0


def initial_state(recipes: Sequence[Recipe], device: torch.device) -> PackState:
    """Create the state of a pack before its first step."""
    dtype = param_dtype(recipes[0].precision)
    network = PackedNetwork([recipe.architecture for recipe in recipes], device)
    stacked = _stacked([init_params(recipe.architecture, recipe.seed) for recipe in recipes], device, dtype)
    params = {name: _channels_last(stacked.pop(name)) for name in list(stacked)}
    frozen = {name: params.pop(name) for name in list(params) if name.startswith(recipes[0].frozen)}
    params |= _stacked([initial_adapters(recipe) for recipe in recipes], device, dtype)
    for param in params.values():
        param.requires_grad_(True)
    buffers = {**network.buffers(dtype, device, [recipe.seed for recipe in recipes]), **frozen}
    zeros = torch.zeros(len(recipes), dtype=torch.int64, device=device)
    return PackState(
        network,
        params,
        buffers,
        recipes[0].optimizer.init_state([param.detach() for param in params.values()]),
        [{} for _ in recipes],
        diverged_at_step=zeros,
        epoch_sums=torch.zeros(NUM_SUMS, len(recipes), dtype=torch.float64, device=device),
        best=_copy_weights(zeros, params, buffers),
        best_accuracy=torch.full((len(recipes),), -1.0, device=device, dtype=torch.float64),
        last_finite=_copy_weights(zeros, params, buffers),
    )


def _stacked(replicas: Sequence[Tensors], device: torch.device, dtype: torch.dtype) -> Tensors:
    return {name: torch.stack([replica[name] for replica in replicas]).to(device, dtype) for name in replicas[0]}


@torch.no_grad()
def load_start_weights(state: PackState, slot: int, weights: Tensors) -> None:
    """Replace the initial values of one replica by the weights of another network that have the same name and shape."""
    copies = (state.best, state.last_finite)
    for groups in (
        (state.params, *(copy.params for copy in copies)),
        (state.buffers, *(copy.buffers for copy in copies)),
    ):
        for tensors in groups:
            for name, tensor in tensors.items():
                if name in weights and weights[name].shape == tensor.shape[1:]:
                    tensor[slot].copy_(weights[name])


def _channels_last(param: Tensor) -> Tensor:
    """Store kernels (k, o, i, h, w) with channels last in memory, as convolutions read them and return gradients.

    Kernels with one output are unchanged: torch rejects the gradient of some of them in this layout.
    """
    if param.dim() < 5 or param.shape[1] == 1:
        return param
    return param.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _copy_weights(epoch: Tensor, params: Tensors, buffers: Tensors) -> WeightCopy:
    copies = ({name: tensor.detach().clone() for name, tensor in group.items()} for group in (params, buffers))
    return WeightCopy(epoch.clone(), *copies)


def replica_state_dict(state: PackState, slot: int) -> Tensors:
    """Return everything that one replica needs to resume, by name, without the replica axis.

    For a replica that has diverged, these are its last finite weights.
    """
    tensors = _views(state, slot)
    if not int(state.diverged_at_step[slot]):
        return tensors
    not_needed = ("value/", "buffer/", "slot/", "state/sums")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.startswith(not_needed)}
    finite = {name.removeprefix("finite/"): tensor for name, tensor in tensors.items() if name.startswith("finite/")}
    return tensors | zeros | {name: tensor for name, tensor in finite.items() if name != "epoch"}


@torch.no_grad()
def load_replica_state_dict(state: PackState, slot: int, tensors: Tensors) -> None:
    """Copy the result of `replica_state_dict` into a slot of a pack with the same signature, bit for bit.

    Raises:
        ValueError: If names, shapes, or formats belong to another network.
    """
    views = _views(state, slot)
    if {name: (tensor.shape, tensor.dtype) for name, tensor in views.items()} != {
        name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()
    }:
        raise ValueError("the checkpoint belongs to another network or optimizer")
    for name, tensor in views.items():
        tensor.copy_(tensors[name])
        if int(tensors["state/bad_step"]) and name.startswith("value/"):
            tensor.fill_(torch.nan)


def _views(state: PackState, slot: int) -> Tensors:
    """Return views of the tensors of one replica, with their names in checkpoint files."""
    groups = {"value": state.params, "buffer": state.buffers}
    groups |= {
        f"slot/{name}": dict(zip(state.params, tensors, strict=True)) for name, tensors in state.optimizer_state.items()
    }
    for name, copied in (("best", state.best), ("finite", state.last_finite)):
        groups |= {f"{name}/value": copied.params, f"{name}/buffer": copied.buffers, name: {"epoch": copied.epoch}}
    groups["state"] = {
        "bad_step": state.diverged_at_step,
        "best_accuracy": state.best_accuracy,
        "sums": state.epoch_sums.T,
    }
    return {
        f"{group}/{name}": tensor.detach()[slot]
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def scalar_or_tensor(numbers: Sequence[float], device: torch.device) -> float | Tensor:
    """Return one float if all numbers are equal, else a float64 tensor (k,)."""
    first = float(numbers[0])
    return (
        first
        if all(number == first for number in numbers)
        else torch.tensor(numbers, dtype=torch.float64, device=device)
    )


def select_replica(tensors: Tensors, slot: int) -> Tensors:
    """Return views of one replica, with a replica axis of length 1."""
    return {name: tensor.detach()[slot : slot + 1] for name, tensor in tensors.items()}
