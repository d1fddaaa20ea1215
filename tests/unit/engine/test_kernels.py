"""Kernels that corrupt memory or compute wrong values on some machines are not used."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from fathomlab.engine.convolution import convolve
from fathomlab.models.layers import Conv2d

TRAINING = """
import sys, torch
from fathomlab.engine.state import _channels_last
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.models.resnet import CNN

torch.set_num_threads(1)
width, precision = int(sys.argv[1]), sys.argv[2]
for replicas in (1, 2):
    for size in (8, 32):
        architecture = CNN(width=width, layers=(1, 1, 1, 1), num_classes=3).build((3, size, size))
        network = PackedNetwork([architecture] * replicas)
        drawn = [init_params(architecture, seed) for seed in range(replicas)]
        values = {n: _channels_last(torch.stack([d[n] for d in drawn]).float()).requires_grad_() for n in drawn[0]}
        buffers = network.buffers(torch.float32, "cpu")
        for step in range(8):
            for batch in (1, 7, 64):
                images = torch.randn(replicas, batch, 3, size, size)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
                    logits = network(values, buffers, images, "train")
                gradients = torch.autograd.grad(logits.float().square().mean(), list(values.values()))
                assert all(torch.isfinite(gradient).all() for gradient in gradients)
print("finished")
"""


WIDTHS = [(2, "fp32"), (4, "fp32"), (7, "fp32"), (4, "bf16")]


@pytest.mark.parametrize(
    ("width", "precision"), [(1, "fp32"), *(pytest.param(*case, marks=pytest.mark.slow) for case in WIDTHS)]
)
def test_narrow_networks_leave_the_heap_intact(width: int, precision: str) -> None:
    """In a child process, because a corrupted heap ends it by a signal. glibc then checks and overwrites freed memory."""
    checks = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", TRAINING, str(width), precision],
        env=os.environ | checks,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"exit status {result.returncode}: {result.stderr[-1000:]}"
    assert result.stdout == "finished\n"


def check_strided_convolution(stride: int, size: tuple[int, int], channels: int, groups: int) -> None:
    """Compare result and both gradients of a 1x1 convolution in float64 with torch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, channels * groups, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5 * groups, channels, 1, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, None, stride, 0, 1, groups)
    maps = x.contiguous(memory_format=torch.channels_last)
    result = convolve(Conv2d("c", channels, 5, 1, stride), maps, weight, groups)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(result, (x, weight), slope), torch.autograd.grad(expected, (x, weight), slope), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_strided_convolution_equals_torch() -> None:
    """For strides, sizes, channels, and groups; torch with the channels first is correct."""
    for case in itertools.product((2, 3), ((1, 1), (2, 2), (5, 4), (9, 9)), (1, 4, 8, 32), (1, 3)):
        check_strided_convolution(*case)


@pytest.mark.parametrize(("replicas", "kind"), [(1, "ConvolutionBackward"), (2, "ConvolutionBackward0")])
def test_strided_convolutions_avoid_the_faulty_kernel(replicas: int, kind: str) -> None:
    """A single network multiplies; groups read subsampled maps with stride 1."""
    x = torch.randn(2, 3 * replicas, 6, 6, requires_grad=True)
    out = convolve(Conv2d("c", 3, 4, 1, 2), x, torch.randn(4 * replicas, 3, 1, 1), replicas)
    assert out.grad_fn is not None
    assert type(out.grad_fn).__name__ == kind
    source = out.grad_fn.next_functions[0][0]
    assert (type(source).__name__ == "SubsampleBackward") == (replicas > 1)
