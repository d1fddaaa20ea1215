"""Probes: the protocols and the table. A new probe needs a file with a frozen dataclass, and a line in `PROBES`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from fathomlab.base.table import Table
from fathomlab.probes.cam import Cam
from fathomlab.probes.columns import Column, Measured
from fathomlab.probes.gradients import Gradients
from fathomlab.probes.noise import Noise
from fathomlab.probes.representation import Representation
from fathomlab.probes.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor, nn


@runtime_checkable
class Snapshot(Protocol):
    """The state of a pack of k replicas at a step. Measuring changes nothing.

    Attributes:
        replicas: Number of replicas k.
        layers: Names of the layers with a trained weight matrix or kernel, in the order of the forward pass.
        points: Names of the points where features are read, in the order of the forward pass.
        dtype: Format in which products are computed, such as float32.
        step: Optimizer steps before it.
        epoch: Epochs before it.
        classes: Number of classes.
        batch_size: Images per training step.
        training_images: Number of training images per replica.
        params: Learned tensors by name, (k, *shape).
    """

    replicas: int
    layers: tuple[str, ...]
    points: tuple[str, ...]
    dtype: str
    step: int
    epoch: int
    classes: int
    batch_size: int
    training_images: int
    params: "dict[str, Tensor]"

    def weights(self) -> "list[Tensor]":
        """Return the weight matrix or kernel of each layer, (k, *shape)."""
        ...

    def probe_batch(self, examples: int) -> "Tensor":
        """Return indices of `examples` training images that are fixed per seed, at most one batch, (k, n)."""
        ...

    def probe_images(self, count: int) -> "Tensor":
        """Return indices of `count` training images that are fixed per seed, (k, count)."""
        ...

    def images(self, index: "Tensor") -> "Tensor":
        """Return copies of the normalized training images at `index` (k, n), without augmentation, (k, n, c, h, w)."""
        ...

    def labels(self, index: "Tensor") -> "Tensor":
        """Return the classes of the training images at `index`, (k, n)."""
        ...

    def module(self, replica: int = 0) -> "nn.Module":
        """Return a replica as a torch module in eval mode that maps images (n, c, h, w) to logits. Its weights are copies."""
        ...

    def loss(self, index: "Tensor", taps: "list[Tensor] | None" = None) -> "Tensor":
        """Compute the training loss: the mean over images, summed over replicas. Features are appended to `taps`."""
        ...

    def features(self, index: "Tensor") -> "list[Tensor]":
        """Compute the features at every point."""
        ...

    def pooled_maps(self, index: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        """Compute the maps before the global average pooling with running statistics, (k, n, units, h, w).

        Returns:
            The maps, and weight (k, classes, units) and bias (k, classes) of the linear layer after the pooling.
        """
        ...

    def by_replica(self, tap: "Tensor") -> "Tensor":
        """Reshape features to (k, n, units, cells)."""
        ...

    def next_weights(self, grads: "Sequence[Tensor]") -> "list[Tensor]":
        """Compute the weights of each layer after the next optimizer step with these gradients of all parameters."""
        ...

    def to_float64(self) -> "Snapshot":
        """Return the same snapshot in float64."""
        ...


@runtime_checkable
class Probe(Protocol):
    """A measurement without side effects. The fields are the options.

    Attributes:
        test_options: Options for the tests.
        title: Heading of its figures in a report.
        note: How to read the figures, in a report; "" if that is clear.
        columns: Name of each column of numbers to what it is and how it is plotted, in the order of a report.
        needs_maps: Whether the network must end with global average pooling and one linear layer.
    """

    test_options: ClassVar[Mapping[str, object]]
    title: ClassVar[str]
    note: ClassVar[str]
    columns: ClassVar[Mapping[str, Column]]
    needs_maps: ClassVar[bool]

    def measure(self, snapshot: Snapshot) -> Measured:
        """Measure a snapshot: columns as tensors (k, ...), and values that all replicas share."""
        ...


# Reports show the probes in this order.
PROBES: Table[Any] = Table(
    "probe",
    {
        "gradients": Gradients,
        "updates": Updates,
        "representation": Representation,
        "noise": Noise,
        "cam": Cam,
    },
)
