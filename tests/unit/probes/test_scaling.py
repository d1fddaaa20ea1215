"""Brier score, temperature scaling, and divergence from the teacher equal loops over examples and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.probes.outcome import fidelity_metrics, fit_temperature, outcome_metrics, scaled_metrics


def draw(*shape: int, seed: int = 3, spread: float = 2.0) -> Tensor:
    """Logits from a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


def calibrated(replicas: int, count: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits (k, n, classes) and labels (k, n) with exactly the frequencies that the logits claim.

    Every distribution has multiples of 1/n, and each label is repeated as often as it is probable.
    """
    rows, labels = [], []
    for kind in range(1, 6):
        weights = [1 + (kind * (index + 1)) % 7 for index in range(classes)]
        total = sum(weights)
        for label, weight in enumerate(weights):
            rows += [[math.log(each / total) for each in weights]] * weight * count
            labels += [label] * weight * count
    logits = torch.tensor(rows, dtype=torch.float64)
    return logits.expand(replicas, *logits.shape), torch.tensor(labels).expand(replicas, -1)


def loop(logits: Tensor, labels: Tensor, temperature: float) -> tuple[float, float, float]:
    """Loss, calibration error, and Brier score of one replica, example by example."""
    loss = brier = 0.0
    bins: dict[int, list[float]] = {}
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        weights = [math.exp((value - max(row)) / temperature) for value in row]
        p = [weight / sum(weights) for weight in weights]
        loss -= math.log(p[label])
        brier += sum((value - (index == label)) ** 2 for index, value in enumerate(p))
        bins.setdefault(math.ceil(max(p) * 15), []).append(max(p) - (row.index(max(row)) == label))
    return loss / len(labels), sum(abs(sum(gaps)) for gaps in bins.values()) / len(labels), brier / len(labels)


def test_metrics_equal_loop_over_examples() -> None:
    logits, held_out = draw(3, 200, 5), draw(3, 90, 5, seed=4)
    labels = torch.randint(5, (200,), generator=torch.Generator().manual_seed(5))
    held_labels = torch.randint(5, (3, 90), generator=torch.Generator().manual_seed(6))
    plain, scaled = outcome_metrics(logits, labels), scaled_metrics(logits, labels, held_out, held_labels)
    for slot in range(3):
        assert float(plain["brier"][slot]) == pytest.approx(loop(logits[slot], labels, 1.0)[2], rel=1e-12)
        names = ("scaled_loss", "scaled_calibration_error", "scaled_brier")
        expected = loop(logits[slot], labels, float(scaled["temperature"][slot]))
        assert [float(scaled[name][slot]) for name in names] == pytest.approx(expected, rel=1e-10)
    assert float(scaled["temperature"].min()) > 2  # labels that do not depend on the logits


def test_brier_score_of_known_predictions() -> None:
    """0 if certain and right, 2 if certain and wrong, 1 - 1/C for the uniform distribution."""
    logits = torch.tensor([[[200.0, -200.0]] * 3, [[-200.0, 200.0]] * 3, [[7.0, 7.0]] * 3])
    assert outcome_metrics(logits, torch.zeros(3, dtype=torch.int64))["brier"].tolist() == [0, 2, 0.5]


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 20.0])
def test_temperature_is_the_factor_of_calibrated_logits(factor: float) -> None:
    """Multiplied logits are over-confident, divided ones under-confident; scaling undoes both, on other images too."""
    logits, labels = calibrated(2, 3)
    metrics = scaled_metrics(factor * logits, labels[0], factor * logits, labels)
    assert metrics["temperature"].tolist() == pytest.approx([factor] * 2, rel=1e-9)
    plain = outcome_metrics(factor * logits, labels[0])
    assert metrics["scaled_calibration_error"].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert (float(plain["calibration_error"][0]) > 0.03) is (factor != 1.0)
    entropy = float(-(logits[0].exp() * logits[0]).sum(-1).mean())
    assert metrics["scaled_loss"].tolist() == pytest.approx([entropy] * 2, rel=1e-9)
    assert (float(plain["brier"][0]) > float(metrics["scaled_brier"][0]) + 1e-3) is (factor != 1.0)


def test_temperature_minimizes_the_loss() -> None:
    """Per replica, the loss is at most that at 1 and at 400 temperatures of a grid, and its derivative is zero."""
    logits = torch.stack([draw(300, 6, seed=seed, spread=1 + seed) for seed in range(4)])
    target = F.one_hot(logits.argmax(-1), 6) * 1.5 + draw(4, 300, 6, seed=9)
    labels = target.argmax(-1)
    fitted = fit_temperature(logits, labels).requires_grad_()
    loss = F.cross_entropy((logits / fitted.view(-1, 1, 1)).flatten(0, 1), labels.flatten(), reduction="none")
    loss = loss.view(labels.shape).mean(1)
    (slope,) = torch.autograd.grad(loss.sum(), fitted)
    assert float(slope.abs().max()) < 1e-10
    for temperature in [1.0, *torch.logspace(-1.3, 2, 400, dtype=torch.float64).tolist()]:
        others = [F.cross_entropy(rows / temperature, row) for rows, row in zip(logits, labels, strict=True)]
        assert bool((loss <= torch.stack(others) + 1e-12).all())
    assert len({round(value, 2) for value in fitted.tolist()}) == 4


def test_temperature_does_not_depend_on_the_pack() -> None:
    logits, labels = draw(3, 50, 4), draw(3, 50, 4, seed=8).argmax(-1)
    packed = fit_temperature(logits, labels).tolist()
    single = [float(fit_temperature(logits[slot : slot + 1], labels[slot : slot + 1])) for slot in range(3)]
    assert packed == pytest.approx(single, rel=1e-12)


def test_temperature_stays_in_its_bounds() -> None:
    """The loss falls without end if all are right (T to 0), or if all are wrong (T to infinity); ties do not depend on T."""
    labels = torch.arange(4)
    right = torch.stack([5.0 * torch.eye(4), 5.0 * torch.eye(4).roll(1, 0), torch.full((4, 4), 0.1)])
    assert fit_temperature(right, labels.expand(3, -1)).tolist() == pytest.approx([0.05, 100, 1], rel=1e-12)


def test_huge_logits_give_finite_metrics() -> None:
    """+-200 in float32, a tie of the largest, and a class that is never predicted."""
    sign = torch.where(draw(2, 60, 5) > 0, 200.0, -200.0).float()
    labels = torch.arange(60) % 5
    teacher = -sign
    metrics = outcome_metrics(sign, labels, teacher) | scaled_metrics(sign, labels, sign, labels.expand(2, -1))
    metrics |= fidelity_metrics(sign, teacher, torch.tensor([0.05, 4.0]))
    assert all(bool(metrics[name].isfinite().all()) for name in metrics if name != "bins")
    assert float(metrics["teacher_kl"].min()) > 100


def test_divergence_equals_loop_over_examples() -> None:
    student, teacher, temperatures = draw(2, 40, 3), draw(2, 40, 3, seed=7), torch.tensor([2.0, 5.0])
    metrics = fidelity_metrics(student, teacher, temperatures)
    for name, scales in (("teacher_kl", [1.0, 1.0]), ("softened_kl", temperatures.tolist())):
        for slot, scale in enumerate(scales):
            total = 0.0
            for row, target in zip((student[slot] / scale).tolist(), (teacher[slot] / scale).tolist(), strict=True):
                p, q = ([math.exp(v) / sum(map(math.exp, values)) for v in values] for values in (target, row))
                total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            assert float(metrics[name][slot]) == pytest.approx(total / 40, rel=1e-12)


def test_divergence_from_itself_is_zero() -> None:
    """And from the same logits with a constant added; without a temperature there is no softened divergence."""
    logits = draw(2, 40, 6, spread=8.0)
    assert fidelity_metrics(logits, logits, torch.tensor([1.0, 4.0]))["softened_kl"].tolist() == [0, 0]
    assert fidelity_metrics(logits, logits)["teacher_kl"].tolist() == [0, 0]
    assert float(fidelity_metrics(logits, logits + 3)["teacher_kl"].abs().max()) < 1e-12
    assert outcome_metrics(logits, torch.zeros(40, dtype=torch.int64), logits)["agreement"].tolist() == [1, 1]
    assert "softened_kl" not in fidelity_metrics(logits, logits)


def test_divergence_has_the_direction_of_the_loss() -> None:
    """KL(teacher || student): a teacher at (1/2, 1/2), a student at (1/4, 3/4): log(2) - log(3)/2."""
    student, teacher = torch.tensor([[[0.25, 0.75]]]).log(), torch.zeros(1, 1, 2)
    expected = math.log(2) - math.log(3) / 2
    assert float(fidelity_metrics(student, teacher)["teacher_kl"]) == pytest.approx(expected, rel=1e-6)
