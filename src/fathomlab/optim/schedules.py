"""Learning-rate schedules by their torch names, as functions of the position in training; no tensors.

`scheduler_params` may be left out: what torch requires has a default here that fits the number of epochs. All step once an
epoch, as the usual loop does, but OneCycleLR, which steps once a batch.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.options import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt

Memory = dict[str, float | int]
Share = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class Position:
    """Where training stands: `epoch` epochs are done, and `step` batches of the present one."""

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int


@final
@dataclass(frozen=True)
class Constant:
    """The learning rate as given."""

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The base rate."""
        return base


@final
@dataclass(frozen=True)
class CosineAnnealingLR:
    """eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter, 2017); T_max defaults to the epochs."""

    T_max: PositiveInt | None = None
    eta_min: NonNegativeFloat = 0.0

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate of the present epoch."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * at.epoch / (self.T_max or at.epochs))) / 2


@final
@dataclass(frozen=True)
class StepLR:
    """base gamma^(epoch // step_size); step_size defaults to a third of the epochs."""

    step_size: PositiveInt | None = None
    gamma: PositiveFloat = 0.1

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {"step_size": 1}

    @staticmethod
    def defaults(epochs: int) -> dict[str, object]:
        """What options that PyTorch requires are if they are left out."""
        return {"step_size": max(1, epochs // 3)}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate of the present epoch."""
        return base * self.gamma ** (at.epoch // (self.step_size or max(1, at.epochs // 3)))


@final
@dataclass(frozen=True)
class MultiStepLR:
    """base gamma^(milestones passed); milestones default to one half and three quarters of the epochs."""

    milestones: tuple[PositiveInt, ...] | None = None
    gamma: PositiveFloat = 0.1

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {"milestones": [1, 2]}

    @staticmethod
    def defaults(epochs: int) -> dict[str, object]:
        """What options that PyTorch requires are if they are left out."""
        return {"milestones": [max(1, epochs // 2), max(1, 3 * epochs // 4)]}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate of the present epoch."""
        default = (max(1, at.epochs // 2), max(1, 3 * at.epochs // 4))
        return base * self.gamma ** bisect_right(
            sorted(default if self.milestones is None else self.milestones), at.epoch
        )


@final
@dataclass(frozen=True)
class ExponentialLR:
    """base gamma^epoch."""

    gamma: PositiveFloat = 0.95

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate of the present epoch."""
        return base * self.gamma**at.epoch


@final
@dataclass(frozen=True)
class OneCycleLR:
    """Up to the learning rate and down again, the momentum the other way (Smith & Topin, 2018).

    The file's `lr` is the largest rate. Cycles beta1 of Adam, or the momentum of SGD where it has one.
    """

    pct_start: Share = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Fraction = 0.85
    max_momentum: Fraction = 0.95
    div_factor: PositiveFloat = 25.0
    final_div_factor: PositiveFloat = 1e4
    three_phase: bool = False

    per_step: ClassVar[bool] = True
    tiny: ClassVar[dict[str, object]] = {}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate of the present step."""
        low = base / self.div_factor
        return self._anneal(at, (low, base), (base, low if self.three_phase else low / self.final_div_factor), low)

    def momentum(self, at: Position) -> float | None:
        """The momentum of the present step, or None where it is not cycled."""
        if not self.cycle_momentum:
            return None
        up, down = (self.max_momentum, self.base_momentum), (self.base_momentum, self.max_momentum)
        return self._anneal(at, up, down, self.max_momentum, flat=True)

    def _anneal(
        self, at: Position, up: tuple[float, float], down: tuple[float, float], low: float, flat: bool = False
    ) -> float:
        steps, now = at.epochs * at.steps_per_epoch, at.epoch * at.steps_per_epoch + at.step
        first = self.pct_start * steps - 1
        if self.three_phase:
            last = (low, low if flat else low / self.final_div_factor)
            phases = [(first, up), (2 * self.pct_start * steps - 2, down), (steps - 1, last)]
        else:
            phases = [(first, up), (steps - 1, down)]
        start = 0.0
        for end, (a, b) in phases:
            if now <= end or end == phases[-1][0]:
                share = (now - start) / (end - start) if end != start else 1.0
                return (
                    b + (a - b) / 2 * (1 + math.cos(math.pi * share))
                    if self.anneal_strategy == "cos"
                    else (b - a) * share + a
                )
            start = end
        raise AssertionError("the last phase has no end")


@final
@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Multiplies the rate by `factor` when the validation loss has not fallen for more than `patience` epochs."""

    factor: Share = 0.1
    patience: Annotated[int, Interval(ge=0)] = 10
    threshold: NonNegativeFloat = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Annotated[int, Interval(ge=0)] = 0
    min_lr: NonNegativeFloat = 0.0
    eps: NonNegativeFloat = 1e-8

    per_step: ClassVar[bool] = False
    tiny: ClassVar[dict[str, object]] = {"patience": 0}

    def rate(self, base: float, at: Position, memory: Memory) -> float:
        """The rate that the validation losses so far have led to."""
        return memory.get("rate", base)

    def observe(self, base: float, memory: Memory, loss: float) -> Memory:
        """The memory after an epoch with this validation loss."""
        best, bad, cooling = memory.get("best", math.inf), memory.get("bad", 0), memory.get("cooling", 0)
        rate = memory.get("rate", base)
        limit = best * (1 - self.threshold) if self.threshold_mode == "rel" else best - self.threshold
        best, bad = (loss, 0) if loss < limit else (best, bad + 1)
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > self.patience:
            lower = max(rate * self.factor, self.min_lr)
            rate = lower if rate - lower > self.eps else rate
            cooling, bad = self.cooldown, 0
        return {"best": best, "bad": bad, "cooling": cooling, "rate": rate}
