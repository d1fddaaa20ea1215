"""Packs of CNNs with few channels: all layers with maps are C++, and images are the lanes of vectors. Imports without torch."""

from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from fathomlab.models.layers import BatchNorm, Conv2d, Layer, Layers, Pad, ParameterFree, Residual, Shortcut, Tap

if TYPE_CHECKING:
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe

SOURCE = Path(__file__).with_name("lanes.cpp")
MAX_CHANNELS = 128  # of the widest maps: wider ones fill vectors of channels
LANES = 16  # images whose number must divide the batch
EVALUATED = 32  # images that are evaluated at a time
RELU, POOL = ParameterFree("ReLU"), ParameterFree("MaxPool")
PLAIN, ACTIVE, ADDED = range(3)  # `Kind` of lanes.cpp
Size = tuple[int, int, int]  # channels of a replica, height, width


@dataclass(frozen=True)
class Operation:
    """One operation on maps. Maps are numbered in the order of the forward pass; 0 is the input.

    Attributes:
        layer: The layer; a batch norm includes the addition and the ReLU that follow it.
        x: The maps that it reads.
        y: The maps that it writes.
        added: The maps that are added before the ReLU; None without.
        kind: What follows a batch norm.
    """

    layer: Conv2d | BatchNorm | Pad | ParameterFree
    x: int
    y: int
    added: int | None = None
    kind: int = PLAIN


@dataclass
class Listing:
    """The operations of layers, and the size of all maps.

    Attributes:
        sizes: Size of all maps, by number.
        operations: In the order of the forward pass.
    """

    sizes: list[Size]
    operations: list[Operation] = field(default_factory=list)

    def add_layers(self, layers: Layers, x: int) -> int | None:
        """Append the operations of `layers`, which read maps `x`; return the number of their output, None if one is unknown."""
        index, here = 0, x
        while index < len(layers):
            active = layers[index + 1 : index + 2] == (RELU,)
            after = self._add_layer(layers[index], here, active)
            if after is None:
                return None
            here, index = after, index + (2 if active and not isinstance(layers[index], Conv2d | Pad | Tap) else 1)
        return here

    def _add_layer(self, layer: Layer, x: int, active: bool) -> int | None:
        channels, height, width = self.sizes[x]
        match layer:
            case Tap():
                return x
            case Conv2d(kernel_size=1 | 3, stride=1 | 2) | Pad():
                size = layer.out_channels, (height - 1) // layer.stride + 1, (width - 1) // layer.stride + 1
                return self._append(Operation(layer, x, 0), size)
            case BatchNorm():
                return self._append(Operation(layer, x, 0, None, ACTIVE if active else PLAIN), self.sizes[x])
            case ParameterFree(kind="MaxPool") if not active:
                return self._append(Operation(layer, x, 0), (channels, (height + 1) // 2, (width + 1) // 2))
            case Residual() | Shortcut() if active and isinstance(layer.branch[-1], BatchNorm):
                return self._add_block(layer, layer.branch[-1], x)
            case _:
                return None

    def _add_block(self, layer: Residual | Shortcut, last: BatchNorm, x: int) -> int | None:
        inside, added = self.add_layers(layer.branch[:-1], x), None
        if isinstance(layer, Shortcut):
            added = self.add_layers(layer.shortcut, x)
        elif layer.enabled:
            added = x
        plain = isinstance(layer, Residual) and not layer.enabled
        if inside is None or (added is None and not plain):
            return None
        return self._append(Operation(last, inside, 0, added, ACTIVE if added is None else ADDED), self.sizes[inside])

    def gradient_slots(self) -> list[int]:
        """The memory slot of each map's gradient. Gradients of one size that are not needed at the same time share one."""
        slots = {len(self.sizes) - 1: 0}
        free: dict[int, list[int]] = {}
        for operation in reversed(self.operations):
            for number in (operation.x, operation.added):
                if number is not None and number not in slots:
                    reusable = free.get(prod(self.sizes[number]))
                    slots[number] = reusable.pop() if reusable else 1 + max(slots.values())
            free.setdefault(prod(self.sizes[operation.y]), []).append(slots[operation.y])
        return [slots[number] for number in range(len(self.sizes))]

    def numbers(self, evaluates: bool = False) -> int:
        """Numbers per image that a program keeps: maps, the positions of maxima, and gradients unless it evaluates."""
        gradients = {} if evaluates else dict(zip(self.gradient_slots(), self.sizes, strict=True))
        maxima = [self.sizes[operation.y] for operation in self.operations if operation.layer == POOL]
        return sum(prod(size) for size in (*self.sizes, *gradients.values(), *maxima))

    def _append(self, operation: Operation, size: Size) -> int:
        self.sizes.append(size)
        self.operations.append(replace(operation, y=len(self.sizes) - 1))
        return len(self.sizes) - 1


@lru_cache(maxsize=64)  # a plan asks for the networks of each trial
def list_operations(layers: Layers, size: tuple[int, ...]) -> Listing | None:
    """The operations of layers that read maps of a size (c, h, w); None if the library does not have one of them."""
    channels, height, width = size
    listing = Listing([(channels, height, width)])
    return listing if listing.add_layers(layers, 0) is not None and _can_add(listing.operations) else None


def _can_add(operations: list[Operation]) -> bool:
    """Whether only convolutions add to a gradient: those of maps that a later operation reads, too."""
    for index, operation in enumerate(operations):
        later = {number for after in operations[index + 1 :] for number in (after.x, after.added)} - {None}
        if operation.added in later or operation.added == operation.x:
            return False
        if operation.x in later and not isinstance(operation.layer, Conv2d):
            return False
    return True


def maps_of(layers: Layers) -> Layers:
    """The layers before the global average pooling."""
    pooling = ParameterFree("MeanPool")
    return layers[: layers.index(pooling)] if pooling in layers else layers


def supports(recipe: "Recipe") -> bool:
    """Whether a recipe is trained with images as lanes: a network with few channels, and batches that fill the vectors.

    Losses that read features need the operations of torch between the layers.
    """
    return listing_of(recipe) is not None


def listing_of(recipe: "Recipe") -> Listing | None:
    """The operations of a recipe's network; None if it is not supported."""
    net = recipe.architecture
    if not net.convolutional or recipe.batch_size % LANES or recipe.precision == "bf16" or recipe.needs_features:
        return None
    listing = list_operations(maps_of(net.layers), net.shape)
    narrow = listing is not None and max(channels for channels, _, _ in listing.sizes) <= MAX_CHANNELS
    return listing if narrow else None


def prepare(pack: "PackTrainer") -> "StepFunction":
    """Return the reference step of networks whose maps are computed in C++. Replicas whose options differ run one by one.

    Raises:
        UserError: If the library cannot be built, or its numbers are wrong.
    """
    from fathomlab.engine.lanes import LanesPass
    from fathomlab.engine.maps_check import checked_lanes
    from fathomlab.engine.step import train_step_on_device

    run = partial(LanesPass, checked_lanes(pack.shared_recipe.precision), {})
    varies = pack.state.network.varies
    pack.replica_trainers = tuple(pack.replica(slot) for slot in range(len(pack.recipes))) if varies else ()
    for trainer in pack.replica_trainers or (pack,):
        trainer.state.network.training_pass = trainer.state.network.evaluation_pass = run
    return partial(train_step_on_device, pack)
