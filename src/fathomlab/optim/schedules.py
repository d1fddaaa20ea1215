"""Learning-rate schedules by their torch names, as functions of the position in training. Does not use tensors.

Options that torch requires have defaults that depend on the number of epochs. All schedules change the rate once per epoch,
except for OneCycleLR, which changes it at every step.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.options import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt

Memory = dict[str, float | int]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class Position:
    """A position in training.

    Attributes:
        epoch: Completed epochs.
        step: Completed batches of the current epoch.
        epochs: Epochs of the trial.
        steps_per_epoch: Batches per epoch.
    """

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int


@final
@dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return `lr`."""
        return lr


@final
@dataclass(frozen=True)
class CosineAnnealingLR:
    """eta_min + (lr - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter, 2017).

    Attributes:
        T_max: Epochs until the smallest rate; those of the training by default.
        eta_min: Smallest rate.
    """

    T_max: PositiveInt | None = None
    eta_min: NonNegativeFloat = 0.0

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate of the current epoch."""
        return (
            self.eta_min
            + (lr - self.eta_min) * (1 + math.cos(math.pi * position.epoch / (self.T_max or position.epochs))) / 2
        )


@final
@dataclass(frozen=True)
class StepLR:
    """lr gamma^(epoch // step_size).

    Attributes:
        step_size: Epochs between two steps; a third of the epochs by default.
        gamma: Factor of each step.
    """

    step_size: PositiveInt | None = None
    gamma: PositiveFloat = 0.1

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"step_size": 1}

    @staticmethod
    def defaults(epochs: int) -> dict[str, object]:
        """Return the defaults of options that torch requires."""
        return {"step_size": max(1, epochs // 3)}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate of the current epoch."""
        return lr * self.gamma ** (position.epoch // (self.step_size or max(1, position.epochs // 3)))


@final
@dataclass(frozen=True)
class MultiStepLR:
    """lr gamma^(milestones passed).

    Attributes:
        milestones: Epochs after which the rate is multiplied; one half and three quarters of the epochs by default.
        gamma: Factor of each step.
    """

    milestones: tuple[PositiveInt, ...] | None = None
    gamma: PositiveFloat = 0.1

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"milestones": [1, 2]}

    @staticmethod
    def defaults(epochs: int) -> dict[str, object]:
        """Return the defaults of options that torch requires."""
        return {"milestones": [max(1, epochs // 2), max(1, 3 * epochs // 4)]}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate of the current epoch."""
        default = (max(1, position.epochs // 2), max(1, 3 * position.epochs // 4))
        return lr * self.gamma ** bisect_right(
            sorted(default if self.milestones is None else self.milestones), position.epoch
        )


@final
@dataclass(frozen=True)
class ExponentialLR:
    """lr gamma^epoch.

    Attributes:
        gamma: Factor per epoch.
    """

    gamma: PositiveFloat = 0.95

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate of the current epoch."""
        return lr * self.gamma**position.epoch


@final
@dataclass(frozen=True)
class OneCycleLR:
    """One cycle of the learning rate up and down, with the momentum in the opposite direction (Smith & Topin, 2018).

    The option `lr` is the maximum rate. The schedule cycles beta1 of Adam, or the momentum of SGD and RMSprop if it is used.

    Attributes:
        pct_start: Fraction of the steps in which the rate rises.
        anneal_strategy: Shape of the change, `cos` or `linear`.
        cycle_momentum: Whether the momentum changes, too.
        base_momentum: Smallest momentum, at the largest rate.
        max_momentum: Largest momentum.
        div_factor: The first rate is `lr / div_factor`.
        final_div_factor: The last rate is the first one divided by this number.
        three_phase: Fall to the first rate as fast as it rose, and then to the last one.
    """

    pct_start: OpenFraction = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Fraction = 0.85
    max_momentum: Fraction = 0.95
    div_factor: PositiveFloat = 25.0
    final_div_factor: PositiveFloat = 1e4
    three_phase: bool = False

    per_step: ClassVar[bool] = True
    test_options: ClassVar[dict[str, object]] = {}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the learning rate of the current step."""
        low = lr / self.div_factor
        return self._anneal(position, (low, lr), (lr, low if self.three_phase else low / self.final_div_factor), low)

    def momentum(self, position: Position) -> float | None:
        """Return the momentum of the current step, or None if it is not cycled."""
        if not self.cycle_momentum:
            return None
        up, down = (self.max_momentum, self.base_momentum), (self.base_momentum, self.max_momentum)
        return self._anneal(position, up, down, self.max_momentum, flat=True)

    def _anneal(
        self, position: Position, up: tuple[float, float], down: tuple[float, float], low: float, flat: bool = False
    ) -> float:
        steps = position.epochs * position.steps_per_epoch
        now = position.epoch * position.steps_per_epoch + position.step
        first = self.pct_start * steps - 1
        if self.three_phase:
            last = (low, low if flat else low / self.final_div_factor)
            phases = [(first, up), (2 * self.pct_start * steps - 2, down), (steps - 1, last)]
        else:
            phases = [(first, up), (steps - 1, down)]
        start = 0.0
        for end, (a, b) in phases:
            if now <= end or end == phases[-1][0]:
                progress = (now - start) / (end - start) if end != start else 1.0
                return (
                    b + (a - b) / 2 * (1 + math.cos(math.pi * progress))
                    if self.anneal_strategy == "cos"
                    else (b - a) * progress + a
                )
            start = end
        raise AssertionError("the last phase has no end")


@final
@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Multiply the rate by `factor` if the validation loss has not improved for more than `patience` epochs.

    Attributes:
        factor: Factor of each step.
        patience: Epochs without an improvement before a step.
        threshold: Smallest change that is an improvement.
        threshold_mode: Whether `threshold` is a fraction of the best loss (`rel`) or a difference in nats (`abs`).
        cooldown: Epochs after a step in which no epoch without an improvement is counted.
        min_lr: Smallest rate.
        eps: Smaller changes of the rate are left out.
    """

    factor: OpenFraction = 0.1
    patience: Annotated[int, Interval(ge=0)] = 10
    threshold: NonNegativeFloat = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Annotated[int, Interval(ge=0)] = 0
    min_lr: NonNegativeFloat = 0.0
    eps: NonNegativeFloat = 1e-8

    per_step: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"patience": 0}

    def lr_at(self, lr: float, position: Position, memory: Memory) -> float:
        """Return the current rate of the replica."""
        return memory.get("rate", lr)

    def observe(self, lr: float, memory: Memory, loss: float) -> Memory:
        """Return the memory after an epoch with this validation loss."""
        best, bad, cooling = memory.get("best", math.inf), memory.get("bad", 0), memory.get("cooling", 0)
        rate = memory.get("rate", lr)
        limit = best * (1 - self.threshold) if self.threshold_mode == "rel" else best - self.threshold
        best, bad = (loss, 0) if loss < limit else (best, bad + 1)
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > self.patience:
            lower = max(rate * self.factor, self.min_lr)
            rate = lower if rate - lower > self.eps else rate
            cooling, bad = self.cooldown, 0
        return {"best": best, "bad": bad, "cooling": cooling, "rate": rate}
