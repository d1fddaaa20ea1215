"""Residual and plain convolutional networks of experiments 1.3 and 2.2 (He et al., 2015, lightened for small images)."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from fathomlab.base.catalogue import Bound
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Conv2d, Layer, Linear, Plain, Residual, Shape, Tap

Blocks = Annotated[int, Bound(least=1, most=200)]
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
        init: `he_fan_out`: normal with variance 2/fan_out, as the reference implementation has it; `torch`: torch's
            default for Conv2d; `he`: variance 2/fan_in. The linear layer is torch's default in each.
    """

    block_type: Literal["basic", "bottleneck"] = "basic"
    layers: tuple[Blocks, ...] = (1, 1, 1, 1)
    num_classes: Annotated[int, Bound(least=2, most=65_536)] = 10
    residual: bool = True
    zero_init_residual: bool = False
    width: Annotated[int, Bound(least=1, most=4096)] = 64
    stem: Literal["pool", "plain"] = "pool"
    init: Literal["he_fan_out", "torch", "he"] = "he_fan_out"

    tiny: ClassVar[dict[str, object]] = {"layers": [1, 1, 1, 1], "num_classes": 3, "width": 4}
    tiny_shape: ClassVar[Shape] = (3, 16, 16)
    data: ClassVar[str] = "cifar-10"
    depth_key: ClassVar[str] = "layers"
    width_key: ClassVar[str] = "width"

    @property
    def depth(self) -> int:
        """Weighted layers in the stages."""
        return (2 if self.block_type == "basic" else 3) * sum(self.layers)

    def complaints(self) -> list[tuple[str, str]]:
        """Four stages, no more, no fewer."""
        if len(self.layers) != STAGES:
            return [("layers", f"should be four numbers of blocks, such as [2, 2, 2, 2] (got {list(self.layers)}).")]
        return []

    def complaints_for(self, shape: Shape, classes: int) -> list[tuple[str, str]]:
        """What disagrees with data of this image shape and number of classes."""
        if self.num_classes != classes:
            return [("num_classes", f"should be {classes}, the data's classes (got {self.num_classes}).")]
        return []

    def normal_form(self) -> "CNN":
        """The options with which the same network is written in one way: without shortcuts nothing starts at 0."""
        return self if self.residual else replace(self, zero_init_residual=False)

    def build(self, shape: Shape) -> Architecture:
        """The network for images of `shape` (c, h, w)."""
        layers: list[Layer] = [
            Conv2d("stem", shape[0], self.width, 3),
            BatchNorm("stem.norm", self.width),
            Plain("ReLU"),
        ]
        layers += [Tap("stem")] + ([Plain("MaxPool")] if self.stem == "pool" else [])
        channels = self.width
        for stage, blocks in enumerate(self.layers):
            inner = self.width * 2**stage
            for place in range(blocks):
                name = f"stage{stage + 1}.{place + 1}"
                stride = 2 if stage > 0 and place == 0 else 1
                layers += [self._block(name, channels, inner, stride), Plain("ReLU"), Tap(name)]
                channels = inner * self._expansion
        layers += [Plain("MeanPool"), Linear("output", channels, self.num_classes, last=True)]
        return Architecture(tuple(layers), shape, self.num_classes, self.init)

    @property
    def _expansion(self) -> int:
        return 1 if self.block_type == "basic" else 4

    def _block(self, name: str, inputs: int, inner: int, stride: int) -> Residual:
        outputs = inner * self._expansion
        if self.block_type == "basic":
            shapes = ((inputs, inner, 3, stride), (inner, outputs, 3, 1))
        else:
            shapes = ((inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1))
        branch: list[Layer] = []
        for place, (before, after, kernel, step) in enumerate(shapes, start=1):
            gamma = 0.0 if self.zero_init_residual and self.residual and place == len(shapes) else 1.0
            branch += [Conv2d(f"{name}.conv{place}", before, after, kernel, step)]
            branch += [BatchNorm(f"{name}.norm{place}", after, gamma=gamma)]
            branch += [Plain("ReLU")] if place < len(shapes) else []
        shortcut: tuple[Layer, ...] = ()
        if stride != 1 or inputs != outputs:
            shortcut = (
                Conv2d(f"{name}.shortcut", inputs, outputs, 1, stride),
                BatchNorm(f"{name}.shortcut.norm", outputs),
            )
        return Residual(tuple(branch), shortcut, self.residual)
