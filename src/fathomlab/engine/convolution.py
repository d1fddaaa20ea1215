"""Convolutions of maps. On a CPU, those with small outputs are matrix products.

oneDNN also multiplies the zeros of the padding: with a 3x3 kernel, a pixel of a 2x2 map sees 4 pixels and 5 zeros. A product per
pixel leaves the zeros out. Only shapes decide, so that the bits of a trial do not depend on a measurement at run time.
`python -m benchmarks.convolutions` prints the measurements that the rule follows.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.autograd_functions import Subsample
from fathomlab.models.layers import Conv2d

MIN_WORK = 2**19  # images times input and output channels below which calls of products cost more than they save
MIN_WORK_OF_HALF = 2**22  # in half precision, where a call costs ten times as much
MIN_WORK_OF_KERNELS = {4: 2**19, 16: 2**22}  # of the gradient of the kernels, for outputs of at most so many pixels
SMALL = 4  # output pixels up to which products pay in the other directions
Index = tuple[slice | int, ...]
Size = tuple[int, ...]


@dataclass(frozen=True)
class Products:
    """Which directions of a convolution are computed as products.

    Attributes:
        output: The output.
        inputs: The gradient of the input.
        kernels: The gradient of the kernels.
    """

    output: bool
    inputs: bool
    kernels: bool


@cache
def choose_products(x: Size, kernels: Size, stride: int, half: bool) -> Products:
    """The rule: which directions are products.

    Args:
        x: Shape of the input, (n, channels, height, width).
        kernels: Shape of the kernels, (out_channels, channels, kernel_size, kernel_size).
        stride: The stride.
        half: Whether it is computed in half precision.
    """
    images, channels, *size = x
    out_channels, _, kernel_size, _ = kernels
    pixels = prod(_output_size(length, kernel_size, stride) for length in size)
    if kernel_size == 1 or max(size) == 1:  # a single product
        pays = stride > 1 or pixels <= SMALL
        return Products(pays, pays, pays)
    work = images * channels * out_channels
    small = pixels <= SMALL and work >= (MIN_WORK_OF_HALF if half else MIN_WORK)
    kernels_too = any(pixels <= limit and work >= least for limit, least in MIN_WORK_OF_KERNELS.items())
    return Products(small, small, kernels_too)


def convolve(layer: Conv2d, x: Tensor, weight: Tensor, replicas: int) -> Tensor:
    """Convolve maps (n, k * c, h, w) with kernels (k * out_channels, in_channels, size, size), one group per replica.

    On a CPU, a 1x1 convolution with a stride and several groups reads subsampled maps with stride 1, which gives the same sum. In
    oneDNN (torch 2.13.0, AVX2, float32, channels last), the strided kernel writes past the end of a buffer if the channels
    do not fill a vector register. The process then crashes later.
    """
    stride = layer.stride
    if x.device.type == "cpu":
        if replicas == 1:
            x, weight = _as_autocast(x), _as_autocast(weight)
            products = choose_products(x.shape, weight.shape, stride, x.dtype == torch.bfloat16)
            if products.output or products.kernels:
                return Convolution.apply(x, weight, stride, products)
        elif layer.kernel_size == 1 and stride > 1:
            x, stride = Subsample.apply(x, stride), 1
    return F.conv2d(x, weight, None, stride, layer.kernel_size // 2, 1, replicas)


def _as_autocast(tensor: Tensor) -> Tensor:
    """What torch would do: it casts the inputs of its functions only."""
    if torch.is_autocast_enabled("cpu") and tensor.dtype == torch.float32:
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor


class Convolution(torch.autograd.Function):
    """A convolution with padding kernel_size // 2, of which some directions are products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, products: Products) -> Tensor:
        """Compute the output."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.products = stride, products
        if products.output:
            return output_product(x, weight, stride)
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Compute the gradients of the input and of the kernels."""
        x, weight = ctx.saved_tensors
        gradient, stride = gradients[0].contiguous(memory_format=torch.channels_last), ctx.stride
        inputs = kernels = None
        if ctx.needs_input_grad[0]:
            compute = inputs_product if ctx.products.inputs else inputs_of_torch
            inputs = compute(gradient, x, weight, stride)
        if ctx.needs_input_grad[1]:
            compute = kernels_product if ctx.products.kernels else kernels_of_torch
            kernels = compute(gradient, x, weight, stride)
        return inputs, kernels, None, None


