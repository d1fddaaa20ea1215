"""Losses on a teacher's outputs (Hinton, Vinyals, Dean, 2015, arXiv 1503.02531)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fathomlab.base.shapes import Logits, PerExample


def softened_divergence(
    student: Logits, teacher: Float[Tensor, "k n taught"], temperature: float | Tensor
) -> PerExample:
    """Temperature-scaled divergence of the student from the teacher.

    Args:
        student: Logits of the network being trained, shape (k, n, classes).
        teacher: Logits of the fixed network, same shape; no gradient flows into it.
        temperature: T > 0, dimensionless; a (k, 1) tensor where a pack's trials differ.

    Returns:
        T^2 KL(teacher || student) [nats per example], shape (k, n). The factor keeps the gradient's size independent of
        T: it is T (softmax(z_s / T) - softmax(z_t / T)) for each example.

    Raises:
        ValueError: The two networks have different classes.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
        >>> softened_divergence(logits, logits, 4.0).tolist()
        [[0.0, 0.0]]
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student has logits {tuple(student.shape)}, teacher {tuple(teacher.shape)}; they must agree")
    scale = temperature.unsqueeze(-1) if isinstance(temperature, Tensor) else temperature
    log_teacher = F.log_softmax(teacher.detach() / scale, dim=-1)
    log_student = F.log_softmax(student / scale, dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
