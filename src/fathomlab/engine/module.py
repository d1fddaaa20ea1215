"""One network as an ordinary torch module."""

from math import prod

import torch
from torch import Tensor

from fathomlab.engine.initial import initial_values
from fathomlab.engine.network import Network, Values, norms
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import Dropout


class Module(torch.nn.Module):
    """One network as an ordinary torch module: images (n, c, h, w) or (n, pixels) to logits (n, classes)."""

    def __init__(self, architecture: Architecture, seed: int = 0):
        """Fill the parameters with the initial values of `seed`."""
        super().__init__()
        self.architecture = architecture
        self._network = Network([architecture])
        self._drops = any(isinstance(layer, Dropout) and layer.rate for layer in walk(architecture.layers))
        self._names = [parameter.name for parameter in architecture.parameters()]
        for name, value in initial_values(architecture, seed).items():
            self.register_parameter(name.replace(".", "/"), torch.nn.Parameter(value.float()))
        for name, value in self._network.buffers(torch.float32, "cpu").items():
            self.register_buffer(name.replace(".", "/"), value[0])

    def extra_repr(self) -> str:
        """What `print` says of the module."""
        own = self.architecture
        return (
            f"{len(own.weighted)} weighted layers, {own.numel:,} parameters, images {own.shape}, {own.classes} classes"
        )

    def load(self, values: Values) -> None:
        """Take parameters and running statistics by name, each without the replica axis."""
        with torch.no_grad():
            for name, value in values.items():
                self.get_tensor(name).copy_(value)

    def get_tensor(self, name: str) -> Tensor:
        """The parameter or running statistic called `name`."""
        return getattr(self, name.replace(".", "/"))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (n, classes); batch statistics in training mode, running ones in evaluation mode.

        Raises:
            ValueError: The images are not floats of the architecture's size.
        """
        values = {name: self.get_tensor(name).unsqueeze(0) for name in self._names}
        buffers = {}
        for layer, _ in norms(self.architecture.layers):
            for kind in ("running_mean", "running_var"):
                buffers[f"{layer}.{kind}"] = self.get_tensor(f"{layer}.{kind}").unsqueeze(0)
        size = self.architecture.shape
        if images[0].numel() != prod(size) or not images.is_floating_point():
            wanted = "normalized floats of shape (n, " + ", ".join(str(axis) for axis in size) + ")"
            raise ValueError(f"images should be {wanted} (got {images.dtype}, {tuple(images.shape)})")
        shaped = images.reshape(1, len(images), *size)
        keys = torch.randint(2**62, (1,)) if self.training and self._drops else None
        return self._network(values, buffers, shaped, "train" if self.training else "eval", keys)[0]
