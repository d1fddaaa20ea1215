"""Adam and AdamW.

Packs with equal options use torch's fused kernels, which compute the same formula in one pass over memory.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.errors import Issue
from fathomlab.base.options import Fraction, NonNegativeFloat
from fathomlab.optim.rates import OptimizerState, Rates, Tensors, WeightDecay, per_replica, zeros_like

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015) with L2 weight decay, equal to torch.optim.Adam.

    Attributes:
        betas: Decay of the first and the second moment, two numbers.
        eps: Added to the root of the second moment.
        weight_decay: Factor of the parameters that is added to the gradients.
        amsgrad: Use the maximum of the second moments so far (Reddi et al., 2018).
    """

    betas: tuple[Fraction, ...] = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    amsgrad: bool = False

    test_options: ClassVar[dict[str, object]] = {}

    def validate(self) -> list[Issue]:
        """Return conflicts between the options: there must be two betas."""
        return _validate_betas(self.betas)

    def init_state(self, params: Tensors) -> OptimizerState:
        """Create the first and second moments, and with amsgrad the maximum of the second moments."""
        return _init_moments(params, self.amsgrad)

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place. `count` is the number of this step, from 1."""
        _adam_step(self, params, grads, state, count, rates, decoupled=False)


@final
@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), equal to torch.optim.AdamW.

    Attributes:
        betas: Decay of the first and the second moment, two numbers.
        eps: Added to the root of the second moment.
        weight_decay: Each step multiplies the parameters by 1 - lr weight_decay.
        amsgrad: Use the maximum of the second moments so far (Reddi et al., 2018).
    """

    betas: tuple[Fraction, ...] = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.01
    amsgrad: bool = False

    test_options: ClassVar[dict[str, object]] = {}

    def validate(self) -> list[Issue]:
        """Return conflicts between the options: there must be two betas."""
        return _validate_betas(self.betas)

    def init_state(self, params: Tensors) -> OptimizerState:
        """Create the first and second moments, and with amsgrad the maximum of the second moments."""
        return _init_moments(params, self.amsgrad)

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place. `count` is the number of this step, from 1."""
        _adam_step(self, params, grads, state, count, rates, decoupled=True)


def _validate_betas(betas: tuple[float, ...]) -> list[Issue]:
    return [] if len(betas) == 2 else [Issue("wrong-type", "betas", f"must be two numbers, got {list(betas)}")]


def _init_moments(params: Tensors, amsgrad: bool) -> OptimizerState:
    state = {"first": zeros_like(params), "second": zeros_like(params)}
    return state | {"largest": zeros_like(params)} if amsgrad else state


def _adam_step(
    optimizer: Adam | AdamW,
    params: Tensors,
    grads: Tensors,
    state: OptimizerState,
    count: "Step",
    rates: Rates,
    decoupled: bool,
) -> None:
    beta1, beta2 = optimizer.betas
    beta1 = beta1 if rates.momentum is None else rates.momentum
    if rates.fused() and not _rounds_rate(rates, params):
        _fused_adam_step(optimizer, params, grads, state, count, rates, (beta1, beta2), decoupled)
        return
    steps = count if isinstance(count, int) else count.double()
    correction1, correction2 = 1 - beta1**steps, (1 - beta2**steps) ** 0.5
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        lr, decay = per_replica(rates.lr, param), per_replica(rates.weight_decay, param)
        if decoupled:
            param.mul_(1 - lr * decay)
        else:
            grad = grad + decay * param
        first = state["first"][index].lerp_(grad, _lerp_weight(1 - beta1, grad))
        second = state["second"][index].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if optimizer.amsgrad:
            maximum = state["largest"][index]
            maximum.copy_(maximum.maximum(second))
            second = maximum
        param.sub_((lr / correction1) * first / (second.sqrt() / correction2 + optimizer.eps))


def _rounds_rate(rates: Rates, params: Tensors) -> bool:
    """Whether the fused kernel would round the learning rate: on a CUDA device, it reads that of a captured step in float32."""
    import torch

    return isinstance(rates.lr, torch.Tensor) and rates.lr.is_cuda and params[0].dtype == torch.float64


def _lerp_weight(number: "float | Tensor", like: "Tensor") -> "float | Tensor":
    """Convert a weight to the dtype that `lerp_` requires."""
    return number if isinstance(number, float | int) else number.to(like.dtype)


def _flat_views(tensors: Tensors) -> "list[Tensor]":
    """View tensors that are not contiguous as vectors in memory order. All of a step have the same memory layout.

    The fused kernel ignores strides, or copies tensors that are not contiguous, which would lose in-place updates.
    """
    return [tensor if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]


def _with_layout_of(params: Tensors, grads: Tensors) -> "list[Tensor]":
    """Return the gradients in the memory layout of the parameters."""
    import torch

    return [
        grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)
        for param, grad in zip(params, grads, strict=True)
    ]


def _fused_adam_step(
    optimizer: Adam | AdamW,
    params: Tensors,
    grads: Tensors,
    state: OptimizerState,
    count: "Step",
    rates: Rates,
    betas: "tuple[Any, float]",
    decoupled: bool,
) -> None:
    import torch

    kernel: Any = torch._fused_adamw_ if decoupled else torch._fused_adam_  # pyright: ignore[reportPrivateImportUsage]
    steps = torch.tensor(float(count), device=params[0].device) if isinstance(count, int) else count.float()
    lr = rates.lr.float() if not isinstance(rates.lr, float | int) and rates.lr.is_cuda else rates.lr
    kernel(
        _flat_views(params),
        _flat_views(_with_layout_of(params, grads)),
        _flat_views(state["first"]),
        _flat_views(state["second"]),
        _flat_views(state["largest"]) if "largest" in state else [],
        [steps] * len(params),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=rates.weight_decay,
        eps=optimizer.eps,
        amsgrad=optimizer.amsgrad,
        maximize=False,
    )
