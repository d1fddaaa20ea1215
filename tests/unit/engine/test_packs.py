"""A trial's numbers do not depend on its pack: packed against alone, in float64, for every option that packs may mix."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from fathomlab.engine.training import TeacherPack
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


def differing(small_training: ModuleType, architectures: list[Any], **changes: Any) -> list[Recipe]:
    """Three recipes that differ in seed, learning rate and weight decay."""
    optimizer = changes.pop("optimizer", SGD(momentum=0.9))
    return [
        small_training.recipe(
            architecture, seed=seed, lr=lr, optimizer=replace(optimizer, weight_decay=decay), **changes
        )
        for architecture, seed, lr, decay in zip(
            architectures, SEEDS, RATES[type(optimizer).__name__], DECAYS, strict=True
        )
    ]


def assert_alone_as_packed(
    small_training: ModuleType, recipes: list[Recipe], teachers: TeacherPack | None = None
) -> None:
    """Every number of each replica is what the replica makes alone, to 1e-10; and 20 steps were made."""
    pack, snapshots = small_training.run_training(recipes, teachers)
    assert pack.state.step == 20
    start = small_training.make_trainer(recipes, teachers)
    for place, recipe in enumerate(recipes):
        alone, own = small_training.run_training([recipe], teachers and single(small_training, teachers, place))
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, place), small_training.replica_results(alone, own, 0)
        )
        for name in pack.shared_recipe.architecture.weight_layers:
            before, after = (training.state.params[f"{name}.weight"][place] for training in (start, pack))
            assert not torch.equal(before, after)


def single(small_training: ModuleType, teachers: TeacherPack, place: int) -> TeacherPack:
    """The teacher of one replica."""
    from fathomlab.engine.network import PackedNetwork

    rows = slice(place, place + 1)
    return TeacherPack(
        teachers.logits[rows],
        PackedNetwork([teachers.network.architecture]),
        {name: value[rows] for name, value in teachers.params.items()},
        {name: value[rows] for name, value in teachers.buffers.items()},
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_optimizers(kind: str, optimizer: Any, small_training: ModuleType) -> None:
    """With learning rates and decays of their own, and with shared ones (the fused path).

    No MLP with batch normalization: the gradient of its biases is nothing but rounding, and these optimizers enlarge it.
    """
    architecture = small_training.mlp(residual=True) if kind == "mlp" else small_training.cnn()
    recipes = differing(small_training, [architecture] * 3, optimizer=optimizer)
    assert_alone_as_packed(small_training, recipes)
    assert_alone_as_packed(
        small_training, [replace(recipe, lr=recipes[0].lr, optimizer=optimizer) for recipe in recipes]
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam()], ids=str)
def test_schedules(schedule: Any, optimizer: Any, small_training: ModuleType) -> None:
    """Rates follow each replica's own base, and for a plateau its own validation losses."""
    assert_alone_as_packed(
        small_training, differing(small_training, [small_training.mlp()] * 3, schedule=schedule, optimizer=optimizer)
    )


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"block_type": "bottleneck"}, {"stem": "plain"}], ids=str)
def test_convolutional_models(options: dict[str, Any], small_training: ModuleType) -> None:
    """Grouped convolutions and shared normalization keep the replicas apart."""
    assert_alone_as_packed(small_training, differing(small_training, [small_training.cnn(**options)] * 3))


def test_residual_on_and_off_in_one_pack(small_training: ModuleType) -> None:
    """The factor of experiment 1.2 does not split a pack, whichever comes first."""
    for order in ((True, False, True), (False, True, False)):
        architectures = [small_training.mlp(residual=on, batch_norm=True) for on in order]
        assert_alone_as_packed(small_training, differing(small_training, architectures))


def test_dropout_rates(small_training: ModuleType) -> None:
    """Masks come from the seed and the step, rates from the replica."""
    architectures = [small_training.mlp(dropout=rate, residual=True) for rate in (0.1, 0.5, 0.3)]
    assert_alone_as_packed(small_training, differing(small_training, architectures))
    assert_alone_as_packed(small_training, differing(small_training, [small_training.mlp(dropout=0.25)] * 3))


def test_initializations(small_training: ModuleType) -> None:
    """Initial values may come from different distributions."""
    assert_alone_as_packed(
        small_training, differing(small_training, [small_training.mlp(init=init) for init in ("torch", "he", "torch")])
    )


@pytest.mark.parametrize("augment", [("flip",), ("crop",), ("flip", "crop")])
def test_augmentation(augment: tuple[str, ...], small_training: ModuleType) -> None:
    """Views come from the seed, the epoch and the image."""
    assert_alone_as_packed(small_training, differing(small_training, [small_training.cnn()] * 3, augment=augment))


def test_label_smoothing(small_training: ModuleType) -> None:
    """Shares of their own, none among them."""
    recipes = differing(small_training, [small_training.mlp()] * 3)
    shares = (0.0, 0.1, 0.3)
    assert_alone_as_packed(
        small_training, [replace(own, loss=CrossEntropy(s)) for own, s in zip(recipes, shares, strict=True)]
    )


@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_distillation(kind: str, augment: tuple[str, ...], small_training: ModuleType) -> None:
    """Weights and temperatures of their own, and a teacher for each seed."""
    architecture = small_training.mlp() if kind == "mlp" else small_training.cnn()
    recipes = differing(small_training, [architecture] * 3, augment=augment)
    recipes = small_training.distilled(recipes, (0.7, 0.0, 1.0), (3.0, 1.0, 20.0))
    teachers = small_training.make_teachers(recipes, small_training.make_dataset(architecture.shape))
    assert_alone_as_packed(small_training, recipes, teachers)
    shared = small_training.distilled(recipes, (0.5,) * 3, (4.0,) * 3)
    assert_alone_as_packed(small_training, shared, teachers)


@pytest.mark.parametrize("largest", [1e-3, 0.5, 1e3])
def test_gradient_clipping(largest: float, small_training: ModuleType) -> None:
    """Each replica's gradient is scaled by its own norm."""
    for architecture in (small_training.mlp(), small_training.cnn()):
        assert_alone_as_packed(small_training, differing(small_training, [architecture] * 3, gradient_clip=largest))


def test_limits_and_splits(small_training: ModuleType) -> None:
    """A part of the data, split for each seed."""
    recipes = differing(small_training, [small_training.mlp()] * 3, limit=44, batch_size=8)
    pack = small_training.make_trainer(recipes)
    assert pack.train_index.shape[1] + pack.validation_index.shape[1] == 44
    assert_alone_as_packed(small_training, recipes)


def test_what_a_pack_must_share_is_asked_for(small_training: ModuleType) -> None:
    """Another batch size is another program."""
    one = small_training.recipe(small_training.mlp())
    for other in (replace(one, batch_size=5), replace(one, optimizer=Adam()), replace(one, gradient_clip=1.0)):
        with pytest.raises(AssertionError, match="one signature"):
            small_training.make_trainer([one, other])


def test_replicas_of_one_recipe_are_one(small_training: ModuleType) -> None:
    """The same trial twice in one pack has the same numbers in both places, and another seed has others."""
    recipe = small_training.recipe(small_training.mlp(dropout=0.2), optimizer=Adam())
    pack, snapshots = small_training.run_training([recipe, replace(recipe, seed=1), recipe])
    small_training.assert_close(
        small_training.replica_results(pack, snapshots, 0),
        small_training.replica_results(pack, snapshots, 2),
        relative=1e-12,
    )
    assert not torch.equal(pack.state.params["input.weight"][0], pack.state.params["input.weight"][1])
