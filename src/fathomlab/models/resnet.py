"""Residual and plain convolutional networks of experiments 1.3 and 2.2 (He et al., 2015, lightened for small images)."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.problems import Problem
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Layer,
    Layers,
    Linear,
    Pad,
    Plain,
    Residual,
    Scale,
    Shape,
    Shortcut,
    Tap,
)

Blocks = Annotated[int, Interval(ge=1, le=200)]
STAGES = 4


@final
@dataclass(frozen=True)
class CNN:
    """3x3 stem, 3x3/2 max-pool, stages of blocks at width x 1, 2, 4, 8 channels and strides 1-2-2-2, mean, linear.

    A block is conv-bn-relu-conv-bn, plus its shortcut, then relu (bottleneck: 1x1, 3x3, 1x1 with four times the channels
    at the end). `residual: false` removes the shortcuts, and so their 1x1 convolutions, and nothing else. Depth is
    2 x sum(layers), the weighted layers in the stages (3 x for bottlenecks).

    Attributes:
        block_type: `basic` or `bottleneck`.
        layers: Blocks in each of the four stages.
        num_classes: Classes; must agree with the data.
        residual: Whether blocks have shortcuts.
        zero_init_residual: Start the last batch-norm scale of each block at 0, so that the net starts as its shortcuts.
            Ignored without shortcuts, where it would leave every block dead.
        width: Channels of the stem and the first stage.
        stem: `pool`: 3x3 convolution and max-pool; `plain`: no max-pool, four times the cost.
        init: How kernels are drawn: `he_fan_out`, as the reference implementation has it, `torch`'s default for Conv2d, `he`,
            `glorot`, `orthogonal` (delta-orthogonal), `dirac` (identity kernels, for nets without shortcuts); see
            `initial.py`. The linear layer is torch's default in each.
        pre_activation: Blocks of bn-relu-conv-bn-relu-conv, nothing after the addition, bn-relu before the mean (He et al.,
            2016). The first block takes the stem's activation; before a 1x1 shortcut, which has no norm then, the first
            bn-relu stands before the split. Without shortcuts this is the same network.
        shortcut: Where the shape changes: `conv`: 1x1 convolution and norm; `pad`: every second pixel and channels of zeros,
            without parameters (option A of He et al., 2015).
        batch_norm_eps: Added to the variance.
        skip_init: `rezero`: one learned number multiplies each branch and starts at 0 (ReZero, Bachlechner et al., 2020;
            SkipInit, De & Smith, 2020); `none`: branches start as `init` says.
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

    tiny: ClassVar[dict[str, object]] = {"layers": [1, 1, 1, 1], "num_classes": 3, "width": 4}
    tiny_shape: ClassVar[Shape] = (3, 16, 16)
    data: ClassVar[str] = "cifar-10"
    depth_key: ClassVar[str] = "layers"
    width_key: ClassVar[str] = "width"

    @property
    def depth(self) -> int:
        """Weighted layers in the stages."""
        return (2 if self.block_type == "basic" else 3) * sum(self.layers)

    def complaints(self) -> list[Problem]:
        """Four stages, no more, no fewer; no block that can never learn."""
        found = []
        if len(self.layers) != STAGES:
            text = f"must be four numbers of blocks, such as [2, 2, 2, 2], got {list(self.layers)}"
            found.append(Problem("conflict", "layers", text))
        if self.residual and self.init == "dirac":
            found.append(
                Problem(
                    "conflict",
                    "init",
                    "dirac requires residual: false",
                )
            )
        if self.residual and self.zero_init_residual and self.pre_activation:
            text = "requires pre_activation: false (blocks that end in a norm). Use skip_init: rezero."
            found.append(Problem("conflict", "zero_init_residual", text))
        if self.residual and self.zero_init_residual and self.skip_init == "rezero":
            text = "cannot be combined with skip_init: rezero: two factors that are both 0 have no gradient"
            found.append(Problem("conflict", "zero_init_residual", text))
        return found

    def complaints_for(self, shape: Shape, classes: int) -> list[Problem]:
        """What disagrees with data of this image shape and number of classes."""
        if self.num_classes != classes:
            return [
                Problem(
                    "data-mismatch",
                    "num_classes",
                    f"must be {classes}, the data's classes, got {self.num_classes}",
                )
            ]
        return []

    def ignored(self) -> list[tuple[str, str]]:
        """Options that are set and do nothing here, each with the reason."""
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

    def normal_form(self) -> "CNN":
        """The options with which the same network is written in one way: without shortcuts nothing starts at 0."""
        return replace(self, **{key: getattr(CNN, key) for key, _ in self.ignored()})

    def build(self, shape: Shape) -> Architecture:
        """The network for images of `shape` (c, h, w)."""
        own = self.normal_form()
        layers: list[Layer] = [
            Conv2d("stem", shape[0], own.width, 3),
            *own._activated("stem.norm", own.width),
            Tap("stem"),
        ]
        layers += [Plain("MaxPool")] if own.stem == "pool" else []
        channels = own.width
        for stage, blocks in enumerate(own.layers):
            inner = own.width * 2**stage
            for place in range(blocks):
                name = f"stage{stage + 1}.{place + 1}"
                stride = 2 if stage > 0 and place == 0 else 1
                block = own._late if own.pre_activation else own._early
                layers += [*block(name, channels, inner, stride), Tap(name)]
                channels = inner * own._expansion
        layers += own._activated("output.norm", channels) if own.pre_activation else ()
        layers += [Plain("MeanPool"), Linear("output", channels, own.num_classes, last=True)]
        return Architecture(tuple(layers), shape, own.num_classes, own.init)

    @property
    def _expansion(self) -> int:
        return 1 if self.block_type == "basic" else 4

    def _early(self, name: str, inputs: int, inner: int, stride: int) -> Layers:
        """conv-bn-relu-conv-bn, the addition, relu."""
        convs = self._convs(name, inputs, inner, stride)
        branch: list[Layer] = []
        for place, conv in enumerate(convs, start=1):
            last = place == len(convs)
            gamma = 0.0 if self.zero_init_residual and last else 1.0
            branch += [conv, self._norm(f"{name}.norm{place}", conv.outputs, gamma)]
            branch += [] if last else [Plain("ReLU")]
        return (*self._joined(name, branch, inputs, convs[-1].outputs, stride), Plain("ReLU"))

    def _late(self, name: str, inputs: int, inner: int, stride: int) -> Layers:
        """bn-relu-conv-bn-relu-conv, the addition; the first bn-relu before the split where the shortcut is a convolution."""
        convs = self._convs(name, inputs, inner, stride)
        first = () if name == "stage1.1" else self._activated(f"{name}.norm1", inputs)
        rest: list[Layer] = [convs[0]]
        for place, conv in enumerate(convs[1:], start=2):
            rest += [*self._activated(f"{name}.norm{place}", conv.inputs), conv]
        projects = self.shortcut == "conv" and (stride != 1 or inputs != convs[-1].outputs)
        outside, inside = (first, ()) if projects else ((), first)
        return (*outside, *self._joined(name, [*inside, *rest], inputs, convs[-1].outputs, stride))

    def _convs(self, name: str, inputs: int, inner: int, stride: int) -> tuple[Conv2d, ...]:
        outputs = inner * self._expansion
        if self.block_type == "basic":
            shapes = ((inputs, inner, 3, stride), (inner, outputs, 3, 1))
        else:
            shapes = ((inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1))
        return tuple(Conv2d(f"{name}.conv{place}", *shape) for place, shape in enumerate(shapes, start=1))

    def _joined(self, name: str, branch: list[Layer], inputs: int, outputs: int, stride: int) -> Layers:
        """The branch and what is added to it."""
        scale = (Scale(f"{name}.scale", 0.0),) if self.skip_init == "rezero" else ()
        layers = (*branch, *scale)
        if stride == 1 and inputs == outputs:
            return (Residual(layers, self.residual),)
        if not self.residual:
            return layers
        if self.shortcut == "pad":
            return (Shortcut(layers, (Pad(inputs, outputs, stride),)),)
        norm = () if self.pre_activation else (self._norm(f"{name}.shortcut.norm", outputs),)
        return (Shortcut(layers, (Conv2d(f"{name}.shortcut", inputs, outputs, 1, stride), *norm)),)

    def _norm(self, name: str, features: int, gamma: float = 1.0) -> BatchNorm:
        return BatchNorm(name, features, self.batch_norm_eps, gamma)

    def _activated(self, name: str, features: int) -> Layers:
        return (self._norm(name, features), Plain("ReLU"))
