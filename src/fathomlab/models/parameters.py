"""Learned tensors as values, and what layers have in common."""

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """A learned tensor.

    Attributes:
        name: Unique name, such as `hidden.3.weight`.
        shape: Shape of one replica.
        init: `weight` or `bias` (by the architecture's initialization), `module` (by a user's module), or a constant.
        role: `weight`, `bias`, `gamma`, `beta`, or `scale`.
        gain: Factor of the initial values.
    """

    name: str
    shape: Shape
    init: str | float
    role: str
    gain: float = 1.0

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class LayerDefaults:
    """Defaults of a layer: no parameters, unchanged shape, and no multiply-accumulates."""

    def parameters(self) -> tuple[Parameter, ...]:
        """Learned tensors."""
        return ()

    def shape(self, shape: Shape) -> Shape:
        """Output shape of one example."""
        return shape

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates per example."""
        return 0
