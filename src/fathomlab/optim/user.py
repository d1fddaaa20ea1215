"""Optimizers and schedules of plugins: what makes a class one, and checks that run them once before any training.

A user's code may be wrong. What can be found by running it on a few numbers is an error before training; the rest is an error
of the trial that uses it.
"""

import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import Issue, UserError, definition_location, format_value
from fathomlab.base.output import escape_control_chars
from fathomlab.base.packing import varying
from fathomlab.base.user_code import describe_error, user_code
from fathomlab.optim.rates import OptimizerState, Rates, Tensors
from fathomlab.optim.schedules import Memory, Position

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.optim.rates import Step

SHAPES = ((3, 4), (4,), (2, 3, 3, 3), ())
STEPS = 3
MAX_CHECKED = 2000
IN_PLACE = "must update params in place, as in param.sub_(update)"
PER_REPLICA = "fathomlab.optim.rates.per_replica"


def is_optimizer(value: Any) -> bool:
    """Whether an object of a plugin is meant to be an optimizer."""
    return _has_methods(value, "init_state", "step") or _is_torch_class(value, "Optimizer")


def is_schedule(value: Any) -> bool:
    """Whether an object of a plugin is meant to be a schedule."""
    return _has_methods(value, "lr_at") or _is_torch_class(value, "LRScheduler")


def optimizer_defect(component: Any) -> str:
    """Return why a frozen dataclass is not an optimizer, or `""`. Sets the attributes that the engine reads."""
    if not hasattr(component, "weight_decay"):
        component.weight_decay = 0.0
    arguments = {"init_state": ("params",), "step": ("params", "grads", "state", "count", "rates")}
    return _signature_defect(component, arguments)


def schedule_defect(component: Any) -> str:
    """Return why a frozen dataclass is not a schedule, or `""`. Sets the attributes that the engine reads."""
    if not hasattr(component, "per_step"):
        component.per_step = False
    arguments: dict[str, tuple[str, ...]] = {"lr_at": ("lr", "position", "memory")}
    arguments |= {"observe": ("lr", "memory", "loss")} if hasattr(component, "observe") else {}
    arguments |= {"momentum": ("position",)} if component.per_step else {}
    return _signature_defect(component, arguments)


@cache
def optimizer_issues(optimizer: Any) -> tuple[Issue, ...]:
    """Run an optimizer on small tensors of two replicas, and return what is wrong with it."""
    import torch

    def check() -> Iterator[str]:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):
            yield from _optimizer_defects(optimizer)

    return _issues(optimizer, "step", check)


