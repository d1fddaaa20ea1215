"""fathomlab: a pack of replicas in the product's own training loop."""

from collections.abc import Callable

import torch

from benchmarks.setting import BATCH, RATE, Setting
from fathomlab.data import DATASETS
from fathomlab.data.table import DatasetArrays
from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.device_data import to_device
from fathomlab.engine.loop import train
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.precision_choice import choose_precision
from fathomlab.engine.step import step_inputs, train_steps
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import Constant
from fathomlab.plan.recipe import Recipe

CPU = torch.device("cpu")


def _training(setting: Setting, replicas: int, precision: str) -> PackTrainer:
    pixels, labels = setting.images()
    split = DatasetArrays(pixels, labels, pixels[:BATCH], labels[:BATCH], {}, (), ())
    architecture = setting.architecture()
    chosen = choose_precision(precision, architecture, BATCH, CPU)
    recipes = [
        Recipe(
            seed=seed,
            architecture=architecture,
            optimizer=Adam(),
            schedule=Constant(),
            epochs=1000,
            batch_size=BATCH,
            lr=RATE,
            precision=chosen,
            loss=CrossEntropy(),
            gradient_clip=None,
            augment=(),
            validation_split=1.0,
            limit=None,
            data="",
        )
        for seed in range(replicas)
    ]
    data = to_device(split, DATASETS[setting.data].info, CPU, param_dtype(precision))
    index = torch.arange(len(labels)).expand(replicas, -1)
    return PackTrainer(recipes, data, index, index[:, :BATCH], CPU)


def curve(setting: Setting, seed: int, order: torch.Tensor, precision: str = "fp64") -> list[float]:
    """Losses on the images of each row of `order`, of the last replica of a pack of seed + 1."""
    training = _training(setting, seed + 1, precision)
    losses = []
    for place, row in enumerate(order):
        inputs = step_inputs(training, row.expand(seed + 1, -1), 0, place, training.keys("dropout"))
        train_steps(training, [inputs])
        losses.append(float(training.state.epoch_sums[0, seed]) / len(row))
        training.state.epoch_sums.zero_()
    return losses


def curve_bf16(setting: Setting, seed: int, order: torch.Tensor) -> list[float]:
    """The same with products in bf16."""
    return curve(setting, seed, order, "bf16")


def prepare(
    setting: Setting, replicas: int, backend: str = "reference", precision: str = "fp32"
) -> Callable[[int], None]:
    """A function that trains a pack for some steps."""
    training = _training(setting, replicas, precision)
    stops = frozenset(range(100_000))
    running = train(training, stops, BACKENDS[backend].prepare(training))
    next(running)

    def go(count: int) -> None:
        for _ in range(count):
            next(running)

    return go


def prepare_native(setting: Setting, replicas: int) -> Callable[[int], None]:
    """The same with the native backend, as the planner chooses it for MLPs."""
    return prepare(setting, replicas, "native")


def prepare_bf16(setting: Setting, replicas: int) -> Callable[[int], None]:
    """The same with products in bf16, which have passed the product's self-test on the network's own shapes."""
    return prepare(setting, replicas, precision="bf16")
