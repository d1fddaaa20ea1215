"""Small trainings in float64 for tests: datasets, recipes with defaults, packs, and teachers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathomlab.data.augment import apply_views
from fathomlab.data.table import num_views
from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.device_data import DeviceDataset, split_indices
from fathomlab.engine.initializers import init_params
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.step import step_inputs, train_steps
from fathomlab.engine.targets import random_views
from fathomlab.engine.teachers import Teacher, TeacherPack, ViewTable
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.schedules import Constant
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe
from fathomlab.probes import PROBES

CPU = torch.device("cpu")
PROBES_OF_ANY_NETWORK = sorted(name for name in PROBES if not PROBES[name].needs_maps)
FLAT, SQUARE = (1, 3, 4), (3, 16, 16)
CLASSES = 3


def mlp(**options: Any) -> Architecture:
    """Build a small MLP for images of 3 x 4."""
    defaults: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": CLASSES, "hidden_layers_num": 3}
    return MLP(**(defaults | options)).build(FLAT)


def cnn(**options: Any) -> Architecture:
    """Build a small CNN for images of 3 x 16 x 16."""
    defaults: dict[str, Any] = {"layers": (1, 1, 1, 1), "num_classes": CLASSES, "width": 2}
    return CNN(**(defaults | options)).build(SQUARE)


def recipe(architecture: Architecture, label_smoothing: float = 0.0, **changes: Any) -> Recipe:
    """Create a recipe of 20 steps: 4 epochs of 5 batches, the last of them smaller."""
    defaults = Recipe(
        seed=42,
        architecture=architecture,
        loss=CrossEntropy(label_smoothing),
        optimizer=SGD(),
        schedule=Constant(),
        epochs=4,
        batch_size=10,
        lr=0.05,
        precision="fp64",
        gradient_clip=None,
        augment=(),
        validation_split=20.0,
        limit=None,
        data="{}",
    )
    return replace(defaults, **changes)


def make_dataset(shape: tuple[int, ...], count: int = 60, dtype: torch.dtype = torch.float64) -> DeviceDataset:
    """Create images whose brightness depends on the class, with integer noise that is equal on every machine."""
    numbers = np.arange((count + 24) * int(np.prod(shape)), dtype=np.uint64)
    noise = ((numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(57)).reshape(-1, *shape)
    labels = np.arange(count + 24) * 7 % CLASSES
    images = torch.from_numpy((noise + 40 * labels[:, None, None, None].astype(np.uint64)).astype(np.uint8))
    classes = torch.from_numpy(labels.astype(np.int64))
    mean = torch.full((shape[0], 1, 1), 110.0, dtype=dtype)
    scale = torch.ones_like(mean) / 60
    return DeviceDataset(images[:count], classes[:count], images[count:], classes[count:], mean, scale)


def make_trainer(
    recipes: Sequence[Recipe], teachers: TeacherPack | None = None, data: DeviceDataset | None = None
) -> PackTrainer:
    """Create a pack before its first step. Without `data`, it gets a dataset of its image shape."""
    dtype = torch.float64 if recipes[0].precision == "fp64" else torch.float32
    data = data or make_dataset(recipes[0].architecture.shape, dtype=dtype)
    train_index, validation_index = split_indices(recipes, data.labels.numpy(), CPU)
    return PackTrainer(recipes, data, train_index, validation_index, CPU, teachers)


def run_training(
    recipes: Sequence[Recipe], teachers: TeacherPack | None = None, data: DeviceDataset | None = None
) -> tuple[PackTrainer, list[Progress]]:
    """Train a pack. Return it with one snapshot per epoch."""
    trainer = make_trainer(recipes, teachers, data)
    return trainer, list(train(trainer, frozenset()))


def distilled(recipes: Sequence[Recipe], alpha: Sequence[float], temperature: Sequence[float]) -> list[Recipe]:
    """Return the recipes as distilled students of teachers with the same architecture."""
    return [
        replace(
            plain,
            loss=Distillation(t, a),
            label_loss=plain.label_loss if plain.teachers else plain.loss,
            teachers=(plain.architecture,),
        )
        for plain, a, t in zip(recipes, alpha, temperature, strict=True)
    ]


def make_teachers(recipes: Sequence[Recipe], data: DeviceDataset, scale: float = 1.5) -> TeacherPack:
    """Create untrained teachers, one per seed, with larger weights than initial networks."""
    networks = [recipe.teachers[0] for recipe in recipes]
    network = PackedNetwork(networks)
    dtype = data.mean.dtype
    replicas = [init_params(teacher, recipe.seed + 1000) for teacher, recipe in zip(networks, recipes, strict=True)]
    params = {name: torch.stack([replica[name] for replica in replicas]).to(dtype) * scale for name in replicas[0]}
    buffers = network.buffers(dtype, CPU)
    images = data.normalize(data.images).expand(len(recipes), *data.images.shape)
    teacher = Teacher(network, params, buffers)
    with torch.no_grad():
        logits = teacher(images)
    return TeacherPack(logits, (teacher,))


@torch.no_grad()
def with_views(
    teachers: TeacherPack, recipes: Sequence[Recipe], data: DeviceDataset, dtype: torch.dtype
) -> TeacherPack:
    """Add the table that the targets of the recipes need: all views, or one random view per image."""
    images, names = data.images.expand(len(recipes), *data.images.shape), recipes[0].augment
    rows = torch.arange(len(data.images))
    if recipes[0].targets == "consistent":
        numbers = [torch.full((len(recipes), len(rows)), view) for view in range(num_views(names))]
    else:
        numbers = [torch.stack([random_views(recipe, rows) for recipe in recipes])]
    outputs = [teachers(data.normalize(apply_views(images, views, names))) for views in numbers]
    table = torch.stack(outputs, 1).to(dtype)
    return replace(teachers, views=ViewTable(table, torch.arange(len(recipes)), rows))


def replica_results(trainer: PackTrainer, snapshots: Sequence[Progress], slot: int) -> dict[str, Tensor]:
    """Return all results of one replica: weights, running statistics, optimizer state, and curves."""
    state = trainer.state
    results = {**state.params, **state.buffers}
    results |= {f"best {name}": tensor for name, tensor in {**state.best.params, **state.best.buffers}.items()}
    for name, tensors in state.optimizer_state.items():
        results |= {f"{name} {index}": tensor for index, tensor in enumerate(tensors)}
    results = {name: tensor[slot].detach() for name, tensor in results.items()}
    for snapshot in snapshots:
        assert snapshot.train is not None
        assert snapshot.validation is not None
        row = (snapshot.train.loss, snapshot.train.accuracy, snapshot.validation.loss, snapshot.validation.accuracy)
        results[f"curve {snapshot.epoch}"] = torch.stack([column[slot] for column in row])
        objective = snapshot.train.loss if snapshot.objective is None else snapshot.objective
        results[f"objective {snapshot.epoch}"] = objective[slot]
        results[f"rate {snapshot.epoch}"] = torch.tensor(snapshot.lr[slot], dtype=torch.float64)
    return results


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-10) -> None:
    """Compare each tensor within `relative` of its maximum. Rounding noise around zero is allowed."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        error = float((actual[name] - tensor).abs().max())
        assert error <= relative * float(tensor.abs().max()) + 1e-14, f"{name} differs by {error}"


def assert_identical(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare bit for bit."""
    assert actual.keys() == expected.keys()
    different = [name for name, tensor in expected.items() if not torch.equal(actual[name], tensor)]
    assert not different


def one_step(pack: PackTrainer, name: str, batch_index: int) -> None:
    """Train a step with a full batch, computed by a backend."""
    size = pack.shared_recipe.batch_size
    start = batch_index * size % (pack.train_index.shape[1] - size + 1)
    index = pack.train_index[:, start : start + size]
    inputs = step_inputs(pack, index, 0, batch_index, pack.keys("dropout", 0))
    train_steps(pack, [inputs], BACKENDS[name].prepare(pack))


def assert_packs_equal(pack: PackTrainer, reference: PackTrainer, tolerance: float) -> None:
    """Parameters, running statistics, and the sums of the epoch."""
    for kind in ("params", "buffers"):
        for name, expected in getattr(reference.state, kind).items():
            actual = getattr(pack.state, kind)[name]
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, msg=name)
    torch.testing.assert_close(pack.state.epoch_sums, reference.state.epoch_sums, rtol=tolerance, atol=tolerance)
