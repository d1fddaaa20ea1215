"""Optimizers on stacked tensors against torch.optim, one network at a time, in float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.optim import OPTIMIZERS
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rates import Rates
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.sgd import SGD

STEPS, REPLICAS = 30, 3
RATES = (0.01, 0.003, 0.05)
PARTS = [
    SGD(),
    SGD(weight_decay=0.1),
    SGD(momentum=0.9),
    SGD(momentum=0.9, dampening=0.3, weight_decay=0.05),
    SGD(momentum=0.8, nesterov=True),
    SGD(momentum=0.8, nesterov=True, weight_decay=0.1),
    Adam(),
    Adam(weight_decay=0.1),
    Adam(betas=(0.7, 0.95), eps=1e-3),
    Adam(amsgrad=True, weight_decay=0.02),
    AdamW(),
    AdamW(betas=(0.5, 0.9), weight_decay=0.2),
    AdamW(amsgrad=True),
    AdamW(weight_decay=0.0),
    RMSprop(),
    RMSprop(alpha=0.8, eps=1e-4, weight_decay=0.1),
    RMSprop(momentum=0.7),
    RMSprop(centered=True),
    RMSprop(centered=True, momentum=0.5, weight_decay=0.03, alpha=0.9),
]


def start() -> list[Tensor]:
    """A matrix, a vector and a kernel for each replica."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, 5), (6,), (2, 3, 3, 3))
    return [torch.randn(REPLICAS, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def slope(value: Tensor, step: int) -> Tensor:
    """A gradient that bends, changes sign and differs from step to step, for each element on its own."""
    return 3 * value + torch.sin(5 * value + step) + 0.1 * torch.cos(torch.tensor(float(step)))


def stepped(part: Any, lr: list[float], decay: list[float], momentum: list[float] | None = None) -> list[Tensor]:
    """Values after all steps of the stacked optimizer."""
    values = start()
    slots = part.slots(values)
    shared = len(set(lr)) == len(set(decay)) == 1
    for step in range(1, STEPS + 1):
        rates = Rates(
            lr[0] if shared else torch.tensor(lr, dtype=torch.float64),
            decay[0] if len(set(decay)) == 1 else torch.tensor(decay, dtype=torch.float64),
            None if momentum is None else momentum[step - 1],
        )
        part.update(values, [slope(value, step) for value in values], slots, step, rates)
    return values


def expected(part: Any, lr: float, decay: float, replica: int, momentum: list[float] | None = None) -> list[Tensor]:
    """Values of one replica after all steps of torch's own optimizer."""
    values = [value[replica].clone().requires_grad_() for value in start()]
    options = {name: getattr(part, name) for name in part.__dataclass_fields__ if name in FIELDS[type(part).__name__]}
    optimizer = getattr(torch.optim, type(part).__name__)(values, lr=lr, **options | {"weight_decay": decay})
    for step in range(1, STEPS + 1):
        group = optimizer.param_groups[0]
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum[step - 1], group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum[step - 1]
        for value in values:
            value.grad = slope(value.detach(), step)
        optimizer.step()
    return [value.detach() for value in values]


FIELDS = {
    "SGD": {"momentum", "dampening", "weight_decay", "nesterov"},
    "Adam": {"betas", "eps", "weight_decay", "amsgrad"},
    "AdamW": {"betas", "eps", "weight_decay", "amsgrad"},
    "RMSprop": {"alpha", "eps", "weight_decay", "momentum", "centered"},
}


def assert_near(found: list[Tensor], replica: int, wanted: list[Tensor]) -> None:
    """Within 1e-12 of the largest number of each tensor."""
    for stacked, alone in zip(found, wanted, strict=True):
        assert float((stacked[replica] - alone).abs().max() / alone.abs().max()) < 1e-12


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_pack_that_shares_its_rates_is_torch(part: Any) -> None:
    """Same learning rate and decay for all: the fused path, where there is one."""
    values = stepped(part, [0.01] * REPLICAS, [part.weight_decay] * REPLICAS)
    for replica in range(REPLICAS):
        assert_near(values, replica, expected(part, 0.01, part.weight_decay, replica))


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_pack_that_differs_in_its_rates_is_torch(part: Any) -> None:
    """Each replica moves as if it were alone with its learning rate and its decay."""
    decay = [part.weight_decay, part.weight_decay * 2, part.weight_decay * 0.5]
    values = stepped(part, list(RATES), decay)
    for replica in range(REPLICAS):
        assert_near(values, replica, expected(part, RATES[replica], decay[replica], replica))


@pytest.mark.parametrize("part", [Adam(), AdamW(), RMSprop(), SGD(momentum=0.9)], ids=str)
def test_decay_alone_may_differ(part: Any) -> None:
    """One learning rate, three decays, one of them none."""
    decay = [0.0, 0.1, 0.3]
    values = stepped(part, [0.01] * REPLICAS, decay)
    for replica in range(REPLICAS):
        assert_near(values, replica, expected(part, 0.01, decay[replica], replica))


@pytest.mark.parametrize("part", [Adam(), AdamW(amsgrad=True), RMSprop(momentum=0.5), SGD(momentum=0.5)], ids=str)
@pytest.mark.parametrize("lr", [[0.01] * REPLICAS, list(RATES)], ids=["shared", "own"])
def test_a_cycled_momentum_is_taken(part: Any, lr: list[float]) -> None:
    """What a schedule cycles replaces beta1, or the momentum, for that step."""
    cycle = [0.95 - 0.1 * (step % 7) / 7 for step in range(STEPS)]
    values = stepped(part, lr, [part.weight_decay] * REPLICAS, cycle)
    for replica in range(REPLICAS):
        assert_near(values, replica, expected(part, lr[replica], part.weight_decay, replica, cycle))


def test_a_cycled_momentum_needs_one_to_cycle() -> None:
    """SGD and RMSprop without momentum stay without."""
    for part in (SGD(), RMSprop()):
        cycled = stepped(part, [0.01] * 3, [0.0] * 3, [0.9] * STEPS)
        assert all(torch.equal(a, b) for a, b in zip(cycled, stepped(part, [0.01] * 3, [0.0] * 3), strict=True))


@pytest.mark.parametrize("part", PARTS, ids=str)
@pytest.mark.parametrize("lr", [0.01, torch.tensor(RATES, dtype=torch.float64)], ids=["shared", "own"])
def test_gradients_need_not_be_contiguous(part: Any, lr: float | Tensor) -> None:
    """A kernel's gradient may come channels last, a matrix's transposed: the same numbers, the same step."""
    found = []
    for layout in ("contiguous", "strided"):
        values = start()
        slots = part.slots(values)
        for step in range(1, 4):
            gradients = [slope(value, step) for value in values]
            if layout == "strided":
                gradients = [g.movedim(1, -1).contiguous().movedim(-1, 1) if g.dim() > 2 else g for g in gradients]
                gradients[1] = torch.stack([gradients[1]] * 2, -1)[..., 0]
                assert not any(gradient.is_contiguous() for gradient in gradients)
            part.update(values, gradients, slots, step, Rates(lr, part.weight_decay))
        found.append(values)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


def test_float32_takes_a_rate_for_each_replica() -> None:
    """Rates are float64 and the values are not; the format of the values stays."""
    for part in (SGD(momentum=0.9), Adam(), AdamW(), RMSprop()):
        values = [value.float() for value in start()]
        lr = torch.tensor(RATES, dtype=torch.float64)
        part.update(values, [torch.ones_like(value) for value in values], part.slots(values), 1, Rates(lr, 0.0))
        assert all(value.dtype == torch.float32 for value in values)
        moved = (start()[0].float() - values[0])[:, 0, 0]
        ratio = 10 if isinstance(part, RMSprop) else 1
        torch.testing.assert_close(moved, ratio * torch.tensor(RATES), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (SGD(nesterov=True), "conflict nesterov"),
        (SGD(nesterov=True, momentum=0.9, dampening=0.1), "conflict nesterov"),
        (Adam(betas=(0.9,)), "wrong-type betas"),
        (AdamW(betas=(0.9, 0.9, 0.9)), "wrong-type betas"),
    ],
)
def test_options_that_torch_refuses_are_refused(part: Any, complaint: str) -> None:
    """With the option and the reason."""
    assert [f"{problem.code} {problem.path}" for problem in part.validate()] == [complaint]
    with pytest.raises((ValueError, TypeError, IndexError)):
        expected(part, 0.01, 0.0, 0)


def test_defaults_are_those_of_torch() -> None:
    """Every option that is left out means what it means in torch."""
    for name, part in OPTIMIZERS.items():
        mine, reference = part(), getattr(torch.optim, name)([torch.zeros(1)], lr=0.1).defaults
        assert {field: getattr(mine, field) for field in FIELDS[name]} == {
            field: reference[field] for field in FIELDS[name]
        }
        assert replace(mine) == mine
