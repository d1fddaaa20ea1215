"""What losses have in common."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.base.packing import Varies
from fathomlab.models.parameters import Parameter, Shape

Weight = Annotated[float, Interval(ge=0, le=1e6), Varies()]
Temperature = Annotated[float, Interval(gt=0, le=1e6), Varies()]
Points: TypeAlias = Mapping[
    str, Shape
]  # the output of each point for one image, (d,) or (c, h, w), in the order of the forward pass
ADAPTER = "adapter:"  # the beginning of the names of a loss's learned tensors, among those of the network


class LossDefaults:
    """Defaults of a loss: it reads logits and labels, and the loss of an example depends only on this example.

    Attributes:
        needs: What the engine must provide in addition to logits and labels.
        min_classes: Smallest number of classes for which the loss is defined.
        compares_examples: Whether the loss of an example depends on the other examples of its batch, of the same replica.
    """

    needs: ClassVar[frozenset[Any]] = frozenset()
    min_classes: ClassVar[int] = 2
    compares_examples: ClassVar[bool] = False

    def mismatches(self, student: Points, teacher: Points) -> list[Issue]:
        """Return what the options and the features of two networks cannot do together; paths are names of options."""
        return []

    def batch_numbers(self, batch_size: int) -> int:
        """Return how many numbers it stores for the gradient of a batch, if they grow faster than with its size; an estimate."""
        return 0

    def parameters(self, student: Points, teacher: Points) -> tuple[Parameter, ...]:
        """Return the tensors that the loss learns together with the student."""
        return ()
