"""A single network as a torch module."""

from math import prod

import torch
from torch import Tensor

from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork, batch_norms
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import Dropout


class TorchModel(torch.nn.Module):
    """A torch module that maps images (n, c, h, w) or (n, pixels) to logits (n, classes)."""

    def __init__(self, architecture: Architecture, seed: int = 0):
        """Initialize the parameters with `seed`."""
        super().__init__()
        self.architecture = architecture
        self._network = PackedNetwork([architecture])
        self._has_dropout = any(isinstance(layer, Dropout) and layer.p for layer in walk(architecture.layers))
        self._names = [parameter.name for parameter in architecture.parameters()]
        for name, value in init_params(architecture, seed).items():
            self.register_parameter(name.replace(".", "/"), torch.nn.Parameter(value.float()))
        for name, value in self._network.buffers(torch.float32, "cpu").items():
            self.register_buffer(name.replace(".", "/"), value[0])

    def extra_repr(self) -> str:
        """Summary that `print` shows."""
        net = self.architecture
        return (
            f"{len(net.weight_layers)} weighted layers, {net.num_params:,} parameters, images {net.shape}, "
            f"{net.classes} classes"
        )

    def get_parameter_or_buffer(self, name: str) -> Tensor:
        """Return the parameter or running statistic `name`."""
        return getattr(self, name.replace(".", "/"))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (n, classes), with batch statistics in training mode and running statistics in eval mode.

        Raises:
            ValueError: If the images are not floats of the architecture's size.
        """
        params = {name: self.get_parameter_or_buffer(name).unsqueeze(0) for name in self._names}
        buffers = {}
        for layer, _ in batch_norms(self.architecture.layers):
            for kind in ("running_mean", "running_var"):
                buffers[f"{layer}.{kind}"] = self.get_parameter_or_buffer(f"{layer}.{kind}").unsqueeze(0)
        size = self.architecture.shape
        if images[0].numel() != prod(size) or not images.is_floating_point():
            expected = "normalized floats of shape (n, " + ", ".join(str(axis) for axis in size) + ")"
            raise ValueError(f"images should be {expected} (got {images.dtype}, {tuple(images.shape)})")
        shaped = images.reshape(1, len(images), *size)
        keys = torch.randint(2**62, (1,)) if self.training and self._has_dropout else None
        return self._network(params, buffers, shaped, "train" if self.training else "eval", keys)[0]
