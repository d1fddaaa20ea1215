"""Convolutions as products against torch's convolutions: the measurements behind the rule of `engine/convolution.py`.

    python -m benchmarks.convolutions                     # the stages of 1-1-1-1, batch 128, 5 rounds, about 2 minutes
    python -m benchmarks.convolutions --widths 8 16 32 --batch 32 --precision bf16
    ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m benchmarks.convolutions

Milliseconds of CPU time with one thread, medians of interleaved rounds. A star is what the rule chooses.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.part import table
from fathomlab.engine import convolution
from fathomlab.engine.convolution import choose_products

MIN_SECONDS = 0.003
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DIRECTIONS = {"output": "output", "inputs": "gradient of the input", "kernels": "gradient of the kernels"}
STAGES = 4


@dataclass(frozen=True)
class Shape:
    """A convolution of square maps."""

    channels: int
    out_channels: int
    kernel_size: int
    stride: int
    size: int
    batch: int

    @property
    def name(self) -> str:
        """As the table prints it."""
        pixels = (self.size - 1) // self.stride + 1
        return f"{self.channels} to {self.out_channels}, {self.kernel_size}x{self.kernel_size}, {self.size} to {pixels} pixels"

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """A gradient of the output, an input, and kernels, with channels last."""
        x = torch.randn(self.batch, self.channels, self.size, self.size, dtype=dtype)
        kernels = torch.randn(self.out_channels, self.channels, self.kernel_size, self.kernel_size, dtype=dtype)
        x, kernels = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, kernels))
        return torch.randn_like(F.conv2d(x, kernels, None, self.stride, self.kernel_size // 2)), x, kernels


def stages(width: int, size: int, batch: int) -> Iterator[Shape]:
    """The convolutions of a CNN with shortcuts, whose first stage has `width` channels and maps of `size` x `size`."""
    yield Shape(width, width, 3, 1, size, batch)
    for _ in range(1, STAGES):
        yield Shape(width, 2 * width, 3, 2, size, batch)
        yield Shape(width, 2 * width, 1, 2, size, batch)
        width, size = 2 * width, (size - 1) // 2 + 1
        yield Shape(width, width, 3, 1, size, batch)


def ways(shape: Shape, dtype: torch.dtype) -> dict[tuple[str, str], Callable[[], Tensor]]:
    """Both ways to compute each direction."""
    (gradient, x, kernels), stride = shape.tensors(dtype), shape.stride
    return {
        ("output", "torch"): lambda: F.conv2d(x, kernels, None, stride, shape.kernel_size // 2),
        ("output", "product"): lambda: convolution.output_product(x, kernels, stride),
        ("inputs", "torch"): lambda: convolution.inputs_of_torch(gradient, x, kernels, stride),
        ("inputs", "product"): lambda: convolution.inputs_product(gradient, x, kernels, stride),
        ("kernels", "torch"): lambda: convolution.kernels_of_torch(gradient, x, kernels, stride),
        ("kernels", "product"): lambda: convolution.kernels_product(gradient, x, kernels, stride),
    }


def milliseconds(compute: Callable[[], Tensor]) -> float:
    """CPU time of one call."""
    calls, started, seconds = 0, time.process_time(), 0.0
    while seconds < MIN_SECONDS:
        compute()
        calls += 1
        seconds = time.process_time() - started
    return 1e3 * seconds / calls


def measure(shape: Shape, dtype: torch.dtype, rounds: int) -> dict[tuple[str, str], float]:
    """The median of each way over the rounds, after one that is not counted."""
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for way, compute in ways(shape, dtype).items():
            cost = milliseconds(compute)
            if number:
                times.setdefault(way, []).append(cost)
    return {way: median(costs) for way, costs in times.items()}


def row(shape: Shape, dtype: torch.dtype, costs: dict[tuple[str, str], float]) -> list[str]:
    """A line of the table: torch / product, with a star at the chosen one."""
    _, x, weight = shape.tensors(dtype)
    chosen = choose_products(x.shape, weight.shape, shape.stride, dtype == torch.bfloat16)
    cells = []
    for direction in DIRECTIONS:
        stars = ("", "*") if getattr(chosen, direction) else ("*", "")
        pair = (costs[direction, way] for way in ("torch", "product"))
        cells.append(" / ".join(f"{cost:.3f}{star}" for cost, star in zip(pair, stars, strict=True)))
    return [shape.name, *cells]


def main() -> None:
    """Print a table per width and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64], help="channels of the first stage")
    parser.add_argument("--size", type=int, default=16, help="height and width of the maps of the first stage")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=DTYPES, nargs="+", default=["fp32"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for precision in options.precision:
        for width in options.widths:
            print(f"{precision}, width {width}, batch {options.batch} (ms; convolution of torch / product):\n")
            shapes = stages(width, options.size, options.batch)
            dtype = DTYPES[precision]
            rows = [row(shape, dtype, measure(shape, dtype, options.rounds)) for shape in shapes]
            print("\n".join(table(["convolution", *DIRECTIONS.values()], rows)), "\n", flush=True)


if __name__ == "__main__":
    main()
