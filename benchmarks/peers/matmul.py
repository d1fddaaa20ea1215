"""The yardstick: products of 2048 x 2048 matrices, one a step."""

from collections.abc import Callable

import torch

from benchmarks.setting import Setting

SIDE = 2048
FLOPS = 2.0 * SIDE**3


def prepare(setting: Setting, replicas: int, dtype: torch.dtype = torch.float32) -> Callable[[int], None]:
    """A function that multiplies two matrices some times."""
    assert replicas == 1
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty(SIDE, SIDE, dtype=dtype)

    def go(count: int) -> None:
        for _ in range(count):
            torch.matmul(left, right, out=out)

    return go


def prepare_bf16(setting: Setting, replicas: int) -> Callable[[int], None]:
    """The same in bf16."""
    return prepare(setting, replicas, torch.bfloat16)
