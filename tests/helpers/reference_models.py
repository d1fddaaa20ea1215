"""Reference implementations of the models with torch.nn modules."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

KINDS = ("weight", "bias", "running_mean", "running_var")


class ReferenceScale(nn.Module):
    """Multiplication by one learned number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute weight * x."""
        return self.weight * x


class ReferenceMLP(nn.Module):
    """Linear, norm, activation for each layer, with the identity around each block if residual."""

    def __init__(self, options: MLP):
        super().__init__()
        self.options = options
        width, depth = options.layers_dim, options.hidden_layers_num
        self.hidden = [f"hidden.{index}" for index in range(1, depth + 1)]
        post_activation = options.block != "pre_activation"
        self.modules_by_name: dict[str, nn.Module] = {"input": nn.Linear(options.input_size, width)}
        normed = ["input", *self.hidden] if post_activation else [*self.hidden, "output"]
        norms: dict[str, nn.Module] = {}
        if options.batch_norm:
            norms = {f"{name}.norm": nn.BatchNorm1d(width, options.batch_norm_eps) for name in normed}
        self.modules_by_name |= {name: norms[name] for name in norms if name == "input.norm"}
        for index, name in enumerate(self.hidden, start=1):
            pair = {name: nn.Linear(width, width)}
            norm = {f"{name}.norm": norms[f"{name}.norm"]} if norms else {}
            self.modules_by_name |= pair | norm if post_activation else norm | pair
            if options.skip_init != "none" and (options.block != "two_layer" or index % 2 == 0):
                self.modules_by_name[f"{name}.scale"] = ReferenceScale()
        self.modules_by_name |= {name: norms[name] for name in norms if name == "output.norm"}
        self.modules_by_name["output"] = nn.Linear(width, options.class_num)
        self.registered = nn.ModuleList(self.modules_by_name.values())
        self.activation = getattr(nn, options.activation)()
        self.points: list[Tensor] = []

    def apply_layer(self, name: str, x: Tensor) -> Tensor:
        """Apply the layer `name`, or the identity if there is none."""
        return self.modules_by_name[name](x) if name in self.modules_by_name else x

    def linear_norm_act(self, name: str, x: Tensor) -> Tensor:
        """Compute act(norm(W x + b))."""
        return self.activation(self.apply_layer(f"{name}.norm", self.apply_layer(name, x)))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits. `points` stores the output of every block."""
        skip = 1.0 if self.options.residual else 0.0
        pre_activation = self.options.block == "pre_activation"
        h = (
            self.apply_layer("input", images.flatten(1))
            if pre_activation
            else self.linear_norm_act("input", images.flatten(1))
        )
        self.points = [h]
        names = self.hidden[1::2] if self.options.block == "two_layer" else self.hidden
        power = {"none": 0.0, "1/sqrt(L)": -0.5, "1/L": -1.0}[self.options.branch_scale] if skip else 0.0
        for name in names:
            if self.options.block == "one_layer":
                h_branch = self.linear_norm_act(name, h)
            elif self.options.block == "shared_twice":  # as the lab's published code: once without shortcuts
                h_branch = self.linear_norm_act(name, h)
                h_branch = self.linear_norm_act(name, h_branch) if skip else h_branch
            elif pre_activation:
                h_branch = self.apply_layer(name, self.activation(self.apply_layer(f"{name}.norm", h)))
            else:
                inner = self.linear_norm_act(self.hidden[self.hidden.index(name) - 1], h)
                h_branch = self.apply_layer(f"{name}.norm", self.apply_layer(name, inner))
            h = skip * h + self.apply_layer(f"{name}.scale", h_branch) * len(self.hidden) ** power
            h = self.activation(h) if self.options.block == "two_layer" else h
            self.points.append(h)
        if pre_activation:
            h = self.activation(self.apply_layer("output.norm", h))
        return self.apply_layer("output", h)


class ReferencePad(nn.Module):
    """Every `stride`-th pixel, followed by zero channels."""

    def __init__(self, stride: int, added: int):
        super().__init__()
        self.stride, self.added = stride, added

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + added, h / stride, w / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.cat([x, x.new_zeros(len(x), self.added, *x.shape[2:])], 1)


