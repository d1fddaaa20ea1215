"""The yardsticks of a machine: products of 2048 x 2048 matrices, and a stream through memory."""

from collections.abc import Callable

import torch

from benchmarks.setting import Setting

SIDE = 2048
FLOPS = 2.0 * SIDE**3
LENGTH = 2**25
STREAM_BYTES = 3.0 * 4 * LENGTH  # two vectors are read, one is written


def prepare_matmul(setting: Setting, replicas: int, dtype: torch.dtype = torch.float32) -> Callable[[int], None]:
    """Return a function that multiplies two matrices some times."""
    assert replicas == 1
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty(SIDE, SIDE, dtype=dtype)

    def go(count: int) -> None:
        for _ in range(count):
            torch.matmul(left, right, out=out)

    return go


def prepare_matmul_bf16(setting: Setting, replicas: int) -> Callable[[int], None]:
    """The same in bf16."""
    return prepare_matmul(setting, replicas, torch.bfloat16)


def prepare_stream(setting: Setting, replicas: int) -> Callable[[int], None]:
    """Return a function that computes a = b + 3 c some times, with vectors of 128 MiB: the triad of the STREAM benchmark."""
    assert replicas == 1
    a, b, c = (torch.full((LENGTH,), float(number)) for number in range(3))

    def go(count: int) -> None:
        for _ in range(count):
            torch.add(b, c, alpha=3.0, out=a)

    return go
