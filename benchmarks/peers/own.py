"""fathomlab: a pack of replicas in the product's own training loop."""

from collections.abc import Callable

import torch

from benchmarks.setting import BATCH, RATE, Cell, images
from fathomlab.data import DATASETS
from fathomlab.data.table import Split
from fathomlab.engine.images import pictures
from fathomlab.engine.loop import train
from fathomlab.engine.optim import Adam
from fathomlab.engine.recipe import Recipe
from fathomlab.engine.schedules import Constant
from fathomlab.engine.step import SUMS, step
from fathomlab.engine.training import Training


def _training(cell: Cell, replicas: int, precision: str, compiled: bool = False) -> Training:
    pixels, labels = images()
    split = Split(pixels, labels, pixels[:BATCH], labels[:BATCH], {}, (), ())
    recipes = [
        Recipe(
            seed, cell.architecture(), Adam(), Constant(), 1000, BATCH, RATE, precision, 0.0, None, (), 1.0, None, ""
        )
        for seed in range(replicas)
    ]
    dtype = torch.float64 if precision == "fp64" else torch.float32
    data = pictures(split, DATASETS["mnist"].facts, torch.device("cpu"), dtype)
    index = torch.arange(len(labels)).expand(replicas, -1)
    return Training(recipes, data, index, index[:, :BATCH], torch.device("cpu"), compiled=compiled)


def curve(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`, of the last replica of a pack of seed + 1."""
    training = _training(cell, seed + 1, "fp64")
    losses = []
    for place, row in enumerate(order):
        sums = torch.zeros(SUMS, seed + 1, dtype=torch.float64)
        step(training, row.expand(seed + 1, -1), 0, place, training.keys("dropout"), sums)
        losses.append(float(sums[0, seed]) / len(row))
    return losses


def prepare(cell: Cell, replicas: int, compiled: bool = False) -> Callable[[int], None]:
    """A function that trains a pack for some steps."""
    training = _training(cell, replicas, "fp32", compiled)
    stops = frozenset(range(100_000))
    running = train(training, stops)
    next(running)

    def go(count: int) -> None:
        for _ in range(count):
            next(running)

    return go


def prepare_compiled(cell: Cell, replicas: int) -> Callable[[int], None]:
    """The same with the step compiled, as the planner does where it pays back."""
    return prepare(cell, replicas, compiled=True)
