"""Features of the networks of a pack by the name of their point."""

from dataclasses import replace

import torch
from torch import Tensor

from fathomlab.base.axes import Images
from fathomlab.engine.adapters import adapters
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.engine.signals import LossInputs
from fathomlab.engine.state import PackState
from fathomlab.engine.teachers import TeacherPack


def with_features(
    inputs: LossInputs,
    state: PackState,
    taps: list[Tensor],
    images: Images,
    teachers: TeacherPack | None,
    precision: str,
) -> LossInputs:
    """Add the features of students and teachers, and what the loss learns.

    Args:
        inputs: What the loss reads otherwise.
        state: The pack in training.
        taps: Its outputs at the points, as the network appended them.
        images: The images as the network saw them. The teachers see the same, also without augmentation.
        teachers: The teachers if the loss needs their features; one for each student.
        precision: That of the training.
    """
    dtype, others = param_dtype(precision), {}
    if teachers is not None:
        (teacher,), points = teachers.members, list[Tensor]()
        with torch.no_grad(), autocast_for(precision, images.device):
            teacher.network(teacher.params, teacher.buffers, images.detach(), "eval", None, points)
        others = named_features(teacher.network, points, dtype)
    features = named_features(state.network, taps, dtype)
    return replace(inputs, features=features, teacher_features=others, parameters=adapters(state.params))


def named_features(network: PackedNetwork, taps: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the outputs at the points of a pack by name, (k, n, d) or (k, n, c, h, w).

    Args:
        network: The pack.
        taps: The outputs as the network appends them: features (k, n, d) or maps (n, k * c, h, w).
        dtype: Format of the result.
    """
    by_replica = (tap.unflatten(1, (network.replicas, -1)).transpose(0, 1) if tap.dim() == 4 else tap for tap in taps)
    return {name: tap.to(dtype) for name, tap in zip(network.architecture.taps, by_replica, strict=True)}
