"""The teachers of a pack of distilled students."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from fathomlab.base.axes import Images, Indices, Logits
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.state import Tensors, select_replica


@dataclass(frozen=True)
class Teacher:
    """One teacher of each student of a pack.

    Attributes:
        network: The tensor program of the k teachers.
        params: Learned tensors.
        buffers: Running statistics.
    """

    network: PackedNetwork
    params: Tensors
    buffers: Tensors

    def __call__(self, images: Images) -> Logits:
        """Compute logits with the running statistics."""
        return self.network(self.params, self.buffers, images, "eval")

    def replica(self, slot: int, device: torch.device) -> "Teacher":
        """Return the teacher of one replica."""
        network = PackedNetwork([self.network.architectures[slot]], device)
        return Teacher(network, select_replica(self.params, slot), select_replica(self.buffers, slot))


@dataclass(frozen=True)
class ViewTable:
    """Stored mean outputs for views of the training images under augmentation.

    Attributes:
        logits: One table per ensemble, (tables, views, images, classes). All views in the order of `view_index`, or one
            random view per image.
        slots: The table of each replica, (k,).
        position: Row of each image of the dataset in the tables, (n,); -1 for images that are not stored.
    """

    logits: Tensor
    slots: Tensor
    position: Tensor

    def __call__(self, index: Indices, views: "Int64[Tensor, 'k n']") -> Logits:
        """Return the outputs for these views of the images at `index`, (k, n, classes)."""
        return self.logits[self.slots.unsqueeze(1), views, self.position[index]]


@dataclass(frozen=True)
class TeacherPack:
    """The teachers of distilled students.

    Several teachers are an ensemble. The mean of their logits is the logarithm, up to a constant, of the geometric mean of their
    distributions at any temperature (Hinton, Vinyals, Dean, 2015).

    Attributes:
        logits: Mean outputs for every training image without augmentation, (tables, n, classes).
        members: The networks, one of each per replica.
        slots: The table of each replica in `logits`, (k,), because students of one ensemble share a table; None if each has its
            own, in order.
        views: Mean outputs for views of the images, if the targets of the students are stored.
    """

    logits: Tensor
    members: tuple[Teacher, ...]
    slots: Tensor | None = None
    views: ViewTable | None = None

    def __call__(self, images: Images) -> Logits:
        """Compute the mean logits of the members."""
        return mean_logits([member(images) for member in self.members])

    def stored(self, index: Indices) -> Logits:
        """Return the mean outputs for the images at `index` without augmentation, (k, n, classes)."""
        slots = torch.arange(len(index), device=self.logits.device) if self.slots is None else self.slots
        return self.logits[slots.unsqueeze(1), index]

    def replica(self, slot: int) -> "TeacherPack":
        """Return the teachers of one replica, with the same tables."""
        rows, members = (
            slice(slot, slot + 1),
            tuple(member.replica(slot, self.logits.device) for member in self.members),
        )
        logits, slots = (self.logits[rows], None) if self.slots is None else (self.logits, self.slots[rows])
        views = None if self.views is None else replace(self.views, slots=self.views.slots[rows])
        return TeacherPack(logits, members, slots, views)


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean of the outputs of an ensemble; the output itself of a single network."""
    return logits[0] if len(logits) == 1 else torch.stack(list(logits)).mean(0)
