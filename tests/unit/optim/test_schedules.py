"""Schedules against torch.optim.lr_scheduler, epoch by epoch and step by step over whole trainings."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch

from fathomlab.optim import SCHEDULES
from fathomlab.optim.schedules import (
    Constant,
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    Position,
    ReduceLROnPlateau,
    StepLR,
)

LENGTHS = (1, 2, 3, 7, 30)
BASE = 0.3
DEFAULTS: dict[str, Any] = {
    "CosineAnnealingLR": lambda epochs: {"T_max": epochs},
    "StepLR": lambda epochs: {"step_size": max(1, epochs // 3)},
    "MultiStepLR": lambda epochs: {"milestones": [max(1, epochs // 2), max(1, 3 * epochs // 4)]},
}
PARTS = [
    CosineAnnealingLR(),
    CosineAnnealingLR(eta_min=0.01),
    CosineAnnealingLR(T_max=5, eta_min=0.02),
    CosineAnnealingLR(T_max=100),
    StepLR(),
    StepLR(step_size=4, gamma=0.5),
    MultiStepLR(),
    MultiStepLR(milestones=(2, 5, 6), gamma=0.3),
    MultiStepLR(milestones=(6, 2, 2)),
    ExponentialLR(),
    ExponentialLR(gamma=0.7),
]


def near(found: float, wanted: float) -> bool:
    """Within 1e-10, and rounding about zero."""
    return abs(found - wanted) <= 1e-10 * abs(wanted) + 1e-15


def options(part: Any, epochs: int) -> dict[str, Any]:
    """The part's options as torch takes them, its own defaults spelt out."""
    given = {field.name: getattr(part, field.name) for field in fields(part)}
    given = {name: value for name, value in given.items() if value is not None}
    filled = DEFAULTS.get(type(part).__name__, lambda _: {})(epochs) | given
    return filled | {"gamma": part.gamma} if hasattr(part, "gamma") else filled


def reference(name: str, optimizer: torch.optim.Optimizer, **given: Any) -> Any:
    """Torch's schedule of that name."""
    return getattr(torch.optim.lr_scheduler, name)(optimizer, **given)


def optimizer(name: str = "SGD", **given: Any) -> torch.optim.Optimizer:
    """Torch's optimizer on one number that has no gradient."""
    return getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)], lr=BASE, **given)


@pytest.mark.parametrize("epochs", LENGTHS)
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_schedule_by_the_epoch_is_torch(part: Any, epochs: int) -> None:
    """The rate of each epoch; batches do not matter."""
    theirs = optimizer()
    schedule = reference(type(part).__name__, theirs, **options(part, epochs))
    for epoch in range(epochs):
        for step in (0, 3):
            assert near(part.rate(BASE, Position(epoch, step, epochs, 5), {}), theirs.param_groups[0]["lr"])
        theirs.step()
        schedule.step()


