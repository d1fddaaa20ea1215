"""Optimizers and schedules: the protocols and the tables, by torch names.

A new one needs a file with a frozen dataclass, and a line in a table.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from fathomlab.base.table import Table
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rates import OptimizerState, Rates, Tensors
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
    """An update rule for stacked tensors, equal to the one of torch. Its fields are the options.

    Attributes:
        test_options: Options for the tests.
        weight_decay: Weight decay. It may differ between the replicas of a pack, like the learning rate.
    """

    test_options: ClassVar[Mapping[str, object]]
    weight_decay: float

    def init_state(self, params: Tensors) -> OptimizerState:
        """Create the state before the first step: for each name, one tensor per tensor of `params`."""
        ...

    def step(self, params: Tensors, grads: Tensors, state: OptimizerState, count: "Step", rates: Rates) -> None:
        """Update `params` and `state` in place. `count` is the number of this step, from 1."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """A learning rate as a function of the position in training.

    Attributes:
        test_options: Options for the tests.
        per_step: Whether the rate changes at every step instead of once per epoch. Such a schedule also has
            `momentum(position)`.
    """

    test_options: ClassVar[Mapping[str, object]]
    per_step: ClassVar[bool]

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate at a position; `lr` is the option of the trial.

        A schedule with `observe(lr, memory, loss)` returns its next memory after the validation loss of an epoch.
        """
        ...


OPTIMIZERS: Table[Any] = Table("optimizer", {"Adam": Adam, "AdamW": AdamW, "RMSprop": RMSprop, "SGD": SGD})
SCHEDULES: Table[Any] = Table(
    "scheduler",
    {
        "CosineAnnealingLR": CosineAnnealingLR,
        "StepLR": StepLR,
        "MultiStepLR": MultiStepLR,
        "ExponentialLR": ExponentialLR,
        "OneCycleLR": OneCycleLR,
        "ReduceLROnPlateau": ReduceLROnPlateau,
    },
)
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
