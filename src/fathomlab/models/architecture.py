"""A network as a value: its layers, its counts, and what it must share with others to be trained in one pack.

`network.py` runs it as one tensor program with a replica axis; the planner reads parameters and costs from it without
loading torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated

from fathomlab.base.packing import Varies
from fathomlab.models.layers import (
    Conv2d,
    Layer,
    Layers,
    Linear,
    Parameter,
    Residual,
    Shape,
    Shortcut,
    Tap,
    inside_shortcut,
    macs,
)


@dataclass(frozen=True)
class Architecture:
    """A network as a value.

    Attributes:
        layers: In the order of the data.
        shape: Shape of one image, (c, h, w).
        classes: Outputs.
        init: How weights and biases are filled; a name that `initial.py` knows.
    """

    layers: Layers
    shape: Shape
    classes: int
    init: Annotated[str, Varies()]

    def parameters(self) -> tuple[Parameter, ...]:
        """All learned tensors, in the order of the network."""
        return tuple(parameter for layer in self.layers for parameter in layer.parameters())

    @cached_property
    def numel(self) -> int:
        """Learned numbers of one replica."""
        return sum(parameter.numel for parameter in self.parameters())

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one image."""
        return macs(self.layers, self.shape)

    @cached_property
    def activations(self) -> int:
        """Numbers that the layers put out for one image: what training keeps in memory, to a factor."""
        return _activations(self.layers, self.shape)

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the points where activation gradients are measured, in the network's order."""
        return tuple(layer.name for layer in walk(self.layers) if isinstance(layer, Tap))

    @property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers with a weight matrix or kernel, in the network's order, shortcuts included."""
        return tuple(layer.name for layer in walk(self.layers) if isinstance(layer, Linear | Conv2d))

    @property
    def convolutional(self) -> bool:
        """Whether there is a convolution."""
        return any(isinstance(layer, Conv2d) for layer in walk(self.layers))


def walk(layers: Layers) -> Iterator[Layer]:
    """Every layer in the network's order, the inside of residual blocks included."""
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            yield from walk((*layer.branch, *inside_shortcut(layer)))
        else:
            yield layer


def _activations(layers: Layers, shape: Shape) -> int:
    total = 0
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            total += _activations(layer.branch, shape) + _activations(inside_shortcut(layer), shape)
        shape = layer.shape(shape)
        total += 0 if isinstance(layer, Tap) else prod(shape)
    return total
