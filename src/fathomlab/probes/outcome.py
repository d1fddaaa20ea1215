"""Results of a pack on the test set, per example and per class: predictions, calibration, and likeness to the teacher."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fathomlab.base.axes import Logits

BINS = 15
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.05, 100.0
MAX_ITERATIONS = 100
TOLERANCE = 1e-12  # relative change of 1/T


def outcome_metrics(
    logits: Logits, labels: Int[Tensor, " n"], teacher_logits: Logits | None = None
) -> dict[str, Tensor]:
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
        `brier`: the Brier score, float64 (k,): mean of sum_c (p_c - [c is the label])^2 (Brier, 1950).
        `agreement`: the fraction of examples with the same prediction as the teacher, float64 (k,); absent without a teacher.
    """
    predictions = logits.argmax(-1)
    probabilities = F.softmax(logits.double(), -1)
    errors, bins = _calibration(probabilities, predictions == labels)
    metrics = {
        "predictions": predictions,
        "predicted": F.one_hot(predictions, logits.shape[-1]).sum(1),
        "calibration_error": errors,
        "bins": bins,
        "brier": _brier(probabilities, labels),
    }
    if teacher_logits is not None:
        metrics["agreement"] = (predictions == teacher_logits.argmax(-1)).double().mean(1)
    return metrics


def scaled_metrics(
    logits: Logits,
    labels: Int[Tensor, " n"],
    validation_logits: Float[Tensor, "k m classes"],
    validation_labels: Int[Tensor, "k m"],
) -> dict[str, Tensor]:
    """Compute metrics of softmax(logits / T), with T fitted on other images (Guo et al., 2017, arXiv 1706.04599, section 4.2).

    Predictions do not depend on T.

    Args:
        logits: Outputs for the images to evaluate, (k, n, classes).
        labels: Their classes, (n,), shared by the replicas.
        validation_logits: Outputs for the images that decide T, (k, m, classes).
        validation_labels: Their classes, (k, m).

    Returns:
        `temperature`: T as in `fit_temperature`. `scaled_loss`: cross-entropy (nats). `scaled_calibration_error` and
        `scaled_brier`: as in `outcome_metrics`. Each float64 (k,).
    """
    temperature = fit_temperature(validation_logits, validation_labels)
    log_probabilities = F.log_softmax(logits.double() / temperature.view(-1, 1, 1), -1)
    probabilities = log_probabilities.exp()
    correct = logits.argmax(-1) == labels
    return {
        "temperature": temperature,
        "scaled_loss": -_at_label(log_probabilities, labels.expand(correct.shape)).mean(1),
        "scaled_calibration_error": _calibration(probabilities, correct)[0],
        "scaled_brier": _brier(probabilities, labels),
    }


def fidelity_metrics(
    logits: Logits, teacher_logits: Logits, temperatures: Float[Tensor, " k"] | None = None
) -> dict[str, Tensor]:
    """Compute how far the distributions of students are from those of their teachers: KL(teacher || student) (nats).

    Args:
        logits: Outputs of the students, (k, n, classes).
        teacher_logits: Outputs of their teachers for the same images, (k, n, classes).
        temperatures: Temperature of the loss of each replica, (k,).

    Returns:
        `teacher_kl`: mean over the images, float64 (k,).
        `softened_kl`: the same for softmax(logits / T) of both, without the factor T^2 of the loss; absent without T.
    """
    metrics = {"teacher_kl": _divergence(logits.double(), teacher_logits.double())}
    if temperatures is not None:
        scale = temperatures.double().view(-1, 1, 1)
        metrics["softened_kl"] = _divergence(logits.double() / scale, teacher_logits.double() / scale)
    return metrics


def fit_temperature(logits: Logits, labels: Int[Tensor, "k n"]) -> Float[Tensor, " k"]:
    """Find the T of each replica that minimizes the cross-entropy of softmax(logits / T).

    The loss is convex in b = 1/T: its derivative is the mean of E_p[z] - z_y and grows by the mean of Var_p[z]. Newton's method
    finds its zero; a step that leaves the interval that contains it is replaced by a bisection of log b.

    Args:
        logits: Outputs, (k, m, classes).
        labels: Classes, (k, m).

    Returns:
        T, float64 (k,), between 0.05 and 100: the ends if the loss falls up to there, as it does without any error. 1 if the
        loss does not depend on T.
    """
    shifted = logits.double()
    shifted = shifted - shifted.amax(-1, keepdim=True)  # equal logits become 0, so that their derivative is exactly 0
    target = _at_label(shifted, labels).mean(1)
    low, high = (torch.full_like(target, 1 / edge) for edge in (LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE))
    rises, falls = _slope(shifted, target, low)[0] > 0, _slope(shifted, target, high)[0] < 0
    scale = torch.where(rises, low, torch.where(falls, high, 1.0))
    for _ in range(MAX_ITERATIONS):
        slope, curvature = _slope(shifted, target, scale)
        low, high = torch.where(slope < 0, scale, low), torch.where(slope > 0, scale, high)
        newton = scale - slope / curvature
        inside = torch.where((newton > low) & (newton < high), newton, (low * high).sqrt())
        following = torch.where(rises | falls | (slope == 0), scale, inside)
        moved = (following - scale).abs() > TOLERANCE * scale
        scale = following
        if not bool(moved.any()):
            break
    return 1 / scale


def _slope(logits: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative with respect to b of the mean cross-entropy of softmax(b logits), (k,) each."""
    p = F.softmax(logits * scale.view(-1, 1, 1), -1)
    mean = (p * logits).sum(-1)
    return mean.mean(1) - target, (p * (logits - mean.unsqueeze(-1)).square()).sum(-1).mean(1)


def _calibration(probabilities: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """The expected calibration error, (k,), and the bins, (k, 15, 3), of distributions (k, n, classes)."""
    confidence = probabilities.amax(-1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=probabilities.device) / BINS
    membership = F.one_hot(torch.bucketize(confidence, edges), BINS).double()
    counts = membership.sum(1)
    sums = torch.stack([(membership * column.unsqueeze(-1)).sum(1) for column in (confidence, correct.double())], -1)
    gaps = (sums[..., 0] - sums[..., 1]).abs()
    bins = torch.cat([sums / counts.unsqueeze(-1), counts.unsqueeze(-1)], -1)
    return gaps.sum(1) / confidence.shape[1], bins


def _brier(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of distributions (k, n, classes) from the labels (n,), (k,)."""
    return (probabilities - F.one_hot(labels, probabilities.shape[-1])).square().sum(-1).mean(1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(teacher || student) over the examples of logits (k, n, classes), (k,)."""
    log_p, log_q = F.log_softmax(teacher, -1), F.log_softmax(student, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean(1)


def _at_label(values: Tensor, labels: Tensor) -> Tensor:
    """The entry of each label, (k, n), of values (k, n, classes)."""
    return values.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
