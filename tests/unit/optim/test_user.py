"""Optimizers and schedules of plugins: what makes a class one, and what is found before training."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fathomlab.base.errors import UserError
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import read_plugin
from fathomlab.optim.user import CheckedOptimizer, checked_memory, optimizer_issues, schedule_issues

HEAD = """\
from dataclasses import dataclass
from typing import Annotated
import numpy as np
import torch
from fathomlab.base.packing import Varies
from fathomlab.optim.rates import WeightDecay, per_replica, zeros_like
"""
LION = """
@dataclass(frozen=True)
class Lion:
    beta: Annotated[float, Varies()] = 0.9
    weight_decay: WeightDecay = 0.1

    def init_state(self, params):
        return {"moment": zeros_like(params)}

    def step(self, params, grads, state, count, rates):
        for param, grad, moment in zip(params, grads, state["moment"]):
            lr, beta = per_replica(rates.lr, param), per_replica(self.beta, param)
            param.mul_(1 - lr * per_replica(rates.weight_decay, param)).sub_(lr * (moment + grad).sign())
            moment.mul_(beta).add_((1 - beta) * grad)
"""
WARMUP = """
@dataclass(frozen=True)
class Warmup:
    epochs: int = 2

    def lr_at(self, lr, position, memory):
        return lr * min(1, (position.epoch + 1) / self.epochs)
