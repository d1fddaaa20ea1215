"""A trial's numbers do not depend on its pack: packed against alone, in float64, for every option that packs may mix."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from fathomlab.engine.training import Teachers
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


def differing(bench: ModuleType, architectures: list[Any], **changes: Any) -> list[Recipe]:
    """Three recipes that differ in seed, learning rate and weight decay."""
    optimizer = changes.pop("optimizer", SGD(momentum=0.9))
    return [
        bench.recipe(architecture, seed=seed, lr=lr, optimizer=replace(optimizer, weight_decay=decay), **changes)
        for architecture, seed, lr, decay in zip(
            architectures, SEEDS, RATES[type(optimizer).__name__], DECAYS, strict=True
        )
    ]


def assert_alone_as_packed(bench: ModuleType, recipes: list[Recipe], teachers: Teachers | None = None) -> None:
    """Every number of each replica is what the replica makes alone, to 1e-10; and 20 steps were made."""
    pack, snapshots = bench.trained(recipes, teachers)
    assert pack.state.step == 20
    start = bench.training(recipes, teachers)
    for place, recipe in enumerate(recipes):
        alone, own = bench.trained([recipe], teachers and single(bench, teachers, place))
        bench.assert_near(bench.numbers(pack, snapshots, place), bench.numbers(alone, own, 0))
        for name in pack.common.architecture.weighted:
            before, after = (training.state.values[f"{name}.weight"][place] for training in (start, pack))
            assert not torch.equal(before, after)


def single(bench: ModuleType, teachers: Teachers, place: int) -> Teachers:
    """The teacher of one replica."""
    from fathomlab.engine.network import Network

    rows = slice(place, place + 1)
    return Teachers(
        teachers.logits[rows],
        Network([teachers.network.architecture]),
        {name: value[rows] for name, value in teachers.values.items()},
        {name: value[rows] for name, value in teachers.buffers.items()},
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_optimizers(kind: str, optimizer: Any, bench: ModuleType) -> None:
    """With learning rates and decays of their own, and with shared ones (the fused path).

    No MLP with batch normalization: the gradient of its biases is nothing but rounding, and these optimizers enlarge it.
    """
    architecture = bench.mlp(residual=True) if kind == "mlp" else bench.cnn()
    recipes = differing(bench, [architecture] * 3, optimizer=optimizer)
    assert_alone_as_packed(bench, recipes)
    assert_alone_as_packed(bench, [replace(recipe, lr=recipes[0].lr, optimizer=optimizer) for recipe in recipes])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam()], ids=str)
def test_schedules(schedule: Any, optimizer: Any, bench: ModuleType) -> None:
    """Rates follow each replica's own base, and for a plateau its own validation losses."""
    assert_alone_as_packed(bench, differing(bench, [bench.mlp()] * 3, schedule=schedule, optimizer=optimizer))


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"block_type": "bottleneck"}, {"stem": "plain"}], ids=str)
def test_convolutional_models(options: dict[str, Any], bench: ModuleType) -> None:
    """Grouped convolutions and shared normalization keep the replicas apart."""
    assert_alone_as_packed(bench, differing(bench, [bench.cnn(**options)] * 3))


def test_residual_on_and_off_in_one_pack(bench: ModuleType) -> None:
    """The factor of experiment 1.2 does not split a pack, whichever comes first."""
    for order in ((True, False, True), (False, True, False)):
        architectures = [bench.mlp(residual=on, batch_norm=True) for on in order]
        assert_alone_as_packed(bench, differing(bench, architectures))


def test_dropout_rates(bench: ModuleType) -> None:
    """Masks come from the seed and the step, rates from the replica."""
    architectures = [bench.mlp(dropout=rate, residual=True) for rate in (0.1, 0.5, 0.3)]
    assert_alone_as_packed(bench, differing(bench, architectures))
    assert_alone_as_packed(bench, differing(bench, [bench.mlp(dropout=0.25)] * 3))


def test_initializations(bench: ModuleType) -> None:
    """Initial values may come from different distributions."""
    assert_alone_as_packed(bench, differing(bench, [bench.mlp(init=init) for init in ("torch", "he", "torch")]))


@pytest.mark.parametrize("augment", [("flip",), ("crop",), ("flip", "crop")])
def test_augmentation(augment: tuple[str, ...], bench: ModuleType) -> None:
    """Views come from the seed, the epoch and the image."""
    assert_alone_as_packed(bench, differing(bench, [bench.cnn()] * 3, augment=augment))


def test_label_smoothing(bench: ModuleType) -> None:
    """Shares of their own, none among them."""
    recipes = differing(bench, [bench.mlp()] * 3)
    shares = (0.0, 0.1, 0.3)
    assert_alone_as_packed(bench, [replace(own, loss=CrossEntropy(s)) for own, s in zip(recipes, shares, strict=True)])


@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_distillation(kind: str, augment: tuple[str, ...], bench: ModuleType) -> None:
    """Weights and temperatures of their own, and a teacher for each seed."""
    architecture = bench.mlp() if kind == "mlp" else bench.cnn()
    recipes = differing(bench, [architecture] * 3, augment=augment)
    recipes = bench.taught(recipes, (0.7, 0.0, 1.0), (3.0, 1.0, 20.0))
    teachers = bench.teachers(recipes, bench.pictures(architecture.shape))
    assert_alone_as_packed(bench, recipes, teachers)
    shared = bench.taught(recipes, (0.5,) * 3, (4.0,) * 3)
    assert_alone_as_packed(bench, shared, teachers)


@pytest.mark.parametrize("largest", [1e-3, 0.5, 1e3])
def test_gradient_clipping(largest: float, bench: ModuleType) -> None:
    """Each replica's gradient is scaled by its own norm."""
    for architecture in (bench.mlp(), bench.cnn()):
        assert_alone_as_packed(bench, differing(bench, [architecture] * 3, gradient_clip=largest))


def test_limits_and_splits(bench: ModuleType) -> None:
    """A part of the data, split for each seed."""
    recipes = differing(bench, [bench.mlp()] * 3, limit=44, batch_size=8)
    pack = bench.training(recipes)
    assert pack.train_index.shape[1] + pack.validation_index.shape[1] == 44
    assert_alone_as_packed(bench, recipes)


def test_what_a_pack_must_share_is_asked_for(bench: ModuleType) -> None:
    """Another batch size is another program."""
    one = bench.recipe(bench.mlp())
    for other in (replace(one, batch_size=5), replace(one, optimizer=Adam()), replace(one, gradient_clip=1.0)):
        with pytest.raises(AssertionError, match="one signature"):
            bench.training([one, other])


def test_replicas_of_one_recipe_are_one(bench: ModuleType) -> None:
    """The same trial twice in one pack has the same numbers in both places, and another seed has others."""
    recipe = bench.recipe(bench.mlp(dropout=0.2), optimizer=Adam())
    pack, snapshots = bench.trained([recipe, replace(recipe, seed=1), recipe])
    bench.assert_near(bench.numbers(pack, snapshots, 0), bench.numbers(pack, snapshots, 2), relative=1e-12)
    assert not torch.equal(pack.state.values["input.weight"][0], pack.state.values["input.weight"][1])
