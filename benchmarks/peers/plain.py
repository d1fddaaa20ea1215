"""A plain in-memory PyTorch loop, also compiled: torch.nn modules, one permutation per epoch, fused Adam."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.peers import fathomlab_pack
from benchmarks.setting import BATCH, EVALUATED, RATE, Cell, images, normalized
from fathomlab.engine.initializers import init_params

EVALUATION_BATCH = 512
Batch = tuple[torch.Tensor, torch.Tensor]


def network(cell: Cell, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Build the cell's network from torch's modules, with fathomlab's initial values of `seed`."""
    layers: list[nn.Module] = []
    inputs = 784
    for _ in range(cell.depth + 1):
        layers += [nn.Linear(inputs, cell.width), nn.BatchNorm1d(cell.width), nn.ReLU()]
        inputs = cell.width
    net = nn.Sequential(*layers, nn.Linear(inputs, 10)).to(dtype)
    with torch.no_grad():
        for param, value in zip(net.parameters(), init_params(cell.architecture(), seed).values(), strict=True):
            param.copy_(value)
    return net.train()


def trained_networks(cell: Cell, replicas: int, dtype: torch.dtype = torch.float32) -> list[nn.Sequential]:
    """Build the networks of fathomlab's trained pack, in evaluation mode."""
    training = fathomlab_pack.trained(cell, replicas, "fp64" if dtype == torch.float64 else "fp32")
    networks = []
    for slot in range(replicas):
        net = network(cell, slot, dtype)
        params, buffers = fathomlab_pack.weights(training, slot)
        statistics = [buffer for name, buffer in net.named_buffers() if "num_batches" not in name]
        with torch.no_grad():
            for target, value in zip(
                [*net.parameters(), *statistics], [*params.values(), *buffers.values()], strict=True
            ):
                target.copy_(value)
        networks.append(net.eval())
    return networks


def steps(net: nn.Module, data: Iterator[Batch], compiled: bool = False) -> Iterator[torch.Tensor]:
    """Train on each batch; yields the loss. The compiled part is the forward and backward pass."""
    optimizer = torch.optim.Adam(net.parameters(), RATE, fused=True)

    def loss_of(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(net(inputs), labels)

    compute = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    for inputs, labels in data:
        loss = compute(inputs, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield loss.detach()


def shuffled(inputs: torch.Tensor, labels: torch.Tensor) -> Iterator[Batch]:
    """Yield batches in a new random order per epoch."""
    while True:
        order = torch.randperm(len(inputs))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield inputs[rows], labels[rows]


def runner(running: Iterator[object]) -> Callable[[int], None]:
    """Return a function that takes some items of an iterator."""

    def go(count: int) -> None:
        for _ in range(count):
            next(running)

    return go


def data(dtype: torch.dtype = torch.float32, count: int | None = None) -> Batch:
    """Normalized images and labels, the first `count` of them."""
    pixels, labels = (torch.from_numpy(array[:count]) for array in images())
    return normalized(pixels, dtype), labels


def curve(cell: Cell, seed: int, order: torch.Tensor, compiled: bool = False) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    inputs, labels = data(torch.float64)
    batches = ((inputs[row], labels[row]) for row in order)
    return [float(loss) for loss in steps(network(cell, seed, torch.float64), batches, compiled)]


def curve_compiled(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """The same, compiled."""
    return curve(cell, seed, order, compiled=True)


def prepare(cell: Cell, replicas: int, compiled: bool = False) -> Callable[[int], None]:
    """Return a function that trains one network for some steps; `replicas` must be 1."""
    assert replicas == 1
    return runner(steps(network(cell, 0), shuffled(*data()), compiled))


def prepare_compiled(cell: Cell, replicas: int) -> Callable[[int], None]:
    """The same, compiled."""
    return prepare(cell, replicas, compiled=True)


@torch.inference_mode()
def evaluate(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Loss and accuracy of a network in evaluation mode."""
    loss, correct = 0.0, 0.0
    for start in range(0, len(labels), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        outputs = net(inputs[rows])
        loss += nn.functional.cross_entropy(outputs, labels[rows], reduction="sum")
        correct += (outputs.argmax(1) == labels[rows]).sum()
    return float(loss) / len(labels), float(correct) / len(labels)


def metrics(cell: Cell, seed: int) -> list[float]:
    """Loss and accuracy of the network of `seed` in fathomlab's trained pack, in float64."""
    net = trained_networks(cell, seed + 1, torch.float64)[seed]
    return list(evaluate(net, *data(torch.float64, EVALUATED)))


def prepare_evaluation(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that evaluates one network some times; `replicas` must be 1."""
    assert replicas == 1
    (net,) = trained_networks(cell, 1)
    inputs, labels = data(count=EVALUATED)

    def go(count: int) -> None:
        for _ in range(count):
            evaluate(net, inputs, labels)

    return go
