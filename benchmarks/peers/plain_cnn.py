"""A plain in-memory PyTorch loop over the convolutional net: torch.nn modules, one permutation an epoch, fused Adam."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.peers.plain import steps
from benchmarks.setting import BATCH, ConvCell
from fathomlab.data import DATASETS
from fathomlab.engine.initializers import init_params


def network(cell: ConvCell, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """The cell's network out of torch's own modules, with fathomlab's initial values of `seed`."""
    width = cell.width
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)).to(dtype)
    with torch.no_grad():
        for own, value in zip(made.parameters(), init_params(cell.architecture(), seed).values(), strict=True):
            own.copy_(value)
    return made.train()


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


def curve(cell: ConvCell, seed: int, order: torch.Tensor, layout: torch.memory_format | None = None) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    inputs, labels = _data(cell, torch.float64)
    layout = layout or torch.contiguous_format
    net = _laid_out(network(cell, seed, torch.float64), layout)
    batches = ((inputs[row].contiguous(memory_format=layout), labels[row]) for row in order)
    return [float(loss) for loss in steps(net, batches)]


def curve_channels_last(cell: ConvCell, seed: int, order: torch.Tensor) -> list[float]:
    """The same, channels-last."""
    return curve(cell, seed, order, torch.channels_last)


def prepare(cell: ConvCell, replicas: int, layout: torch.memory_format | None = None) -> Callable[[int], None]:
    """A function that trains one network for some steps; `replicas` must be 1."""
    assert replicas == 1
    inputs, labels = _data(cell, torch.float32)
    layout = layout or torch.contiguous_format

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            order = torch.randperm(len(inputs))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                yield inputs[rows].contiguous(memory_format=layout), labels[rows]

    running = steps(_laid_out(network(cell, 0), layout), batches())

    def go(count: int) -> None:
        for _ in range(count):
            next(running)

    return go


def prepare_channels_last(cell: ConvCell, replicas: int) -> Callable[[int], None]:
    """The same, channels-last."""
    return prepare(cell, replicas, torch.channels_last)
