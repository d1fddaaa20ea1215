"""The teachers of a pack of distilled students."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathomlab.base.axes import Images, Logits
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
        network = PackedNetwork([self.network.architecture], device)
        return Teacher(network, select_replica(self.params, slot), select_replica(self.buffers, slot))


@dataclass(frozen=True)
class TeacherPack:
    """The teachers of distilled students.

    Several teachers are an ensemble. The mean of their logits is the logarithm, up to a constant, of the geometric mean of their
    distributions at any temperature (Hinton, Vinyals, Dean, 2015).

    Attributes:
        logits: Mean outputs for every training image, (k, n, classes); used without augmentation.
        members: The networks. With augmentation, they see the same augmented images as the students.
    """

    logits: Tensor
    members: tuple[Teacher, ...]

    def __call__(self, images: Images) -> Logits:
        """Compute the mean logits of the members."""
        return mean_logits([member(images) for member in self.members])

    def replica(self, slot: int) -> "TeacherPack":
        """Return the teachers of one replica."""
        members = tuple(member.replica(slot, self.logits.device) for member in self.members)
        return TeacherPack(self.logits[slot : slot + 1], members)


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean of the outputs of an ensemble; the output itself of a single network."""
    return logits[0] if len(logits) == 1 else torch.stack(list(logits)).mean(0)
