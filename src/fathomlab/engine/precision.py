"""Number formats: what parameters are stored in, what products are computed in, and whether that can be trusted here."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Conv2d, Layer, Layers, Linear, Residual, Shape, shape_after
from fathomlab.models.network import convolve

LARGEST_ERROR = 0.02
WORTHWHILE = 1.2


def storage(precision: str) -> torch.dtype:
    """The format of parameters, statistics and optimiser state."""
    return torch.float64 if precision == "fp64" else torch.float32


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run: autocast to bf16, or nothing."""
    if precision == "bf16":
        # No cache of cast weights: torch clears it only when the outermost autocast ends, and the caller's may never do so.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()


@dataclass(frozen=True)
class SelfTest:
    """How bf16 compares with fp32 on a network's own shapes.

    Attributes:
        error: Largest relative difference of an output or gradient of any layer; about 0.004 where bf16 is right.
        worst: The layer that has it.
        speedup: Time of all layers in fp32 over their time in bf16, forward and backward.
    """

    error: float
    worst: str
    speedup: float

    @property
    def right(self) -> bool:
        """Whether bf16 computes what it should."""
        return self.error <= LARGEST_ERROR


def bf16_self_test(architecture: Architecture, batch: int, device: torch.device) -> SelfTest:
    """Run each product of the network forward and backward in bf16 and in fp32 on random numbers, and compare.

    bf16 convolutions on CPUs have returned wrong values for some shapes (a stride above 1 with an output of width 1), and been
    slower than fp32 on others, depending on the release; so nothing is trained in bf16 before this test has passed here.
    """
    error, worst = 0.0, ""
    seconds = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for name, layer, shape in _products(architecture.layers, architecture.shape):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *shape, generator=generator).to(device)
        weight = torch.randn(layer.parameters()[0].shape, generator=generator).to(device)
        results = {}
        for dtype in seconds:
            inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
            _forward_backward(layer, inputs)
            started = time.perf_counter()
            results[dtype] = _forward_backward(layer, inputs)
            seconds[dtype] += time.perf_counter() - started
        for wrong, right in zip(results[torch.bfloat16], results[torch.float32], strict=True):
            found = float((wrong.float() - right).norm() / right.norm())
            if not found <= error:
                error, worst = found, name
    return SelfTest(error, worst, seconds[torch.float32] / seconds[torch.bfloat16])


def choose_precision(asked: str, architecture: Architecture, batch: int, device: torch.device) -> str:
    """The precision to train in: bf16 only after its self-test, `auto` for bf16 where it is right and pays.

    Raises:
        ValueError: bf16 was asked for and is wrong on this machine.
    """
    if asked not in ("bf16", "auto"):
        return asked
    test = bf16_self_test(architecture, batch, device)
    if asked == "auto":
        return "bf16" if test.right and test.speedup >= WORTHWHILE else "fp32"
    if not test.right:
        raise ValueError(
            f"bf16 is wrong on this machine: layer {test.worst} differs from fp32 by {test.error:.1%}. Use fp32."
        )
    return asked


def _products(layers: Layers, shape: Shape) -> Iterator[tuple[str, Linear | Conv2d, Shape]]:
    """The layers with a product that differ in kind or shape, each with the shape of its input."""
    seen: set[tuple[Layer, Shape]] = set()

    def inside(layers: Layers, shape: Shape) -> Iterator[tuple[str, Linear | Conv2d, Shape]]:
        for layer in layers:
            if isinstance(layer, Residual):
                yield from inside(layer.branch, shape)
                yield from inside(layer.shortcut if layer.on else (), shape)
            elif isinstance(layer, Linear | Conv2d):
                yield layer.name, layer, shape
            shape = shape_after((layer,), shape)

    for name, layer, own in inside(layers, shape):
        kind = type(layer)(**{**layer.__dict__, "name": ""})
        if (kind, own) not in seen:
            seen.add((kind, own))
            yield name, layer, own


def _forward_backward(layer: Linear | Conv2d, inputs: list[Tensor]) -> list[Tensor]:
    x, weight = inputs
    if isinstance(layer, Linear):
        out = F.linear(x, weight)
    else:
        out = convolve(layer, x.contiguous(memory_format=torch.channels_last), weight, 1)
    slope = torch.ones_like(out)
    return [out.detach(), *torch.autograd.grad(out, inputs, slope)]
