"""Losses of a teacher's logits equal twins in NumPy that are written from the papers, and the identities between them."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, sqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.signals import LossInputs
from fathomlab.losses import DIST, DKD, LOSSES, NKD, TTM, WTTM, Distillation, LogitMSE, LogitStandardization
from fathomlab.losses.cross_entropy import CrossEntropy, cross_entropy
from fathomlab.losses.dist import correlation, correlation_losses
from fathomlab.losses.distillation import distillation_loss
from fathomlab.losses.dkd import decoupled
from fathomlab.losses.logit_mse import logit_mse
from fathomlab.losses.logit_standardization import standardize
from fathomlab.losses.ttm import matching_loss, power_sum
from tests.helpers import loss_twins as twins

REPLICAS, EXAMPLES, CLASSES = 2, 9, 6
LABELS = torch.arange(REPLICAS * EXAMPLES).view(REPLICAS, EXAMPLES) * 5 % CLASSES
# For each loss: its twin, and the sum of the weighted terms of the teacher as a function of options and twin.
TWINS: list[tuple[Any, Callable[..., Any]]] = [
    (LogitMSE(0.3), lambda *data: 0.3 * twins.logit_mse(*data)),
    (DKD(), lambda *data: twins.dkd(*data, 1, 8, 4)),
    (DKD(0.4, 2.5, 1.5), lambda *data: twins.dkd(*data, 0.4, 2.5, 1.5)),
    (DIST(), lambda *data: twins.dist(*data, 1, 1, 1)),
    (DIST(2.0, 0.7, 4.0), lambda *data: twins.dist(*data, 2, 0.7, 4)),
    (NKD(), lambda *data: twins.nkd(*data, 1.5, 1)),
    (NKD(3.5, 3.0), lambda *data: twins.nkd(*data, 3.5, 3)),
    (LogitStandardization(), lambda *data: 9 * twins.standardized(*data, 2)),
    (LogitStandardization(2.0, 0.8), lambda *data: 2 * twins.standardized(*data, 0.8)),
    (TTM(), lambda *data: twins.ttm(*data, 0.1)),
    (TTM(0.6, 3.0), lambda *data: 3 * twins.ttm(*data, 0.6)),
    (WTTM(), lambda *data: twins.wttm(*data, 0.1)),
    (WTTM(0.6, 3.0), lambda *data: 3 * twins.wttm(*data, 0.6)),
]
DIVERGENCES = [Distillation(3.0, 1.0), LogitMSE(), DKD(), DIST(), LogitStandardization(), TTM(1.0), WTTM(1.0)]


def logits(seed: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normally distributed logits of a pack."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(REPLICAS, EXAMPLES, CLASSES, generator=generator, dtype=torch.float64)).to(dtype)


def soft(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor = LABELS) -> Tensor:
    """The sum of all terms but that of the labels, (k, n)."""
    terms = dict(loss.terms(LossInputs(student, labels, teacher, CrossEntropy())))
    del terms["labels"]
    return torch.stack(list(terms.values())).sum(0)


@pytest.mark.parametrize(("loss", "twin"), TWINS, ids=str)
def test_loss_equals_its_twin(loss: Any, twin: Callable[..., Any]) -> None:
    student, teacher = logits(1), logits(2)
    values = soft(loss, student, teacher)
    for slot in range(REPLICAS):
        expected = twin(student[slot].numpy(), teacher[slot].numpy(), LABELS[slot].numpy())
        actual = values[slot].mean() if loss.compares_examples else values[slot]
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-11)


def test_every_loss_of_logits_has_a_twin() -> None:
    assert {type(loss).__name__ for loss, _ in TWINS} == {
        name for name, loss in LOSSES.items() if loss.needs == {"teacher.logits"} and loss is not Distillation
    }


@pytest.mark.parametrize("loss", [loss for loss, _ in TWINS], ids=str)
def test_labels_have_the_weight_hard(loss: Any) -> None:
    inputs = LossInputs(logits(1), LABELS, logits(2), CrossEntropy(0.1))
    expected = 0.25 * cross_entropy(logits(1), LABELS, 0.1)
    assert torch.equal(replace(loss, hard=0.25).terms(inputs)["labels"], expected)


@pytest.mark.parametrize("loss", [*DIVERGENCES, NKD(), TTM(), WTTM()], ids=str)
def test_loss_is_not_negative_and_ignores_constants(loss: Any) -> None:
    shift = torch.linspace(-50, 50, EXAMPLES, dtype=torch.float64).view(1, -1, 1)
    expected = soft(loss, logits(1), logits(2))
    assert bool((expected > 0).all())
    torch.testing.assert_close(soft(loss, logits(1) + shift, logits(2)), expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(soft(loss, logits(1), logits(2) - shift), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("loss", DIVERGENCES, ids=str)
def test_loss_and_gradient_are_zero_for_equal_logits(loss: Any) -> None:
    student = logits(1).requires_grad_()
    values = soft(loss, student, student.detach())
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert float(values.detach().abs().max()) < 1e-12
    assert float(gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("loss", [loss for loss, _ in TWINS], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_loss_is_finite_for_large_and_for_equal_logits(loss: Any, dtype: torch.dtype) -> None:
    extreme = torch.where(logits(3) > 0, 200.0, -200.0).to(dtype)
    for student in (extreme, -extreme, torch.zeros_like(extreme)):
        for teacher in (extreme, torch.zeros_like(extreme)):
            leaf = student.clone().requires_grad_()
            values = soft(loss, leaf, teacher)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
            assert bool(values.isfinite().all() and gradient.isfinite().all())
            assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("loss", [loss for loss, _ in TWINS], ids=str)
def test_nan_is_not_hidden(loss: Any) -> None:
    """A trial that diverges is recognized by its loss."""
    student = logits(1)
    student[1, 3, 2] = torch.nan
    assert bool(soft(loss, student, logits(2))[1, 3].isnan())


def test_decoupled_parts_sum_to_the_divergence() -> None:
    """Zhao et al., 2022, equation 6: KL = TCKD + (1 - p_y) NCKD, with gradients."""
    student, temperature = logits(1).requires_grad_(), 3.0
    target, rest = decoupled(student, logits(2), LABELS, temperature)
    p = F.softmax(logits(2) / temperature, -1).gather(-1, LABELS.unsqueeze(-1)).squeeze(-1)
    whole = distillation_loss(student, logits(2), temperature)
    torch.testing.assert_close(target + (1 - p) * rest, whole, rtol=1e-12, atol=1e-14)
    gradients = [
        torch.autograd.grad(loss.sum(), student, retain_graph=True)[0] for loss in (target + (1 - p) * rest, whole)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-13)


def test_logit_mse_is_the_limit_of_high_temperatures() -> None:
    limit = logit_mse(logits(1), logits(2)) / (2 * CLASSES)
    torch.testing.assert_close(distillation_loss(logits(1), logits(2), 1e5), limit, rtol=1e-4, atol=0)


def test_ttm_with_exponent_one_is_distillation_at_temperature_one() -> None:
    expected = distillation_loss(logits(1), logits(2), 1.0)
    torch.testing.assert_close(matching_loss(logits(1), logits(2), 1.0), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(power_sum(logits(2), 1.0), torch.ones_like(expected))
    uniform = torch.zeros(1, 1, CLASSES, dtype=torch.float64)
    assert power_sum(uniform, 0.25).item() == pytest.approx(CLASSES**0.75)


def test_standardized_logits_ignore_affine_maps() -> None:
    loss, expected = LogitStandardization(), soft(LogitStandardization(), logits(1), logits(2))
    torch.testing.assert_close(soft(loss, 3 * logits(1) - 7, logits(2)), expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(soft(loss, logits(1), 0.01 * logits(2) + 50), expected, rtol=1e-9, atol=0)
    values = standardize(logits(1))
    torch.testing.assert_close(values.mean(-1), torch.zeros(REPLICAS, EXAMPLES, dtype=torch.float64))
    torch.testing.assert_close(values.std(-1), torch.ones(REPLICAS, EXAMPLES, dtype=torch.float64))


@pytest.mark.parametrize(("classes", "temperature", "cap"), [(10, 2.0, 0.35), (10, 1.0, 0.72), (100, 2.0, 0.60)])
def test_standardized_logits_cap_probabilities(classes: int, temperature: float, cap: float) -> None:
    """The largest probability is that of a one-hot row: 1 / (1 + (C - 1) exp(-sqrt(C) / T))."""
    row = torch.zeros(1, 1, classes, dtype=torch.float64)
    row[..., 3] = 200
    largest = F.softmax(standardize(row) / temperature, -1).max().item()
    assert largest == pytest.approx(1 / (1 + (classes - 1) * exp(-sqrt(classes) / temperature)))
    assert largest == pytest.approx(cap, abs=0.005)


def test_correlation_ignores_scales_and_is_zero_for_constants() -> None:
    p, q = F.softmax(logits(1), -1), F.softmax(logits(2), -1)
    scales = torch.linspace(1e-30, 10, EXAMPLES, dtype=torch.float64).view(1, -1, 1)
    torch.testing.assert_close(correlation(scales * p, q, -1), correlation(p, q, -1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(correlation(p, p, -1), torch.ones(REPLICAS, EXAMPLES, dtype=torch.float64))
    for dtype in (torch.float32, torch.float64):
        constant = torch.full((1, 1, CLASSES), 0.1, dtype=dtype).requires_grad_()
        value = correlation(constant, constant.detach(), -1)
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value.sum(), constant)
        assert not bool(gradient.any())


def test_correlations_over_examples_stay_in_their_replica() -> None:
    """The values are those of each replica alone, bit for bit, and equal for its examples."""
    _, together = correlation_losses(logits(1), logits(2), 1.0)
    for slot in range(REPLICAS):
        _, alone = correlation_losses(logits(1)[slot : slot + 1], logits(2)[slot : slot + 1], 1.0)
        assert torch.equal(together[slot], alone[0])
        assert len(set(together[slot].tolist())) == 1
    assert together[0, 0] != together[1, 0]


def test_correlation_of_a_single_example_has_no_gradient() -> None:
    student = logits(1)[:, :1].requires_grad_()
    _, intra = correlation_losses(student, logits(2)[:, :1], 1.0)
    assert torch.equal(intra, torch.ones_like(intra))


def test_label_changes_only_the_terms_of_the_label() -> None:
    other = (LABELS + 1) % CLASSES
    for loss in (LogitMSE(), DIST(), LogitStandardization(), TTM(), WTTM()):
        assert torch.equal(soft(loss, logits(1), logits(2)), soft(loss, logits(1), logits(2), other))
    for loss in (DKD(), NKD()):
        assert not torch.equal(soft(loss, logits(1), logits(2)), soft(loss, logits(1), logits(2), other))
