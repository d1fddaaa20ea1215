"""Adam and AdamW. Packs that share their options use torch's fused kernels: the same formula in one pass over memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.options import Fraction, NonNegativeFloat
from fathomlab.base.problems import Problem
from fathomlab.optim.rates import Rates, Slots, Tensors, WeightDecay, per_replica, zeros

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.optim.rates import Step


@final
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015) with L2 weight decay, as torch.optim.Adam."""

    betas: tuple[Fraction, ...] = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    amsgrad: bool = False

    tiny: ClassVar[dict[str, object]] = {}

    def complaints(self) -> list[Problem]:
        """Two betas."""
        return _two_betas(self.betas)

    def slots(self, values: Tensors) -> Slots:
        """First and second moments, and the largest second moment with amsgrad."""
        return _moments(values, self.amsgrad)

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        _adam(self, values, gradients, slots, step, rates, decoupled=False)


@final
@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), as torch.optim.AdamW."""

    betas: tuple[Fraction, ...] = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.01
    amsgrad: bool = False

    tiny: ClassVar[dict[str, object]] = {}

    def complaints(self) -> list[Problem]:
        """Two betas."""
        return _two_betas(self.betas)

    def slots(self, values: Tensors) -> Slots:
        """First and second moments, and the largest second moment with amsgrad."""
        return _moments(values, self.amsgrad)

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        _adam(self, values, gradients, slots, step, rates, decoupled=True)


def _two_betas(betas: tuple[float, ...]) -> list[Problem]:
    return [] if len(betas) == 2 else [Problem("wrong-type", "betas", f"must be two numbers, got {list(betas)}")]


def _moments(values: Tensors, amsgrad: bool) -> Slots:
    made = {"first": zeros(values), "second": zeros(values)}
    return made | {"largest": zeros(values)} if amsgrad else made


def _adam(
    part: Adam | AdamW, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates, decoupled: bool
) -> None:
    beta1, beta2 = part.betas
    beta1 = beta1 if rates.momentum is None else rates.momentum
    if rates.fused():
        _fused_adam(part, values, gradients, slots, step, rates, (beta1, beta2), decoupled)
        return
    count = step if isinstance(step, int) else step.double()
    correction1, correction2 = 1 - beta1**count, (1 - beta2**count) ** 0.5
    for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        lr, decay = per_replica(rates.lr, value), per_replica(rates.weight_decay, value)
        if decoupled:
            value.mul_(1 - lr * decay)
        else:
            gradient = gradient + decay * value
        first = slots["first"][place].lerp_(gradient, _like(1 - beta1, gradient))
        second = slots["second"][place].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if part.amsgrad:
            largest = slots["largest"][place]
            largest.copy_(largest.maximum(second))
            second = largest
        value.sub_((lr / correction1) * first / (second.sqrt() / correction2 + part.eps))


def _like(number: "float | Tensor", like: "Tensor") -> "float | Tensor":
    """A number in the format that lerp_ asks of a tensor."""
    return number if isinstance(number, float | int) else number.to(like.dtype)


def _in_memory(values: Tensors, moved: Tensors) -> "list[Tensor]":
    """Tensors that are changed in place, as one row of numbers each: the fused kernel reads no strides, or copies what is not
    contiguous. All of them lie in memory as the values do.
    """
    assert all(own.stride() == value.stride() for own, value in zip(moved, values, strict=True))
    return [own.as_strided((own.numel(),), (1,)) for own in moved]


def _laid_out(values: Tensors, gradients: Tensors) -> "list[Tensor]":
    """The gradients in the memory order of the values."""
    import torch

    return [
        gradient if gradient.stride() == value.stride() else torch.empty_like(value).copy_(gradient)
        for value, gradient in zip(values, gradients, strict=True)
    ]


def _fused_adam(
    part: Adam | AdamW,
    values: Tensors,
    gradients: Tensors,
    slots: Slots,
    step: "Step",
    rates: Rates,
    betas: "tuple[Any, float]",
    decoupled: bool,
) -> None:
    import torch

    kernel: Any = torch._fused_adamw_ if decoupled else torch._fused_adam_  # pyright: ignore[reportPrivateImportUsage]
    count = torch.tensor(float(step), device=values[0].device) if isinstance(step, int) else step.float()
    lr = rates.lr.float() if not isinstance(rates.lr, float | int) and rates.lr.is_cuda else rates.lr
    kernel(
        _in_memory(values, values),
        _in_memory(values, _laid_out(values, gradients)),
        _in_memory(values, slots["first"]),
        _in_memory(values, slots["second"]),
        _in_memory(values, slots["largest"]) if "largest" in slots else [],
        [count] * len(values),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=rates.weight_decay,
        eps=part.eps,
        amsgrad=part.amsgrad,
        maximize=False,
    )