def schedule_issues(schedule: Any, lr: float, epochs: int, steps_per_epoch: int) -> tuple[Issue, ...]:
    """Compute the learning rates of a training, at most 2,000 of them, and return what is wrong with them."""

    def check() -> Iterator[str]:
        memory: Memory = {}
        for epoch in range(min(epochs, MAX_CHECKED)):
            steps = range(steps_per_epoch) if epoch in (0, epochs - 1) else (0,)
            for step in steps[: MAX_CHECKED // 2]:
                position = Position(epoch, step, epochs, steps_per_epoch)
                rate = checked_rate(schedule, schedule.lr_at(lr, position, memory), position)
                if schedule.lr_at(lr, position, memory) != rate:
                    yield "must return the same rate for the same position and memory; it must not draw random numbers"
                if schedule.per_step:
                    checked_momentum(schedule, schedule.momentum(position))
            if hasattr(schedule, "observe"):
                memory = checked_memory(schedule, schedule.observe(lr, memory, 1.0))
        yield ""

    return _issues(schedule, "lr_at", check)


def checked_rate(schedule: Any, rate: Any, position: Position) -> float:
    """Return the learning rate of a user's schedule.

    Raises:
        UserError: If it is not a finite number that is at least 0.
    """
    if _is_number(rate) and 0 <= rate < math.inf:
        return float(rate)
    where = f"in epoch {position.epoch}, step {position.step}"
    raise _defect(schedule, "lr_at", f"must return a finite number >= 0, got {format_value(rate)} {where}")


def checked_momentum(schedule: Any, momentum: Any) -> float | None:
    """Return the momentum of a user's schedule.

    Raises:
        UserError: If it is neither None nor a number of at least 0 and below 1.
    """
    if momentum is None or (_is_number(momentum) and 0 <= momentum < 1):
        return momentum
    raise _defect(schedule, "momentum", f"must return None or a number >= 0 and < 1, got {format_value(momentum)}")


def checked_memory(schedule: Any, memory: Any) -> Memory:
    """Return a copy of the memory of a user's schedule, which is part of checkpoints.

    Raises:
        UserError: If it is not a dictionary of strings to finite numbers.
    """
    if not isinstance(memory, dict):
        raise _defect(schedule, "observe", f"must return a dictionary, got {format_value(memory)}")
    for key, value in memory.items():
        if not isinstance(key, str) or not _is_number(value) or not math.isfinite(value):
            text = f"must return a dictionary of strings to finite numbers, got {format_value({key: value})}"
            raise _defect(schedule, "observe", text)
    return {key: value if type(value) is int else float(value) for key, value in memory.items()}


@dataclass(frozen=True)
class CheckedOptimizer:
    """A user's optimizer whose state stays in its tensors, so that checkpoints contain it."""

    optimizer: Any

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place.

        Raises:
            UserError: If a tensor of the state was replaced.
        """
        before = {name: tuple(tensors) for name, tensors in state.items()}
        self.optimizer.step(params, grads, state, count, rates)
        if text := _replaced(before, state):
            raise _defect(self.optimizer, "step", text)


def _replaced(before: Mapping[str, Sequence["Tensor"]], state: OptimizerState) -> str:
    if before.keys() != state.keys():
        return "must not add or remove entries of the state; create them in init_state"
    for name, tensors in before.items():
        same = len(tensors) == len(state[name])
        if not same or any(old is not new for old, new in zip(tensors, state[name], strict=True)):
            return f"must update state['{name}'] in place, as in tensor.copy_(value), not replace its tensors"
    return ""


def _optimizer_defects(optimizer: Any) -> Iterator[str]:
    """Yield what is wrong with two replicas, each alone and as a pack; the first problem counts."""
    import torch

    generator = torch.get_rng_state()
    together, shared = _run(optimizer, (0, 1), shared=False), _run(optimizer, (0, 1), shared=True)
    if not torch.equal(torch.get_rng_state(), generator):
        yield "must not draw random numbers, because they depend on what ran before"
    for slot in (0, 1):
        for pack, is_shared in ((together, False), (shared, True)):
            alone = _run(optimizer, (slot,), shared=is_shared)
            if not all(torch.allclose(a[slot], b[0], rtol=1e-9, atol=1e-12) for a, b in zip(pack, alone, strict=True)):
                text = "gives other numbers for a replica in a pack than alone: tensors have a first axis of replicas"
                yield f"{text}, and {PER_REPLICA} makes lr, weight_decay, and options marked Varies broadcast"


def _run(optimizer: Any, slots: Sequence[int], shared: bool) -> "list[Tensor]":
    """Return parameters after a few steps, each (replicas, ...). Unless `shared`, rates differ between the replicas.

    Raises:
        UserError: If the optimizer does what no optimizer may do.
    """
    import torch

    def stacked(first: float, second: float) -> Any:
        values = [(first, first if shared else second)[slot] for slot in slots]
        return values[0] if len(set(values)) == 1 else torch.tensor(values, dtype=torch.float64)

    pack, marked = copy(optimizer), varying(type(optimizer))
    for name in marked:
        value = getattr(optimizer, name)
        object.__setattr__(pack, name, stacked(value, value * 0.9))
    decay = optimizer.weight_decay
    rates = Rates(stacked(0.01, 0.02), stacked(decay, decay + 0.01) if "weight_decay" in marked else decay)
    params = _random(0, slots)
    start, state = [param.clone() for param in params], pack.init_state(params)
    if text := _state_defect(state, params):
        raise _defect(optimizer, "init_state", text)
    for count in range(1, STEPS + 1):
        if text := _step_defect(pack, params, state, count, rates, slots):
            raise _defect(optimizer, "step", text)
    if all(map(torch.equal, params, start)):
        raise _defect(optimizer, "step", IN_PLACE)
    if not all(bool(param.isfinite().all()) for param in params):
        raise _defect(optimizer, "step", "gives numbers that are not finite")
    return params


def _random(seed: int, slots: Sequence[int]) -> "list[Tensor]":
    """Random tensors of some replicas, (replicas, *shape), equal for equal seeds."""
    import torch

    source = torch.Generator().manual_seed(seed)
    return [torch.randn(2, *shape, generator=source, dtype=torch.float64)[list(slots)] for shape in SHAPES]


def _step_defect(
    optimizer: Any, params: Tensors, state: OptimizerState, count: int, rates: Rates, slots: Sequence[int]
) -> str:
    """Make a step, and return what it may not do."""
    import torch

    grads, before, passed = _random(count, slots), {name: tuple(tensors) for name, tensors in state.items()}, [*params]
    result = optimizer.step(passed, grads, state, count, rates)
    if result is not None:
        return f"must return None and update params in place, got {type(result).__name__}"
    if not all(map(torch.equal, grads, _random(count, slots))):
        return "must not change the gradients"
    return _replaced(before, state) or ("" if all(map(operator.is_, passed, params)) else IN_PLACE)


def _state_defect(state: Any, params: Tensors) -> str:
    import torch

    if not isinstance(state, dict):
        return f"must return a dictionary of names to one tensor per parameter, got {type(state).__name__}"
    for name, tensors in state.items():
        if not isinstance(name, str) or not isinstance(tensors, list) or len(tensors) != len(params):
            return f"must return a list of one tensor per parameter for each name, got another value for {name!r}"
        for tensor, param in zip(tensors, params, strict=True):
            if not isinstance(tensor, torch.Tensor) or tensor.shape[:1] != param.shape[:1]:
                got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                return f"must return tensors whose first axis is that of the replicas, got {got} in {name!r}"
            if any(tensor is other for other in params):
                return f"must return new tensors, got a parameter in {name!r}"
    return ""


def _issues(component: Any, method: str, check: Callable[[], Iterator[str]]) -> tuple[Issue, ...]:
    """The first problem of a check that runs a user's code."""
    try:
        with user_code():
            text = next((text for text in check() if text), "")
        if not text:
            return ()
        text = str(_defect(component, method, text))
    except KeyboardInterrupt:
        raise
    except UserError as error:
        text = str(error)
    except BaseException as error:  # a plugin may call sys.exit, too
        text = describe_error(error, type(component).__name__)
    return (Issue("plugin-error", "", escape_control_chars(text)),)


def _defect(component: Any, method: str, text: str) -> UserError:
    """The error of a method, with its file and line."""
    cls = type(component)
    return UserError("plugin-error", f"{definition_location(getattr(cls, method, None))}{cls.__name__}.{method} {text}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_methods(value: Any, *names: str) -> bool:
    return isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)


def _is_torch_class(value: Any, name: str) -> bool:
    torch: Any = sys.modules.get("torch")  # a plugin without torch has no such classes
    if torch is None or not isinstance(value, type):
        return False
    base = torch.optim.Optimizer if name == "Optimizer" else torch.optim.lr_scheduler.LRScheduler
    return issubclass(value, base)


def _signature_defect(component: Any, arguments: Mapping[str, Sequence[str]]) -> str:
    """Why methods cannot be called with these positional arguments."""
    for method, names in arguments.items():
        expected = f"{method}({', '.join(('self', *names))})"
        if not callable(function := getattr(component, method, None)):
            return f"must have a method {expected}"
        try:
            inspect.signature(function).bind(None, *names)
        except TypeError:
            return f"must have a method {expected}, got {method}{inspect.signature(function)}"
    return ""
