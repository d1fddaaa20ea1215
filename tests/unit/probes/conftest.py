"""Small packs, supervised and distilled, for the tests of probes."""

from typing import Any, Protocol

import pytest

from fathomlab.engine.training import PackTrainer
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from tests.helpers import small_training


class Packs(Protocol):
    """Creates a pack before its first step, with one replica per seed."""

    def __call__(
        self, options: MLP | CNN, seeds: tuple[int, ...] = (5, 6), distilled: bool = False, **changes: Any
    ) -> PackTrainer:
        """Create the pack; `changes` apply to the recipes."""
        ...


@pytest.fixture
def packs() -> Packs:
    """Create packs on the images of `small_training`."""

    def create(
        options: MLP | CNN, seeds: tuple[int, ...] = (5, 6), distilled: bool = False, **changes: Any
    ) -> PackTrainer:
        architecture = options.build(small_training.FLAT if isinstance(options, MLP) else small_training.SQUARE)
        recipes = [small_training.recipe(architecture, seed=seed, **changes) for seed in seeds]
        if not distilled:
            return small_training.make_trainer(recipes)
        students = small_training.distilled(recipes, [0.9] * len(seeds), [4.0] * len(seeds))
        data = small_training.make_dataset(architecture.shape)
        return small_training.make_trainer(students, small_training.make_teachers(students, data), data)

    return create
