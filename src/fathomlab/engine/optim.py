"""Optimizers by their torch names, on stacked tensors: the learning rate and weight decay may differ between replicas.

One formula a class, equal to torch.optim's. Where a pack shares its hyper-parameters, torch's fused kernels do the same in
one pass over memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from annotated_types import Interval

from fathomlab.base.options import Fraction, NonNegativeFloat
from fathomlab.base.packing import Varies
from fathomlab.base.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor

    Step = int | Tensor

WeightDecay = Annotated[float, Interval(ge=0), Varies()]
Tensors = Sequence["Tensor"]
Slots = dict[str, list["Tensor"]]


@dataclass
class Rates:
    """What changes from step to step, or from replica to replica.

    Attributes:
        lr: Learning rate; (k,) where it differs between the replicas.
        weight_decay: Likewise.
        momentum: First-moment decay that a schedule cycles, or None for the optimizer's own.

    In a captured step lr and momentum are tensors on the device, which the host fills before each replay.
    """

    lr: "float | Tensor"
    weight_decay: "float | Tensor"
    momentum: "float | Tensor | None" = None

    def fused(self) -> bool:
        """Whether torch's fused kernels can take them: all replicas have the same, and nothing that is cycled is a tensor."""
        alike = isinstance(self.lr, float | int) or self.lr.dim() == 0
        return alike and isinstance(self.weight_decay, float) and isinstance(self.momentum, float | None)


def _per(value: "float | Tensor", like: "Tensor") -> "float | Tensor":
    """A value a replica, shaped to act on a stacked tensor."""
    if isinstance(value, int | float) or value.dim() == 0:
        return value
    return value.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))


def _zeros(values: Tensors) -> "list[Tensor]":
    import torch

    return [torch.zeros_like(value) for value in values]


def _undamped(step: "Step", dampening: float) -> "float | Tensor":
    """The share of a gradient that enters the momentum: all of the first, as torch has it."""
    return 1 - dampening * ((step != 1) if isinstance(step, int) else (step != 1).double())


@final
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD."""

    momentum: Fraction = 0.0
    dampening: Fraction = 0.0
    weight_decay: WeightDecay = 0.0
    nesterov: bool = False

    tiny: ClassVar[dict[str, object]] = {"momentum": 0.9}

    def complaints(self) -> list[Problem]:
        """Nesterov needs momentum and no dampening."""
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            return [Problem("conflict", "nesterov", "requires momentum > 0 and dampening 0")]
        return []

    def slots(self, values: Tensors) -> Slots:
        """The momentum, where there is one."""
        return {"momentum": _zeros(values)} if self.momentum else {}

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            gradient = gradient + _per(rates.weight_decay, value) * value
            if self.momentum:
                buffer = slots["momentum"][place]
                buffer.mul_(momentum).add_(gradient * _undamped(step, self.dampening) if self.dampening else gradient)
                gradient = gradient + momentum * buffer if self.nesterov else buffer
            value.sub_(_per(rates.lr, value) * gradient)


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


@final
@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton's lecture 6e), as torch.optim.RMSprop."""

    alpha: Fraction = 0.99
    eps: NonNegativeFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum: Fraction = 0.0
    centered: bool = False

    tiny: ClassVar[dict[str, object]] = {"momentum": 0.5}

    def slots(self, values: Tensors) -> Slots:
        """The mean square, the mean where centered, the momentum where there is one."""
        made = {"square": _zeros(values)}
        if self.centered:
            made["mean"] = _zeros(values)
        if self.momentum:
            made["momentum"] = _zeros(values)
        return made

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Move `values` in place; `step` counts from 1."""
        momentum = self.momentum if rates.momentum is None or not self.momentum else rates.momentum
        for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            gradient = gradient + _per(rates.weight_decay, value) * value
            square = slots["square"][place].mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
            if self.centered:
                mean = slots["mean"][place].lerp_(gradient, 1 - self.alpha)
                square = square - mean**2
            gradient = gradient / (square.sqrt() + self.eps)
            if self.momentum:
                gradient = slots["momentum"][place].mul_(momentum).add_(gradient)
            value.sub_(_per(rates.lr, value) * gradient)


OPTIMIZERS: dict[str, type[Any]] = {part.__name__: part for part in (Adam, AdamW, RMSprop, SGD)}
OTHERS = [
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adamax",
    "ASGD",
    "LBFGS",
    "Muon",
    "NAdam",
    "RAdam",
    "Rprop",
    "SparseAdam",
]


def _two_betas(betas: tuple[float, ...]) -> list[Problem]:
    return [] if len(betas) == 2 else [Problem("wrong-type", "betas", f"must be two numbers, got {list(betas)}")]


def _moments(values: Tensors, amsgrad: bool) -> Slots:
    made = {"first": _zeros(values), "second": _zeros(values)}
    return made | {"largest": _zeros(values)} if amsgrad else made


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
        lr, decay = _per(rates.lr, value), _per(rates.weight_decay, value)
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
