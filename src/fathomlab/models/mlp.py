"""Multilayer perceptron of experiments 1.1 and 1.2: input layer, hidden layers of one width, output layer."""

from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.base.options import Fraction, Later
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import (
    BatchNorm,
    Dropout,
    Layer,
    Layers,
    Linear,
    Multiply,
    ParameterFree,
    Residual,
    Scale,
    Shape,
    Tap,
)

Activation = Literal["ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Identity"]
Width = Annotated[int, Interval(ge=1, le=65_536)]
Eps = Annotated[float, Interval(gt=0, le=1e6)]


@final
@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron. Each layer is Linear, BatchNorm (if on), activation, Dropout.

    `residual` adds the identity around each block. Parameters and initial values stay the same. With L hidden layers there
    are L + 2 linear layers, for every kind of block. Without shortcuts, all kinds of blocks are the same network.

    Attributes:
        input_size: Values per image; must match the dataset.
        layers_dim: Width n of every hidden layer.
        class_num: Classes; must match the dataset.
        hidden_layers_num: Depth L.
        residual: Whether the identity is added around each block.
        activation: Name of the activation in torch.
        dropout: Fraction of the features set to 0 in training.
        batch_norm: Whether each layer except for the output has batch normalization.
        init: Initialization of the weights: `torch` (its default), `he`, `glorot`, `orthogonal`, or `looks_linear`; see
            `engine/initializers.py`. `looks_linear` requires ReLU, an even width, no batch norm, and no addition inside an
            activation (`two_layer` with shortcuts).
        block: `one_layer`: h + dropout(act(bn(W h + b))), with non-negative branches and nothing after the addition.
            `two_layer`: act(h + bn(W' dropout(act(bn(W h + b))) + b')) (He et al., 2015). `pre_activation`:
            h + W dropout(act(bn(h))) + b, with a norm and activation before the output and none after the input layer
            (He et al., 2016). `shared_twice`: h + f(f(h)), where f is the layer of `one_layer`, applied twice with the same
            weights. The published code of the lab does this, and applies f once without shortcuts. Each hidden layer counts once
            in L and twice in the operations. With batch norm, its running statistics average both inputs.
        batch_norm_eps: Added to the variance.
        batch_norm_beta: Initial shift of every batch normalization.
        skip_init: Initialization of branches. `none`: according to `init`. `rezero`: each branch is multiplied by one
            learned number with the initial value 0 (ReZero, Bachlechner et al., 2020; SkipInit, De & Smith, 2020). `fixup`:
            the initialization of Zhang et al. (2019) with m = 2 layers per branch and B branches. The last linear layer of
            a branch starts at 0. The weights of the one before are multiplied by B^(-1/(2m-2)), and the biases of both
            start at 0. One learned number with the initial value 1 multiplies the branch. The scalar biases of the paper
            are contained in those of the linear layers. The zero output layer of the paper is omitted, because no gradient
            would pass it before the first step.
        branch_scale: Constant that multiplies each branch: none, 1/sqrt(L), or 1/L, with L = `hidden_layers_num`.
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
    block: Literal["one_layer", "two_layer", "pre_activation", "shared_twice"] = "one_layer"
    batch_norm_eps: Eps = 1e-5
    batch_norm_beta: Annotated[float, Interval(ge=-100, le=100)] = 0.0
    skip_init: Literal["none", "rezero", "fixup"] = "none"
    branch_scale: Annotated[Literal["none", "1/sqrt(L)", "1/L"], Later()] = "none"

    test_options: ClassVar[dict[str, object]] = {
        "input_size": 12,
        "layers_dim": 5,
        "class_num": 3,
        "hidden_layers_num": 2,
    }
    test_input_shape: ClassVar[Shape] = (1, 3, 4)
    default_dataset: ClassVar[str] = "mnist"
    depth_key: ClassVar[str] = "hidden_layers_num"
    width_key: ClassVar[str] = "layers_dim"

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return self.hidden_layers_num

    @property
    def branch_factor(self) -> float:
        """The constant that multiplies each branch."""
        depth = max(self.hidden_layers_num, 1)
        return {"none": 1.0, "1/sqrt(L)": 1 / sqrt(depth), "1/L": 1 / depth}[self.branch_scale]

    def validate(self) -> list[Issue]:
        """Return conflicts between the options."""
        issues = []
        two_layer = self.residual and self.block == "two_layer"
        if two_layer and self.hidden_layers_num % 2:
            text = f"must be even with block: two_layer (two linear layers per branch), got {self.hidden_layers_num}"
            issues.append(Issue("conflict", "hidden_layers_num", text))
        if self.residual and self.skip_init == "fixup":
            if not two_layer:
                text = (
                    f"requires block: two_layer (L^(-1/(2m-2)) is undefined for one layer per branch), got {self.block}"
                )
                issues.append(Issue("conflict", "skip_init", f"fixup {text}"))
            if self.batch_norm:
                issues.append(
                    Issue("conflict", "skip_init", "fixup replaces batch normalization; set batch_norm: false")
                )
        if self.init == "looks_linear":
            requirements = [
                (self.activation != "ReLU", f"activation: ReLU, got {self.activation}"),
                (self.batch_norm, "batch_norm: false"),
                (self.layers_dim % 2 == 1, f"an even layers_dim, got {self.layers_dim}"),
                (two_layer, "a block other than two_layer, whose activation follows the addition"),
            ]
            issues += [
                Issue("conflict", "init", f"looks_linear requires {need}")
                for violated, need in requirements
                if violated
            ]
        return issues

    def validate_for(self, shape: Shape, classes: int) -> list[Issue]:
        """Return conflicts with images of `shape` (c, h, w) and a number of classes."""
        issues = []
        if self.input_size != prod(shape):
            size = " x ".join(str(axis) for axis in shape)
            issues.append(
                Issue(
                    "data-mismatch",
                    "input_size",
                    f"must be {prod(shape)} to match the {size} images, got {self.input_size}",
                )
            )
        if self.class_num != classes:
            issues.append(
                Issue(
                    "data-mismatch",
                    "class_num",
                    f"must be {classes}, the number of classes of the data, got {self.class_num}",
                )
            )
        return issues

    def unused_options(self) -> list[tuple[str, str]]:
        """Return the options that are set but have no effect, each with the reason."""
        unused = []
        if not self.residual and self.block != "one_layer":
            unused.append(
                ("block", "is ignored if residual is false: without shortcuts, all blocks are the same network.")
            )
        for key in ("skip_init", "branch_scale"):
            if not self.residual and getattr(self, key) != "none":
                unused.append((key, "is ignored if residual is false: there are no branches."))
        for key in ("batch_norm_eps", "batch_norm_beta"):
            if not self.batch_norm and getattr(self, key) != getattr(MLP, key):
                unused.append((key, "is ignored if batch_norm is false."))
        return unused

    def canonical(self) -> "MLP":
        """Return the options with unused ones at their defaults."""
        return replace(self, **{key: getattr(MLP, key) for key, _ in self.unused_options()})

    def build(self, shape: Shape) -> Architecture:
        """Build the network for images of `shape` (c, h, w)."""
        model = self.canonical()
        pre_activation = model.block == "pre_activation"
        layers: list[Layer] = [ParameterFree("Flatten"), Linear("input", model.input_size, model.layers_dim)]
        layers += [*(() if pre_activation else model._norm_act("input", 0)), Tap("input")]
        step = 2 if model.block == "two_layer" else 1
        for index in range(step, model.hidden_layers_num + 1, step):
            layers += model._block(index)
        layers += model._norm_act("output", model.hidden_layers_num) if pre_activation else ()
        layers.append(Linear("output", model.layers_dim, model.class_num, last=True))
        return Architecture(tuple(layers), shape, model.class_num, model.init)

    def _block(self, index: int) -> Layers:
        """Build the block that ends with hidden layer `index`, counted from 1."""
        name, previous = f"hidden.{index}", f"hidden.{index - 1}"
        after: Layers = ()
        match self.block:
            case "one_layer":
                branch = (self._linear(name), *self._norm_act(name, index))
            case "pre_activation":
                branch = (*self._norm_act(name, index - 1), self._linear(name))
            case "two_layer":
                fixup = self.skip_init == "fixup"
                gain = 1 / sqrt(self.hidden_layers_num / 2) if fixup else None
                inner = (self._linear(previous, gain), *self._norm_act(previous, index - 1))
                branch = (*inner, self._linear(name, 0.0 if fixup else None), *self._norm(name))
                after = (ParameterFree(self.activation), Dropout(index, self.dropout))
            case "shared_twice":
                second = self._norm_act(name, index + self.hidden_layers_num)  # with other units dropped
                branch = (self._linear(name), *self._norm_act(name, index), self._linear(name), *second)
        if self.skip_init != "none":
            branch = (*branch, Scale(f"{name}.scale", 0.0 if self.skip_init == "rezero" else 1.0))
        if self.branch_scale != "none":
            branch = (*branch, Multiply(self.branch_factor))
        return (Residual(branch, self.residual), *after, Tap(name))

    def _linear(self, name: str, gain: float | None = None) -> Linear:
        return Linear(name, self.layers_dim, self.layers_dim, gain=gain)

    def _norm(self, name: str) -> Layers:
        norm = BatchNorm(f"{name}.norm", self.layers_dim, self.batch_norm_eps, beta=self.batch_norm_beta)
        return (norm,) if self.batch_norm else ()

    def _norm_act(self, name: str, layer_index: int) -> Layers:
        return (*self._norm(name), ParameterFree(self.activation), Dropout(layer_index, self.dropout))
