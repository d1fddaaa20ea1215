"""Multilayer perceptron of experiments 1.1 and 1.2: input layer, hidden layers of one width, output layer."""

from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.options import Fraction
from fathomlab.base.problems import Problem
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Dropout, Layer, Layers, Linear, Plain, Residual, Scale, Shape, Tap

Activation = Literal["ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Identity"]
Width = Annotated[int, Interval(ge=1, le=65_536)]
Eps = Annotated[float, Interval(gt=0, le=1e6)]


@final
@dataclass(frozen=True)
class MLP:
    """Each layer is Linear, BatchNorm (if on), activation, Dropout.

    `residual` adds the identity around each block and changes nothing else: same parameters, same initial values. With L
    hidden layers there are L + 2 linear layers, whatever the block. Without shortcuts all blocks are one network.

    Attributes:
        input_size: Numbers in an image; must agree with the data.
        layers_dim: Width n of every hidden layer.
        class_num: Classes; must agree with the data.
        hidden_layers_num: Depth L.
        residual: Whether the identity is added around each block.
        activation: By its torch name.
        dropout: Share of the features set to 0 in training.
        batch_norm: Whether each layer but the output normalizes over the batch.
        init: How weights are drawn: `torch`'s default, `he`, `glorot`, `orthogonal`, `looks_linear` (see `initial.py`). The
            last needs ReLU, an even width, no batch norm, and no addition inside an activation (`two_layer` with shortcuts).
        block: `one_layer`: h + dropout(act(bn(W h + b))), non-negative branches that nothing follows; `two_layer`: act(h +
            bn(W' dropout(act(bn(W h + b))) + b')), He's form (He et al., 2015); `pre_activation`: h + W dropout(act(bn(h))) +
            b, with a norm and activation before the output and none after the input layer (He et al., 2016).
        batch_norm_eps: Added to the variance.
        batch_norm_beta: Initial shift of every normalization.
        skip_init: How branches start. `none`: as `init` says. `rezero`: one learned number multiplies each branch and starts at
            0 (ReZero, Bachlechner et al., 2020; SkipInit, De & Smith, 2020). `fixup` (Zhang et al., 2019, for m = 2 layers a
            branch, B branches): the last linear layer of a branch starts at 0, the weights of the one before are multiplied by
            B^(-1/(2m-2)), biases of both start at 0, and one learned number that starts at 1 multiplies the branch. The scalar
            biases of the paper are contained in those of the linear layers; its zero output layer is left out, as no gradient
            would pass it before the first step.
    """

    input_size: Width = 784
    layers_dim: Width = 128
    class_num: Annotated[int, Interval(ge=2, le=65_536)] = 10
    hidden_layers_num: Annotated[int, Interval(ge=0, le=10_000)] = 2
    residual: bool = False
    activation: Activation = "ReLU"
    dropout: Fraction = 0.0
    batch_norm: bool = False
    init: Literal["torch", "he", "glorot", "orthogonal", "looks_linear"] = "torch"
    block: Literal["one_layer", "two_layer", "pre_activation"] = "one_layer"
    batch_norm_eps: Eps = 1e-5
    batch_norm_beta: Annotated[float, Interval(ge=-100, le=100)] = 0.0
    skip_init: Literal["none", "rezero", "fixup"] = "none"

    tiny: ClassVar[dict[str, object]] = {"input_size": 12, "layers_dim": 5, "class_num": 3, "hidden_layers_num": 2}
    tiny_shape: ClassVar[Shape] = (1, 3, 4)
    data: ClassVar[str] = "mnist"
    depth_key: ClassVar[str] = "hidden_layers_num"
    width_key: ClassVar[str] = "layers_dim"

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return self.hidden_layers_num

    def complaints(self) -> list[Problem]:
        """Options that do not go together."""
        found = []
        two = self.residual and self.block == "two_layer"
        if two and self.hidden_layers_num % 2:
            text = f"must be even with block: two_layer (two linear layers per branch), got {self.hidden_layers_num}"
            found.append(Problem("conflict", "hidden_layers_num", text))
        if self.residual and self.skip_init == "fixup":
            if not two:
                text = (
                    f"requires block: two_layer (L^(-1/(2m-2)) is undefined for one layer per branch), got {self.block}"
                )
                found.append(Problem("conflict", "skip_init", f"fixup {text}"))
            if self.batch_norm:
                found.append(
                    Problem("conflict", "skip_init", "fixup replaces batch normalization; set batch_norm: false")
                )
        if self.init == "looks_linear":
            wrong = [
                (self.activation != "ReLU", f"activation: ReLU, got {self.activation}"),
                (self.batch_norm, "batch_norm: false"),
                (self.layers_dim % 2 == 1, f"an even layers_dim, got {self.layers_dim}"),
                (two, "a block other than two_layer, whose activation follows the addition"),
            ]
            found += [Problem("conflict", "init", f"looks_linear requires {need}") for bad, need in wrong if bad]
        return found

    def complaints_for(self, shape: Shape, classes: int) -> list[Problem]:
        """What disagrees with data of this image shape and number of classes."""
        found = []
        if self.input_size != prod(shape):
            size = " x ".join(str(axis) for axis in shape)
            found.append(
                Problem(
                    "data-mismatch",
                    "input_size",
                    f"must be {prod(shape)} to match the {size} images, got {self.input_size}",
                )
            )
        if self.class_num != classes:
            found.append(
                Problem(
                    "data-mismatch",
                    "class_num",
                    f"must be {classes}, the number of classes of the data, got {self.class_num}",
                )
            )
        return found

    def ignored(self) -> list[tuple[str, str]]:
        """Options that are set and do nothing here, each with the reason."""
        found = []
        if not self.residual and self.block != "one_layer":
            found.append(
                ("block", "is ignored if residual is false: without shortcuts, all blocks are the same network.")
            )
        if not self.residual and self.skip_init != "none":
            found.append(("skip_init", "is ignored if residual is false: there are no branches."))
        for key in ("batch_norm_eps", "batch_norm_beta"):
            if not self.batch_norm and getattr(self, key) != getattr(MLP, key):
                found.append((key, "is ignored if batch_norm is false."))
        return found

    def normal_form(self) -> "MLP":
        """The options with which the same network is written in one way."""
        return replace(self, **{key: getattr(MLP, key) for key, _ in self.ignored()})

    def build(self, shape: Shape) -> Architecture:
        """The network for images of `shape` (c, h, w)."""
        own = self.normal_form()
        late = own.block == "pre_activation"
        layers: list[Layer] = [Plain("Flatten"), Linear("input", own.input_size, own.layers_dim)]
        layers += [*(() if late else own._activated("input", 0)), Tap("input")]
        step = 2 if own.block == "two_layer" else 1
        for place in range(step, own.hidden_layers_num + 1, step):
            layers += own._block(place)
        layers += own._activated("output", own.hidden_layers_num) if late else ()
        layers.append(Linear("output", own.layers_dim, own.class_num, last=True))
        return Architecture(tuple(layers), shape, own.class_num, own.init)

    def _block(self, place: int) -> Layers:
        name, before = f"hidden.{place}", f"hidden.{place - 1}"
        after: Layers = ()
        match self.block:
            case "one_layer":
                branch = (self._linear(name), *self._activated(name, place))
            case "pre_activation":
                branch = (*self._activated(name, place - 1), self._linear(name))
            case "two_layer":
                fixup = self.skip_init == "fixup"
                gain = 1 / sqrt(self.hidden_layers_num / 2) if fixup else None
                inner = (self._linear(before, gain), *self._activated(before, place - 1))
                branch = (*inner, self._linear(name, 0.0 if fixup else None), *self._norm(name))
                after = (Plain(self.activation), Dropout(place, self.dropout))
        if self.skip_init != "none":
            branch = (*branch, Scale(f"{name}.scale", 0.0 if self.skip_init == "rezero" else 1.0))
        return (Residual(branch, self.residual), *after, Tap(name))

    def _linear(self, name: str, gain: float | None = None) -> Linear:
        return Linear(name, self.layers_dim, self.layers_dim, gain=gain)

    def _norm(self, name: str) -> Layers:
        norm = BatchNorm(f"{name}.norm", self.layers_dim, self.batch_norm_eps, beta=self.batch_norm_beta)
        return (norm,) if self.batch_norm else ()

    def _activated(self, name: str, place: int) -> Layers:
        return (*self._norm(name), Plain(self.activation), Dropout(place, self.dropout))
