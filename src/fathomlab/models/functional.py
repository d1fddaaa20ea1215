"""Runs users' modules as functions of tensors that the caller stores: one replica, or several by `torch.vmap`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fathomlab.models.opaque import UserModel
    from fathomlab.models.parameters import Shape

Tensors = Mapping[str, "Tensor"]


def construct(model: "UserModel", shape: "Shape") -> "nn.Module":
    """Construct a module on the CPU. Lazy layers get the sizes that images of `shape` (c, h, w) need."""
    import torch
    from torch.nn.parameter import is_lazy

    with torch.device("cpu"):
        module = model.module()
        if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            module.eval()  # so that running statistics keep their initial values
            with torch.no_grad():
                module(torch.zeros(2, *shape))
    return module.train()


def fixed_tensors(module: "nn.Module") -> "dict[str, Tensor]":
    """Return parameters that the user has frozen, and buffers."""
    frozen = {name: tensor for name, tensor in module.named_parameters() if not tensor.requires_grad}
    return {**frozen, **dict(module.named_buffers())}


def to_format(tensor: "Tensor", dtype: "torch.dtype") -> "Tensor":
    """Convert a tensor of floats; counters and indices stay integers."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


class ModuleTensors:
    """The parameters and buffers of a module, as entries of dictionaries that can be replaced. Shared ones have several."""

    def __init__(self, module: "nn.Module"):
        """Find the dictionaries; the module has all its tensors."""
        self._holders: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for tensors in ("parameters", "buffers"):
            names = {id(tensor): name for name, tensor in getattr(module, f"named_{tensors}")()}
            for name, tensor in getattr(module, f"named_{tensors}")(remove_duplicate=False):
                owner, _, last = name.rpartition(".")
                holder = getattr(module.get_submodule(owner), f"_{tensors}")
                self._holders.setdefault(names[id(tensor)], []).append((holder, last))

    def install(self, tensors: Tensors) -> None:
        """Let the module use these tensors, also in its backward pass, until others are installed."""
        for name, tensor in tensors.items():
            for holder, last in self._holders[name]:
                holder[last] = tensor

    def current(self, name: str) -> "Tensor":
        """Return the tensor of this name that the module uses; another one if the module has assigned it."""
        holder, last = self._holders[name][0]
        return holder[last]


def run_packed(module: "nn.Module", params: Tensors, buffers: Tensors, images: "Tensor") -> "tuple[Tensor, Tensors]":
    """Compute the logits (k, n, classes) of several replicas at once, and their buffers after the forward pass.

    Args:
        module: The structure; its own tensors are not used.
        params: Learned tensors, each (k, *shape).
        buffers: Other tensors, each (k, *shape). They may be changed in place.
        images: Images, (k, n, c, h, w).

    Raises:
        RuntimeError: If the module does something that `torch.vmap` does not support, such as drawing random numbers.
    """
    import torch

    def replica(learned: Tensors, fixed: Tensors, inputs: "Tensor") -> "tuple[Tensor, Tensors]":
        tensors = {**learned, **fixed}
        logits = torch.func.functional_call(module, tensors, (inputs,))
        return logits, {name: tensors[name] for name in fixed}  # torch adds what the module has assigned

    return torch.vmap(replica, randomness="error")(dict(params), dict(buffers), images)
