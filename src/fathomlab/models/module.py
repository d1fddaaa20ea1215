"""One network as an ordinary torch module."""

import torch
from torch import Tensor

from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.initial import initial_values
from fathomlab.models.layers import Dropout
from fathomlab.models.network import Network, Values, norms


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

    def load(self, values: Values) -> None:
        """Take parameters and running statistics by name, each without the replica axis."""
        with torch.no_grad():
            for name, value in values.items():
                self.get_tensor(name).copy_(value)

    def get_tensor(self, name: str) -> Tensor:
        """The parameter or running statistic called `name`."""
        return getattr(self, name.replace(".", "/"))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (n, classes); batch statistics in training mode, running ones in evaluation mode."""
        values = {name: self.get_tensor(name).unsqueeze(0) for name in self._names}
        buffers = {}
        for layer, _ in norms(self.architecture.layers):
            for kind in ("running_mean", "running_var"):
                buffers[f"{layer}.{kind}"] = self.get_tensor(f"{layer}.{kind}").unsqueeze(0)
        shaped = images.reshape(1, len(images), *self.architecture.shape)
        keys = torch.randint(2**62, (1,)) if self.training and self._drops else None
        return self._network(values, buffers, shaped, "train" if self.training else "eval", keys)[0]
