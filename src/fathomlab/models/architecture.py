"""Networks as values: layers, parameter counts, and costs.

`engine/network.py` runs architectures as one tensor program. The planner reads parameters and costs without importing torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated

from fathomlab.base.packing import Varies
from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Layer,
    Layers,
    Linear,
    Pad,
    ParameterFree,
    Residual,
    Scale,
    Shortcut,
    Tap,
    inside_shortcut,
    macs,
    shape_after,
)
from fathomlab.models.opaque import Opaque
from fathomlab.models.parameters import Parameter, Shape

KEEPS_OUTPUT = ("ReLU", "Tanh", "Sigmoid")  # what their gradient reads
KEEPS_INPUT = ("LeakyReLU", "ELU", "GELU", "SiLU", "MaxPool")


@dataclass(frozen=True)
class Architecture:
    """A network as a value.

    Attributes:
        layers: Layers in the order of the forward pass.
        shape: Shape of one image, (c, h, w).
        classes: Number of outputs.
        init: Initialization of weights and biases; see `engine/initializers.py`.
    """

    layers: Layers
    shape: Shape
    classes: int
    init: Annotated[str, Varies()]

    def parameters(self) -> tuple[Parameter, ...]:
        """All learned tensors, in the order of the forward pass; once for a layer that is applied twice."""
        return tuple(dict.fromkeys(parameter for layer in self.layers for parameter in layer.parameters()))

    @cached_property
    def num_params(self) -> int:
        """Number of learned parameters of one replica."""
        return sum(parameter.numel for parameter in self.parameters())

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass per image."""
        return macs(self.layers, self.shape)

    @cached_property
    def activations(self) -> int:
        """Numbers per image that a forward pass keeps for the gradients. The memory of a step is proportional to it."""
        return _kept(self.layers, self.shape, False)[0]

    @cached_property
    def largest_output(self) -> int:
        """Numbers per image of the largest input or output of a layer."""
        return max(_outputs(self.layers, self.shape), default=0)

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the points where activation gradients are measured, in the order of the forward pass."""
        names: list[str] = []
        for layer in walk(self.layers):
            names += layer.points if isinstance(layer, Opaque) else ()
            names += (layer.name,) if isinstance(layer, Tap) else ()
        return tuple(names)

    @cached_property
    def points(self) -> dict[str, Shape]:
        """Output of each point for one image, (d,) or (c, h, w), in the order of the forward pass; none in a user's module."""
        return dict(_points(self.layers, self.shape))

    @property
    def weight_layers(self) -> tuple[str, ...]:
        """Names of the layers with a weight matrix or kernel, including shortcuts, in the order of the forward pass."""
        names: list[str] = []
        for layer in walk(self.layers):
            names += layer.weight_layers if isinstance(layer, Opaque) else ()
            names += (layer.name,) if isinstance(layer, Linear | Conv2d) else ()
        return tuple(dict.fromkeys(names))

    @property
    def map_shape(self) -> Shape | None:
        """Shape of the maps before the global average pooling, (c, h, w); None if it is not followed by one last linear layer."""
        pooling, last = self.layers[-2:-1], self.layers[-1:]
        if pooling != (ParameterFree("MeanPool"),) or not isinstance(last[0], Linear):
            return None
        return shape_after(self.layers[:-2], self.shape)

    @property
    def convolutional(self) -> bool:
        """Whether the network has a convolution that the engine runs."""
        return any(isinstance(layer, Conv2d) for layer in walk(self.layers))

    @property
    def opaque(self) -> Opaque | None:
        """The only layer of a user's module; None for other networks."""
        return next((layer for layer in self.layers if isinstance(layer, Opaque)), None)

    @property
    def packable(self) -> bool:
        """Whether several replicas run as one tensor program: all networks except some users' modules."""
        return self.opaque is None or self.opaque.trace.vectorized


def walk(layers: Layers) -> Iterator[Layer]:
    """Yield every layer in the order of the forward pass, including those inside residual blocks."""
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            yield from walk((*layer.branch, *inside_shortcut(layer)))
        else:
            yield layer


def _points(layers: Layers, shape: Shape) -> Iterator[tuple[str, Shape]]:
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            yield from _points(layer.branch, shape)
            yield from _points(inside_shortcut(layer), shape)
        elif isinstance(layer, Tap):
            yield layer.name, shape
        shape = layer.shape(shape)


def _kept(layers: Layers, shape: Shape, kept: bool) -> tuple[int, bool]:
    """Numbers per image that `layers` keep for the gradients, and whether their output is kept.

    A tensor that several layers keep counts once; `kept` is whether the input counts already.
    """
    total = 0
    for layer in layers:
        size, outputs = prod(shape), prod(layer.shape(shape))
        if isinstance(layer, Residual | Shortcut):
            numbers, kept = _kept(layer.branch, shape, kept)
            total += numbers + _kept(inside_shortcut(layer), shape, True)[0]
            kept = kept and isinstance(layer, Residual) and not layer.enabled
        elif isinstance(layer, Linear | Conv2d | BatchNorm | Scale):
            total, kept = total + (0 if kept else size), False
        elif isinstance(layer, ParameterFree) and layer.kind in KEEPS_OUTPUT:
            total, kept = total + outputs, True
        elif isinstance(layer, ParameterFree) and layer.kind in KEEPS_INPUT:
            total, kept = total + (0 if kept else size) + (2 * outputs if layer.kind == "MaxPool" else 0), False
        elif isinstance(layer, Opaque):
            total, kept = total + outputs, False
        elif isinstance(layer, Pad) or layer == ParameterFree("MeanPool") or (isinstance(layer, Dropout) and layer.p):
            kept = False
        shape = layer.shape(shape)
    return total, kept


def _outputs(layers: Layers, shape: Shape) -> Iterator[int]:
    """Numbers per image of the input and of each output."""
    yield prod(shape)
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            yield from _outputs(layer.branch, shape)
            yield from _outputs(inside_shortcut(layer), shape)
        shape = layer.shape(shape)
        yield prod(shape)
