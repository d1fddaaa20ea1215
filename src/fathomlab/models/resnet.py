"""Residual and plain convolutional networks of experiments 1.3 and 2.2 (He et al., 2015, lightened for small images)."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Layer,
    Layers,
    Linear,
    Pad,
    ParameterFree,
    Residual,
    Scale,
    Shape,
    Shortcut,
    Tap,
)

Blocks = Annotated[int, Interval(ge=1, le=200)]
MAX_STAGES = 6


@final
@dataclass(frozen=True)
class CNN:
    """3x3 stem, 3x3/2 max-pool, stages of blocks at width x 1, 2, 4, ... channels, mean, linear.

    Each stage but the first begins with stride 2. The networks of the lab have four stages, those of He et al. (2015) for
    CIFAR-10 have three, `width: 16`, `stem: plain`, and `shortcut: pad`.

    A block is conv-bn-relu-conv-bn plus its shortcut, then relu. A bottleneck has 1x1, 3x3, and 1x1 convolutions, the last
    with four times the channels. `residual: false` removes the shortcuts with their 1x1 convolutions, and nothing else. The
    depth is the number of weight layers in the stages: 2 x sum(layers), or 3 x sum(layers) for bottlenecks.

    Attributes:
        block_type: `basic` or `bottleneck`.
        layers: Blocks in each stage; one to six stages.
        num_classes: Classes; must match the dataset.
        residual: Whether blocks have shortcuts.
        zero_init_residual: Initialize the last batch-norm scale of each block with 0, so that blocks start as their shortcuts.
            Ignored without shortcuts, because every block would be dead.
        width: Channels of the stem and the first stage.
        stem: `pool`: 3x3 convolution and max-pool. `plain`: no max-pool, at four times the cost.
        init: Initialization of the kernels: `he_fan_out` (as in the reference implementation), `torch` (its default for
            Conv2d), `he`, `glorot`, `orthogonal` (delta-orthogonal), or `dirac` (identity kernels, only without shortcuts); see
            `engine/initializers.py`. The linear layer always has torch's default.
        pre_activation: Use blocks of bn-relu-conv-bn-relu-conv with nothing after the addition, and bn-relu before the mean (He
            et al., 2016). The first block reads the stem's activation. A 1x1 shortcut has no norm then, and the first bn-relu
            is shared by branch and shortcut. Without shortcuts, the network is the same.
        shortcut: Shortcut of blocks that change the shape. `conv`: 1x1 convolution and norm. `pad`: every second pixel and
            channels of zeros, without parameters (option A of He et al., 2015).
        batch_norm_eps: Added to the variance.
        skip_init: Initialization of branches. `rezero`: each branch is multiplied by one learned number with the initial value
            0 (ReZero, Bachlechner et al., 2020; SkipInit, De & Smith, 2020). `none`: according to `init`.
    """

    block_type: Literal["basic", "bottleneck"] = "basic"
    layers: tuple[Blocks, ...] = (1, 1, 1, 1)
    num_classes: Annotated[int, Interval(ge=2, le=65_536)] = 10
    residual: bool = True
    zero_init_residual: bool = False
    width: Annotated[int, Interval(ge=1, le=4096)] = 64
    stem: Literal["pool", "plain"] = "pool"
    init: Literal["he_fan_out", "torch", "he", "glorot", "orthogonal", "dirac"] = "he_fan_out"
    pre_activation: bool = False
    shortcut: Literal["conv", "pad"] = "conv"
    batch_norm_eps: Annotated[float, Interval(gt=0, le=1e6)] = 1e-5
    skip_init: Literal["none", "rezero"] = "none"

    test_options: ClassVar[dict[str, object]] = {"layers": [1, 1, 1, 1], "num_classes": 3, "width": 4}
    test_input_shape: ClassVar[Shape] = (3, 16, 16)
    default_dataset: ClassVar[str] = "cifar-10"
    depth_key: ClassVar[str] = "layers"
    width_key: ClassVar[str] = "width"

    @property
    def depth(self) -> int:
        """Number of weight layers in the stages."""
        return (2 if self.block_type == "basic" else 3) * sum(self.layers)

    def validate(self) -> list[Issue]:
        """Return conflicts between the options: the number of stages, and blocks that can never learn."""
        issues = []
        if not 1 <= len(self.layers) <= MAX_STAGES:
            text = f"must be one to {MAX_STAGES} numbers of blocks, such as [2, 2, 2, 2], got {list(self.layers)}"
            issues.append(Issue("conflict", "layers", text))
        if self.residual and self.init == "dirac":
            issues.append(Issue("conflict", "init", "dirac requires residual: false"))
        if self.residual and self.zero_init_residual and self.pre_activation:
            text = "requires pre_activation: false (blocks that end in a norm). Use skip_init: rezero."
            issues.append(Issue("conflict", "zero_init_residual", text))
        if self.residual and self.zero_init_residual and self.skip_init == "rezero":
            text = "cannot be combined with skip_init: rezero: two factors that are both 0 have no gradient"
            issues.append(Issue("conflict", "zero_init_residual", text))
        return issues

    def validate_for(self, shape: Shape, classes: int) -> list[Issue]:
        """Return conflicts with images of `shape` (c, h, w) and a number of classes."""
        if self.num_classes != classes:
            text = f"must be {classes}, the number of classes of the data, got {self.num_classes}"
            return [Issue("data-mismatch", "num_classes", text)]
        return []

    def unused_options(self) -> list[tuple[str, str]]:
        """Return the options that are set but have no effect, each with the reason."""
        if self.residual:
            return []
        reasons = {
            "zero_init_residual": "it would leave every block dead.",
            "pre_activation": "without shortcuts, both orders are the same network.",
            "shortcut": "there are no shortcuts.",
            "skip_init": "there are no branches.",
        }
        changed = [(key, text) for key, text in reasons.items() if getattr(self, key) != getattr(CNN, key)]
        return [(key, f"is ignored if residual is false: {text}") for key, text in changed]

    def canonical(self) -> "CNN":
        """Return the options with unused ones at their defaults."""
        return replace(self, **{key: getattr(CNN, key) for key, _ in self.unused_options()})

    def build(self, shape: Shape) -> Architecture:
        """Build the network for images of `shape` (c, h, w)."""
        model = self.canonical()
        layers: list[Layer] = [
            Conv2d("stem", shape[0], model.width, 3),
            *model._norm_act("stem.norm", model.width),
            Tap("stem"),
        ]
        layers += [ParameterFree("MaxPool")] if model.stem == "pool" else []
        channels = model.width
        for stage, blocks in enumerate(model.layers):
            inner = model.width * 2**stage
            for index in range(blocks):
                name = f"stage{stage + 1}.{index + 1}"
                stride = 2 if stage > 0 and index == 0 else 1
                block = model._pre_activation_block if model.pre_activation else model._post_activation_block
                layers += [*block(name, channels, inner, stride), Tap(name)]
                channels = inner * model._expansion
        layers += model._norm_act("output.norm", channels) if model.pre_activation else ()
        layers += [ParameterFree("MeanPool"), Linear("output", channels, model.num_classes, last=True)]
        return Architecture(tuple(layers), shape, model.num_classes, model.init)

    @property
    def _expansion(self) -> int:
        return 1 if self.block_type == "basic" else 4

    def _post_activation_block(self, name: str, in_channels: int, inner: int, stride: int) -> Layers:
        """conv-bn-relu-conv-bn, the addition, relu."""
        convs = self._convs(name, in_channels, inner, stride)
        branch: list[Layer] = []
        for index, conv in enumerate(convs, start=1):
            last = index == len(convs)
            gamma = 0.0 if self.zero_init_residual and last else 1.0
            branch += [conv, self._norm(f"{name}.norm{index}", conv.out_channels, gamma)]
            branch += [] if last else [ParameterFree("ReLU")]
        return (*self._residual(name, branch, in_channels, convs[-1].out_channels, stride), ParameterFree("ReLU"))

    def _pre_activation_block(self, name: str, in_channels: int, inner: int, stride: int) -> Layers:
        """bn-relu-conv-bn-relu-conv, the addition. With a 1x1 shortcut, the first bn-relu is before the split."""
        convs = self._convs(name, in_channels, inner, stride)
        first = () if name == "stage1.1" else self._norm_act(f"{name}.norm1", in_channels)
        rest: list[Layer] = [convs[0]]
        for index, conv in enumerate(convs[1:], start=2):
            rest += [*self._norm_act(f"{name}.norm{index}", conv.in_channels), conv]
        projects = self.shortcut == "conv" and (stride != 1 or in_channels != convs[-1].out_channels)
        before_split, in_branch = (first, ()) if projects else ((), first)
        branch = [*in_branch, *rest]
        return (*before_split, *self._residual(name, branch, in_channels, convs[-1].out_channels, stride))

    def _convs(self, name: str, in_channels: int, inner: int, stride: int) -> tuple[Conv2d, ...]:
        out_channels = inner * self._expansion
        if self.block_type == "basic":
            shapes = ((in_channels, inner, 3, stride), (inner, out_channels, 3, 1))
        else:
            shapes = ((in_channels, inner, 1, 1), (inner, inner, 3, stride), (inner, out_channels, 1, 1))
        return tuple(Conv2d(f"{name}.conv{index}", *shape) for index, shape in enumerate(shapes, start=1))

    def _residual(self, name: str, branch: list[Layer], in_channels: int, out_channels: int, stride: int) -> Layers:
        """Add the shortcut to the branch."""
        scale = (Scale(f"{name}.scale", 0.0),) if self.skip_init == "rezero" else ()
        layers = (*branch, *scale)
        if stride == 1 and in_channels == out_channels:
            return (Residual(layers, self.residual),)
        if not self.residual:
            return layers
        if self.shortcut == "pad":
            return (Shortcut(layers, (Pad(in_channels, out_channels, stride),)),)
        norm = () if self.pre_activation else (self._norm(f"{name}.shortcut.norm", out_channels),)
        return (Shortcut(layers, (Conv2d(f"{name}.shortcut", in_channels, out_channels, 1, stride), *norm)),)

    def _norm(self, name: str, features: int, gamma: float = 1.0) -> BatchNorm:
        return BatchNorm(name, features, self.batch_norm_eps, gamma)

    def _norm_act(self, name: str, features: int) -> Layers:
        return (self._norm(name, features), ParameterFree("ReLU"))
