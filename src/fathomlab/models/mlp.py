"""Multilayer perceptron of experiments 1.1 and 1.2: input layer, hidden layers of one width, output layer."""

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar, Literal, final

from fathomlab.base.catalogue import Bound, Fraction, OneOf
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Dropout, Layer, Linear, Plain, Residual, Shape, Tap

ACTIVATIONS = ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Tanh", "Sigmoid")
Width = Annotated[int, Bound(least=1, most=65_536)]


@final
@dataclass(frozen=True)
class MLP:
    """Each layer is Linear, BatchNorm (if on), activation, Dropout.

    `residual` adds the identity around each hidden layer, h + dropout(act(bn(W h + b))), and changes nothing else: same
    parameters, same initial values. Neither He's block nor pre-activation: the branch is non-negative and nothing follows
    the addition. With L hidden layers there are L + 2 linear layers.

    Attributes:
        input_size: Numbers in an image; must agree with the data.
        layers_dim: Width n of every hidden layer.
        class_num: Classes; must agree with the data.
        hidden_layers_num: Depth L.
        residual: Whether the identity is added around each hidden layer.
        activation: By its torch name.
        dropout: Share of the features set to 0 in training.
        batch_norm: Whether each layer but the output normalises over the batch.
        init: `torch`: uniform on +-1/sqrt(fan_in), torch's default for Linear; `he`: normal with variance 2/fan_in and
            zero bias (He et al., 2015).
    """

    input_size: Width = 784
    layers_dim: Width = 128
    class_num: Annotated[int, Bound(least=2, most=65_536)] = 10
    hidden_layers_num: Annotated[int, Bound(least=0, most=10_000)] = 2
    residual: bool = False
    activation: Annotated[str, OneOf("activation", ACTIVATIONS)] = "ReLU"
    dropout: Fraction = 0.0
    batch_norm: bool = False
    init: Literal["torch", "he"] = "torch"

    tiny: ClassVar[dict[str, object]] = {"input_size": 12, "layers_dim": 5, "class_num": 3, "hidden_layers_num": 2}
    tiny_shape: ClassVar[Shape] = (1, 3, 4)
    data: ClassVar[str] = "mnist"
    depth_key: ClassVar[str] = "hidden_layers_num"
    width_key: ClassVar[str] = "layers_dim"

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return self.hidden_layers_num

    def complaints_for(self, shape: Shape, classes: int) -> list[tuple[str, str]]:
        """What disagrees with data of this image shape and number of classes."""
        found = []
        if self.input_size != prod(shape):
            size = " x ".join(str(axis) for axis in shape)
            found.append(("input_size", f"should be {prod(shape)}, the data's {size} (got {self.input_size})."))
        if self.class_num != classes:
            found.append(("class_num", f"should be {classes}, the data's classes (got {self.class_num})."))
        return found

    def normal_form(self) -> "MLP":
        """The options with which the same network is written in one way."""
        return self

    def build(self, shape: Shape) -> Architecture:
        """The network for images of `shape` (c, h, w)."""
        layers: list[Layer] = [Plain("Flatten"), *self._layer("input", self.input_size, 0), Tap("input")]
        for place in range(1, self.hidden_layers_num + 1):
            name = f"hidden.{place}"
            layers += [Residual(self._layer(name, self.layers_dim, place), (), self.residual), Tap(name)]
        layers.append(Linear("output", self.layers_dim, self.class_num, last=True))
        return Architecture(tuple(layers), shape, self.class_num, self.init)

    def _layer(self, name: str, inputs: int, place: int) -> tuple[Layer, ...]:
        norm = (BatchNorm(f"{name}.norm", self.layers_dim),) if self.batch_norm else ()
        return (
            Linear(name, inputs, self.layers_dim),
            *norm,
            Plain(self.activation),
            Dropout(place, self.dropout),
        )
