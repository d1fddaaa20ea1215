"""Convolutions as products equal those of torch, and the rule that chooses them reads only shapes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathomlab.engine import convolution
from fathomlab.engine.convolution import Products, choose_products, convolve
from fathomlab.models.layers import Conv2d

LAYERS = st.builds(
    Conv2d,
    name=st.just("c"),
    in_channels=st.integers(1, 5),
    out_channels=st.integers(1, 5),
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 4),
)
ALL = Products(True, True, True)
NONE = Products(False, False, False)


def tensors(
    layer: Conv2d, size: tuple[int, int], images: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Maps and kernels with channels first in memory."""
    generator = torch.Generator().manual_seed(0)
    shape = layer.out_channels, layer.in_channels, layer.kernel_size, layer.kernel_size
    x = torch.randn(images, layer.in_channels, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()


def check(result: Tensor, expected: Tensor, inputs: tuple[Tensor, Tensor]) -> None:
    """Compare the outputs and both gradients, the latter for a gradient of the output that varies."""
    slope = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view(expected.shape)
    pairs = [(result, expected)]
    pairs += zip(torch.autograd.grad(result, inputs, slope), torch.autograd.grad(expected, inputs, slope), strict=True)
    for actual, reference in pairs:
        assert actual.dtype == reference.dtype
        torch.testing.assert_close(actual, reference, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=200)
@given(
    layer=LAYERS,
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    images=st.integers(1, 3),
    ways=st.builds(Products, st.booleans(), st.booleans(), st.booleans()),
    last=st.booleans(),
)
def test_convolution_equals_torch(
    layer: Conv2d, size: tuple[int, int], images: int, ways: Products, last: bool
) -> None:
    """For any mixture of products and convolutions, and inputs in both layouts."""
    x, weight = tensors(layer, size, images)
    expected = F.conv2d(x, weight, None, layer.stride, layer.kernel_size // 2)
    maps, kernels = (
        (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight)) if last else (x, weight)
    )
    check(convolution.Convolution.apply(maps, kernels, layer.stride, ways), expected, (x, weight))


def test_gradient_of_a_mean_is_read_correctly() -> None:
    """Global average pooling returns a gradient that is expanded, not stored."""
    x, weight = tensors(Conv2d("c", 3, 4, 3), (2, 2), 2)
    results = [convolution.Convolution.apply(x, weight, 1, ways).mean((2, 3)).square().sum() for ways in (ALL, NONE)]
    for actual, expected in zip(*(torch.autograd.grad(result, (x, weight)) for result in results), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_only_needed_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images need none."""
    monkeypatch.setattr(convolution, "inputs_product", lambda *_: pytest.fail("computed"))
    x, weight = tensors(Conv2d("c", 3, 4, 3), (2, 2), 2)
    convolution.Convolution.apply(x.detach(), weight, 1, ALL).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("images", "channels", "size", "kernel", "stride", "single", "half"),
    [
        (128, (512, 512), 2, 3, 1, ALL, ALL),
        (128, (256, 512), 4, 3, 2, ALL, ALL),
        (128, (64, 64), 2, 3, 1, ALL, Products(False, False, True)),
        (32, (64, 64), 2, 3, 1, NONE, NONE),
        (32, (128, 128), 2, 3, 1, ALL, Products(False, False, True)),
        (128, (256, 256), 4, 3, 1, Products(False, False, True), Products(False, False, True)),
        (128, (128, 256), 8, 3, 2, Products(False, False, True), Products(False, False, True)),
        (128, (128, 128), 4, 3, 1, NONE, NONE),
        (128, (512, 512), 8, 3, 1, NONE, NONE),
        (2, (4, 4), 1, 3, 1, ALL, ALL),
        (2, (4, 4), 8, 1, 2, ALL, ALL),
        (128, (512, 512), 4, 1, 1, NONE, NONE),
        (2, (4, 4), 2, 1, 1, ALL, ALL),
    ],
)
def test_choose_products_follows_the_shape(
    images: int, channels: tuple[int, int], size: int, kernel: int, stride: int, single: Products, half: Products
) -> None:
    x, kernels = (images, channels[0], size, size), (channels[1], channels[0], kernel, kernel)
    assert choose_products(x, kernels, stride, half=False) == single
    assert choose_products(x, kernels, stride, half=True) == half


def calls(monkeypatch: pytest.MonkeyPatch, layer: Conv2d, replicas: int, size: int = 2) -> int:
    """The number of convolutions of this module in one call of `convolve`, which must equal torch."""
    counted: list[int] = []
    apply = convolution.Convolution.apply
    monkeypatch.setattr(convolution.Convolution, "apply", lambda *args: counted.append(1) or apply(*args))
    x, weight = tensors(layer, (size, size), 2)
    maps, kernels = x.repeat(1, replicas, 1, 1), weight.repeat(replicas, 1, 1, 1)
    result = convolve(layer, maps, kernels, replicas)
    check(result, F.conv2d(maps, kernels, None, layer.stride, layer.kernel_size // 2, 1, replicas), (x, weight))
    monkeypatch.undo()
    return len(counted)


def test_convolve_uses_products_for_single_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replicas of a pack that is one program are groups of one convolution."""
    assert calls(monkeypatch, Conv2d("c", 3, 4, 3), 1, size=1) == 1
    assert calls(monkeypatch, Conv2d("c", 3, 4, 3), 3, size=1) == 0
    assert calls(monkeypatch, Conv2d("c", 3, 4, 3), 1) == 0
    assert calls(monkeypatch, Conv2d("c", 3, 4, 1, 2), 1) == 1


@pytest.mark.parametrize("size", [1, 4])
def test_products_obey_autocast(size: int) -> None:
    """As torch's convolution does: the output is bf16, and the gradients are float32."""
    layer = Conv2d("c", 64, 96, 1, 2)
    x, weight = tensors(layer, (size, size), 8, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = convolve(layer, x, weight, 1)
        expected = F.conv2d(x, weight, None, 2)
    assert type(result.grad_fn).__name__ == "ConvolutionBackward"
    assert convolve(layer, x, weight, 1).dtype == torch.float32
    values: list[Any] = []
    for output in (result, expected):
        assert output.dtype == torch.bfloat16
        gradients = torch.autograd.grad(output.float().square().sum(), (x, weight))
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        values.append([output.detach().float(), *gradients])
    for actual, reference in zip(*values, strict=True):
        assert float((actual - reference).norm() / reference.norm()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_reproducible(dtype: torch.dtype) -> None:
    """Two calls have the same bits, and the layout is that of torch."""
    x, weight = tensors(Conv2d("c", 64, 64, 3), (2, 2), 16, dtype)
    slope = torch.ones(16, 64, 2, 2, dtype=dtype)
    runs = []
    for _ in range(2):
        out = convolution.Convolution.apply(x, weight, 1, ALL)
        assert out.is_contiguous(memory_format=torch.channels_last)
        gradients = torch.autograd.grad(out, (x, weight), slope)
        assert all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in gradients)
        runs.append([out, *gradients])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
