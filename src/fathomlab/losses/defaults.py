"""What losses have in common."""

from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from fathomlab.base.packing import Varies

Weight = Annotated[float, Interval(ge=0, le=1e6), Varies()]
Temperature = Annotated[float, Interval(gt=0, le=1e6), Varies()]


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
