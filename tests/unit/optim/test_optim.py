"""Optimizers on stacked tensors equal torch.optim on single networks, in float64."""

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
CASES = [
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


def initial_params() -> list[Tensor]:
    """Create a matrix, a vector, and a kernel per replica."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, 5), (6,), (2, 3, 3, 3))
    return [torch.randn(REPLICAS, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def gradient(param: Tensor, step: int) -> Tensor:
    """Compute an elementwise gradient that is nonlinear, changes sign, and differs between steps."""
    return 3 * param + torch.sin(5 * param + step) + 0.1 * torch.cos(torch.tensor(float(step)))


def run_stacked(
    optimizer: Any, lr: list[float], decay: list[float], momentum: list[float] | None = None
) -> list[Tensor]:
    """Return the parameters after all steps of the stacked optimizer."""
    params = initial_params()
    state = optimizer.init_state(params)
    shared = len(set(lr)) == len(set(decay)) == 1
    for step in range(1, STEPS + 1):
        rates = Rates(
            lr[0] if shared else torch.tensor(lr, dtype=torch.float64),
            decay[0] if len(set(decay)) == 1 else torch.tensor(decay, dtype=torch.float64),
            None if momentum is None else momentum[step - 1],
        )
        optimizer.step(params, [gradient(param, step) for param in params], state, step, rates)
    return params


def run_torch(
    optimizer: Any, lr: float, decay: float, replica: int, momentum: list[float] | None = None
) -> list[Tensor]:
    """Return the parameters of one replica after all steps of torch's optimizer."""
    params = [param[replica].clone().requires_grad_() for param in initial_params()]
    options = {
        name: getattr(optimizer, name)
        for name in optimizer.__dataclass_fields__
        if name in FIELDS[type(optimizer).__name__]
    }
    torch_optimizer = getattr(torch.optim, type(optimizer).__name__)(params, lr=lr, **options | {"weight_decay": decay})
    for step in range(1, STEPS + 1):
        group = torch_optimizer.param_groups[0]
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum[step - 1], group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum[step - 1]
        for param in params:
            param.grad = gradient(param.detach(), step)
        torch_optimizer.step()
    return [param.detach() for param in params]


FIELDS = {
    "SGD": {"momentum", "dampening", "weight_decay", "nesterov"},
    "Adam": {"betas", "eps", "weight_decay", "amsgrad"},
    "AdamW": {"betas", "eps", "weight_decay", "amsgrad"},
    "RMSprop": {"alpha", "eps", "weight_decay", "momentum", "centered"},
}


def assert_replica_close(actual: list[Tensor], replica: int, expected: list[Tensor]) -> None:
    """Compare one replica within 1e-12 of the maximum of each tensor."""
    for stacked, alone in zip(actual, expected, strict=True):
        assert float((stacked[replica] - alone).abs().max() / alone.abs().max()) < 1e-12


@pytest.mark.parametrize("optimizer", CASES, ids=str)
def test_step_with_shared_rates_equals_torch(optimizer: Any) -> None:
    """The fused path, if there is one."""
    params = run_stacked(optimizer, [0.01] * REPLICAS, [optimizer.weight_decay] * REPLICAS)
    for replica in range(REPLICAS):
        assert_replica_close(params, replica, run_torch(optimizer, 0.01, optimizer.weight_decay, replica))


@pytest.mark.parametrize("optimizer", CASES, ids=str)
def test_step_with_separate_rates_equals_torch(optimizer: Any) -> None:
    decay = [optimizer.weight_decay, optimizer.weight_decay * 2, optimizer.weight_decay * 0.5]
    params = run_stacked(optimizer, list(RATES), decay)
    for replica in range(REPLICAS):
        assert_replica_close(params, replica, run_torch(optimizer, RATES[replica], decay[replica], replica))


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), RMSprop(), SGD(momentum=0.9)], ids=str)
def test_step_with_separate_weight_decay_equals_torch(optimizer: Any) -> None:
    decay = [0.0, 0.1, 0.3]
    params = run_stacked(optimizer, [0.01] * REPLICAS, decay)
    for replica in range(REPLICAS):
        assert_replica_close(params, replica, run_torch(optimizer, 0.01, decay[replica], replica))


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(amsgrad=True), RMSprop(momentum=0.5), SGD(momentum=0.5)], ids=str)
@pytest.mark.parametrize("lr", [[0.01] * REPLICAS, list(RATES)], ids=["shared", "separate"])
def test_step_uses_cycled_momentum(optimizer: Any, lr: list[float]) -> None:
    """It replaces beta1 or the momentum for that step."""
    cycle = [0.95 - 0.1 * (step % 7) / 7 for step in range(STEPS)]
    params = run_stacked(optimizer, lr, [optimizer.weight_decay] * REPLICAS, cycle)
    for replica in range(REPLICAS):
        assert_replica_close(params, replica, run_torch(optimizer, lr[replica], optimizer.weight_decay, replica, cycle))


