"""torch.func: stacked modules and `vmap` of `functional_call` and `grad`, as its documentation ensembles models; fused Adam.

It composes with `torch.compile`, so both are measured.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks.peers.plain import EVALUATION_BATCH, Batch, data, network, trained_networks
from benchmarks.setting import BATCH, EVALUATED, RATE, Cell

TrainingStep = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def training_step(
    cell: Cell, replicas: int, dtype: torch.dtype = torch.float32, compiled: bool = False
) -> TrainingStep:
    """Return a step that trains stacked networks on inputs (k, n, 784) and labels (k, n), and returns their losses (k,)."""
    networks = [network(cell, seed, dtype) for seed in range(replicas)]
    params, buffers = stack_module_state(networks)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(params.values(), RATE, fused=True)

    def loss_of(params: Any, buffers: Any, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(networks[0], (params, buffers), (inputs,))
        return nn.functional.cross_entropy(outputs, labels)

    compute = vmap(grad_and_value(loss_of))
    if compiled:
        compute = torch.compile(compute, dynamic=False)

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            gradients, losses = compute(params, buffers, inputs, labels)
        for name, param in params.items():
            param.grad = gradients[name]
        optimizer.step()
        return losses

    return step


def curve(cell: Cell, seed: int, order: torch.Tensor, compiled: bool = False) -> list[float]:
    """Losses in float64 on the images of each row of `order`, of the last network of seed + 1."""
    inputs, labels = data(torch.float64)
    step = training_step(cell, seed + 1, torch.float64, compiled)
    rows = (row.expand(seed + 1, -1) for row in order)
    return [float(step(inputs[row], labels[row])[seed]) for row in rows]


def curve_compiled(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """The same, compiled."""
    return curve(cell, seed, order, compiled=True)


def prepare(cell: Cell, replicas: int, compiled: bool = False) -> Callable[[int], None]:
    """Return a function that trains `replicas` networks together for some steps."""
    inputs, labels = data()
    step = training_step(cell, replicas, compiled=compiled)
    generator = torch.Generator().manual_seed(0)

    def go(count: int) -> None:
        for _ in range(count):
            rows = torch.randint(len(labels), (replicas, BATCH), generator=generator)
            step(inputs[rows], labels[rows])

    return go


def prepare_compiled(cell: Cell, replicas: int) -> Callable[[int], None]:
    """The same, compiled."""
    return prepare(cell, replicas, compiled=True)


def evaluation(cell: Cell, replicas: int, dtype: torch.dtype = torch.float32) -> Callable[[Batch], torch.Tensor]:
    """Return a function that computes losses and accuracies of stacked networks, (2, k)."""
    networks = trained_networks(cell, replicas, dtype)
    params, buffers = stack_module_state(networks)  # type: ignore[arg-type]

    def sums(params: Any, buffers: Any, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(networks[0], (params, buffers), (inputs,))
        loss = nn.functional.cross_entropy(outputs, labels, reduction="sum")
        return torch.stack([loss, (outputs.argmax(1) == labels).sum().to(loss.dtype)])

    compute = vmap(sums, in_dims=(0, 0, None, None), out_dims=1)

    @torch.no_grad()
    def evaluate(batch: Batch) -> torch.Tensor:
        inputs, labels = batch
        total = torch.zeros(2, replicas, dtype=dtype)
        for start in range(0, len(labels), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            total += compute(params, buffers, inputs[rows], labels[rows])
        return total / len(labels)

    return evaluate


def metrics(cell: Cell, seed: int) -> list[float]:
    """Loss and accuracy of the network of `seed` in fathomlab's trained pack, in float64."""
    return evaluation(cell, seed + 1, torch.float64)(data(torch.float64, EVALUATED))[:, seed].tolist()


def prepare_evaluation(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that evaluates `replicas` networks some times."""
    evaluate, batch = evaluation(cell, replicas), data(count=EVALUATED)

    def go(count: int) -> None:
        for _ in range(count):
            evaluate(batch)

    return go
