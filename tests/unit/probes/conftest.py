"""Small packs, plain and distilled, for every test of a probe."""

from types import ModuleType
from typing import Any, Protocol

import pytest

from fathomlab.engine.training import Training
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN


class Packs(Protocol):
    """Makes a pack before its first step, a replica for each seed."""

    def __call__(
        self, options: MLP | CNN, seeds: tuple[int, ...] = (5, 6), taught: bool = False, **changes: Any
    ) -> Training:
        """Distilled where `taught`; `changes` are of the recipes."""
        ...


@pytest.fixture
def packs(bench: ModuleType) -> Packs:
    """Packs on the bench's pictures, the same for every call."""

    def made(options: MLP | CNN, seeds: tuple[int, ...] = (5, 6), taught: bool = False, **changes: Any) -> Training:
        architecture = options.build(bench.FLAT if isinstance(options, MLP) else bench.SQUARE)
        recipes = [bench.recipe(architecture, seed=seed, **changes) for seed in seeds]
        if not taught:
            return bench.training(recipes)
        students = bench.taught(recipes, [0.9] * len(seeds), [4.0] * len(seeds))
        data = bench.pictures(architecture.shape)
        return bench.training(students, bench.teachers(students, data), data)

    return made
