"""A plain in-memory PyTorch loop over the convolutional net: torch.nn modules, one permutation per epoch, fused Adam."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.peers.plain import runner, shuffled, steps
from benchmarks.setting import ConvCell
from fathomlab.data import DATASETS
from fathomlab.engine.initializers import init_params


def network(cell: ConvCell, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Build the cell's network from torch's modules, with fathomlab's initial values of `seed`."""
    width = cell.width
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)).to(dtype)
    with torch.no_grad():
        for param, value in zip(net.parameters(), init_params(cell.architecture(), seed).values(), strict=True):
            param.copy_(value)
    return net.train()


def _data(cell: ConvCell, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized images and labels."""
    pixels, labels = (torch.from_numpy(array) for array in cell.images())
    info = DATASETS[cell.data].info
    mean, deviation = (torch.tensor(numbers, dtype=dtype).view(-1, 1, 1) for numbers in (info.mean, info.std))
    return pixels.to(dtype).sub_(255 * mean).div_(255 * deviation), labels


def _laid_out(net: nn.Sequential, layout: torch.memory_format) -> nn.Sequential:
    """The network with its kernels in a memory format."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return net


class _Autocast(nn.Module):
    """A network whose products are computed in bf16."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(inputs).float()


def _training(
    cell: ConvCell,
    seed: int,
    dtype: torch.dtype,
    layout: torch.memory_format,
    bf16: bool = False,
    compiled: bool = False,
    order: torch.Tensor | None = None,
) -> Iterator[torch.Tensor]:
    """Train on the images of each row of `order`, or forever in random order; yields the loss."""
    inputs, labels = _data(cell, dtype)
    net: nn.Module = _laid_out(network(cell, seed, dtype), layout)
    batches = shuffled(inputs, labels) if order is None else ((inputs[row], labels[row]) for row in order)
    laid_out = ((images.contiguous(memory_format=layout), classes) for images, classes in batches)
    return steps(_Autocast(net) if bf16 else net, laid_out, compiled)


def _curve(cell: ConvCell, seed: int, order: torch.Tensor, layout: torch.memory_format, **options: Any) -> list[float]:
    dtype = torch.float32 if options.get("bf16") else torch.float64
    return [float(loss) for loss in _training(cell, seed, dtype, layout, order=order, **options)]


def curve(cell: ConvCell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    return _curve(cell, seed, order, torch.contiguous_format)


def curve_channels_last(cell: ConvCell, seed: int, order: torch.Tensor) -> list[float]:
    """The same, channels-last."""
    return _curve(cell, seed, order, torch.channels_last)


def curve_bf16(cell: ConvCell, seed: int, order: torch.Tensor) -> list[float]:
    """Channels-last, with products in bf16."""
    return _curve(cell, seed, order, torch.channels_last, bf16=True)


def curve_compiled(cell: ConvCell, seed: int, order: torch.Tensor) -> list[float]:
    """Channels-last, compiled."""
    return _curve(cell, seed, order, torch.channels_last, compiled=True)


def prepare(cell: ConvCell, replicas: int) -> Callable[[int], None]:
    """Return a function that trains one network for some steps; `replicas` must be 1."""
    assert replicas == 1
    return runner(_training(cell, 0, torch.float32, torch.contiguous_format))


def prepare_channels_last(cell: ConvCell, replicas: int) -> Callable[[int], None]:
    """The same, channels-last."""
    return runner(_training(cell, 0, torch.float32, torch.channels_last))


def prepare_bf16(cell: ConvCell, replicas: int) -> Callable[[int], None]:
    """Channels-last, with products in bf16 (autocast)."""
    return runner(_training(cell, 0, torch.float32, torch.channels_last, bf16=True))


def prepare_compiled(cell: ConvCell, replicas: int) -> Callable[[int], None]:
    """Channels-last, compiled."""
    return runner(_training(cell, 0, torch.float32, torch.channels_last, compiled=True))
