"""What a network is made of, as values: shapes, counts and order, without a tensor.

Parameter names come from the layers' names alone, so that two networks that share a layer share its initial values for
the same seed.
"""

from dataclasses import dataclass
from math import prod
from typing import Annotated

from fathomlab.base.packing import Varies

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """A learned tensor: its name, its shape for one replica and how it is filled.

    Attributes:
        fill: `weight` or `bias` (by the architecture's initialization), or a constant.
        kind: weight, bias, gamma, beta or scale.
        gain: The weights that are drawn are multiplied by it.
    """

    name: str
    shape: Shape
    fill: str | float
    kind: str
    gain: float = 1.0

    @property
    def numel(self) -> int:
        """Numbers in the tensor."""
        return prod(self.shape)


class Simple:
    """A layer that has no learned tensors, keeps the shape, and has no products that count, unless it says otherwise."""

    def parameters(self) -> tuple[Parameter, ...]:
        """Learned tensors."""
        return ()

    def shape(self, shape: Shape) -> Shape:
        """Shape of the output for one example."""
        return shape

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates for one example."""
        return 0


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b on features, W of shape (outputs, inputs).

    Attributes:
        gain: None: values are drawn as the architecture's `init` says. A number: the weights are multiplied by it, and the
            bias starts at 0.
    """

    name: str
    inputs: int
    outputs: int
    last: bool = False
    gain: Annotated[float | None, Varies()] = None

    def parameters(self) -> tuple[Parameter, ...]:
        """Weight and bias."""
        gain, bias = (1.0, "bias") if self.gain is None else (self.gain, 0.0)
        return (
            Parameter(f"{self.name}.weight", (self.outputs, self.inputs), "weight", "weight", gain),
            Parameter(f"{self.name}.bias", (self.outputs,), bias, "bias"),
        )

    def shape(self, shape: Shape) -> Shape:
        """(d,) to (outputs,)."""
        assert shape == (self.inputs,), (self.name, shape)
        return (self.outputs,)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates for one example."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Conv2d:
    """Square convolution without bias, padding kernel // 2."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    def parameters(self) -> tuple[Parameter, ...]:
        """The kernel, (outputs, inputs, kernel, kernel)."""
        return (
            Parameter(f"{self.name}.weight", (self.outputs, self.inputs, self.kernel, self.kernel), "weight", "weight"),
        )

    def shape(self, shape: Shape) -> Shape:
        """(c, h, w) to (outputs, h', w')."""
        channels, height, width = shape
        assert channels == self.inputs, (self.name, shape)
        return (self.outputs, _strided(height, self.kernel, self.stride), _strided(width, self.kernel, self.stride))

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates for one example."""
        _, height, width = self.shape(shape)
        return self.inputs * self.outputs * self.kernel**2 * height * width


@dataclass(frozen=True)
class BatchNorm(Simple):
    """Batch normalization per feature or channel.

    Normalizes with the biased batch variance; the running variance takes the unbiased one, as torch does.

    Attributes:
        eps: Added to the variance; may differ between the replicas of a pack.
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
class Scale(Simple):
    """Multiplies everything by one learned number, which starts at `start`."""

    name: str
    start: Annotated[float, Varies()]

    def parameters(self) -> tuple[Parameter, ...]:
        """The number, of shape (1,)."""
        return (Parameter(f"{self.name}.weight", (1,), self.start, "scale"),)


@dataclass(frozen=True)
class Pad(Simple):
    """Every `stride`-th pixel, and channels of zeros behind the others: a shortcut without parameters."""

    inputs: int
    outputs: int
    stride: int

    def shape(self, shape: Shape) -> Shape:
        """(c, h, w) to (outputs, h', w')."""
        _, height, width = shape
        return (self.outputs, _strided(height, 1, self.stride), _strided(width, 1, self.stride))


@dataclass(frozen=True)
class Plain(Simple):
    """A layer without parameters: an activation by its torch name, `Flatten`, `MaxPool` (3x3, stride 2) or `MeanPool` (all)."""

    kind: str

    def shape(self, shape: Shape) -> Shape:
        """The shape after pooling or flattening."""
        if self.kind == "Flatten":
            return (prod(shape),)
        if self.kind == "MaxPool":
            return (shape[0], _strided(shape[1], 3, 2), _strided(shape[2], 3, 2))
        return (shape[0],) if self.kind == "MeanPool" else shape


@dataclass(frozen=True)
class Dropout(Simple):
    """Sets a share `rate` of the features to 0 in training and scales the rest; `rate` may differ within a pack."""

    place: int
    rate: Annotated[float, Varies(separate=(0.0,))]


@dataclass(frozen=True)
class Tap(Simple):
    """A named point: the output of a layer or block, where the activation gradient is measured."""

    name: str


@dataclass(frozen=True)
class Residual:
    """branch(x) + x if `on`, else branch(x)."""

    branch: "Layers"
    on: Annotated[bool, Varies()] = True

    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the branch."""
        return tuple(parameter for layer in self.branch for parameter in layer.parameters())

    def shape(self, shape: Shape) -> Shape:
        """The output shape of the branch, which is that of its input if `on`."""
        result = shape_after(self.branch, shape)
        assert not self.on or result == shape
        return result

    def macs(self, shape: Shape) -> int:
        """Those of the branch."""
        return macs(self.branch, shape)


@dataclass(frozen=True)
class Shortcut:
    """branch(x) + shortcut(x), where the shortcut changes the shape. Without it, a network has the branch alone."""

    branch: "Layers"
    shortcut: "Layers"

    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the branch, then those of the shortcut."""
        return tuple(parameter for layer in (*self.branch, *self.shortcut) for parameter in layer.parameters())

    def shape(self, shape: Shape) -> Shape:
        """The output shape of the branch and of the shortcut."""
        result = shape_after(self.branch, shape)
        assert shape_after(self.shortcut, shape) == result
        return result

    def macs(self, shape: Shape) -> int:
        """Those of both."""
        return macs(self.branch, shape) + macs(self.shortcut, shape)


Layer = Linear | Conv2d | BatchNorm | Scale | Pad | Plain | Dropout | Tap | Residual | Shortcut
Layers = tuple[Layer, ...]


def inside_shortcut(layer: Residual | Shortcut) -> Layers:
    """The layers of a shortcut; the identity has none."""
    return layer.shortcut if isinstance(layer, Shortcut) else ()


def shape_after(layers: Layers, shape: Shape) -> Shape:
    """The shape of one example after `layers`."""
    for layer in layers:
        shape = layer.shape(shape)
    return shape


def macs(layers: Layers, shape: Shape) -> int:
    """Multiply-accumulates of `layers` for one example."""
    total = 0
    for layer in layers:
        total += layer.macs(shape)
        shape = layer.shape(shape)
    return total


def _strided(size: int, kernel: int, stride: int) -> int:
    return (size + 2 * (kernel // 2) - kernel) // stride + 1
