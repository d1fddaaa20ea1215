"""How a pack did on the test set, example by example: what is right, what is predicted, and how sure it is."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.shapes import Logits

BINS = 15


def outcome(logits: Logits, labels: Int[Tensor, " n"], teacher_logits: Logits | None = None) -> dict[str, Any]:
    """What the outputs of each replica say about a set of images.

    Args:
        logits: Outputs, (k, n, classes).
        labels: Classes, (n,), shared by the replicas.
        teacher_logits: Outputs of each replica's teacher for the same images, (k, n, classes).

    Returns:
        `correct`, bool (k, n); `predicted`, how often each class is predicted, int64 (k, classes); `calibration_error`, the
        expected calibration error, float64 (k,): the mean over examples of |accuracy - confidence| of their bin, where
        confidence is the largest probability and bin m of 15 holds those in ((m - 1)/15, m/15] (Guo et al., 2017, arXiv
        1706.04599, equation 3); `bins`, float64 (k, 15, 3), confidence, accuracy and count of each bin, NaN, NaN and 0 where
        it is empty; `agreement`, the share of examples for which the teacher predicts the same class, float64 (k,), or None.
    """
    classes = logits.argmax(-1)
    correct = classes == labels
    confidence = F.softmax(logits.double(), -1).amax(-1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=logits.device) / BINS
    member = F.one_hot(torch.bucketize(confidence, edges), BINS).double()
    counts = member.sum(1)
    sums = torch.stack([(member * column.unsqueeze(-1)).sum(1) for column in (confidence, correct.double())], -1)
    gaps = (sums[..., 0] - sums[..., 1]).abs()
    agreement = None if teacher_logits is None else (classes == teacher_logits.argmax(-1)).double().mean(1)
    return {
        "correct": correct,
        "predicted": F.one_hot(classes, logits.shape[-1]).sum(1),
        "calibration_error": gaps.sum(1) / logits.shape[1],
        "bins": torch.cat([sums / counts.unsqueeze(-1), counts.unsqueeze(-1)], -1),
        "agreement": agreement,
    }
