"""Records every random number that a training of two replicas over two epochs draws, by purpose."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor

from fathomlab.base import identity
from fathomlab.data import augment, split
from fathomlab.engine import initializers, loop, network, training
from tests.helpers import small_training

PURPOSES = ("order", "flip", "crop", "dropout", "split", "initial")
RATE = 0.5


class Drawn:
    """Numbers by purpose, one array (replicas, ...) per call (split and initial values have no replicas), and stream seeds."""

    def __init__(self) -> None:
        """Nothing has been drawn."""
        self.bits: dict[str, list[np.ndarray]] = {purpose: [] for purpose in PURPOSES}
        self.streams: dict[tuple[Any, ...], int] = {}

    def note(self, purpose: str, values: Any) -> Any:
        """Record a copy of the values, and return them."""
        self.bits[purpose].append(values.numpy().copy() if isinstance(values, Tensor) else np.array(values))
        return values

    def repeats(self) -> tuple[int, int]:
        """Return the number of repeated 64-bit numbers, and of repeated initial values."""
        total = np.concatenate([array.ravel() for purpose in PURPOSES[:-1] for array in self.bits[purpose]])
        values = np.concatenate([array.ravel() for array in self.bits["initial"]])
        return total.size - np.unique(total).size, values.size - np.unique(values).size

    def chance(self) -> float:
        """Return the probability of a repeat among fair draws: pairs / 2^64, and pairs / 2^52 for initial values (float64)."""
        total = sum(array.size for purpose in PURPOSES[:-1] for array in self.bits[purpose])
        return total**2 / 2**65 + sum(array.size for array in self.bits["initial"]) ** 2 / 2**53


class _RecordingGenerator(np.random.Generator):
    """A generator that records what it draws."""

    def __init__(self, generator: np.random.Generator, purpose: str, drawn: Drawn):
        super().__init__(generator.bit_generator)
        self.raw, self.purpose, self.drawn = generator.bit_generator, purpose, drawn

    @property
    def bit_generator(self) -> Any:
        return self

    def random_raw(self, size: int) -> np.ndarray:
        return self.drawn.note(self.purpose, self.raw.random_raw(size).view(np.int64)).view("u8")

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return self.drawn.note(self.purpose, super().uniform(low, high, size))

    def standard_normal(self, size: Any = None, *rest: Any, **options: Any) -> Any:
        return self.drawn.note(self.purpose, super().standard_normal(size, *rest, **options))


@contextmanager
def recorded_draws() -> Iterator[Drawn]:
    """Note what is drawn as long as this lasts."""
    drawn = Drawn()
    order, draw, uniform, stream, seeds = (
        loop.splitmix64,
        augment.draw,
        network.uniform,
        split.make_rng,
        identity.derive_seed,
    )

    def record_draw(keys: Any, epoch: Any, index: Any, purpose: int) -> Any:
        name = "flip" if purpose == augment.FLIP else "crop"
        return drawn.note(name, draw(keys, epoch, index, purpose))

    def seed_of(seed: int, purpose: str, *keys: int | str) -> int:
        number = seeds(seed, purpose, *keys)
        drawn.streams[seed, purpose, *keys] = number
        return number

    def recording(seed: int, purpose: str, *keys: int | str) -> Any:
        return _RecordingGenerator(stream(seed, purpose, *keys), purpose, drawn)

    places: list[tuple[ModuleType, str, Any]] = [
        (loop, "splitmix64", lambda key, counter: drawn.note("order", order(key, counter))),
        (augment, "draw", record_draw),
        (network, "uniform", lambda bits: uniform(drawn.note("dropout", bits))),
        (split, "make_rng", recording),
        (initializers, "make_rng", recording),
        (identity, "derive_seed", seed_of),
        (training, "derive_seed", seed_of),
    ]
    with ExitStack() as stack:
        for module, name, value in places:
            stack.enter_context(mock.patch.object(module, name, value))
        yield drawn


def train_two(seeds: tuple[int, int] = (42, 43)) -> Drawn:
    """Two replicas, two epochs of four steps on 1,600 images; dropout, flips and crops."""
    plain = small_training.recipe(
        small_training.mlp(dropout=RATE, layers_dim=20, hidden_layers_num=2), epochs=2, batch_size=400
    )
    with recorded_draws() as drawn:
        recipes = [small_training.replace(plain, seed=seed, augment=("flip", "crop")) for seed in seeds]
        small_training.run_training(recipes, data=small_training.make_dataset(small_training.FLAT, 2000))
    return drawn
