"""Results of a pack on the test set, per example and per class."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.axes import Logits

BINS = 15


def outcome_metrics(logits: Logits, labels: Int[Tensor, " n"], teacher_logits: Logits | None = None) -> dict[str, Any]:
    """Compute metrics of each replica on a set of images.

    The expected calibration error is the mean over examples of |accuracy - confidence| of their bin. Confidence is the largest
    probability, and bin m of 15 contains confidences in ((m - 1)/15, m/15] (Guo et al., 2017, arXiv 1706.04599, equation 3).

    Args:
        logits: Outputs, (k, n, classes).
        labels: Classes, (n,), shared by the replicas.
        teacher_logits: Outputs of each replica's teacher for the same images, (k, n, classes).

    Returns:
        `predictions`: the predicted class of each example, int64 (k, n).
        `predicted`: how often each class is predicted, int64 (k, classes).
        `calibration_error`: the expected calibration error, float64 (k,).
        `bins`: confidence, accuracy, and count of each bin, float64 (k, 15, 3); NaN, NaN, and 0 if a bin is empty.
        `agreement`: the fraction of examples with the same prediction as the teacher, float64 (k,), or None.
    """
    predictions = logits.argmax(-1)
    correct = predictions == labels
    confidence = F.softmax(logits.double(), -1).amax(-1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=logits.device) / BINS
    membership = F.one_hot(torch.bucketize(confidence, edges), BINS).double()
    counts = membership.sum(1)
    sums = torch.stack([(membership * column.unsqueeze(-1)).sum(1) for column in (confidence, correct.double())], -1)
    gaps = (sums[..., 0] - sums[..., 1]).abs()
    agreement = None if teacher_logits is None else (predictions == teacher_logits.argmax(-1)).double().mean(1)
    return {
        "predictions": predictions,
        "predicted": F.one_hot(predictions, logits.shape[-1]).sum(1),
        "calibration_error": gaps.sum(1) / logits.shape[1],
        "bins": torch.cat([sums / counts.unsqueeze(-1), counts.unsqueeze(-1)], -1),
        "agreement": agreement,
    }
