"""Losses on the labels alone."""

import torch.nn.functional as F
from torch import Tensor

from fathomlab.base.shapes import Labels, Logits, PerExample


def cross_entropy(logits: Logits, labels: Labels, smoothing: float | Tensor = 0.0) -> PerExample:
    """Cross-entropy with label smoothing, as torch's CrossEntropyLoss defines it (Szegedy et al., 2016).

    Args:
        logits: Shape (k, n, classes).
        labels: Class of each example, shape (k, n).
        smoothing: Share s of the target spread evenly over the classes; a (k, 1) tensor where a pack's trials differ.

    Returns:
        (1 - s) (-log p_y) + s mean_c(-log p_c) [nats per example], shape (k, n). Not averaged: the engine averages.
    """
    log_p = F.log_softmax(logits, dim=-1)
    hard = -log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if isinstance(smoothing, float) and smoothing == 0:
        return hard
    return (1 - smoothing) * hard - smoothing * log_p.mean(-1)