class ReferenceBlock(nn.Module):
    """Basic or bottleneck block of He et al. (2015, 2016). Without shortcuts, it is only the branch."""

    def __init__(self, options: CNN, inputs: int, inner: int, stride: int, first: bool):
        super().__init__()
        bottleneck = options.block_type == "bottleneck"
        outputs = 4 * inner if bottleneck else inner
        if bottleneck:
            convs = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            convs = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        self.pre_activation, eps = options.pre_activation, options.batch_norm_eps
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(a if self.pre_activation else b, eps) for a, b, _, _ in convs)
        self.first, self.residual = first, options.residual
        self.scale: nn.Module = ReferenceScale() if options.skip_init == "rezero" else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        self.projects = stride != 1 or inputs != outputs
        if self.projects and options.shortcut == "pad":
            self.shortcut, self.projects = ReferencePad(stride, outputs - inputs), False
        elif self.projects:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            norms = [] if self.pre_activation else [nn.BatchNorm2d(outputs, eps)]
            self.shortcut = nn.Sequential(conv, *norms)

    def modules_by_name(self, name: str) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they reproduce, in the order of the forward pass."""
        modules: dict[str, nn.Module] = {}
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            pair = {f"{name}.norm{index}": norm, f"{name}.conv{index}": conv}
            if self.pre_activation and self.first and index == 1:
                del pair[f"{name}.norm1"]
            modules |= pair if self.pre_activation else dict(reversed(pair.items()))
        if isinstance(self.scale, ReferenceScale):
            modules[f"{name}.scale"] = self.scale
        if self.residual and isinstance(self.shortcut, nn.Sequential):
            modules |= dict(zip([f"{name}.shortcut", f"{name}.shortcut.norm"], self.shortcut, strict=False))
        return modules

    def forward(self, x: Tensor) -> Tensor:
        """Compute branch plus shortcut, then relu. With pre-activation, norms and relus are before the convolutions."""
        h_branch = skip = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if self.pre_activation and not (self.first and index == 0):
                h_branch = torch.relu(norm(h_branch))
                skip = h_branch if index == 0 and self.projects else skip
            h_branch = conv(h_branch)
            if not self.pre_activation:
                h_branch = norm(h_branch)
                h_branch = torch.relu(h_branch) if index < len(self.convs) - 1 else h_branch
        h_branch = self.scale(h_branch)
        h_branch = h_branch + self.shortcut(skip) if self.residual else h_branch
        return h_branch if self.pre_activation else torch.relu(h_branch)


class ReferenceCNN(nn.Module):
    """Stem, max-pool, four stages, global mean, linear."""

    def __init__(self, options: CNN, inputs: int = 3):
        super().__init__()
        eps = options.batch_norm_eps
        self.stem = nn.Conv2d(inputs, options.width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(options.width, eps)
        self.pool = nn.MaxPool2d(3, 2, 1) if options.stem == "pool" else nn.Identity()
        self.names: list[str] = []
        blocks, channels = [], options.width
        for stage, count in enumerate(options.layers):
            for index in range(count):
                inner, stride = options.width * (1, 2, 4, 8)[stage], 2 if stage > 0 and index == 0 else 1
                blocks.append(ReferenceBlock(options, channels, inner, stride, not blocks))
                channels = 4 * inner if options.block_type == "bottleneck" else inner
                self.names.append(f"stage{stage + 1}.{index + 1}")
        self.blocks = nn.ModuleList(blocks)
        self.end = nn.BatchNorm2d(channels, eps) if options.pre_activation else None
        self.output = nn.Linear(channels, options.num_classes)
        self.points: list[Tensor] = []

    @property
    def modules_by_name(self) -> dict[str, nn.Module]:
        """Modules by the names of the layers that they reproduce, in the order of the forward pass."""
        modules: dict[str, nn.Module] = {"stem": self.stem, "stem.norm": self.norm}
        for name, block in zip(self.names, self.blocks, strict=True):
            assert isinstance(block, ReferenceBlock)
            modules |= block.modules_by_name(name)
        return modules | ({"output.norm": self.end} if self.end else {}) | {"output": self.output}

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits. `points` stores the output of the stem and of every block."""
        h = torch.relu(self.norm(self.stem(images)))
        self.points = [h]
        h = self.pool(h)
        for block in self.blocks:
            h = block(h)
            self.points.append(h)
        h = torch.relu(self.end(h)) if self.end else h
        return self.output(h.mean((2, 3)))


def reference_model(options: MLP | CNN, params: Mapping[str, Tensor], slot: int = 0) -> ReferenceMLP | ReferenceCNN:
    """Create the reference network of `options` in float64 with the values of one replica."""
    model = (ReferenceMLP(options) if isinstance(options, MLP) else ReferenceCNN(options)).double()
    model_tensors = tensors(model)
    with torch.no_grad():
        for name, value in params.items():
            model_tensors[name].copy_(value[slot])
    return model


def tensors(model: ReferenceMLP | ReferenceCNN) -> dict[str, Tensor]:
    """Return parameters and running statistics with their names in fathomlab."""
    result = {}
    for name, module in model.modules_by_name.items():
        for kind in KINDS:
            tensor = getattr(module, kind, None)
            if tensor is not None:
                result[f"{name}.{kind}"] = tensor
    return result
