"""Small trainings in float64: pictures out of whole numbers, recipes with defaults, packs run to their end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathomlab.engine.images import Pictures, splits
from fathomlab.engine.initial import initial_values
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.network import Network
from fathomlab.engine.training import Teachers, Training
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.schedules import Constant
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe

CPU = torch.device("cpu")
FLAT, SQUARE = (1, 3, 4), (3, 16, 16)
CLASSES = 3


def mlp(**options: Any) -> Architecture:
    """A small MLP for pictures of 3 x 4."""
    tiny: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": CLASSES, "hidden_layers_num": 3}
    return MLP(**(tiny | options)).build(FLAT)


def cnn(**options: Any) -> Architecture:
    """A small CNN for pictures of 3 x 16 x 16."""
    tiny: dict[str, Any] = {"layers": (1, 1, 1, 1), "num_classes": CLASSES, "width": 2}
    return CNN(**(tiny | options)).build(SQUARE)


def recipe(architecture: Architecture, label_smoothing: float = 0.0, **changes: Any) -> Recipe:
    """20 steps: 4 epochs of 5 batches, the last of them smaller."""
    plain = Recipe(
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
    return replace(plain, **changes)


def pictures(shape: tuple[int, ...], count: int = 60, dtype: torch.dtype = torch.float64) -> Pictures:
    """Pictures whose brightness says the class, with noise out of a multiplication; the same on every machine."""
    numbers = np.arange((count + 24) * int(np.prod(shape)), dtype=np.uint64)
    noise = ((numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(57)).reshape(-1, *shape)
    labels = np.arange(count + 24) * 7 % CLASSES
    images = torch.from_numpy((noise + 40 * labels[:, None, None, None].astype(np.uint64)).astype(np.uint8))
    classes = torch.from_numpy(labels.astype(np.int64))
    mean = torch.full((shape[0], 1, 1), 110.0, dtype=dtype)
    return Pictures(images[:count], classes[:count], images[count:], classes[count:], mean, torch.ones_like(mean) / 60)


def training(recipes: Sequence[Recipe], teachers: Teachers | None = None, data: Pictures | None = None) -> Training:
    """A pack before its first step, on its own pictures where none are given."""
    dtype = torch.float64 if recipes[0].precision == "fp64" else torch.float32
    data = data or pictures(recipes[0].architecture.shape, dtype=dtype)
    train_index, validation_index = splits(recipes, data.labels.numpy(), CPU)
    return Training(recipes, data, train_index, validation_index, CPU, teachers)


def trained(
    recipes: Sequence[Recipe], teachers: Teachers | None = None, data: Pictures | None = None
) -> tuple[Training, list[Progress]]:
    """A pack after its last step, and a snapshot an epoch."""
    pack = training(recipes, teachers, data)
    return pack, list(train(pack, frozenset()))


def taught(recipes: Sequence[Recipe], alpha: Sequence[float], temperature: Sequence[float]) -> list[Recipe]:
    """The recipes as distilled students of teachers of their own architecture."""
    return [
        replace(own, loss=Distillation(t, a, getattr(own.loss, "hard", own.loss)), teacher=own.architecture)
        for own, a, t in zip(recipes, alpha, temperature, strict=True)
    ]


def teachers(recipes: Sequence[Recipe], data: Pictures, scale: float = 1.5) -> Teachers:
    """Untrained teachers, one of its own for each seed, with sharper outputs than a fresh network."""
    architectures = [own.teacher for own in recipes if own.teacher]
    network = Network(architectures)
    dtype = data.mean.dtype
    drawn = [initial_values(own.teacher, own.seed + 1000) for own in recipes if own.teacher]
    values = {name: torch.stack([one[name] for one in drawn]).to(dtype) * scale for name in drawn[0]}
    buffers = network.buffers(dtype, CPU)
    every = data.normalized(data.images).expand(len(recipes), *data.images.shape)
    with torch.no_grad():
        logits = network(values, buffers, every, "eval")
    return Teachers(logits, network, values, buffers)


def numbers(pack: Training, snapshots: Sequence[Progress], place: int) -> dict[str, Tensor]:
    """Everything that training has made of one replica: weights, statistics, optimizer state, curves."""
    state = pack.state
    found = {**state.values, **state.buffers}
    found |= {f"best {name}": tensor for name, tensor in {**state.best.values, **state.best.buffers}.items()}
    for slot, tensors in state.slots.items():
        found |= {f"{slot} {number}": tensor for number, tensor in enumerate(tensors)}
    found = {name: tensor[place].detach() for name, tensor in found.items()}
    for snapshot in snapshots:
        assert snapshot.train is not None
        assert snapshot.validation is not None
        row = (snapshot.train.loss, snapshot.train.accuracy, snapshot.validation.loss, snapshot.validation.accuracy)
        found[f"curve {snapshot.epoch}"] = torch.stack([column[place] for column in row])
        own = snapshot.train.loss if snapshot.objective is None else snapshot.objective
        found[f"objective {snapshot.epoch}"] = own[place]
        found[f"rate {snapshot.epoch}"] = torch.tensor(snapshot.lr[place], dtype=torch.float64)
    return found


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-10) -> None:
    """Each tensor within `relative` of its largest number; rounding noise about zero is let through."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        worst = float((found[name] - tensor).abs().max())
        assert worst <= relative * float(tensor.abs().max()) + 1e-14, f"{name} differs by {worst}"


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same bits."""
    assert found.keys() == expected.keys()
    different = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    assert not different
