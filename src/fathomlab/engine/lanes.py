"""Networks with few channels: all layers with maps are one call of lanes.cpp. Images are the lanes of vectors.

A program is the list of operations, compiled from the layers for one number of images. It owns the memory of its maps, which are
stored as (blocks, h, w, k * c, images of a block), and uses them again in the next step.
"""

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathomlab.engine.backends.lanes import EVALUATED, LANES, Listing, Operation, list_operations, maps_of
from fathomlab.engine.network import ForwardPass, Params
from fathomlab.models.layers import BatchNorm, Conv2d, Layer, Layers, Pad

CONVOLUTION, NORM, MAXIMUM, PAD = range(4)  # `Code` of lanes.cpp
Addresses: TypeAlias = "ctypes.Array[ctypes.c_void_p]"


class _Norm(ctypes.Structure):
    """`Norm` of lanes.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pixels", "channels", "images", "kind", "evaluates")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("mean", "scale", "gamma", "beta")),
        *((name, ctypes.c_void_p) for name in ("running_mean", "running_variance", "dgamma", "dbeta")),
    ]


class _Operation(ctypes.Structure):
    """`Operation` of lanes.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("code", "adds", "learned", "running")),
        *((name, ctypes.c_void_p) for name in ("shape", "x", "added", "y", "seen", "dy", "dx", "dadded")),
    ]