"""


def components(folder: Path, text: str) -> Components:
    """The components of a plugin with this text."""
    path = folder / "parts.py"
    path.write_text(HEAD + dedent(text), encoding="utf-8")
    return with_plugins([read_plugin(path)])


def line_of(text: str, word: str) -> int:
    """The line of a word in the plugin."""
    return next(number for number, line in enumerate((HEAD + text).splitlines(), start=1) if word in line)


def optimizer_messages(folder: Path, text: str) -> list[str]:
    """What is wrong with the optimizer Lion of a plugin."""
    optimizer = components(folder, text).optimizers.make("Lion", {}, "", [])
    issues = optimizer_issues(optimizer)
    assert {issue.code for issue in issues} <= {"plugin-error"}
    return [issue.message for issue in issues]


def schedule_messages(folder: Path, body: str, more: str = "") -> list[str]:
    """What is wrong with a schedule whose `lr_at` has this body."""
    text = (
        f"\n@dataclass(frozen=True)\nclass Warmup:\n    def lr_at(self, lr, position, memory):\n        {body}\n{more}"
    )
    schedule: Any = components(folder, text).schedules.make("Warmup", {}, "", [])
    return [issue.message for issue in schedule_issues(schedule, 0.1, epochs=3, steps_per_epoch=4)]


@pytest.mark.parametrize("tables", ["", 'OPTIMIZERS = {"Lion": Lion}\nSCHEDULES = {"Warmup": Warmup}\n'])
def test_frozen_dataclasses_with_methods_are_components(tmp_path: Path, tables: str):
    table = components(tmp_path, LION + WARMUP + tables)
    optimizer = table.optimizers.make("Lion", {"beta": 0.5}, "", [])
    schedule: Any = table.schedules.make("Warmup", {}, "", [])
    assert (optimizer.beta, optimizer.weight_decay, schedule.per_step) == (0.5, 0.1, False)
    assert optimizer_issues(optimizer) == ()
    assert schedule_issues(schedule, 0.1, 3, 4) == ()
    assert table.unsupported(table.losses, "Lion").endswith("Lion is an optimizer.")


def test_optimizer_without_weight_decay_has_none(tmp_path: Path):
    text = LION.replace("    weight_decay: WeightDecay = 0.1\n", "")
    optimizer: Any = components(tmp_path, text).optimizers.make("Lion", {}, "", [])
    assert optimizer.weight_decay == 0.0
    assert optimizer_issues(optimizer) == ()


@pytest.mark.parametrize(
    ("old", "new", "word", "message"),
    [
        ("param.mul_(1", "raise KeyError('x'); param.mul_(1", "param.mul_", "KeyError"),
        ("param.mul_(1", "grad.zero_(); param.mul_(1", "def step", "gradients"),
        ("param.mul_(1", "param = param.mul(1", "def step", "in place"),
        ("moment.mul_(beta).add_(", "state['moment'][0] = moment + (", "def step", "replace"),
        ("moment.mul_(beta)", "state['new'] = []; moment.mul_(beta)", "def step", "init_state"),
        ("per_replica(rates.lr, param)", "rates.lr", "lr * ", "RuntimeError"),
        ("per_replica(self.beta, param)", "torch.as_tensor(self.beta).mean()", "def step", "alone"),
        ("lr * (moment", "lr * torch.rand(()) * (moment", "def step", "random"),
        ("lr * (moment", "lr * np.random.rand() * (moment", "def step", "random"),
        ("lr * (moment + grad)", "lr * (moment + grad.mean(0))", "def step", "alone"),
        (".sub_(lr", ".sub_(float('nan') * lr", "def step", "finite"),
        ("zeros_like(params)", "torch.zeros(2)", "def init_state", "list"),
        ("zeros_like(params)", "[torch.zeros(5) for _ in params]", "def init_state", "(5,)"),
        ("zeros_like(params)", "list(params)", "def init_state", "new tensors"),
        ('return {"moment": zeros_like(params)}', "raise SystemExit(0)", "raise SystemExit", "SystemExit"),
        ("            moment.mul_", "        return params\n            moment.mul_", "", ""),
    ],
)
def test_wrong_optimizer_has_one_error_with_its_line(tmp_path: Path, old: str, new: str, word: str, message: str):
    text = LION.replace(old, new, 1)
    assert text != LION
    if not word:
        text = LION + "        return params\n"
        word, message = "def step", "None"
    (found,) = optimizer_messages(tmp_path, text)
    assert found.startswith(f"parts.py:{line_of(text, word)}: ")
    assert message in found


@pytest.mark.parametrize(
    "value", ["float('nan')", "-1.0", "'0.1'", "None", "float('inf')", "True", "torch.tensor(1.0)"]
)
def test_rates_that_are_not_finite_numbers_are_rejected(tmp_path: Path, value: str):
    (message,) = schedule_messages(tmp_path, f"return {value} if position.epoch == 2 else lr")
    assert message.startswith(f"parts.py:{len(HEAD.splitlines()) + 4}: Warmup.lr_at ")
    assert "epoch 2" in message


@pytest.mark.parametrize("number", ["np.random.rand()", "float(torch.rand(()))"])
def test_random_rates_are_rejected(tmp_path: Path, number: str):
    """A resumed trial would have other rates."""
    (message,) = schedule_messages(tmp_path, f"return lr * {number}")
    assert message.startswith(f"parts.py:{len(HEAD.splitlines()) + 4}: Warmup.lr_at ")
    assert "random" in message


def test_error_in_a_schedule_has_its_line(tmp_path: Path):
    (message,) = schedule_messages(tmp_path, "return lr / position.step")
    assert message.startswith(f"parts.py:{len(HEAD.splitlines()) + 5}: Warmup: ZeroDivisionError")


@pytest.mark.parametrize("memory", ["[1]", "{'a': 'b'}", "{1: 2.0}", "{'a': float('nan')}", "{'a': torch.ones(1)}"])
def test_memory_that_no_checkpoint_can_contain_is_rejected(tmp_path: Path, memory: str):
    more = f"    def observe(self, lr, memory, loss):\n        return {memory}\n"
    (message,) = schedule_messages(tmp_path, "return lr", more)
    assert "Warmup.observe" in message


def test_memory_keeps_numbers(tmp_path: Path):
    table = components(tmp_path, WARMUP)
    memory = checked_memory(table.schedules.make("Warmup", {}, "", []), {"count": 1, "rate": 0.5})
    assert memory == {"count": 1, "rate": 0.5}
    assert type(memory["count"]) is int


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (LION.replace("(frozen=True)", ""), "Lion", "frozen"),
        (LION.replace("state, count, rates", "state"), "Lion", "step(self, params, grads, state, count, rates)"),
        (LION.replace("beta: Annotated[float, Varies()]", "beta: list"), "Lion", "beta"),
        (WARMUP.replace(", position, memory", ""), "Warmup", "lr_at(self, lr, position, memory)"),
        (
            WARMUP.replace("    epochs: int", "    per_step = True\n    epochs: int"),
            "Warmup",
            "momentum(self, position)",
        ),
        ("class Lion(torch.optim.SGD):\n    pass\n", "Lion", "frozen"),
    ],
)
def test_unusable_classes_are_reported_when_they_are_named(tmp_path: Path, text: str, name: str, words: str):
    table = components(tmp_path, text)
    reason = table.unsupported(table.optimizers if name == "Lion" else table.schedules, name)
    assert reason.startswith(f"parts.py: {name}")
    assert words in reason


@pytest.mark.parametrize(
    "table",
    [
        "OPTIMIZERS = [Lion]",
        'OPTIMIZERS = {"Tiger": Lion}',
        'OPTIMIZERS = {"Warmup": Warmup}',
        'SCHEDULES = {"SGD": torch.optim.SGD}',
        "OPTIMIZERS = {1: Lion}",
        'PROBES = {"Lion": Lion}',
    ],
)
def test_wrong_table_is_an_error(tmp_path: Path, table: str):
    with pytest.raises(UserError) as raised:
        components(tmp_path, LION + WARMUP + table + "\n")
    assert raised.value.code == "plugin-error"
    assert str(raised.value).startswith(f"parts.py: {table.split()[0]}")


@pytest.mark.parametrize(("text", "old", "name"), [(LION, "Lion", "SGD"), (WARMUP, "Warmup", "StepLR")])
def test_names_of_built_in_components_are_rejected(tmp_path: Path, text: str, old: str, name: str):
    with pytest.raises(UserError) as raised:
        components(tmp_path, text.replace(old, name))
    assert raised.value.code == "duplicate-name"


def test_replaced_state_is_an_error_during_training(tmp_path: Path):
    """An optimizer that behaves in the first steps only."""
    text = (
        LION
        + "            if count > 9:\n                state['moment'] = [moment.clone() for moment in state['moment']]\n"
    )
    optimizer = CheckedOptimizer(components(tmp_path, text).optimizers.make("Lion", {}, "", []))
    assert optimizer_issues(optimizer.optimizer) == ()
    import torch

    from fathomlab.optim.rates import Rates

    state = {"moment": [torch.zeros(1, 2)]}
    optimizer.step([torch.zeros(1, 2)], [torch.ones(1, 2)], state, 9, Rates(0.1, 0.0))
    with pytest.raises(UserError) as raised:
        optimizer.step([torch.zeros(1, 2)], [torch.ones(1, 2)], state, 10, Rates(0.1, 0.0))
    assert str(raised.value).startswith(f"parts.py:{line_of(text, 'def step')}: ")
