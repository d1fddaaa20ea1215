"""Rules for every optimizer of the table, with its defaults and its test options."""

from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.base.errors import Issue
from fathomlab.base.options import parse
from fathomlab.base.packing import varying
from fathomlab.optim import OPTIMIZERS
from fathomlab.optim.rates import Rates

STEPS, REPLICAS = 12, 3
LEARNING_RATES, DECAYS = (0.01, 0.003, 0.05), (0.0, 0.1, 0.02)


@pytest.fixture(
    params=[(name, which) for name in sorted(OPTIMIZERS) for which in ("defaults", "test options")], ids=str
)
def optimizer(request: pytest.FixtureRequest) -> Any:
    """Each optimizer of the table."""
    name, which = request.param
    issues: list[Issue] = []
    optimizer = parse(OPTIMIZERS[name], OPTIMIZERS[name].test_options if which == "test options" else {}, "", issues)
    assert not issues
    return optimizer


class Training:
    """Steps on parameters of three replicas, a matrix and a vector, or on those of one replica."""

    def __init__(self, optimizer: Any, replica: int | None = None, dtype: torch.dtype = torch.float64):
        generator, rows = torch.Generator().manual_seed(3), slice(replica, None if replica is None else replica + 1)
        drawn = [torch.randn(REPLICAS, *shape, generator=generator, dtype=dtype) for shape in ((4, 5), (6,))]
        self.optimizer = optimizer
        self.params = [param[rows].clone() for param in drawn]
        self.state = optimizer.init_state(self.params)

    def step(self, count: Any, rates: Rates, slope: float = 1.0) -> None:
        """One step on slope * (|w|^2 + a wave)."""
        gradients = [slope * (2 * param + torch.sin(5 * param + int(count))) for param in self.params]
        self.optimizer.step(self.params, gradients, self.state, count, rates)


def tensor(values: Any) -> Tensor:
    """As schedules and graphs pass numbers."""
    return torch.tensor(values, dtype=torch.float64)


def test_state_has_a_tensor_per_parameter(optimizer: Any):
    training = Training(optimizer)
    for tensors in training.state.values():
        assert [each.shape for each in tensors] == [param.shape for param in training.params]


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_replica_trains_alone_as_in_a_pack(optimizer: Any, momentum: float | None):
    """With a learning rate and a weight decay per replica."""
    pack, alone = Training(optimizer), [Training(optimizer, slot) for slot in range(REPLICAS)]
    for count in range(1, STEPS + 1):
        pack.step(count, Rates(tensor(LEARNING_RATES), tensor(DECAYS), momentum))
        for training, lr, decay in zip(alone, LEARNING_RATES, DECAYS, strict=True):
            training.step(count, Rates(lr, decay, momentum))
    for slot, training in enumerate(alone):
        for packed, single in zip(pack.params, training.params, strict=True):
            torch.testing.assert_close(packed[slot], single[0], rtol=1e-10, atol=1e-13)


def test_numbers_may_be_tensors(optimizer: Any):
    """A replayed step reads count, learning rate, and momentum from the device."""
    plain, filled = Training(optimizer), Training(optimizer)
    for count in range(1, STEPS + 1):
        plain.step(count, Rates(0.01, 0.1, 0.8))
        filled.step(torch.tensor(count), Rates(tensor(0.01), 0.1, tensor(0.8)))
    for first, second in zip(plain.params, filled.params, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-13)


def test_float32_parameters_stay_float32(optimizer: Any):
    training = Training(optimizer, dtype=torch.float32)
    addresses = [param.data_ptr() for param in training.params]
    training.step(1, Rates(tensor(LEARNING_RATES), tensor(DECAYS)))
    assert {each.dtype for each in chain(training.params, *training.state.values())} == {torch.float32}
    assert [param.data_ptr() for param in training.params] == addresses


def test_training_resumes_from_parameters_and_state(optimizer: Any):
    """Nothing else is remembered between steps."""
    training, rates = Training(optimizer), Rates(0.01, 0.1)
    for count in range(1, STEPS + 1):
        training.step(count, rates)
        if count == STEPS // 2:
            saved = deepcopy((training.params, training.state))
    resumed = Training(replace(optimizer))
    resumed.params, resumed.state = saved
    for count in range(STEPS // 2 + 1, STEPS + 1):
        resumed.step(count, rates)
    assert all(torch.equal(first, second) for first, second in zip(training.params, resumed.params, strict=True))


def test_steps_decrease_the_objective(optimizer: Any):
    training = Training(optimizer)
    before = [float(param.square().sum()) for param in training.params]
    for count in range(1, 200):
        gradients = [2 * param for param in training.params]
        optimizer.step(training.params, gradients, training.state, count, Rates(0.01, 0.0))
    assert all(float(param.square().sum()) < old / 2 for param, old in zip(training.params, before, strict=True))


def test_weight_decay_makes_weights_smaller(optimizer: Any):
    """Without gradients, only weight decay changes them. It may vary inside a pack."""
    assert "weight_decay" in varying(type(optimizer))
    for decay, smaller in ((0.0, False), (0.5, True)):
        training = Training(optimizer)
        before = [param.clone() for param in training.params]
        for count in range(1, 6):
            training.step(count, Rates(0.001, decay), slope=0.0)
        for param, old in zip(training.params, before, strict=True):
            assert bool((param.square().sum() < old.square().sum()) if smaller else torch.equal(param, old))
