"""Outcomes on a set: one loop over examples gives the same numbers, and constructed cases give known ones."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from fathomlab.probes.outcome import outcome_metrics


def sure(confidences: list[float], classes: int = 2) -> Tensor:
    """Logits (n, classes) that predict class 0 with the given probabilities."""
    others = [[(1 - share) / (classes - 1)] * (classes - 1) for share in confidences]
    rows = [[share, *rest] for share, rest in zip(confidences, others, strict=True)]
    return torch.tensor(rows, dtype=torch.float64).log()


def naive(logits: Tensor, labels: Tensor, teacher: Tensor) -> tuple[list[bool], Counter[int], float, list, float]:
    """One replica, one example after the other."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    correct, predicted, same = [], Counter[int](), 0
    for row, label, other in zip(logits.tolist(), labels.tolist(), teacher.tolist(), strict=True):
        shares = [math.exp(value - max(row)) for value in row]
        best = row.index(max(row))
        confidence = shares[best] / sum(shares)
        correct.append(best == label)
        predicted[best] += 1
        same += best == other.index(max(other))
        bins[math.ceil(confidence * 15) - 1].append((confidence, best == label))
    error, rows = 0.0, []
    for found in bins:
        count = len(found)
        confidence = sum(share for share, _ in found) / count if count else math.nan
        accuracy = sum(right for _, right in found) / count if count else math.nan
        error += count / len(labels) * abs(accuracy - confidence) if count else 0
        rows.append([confidence, accuracy, count])
    return correct, predicted, error, rows, same / len(labels)


def test_a_loop_over_examples_gives_the_same() -> None:
    """Three replicas, each like the loop on its own."""
    generator = torch.Generator().manual_seed(3)
    logits, teacher = torch.randn(2, 3, 200, 5, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(5, (200,), generator=generator)
    found = outcome_metrics(logits, labels, teacher)
    for place in range(3):
        correct, predicted, error, bins, same = naive(logits[place], labels, teacher[place])
        assert found["correct"][place].tolist() == correct
        assert found["predicted"][place].tolist() == [predicted[name] for name in range(5)]
        assert float(found["calibration_error"][place]) == pytest.approx(error, rel=1e-12)
        assert float(found["agreement"][place]) == same
        expected = torch.tensor(bins, dtype=torch.float64)
        torch.testing.assert_close(found["bins"][place], expected, rtol=1e-12, atol=0, equal_nan=True)


def test_calibrated_answers_have_no_error_and_sure_ones_their_excess() -> None:
    """80 of 100 right at a confidence of 0.8 is 0; at 0.95 it is 0.15."""
    labels = torch.tensor([0] * 80 + [1] * 20)
    logits = torch.stack([sure([0.8] * 100), sure([0.95] * 100)])
    found = outcome_metrics(logits, labels)
    assert found["calibration_error"].tolist() == pytest.approx([0, 0.15], abs=1e-12)
    assert found["agreement"] is None
    assert found["bins"][0, 11].tolist() == pytest.approx([0.8, 0.8, 100])
    assert found["bins"][1, 14].tolist() == pytest.approx([0.95, 0.8, 100])
    assert found["bins"][:, :, 2].sum(1).tolist() == [100, 100]
    assert found["bins"][0, 0, :2].isnan().all()


def test_gaps_of_bins_do_not_cancel() -> None:
    """Too sure in one bin and too unsure in another are two errors: (0.9 - 0.5)/2 + (0.9 - 0.6)/2."""
    labels = torch.tensor([0, 1] * 5 + [0] * 9 + [1])
    found = outcome_metrics(sure([0.9] * 10 + [0.6] * 10).unsqueeze(0), labels)
    assert float(found["calibration_error"]) == pytest.approx(0.4 / 2 + 0.3 / 2)


@pytest.mark.parametrize(("confidence", "place"), [(0.5, 7), (0.6 - 1e-9, 8), (0.6 + 1e-9, 9), (0.999999, 14)])
def test_bins_are_fifteenths(confidence: float, place: int) -> None:
    """0.6 is the upper edge of the ninth."""
    found = outcome_metrics(sure([confidence]).unsqueeze(0), torch.tensor([0]))
    assert found["bins"][0, :, 2].tolist() == [float(number == place) for number in range(15)]


def test_a_certain_answer_is_in_the_last_bin_and_everyone_agrees_with_himself() -> None:
    """A probability of exactly 1; agreement is with the teacher, not with the label."""
    logits = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])
    found = outcome_metrics(logits, torch.tensor([0, 0]), logits)
    assert found["bins"][0, 14].tolist() == [1, 0.5, 2]
    assert found["agreement"].tolist() == [1]
    assert outcome_metrics(logits, torch.tensor([0, 0]), logits.flip(1))["agreement"].tolist() == [0]
