"""Latency and throughput: known times of a clock that is set, the networks that are measured, and no side effects."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathomlab.engine.loop import train
from fathomlab.engine.state import replica_state_dict
from fathomlab.execute.pack import speed
from fathomlab.execute.pack.speed import measure_speed, pack_speeds
from fathomlab.store.records import Speed
from tests.helpers import module_kinds, small_training

IMAGES = torch.zeros(64, 1, 4, 4)


class Clock:
    """A clock that stands still except in a network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        """Replace the clock of the measurement."""
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


class Timed(nn.Module):
    """A network that takes `seconds(images, call)`."""

    def __init__(self, clock: Clock, seconds: Callable[[int, int], float]):
        """Count calls from 0; the first one is the warm-up."""
        super().__init__()
        self.clock, self.seconds, self.sizes = clock, seconds, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        """Let time pass."""
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
        self.clock.now += self.seconds(len(images), len(self.sizes))
        self.sizes.append(len(images))
        return images


def test_percentiles_and_throughput_of_known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single images take 1, 2, ..., 50 us, in a shuffled order, after a slow first call; a batch takes 4 ms."""
    order = [0, *(1 + 37 * index % 50 for index in range(50))]
    module = Timed(
        Clock(monkeypatch), lambda size, call: 0.004 if size > 1 else 5.0 if call == 0 else order[call] / 1e6
    )
    result = measure_speed(module, IMAGES)
    assert result.p50_seconds == pytest.approx(25.5e-6, rel=1e-6)
    assert result.p95_seconds == pytest.approx(48e-6, rel=1e-6)
    assert (result.images_per_second, result.batch) == (pytest.approx(16_000, rel=1e-6), 64)
    assert module.sizes == [1] * 51 + [64] * 13


@pytest.mark.parametrize(
    ("one", "batch", "sizes"),
    [
        (0.001, 0.01, [1] * 51 + [64] * 10),
        (0.03, 0.5, [1] * 6 + [64]),
        (0.3, 2.0, [1] * 6 + [32]),
        (60.0, 60.0, [1] * 7),
    ],
)
def test_time_is_limited(monkeypatch: pytest.MonkeyPatch, one: float, batch: float, sizes: list[int]) -> None:
    """A fast network has 50 passes, a slow one at least five, and a batch that takes at most about ten seconds."""
    clock = Clock(monkeypatch)
    module = Timed(clock, lambda size, call: one if size == 1 else batch)
    result = measure_speed(module, IMAGES, 0.0999)
    assert module.sizes == sizes
    assert result.batch == sizes[-1]
    assert result.p50_seconds == pytest.approx(one, rel=1e-6)


def test_threads_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_speed(Timed(Clock(monkeypatch), lambda size, call: 0.01), IMAGES)
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            measure_speed(Timed(Clock(monkeypatch), lambda size, call: 1 / 0), IMAGES)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[nn.Module, Tensor, float]]:
    """The networks, images, and times that are measured."""
    calls: list[tuple[nn.Module, Tensor, float]] = []

    def record(module: nn.Module, images: Tensor, seconds: float) -> Speed:
        torch.rand(())  # as a user's module may
        calls.append((module, images, seconds))
        return Speed(len(calls), 1, 1, 64)

    monkeypatch.setattr(speed, "measure_speed", record)
    return calls


def no_warning(text: str) -> None:
    """Built-in networks are always measured."""
    raise AssertionError(text)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_measured_network_is_the_trained_one(measured: Any, precision: str) -> None:
    """In fp32, with the weights and running statistics after the last epoch, on test images."""
    architecture = small_training.cnn()
    recipes = [small_training.recipe(architecture, seed=seed, precision=precision) for seed in (1, 2)]
    pack, _ = small_training.run_training(recipes)
    before = [{name: value.clone() for name, value in replica_state_dict(pack.state, slot).items()} for slot in (0, 1)]
    random = torch.random.get_rng_state()
    assert pack_speeds(pack, [0, 1], no_warning) == {0: Speed(1, 1, 1, 64), 1: Speed(1, 1, 1, 64)}
    assert torch.equal(random, torch.random.get_rng_state())
    ((module, images, seconds),) = measured
    assert (images.shape, images.dtype, seconds) == ((64, *small_training.SQUARE), torch.float32, speed.SECONDS)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
    assert not module.training
    rows = pack.data.normalize(pack.data.test_images)
    torch.testing.assert_close(images, rows[torch.arange(64) % len(rows)].float())
    logits = pack.predict(pack.state.params, pack.state.buffers, rows.expand(2, *rows.shape))[0]
    torch.testing.assert_close(module(rows.float()), logits.float(), rtol=1e-4, atol=1e-5)
    for slot in (0, 1):
        small_training.assert_identical(replica_state_dict(pack.state, slot), before[slot])
    module.load_state_dict({name: torch.zeros_like(value) for name, value in module.state_dict().items()})
    small_training.assert_identical(replica_state_dict(pack.state, 0), before[0])


def test_equal_networks_share_a_measurement(measured: Any) -> None:
    """Of four replicas, one diverged; initialization does not change a network, skip connections do. Time is shared, too."""
    networks = [small_training.mlp(residual=on, init=init) for on, init in ((False, "torch"), (True, "he"))]
    networks = [*networks, small_training.mlp(residual=True, init="torch"), networks[0]]
    pack = small_training.make_trainer([small_training.recipe(network, seed=1) for network in networks])
    speeds = pack_speeds(pack, [1, 2, 3], no_warning)
    assert {slot: speed.p50_seconds for slot, speed in speeds.items()} == {1: 1, 2: 1, 3: 2}
    assert [seconds for _, _, seconds in measured] == [speed.SECONDS / 2] * 2
    assert pack_speeds(pack, [], no_warning) == {}


def test_modules_of_plugins_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of their buffers. One that fails is a warning, and its trials have no speed."""
    architecture = module_kinds.architecture(module_kinds.PACKED["buffers"])
    data = small_training.make_dataset(module_kinds.SHAPE)
    pack = small_training.make_trainer([small_training.recipe(architecture)], None, data)
    assert next(snapshot.step for snapshot in train(pack, frozenset({7})) if snapshot.step == 7)
    modules: list[nn.Module] = []

    def record(module: nn.Module, images: Tensor, seconds: float) -> Speed:
        modules.append(module)
        return measure_speed(module, images, seconds)

    monkeypatch.setattr(speed, "measure_speed", record)
    (result,) = pack_speeds(pack, [0], no_warning).values()
    buffers = dict(modules[0].named_buffers())
    assert buffers["phase"].tolist() == [1j**7] * 5
    assert int(buffers["calls"]) == 7
    torch.testing.assert_close(buffers["mean"], pack.state.buffers["mean"][0].float())
    assert 0 < result.p50_seconds <= result.p95_seconds < 1
    assert result.images_per_second > 64

    def fail(*_: object) -> None:
        raise ZeroDivisionError("only on the GPU")

    texts: list[str] = []
    monkeypatch.setattr(speed, "measure_speed", fail)
    assert pack_speeds(pack, [0], texts.append) == {}
    assert len(texts) == 1
    assert "only on the GPU" in texts[0]
