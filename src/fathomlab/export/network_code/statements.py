"""Layers as Python: what constructs them, and the statements of a forward pass. Names of variables are `x` and `y`."""

from collections.abc import Callable, Mapping

from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Layer,
    Layers,
    Linear,
    Multiply,
    Pad,
    ParameterFree,
    Residual,
    Scale,
    Shortcut,
    Tap,
    inside_shortcut,
)

Named = Linear | Conv2d | BatchNorm | Scale
Size = Callable[[str, str], str]  # (name of the layer, name of its field) -> what stands for the value
MAX_EXPRESSION = 90  # characters; longer ones are split
FUNCTIONS = {
    "Identity": "{}",
    "ReLU": "F.relu({})",
    "LeakyReLU": "F.leaky_relu({})",
    "ELU": "F.elu({})",
    "GELU": "F.gelu({})",
    "SiLU": "F.silu({})",
    "Tanh": "torch.tanh({})",
    "Sigmoid": "torch.sigmoid({})",
    "Flatten": "{}.flatten(1)",
    "MaxPool": "F.max_pool2d({}, 3, 2, 1)",
    "MeanPool": "{}.mean((2, 3))",
}
SIZES: Mapping[type, tuple[str, ...]] = {
    Linear: ("in_features", "out_features"),
    Conv2d: ("in_channels", "out_channels", "stride"),
    BatchNorm: ("features",),
    Scale: (),
    Pad: ("in_channels", "out_channels", "stride"),
}


def named_layers(layers: Layers) -> dict[str, Named]:
    """Return the layers with parameters by name, in the order of the forward pass."""
    result: dict[str, Named] = {}
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            result |= named_layers(layer.branch) | named_layers(inside_shortcut(layer))
        elif isinstance(layer, Linear | Conv2d | BatchNorm | Scale):
            result[layer.name] = layer
    return result


def constructor(layer: Named, dense: bool, size: Callable[[str], str] | None = None) -> str:
    """Return the call that constructs a layer with torch.

    Args:
        layer: The layer.
        dense: Whether the features are vectors, not maps.
        size: Name of a field to what stands for its value; None for the value.
    """

    def value(field: str) -> str:
        return size(field) if size else str(getattr(layer, field))

    match layer:
        case Linear():
            return f"nn.Linear({value('in_features')}, {value('out_features')})"
        case Conv2d():
            stride = "" if value("stride") == "1" else f", stride={value('stride')}"
            padding = f", padding={layer.kernel_size // 2}" if layer.kernel_size > 1 else ""
            channels = f"{value('in_channels')}, {value('out_channels')}"
            return f"nn.Conv2d({channels}, {layer.kernel_size}{stride}{padding}, bias=False)"
        case BatchNorm():
            eps = "" if layer.eps == 1e-5 else f", eps={layer.eps!r}"
            return f"nn.BatchNorm{1 if dense else 2}d({value('features')}{eps})"
        case Scale():
            return "Scale()"


def statements(layers: Layers, modules: Mapping[str, str], size: Size | None = None) -> list[str]:
    """Return statements that compute the output `x` of `layers` from their input `x`.

    Args:
        layers: The layers. Residual branches do not contain further branches.
        modules: Name of each layer to the expression of its module.
        size: Stands for the sizes of a `Pad`; None for the values.
    """
    return _Writer("x", modules, size).write(layers)


class _Writer:
    """Collects statements that assign to one variable."""

    def __init__(self, variable: str, modules: Mapping[str, str], size: Size | None, expression: str = "x"):
        self.variable, self.modules, self.size, self.expression = variable, modules, size, expression
        self.lines: list[str] = []

    def write(self, layers: Layers) -> list[str]:
        """The statements of all layers."""
        for layer in layers:
            self._apply(layer)
        self.flush()
        return self.lines

    def flush(self) -> None:
        """Assign what is pending."""
        if self.expression != self.variable:
            self.lines.append(f"{self.variable} = {self.expression}")
            self.expression = self.variable

    def _apply(self, layer: Layer) -> None:
        match layer:
            case Residual() if not layer.enabled:
                for inner in layer.branch:
                    self._apply(inner)
            case Residual() | Shortcut():
                self.flush()
                branch = _Writer("y", self.modules, self.size)
                self.lines += branch.write(layer.branch)
                other = _Writer("x", self.modules, self.size)
                for inner in inside_shortcut(layer):
                    other._apply(inner)
                self.expression = f"y + {other.expression}"
            case Linear() | Conv2d() | BatchNorm() | Scale():
                self._wrap(f"{self.modules[layer.name]}({{}})")
            case Dropout() if layer.p:
                self._wrap(f"F.dropout({{}}, {layer.p!r}, self.training)")
            case ParameterFree() | Multiply():
                self._wrap(f"{layer.factor!r} * {{}}" if isinstance(layer, Multiply) else FUNCTIONS[layer.kind])
            case Pad():
                self._pad(layer)
            case Dropout() | Tap():
                pass
            case _:
                raise TypeError(f"no statement for {type(layer).__name__}")

    def _wrap(self, form: str) -> None:
        if len(form) + len(self.expression) > MAX_EXPRESSION or (not form[0].isalpha() and " + " in self.expression):
            self.flush()
        self.expression = form.format(self.expression)

    def _pad(self, layer: Pad) -> None:
        stride, channels = str(layer.stride), str(layer.out_channels - layer.in_channels)
        if self.size is not None:
            into, out, stride = (self.size("", field) for field in SIZES[Pad])
            channels = str(int(out) - int(into)) if into.isdigit() and out.isdigit() else f"{out} - {into}"
        self.expression = f"F.pad({self.expression}[:, :, ::{stride}, ::{stride}], (0, 0, 0, 0, 0, {channels}))"
