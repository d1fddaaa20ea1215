"""Runs users' modules: as functions of the parameters and buffers that the engine stores."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fathomlab.base.errors import UserError, definition_location
from fathomlab.base.generators import seeded
from fathomlab.base.identity import derive_seed
from fathomlab.models.functional import ModuleTensors, construct, fixed_tensors, run_packed, to_format
from fathomlab.models.opaque import Opaque

EVAL_SEED = 0


class OpaqueProgram:
    """A user's module without tensors of its own.

    In mode `train`, buffers are updated: in place, or by assigning a new tensor. In mode `probe`, dropout modules are off and
    updates of buffers are lost. The random numbers of a step depend only on its key, and those of the other modes on nothing.
    Several replicas run at once if the module permits it, otherwise one after the other.
    """

    def __init__(self, layer: Opaque, device: torch.device | str):
        """Construct the module once, for its structure."""
        self.layer, self.device = layer, torch.device(device)
        self._module = structure(layer).to(self.device)
        self._tensors = ModuleTensors(self._module)
        self._where = definition_location(getattr(type(self._module), "forward", None))
        self._dropouts = [part for part in self._module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
        self._learned = [parameter.name for parameter in layer.parameters()]
        self._fixed = list(fixed_tensors(self._module))

    def buffers(self, dtype: torch.dtype, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Return the initial buffers of replicas with these seeds, each (k, *shape)."""
        columns = [fixed_tensors(_construct(self.layer, seed)) for seed in seeds]
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
        trained = any(tensor.requires_grad for tensor in params.values())
        learns = mode == "train" and trained and torch.is_grad_enabled()  # before the module can change it
        if mode == "probe":
            for dropout in self._dropouts:
                dropout.eval()
        if self.layer.trace.changes_images:
            images = images.clone()
        if len(images) > 1 and taps is None and self.layer.trace.vectorized:
            return self._checked(self._all(params, buffers, images, mode), images, learns)
        logits = []
        for slot, replica_images in enumerate(images):
            seed = int(keys[slot]) if keys is not None and mode == "train" else EVAL_SEED
            with seeded(seed, [self.device] * (self.device.type == "cuda")), self._tapped(taps):
                logits.append(self._replica(params, buffers, replica_images, slot, mode))
                self._checked(logits[-1], replica_images, learns)
        return torch.stack(logits)

    def _checked(self, logits: Any, images: Tensor, learns: bool) -> Tensor:
        """Logits as the loss needs them. A module may return them for the images of the plan, and not for others.

        Raises:
            UserError: If they have another shape, or no gradient.
        """
        expected, name = (*images.shape[:-3], self.layer.trace.outputs), type(self.layer.model).__name__
        if not isinstance(logits, Tensor) or logits.shape != expected:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError("plugin-error", f"{self._where}{name} must return logits of shape {expected}, got {got}")
        if learns and not logits.requires_grad:
            raise UserError("plugin-error", f"{self._where}{name} must return logits that depend on its parameters")
        return logits

    def _all(self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor, mode: str) -> Tensor:
        """Run all replicas at once."""
        fixed = {name: buffers[name].clone() for name in self._fixed}
        logits, updated = run_packed(self._module, {name: params[name] for name in self._learned}, fixed, images)
        if mode == "train":
            with torch.no_grad():
                for name, tensor in updated.items():
                    buffers[name].copy_(tensor)
        return logits

    def _replica(
        self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor, slot: int, mode: str
    ) -> Tensor:
        fixed = {name: buffers[name][slot] for name in self._fixed}
        tensors = {name: params[name][slot] for name in self._learned}
        tensors |= fixed if mode == "train" else {name: tensor.clone() for name, tensor in fixed.items()}
        self._tensors.install(tensors)
        logits = self._module(images)
        if mode == "train":
            with torch.no_grad():
                for name, tensor in fixed.items():
                    if (assigned := self._tensors.current(name)) is not tensor:
                        tensor.copy_(assigned)
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
            return taps[-1].view_as(output).clone()  # the next module may change it in place

        handles = [self._module.get_submodule(name).register_forward_hook(record) for name in self.layer.points]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def structure(layer: Opaque) -> nn.Module:
    """Construct a module. Its random values are those of no trial."""
    with seeded(EVAL_SEED):
        return construct(layer.model, layer.image_shape)


def saved_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a checkpoint contains of one replica of `structure`: what `load_state_dict` of the user's class accepts.

    Tensors that the module shares have all their names. Buffers that are not persistent are left out if `__init__` gives them the
    same values; other ones are kept, because the network would be another one without them.
    """
    result, persistent = dict[str, Tensor](), module.state_dict().keys()
    for kind in ("parameters", "buffers"):
        first = {id(tensor): name for name, tensor in getattr(module, f"named_{kind}")()}
        for name, initial in getattr(module, f"named_{kind}")(remove_duplicate=False):
            tensor = tensors[first[id(initial)]]
            if name in persistent or not torch.equal(tensor, to_format(initial, tensor.dtype).to(tensor.device)):
                result[name] = tensor
    return result


def restored_tensors(layer: Opaque, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors of one replica from those of a checkpoint, which `saved_tensors` returned."""
    return {**fixed_tensors(structure(layer)), **saved}


def initial_params(layer: Opaque, seed: int) -> dict[str, Tensor]:
    """Return the initial values of every learned tensor, float64 on the CPU, as the module's `__init__` draws them."""
    values = dict(_construct(layer, seed).named_parameters())
    return {parameter.name: values[parameter.name].detach().double() for parameter in layer.parameters()}


def _construct(layer: Opaque, seed: int) -> nn.Module:
    with seeded(derive_seed(seed, "initial")):
        return construct(layer.model, layer.image_shape)
