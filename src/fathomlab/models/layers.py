"""Layers as values: shapes, parameters, and operation counts, without tensors.

Parameter names depend only on the names of layers. Two networks with a layer of the same name therefore have the same
initial values for it if the seed is the same. A layer that occurs twice in a network is applied twice with the same weights.
"""

from dataclasses import dataclass
from math import prod
from typing import Annotated

from fathomlab.base.packing import Varies
from fathomlab.models.opaque import Opaque
from fathomlab.models.parameters import LayerDefaults, Parameter, Shape


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b on features. W has the shape (out_features, in_features).

    Attributes:
        gain: None: the initial values follow the architecture's `init`. A number: the weights are also multiplied by it,
            and the bias starts at 0.
    """

    name: str
    in_features: int
    out_features: int
    last: bool = False
    gain: Annotated[float | None, Varies()] = None

    def parameters(self) -> tuple[Parameter, ...]:
        """Weight and bias."""
        gain, bias = (1.0, "bias") if self.gain is None else (self.gain, 0.0)
        return (
            Parameter(f"{self.name}.weight", (self.out_features, self.in_features), "weight", "weight", gain),
            Parameter(f"{self.name}.bias", (self.out_features,), bias, "bias"),
        )

    def shape(self, shape: Shape) -> Shape:
        """(in_features,) to (out_features,)."""
        assert shape == (self.in_features,), (self.name, shape)
        return (self.out_features,)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates per example."""
        return self.in_features * self.out_features


@dataclass(frozen=True)
class Conv2d:
    """Square convolution without bias, with padding kernel_size // 2."""

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1

    def parameters(self) -> tuple[Parameter, ...]:
        """The kernel, (out_channels, in_channels, kernel_size, kernel_size)."""
        shape = (self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)
        return (Parameter(f"{self.name}.weight", shape, "weight", "weight"),)

    def shape(self, shape: Shape) -> Shape:
        """(in_channels, h, w) to (out_channels, h', w')."""
        channels, height, width = shape
        assert channels == self.in_channels, (self.name, shape)
        sizes = (_output_size(size, self.kernel_size, self.stride) for size in (height, width))
        return (self.out_channels, *sizes)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates per example."""
        _, height, width = self.shape(shape)
        return self.in_channels * self.out_channels * self.kernel_size**2 * height * width


@dataclass(frozen=True)
class BatchNorm(LayerDefaults):
    """Batch normalization per feature or channel.

    Normalizes with the biased batch variance. The running variance uses the unbiased one, as in torch.

    Attributes:
        eps: Added to the variance. It may differ between the replicas of a pack.
        gamma: Initial scale.
        beta: Initial shift.
    """

    name: str
    features: int
    eps: Annotated[float, Varies()] = 1e-5
    gamma: Annotated[float, Varies()] = 1.0
    beta: Annotated[float, Varies()] = 0.0

    def parameters(self) -> tuple[Parameter, ...]:
        """Scale (gamma) and shift (beta)."""
        return (
            Parameter(f"{self.name}.weight", (self.features,), self.gamma, "gamma"),
            Parameter(f"{self.name}.bias", (self.features,), self.beta, "beta"),
        )

    def shape(self, shape: Shape) -> Shape:
        """Unchanged."""
        assert shape[0] == self.features, (self.name, shape)
        return shape


@dataclass(frozen=True)
class Scale(LayerDefaults):
    """Multiplication by one learned number with the initial value `init_value`."""

    name: str
    init_value: Annotated[float, Varies()]

    def parameters(self) -> tuple[Parameter, ...]:
        """The number, of shape (1,)."""
        return (Parameter(f"{self.name}.weight", (1,), self.init_value, "scale"),)


@dataclass(frozen=True)
class Multiply(LayerDefaults):
    """Multiplication by a constant."""

    factor: float


@dataclass(frozen=True)
class Pad(LayerDefaults):
    """Shortcut without parameters: takes every `stride`-th pixel and appends channels of zeros."""

    in_channels: int
    out_channels: int
    stride: int

    def shape(self, shape: Shape) -> Shape:
        """(in_channels, h, w) to (out_channels, h', w')."""
        _, height, width = shape
        return (self.out_channels, _output_size(height, 1, self.stride), _output_size(width, 1, self.stride))


@dataclass(frozen=True)
class ParameterFree(LayerDefaults):
    """A function without parameters or options.

    Attributes:
        kind: An activation by its torch name, `Flatten`, `MaxPool` (3x3, stride 2), or `MeanPool` (global average).
    """

    kind: str

    def shape(self, shape: Shape) -> Shape:
        """Output shape of one example."""
        if self.kind == "Flatten":
            return (prod(shape),)
        if self.kind == "MaxPool":
            return (shape[0], _output_size(shape[1], 3, 2), _output_size(shape[2], 3, 2))
        return (shape[0],) if self.kind == "MeanPool" else shape


@dataclass(frozen=True)
class Dropout(LayerDefaults):
    """Sets a fraction `p` of the features to 0 in training, and scales the others by 1 / (1 - p).

    Attributes:
        layer_index: Selects the random stream of this layer.
        p: Fraction. It may differ between the replicas of a pack, except for 0.
    """

    layer_index: int
    p: Annotated[float, Varies(separate=(0.0,))]


@dataclass(frozen=True)
class Tap(LayerDefaults):
    """A named point: the output of a layer or block, where probes read features and their gradients."""

    name: str


@dataclass(frozen=True)
class Residual:
    """branch(x) + x if `enabled`, else branch(x)."""

    branch: "Layers"
    enabled: Annotated[bool, Varies()] = True

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the branch."""
        return tuple(parameter for layer in self.branch for parameter in layer.parameters())

    def shape(self, shape: Shape) -> Shape:
        """Output shape of the branch. It equals the input shape if `enabled`."""
        result = shape_after(self.branch, shape)
        assert not self.enabled or result == shape
        return result

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of the branch per example."""
        return macs(self.branch, shape)


@dataclass(frozen=True)
class Shortcut:
    """branch(x) + shortcut(x), for blocks that change the shape. A network without shortcuts has only the branch."""

    branch: "Layers"
    shortcut: "Layers"

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the branch, then those of the shortcut."""
        return tuple(parameter for layer in (*self.branch, *self.shortcut) for parameter in layer.parameters())

    def shape(self, shape: Shape) -> Shape:
        """Output shape of the branch and of the shortcut."""
        result = shape_after(self.branch, shape)
        assert shape_after(self.shortcut, shape) == result
        return result

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of branch and shortcut per example."""
        return macs(self.branch, shape) + macs(self.shortcut, shape)


Layer = (
    Linear | Conv2d | BatchNorm | Scale | Multiply | Pad | ParameterFree | Dropout | Tap | Residual | Shortcut | Opaque
)
Layers = tuple[Layer, ...]


def inside_shortcut(layer: Residual | Shortcut) -> Layers:
    """Return the layers of a shortcut; the identity has none."""
    return layer.shortcut if isinstance(layer, Shortcut) else ()


def shape_after(layers: Layers, shape: Shape) -> Shape:
    """Return the shape of one example after `layers`."""
    for layer in layers:
        shape = layer.shape(shape)
    return shape


def macs(layers: Layers, shape: Shape) -> int:
    """Return the multiply-accumulates of `layers` per example."""
    total = 0
    for layer in layers:
        total += layer.macs(shape)
        shape = layer.shape(shape)
    return total


def _output_size(size: int, kernel_size: int, stride: int) -> int:
    return (size + 2 * (kernel_size // 2) - kernel_size) // stride + 1
