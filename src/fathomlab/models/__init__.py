"""Models: the protocol and the table. A new model needs a file with a frozen dataclass, and a line in `MODELS`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from fathomlab.base.errors import Issue
from fathomlab.base.table import Table
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Shape
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN


@runtime_checkable
class Model(Protocol):
    """A frozen dataclass whose fields are the options of an architecture.

    Attributes:
        test_options: Options of a small network for the contract tests.
        test_input_shape: Image shape (c, h, w) of that network.
        default_dataset: Dataset of experiment files that name none.
        depth_key: Option that the `depths` of an experiment file set.
        width_key: Option that the `widths` of an experiment file set.
    """

    test_options: ClassVar[Mapping[str, object]]
    test_input_shape: ClassVar[Shape]
    default_dataset: ClassVar[str]
    depth_key: ClassVar[str]
    width_key: ClassVar[str]

    @property
    def depth(self) -> int:
        """Depth on the axis of the report."""
        ...

    def validate(self) -> list[Issue]:
        """Return conflicts between the options."""
        ...

    def validate_for(self, shape: Shape, classes: int) -> list[Issue]:
        """Return conflicts with images of `shape` (c, h, w) and a number of classes."""
        ...

    def unused_options(self) -> list[tuple[str, str]]:
        """Return the options that are set but have no effect, each with the reason."""
        ...

    def canonical(self) -> "Model":
        """Return the options with unused ones at their defaults, so that equal networks are one trial."""
        ...

    def build(self, shape: Shape) -> Architecture:
        """Build the network for images of `shape` (c, h, w)."""
        ...


MODELS: Table[Any] = Table("model", {"MLP": MLP, "CNN": CNN})