def test_step_ignores_cycled_momentum_without_momentum() -> None:
    for optimizer in (SGD(), RMSprop()):
        cycled = run_stacked(optimizer, [0.01] * 3, [0.0] * 3, [0.9] * STEPS)
        assert all(
            torch.equal(a, b) for a, b in zip(cycled, run_stacked(optimizer, [0.01] * 3, [0.0] * 3), strict=True)
        )


@pytest.mark.parametrize("optimizer", CASES, ids=str)
def test_step_accepts_strided_gradients(optimizer: Any) -> None:
    """Channels-last kernels and transposed matrices give the same step."""
    for lr in [0.01, torch.tensor(RATES, dtype=torch.float64)]:
        actual = []
        for layout in ("contiguous", "strided"):
            params = initial_params()
            state = optimizer.init_state(params)
            for step in range(1, 4):
                grads = [gradient(param, step) for param in params]
                if layout == "strided":
                    grads = [g.movedim(1, -1).contiguous().movedim(-1, 1) if g.dim() > 2 else g for g in grads]
                    grads[1] = torch.stack([grads[1]] * 2, -1)[..., 0]
                    assert not any(grad.is_contiguous() for grad in grads)
                optimizer.step(params, grads, state, step, Rates(lr, optimizer.weight_decay))
            actual.append(params)
        for a, b in zip(*actual, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_step_keeps_float32_with_separate_rates() -> None:
    """Rates are float64."""
    for optimizer in (SGD(momentum=0.9), Adam(), AdamW(), RMSprop()):
        params = [param.float() for param in initial_params()]
        lr = torch.tensor(RATES, dtype=torch.float64)
        optimizer.step(
            params, [torch.ones_like(param) for param in params], optimizer.init_state(params), 1, Rates(lr, 0.0)
        )
        assert all(param.dtype == torch.float32 for param in params)
        update = (initial_params()[0].float() - params[0])[:, 0, 0]
        ratio = 10 if isinstance(optimizer, RMSprop) else 1
        torch.testing.assert_close(update, ratio * torch.tensor(RATES), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("optimizer", "issue"),
    [
        (SGD(nesterov=True), "conflict nesterov"),
        (SGD(nesterov=True, momentum=0.9, dampening=0.1), "conflict nesterov"),
        (Adam(betas=(0.9,)), "wrong-type betas"),
        (AdamW(betas=(0.9, 0.9, 0.9)), "wrong-type betas"),
    ],
)
def test_validate_rejects_what_torch_rejects(optimizer: Any, issue: str) -> None:
    assert [f"{item.code} {item.path}" for item in optimizer.validate()] == [issue]
    with pytest.raises((ValueError, TypeError, IndexError)):
        run_torch(optimizer, 0.01, 0.0, 0)


def test_optimizer_defaults_equal_torch() -> None:
    assert FIELDS.keys() == {name for name in OPTIMIZERS if hasattr(torch.optim, name)}
    for name in FIELDS:
        optimizer = OPTIMIZERS[name]
        options, torch_defaults = optimizer(), getattr(torch.optim, name)([torch.zeros(1)], lr=0.1).defaults
        assert {field: getattr(options, field) for field in FIELDS[name]} == {
            field: torch_defaults[field] for field in FIELDS[name]
        }
        assert replace(options) == options
