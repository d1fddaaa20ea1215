"""Metrics on the test set equal a loop over examples, and known values of constructed cases."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from fathomlab.probes.outcome import outcome_metrics


def confident_logits(confidences: list[float], classes: int = 2) -> Tensor:
    """Logits (n, classes) that predict class 0 with the given probabilities."""
    other_probabilities = [[(1 - confidence) / (classes - 1)] * (classes - 1) for confidence in confidences]
    rows = [[confidence, *rest] for confidence, rest in zip(confidences, other_probabilities, strict=True)]
    return torch.tensor(rows, dtype=torch.float64).log()


def reference_metrics(
    logits: Tensor, labels: Tensor, teacher: Tensor
) -> tuple[list[bool], Counter[int], float, list, float]:
    """Compute the metrics of one replica, example by example."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    correct, predicted, agreement = [], Counter[int](), 0
    for row, label, teacher_row in zip(logits.tolist(), labels.tolist(), teacher.tolist(), strict=True):
        weights = [math.exp(value - max(row)) for value in row]
        best = row.index(max(row))
        confidence = weights[best] / sum(weights)
        correct.append(best == label)
        predicted[best] += 1
        agreement += best == teacher_row.index(max(teacher_row))
        bins[math.ceil(confidence * 15) - 1].append((confidence, best == label))
    error, rows = 0.0, []
    for entries in bins:
        count = len(entries)
        confidence = sum(confidence for confidence, _ in entries) / count if count else math.nan
        accuracy = sum(is_correct for _, is_correct in entries) / count if count else math.nan
        error += count / len(labels) * abs(accuracy - confidence) if count else 0
        rows.append([confidence, accuracy, count])
    return correct, predicted, error, rows, agreement / len(labels)


def test_outcome_metrics_equal_loop_over_examples() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, teacher = torch.randn(2, 3, 200, 5, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(5, (200,), generator=generator)
    metrics = outcome_metrics(logits, labels, teacher)
    for slot in range(3):
        correct, predicted, error, bins, agreement = reference_metrics(logits[slot], labels, teacher[slot])
        assert (metrics["predictions"][slot] == labels).tolist() == correct
        assert metrics["predictions"][slot].tolist() == logits[slot].argmax(1).tolist()
        assert metrics["predicted"][slot].tolist() == [predicted[name] for name in range(5)]
        assert float(metrics["calibration_error"][slot]) == pytest.approx(error, rel=1e-12)
        assert float(metrics["agreement"][slot]) == agreement
        expected = torch.tensor(bins, dtype=torch.float64)
        torch.testing.assert_close(metrics["bins"][slot], expected, rtol=1e-12, atol=0, equal_nan=True)


def test_calibration_error_equals_excess_confidence() -> None:
    """80 of 100 correct at a confidence of 0.8 is 0; at 0.95 it is 0.15."""
    labels = torch.tensor([0] * 80 + [1] * 20)
    logits = torch.stack([confident_logits([0.8] * 100), confident_logits([0.95] * 100)])
    metrics = outcome_metrics(logits, labels)
    assert metrics["calibration_error"].tolist() == pytest.approx([0, 0.15], abs=1e-12)
    assert metrics["agreement"] is None
    assert metrics["bins"][0, 11].tolist() == pytest.approx([0.8, 0.8, 100])
    assert metrics["bins"][1, 14].tolist() == pytest.approx([0.95, 0.8, 100])
    assert metrics["bins"][:, :, 2].sum(1).tolist() == [100, 100]
    assert metrics["bins"][0, 0, :2].isnan().all()


def test_calibration_errors_of_bins_do_not_cancel() -> None:
    """Overconfident and underconfident bins are two errors: (0.9 - 0.5)/2 + (0.9 - 0.6)/2."""
    labels = torch.tensor([0, 1] * 5 + [0] * 9 + [1])
    metrics = outcome_metrics(confident_logits([0.9] * 10 + [0.6] * 10).unsqueeze(0), labels)
    assert float(metrics["calibration_error"]) == pytest.approx(0.4 / 2 + 0.3 / 2)


@pytest.mark.parametrize(("confidence", "index"), [(0.5, 7), (0.6 - 1e-9, 8), (0.6 + 1e-9, 9), (0.999999, 14)])
def test_bins_contain_their_upper_edge(confidence: float, index: int) -> None:
    """0.6 is the upper edge of the ninth bin."""
    metrics = outcome_metrics(confident_logits([confidence]).unsqueeze(0), torch.tensor([0]))
    assert metrics["bins"][0, :, 2].tolist() == [float(number == index) for number in range(15)]


def test_certain_predictions_are_in_the_last_bin() -> None:
    """Agreement is with the teacher, not with the label."""
    logits = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])
    metrics = outcome_metrics(logits, torch.tensor([0, 0]), logits)
    assert metrics["bins"][0, 14].tolist() == [1, 0.5, 2]
    assert metrics["agreement"].tolist() == [1]
    assert outcome_metrics(logits, torch.tensor([0, 0]), logits.flip(1))["agreement"].tolist() == [0]