def test_a_cosine_ends_with_the_training() -> None:
    """Its half wave fits the epochs that the file asks for, whatever torch's examples have there."""
    rates = [CosineAnnealingLR().rate(1.0, Position(epoch, 0, 50, 5), {}) for epoch in range(51)]
    assert rates[0] == 1
    assert rates[25] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0, abs=1e-15)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (1, 9), (2, 6), (7, 3), (10, 10)])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(
    "part",
    [
        OneCycleLR(),
        OneCycleLR(anneal_strategy="linear"),
        OneCycleLR(three_phase=True),
        OneCycleLR(three_phase=True, anneal_strategy="linear", pct_start=0.4),
        OneCycleLR(pct_start=0.1, div_factor=5.0, final_div_factor=100.0, base_momentum=0.6, max_momentum=0.9),
        OneCycleLR(cycle_momentum=False),
    ],
    ids=str,
)
def test_one_cycle_is_torch_step_by_step(part: OneCycleLR, kind: str, epochs: int, steps: int) -> None:
    """Learning rate and momentum of every batch."""
    theirs = optimizer(kind, **({"momentum": 0.9} if kind == "SGD" else {}))
    given = options(part, epochs)
    schedule = reference("OneCycleLR", theirs, max_lr=BASE, total_steps=epochs * steps, **given)
    for number in range(epochs * steps):
        at = Position(number // steps, number % steps, epochs, steps)
        group = theirs.param_groups[0]
        assert near(part.rate(BASE, at, {}), group["lr"])
        momentum = part.momentum(at)
        if part.cycle_momentum:
            assert momentum is not None
            assert near(momentum, group["momentum"] if kind == "SGD" else group["betas"][0])
        else:
            assert momentum is None
        theirs.step()
        if number + 1 < epochs * steps:
            schedule.step()


LOSSES = [2.0, 1.5, 1.5, 1.49999, 1.6, 1.6, 1.6, 1.2, 1.2, 1.2, 1.2, 1.2, math.nan, 1.2, 0.5, 0.6, 0.6, 0.6, 0.6] + [
    0.6
] * 12


@pytest.mark.parametrize(
    "part",
    [
        ReduceLROnPlateau(),
        ReduceLROnPlateau(patience=0),
        ReduceLROnPlateau(patience=2, factor=0.5),
        ReduceLROnPlateau(patience=1, cooldown=3),
        ReduceLROnPlateau(patience=0, cooldown=2, factor=0.3, min_lr=0.02),
        ReduceLROnPlateau(patience=1, threshold=0.25),
        ReduceLROnPlateau(patience=1, threshold=0.25, threshold_mode="abs"),
        ReduceLROnPlateau(patience=0, factor=0.9, eps=0.02),
    ],
    ids=str,
)
def test_a_plateau_is_torch(part: ReduceLROnPlateau) -> None:
    """The rate after every validation loss, one that is no number among them."""
    theirs = optimizer()
    schedule = reference("ReduceLROnPlateau", theirs, **options(part, 1))
    memory: dict[str, float] = {}
    fell = 0
    for epoch, loss in enumerate(LOSSES):
        rate = part.rate(BASE, Position(epoch, 0, len(LOSSES), 5), memory)
        assert near(rate, theirs.param_groups[0]["lr"])
        schedule.step(loss)
        memory = part.observe(BASE, memory, loss)
        fell += memory["rate"] < rate
    assert fell > 0


def test_a_plateau_remembers_for_each_replica() -> None:
    """`observe` returns a memory and leaves the old one alone."""
    part = ReduceLROnPlateau(patience=0)
    first = part.observe(BASE, {}, 1.0)
    kept = dict(first)
    second = part.observe(BASE, first, 1.0)
    assert first == kept
    assert second["rate"] == pytest.approx(BASE * 0.1)


def test_a_constant_rate_is_constant() -> None:
    """Without a schedule."""
    assert {Constant().rate(BASE, Position(epoch, 1, 9, 3), {}) for epoch in range(9)} == {BASE}


def test_defaults_are_those_of_torch() -> None:
    """Every option that torch has a default for means the same where it is left out."""
    needed = {"StepLR": {"step_size": 3}, "MultiStepLR": {"milestones": [3]}, "ExponentialLR": {"gamma": 0.95}}
    needed |= {"CosineAnnealingLR": {"T_max": 3}, "OneCycleLR": {"max_lr": BASE, "total_steps": 10}}
    for name, part in SCHEDULES.items():
        theirs = optimizer(momentum=0.9)
        made = reference(name, theirs, **needed.get(name, {}))
        for field in fields(part()):
            mine, other = getattr(part(), field.name), getattr(made, field.name, None)
            if other is not None and mine is not None and field.name != "anneal_strategy":
                assert mine == (other[0] if field.name == "min_lr" and isinstance(other, list) else other), field.name


def test_milestones_may_be_none() -> None:
    """An empty list is a training without a fall, as in torch."""
    part = MultiStepLR(milestones=())
    assert {part.rate(BASE, Position(epoch, 0, 8, 1), {}) for epoch in range(8)} == {BASE}
