"""Training steps on a CUDA device: packs of the MLPs of experiment 1.1, and CNNs in parallel streams.

    python -m benchmarks.gpu                              # both, about 2 minutes
    python -m benchmarks.gpu --seeds 16 --steps 50 cnn

Milliseconds per step of a pack and the rate of its products, next to the rate of a large product in the same run. Warm-up and
capture of the graph are not included.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.part import table
from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.backends.graph import WARMUP_STEPS
from fathomlab.engine.random_pack import plain_recipe, random_pack
from fathomlab.engine.step import step_inputs
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.prepare.cost import should_separate_replicas

BATCH, IMAGES = 128, 2048
STAGES = ((1, 1, 1, 1), (2, 2, 2, 2), (3, 4, 6, 3), (5, 6, 8, 5))
SIDE = 8192  # of the large product


@dataclass(frozen=True)
class Case:
    """A pack whose steps are timed."""

    name: str
    architecture: Architecture
    precision: str
    replicas: int
    backend: str = "graph"

    @property
    def step_flops(self) -> float:
        """Products of one step of the pack: 6 per multiply-accumulate and image."""
        return 6.0 * self.architecture.macs * BATCH * self.replicas


def mlps(seeds: int) -> Iterator[Case]:
    """The cells of experiment 1.1."""
    for width in (32, 64, 128):
        for depth in (10, 20, 40):
            network = MLP(layers_dim=width, hidden_layers_num=depth, batch_norm=True).build((1, 28, 28))
            yield Case(f"MLP w{width} d{depth}", network, "fp32", seeds)


def cnns(seeds: int) -> Iterator[Case]:
    """The depths of experiment 1.3 with shortcuts, alone and in parallel."""
    for stages in STAGES:
        network = CNN(layers=stages, residual=True).build((3, 32, 32))
        name = f"CNN {'-'.join(map(str, stages))}"
        yield Case(name, network, "bf16", 1, "reference")
        for replicas in (1, 4, 8):
            yield Case(name, network, "bf16", min(replicas, seeds))
        yield Case(name, network, "fp32", min(8, seeds))


PARTS = {"mlp": mlps, "cnn": cnns}


def pack(case: Case, device: torch.device) -> PackTrainer:
    """The pack before its first step, with random images."""
    recipes = [
        plain_recipe(case.architecture, seed=seed, batch_size=BATCH, precision=case.precision)
        for seed in range(case.replicas)
    ]
    return random_pack(recipes, IMAGES, device, should_separate_replicas(case.architecture))


def step_milliseconds(case: Case, device: torch.device, steps: int) -> float:
    """Time of one step of the pack, after those that warm up and capture."""
    training = pack(case, device)
    compute = BACKENDS[case.backend].prepare(training)
    keys = training.keys("dropout", 0)

    def run(count: int) -> None:
        for step in range(count):
            first = step % (IMAGES // BATCH) * BATCH
            compute(step_inputs(training, training.train_index[:, first : first + BATCH], 0, step, keys))
        synchronize(device)

    run(WARMUP_STEPS + 2)
    return 1e3 * seconds(lambda: run(steps)) / steps


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def product_rate(dtype: torch.dtype, device: torch.device, side: int) -> float:
    """Floating-point operations per second of a product of two matrices of random numbers."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def run(count: int) -> None:
        for _ in range(count):
            left @ right
        synchronize(device)

    run(3)
    return 2.0 * side**3 * 10 / seconds(lambda: run(10))


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--seeds", type=int, default=64, help="replicas of an MLP's pack; at most 8 of a CNN's")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", type=int, default=SIDE, help="rows of the large product")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    rows = []
    with deterministic_mode():
        peaks = {
            name: product_rate(dtype, device, args.side)
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        }
        for part in args.parts or PARTS:
            for case in PARTS[part](args.seeds):
                milliseconds = step_milliseconds(case, device, args.steps)
                rate = case.step_flops / milliseconds * 1e3
                pair = f"{milliseconds:.3g}", f"{milliseconds / case.replicas:.3g}"
                shares = f"{rate / 1e12:.3g}", f"{rate / peaks[case.precision]:.0%}"
                rows.append([case.name, case.precision, case.backend, str(case.replicas), *pair, *shares])
                print(*rows[-1], flush=True)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in peaks.items())
    print(f"\n{named}; torch {torch.__version__}; product of {args.side} x {args.side} matrices: {rates}\n")
    heads = ["network", "precision", "backend", "replicas", "ms per step", "per replica", "TFLOP/s", "of the product"]
    print("\n".join(table(heads, rows)))


if __name__ == "__main__":
    main()
