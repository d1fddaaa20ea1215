"""The table of models. To add one: a file with a frozen dataclass that builds an `Architecture`, and a line here."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from fathomlab.base.problems import Problem
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Shape
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN


@runtime_checkable
class Model(Protocol):
    """What the table holds: options that build an architecture."""

    tiny: ClassVar[dict[str, object]]
    tiny_shape: ClassVar[Shape]
    data: ClassVar[str]
    depth_key: ClassVar[str]
    width_key: ClassVar[str]

    @property
    def depth(self) -> int:
        """Depth as the report's axis counts it."""
        ...

    def complaints_for(self, shape: Shape, classes: int) -> list[Problem]:
        """What disagrees with the data."""
        ...

    def ignored(self) -> list[tuple[str, str]]:
        """Options that are set and do nothing here, each with the reason."""
        ...

    def normal_form(self) -> "Model":
        """Options that leave the network as it is are written in one way, so that equal networks are one trial."""
        ...

    def build(self, shape: Shape) -> Architecture:
        """The network for images of `shape` (c, h, w)."""
        ...


MODELS: dict[str, type[Any]] = {"MLP": MLP, "CNN": CNN}
