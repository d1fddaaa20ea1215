"""Compares bf16 with fp32: each product of a network, and complete training steps.

On a CPU, the test runs in a child process, because a faulty kernel can crash it.
"""

import json
import os
import pickle
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
from fathomlab.engine.random_pack import plain_recipe, random_pack
from fathomlab.engine.step import forward_and_loss, step_inputs, train_steps
from fathomlab.engine.training import PackTrainer
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Conv2d, Layers, Linear, Residual, Shape, Shortcut, inside_shortcut, shape_after

MAX_ERROR = 0.02
MAX_LOSS_ERROR = 0.1
MAX_GRADIENT_RATIO = 1.5
PRECISIONS = ("fp32", "bf16")
STEP_MACS = 2e9  # of the images of a step, about 0.1 s in fp32; the steps of larger networks have fewer images
ROUNDS = 3  # of which the fastest counts
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
        max_relative_error: Largest relative difference of an output or gradient of any product; about 0.004 if bf16 works.
        worst_layer: The layer with this difference, or what the test ended on.
        loss_error: Relative difference of the loss of a step.
        gradient_ratio: Norm of all gradients of a step, the larger over the smaller one.
        speedup: CPU time of a step in fp32 divided by that in bf16.
        exit_reason: How the child process ended if it did not finish; otherwise empty.
    """

    max_relative_error: float
    worst_layer: str
    loss_error: float
    gradient_ratio: float
    speedup: float
    exit_reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether bf16 gives correct results."""
        return not self.failure

    @property
    def failure(self) -> str:
        """What is wrong, as the end of a sentence; `""` if nothing is."""
        if self.exit_reason:
            return f"ended on {self.worst_layer} ({self.exit_reason})"
        if not self.max_relative_error <= MAX_ERROR:  # also true for NaN
            return f"failed on {self.worst_layer} ({self.max_relative_error:.1%} error)"
        if not (self.loss_error <= MAX_LOSS_ERROR and self.gradient_ratio <= MAX_GRADIENT_RATIO):
            return f"failed on a training step (loss {self.loss_error:.1%}, gradients {self.gradient_ratio:.2f}x)"
        return ""


def bf16_self_test(architecture: Architecture, batch: int, device: torch.device) -> SelfTest:
    """Compare bf16 with fp32: each product of the network forward and backward, and training steps of one replica.

    On some releases and processors, bf16 convolutions on CPUs return wrong values for some shapes, such as a stride above 1 with
    an output of width 1. On others they are slower than fp32 or crash the process. Batch norm hides a wrong scale and deep plain
    networks amplify rounding, so values are compared product by product. Of a step, the loss and the norm of all gradients are
    compared. The result is cached.
    """
    if device.type == "cpu":
        return _compare_in_child(architecture, batch)
    return _compare_in_process(architecture, batch, device)


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
def _compare_in_child(architecture: Architecture, batch: int) -> SelfTest:
    """Compare in a child process. If it crashes, training would crash, too."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
        input=pickle.dumps((architecture, batch)),
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        check=False,
    )
    last_line = (result.stdout.decode(errors="replace").splitlines() or [""])[-1]
    if result.returncode == 0:
        return SelfTest(**json.loads(last_line))
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    message = f": {lines[-1][:200]}" if lines else ""
    infinite = float("inf")
    ended_on = last_line or "its start"
    return SelfTest(infinite, ended_on, infinite, infinite, 0.0, _exit_reason(result.returncode) + message)


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Compare for the network on standard input.

    Prints the name of each product before it runs, and the result at the end.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    architecture, batch = pickle.loads(sys.stdin.buffer.read())  # written by the parent
    test = compare(architecture, batch, torch.device("cpu"), announce=True)
    print(json.dumps(asdict(test)), flush=True)


@lru_cache(maxsize=64)
def _compare_in_process(architecture: Architecture, batch: int, device: torch.device) -> SelfTest:
    return compare(architecture, batch, device)


def compare(architecture: Architecture, batch: int, device: torch.device, announce: bool = False) -> SelfTest:
    """Compare in this process. `announce` prints the name of each product before it runs."""
    max_error, worst_layer = 0.0, ""
    for product in distinct_products(architecture):
        if announce:
            print(f"layer {product.name}", flush=True)
        difference = _product_error(product, batch, device)
        if not difference <= max_error:  # also true for NaN
            max_error, worst_layer = difference, f"layer {product.name}"
    if announce:
        print("a training step", flush=True)
    return SelfTest(max_error, worst_layer, *_compare_steps(architecture, batch, device))


def _product_error(product: Product, batch: int, device: torch.device) -> float:
    """The largest relative difference between bf16 and fp32 of the output and both gradients."""
    layer = product.layer
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *product.shape, generator=generator).to(device)
    weight = torch.randn(layer.parameters()[0].shape, generator=generator).to(device)
    half, full = (
        _forward_backward(layer, [tensor.to(dtype).requires_grad_() for tensor in (x, weight)])
        for dtype in (torch.bfloat16, torch.float32)
    )
    errors = [
        float((actual.float() - expected).norm() / expected.norm()) for actual, expected in zip(half, full, strict=True)
    ]
    return max(errors, key=lambda error: float("inf") if error != error else error)


def _compare_steps(architecture: Architecture, batch: int, device: torch.device) -> tuple[float, float, float]:
    """Relative difference of the loss, ratio of the norms of the gradients, and time in fp32 over time in bf16."""
    images = max(min(batch, 8), min(batch, int(STEP_MACS / architecture.macs)))
    recipes = [plain_recipe(architecture, batch_size=images, precision=precision) for precision in PRECISIONS]
    packs = [random_pack([recipe], images, device) for recipe in recipes]
    (full_loss, full_norm), (half_loss, half_norm) = (_loss_and_norm(pack) for pack in packs)
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for costs, pack in zip(times, packs, strict=True):
            costs.append(step_seconds(pack))
    speedup = min(times[0]) / min(times[1])
    norms = sorted((full_norm, half_norm))
    ratio = norms[1] / norms[0] if norms[0] else float("inf") if norms[1] else 1.0
    return abs(half_loss - full_loss) / full_loss, ratio, speedup


def _loss_and_norm(pack: PackTrainer) -> tuple[float, float]:
    """The loss of the batch, and the norm of all its gradients."""
    index = pack.train_index
    images, labels = pack.batch(index, None), pack.data.labels[index]
    _, losses = forward_and_loss(pack, images, labels, None, pack.keys("dropout", 0), "probe")
    gradients = torch.autograd.grad(losses.mean(), list(pack.state.params.values()))
    return float(losses.detach().mean()), float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def step_seconds(pack: PackTrainer) -> float:
    """Time of a step: of this process on a CPU, which other processes do not change."""
    clock = time.process_time if pack.device.type == "cpu" else time.perf_counter
    started = clock()
    train_steps(pack, [step_inputs(pack, pack.train_index, 0, 0, pack.keys("dropout", 0))])
    float(pack.state.epoch_sums[0, 0])  # wait for the device
    return clock() - started


def _forward_backward(layer: Linear | Conv2d, inputs: list[Tensor]) -> list[Tensor]:
    x, weight = inputs
    if isinstance(layer, Linear):
        out = F.linear(x, weight)
    else:
        out = convolve(layer, x.contiguous(memory_format=torch.channels_last), weight, 1)
    return [out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out))]
