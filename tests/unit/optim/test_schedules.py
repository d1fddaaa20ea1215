"""Schedules equal torch.optim.lr_scheduler in every epoch and step."""

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
LR = 0.3
DEFAULTS: dict[str, Any] = {
    "CosineAnnealingLR": lambda epochs: {"T_max": epochs},
    "StepLR": lambda epochs: {"step_size": max(1, epochs // 3)},
    "MultiStepLR": lambda epochs: {"milestones": [max(1, epochs // 2), max(1, 3 * epochs // 4)]},
}
CASES = [
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


def is_close(actual: float, expected: float) -> bool:
    """Compare within 1e-10. Rounding noise around zero is allowed."""
    return abs(actual - expected) <= 1e-10 * abs(expected) + 1e-15


def options(schedule: Any, epochs: int) -> dict[str, Any]:
    """Return the options of a schedule for torch, with its defaults."""
    given = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    given = {name: value for name, value in given.items() if value is not None}
    with_defaults = DEFAULTS.get(type(schedule).__name__, lambda _: {})(epochs) | given
    return with_defaults | {"gamma": schedule.gamma} if hasattr(schedule, "gamma") else with_defaults


def reference(name: str, optimizer: torch.optim.Optimizer, **given: Any) -> Any:
    """Create the schedule of torch with that name."""
    return getattr(torch.optim.lr_scheduler, name)(optimizer, **given)


def optimizer(name: str = "SGD", **given: Any) -> torch.optim.Optimizer:
    """Create an optimizer of torch with one parameter that has no gradient."""
    return getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)], lr=LR, **given)


@pytest.mark.parametrize("schedule", CASES, ids=str)
def test_epoch_schedules_equal_torch(schedule: Any) -> None:
    """The rate of each epoch does not depend on the batch."""
    for epochs in LENGTHS:
        torch_optimizer = optimizer()
        torch_schedule = reference(type(schedule).__name__, torch_optimizer, **options(schedule, epochs))
        for epoch in range(epochs):
            for step in (0, 3):
                assert is_close(
                    schedule.lr_at(LR, Position(epoch, step, epochs, 5), {}), torch_optimizer.param_groups[0]["lr"]
                )
            torch_optimizer.step()
            torch_schedule.step()


def test_cosine_ends_with_training() -> None:
    """T_max defaults to the number of epochs."""
    rates = [CosineAnnealingLR().lr_at(1.0, Position(epoch, 0, 50, 5), {}) for epoch in range(51)]
    assert rates[0] == 1
    assert rates[25] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0, abs=1e-15)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "schedule",
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
def test_one_cycle_equals_torch(schedule: OneCycleLR) -> None:
    """Learning rate and momentum of every batch."""
    for kind in ["SGD", "Adam"]:
        for epochs, steps in [(1, 1), (1, 2), (1, 9), (2, 6), (7, 3), (10, 10)]:
            torch_optimizer = optimizer(kind, **({"momentum": 0.9} if kind == "SGD" else {}))
            given = options(schedule, epochs)
            torch_schedule = reference("OneCycleLR", torch_optimizer, max_lr=LR, total_steps=epochs * steps, **given)
            for step_index in range(epochs * steps):
                position = Position(step_index // steps, step_index % steps, epochs, steps)
                group = torch_optimizer.param_groups[0]
                assert is_close(schedule.lr_at(LR, position, {}), group["lr"])
                momentum = schedule.momentum(position)
                if schedule.cycle_momentum:
                    assert momentum is not None
                    assert is_close(momentum, group["momentum"] if kind == "SGD" else group["betas"][0])
                else:
                    assert momentum is None
                torch_optimizer.step()
                if step_index + 1 < epochs * steps:
                    torch_schedule.step()


LOSSES = [2.0, 1.5, 1.5, 1.49999, 1.6, 1.6, 1.6, 1.2, 1.2, 1.2, 1.2, 1.2, math.nan, 1.2, 0.5, 0.6, 0.6, 0.6, 0.6] + [
    0.6
] * 12


@pytest.mark.parametrize(
    "schedule",
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
def test_plateau_equals_torch(schedule: ReduceLROnPlateau) -> None:
    """The rate after every validation loss, including NaN."""
    torch_optimizer = optimizer()
    torch_schedule = reference("ReduceLROnPlateau", torch_optimizer, **options(schedule, 1))
    memory: dict[str, float] = {}
    reductions = 0
    for epoch, loss in enumerate(LOSSES):
        rate = schedule.lr_at(LR, Position(epoch, 0, len(LOSSES), 5), memory)
        assert is_close(rate, torch_optimizer.param_groups[0]["lr"])
        torch_schedule.step(loss)
        memory = schedule.observe(LR, memory, loss)
        reductions += memory["rate"] < rate
    assert reductions > 0


def test_observe_returns_new_memory() -> None:
    schedule = ReduceLROnPlateau(patience=0)
    first = schedule.observe(LR, {}, 1.0)
    copied = dict(first)
    second = schedule.observe(LR, first, 1.0)
    assert first == copied
    assert second["rate"] == pytest.approx(LR * 0.1)


def test_constant_returns_lr() -> None:
    assert {Constant().lr_at(LR, Position(epoch, 1, 9, 3), {}) for epoch in range(9)} == {LR}


def test_schedule_defaults_equal_torch() -> None:
    required = {"StepLR": {"step_size": 3}, "MultiStepLR": {"milestones": [3]}, "ExponentialLR": {"gamma": 0.95}}
    required |= {"CosineAnnealingLR": {"T_max": 3}, "OneCycleLR": {"max_lr": LR, "total_steps": 10}}
    shared = [name for name in SCHEDULES if hasattr(torch.optim.lr_scheduler, name)]
    assert len(shared) >= 6
    for name in shared:
        schedule, torch_optimizer = SCHEDULES[name], optimizer(momentum=0.9)
        torch_schedule = reference(name, torch_optimizer, **required.get(name, {}))
        for field in fields(schedule()):
            default, torch_default = getattr(schedule(), field.name), getattr(torch_schedule, field.name, None)
            if torch_default is not None and default is not None and field.name != "anneal_strategy":
                assert default == (
                    torch_default[0] if field.name == "min_lr" and isinstance(torch_default, list) else torch_default
                ), field.name


def test_milestones_may_be_empty() -> None:
    schedule = MultiStepLR(milestones=())
    assert {schedule.lr_at(LR, Position(epoch, 0, 8, 1), {}) for epoch in range(8)} == {LR}