class Program:
    """Operations with memory for their maps and gradients.

    Attributes:
        names: Learned tensors, in the order that `forward` takes.
        running: Running statistics, in the order that the operations read them.
        started: Number of forward passes. Each writes over the maps of the one before.
    """

    def __init__(
        self, library: ctypes.CDLL, listing: Listing, images: int, replicas: int, like: Tensor, inner: bool | None
    ):
        """Allocate memory.

        Args:
            library: lanes.cpp.
            listing: The operations.
            images: Number of images.
            replicas: Number of replicas, whose channels are joined.
            like: A tensor of the format of the maps.
            inner: Whether the gradient of the input is needed; None to evaluate, with running statistics and without gradients.
        """
        self._library, self._listing, self.started = library, listing, 0
        self._block = 2 * LANES if images % (2 * LANES) == 0 else LANES
        self._blocks, self._replicas, self._inner = images // self._block, replicas, inner
        self._maps = [like.new_empty(self._shape(number)) for number in range(len(listing.sizes))]
        self._gradients = [] if inner is None else self._allocate_gradients()
        count = len(listing.operations)
        self._table, self._kept = (_Operation * count)(), list[Any]()
        self.names, self.running = list[str](), list[str]()
        for entry, operation in zip(self._table, listing.operations, strict=True):
            entry.learned, entry.running = len(self.names), len(self.running)
            self.names += _learned(operation.layer)
            self.running += _running(operation.layer)
        written = set[int]()
        for index in reversed(range(count)):
            self._fill(index, listing.operations[index], written)

    def _shape(self, number: int) -> tuple[int, ...]:
        channels, height, width = self._listing.sizes[number]
        return self._blocks, height, width, self._replicas * channels, self._block

    def _allocate_gradients(self) -> list[Tensor]:
        """Gradients of all maps, some of which share their memory."""
        slots = self._listing.gradient_slots()
        memory = {slot: torch.empty_like(maps) for slot, maps in zip(slots, self._maps, strict=True)}
        return [memory[slot].view(maps.shape) for slot, maps in zip(slots, self._maps, strict=True)]

    def _fill(self, index: int, operation: Operation, written: set[int]) -> None:
        """Write everything of an operation that is the same in every step. `written`: maps that have a gradient already."""
        entry, x, y = self._table[index], self._maps[operation.x], self._maps[operation.y]
        entry.adds, entry.x, entry.y = operation.x in written, x.data_ptr(), y.data_ptr()
        if self._gradients:
            entry.dy = self._gradients[operation.y].data_ptr()
            needed = operation.x or self._inner or not isinstance(operation.layer, Conv2d)
            entry.dx = self._gradients[operation.x].data_ptr() if needed else None
        written.add(operation.x)
        layer, channels = operation.layer, self._listing.sizes[operation.x][0]
        if isinstance(layer, BatchNorm):
            entry.code = NORM
            shape = _Norm(prod(x.shape[:3]), x.shape[3], self._block, operation.kind, self._inner is None, layer.eps)
            self._kept.append(statistics := x.new_empty(2, x.shape[3]))
            shape.mean, shape.scale = statistics[0].data_ptr(), statistics[1].data_ptr()
            if operation.added is not None:
                entry.added = self._maps[operation.added].data_ptr()
                entry.dadded = self._gradients[operation.added].data_ptr() if self._gradients else None
                written.add(operation.added)
        elif isinstance(layer, Conv2d):
            entry.code, sizes = CONVOLUTION, (channels, layer.out_channels, *x.shape[1:3], layer.kernel_size)
            shape = (ctypes.c_int64 * 9)(self._blocks, self._block, self._replicas, *sizes, layer.stride)
        elif isinstance(layer, Pad):
            entry.code, sizes = PAD, (channels, layer.out_channels, *x.shape[1:3], layer.stride)
            shape = (ctypes.c_int64 * 8)(self._blocks, self._block, self._replicas, *sizes)
        else:
            entry.code, shape = MAXIMUM, (ctypes.c_int64 * 4)(*x.shape[:3], x.shape[3] * x.shape[4])
            seen = torch.empty_like(y, dtype=torch.int32 if y.element_size() == 4 else torch.int64)
            self._kept.append(seen)
            entry.seen = seen.data_ptr()
        entry.shape = ctypes.addressof(shape)
        self._kept.append(shape)

    def forward(self, buffers: Params, x: Tensor, params: Sequence[Tensor]) -> Tensor:
        """Compute maps (n, k * c, h, w) from maps `x`, and update the running statistics."""
        self.started += 1
        return self._run(x, _addresses(params), self._running_of(buffers))

    def evaluate(self, buffers: Params, x: Tensor, params: Sequence[Tensor]) -> Tensor:
        """Compute maps of any number of images with the running statistics, a portion at a time."""
        size, learned, running = self._blocks * self._block, _addresses(params), self._running_of(buffers)
        portions = F.pad(x, (*6 * [0], 0, -len(x) % size)).split(size)
        return torch.cat([self._run(portion, learned, running) for portion in portions])[: len(x)]

    def _run(self, x: Tensor, learned: Addresses, running: Addresses) -> Tensor:
        assert x.dtype == self._maps[0].dtype, "the library computes in one format"
        pixels = x.permute(0, 2, 3, 1).reshape(self._blocks, self._block, -1)
        # a matrix is transposed faster than an array of 3 axes
        for block, images in zip(self._maps[0], pixels, strict=True):
            block.view(-1, self._block).copy_(images.t())
        self._library.lanes_forward(self._table, ctypes.c_int64(len(self._table)), learned, running)
        return self._joined(self._maps[-1])

    def backward(self, gradient: Tensor, params: Sequence[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
        """Compute the gradients of the input and of `params`, which must be those of the last forward pass."""
        self._gradients[-1].copy_(gradient.permute(2, 3, 1, 0).unflatten(3, (self._blocks, self._block)).movedim(3, 0))
        gradients = [torch.empty_like(param) for param in params]
        count = ctypes.c_int64(len(self._table))
        self._library.lanes_backward(self._table, count, _addresses(params), _addresses(gradients))
        return self._joined(self._gradients[0]) if self._inner else None, gradients

    def _joined(self, maps: Tensor) -> Tensor:
        """A copy of maps as (n, k * c, h, w)."""
        return maps.permute(0, 4, 3, 1, 2).clone(memory_format=torch.contiguous_format).flatten(0, 1)

    def _running_of(self, buffers: Params) -> Addresses:
        return _addresses([buffers[name] for name in self.running])


def _addresses(tensors: Sequence[Tensor]) -> Addresses:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def _learned(layer: Layer) -> list[str]:
    """The learned tensors of a layer."""
    if isinstance(layer, BatchNorm):
        return [f"{layer.name}.weight", f"{layer.name}.bias"]
    return [f"{layer.name}.weight"] if isinstance(layer, Conv2d) else []


def _running(layer: Layer) -> list[str]:
    """The running statistics of a layer."""
    return [f"{layer.name}.running_mean", f"{layer.name}.running_var"] if isinstance(layer, BatchNorm) else []


# By layers, images, and whether the input has a gradient; None without gradients.
Programs: TypeAlias = dict[tuple[Layers, int, bool | None], Program]


class LanesPass(ForwardPass):
    """A forward pass in mode `train`, or in mode `eval` without gradients.

    Other operations, and batches of training that do not fill the vectors, are those of torch.
    """

    def __init__(self, library: ctypes.CDLL, programs: Programs, *options: Any):
        """Keep the library and the programs of the network; `options` are those of `ForwardPass`."""
        super().__init__(*options)
        self._library, self._programs = library, programs

    def layers(self, layers: Layers, x: Tensor, path: str) -> Tensor:
        """Run `layers` in their order."""
        before, evaluates = maps_of(layers), self.mode == "eval"
        if path or (torch.is_grad_enabled() if evaluates else len(x) % LANES):
            return super().layers(layers, x, path)
        program = self._program(before, x, EVALUATED if evaluates else len(x), None if evaluates else x.requires_grad)
        params = [self.params[name] for name in program.names]
        if evaluates:
            maps = program.evaluate(self.buffers, x, [_as_stored(param) for param in params])
        else:
            maps = LanesFunction.apply(program, self.buffers, x, *params)
        return super().layers(layers[len(before) :], maps, path)

    def _program(self, layers: Layers, x: Tensor, images: int, inner: bool | None) -> Program:
        key = layers, images, inner
        if key not in self._programs:
            listing = list_operations(layers, (x.shape[1] // self.replicas, *x.shape[2:]))
            assert listing is not None, "the backend refuses other layers"
            self._programs[key] = Program(self._library, listing, images, self.replicas, x, inner)
        return self._programs[key]


class LanesFunction(torch.autograd.Function):
    """All operations of a program."""

    @staticmethod
    def forward(ctx: Any, program: Program, buffers: Params, x: Tensor, *params: Tensor) -> Tensor:
        """Compute the last maps."""
        stored = [_as_stored(param) for param in params]
        ctx.save_for_backward(*stored)
        maps = program.forward(buffers, x, stored)
        ctx.program, ctx.number = program, program.started
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the gradients of the input and of the learned tensors."""
        assert ctx.number == ctx.program.started, "another forward pass has used the memory"
        inner, learned = ctx.program.backward(gradients[0], ctx.saved_tensors)
        return None, None, inner, *(_as_learned(gradient) for gradient in learned)


def _as_stored(param: Tensor) -> Tensor:
    """Kernels (k, o, i, h, w) as (k, o, h, w, i); others as they are."""
    return param.permute(0, 1, 3, 4, 2).contiguous() if param.dim() == 5 else param


def _as_learned(gradient: Tensor) -> Tensor:
    return gradient.permute(0, 1, 4, 2, 3) if gradient.dim() == 5 else gradient