def output_product(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The output: the sum over the rows of the kernels of what each pixel sees, times its part of the row."""
    maps, kernels = _channels_last(x), _channels_last(weight)
    sizes = (_output_size(length, kernels.shape[1], stride) for length in maps.shape[1:3])
    shape = (len(maps), *sizes, len(kernels))
    taps = _taps(maps.shape[1:3], kernels.shape[1], stride)
    if len(taps) == 1:
        rows = maps[taps[0].inputs].reshape(-1, maps.shape[3]) @ kernels[taps[0].kernels].t()
        return _channels_first(rows.view(shape))
    out = maps.new_zeros(shape)
    for part in _pixels(maps.shape[1:3], kernels.shape[1], stride):
        out[part.outputs].addmm_(maps[part.inputs].flatten(1), kernels[part.kernels].flatten(1).t())
    return _channels_first(out)


def inputs_product(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the input, from the gradient of the output."""
    slopes, kernels, maps = _channels_last(gradient), _channels_last(weight), _channels_last(x)
    inputs = slopes.new_zeros(maps.shape)
    taps = _taps(maps.shape[1:3], kernels.shape[1], stride)
    if len(taps) == 1:
        target = inputs[taps[0].inputs]
        target.copy_((slopes.flatten(0, 2) @ kernels[taps[0].kernels]).view(target.shape))
        return _channels_first(inputs)
    for part in _pixels(maps.shape[1:3], kernels.shape[1], stride):
        inputs[part.inputs].view(len(maps), -1).addmm_(slopes[part.outputs], kernels[part.kernels].flatten(1))
    return _channels_first(inputs)


def kernels_product(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the kernels, from the gradient of the output."""
    slopes, maps = _channels_last(gradient), _channels_last(x)
    kernels = slopes.new_zeros(_channels_last(weight).shape)
    for tap in _taps(maps.shape[1:3], kernels.shape[1], stride):
        rows, columns = slopes[tap.outputs].reshape(-1, len(kernels)), maps[tap.inputs].reshape(-1, maps.shape[3])
        torch.mm(rows.t(), columns, out=kernels[tap.kernels])
    return _channels_first(kernels)


def inputs_of_torch(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the input, as torch computes it."""
    return _gradient_of_torch(gradient, x, weight, stride, 0)


def kernels_of_torch(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the kernels, as torch computes it."""
    return _gradient_of_torch(gradient, x, weight, stride, 1)


def _gradient_of_torch(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, index: int) -> Tensor:
    padding, mask = weight.shape[2] // 2, [index == 0, index == 1, False]
    geometry = ([stride, stride], [padding, padding], [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, mask)[index]


@dataclass(frozen=True)
class _Part:
    """What one product reads and writes: an index of maps (n, h, w, channels) or of kernels (out, h, w, channels) each."""

    outputs: Index
    inputs: Index
    kernels: Index


@cache
def _taps(size: tuple[int, int], kernel_size: int, stride: int) -> tuple[_Part, ...]:
    """For each position of the kernel: all output pixels that see a pixel there, and these pixels."""
    rows, columns = (_tap_slices(length, kernel_size, stride) for length in size)
    every = slice(None)
    return tuple(
        _Part((every, rows[y][0], columns[x][0]), (every, rows[y][1], columns[x][1]), (every, y, x))
        for y, x in product(rows, columns)
    )


def _tap_slices(length: int, kernel_size: int, stride: int) -> dict[int, tuple[slice, slice]]:
    """The slices of the outputs and of the inputs along an axis, by the position in the kernel; none if it sees only padding."""
    slices = {}
    for offset in range(kernel_size):
        shift = offset - kernel_size // 2
        first = max(0, -(shift // stride))
        end = min(_output_size(length, kernel_size, stride), (length - 1 - shift) // stride + 1)
        if first < end:
            start = first * stride + shift
            slices[offset] = slice(first, end), slice(start, start + (end - first - 1) * stride + 1, stride)
    return slices


@cache
def _pixels(size: tuple[int, int], kernel_size: int, stride: int) -> tuple[_Part, ...]:
    """For each output pixel and row of the kernel: the pixels that it sees, which are neighbors in memory."""
    rows, columns = (_pixel_slices(length, kernel_size, stride) for length in size)
    every = slice(None)
    return tuple(
        _Part((every, row, column), (every, seen.start + line, inputs), (every, kernel.start + line, kernels))
        for (row, (seen, kernel)), (column, (inputs, kernels)) in product(enumerate(rows), enumerate(columns))
        for line in range(seen.stop - seen.start)
    )


def _pixel_slices(length: int, kernel_size: int, stride: int) -> list[tuple[slice, slice]]:
    """The slices of the inputs and of the kernel along an axis, for each output."""
    slices = []
    for position in range(_output_size(length, kernel_size, stride)):
        start = position * stride - kernel_size // 2
        first, end = max(0, start), min(length, start + kernel_size)
        slices.append((slice(first, end), slice(first - start, end - start)))
    return slices


def _output_size(length: int, kernel_size: int, stride: int) -> int:
    return (length + 2 * (kernel_size // 2) - kernel_size) // stride + 1


def _channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)
