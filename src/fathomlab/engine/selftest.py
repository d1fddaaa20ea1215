"""Compares bf16 with fp32 on the shapes of a network, on a CPU in a child process that a faulty kernel may kill."""

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

from fathomlab.engine.network import convolve
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Conv2d, Layers, Linear, Residual, Shape, Shortcut, inside_shortcut, shape_after

MAX_ERROR = 0.02
PACKAGE = Path(__file__).parents[1]
# The child finds the same fathomlab as this process, after everything else. No file in the working directory replaces a module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.engine.selftest import main; main()"


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution of a network, with the shape of its input for one image."""

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    shape: Shape

    @property
    def layer(self) -> Linear | Conv2d:
        """The layer."""
        if self.kind == "linear":
            return Linear(self.name, self.inputs, self.outputs)
        return Conv2d(self.name, self.inputs, self.outputs, self.kernel, self.stride)


@dataclass(frozen=True)
class SelfTest:
    """How bf16 compares with fp32.

    Attributes:
        error: Largest relative difference of an output or gradient of any layer; about 0.004 if bf16 works.
        worst: The layer that has it, or the layer on which the test ended.
        speedup: Time of all layers in fp32 over their time in bf16, forward and backward.
        death: How the child process ended, if it did not finish.
    """

    error: float
    worst: str
    speedup: float
    death: str = ""

    @property
    def passed(self) -> bool:
        """Whether bf16 computes what it should."""
        return not self.death and self.error <= MAX_ERROR


def bf16_self_test(architecture: Architecture, batch: int, device: torch.device) -> SelfTest:
    """Run each product of the network forward and backward in bf16 and in fp32, and compare.

    bf16 convolutions on CPUs have returned wrong values for some shapes (a stride above 1 with an output of width 1), have been
    slower than fp32, and have ended the process, depending on release and processor. The result is cached.
    """
    products = tuple(distinct_products(architecture))
    return _measured_in_child(products, batch) if device.type == "cpu" else _measured_here(products, batch, device)


def distinct_products(architecture: Architecture) -> Iterator[Product]:
    """The products that differ in kind or shape, in the order of the data, each with the name of its first layer."""
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
            yield Product(layer.name, "linear", layer.inputs, layer.outputs, 1, 1, shape)
        elif isinstance(layer, Conv2d):
            yield Product(layer.name, "convolution", layer.inputs, layer.outputs, layer.kernel, layer.stride, shape)
        shape = shape_after((layer,), shape)


@lru_cache(maxsize=64)
def _measured_in_child(products: tuple[Product, ...], batch: int) -> SelfTest:
    """Compare in a child process. If it dies, so would training."""
    job = {"products": [asdict(product) for product in products], "batch": batch}
    result = subprocess.run(
        [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
        input=json.dumps(job).encode(),
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        check=False,
    )
    last = (result.stdout.decode(errors="replace").splitlines() or [""])[-1]
    if result.returncode == 0:
        return SelfTest(**json.loads(last))
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    message = f": {lines[-1][:200]}" if lines else ""
    return SelfTest(float("inf"), last or products[0].name, 0.0, _ending(result.returncode) + message)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Compare what standard input describes. Print the name of each product before it runs, and the result at the end."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    job = json.loads(sys.stdin.read())
    products = tuple(Product(**{**fields, "shape": tuple(fields["shape"])}) for fields in job["products"])
    test = compare(products, job["batch"], torch.device("cpu"), announce=True)
    print(json.dumps(asdict(test)), flush=True)


@lru_cache(maxsize=64)
def _measured_here(products: tuple[Product, ...], batch: int, device: torch.device) -> SelfTest:
    return compare(products, batch, device)


def compare(products: tuple[Product, ...], batch: int, device: torch.device, announce: bool = False) -> SelfTest:
    """Compare in this process."""
    error, worst = 0.0, ""
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
        for rounded, exact in zip(results[torch.bfloat16], results[torch.float32], strict=True):
            difference = float((rounded.float() - exact).norm() / exact.norm())
            if not difference <= error:
                error, worst = difference, product.name
    return SelfTest(error, worst, seconds[torch.float32] / seconds[torch.bfloat16])


def _forward_backward(layer: Linear | Conv2d, inputs: list[Tensor]) -> list[Tensor]:
    x, weight = inputs
    if isinstance(layer, Linear):
        out = F.linear(x, weight)
    else:
        out = convolve(layer, x.contiguous(memory_format=torch.channels_last), weight, 1)
    slope = torch.ones_like(out)
    return [out.detach(), *torch.autograd.grad(out, inputs, slope)]
