"""Results of a trial do not depend on its pack, for every option that may vary within a pack, in float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fathomlab.engine.teachers import Teacher, TeacherPack
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import (
    Constant,
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training

OPTIMIZERS = [
    SGD(momentum=0.9, dampening=0.1),
    SGD(momentum=0.9, nesterov=True),
    Adam(),
    Adam(amsgrad=True),
    AdamW(),
    RMSprop(momentum=0.5, centered=True),
]
SCHEDULES = [
    Constant(),
    CosineAnnealingLR(),
    StepLR(step_size=1),
    MultiStepLR(milestones=(1, 2)),
    ExponentialLR(),
    OneCycleLR(),
    ReduceLROnPlateau(patience=0, threshold=0.2),
]
SEEDS, DECAYS = (42, 7, 2**40), (0.0, 0.1, 0.01)
RATES = {
    "SGD": (0.01, 0.003, 0.02),
    "Adam": (0.01, 0.003, 0.02),
    "AdamW": (0.01, 0.003, 0.02),
    "RMSprop": (1e-3, 3e-4, 2e-3),
}


def varied_recipes(architectures: list[Any], **changes: Any) -> list[Recipe]:
    """Create three recipes that differ in seed, learning rate, and weight decay."""
    optimizer = changes.pop("optimizer", SGD(momentum=0.9))
    return [
        small_training.recipe(
            architecture, seed=seed, lr=lr, optimizer=replace(optimizer, weight_decay=decay), **changes
        )
        for architecture, seed, lr, decay in zip(
            architectures, SEEDS, RATES[type(optimizer).__name__], DECAYS, strict=True
        )
    ]


def assert_equal_alone_and_packed(recipes: list[Recipe], teachers: TeacherPack | None = None) -> None:
    """Train a pack, and compare all results of each replica with those of the replica alone, to 1e-10, or 1e-9 with convolutions.

    A single network computes some convolutions as products, and 20 steps amplify the rounding.
    """
    pack, snapshots = small_training.run_training(recipes, teachers)
    assert pack.state.step == 20
    start = small_training.make_trainer(recipes, teachers)
    for slot, recipe in enumerate(recipes):
        alone, alone_snapshots = small_training.run_training([recipe], teachers and one_teacher(teachers, slot))
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot),
            small_training.replica_results(alone, alone_snapshots, 0),
            1e-9 if recipe.architecture.convolutional else 1e-10,
        )
        for name in pack.shared_recipe.architecture.weight_layers:
            before, after = (training.state.params[f"{name}.weight"][slot] for training in (start, pack))
            assert not torch.equal(before, after)


def one_teacher(teachers: TeacherPack, slot: int) -> TeacherPack:
    """Select the teacher of one replica."""
    from fathomlab.engine.network import PackedNetwork

    rows, (teacher,) = slice(slot, slot + 1), teachers.members
    params, buffers = (
        {name: value[rows] for name, value in tensors.items()} for tensors in (teacher.params, teacher.buffers)
    )
    return TeacherPack(
        teachers.logits[rows], (Teacher(PackedNetwork([teacher.network.architecture]), params, buffers),)
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_packed_equals_single_for_each_optimizer(optimizer: Any) -> None:
    """With separate learning rates and decays, and with shared ones (the fused path).

    The MLP has no batch normalization: its biases would have gradients of rounding noise, which these optimizers amplify.
    """
    recipes = varied_recipes([small_training.mlp(residual=True)] * 3, optimizer=optimizer)
    assert_equal_alone_and_packed(recipes)
    assert_equal_alone_and_packed([replace(recipe, lr=recipes[0].lr, optimizer=optimizer) for recipe in recipes])


@pytest.mark.parametrize(
    ("schedule", "optimizer"),
    [*((schedule, SGD(momentum=0.9)) for schedule in SCHEDULES), (OneCycleLR(), Adam())],
    ids=str,
)
def test_packed_equals_single_for_each_schedule(schedule: Any, optimizer: Any) -> None:
    assert_equal_alone_and_packed(
        varied_recipes([small_training.mlp()] * 3, schedule=schedule, optimizer=optimizer),
    )


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"block_type": "bottleneck"}], ids=str)
def test_packed_equals_single_for_cnns(options: dict[str, Any]) -> None:
    assert_equal_alone_and_packed(varied_recipes([small_training.cnn(**options)] * 3, optimizer=Adam()))


def test_packed_equals_single_if_residual_varies() -> None:
    for order in ((True, False, True), (False, True, False)):
        architectures = [small_training.mlp(residual=on, batch_norm=True) for on in order]
        assert_equal_alone_and_packed(varied_recipes(architectures))


def test_packed_equals_single_with_dropout() -> None:
    architectures = [small_training.mlp(dropout=rate, residual=True) for rate in (0.1, 0.5, 0.3)]
    assert_equal_alone_and_packed(varied_recipes(architectures))
    assert_equal_alone_and_packed(varied_recipes([small_training.mlp(dropout=0.25)] * 3))


def test_packed_equals_single_if_init_varies() -> None:
    assert_equal_alone_and_packed(
        varied_recipes([small_training.mlp(init=init) for init in ("torch", "he", "torch")]),
    )


def test_packed_equals_single_with_augmentation() -> None:
    assert_equal_alone_and_packed(varied_recipes([small_training.cnn()] * 3, augment=("flip", "crop")))


def test_packed_equals_single_if_label_smoothing_varies() -> None:
    recipes = varied_recipes([small_training.mlp()] * 3)
    smoothings = (0.0, 0.1, 0.3)
    assert_equal_alone_and_packed(
        [replace(recipe, loss=CrossEntropy(s)) for recipe, s in zip(recipes, smoothings, strict=True)]
    )


@pytest.mark.parametrize(("kind", "augment"), [("mlp", ()), ("cnn", ("flip", "crop"))])
def test_packed_equals_single_with_distillation(kind: str, augment: tuple[str, ...]) -> None:
    """With separate weights and temperatures, and one teacher per seed."""
    architecture = small_training.mlp() if kind == "mlp" else small_training.cnn()
    recipes = varied_recipes([architecture] * 3, augment=augment)
    recipes = small_training.distilled(recipes, (0.7, 0.0, 1.0), (3.0, 1.0, 20.0))
    teachers = small_training.make_teachers(recipes, small_training.make_dataset(architecture.shape))
    assert_equal_alone_and_packed(recipes, teachers)
    shared = small_training.distilled(recipes, (0.5,) * 3, (4.0,) * 3)
    assert_equal_alone_and_packed(shared, teachers)


def test_packed_equals_single_with_gradient_clipping() -> None:
    for architecture in (small_training.mlp(), small_training.cnn()):
        assert_equal_alone_and_packed(varied_recipes([architecture] * 3, gradient_clip=0.5))


def test_packed_equals_single_with_limit() -> None:
    recipes = varied_recipes([small_training.mlp()] * 3, limit=44, batch_size=8)
    pack = small_training.make_trainer(recipes)
    assert pack.train_index.shape[1] + pack.validation_index.shape[1] == 44
    assert_equal_alone_and_packed(recipes)


def test_pack_trainer_rejects_different_signatures() -> None:
    recipe = small_training.recipe(small_training.mlp())
    for changed in (
        replace(recipe, batch_size=5),
        replace(recipe, optimizer=Adam()),
        replace(recipe, gradient_clip=1.0),
    ):
        with pytest.raises(AssertionError, match="one signature"):
            small_training.make_trainer([recipe, changed])


def test_equal_recipes_give_equal_replicas() -> None:
    recipe = small_training.recipe(small_training.mlp(dropout=0.2), optimizer=Adam())
    pack, snapshots = small_training.run_training([recipe, replace(recipe, seed=1), recipe])
    small_training.assert_close(
        small_training.replica_results(pack, snapshots, 0),
        small_training.replica_results(pack, snapshots, 2),
        relative=1e-12,
    )
    assert not torch.equal(pack.state.params["input.weight"][0], pack.state.params["input.weight"][1])
