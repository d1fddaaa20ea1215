"""A plain in-memory PyTorch loop: torch.nn modules, one permutation an epoch, fused Adam."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.setting import BATCH, RATE, Cell, images, normalized
from fathomlab.engine.initializers import init_params


def network(cell: Cell, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """The cell's network out of torch's own modules, with fathomlab's initial values of `seed`."""
    layers: list[nn.Module] = []
    inputs = 784
    for _ in range(cell.depth + 1):
        layers += [nn.Linear(inputs, cell.width), nn.BatchNorm1d(cell.width), nn.ReLU()]
        inputs = cell.width
    made = nn.Sequential(*layers, nn.Linear(inputs, 10)).to(dtype)
    with torch.no_grad():
        for own, value in zip(made.parameters(), init_params(cell.architecture(), seed).values(), strict=True):
            own.copy_(value)
    return made.train()


def steps(net: nn.Module, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[torch.Tensor]:
    """Train on each batch; yields the loss."""
    optimizer = torch.optim.Adam(net.parameters(), RATE, fused=True)
    for inputs, labels in batches:
        loss = nn.functional.cross_entropy(net(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield loss.detach()


def curve(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    pixels, labels = (torch.from_numpy(array) for array in images())
    inputs = normalized(pixels, torch.float64)
    net = network(cell, seed, torch.float64)
    return [float(loss) for loss in steps(net, ((inputs[row], labels[row]) for row in order))]


def prepare(cell: Cell, replicas: int) -> Callable[[int], None]:
    """A function that trains one network for some steps; `replicas` must be 1."""
    assert replicas == 1
    pixels, labels = (torch.from_numpy(array) for array in images())
    inputs = normalized(pixels)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            order = torch.randperm(len(inputs))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                yield inputs[rows], labels[rows]

    running = steps(network(cell, 0), batches())

    def go(count: int) -> None:
        for _ in range(count):
            next(running)

    return go
