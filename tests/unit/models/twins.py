"""The models once more, written with ordinary torch.nn modules and one loop: slow, plain, and easy to believe."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

KINDS = ("weight", "bias", "running_mean", "running_var")


class TwinMLP(nn.Module):
    """Linear, norm, activation for each layer; h + layer(h) where residual."""

    def __init__(self, options: MLP):
        super().__init__()
        width, depth = options.layers_dim, options.hidden_layers_num
        sizes = [(options.input_size, width)] + [(width, width)] * depth
        self.names = ["input"] + [f"hidden.{place}" for place in range(1, depth + 1)]
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if options.batch_norm else nn.Identity() for _ in sizes)
        self.output = nn.Linear(width, options.class_num)
        self.activation = getattr(nn, options.activation)()
        self.residual = options.residual
        self.points: list[Tensor] = []

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they repeat, in the order of the data."""
        found: dict[str, nn.Module] = {}
        for name, linear, norm in zip(self.names, self.linears, self.norms, strict=True):
            found |= {name: linear, f"{name}.norm": norm}
        return found | {"output": self.output}

    def forward(self, images: Tensor) -> Tensor:
        """Logits; `points` keeps the output of every layer."""
        h = images.flatten(1)
        self.points = []
        for place, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            made = self.activation(norm(linear(h)))
            h = h + made if self.residual and place > 0 else made
            self.points.append(h)
        return self.output(h)


class TwinBlock(nn.Module):
    """Basic or bottleneck block of He et al. (2015); without shortcuts only the branch remains."""

    def __init__(self, inputs: int, inner: int, stride: int, bottleneck: bool, residual: bool):
        super().__init__()
        outputs = 4 * inner if bottleneck else inner
        if bottleneck:
            convs = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            convs = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in convs)
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Branch, plus shortcut, then relu."""
        made = x
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            made = norm(conv(made))
            if place < len(self.convs) - 1:
                made = torch.relu(made)
        return torch.relu(made + self.shortcut(x) if self.residual else made)


class TwinCNN(nn.Module):
    """Stem, max-pool, four stages, mean over the picture, linear."""

    def __init__(self, options: CNN, inputs: int = 3):
        super().__init__()
        bottleneck = options.block_type == "bottleneck"
        self.stem, self.norm = nn.Conv2d(inputs, options.width, 3, 1, 1, bias=False), nn.BatchNorm2d(options.width)
        self.pool = nn.MaxPool2d(3, 2, 1) if options.stem == "pool" else nn.Identity()
        self.names: list[str] = []
        blocks, channels = [], options.width
        for stage, count in enumerate(options.layers):
            for place in range(count):
                inner, stride = options.width * (1, 2, 4, 8)[stage], 2 if stage > 0 and place == 0 else 1
                blocks.append(TwinBlock(channels, inner, stride, bottleneck, options.residual))
                channels = 4 * inner if bottleneck else inner
                self.names.append(f"stage{stage + 1}.{place + 1}")
        self.blocks = nn.ModuleList(blocks)
        self.output = nn.Linear(channels, options.num_classes)
        self.points: list[Tensor] = []

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they repeat, in the order of the data."""
        found: dict[str, nn.Module] = {"stem": self.stem, "stem.norm": self.norm}
        for name, block in zip(self.names, self.blocks, strict=True):
            assert isinstance(block, TwinBlock)
            for place, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True), start=1):
                found |= {f"{name}.conv{place}": conv, f"{name}.norm{place}": norm}
            if isinstance(block.shortcut, nn.Sequential):
                found |= {f"{name}.shortcut": block.shortcut[0], f"{name}.shortcut.norm": block.shortcut[1]}
        return found | {"output": self.output}

    def forward(self, images: Tensor) -> Tensor:
        """Logits; `points` keeps the output of the stem and of every block."""
        h = torch.relu(self.norm(self.stem(images)))
        self.points = [h]
        h = self.pool(h)
        for block in self.blocks:
            h = block(h)
            self.points.append(h)
        return self.output(h.mean((2, 3)))


def twin(options: MLP | CNN, values: Mapping[str, Tensor], replica: int = 0) -> TwinMLP | TwinCNN:
    """The naive network of `options` in float64, holding the values of one replica."""
    made = (TwinMLP(options) if isinstance(options, MLP) else TwinCNN(options)).double()
    mine = tensors(made)
    with torch.no_grad():
        for name, value in values.items():
            mine[name].copy_(value[replica])
    return made


def tensors(made: TwinMLP | TwinCNN) -> dict[str, Tensor]:
    """Parameters and running statistics by the names that fathomlab gives them."""
    found = {}
    for name, part in made.parts.items():
        for kind in KINDS:
            tensor = getattr(part, kind, None)
            if tensor is not None:
                found[f"{name}.{kind}"] = tensor
    return found
