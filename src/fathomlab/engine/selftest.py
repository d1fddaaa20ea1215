"""Compares bf16 with fp32 on the shapes of a network.

On a CPU, the test runs in a child process, because a faulty kernel can crash it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.convolution import convolve
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Conv2d, Layers, Linear, Residual, Shape, Shortcut, inside_shortcut, shape_after

MAX_ERROR = 0.02
PACKAGE = Path(__file__).parents[1]
# The child finds the same fathomlab as this process, after everything else. No file in the working directory replaces a module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.engine.selftest import main; main()"


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution of a network.

    Attributes:
        name: Name of the layer.
        kind: `linear` or `convolution`.
        in_size: Input features or channels.
        out_size: Output features or channels.
        kernel_size: 1 for matrix products.
        stride: 1 for matrix products.
        shape: Input shape of one image.
    """

    name: str
    kind: str
    in_size: int
    out_size: int
    kernel_size: int
    stride: int
    shape: Shape

    @property
    def layer(self) -> Linear | Conv2d:
        """The layer."""
        if self.kind == "linear":
            return Linear(self.name, self.in_size, self.out_size)
        return Conv2d(self.name, self.in_size, self.out_size, self.kernel_size, self.stride)


@dataclass(frozen=True)
class SelfTest:
    """Result of the comparison of bf16 with fp32.

    Attributes:
        max_relative_error: Largest relative difference of an output or gradient of any layer; about 0.004 if bf16 works.
        worst_layer: The layer with this difference, or the layer on which the test ended.
        speedup: Time of all layers in fp32 divided by their time in bf16, forward and backward.
        exit_reason: How the child process ended if it did not finish; otherwise empty.
    """

    max_relative_error: float
    worst_layer: str
    speedup: float
    exit_reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether bf16 gives correct results."""
        return not self.exit_reason and self.max_relative_error <= MAX_ERROR


def bf16_self_test(architecture: Architecture, batch: int, device: torch.device) -> SelfTest:
    """Run each product of the network forward and backward in bf16 and in fp32, and compare.

    On some releases and processors, bf16 convolutions on CPUs return wrong values for some shapes, such as a stride above 1 with
    an output of width 1. On others they are slower than fp32 or crash the process. The result is cached.
    """
    products = tuple(distinct_products(architecture))
    return _compare_in_child(products, batch) if device.type == "cpu" else _compare_in_process(products, batch, device)


def distinct_products(architecture: Architecture) -> Iterator[Product]:
    """Yield the products that differ in kind or shape, in the order of the forward pass, named by their first layer."""
    seen: set[tuple[object, ...]] = set()
    for product in _products(architecture.layers, architecture.shape):
        key = astuple(product)[1:]
        if key not in seen:
            seen.add(key)
            yield product


def _products(layers: Layers, shape: Shape) -> Iterator[Product]:
    for layer in layers:
        if isinstance(layer, Residual | Shortcut):
            yield from _products(layer.branch, shape)
            yield from _products(inside_shortcut(layer), shape)
        elif isinstance(layer, Linear):
            yield Product(layer.name, "linear", layer.in_features, layer.out_features, 1, 1, shape)
        elif isinstance(layer, Conv2d):
            channels = (layer.in_channels, layer.out_channels)
            yield Product(layer.name, "convolution", *channels, layer.kernel_size, layer.stride, shape)
        shape = shape_after((layer,), shape)


@lru_cache(maxsize=64)
def _compare_in_child(products: tuple[Product, ...], batch: int) -> SelfTest:
    """Compare in a child process. If it crashes, training would crash, too."""
    job = {"products": [asdict(product) for product in products], "batch": batch}
    result = subprocess.run(
        [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
        input=json.dumps(job).encode(),
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        check=False,
    )
    last_line = (result.stdout.decode(errors="replace").splitlines() or [""])[-1]
    if result.returncode == 0:
        return SelfTest(**json.loads(last_line))
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    message = f": {lines[-1][:200]}" if lines else ""
    return SelfTest(float("inf"), last_line or products[0].name, 0.0, _exit_reason(result.returncode) + message)


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Compare the products of the job on standard input.

    Prints the name of each product before it runs, and the result at the end.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    job = json.loads(sys.stdin.read())
    products = tuple(Product(**{**fields, "shape": tuple(fields["shape"])}) for fields in job["products"])
    test = compare(products, job["batch"], torch.device("cpu"), announce=True)
    print(json.dumps(asdict(test)), flush=True)


@lru_cache(maxsize=64)
def _compare_in_process(products: tuple[Product, ...], batch: int, device: torch.device) -> SelfTest:
    return compare(products, batch, device)


def compare(products: tuple[Product, ...], batch: int, device: torch.device, announce: bool = False) -> SelfTest:
    """Compare the products in this process. `announce` prints the name of each product before it runs."""
    max_error, worst_layer = 0.0, ""
    seconds = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for product in products:
        if announce:
            print(product.name, flush=True)
        layer = product.layer
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *product.shape, generator=generator).to(device)
        weight = torch.randn(layer.parameters()[0].shape, generator=generator).to(device)
        results = {}
        for dtype in seconds:
            inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
            _forward_backward(layer, inputs)
            started = time.perf_counter()
            results[dtype] = _forward_backward(layer, inputs)
            seconds[dtype] += time.perf_counter() - started
        for actual, expected in zip(results[torch.bfloat16], results[torch.float32], strict=True):
            difference = float((actual.float() - expected).norm() / expected.norm())
            if not difference <= max_error:  # also true for NaN
                max_error, worst_layer = difference, product.name
    return SelfTest(max_error, worst_layer, seconds[torch.float32] / seconds[torch.bfloat16])


def _forward_backward(layer: Linear | Conv2d, inputs: list[Tensor]) -> list[Tensor]:
    x, weight = inputs
    if isinstance(layer, Linear):
        out = F.linear(x, weight)
    else:
        out = convolve(layer, x.contiguous(memory_format=torch.channels_last), weight, 1)
    return [out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out))]
