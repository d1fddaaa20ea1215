"""Classes of residual blocks. Blocks that differ only in their sizes share one, with the sizes as arguments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from fathomlab.export.network_code.statements import SIZES, Size, constructor, named_layers, statements
from fathomlab.models.layers import Layer, Layers, Pad, Residual, Shortcut, inside_shortcut

Field = tuple[str, str]  # name of a layer in its block ("" for a Pad), and name of a field
DOCUMENTATION = {
    "ProjectionBlock": "A branch plus a 1x1 convolution of its input.",
    "PaddingBlock": "A branch plus every second pixel of its input, with channels of zeros.",
    "ResidualBlock": "A branch plus its input.",
    "PlainBlock": "Layers without a shortcut.",
}


@dataclass(frozen=True)
class BlockClass:
    """A class of blocks.

    Attributes:
        name: Name of the class.
        arguments: Names of the arguments of `__init__`.
        constructors: Statements of `__init__`.
        forward: Statements that compute `x` from `x`.
    """

    name: str
    arguments: tuple[str, ...]
    constructors: tuple[str, ...]
    forward: tuple[str, ...]

    def source(self) -> str:
        """The class as text."""
        line = "\n        "
        keep = [
            f"self.{name} = {name}" for name in self.arguments if any(f"self.{name}" in row for row in self.forward)
        ]
        return f'''
class {self.name}(nn.Module):
    """{DOCUMENTATION[self.name.rstrip("0123456789")]}"""

    def __init__({", ".join(["self", *self.arguments])}):
        super().__init__()
        {line.join([*keep, *self.constructors])}

    def forward(self, x):
        {line.join([*self.forward[:-1], self.forward[-1].replace("x = ", "return ", 1)])}
'''


def block_classes(blocks: Mapping[str, Layers]) -> dict[str, tuple[BlockClass, str]]:
    """Return the class of each block and its arguments, by name of the block.

    Args:
        blocks: Name of each block to its layers, whose names begin with that of the block and a dot.
    """
    groups: dict[object, list[str]] = {}
    for name, layers in blocks.items():
        groups.setdefault(_structure(name, layers), []).append(name)
    result: dict[str, tuple[BlockClass, str]] = {}
    used: set[str] = set()
    for names in groups.values():
        first = _kind(blocks[names[0]])
        kind = next(kind for number in count(1) if (kind := first if number == 1 else f"{first}{number}") not in used)
        used.add(kind)
        sizes = [dict(_sizes(name, blocks[name])) for name in names]
        arguments = _arguments(sizes)
        block = _block_class(kind, names[0], blocks[names[0]], sizes[0], arguments)
        for name, values in zip(names, sizes, strict=True):
            pairs = dict.fromkeys((argument, values[field]) for field, argument in arguments.items())
            result[name] = block, ", ".join(f"{argument}={value}" for argument, value in pairs)
    return {name: result[name] for name in blocks}


def _block_class(
    kind: str, name: str, layers: Layers, sizes: Mapping[Field, int], arguments: Mapping[Field, str]
) -> BlockClass:
    def size(prefix: str) -> Size:
        return lambda layer, field: (
            prefix + arguments[layer, field] if (layer, field) in arguments else str(sizes[layer, field])
        )

    items = {full.removeprefix(f"{name}."): layer for full, layer in named_layers(layers).items()}
    of_init = size("")
    constructors = [
        f"self.{item} = {constructor(items[item], dense=False, size=lambda field, item=item: of_init(item, field))}"
        for item in sorted(items, key=lambda item: item.count("."))  # a parent before its norm
    ]
    forward = statements(layers, {f"{name}.{item}": f"self.{item}" for item in items}, size("self."))
    return BlockClass(kind, tuple(dict.fromkeys(arguments.values())), tuple(constructors), tuple(forward))


def _kind(layers: Layers) -> str:
    """The beginning of the name of a block's class."""
    shortcut = next((layer for layer in layers if isinstance(layer, Shortcut)), None)
    if shortcut is not None:
        return "PaddingBlock" if isinstance(shortcut.shortcut[0], Pad) else "ProjectionBlock"
    enabled = any(isinstance(layer, Residual) and layer.enabled for layer in layers)
    return "ResidualBlock" if enabled else "PlainBlock"


def _walk(layers: Layers) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, Residual | Shortcut):
            yield from _walk((*layer.branch, *inside_shortcut(layer)))


def _sizes(block: str, layers: Layers) -> Iterator[tuple[Field, int]]:
    """The sizes of the layers in a block."""
    for layer in _walk(layers):
        name = getattr(layer, "name", "").removeprefix(f"{block}.")
        for field in SIZES.get(type(layer), ()):
            yield (name, field), getattr(layer, field)


def _structure(block: str, layers: Layers) -> object:
    """What blocks of one class share: everything but sizes and the block's name."""
    modules = {name: name.removeprefix(block) for name in named_layers(layers)}
    constructors = [constructor(layer, dense=False, size=lambda _: "size") for layer in named_layers(layers).values()]
    return tuple(modules.values()), tuple(constructors), tuple(statements(layers, modules, lambda _, field: field))


def _arguments(blocks: Sequence[Mapping[Field, int]]) -> dict[Field, str]:
    """Name the sizes that differ between the blocks of a class. Sizes that are always equal are one argument."""
    columns: dict[tuple[int, ...], list[Field]] = {}
    for field in blocks[0]:
        columns.setdefault(tuple(sizes[field] for sizes in blocks), []).append(field)
    into = next(field for field in blocks[0] if field[1] in ("in_channels", "in_features"))
    out = [field for field in blocks[0] if field[1] in ("out_channels", "out_features")][-1]
    result: dict[Field, str] = {}
    for values, fields in columns.items():
        if len(set(values)) == 1:
            continue
        if into in fields:
            name = "channels" if out in fields else "in_channels"
        elif out in fields:
            name = "out_channels"
        else:
            name = "stride" if fields[0][1] == "stride" else "inner_channels"
        result |= dict.fromkeys(fields, name)
    return result
