"""A single network as a torch module."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.opaque import structure
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.functional import to_format
from fathomlab.models.layers import Dropout


class TorchModel(torch.nn.Module):
    """A torch module that maps images (n, c, h, w) or (n, pixels) to logits (n, classes).

    Its parameters and running statistics have the names of the store: `load_state_dict` accepts the tensors of
    `checkpoint.safetensors` and `best.safetensors`.
    """

    def __init__(
        self,
        architecture: Architecture,
        seed: int = 0,
        precision: str = "fp32",
        values: Mapping[str, Tensor] | None = None,
    ):
        """Initialize the parameters.

        Args:
            architecture: The network.
            seed: Root of the random streams of the initial values.
            precision: fp32; fp64 for parameters in float64; bf16 for products in bf16, as in training.
            values: Parameters by name, instead of the initial values.
        """
        super().__init__()
        self._precision = precision
        self.architecture = architecture
        self._network = PackedNetwork([architecture])
        self._has_dropout = any(isinstance(layer, Dropout) and layer.p for layer in walk(architecture.layers))
        initial = init_params(architecture, seed) if values is None else values
        for name in (parameter.name for parameter in architecture.parameters()):
            layer, last = self._submodule(name)
            parameter = initial[name].detach().clone().to(param_dtype(precision))
            layer.register_parameter(last, torch.nn.Parameter(parameter))
        for name, value in self._network.buffers(param_dtype(precision), "cpu").items():
            layer, last = self._submodule(name)
            layer.register_buffer(last, value[0])

    def _submodule(self, name: str) -> tuple[torch.nn.Module, str]:
        """The submodule that contains `name`, created if it is missing, and the last part of the name."""
        module: torch.nn.Module = self
        *parents, last = name.split(".")
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, torch.nn.Module())
            module = module.get_submodule(parent)
        return module, last

    def extra_repr(self) -> str:
        """Summary that `print` shows."""
        net = self.architecture
        return (
            f"{len(net.weight_layers)} weighted layers, {net.num_params:,} parameters, images {net.shape}, "
            f"{net.classes} classes"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (n, classes), with batch statistics in training mode and running statistics in eval mode.

        Raises:
            ValueError: If the images are not floats of the architecture's size.
        """
        params = {name: parameter.unsqueeze(0) for name, parameter in self.named_parameters()}
        buffers = {name: buffer.unsqueeze(0) for name, buffer in self.named_buffers()}
        size = self.architecture.shape
        if images[0].numel() != prod(size) or not images.is_floating_point():
            expected = "normalized floats of shape (n, " + ", ".join(str(axis) for axis in size) + ")"
            raise ValueError(f"images should be {expected} (got {images.dtype}, {tuple(images.shape)})")
        shaped = images.reshape(1, len(images), *size)
        keys = torch.randint(2**62, (1,)) if self.training and self._has_dropout else None
        with autocast_for(self._precision, images.device):
            logits = self._network(params, buffers, shaped, "train" if self.training else "eval", keys)[0]
        return logits.to(next(self.parameters()).dtype)


def plain_module(architecture: Architecture, tensors: Mapping[str, Tensor], precision: str) -> torch.nn.Module:
    """Return a network as a torch module in eval mode: a `TorchModel`, or the module of a user's class.

    Args:
        architecture: The network.
        tensors: Parameters and buffers by name, as in the store. They are copied, in their format and on their device.
        precision: Precision of the trial.
    """
    like = tensors[architecture.parameters()[0].name]
    if architecture.opaque is None:
        precision = "fp64" if like.dtype == torch.float64 else precision
        module: torch.nn.Module = TorchModel(architecture, precision=precision, values=tensors)
    else:
        module = structure(architecture.opaque)
    # `to` with a format would make complex buffers real
    module = module.to(like.device)._apply(lambda tensor: to_format(tensor, like.dtype))
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if architecture.opaque is None or name in tensors:  # `saved_tensors` leaves out constants
                tensor.copy_(tensors[name])
    return module.eval()
