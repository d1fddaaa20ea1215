"""The source code of a network in plain torch, generated from its architecture. Runs of equal layers become loops.

Modules have the names of the layers, so that the generated class loads the tensors of a checkpoint. A point `a.1` whose layers
are all named `a.1.NAME` becomes an instance of a block class. Other points with a number, such as `hidden.1`, become a loop.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

from fathomlab.export.network_code.blocks import BlockClass, block_classes
from fathomlab.export.network_code.statements import constructor, named_layers, statements
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Layer, Layers, ParameterFree, Scale, Tap

NUMBERED = re.compile(r"([A-Za-z_]\w*)\.(\d+)")
SCALE = '''
class Scale(nn.Module):
    """Multiplication by one learned number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight

'''
NETWORK = '''
class Network(nn.Module):
    """Maps normalized images, (n, {shape}), to logits, (n, {classes})."""

    def __init__(self):
        super().__init__()
        {constructors}

    def forward(self, x):
        {forward}
'''


def network_source(architecture: Architecture) -> str:
    """Return the classes of a network as text: blocks, and `Network`, which maps normalized images to logits.

    Args:
        architecture: The network; not that of a user's module.
    """
    segments, dense = _segments(architecture), not architecture.convolutional
    classes = dict.fromkeys(segment.block[0] for segment in segments if segment.block)
    constructors, forward = list[str](), list[str]()
    for container, group in groupby(segments, lambda segment: segment.container):
        members = list(group)
        parts = _plain(members, dense) if not container else _contained(container, members, dense)
        constructors += parts[0]
        forward += parts[1]
    forward[-1] = forward[-1].replace("x = ", "return ", 1)
    line, shape = "\n        ", ", ".join(map(str, architecture.shape))
    network = NETWORK.format(
        shape=shape, classes=architecture.classes, constructors=line.join(constructors), forward=line.join(forward)
    )
    scaled = any(isinstance(layer, Scale) for item in segments for layer in named_layers(item.layers).values())
    return (SCALE if scaled else "") + "".join(f"{item.source()}\n" for item in classes) + network


Lines = tuple[list[str], list[str]]  # statements of `__init__` and of `forward`


@dataclass(frozen=True)
class _Segment:
    """The layers up to a point.

    Attributes:
        container: The part of the point's name before its number; "" if it has none.
        number: Its number.
        block: The block class and its arguments; None if the layers are written out.
    """

    layers: Layers
    container: str = ""
    number: int = 0
    block: tuple[BlockClass, str] | None = None

    def numbered_lines(self, dense: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Statements of a loop over `i`. In `forward`, `layer` is that of number i, and `before` that of number i - 1."""
        names = named_layers(self.layers)
        constructors = [
            f"self.{self.container}{self._index(name, '[str(i)]', '[str(i - 1)]')} = {constructor(names[name], dense)}"
            for name in _parents_first(names)
        ]
        modules = {name: self._index(name, "layer", "before") for name in names}
        return tuple(constructors), tuple(statements(self.layers, modules))

    def _index(self, name: str, current: str, previous: str) -> str:
        """The name of a layer, with its number replaced."""
        match = NUMBERED.match(name)
        assert match is not None
        return (current, previous)[self.number - int(match[2])] + name[match.end() :]


def _segments(architecture: Architecture) -> list[_Segment]:
    """The layers in pieces that end at the points. Pooling before a block is not part of it."""
    pieces, layers = list[tuple[str, Layers]](), list[Layer]()
    for layer in architecture.layers:
        if not isinstance(layer, Tap):
            layers.append(layer)
            continue
        if NUMBERED.fullmatch(layer.name):
            free = list(takewhile(lambda item: isinstance(item, ParameterFree), layers))
            pieces += [("", tuple(free))] if free else []
            layers = layers[len(free) :]
        pieces.append((layer.name, tuple(layers)))
        layers = []
    blocks = {
        name: piece
        for name, piece in pieces
        if NUMBERED.fullmatch(name) and all(item.startswith(f"{name}.") for item in named_layers(piece))
    }
    blocks = {name: piece for name, piece in blocks.items() if architecture.convolutional}
    classes = block_classes(blocks)
    segments = list[_Segment]()
    for name, piece in pieces:
        match = NUMBERED.fullmatch(name)
        segments.append(_Segment(piece, match[1], int(match[2]), classes.get(name)) if match else _Segment(piece))
    return [*segments, _Segment(tuple(layers))]


def _plain(members: Sequence[_Segment], dense: bool) -> Lines:
    """Layers that are written out."""
    constructors, forward = list[str](), list[str]()
    for segment in members:
        names = named_layers(segment.layers)
        constructors += [f"self.{name} = {constructor(names[name], dense)}" for name in _parents_first(names)]
        forward += statements(segment.layers, {name: f"self.{name}" for name in names})
    return constructors, forward


def _contained(container: str, members: Sequence[_Segment], dense: bool) -> Lines:
    """Numbered points in a `ModuleDict`."""
    created = f"self.{container} = nn.ModuleDict()"
    if all(segment.block for segment in members):
        called = [f"for block in self.{container}.values():", "    x = block(x)"]
        return [created, *_block_constructors(container, members)], called
    constructors, forward = [created], list[str]()
    for lines, run in groupby(members, lambda segment: segment.numbered_lines(dense)):
        numbers = [segment.number for segment in run]
        header = _loop(numbers)
        constructors += [header, *(f"    {line}" for line in lines[0])]
        if any("before" in line for line in lines[1]):
            first = [header, f"    before, layer = self.{container}[str(i - 1)], self.{container}[str(i)]"]
        elif len(numbers) == len(members):
            first = [f"for layer in self.{container}.values():"]
        else:
            first = [header, f"    layer = self.{container}[str(i)]"]
        forward += [*first, *(f"    {line}" for line in lines[1])]
    return constructors, forward


def _block_constructors(container: str, members: Sequence[_Segment]) -> Iterator[str]:
    """A statement per block, or a loop over consecutive blocks that are equal."""
    calls = {segment.number: f"{segment.block[0].name}({segment.block[1]})" for segment in members if segment.block}
    for call, run in groupby(calls, calls.__getitem__):
        numbers = list(run)
        if len(numbers) == 1:
            yield f'self.{container}["{numbers[0]}"] = {call}'
        else:
            yield _loop(numbers)
            yield f"    self.{container}[str(i)] = {call}"


def _loop(numbers: Sequence[int]) -> str:
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    return f"for i in range({numbers[0]}, {numbers[-1] + 1}{f', {step}' if step > 1 else ''}):"


def _parents_first(names: Iterable[str]) -> list[str]:
    """Names with a layer before those of its norm."""
    return sorted(names, key=lambda name: name.count("."))
