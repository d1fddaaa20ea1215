"""fathomlab: a pack in the product's training loop, with the backend that the product chooses."""

from collections.abc import Callable

import torch

from benchmarks.setting import BATCH, EVALUATED, RATE, Cell, Setting
from fathomlab.data import DATASETS
from fathomlab.data.table import DatasetArrays
from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.device_data import to_device
from fathomlab.engine.evaluation import evaluate
from fathomlab.engine.loop import train
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.precision_choice import choose_precision
from fathomlab.engine.random_pack import plain_recipe
from fathomlab.engine.step import step_inputs, step_keys, train_steps
from fathomlab.engine.step_inputs import Predicts, StepFunction
from fathomlab.engine.training import PackTrainer
from fathomlab.prepare.machine import describe_machine

CPU = torch.device("cpu")
STEPS_PER_STOP = 8
TRAINED_STEPS = 100  # fewer leave running statistics behind, and every image gets the same class


def pack(setting: Setting, replicas: int, precision: str) -> PackTrainer:
    """Return a pack with one network per seed, before its first step. Its test images are the first 10,000."""
    pixels, labels = setting.images()
    split = DatasetArrays(pixels, labels, pixels[:EVALUATED], labels[:EVALUATED], {}, (), ())
    architecture = setting.architecture()
    chosen = choose_precision(precision, architecture, BATCH, CPU)
    recipes = [
        plain_recipe(
            architecture,
            seed=seed,
            epochs=1000,
            batch_size=BATCH,
            lr=RATE,
            precision=chosen,
            validation_split=1.0,
            data="",
        )
        for seed in range(replicas)
    ]
    data = to_device(split, DATASETS[setting.data].info, CPU, param_dtype(precision))
    index = torch.arange(len(labels)).expand(replicas, -1)
    return PackTrainer(recipes, data, index, index[:, :BATCH], CPU)


def prepared(training: PackTrainer, backend: str = "") -> StepFunction:
    """Prepare a backend as the product does; by default the one that it chooses for the pack on this machine."""
    refuses = BACKENDS["native"].refuses(training.recipes, describe_machine("cpu"))
    name = backend or ("reference" if refuses else "native")
    step = BACKENDS[name].prepare(training)
    predictor: object = step
    training.predictor = predictor if isinstance(predictor, Predicts) else None
    return step


def losses_of(training: PackTrainer, order: torch.Tensor, step: StepFunction | None = None) -> list[float]:
    """Train on the images of each row of `order`, the same for every replica; returns the losses of the last replica."""
    replicas, losses, keys = len(training.recipes), [], step_keys(training, 0)
    for position, row in enumerate(order):
        inputs = step_inputs(training, row.expand(replicas, -1), 0, position, keys[:, position])
        train_steps(training, [inputs], step)
        losses.append(float(training.state.epoch_sums[0, -1]) / len(row))
        training.state.epoch_sums.zero_()
    return losses


def trained(cell: Cell, replicas: int, precision: str) -> PackTrainer:
    """Return a pack after 100 steps of the backend `reference`, the same in every process."""
    training = pack(cell, replicas, precision)
    order = torch.arange(TRAINED_STEPS * BATCH).view(TRAINED_STEPS, BATCH) * 19 % len(training.data.labels)
    losses_of(training, order)
    return training


def weights(training: PackTrainer, slot: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the parameters and the running statistics of one replica by name."""
    state = training.state
    params, buffers = ({name: t[slot] for name, t in tensors.items()} for tensors in (state.params, state.buffers))
    return params, buffers


def curve(setting: Setting, seed: int, order: torch.Tensor, backend: str = "", precision: str = "fp64") -> list[float]:
    """Losses on the images of each row of `order`, of the last replica of a pack of seed + 1."""
    training = pack(setting, seed + 1, precision)
    return losses_of(training, order, prepared(training, backend))


def curve_reference(setting: Setting, seed: int, order: torch.Tensor) -> list[float]:
    """The same with the backend `reference`."""
    return curve(setting, seed, order, "reference")


def curve_bf16(setting: Setting, seed: int, order: torch.Tensor) -> list[float]:
    """The same with products in bf16."""
    return curve(setting, seed, order, precision="bf16")


def prepare(setting: Setting, replicas: int, backend: str = "", precision: str = "fp32") -> Callable[[int], int]:
    """Return a function that trains a pack for some steps, by default with the backend that the product chooses.

    It returns the number of steps, which may be up to 7 more: backends may compute several steps in one call.
    """
    training = pack(setting, replicas, precision)
    stops = frozenset(range(0, 1_000_000, STEPS_PER_STOP))
    running = train(training, stops, prepared(training, backend))
    next(running)

    def go(count: int) -> int:
        first = training.state.step
        while training.state.step < first + count:
            next(running)
        return training.state.step - first

    return go


def prepare_reference(setting: Setting, replicas: int) -> Callable[[int], int]:
    """The same with the backend `reference`, which trains every network."""
    return prepare(setting, replicas, "reference")


def prepare_bf16(setting: Setting, replicas: int) -> Callable[[int], int]:
    """The same with products in bf16, which have passed the product's self-test on the network's shapes."""
    return prepare(setting, replicas, precision="bf16")


def metrics(cell: Cell, seed: int, precision: str = "fp64", backend: str = "") -> list[float]:
    """Loss and accuracy of the last replica of a trained pack of seed + 1."""
    training = trained(cell, seed + 1, precision)
    prepared(training, backend)
    result = evaluate(training, training.state.params, training.state.buffers, validation=False)
    return [float(result.loss[seed]), float(result.accuracy[seed])]


def metrics_reference(cell: Cell, seed: int) -> list[float]:
    """The same as packs of the backend `reference` are evaluated."""
    return metrics(cell, seed, backend="reference")


def prepare_evaluation(cell: Cell, replicas: int, backend: str = "") -> Callable[[int], None]:
    """Return a function that evaluates a trained pack some times."""
    training = trained(cell, replicas, "fp32")
    prepared(training, backend)

    def go(count: int) -> None:
        for _ in range(count):
            evaluate(training, training.state.params, training.state.buffers, validation=False)

    return go


def prepare_evaluation_reference(cell: Cell, replicas: int) -> Callable[[int], None]:
    """The same as packs of the backend `reference` are evaluated: all replicas in one product per layer."""
    return prepare_evaluation(cell, replicas, "reference")
