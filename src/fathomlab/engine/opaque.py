"""Runs users' modules: as functions of the parameters and buffers that the engine stores, one replica after the other."""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fathomlab.base.identity import derive_seed
from fathomlab.models.opaque import Opaque

EVAL_SEED = 0


class OpaqueProgram:
    """A user's module without tensors of its own.

    In mode `train`, buffers are updated: in place, or by assigning a new tensor. In mode `probe`, dropout modules are off and
    updates of buffers are lost. The random numbers of a step depend only on its key, and those of the other modes on nothing.
    """

    def __init__(self, layer: Opaque, device: torch.device | str):
        """Construct the module once, for its structure."""
        self.layer, self.device = layer, torch.device(device)
        self._module = _construct(layer, 0).to(self.device)
        self._dropouts = [part for part in self._module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
        self._learned = [parameter.name for parameter in layer.parameters()]
        self._fixed = [name for name, _ in _fixed_tensors(self._module)]

    def buffers(self, dtype: torch.dtype, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Return the initial buffers of replicas with these seeds, each (k, *shape)."""
        columns = [dict(_fixed_tensors(_construct(self.layer, seed))) for seed in seeds]
        return {
            name: to_format(torch.stack([column[name].detach() for column in columns]).to(self.device), dtype)
            for name in self._fixed
        }

    def __call__(
        self,
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        images: Tensor,
        mode: str,
        keys: Tensor | None,
        taps: list[Tensor] | None,
    ) -> Tensor:
        """Compute logits (k, n, classes) of images (k, n, c, h, w); see `PackedNetwork.__call__`."""
        self._module.train(mode != "eval")
        if mode == "probe":
            for dropout in self._dropouts:
                dropout.eval()
        logits = []
        for slot, replica_images in enumerate(images):
            seed = int(keys[slot]) if keys is not None and mode == "train" else EVAL_SEED
            with seeded(seed, self.device), self._tapped(taps):
                logits.append(self._replica(params, buffers, replica_images, slot, mode))
        return torch.stack(logits)

    def _replica(
        self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor, slot: int, mode: str
    ) -> Tensor:
        fixed = {name: buffers[name][slot] for name in self._fixed}
        tensors = {name: params[name][slot] for name in self._learned}
        tensors |= fixed if mode == "train" else {name: tensor.clone() for name, tensor in fixed.items()}
        logits = torch.func.functional_call(self._module, tensors, (images,))
        if mode == "train":
            with torch.no_grad():
                for name, tensor in fixed.items():  # torch writes back the tensors that the module has assigned
                    if tensors[name] is not tensor:
                        tensor.copy_(tensors[name])
        return logits

    @contextlib.contextmanager
    def _tapped(self, taps: list[Tensor] | None) -> Iterator[None]:
        """Append the output of each point to `taps`, (1, n, d) or maps (n, c, h, w), in the order of the forward pass.

        A tap is part of the computation, so that the gradient with respect to it can be computed.
        """
        if taps is None:
            yield
            return

        def record(_: nn.Module, __: object, output: Tensor) -> Tensor:
            taps.append(output if output.dim() == 4 else output.flatten(1).unsqueeze(0))
            return taps[-1].view_as(output)

        handles = [self._module.get_submodule(name).register_forward_hook(record) for name in self.layer.points]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def initial_params(layer: Opaque, seed: int) -> dict[str, Tensor]:
    """Return the initial values of every learned tensor, float64 on the CPU, as the module's `__init__` draws them."""
    values = dict(_construct(layer, seed).named_parameters())
    return {parameter.name: values[parameter.name].detach().double() for parameter in layer.parameters()}


def module_with(layer: Opaque, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the user's module with these parameters and buffers, in their format and in eval mode."""
    module = _construct(layer, 0).eval()
    for dtype in {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}:
        module.to(dtype)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.copy_(tensors[name])
    return module


def to_format(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a tensor of floats; counters and indices stay integers."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of torch, NumPy, and Python, and restore them afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - users' code may draw from it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _construct(layer: Opaque, seed: int) -> nn.Module:
    cpu = torch.device("cpu")
    with seeded(derive_seed(seed, "initial"), cpu), cpu:
        return layer.model.module()


def _fixed_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers, and parameters that the user has frozen."""
    frozen = [(name, tensor) for name, tensor in module.named_parameters() if not tensor.requires_grad]
    return [*frozen, *module.named_buffers()]
