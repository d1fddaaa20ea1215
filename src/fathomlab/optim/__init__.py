"""The tables of optimizers and schedules, by their torch names. To add one: a frozen dataclass in a file, and a line here."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rates import Rates, Slots, Tensors
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    Memory,
    MultiStepLR,
    OneCycleLR,
    Position,
    ReduceLROnPlateau,
    StepLR,
)
from fathomlab.optim.sgd import SGD

if TYPE_CHECKING:
    from fathomlab.optim.rates import Step


@runtime_checkable
class Optimizer(Protocol):
    """An update rule on stacked tensors, equal to the one of torch. Learning rate and weight decay may differ in a pack."""

    weight_decay: float

    def slots(self, values: Tensors) -> Slots:
        """The optimizer state before the first step: lists of tensors like `values`, by name."""
        ...

    def update(self, values: Tensors, gradients: Tensors, slots: Slots, step: "Step", rates: Rates) -> None:
        """Change `values` and `slots` in place; `step` counts from 1."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """A learning rate as a function of the position in training.

    Attributes:
        per_step: Whether the rate changes at every step, not once per epoch.
    """

    per_step: bool

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The learning rate at a position."""
        ...


OPTIMIZERS: dict[str, type[Any]] = {"Adam": Adam, "AdamW": AdamW, "RMSprop": RMSprop, "SGD": SGD}
SCHEDULES: dict[str, type[Any]] = {
    "CosineAnnealingLR": CosineAnnealingLR,
    "StepLR": StepLR,
    "MultiStepLR": MultiStepLR,
    "ExponentialLR": ExponentialLR,
    "OneCycleLR": OneCycleLR,
    "ReduceLROnPlateau": ReduceLROnPlateau,
}
UNSUPPORTED_OPTIMIZERS = (
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
)
UNSUPPORTED_SCHEDULES = (
    "LambdaLR",
    "MultiplicativeLR",
    "ConstantLR",
    "LinearLR",
    "PolynomialLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ChainedScheduler",
    "SequentialLR",
    "SWALR",
)
