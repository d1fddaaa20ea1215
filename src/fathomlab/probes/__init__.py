"""The table of probes. To add one: a file with a frozen dataclass, and a line here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from fathomlab.probes.gradients import Gradients
from fathomlab.probes.noise import Noise
from fathomlab.probes.representation import Representation
from fathomlab.probes.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Snapshot(Protocol):
    """The state of a pack of k replicas at a step. Measuring changes nothing.

    Attributes:
        replicas: k.
        layers: Names of the layers with a weight matrix or kernel, in the network's order.
        points: Names of the points where features are read, in the network's order.
        format: Format in which products are computed, such as float32.
        batch_size: Images per training step.
        training_images: Number of training images.
        parameters: Learned tensors by name, (k, *shape).
    """

    replicas: int
    layers: tuple[str, ...]
    points: tuple[str, ...]
    format: str
    batch_size: int
    training_images: int
    parameters: "dict[str, Tensor]"

    def weights(self) -> "list[Tensor]":
        """The weight matrix or kernel of each layer."""
        ...

    def fixed_batch(self, examples: int) -> "Tensor":
        """Indices of training images that are fixed per seed, at most a batch, (k, n)."""
        ...

    def fixed_images(self, count: int) -> "Tensor":
        """Indices of `count` training images that are fixed per seed, (k, count)."""
        ...

    def loss(self, index: "Tensor", taps: "list[Tensor] | None" = None) -> "Tensor":
        """The training loss, mean over the images and summed over replicas; `taps` is filled with the features."""
        ...

    def features(self, index: "Tensor") -> "list[Tensor]":
        """The features at every point."""
        ...

    def by_replica(self, tap: "Tensor") -> "Tensor":
        """Features with the replica in front, (k, n, units, cells)."""
        ...

    def next_weights(self, gradients: "Sequence[Tensor]") -> "list[Tensor]":
        """The weights of each layer after the optimizer's next step with these gradients of all parameters."""
        ...

    def in_double(self) -> "Snapshot":
        """The same snapshot in float64."""
        ...


@runtime_checkable
class Probe(Protocol):
    """A measurement without side effects.

    Attributes:
        columns: Each column of numbers with the column that names its entries; None for one number per snapshot.
    """

    columns: ClassVar[Mapping[str, str | None]]

    def measure(self, snapshot: Snapshot) -> dict[str, Any]:
        """Columns of the snapshot: tensors with the replica in front, and what all replicas share."""
        ...


PROBES: dict[str, type[Any]] = {
    "gradients": Gradients,
    "noise": Noise,
    "representation": Representation,
    "updates": Updates,
}
