"""What a training step takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from fathomlab.base.axes import Images, Indices, Logits
from fathomlab.engine.state import Tensors
from fathomlab.optim.rates import Rates


@dataclass
class StepInputs:
    """The inputs of a step: numbers, or tensors on the device if a CUDA graph replays the step.

    Attributes:
        index: Indices into the training set, (k, n).
        epoch: Completed epochs.
        dropout_keys: Random keys of this step, (k,).
        rates: Learning rate, weight decay, and momentum of the optimizer.
        count: Number of this step, from 1.
        teacher_index: Indices of the images whose stored outputs the teachers give, (k, n), if they are other images.
    """

    index: Indices
    epoch: int | Tensor
    dropout_keys: Tensor
    rates: Rates
    count: int | Tensor
    teacher_index: Indices | None = None

    def replica(self, slot: int) -> "StepInputs":
        """Return the inputs of one replica."""
        rows = slice(slot, slot + 1)
        lr, decay = (
            value[rows] if isinstance(value, Tensor) and value.dim() else value
            for value in (self.rates.lr, self.rates.weight_decay)
        )
        rates = Rates(lr, decay, self.rates.momentum)
        taught = None if self.teacher_index is None else self.teacher_index[rows]
        return StepInputs(self.index[rows], self.epoch, self.dropout_keys[rows], rates, self.count, taught)


StepFunction: TypeAlias = Callable[[StepInputs], None]


@runtime_checkable
class ManySteps(Protocol):
    """A step function that is faster if it computes several steps in one call.

    Attributes:
        at_once: How many.
    """

    at_once: int

    def __call__(self, inputs: StepInputs) -> None:
        """Compute one step."""
        ...

    def together(self, steps: Sequence[StepInputs]) -> None:
        """Compute steps one after the other."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A step function that also computes outputs with the running statistics."""

    def __call__(self, inputs: StepInputs) -> None:
        """Compute one step."""
        ...

    def predict(self, params: Tensors, buffers: Tensors, images: Images) -> Logits:
        """Logits (k, n, classes) of normalized images (k, n, c, h, w)."""
        ...


@runtime_checkable
class PredictsPixels(Protocol):
    """A step function that also normalizes stored images, once for all replicas."""

    def predict_pixels(self, params: Tensors, buffers: Tensors, pixels: UInt8[Tensor, "n c h w"]) -> Logits:
        """Logits (k, n, classes) of images of all replicas."""
        ...
