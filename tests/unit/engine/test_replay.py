"""The step that a CUDA graph repeats, and replicas that run apart, launched here without a graph: the same numbers."""

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from fathomlab.engine.loop import Progress, train
from fathomlab.engine.replay import Replay
from fathomlab.engine.training import Training
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import Constant, CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe

OPTIMIZERS = [
    SGD(momentum=0.9, dampening=0.1),
    SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(amsgrad=True),
    AdamW(),
    RMSprop(momentum=0.5, centered=True),
]
SCHEDULES = [Constant(), CosineAnnealingLR(), OneCycleLR(), ReduceLROnPlateau(patience=0, threshold=0.2)]


def run(pack: Training) -> list[Progress]:
    """Every snapshot to the end."""
    return list(train(pack, frozenset()))


def apart(bench: ModuleType, recipes: Sequence[Recipe], teachers: Any = None) -> Training:
    """A pack whose replicas are networks of their own."""
    pack = bench.training(recipes, teachers)
    made = Training(recipes, pack.data, pack.train_index, pack.validation_index, pack.device, teachers, apart=True)
    assert len(made.parts) == len(recipes)
    return made


def assert_same(bench: ModuleType, pack: Training, other: Training, relative: float = 1e-10) -> None:
    """Both trained to the end, every number of every replica near."""
    first, second = run(pack), run(other)
    assert pack.state.step == other.state.step == 20
    for place in range(len(pack.recipes)):
        bench.assert_near(bench.numbers(pack, first, place), bench.numbers(other, second, place), relative)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("rates", [(0.01, 0.01), (0.01, 0.003)], ids=["shared", "own rates"])
def test_numbers_on_the_device_make_the_same_step(
    bench: ModuleType, optimizer: Any, schedule: Any, rates: tuple[float, float]
) -> None:
    """Learning rate, momentum and step count as tensors that are filled before each step: a frozen count would show."""
    recipes = [
        bench.recipe(bench.mlp(batch_norm=True), seed=seed, lr=lr, optimizer=optimizer, schedule=schedule)
        for seed, lr in zip((42, 7), rates, strict=True)
    ]
    pack = bench.training(recipes)
    pack.replay = Replay(pack)
    # A cycled momentum leaves torch's fused kernel, and Adam divides what rounding leaves of tiny gradients by itself.
    assert_same(bench, pack, bench.training(recipes), 1e-8 if isinstance(schedule, OneCycleLR) else 1e-10)


def test_the_feed_carries_epoch_and_keys(bench: ModuleType) -> None:
    """Augmentation is drawn by the epoch, dropout by keys: both come from tensors here."""
    recipes = [
        bench.recipe(bench.cnn(), seed=seed, augment=("flip", "crop"), optimizer=AdamW(), lr=0.01) for seed in (42, 7)
    ]
    pack = bench.training(recipes)
    pack.replay = Replay(pack)
    assert_same(bench, pack, bench.training(recipes))
    drops = [bench.recipe(bench.mlp(dropout=rate), seed=3) for rate in (0.2, 0.5)]
    pack = bench.training(drops)
    pack.replay = Replay(pack)
    assert_same(bench, pack, bench.training(drops))


def test_whole_batches_are_repeated_and_the_smaller_last_one_is_not(bench: ModuleType) -> None:
    """A graph has one shape: 48 images in batches of 10 are four repeated steps and one of its own an epoch."""
    pack = bench.training([bench.recipe(bench.mlp())])
    replay, seen = Replay(pack), []
    pack.replay = lambda feed: (seen.append(feed.index.shape[1]), replay(feed))[1]
    run(pack)
    assert seen == [10] * 16


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_replicas_apart_are_the_pack(bench: ModuleType, optimizer: Any) -> None:
    """Each replica steps by itself on the memory of the pack; options of their own and clipping included."""
    recipes = [
        bench.recipe(
            bench.cnn(residual=True),
            seed=seed,
            lr=lr * (0.1 if isinstance(optimizer, RMSprop) else 1.0),
            optimizer=replace(optimizer, weight_decay=decay),
            label_smoothing=smoothing,
            gradient_clip=0.5,
        )
        for seed, lr, decay, smoothing in ((42, 0.01, 0.0, 0.1), (7, 0.003, 0.01, 0.0), (9, 0.02, 0.1, 0.2))
    ]
    # Grouped and separate convolutions round differently, and RMSprop divides what is left of tiny gradients by itself.
    assert_same(bench, apart(bench, recipes), bench.training(recipes), 1e-8)


def test_students_apart_have_their_own_teachers(bench: ModuleType) -> None:
    """With stored logits, and with views that the teachers see too."""
    for augment in ((), ("flip",)):
        plain = [bench.recipe(bench.cnn(), seed=seed, augment=augment) for seed in (42, 7)]
        recipes = bench.taught(plain, (0.7, 0.9), (3.0, 1.0))
        teachers = bench.teachers(recipes, bench.pictures(bench.SQUARE))
        assert_same(bench, apart(bench, recipes, teachers), bench.training(recipes, teachers))


def test_apart_and_repeated_together(bench: ModuleType) -> None:
    """What a CUDA device runs for wide nets: one graph over the steps of all replicas."""
    recipes = [bench.recipe(bench.cnn(), seed=seed, optimizer=Adam(), lr=0.01) for seed in (42, 7)]
    pack = apart(bench, recipes)
    pack.replay = Replay(pack)
    assert_same(bench, pack, bench.training(recipes))


@pytest.mark.gpu
def test_a_graph_is_the_eager_step_bit_for_bit(bench: ModuleType) -> None:
    """50 steps on a CUDA device."""
    device = torch.device("cuda")
    recipes = [bench.recipe(bench.mlp(batch_norm=True), seed=seed, epochs=10, optimizer=Adam()) for seed in (42, 7)]
    start = bench.training(recipes)
    packs = []
    for graph in (False, True):
        data = replace(start.data, **{name: getattr(start.data, name).to(device) for name in vars(start.data)})
        pack = Training(recipes, data, start.train_index.to(device), start.validation_index.to(device), device)
        pack.replay = Replay(pack) if graph else None
        run(pack)
        packs.append(pack)
    for name, value in packs[0].state.values.items():
        assert torch.equal(value, packs[1].state.values[name])
