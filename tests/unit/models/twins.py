"""The models once more, written with ordinary torch.nn modules and one loop: slow, plain, and easy to believe."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

KINDS = ("weight", "bias", "running_mean", "running_var")


class TwinScale(nn.Module):
    """One number that multiplies."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return self.weight * x


class TwinMLP(nn.Module):
    """Linear, norm, activation for each layer; the identity around each block where residual."""

    def __init__(self, options: MLP):
        super().__init__()
        self.options = options
        width, depth = options.layers_dim, options.hidden_layers_num
        self.hidden = [f"hidden.{place}" for place in range(1, depth + 1)]
        early = options.block != "pre_activation"
        self.parts: dict[str, nn.Module] = {"input": nn.Linear(options.input_size, width)}
        normed = ["input", *self.hidden] if early else [*self.hidden, "output"]
        norms: dict[str, nn.Module] = {}
        if options.batch_norm:
            norms = {f"{name}.norm": nn.BatchNorm1d(width, options.batch_norm_eps) for name in normed}
        self.parts |= {name: norms[name] for name in norms if name == "input.norm"}
        for place, name in enumerate(self.hidden, start=1):
            pair = {name: nn.Linear(width, width)}
            norm = {f"{name}.norm": norms[f"{name}.norm"]} if norms else {}
            self.parts |= pair | norm if early else norm | pair
            if options.skip_init != "none" and (options.block != "two_layer" or place % 2 == 0):
                self.parts[f"{name}.scale"] = TwinScale()
        self.parts |= {name: norms[name] for name in norms if name == "output.norm"}
        self.parts["output"] = nn.Linear(width, options.class_num)
        self.registered = nn.ModuleList(self.parts.values())
        self.activation = getattr(nn, options.activation)()
        self.points: list[Tensor] = []

    def part(self, name: str, x: Tensor) -> Tensor:
        """The layer called `name`; one that does not exist changes nothing."""
        return self.parts[name](x) if name in self.parts else x

    def layer(self, name: str, x: Tensor) -> Tensor:
        """act(norm(W x + b))."""
        return self.activation(self.part(f"{name}.norm", self.part(name, x)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits; `points` keeps the output of every block."""
        skip = 1.0 if self.options.residual else 0.0
        late = self.options.block == "pre_activation"
        h = self.part("input", images.flatten(1)) if late else self.layer("input", images.flatten(1))
        self.points = [h]
        names = self.hidden[1::2] if self.options.block == "two_layer" else self.hidden
        for name in names:
            if self.options.block == "one_layer":
                h = skip * h + self.part(f"{name}.scale", self.layer(name, h))
            elif late:
                made = self.part(name, self.activation(self.part(f"{name}.norm", h)))
                h = skip * h + self.part(f"{name}.scale", made)
            else:
                inner = self.layer(self.hidden[self.hidden.index(name) - 1], h)
                made = self.part(f"{name}.norm", self.part(name, inner))
                h = self.activation(skip * h + self.part(f"{name}.scale", made))
            self.points.append(h)
        if late:
            h = self.activation(self.part("output.norm", h))
        return self.part("output", h)


class TwinPad(nn.Module):
    """Every second pixel, then zero channels."""

    def __init__(self, stride: int, more: int):
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c + more, h / stride, w / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.cat([x, x.new_zeros(len(x), self.more, *x.shape[2:])], 1)


class TwinBlock(nn.Module):
    """Basic or bottleneck block of He et al. (2015, 2016); without shortcuts only the branch remains."""

    def __init__(self, options: CNN, inputs: int, inner: int, stride: int, first: bool):
        super().__init__()
        bottleneck = options.block_type == "bottleneck"
        outputs = 4 * inner if bottleneck else inner
        if bottleneck:
            convs = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            convs = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        self.late, eps = options.pre_activation, options.batch_norm_eps
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(a if self.late else b, eps) for a, b, _, _ in convs)
        self.first, self.residual = first, options.residual
        self.scale: nn.Module = TwinScale() if options.skip_init == "rezero" else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        self.projects = stride != 1 or inputs != outputs
        if self.projects and options.shortcut == "pad":
            self.shortcut, self.projects = TwinPad(stride, outputs - inputs), False
        elif self.projects:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            norms = [] if self.late else [nn.BatchNorm2d(outputs, eps)]
            self.shortcut = nn.Sequential(conv, *norms)

    def parts(self, name: str) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they repeat, in the order of the data."""
        found: dict[str, nn.Module] = {}
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            own = {f"{name}.norm{place}": norm, f"{name}.conv{place}": conv}
            if self.late and self.first and place == 1:
                del own[f"{name}.norm1"]
            found |= own if self.late else dict(reversed(own.items()))
        if isinstance(self.scale, TwinScale):
            found[f"{name}.scale"] = self.scale
        if self.residual and isinstance(self.shortcut, nn.Sequential):
            found |= dict(zip([f"{name}.shortcut", f"{name}.shortcut.norm"], self.shortcut, strict=False))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut, then relu; or norms and relus before the convolutions."""
        made = skip = x
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if self.late and not (self.first and place == 0):
                made = torch.relu(norm(made))
                skip = made if place == 0 and self.projects else skip
            made = conv(made)
            if not self.late:
                made = norm(made)
                made = torch.relu(made) if place < len(self.convs) - 1 else made
        made = self.scale(made)
        made = made + self.shortcut(skip) if self.residual else made
        return made if self.late else torch.relu(made)


class TwinCNN(nn.Module):
    """Stem, max-pool, four stages, mean over the picture, linear."""

    def __init__(self, options: CNN, inputs: int = 3):
        super().__init__()
        eps = options.batch_norm_eps
        self.stem = nn.Conv2d(inputs, options.width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(options.width, eps)
        self.pool = nn.MaxPool2d(3, 2, 1) if options.stem == "pool" else nn.Identity()
        self.names: list[str] = []
        blocks, channels = [], options.width
        for stage, count in enumerate(options.layers):
            for place in range(count):
                inner, stride = options.width * (1, 2, 4, 8)[stage], 2 if stage > 0 and place == 0 else 1
                blocks.append(TwinBlock(options, channels, inner, stride, not blocks))
                channels = 4 * inner if options.block_type == "bottleneck" else inner
                self.names.append(f"stage{stage + 1}.{place + 1}")
        self.blocks = nn.ModuleList(blocks)
        self.end = nn.BatchNorm2d(channels, eps) if options.pre_activation else None
        self.output = nn.Linear(channels, options.num_classes)
        self.points: list[Tensor] = []

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they repeat, in the order of the data."""
        found: dict[str, nn.Module] = {"stem": self.stem, "stem.norm": self.norm}
        for name, block in zip(self.names, self.blocks, strict=True):
            assert isinstance(block, TwinBlock)
            found |= block.parts(name)
        return found | ({"output.norm": self.end} if self.end else {}) | {"output": self.output}

    def forward(self, images: Tensor) -> Tensor:
        """Logits; `points` keeps the output of the stem and of every block."""
        h = torch.relu(self.norm(self.stem(images)))
        self.points = [h]
        h = self.pool(h)
        for block in self.blocks:
            h = block(h)
            self.points.append(h)
        h = torch.relu(self.end(h)) if self.end else h
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
