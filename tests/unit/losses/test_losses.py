"""Losses equal closed forms and torch, with the pitfalls of distillation one by one."""

from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.signals import LossInputs
from fathomlab.engine.stacking import stack_components
from fathomlab.losses.cross_entropy import CrossEntropy, cross_entropy
from fathomlab.losses.distillation import Distillation, distillation_loss

REPLICAS, EXAMPLES, CLASSES = 2, 16, 5


def logits(seed: int, scale: float = 3.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw normally distributed logits of a pack."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(REPLICAS, EXAMPLES, CLASSES, generator=generator, dtype=torch.float64)).to(dtype)


def labels() -> Tensor:
    """Return a class per example."""
    return torch.arange(REPLICAS * EXAMPLES).view(REPLICAS, EXAMPLES) * 3 % CLASSES


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 20.0])
def test_distillation_gradient_equals_closed_form(temperature: float) -> None:
    """T (softmax(z_s / T) - softmax(z_t / T)) / B checks factor, reduction, direction, and order."""
    student, teacher = logits(1).requires_grad_(), logits(2)
    distillation_loss(student, teacher, temperature).mean(1).sum().backward()
    closed = (F.softmax(student.detach() / temperature, -1) - F.softmax(teacher / temperature, -1)) * temperature
    assert student.grad is not None
    torch.testing.assert_close(student.grad, closed / EXAMPLES, rtol=1e-12, atol=1e-14)


def test_distillation_gradient_is_accurate_in_float32() -> None:
    student, teacher = logits(1, dtype=torch.float32).requires_grad_(), logits(2, dtype=torch.float32)
    distillation_loss(student, teacher, 3.0).mean(1).sum().backward()
    closed = 3 * (F.softmax(logits(1) / 3, -1) - F.softmax(logits(2) / 3, -1)) / EXAMPLES
    assert student.grad is not None
    assert float((student.grad - closed).abs().max()) < 1e-6


def test_distillation_loss_equals_definition() -> None:
    """T^2 sum_c p_c log(p_c / q_c), with the teacher first; never negative."""
    student, teacher = logits(1), logits(2)
    loss = distillation_loss(student, teacher, 3.0)
    p, q = F.softmax(teacher / 3, -1), F.softmax(student / 3, -1)
    torch.testing.assert_close(loss, 9 * (p * (p / q).log()).sum(-1), rtol=1e-12, atol=0)
    assert loss.shape == (REPLICAS, EXAMPLES)
    assert bool((loss > 0).all())
    assert not torch.allclose(loss, distillation_loss(teacher, student, 3.0))


def test_distillation_loss_is_zero_for_equal_logits() -> None:
    """A constant added to the logits changes neither loss nor gradient."""
    student = logits(1).requires_grad_()
    loss = distillation_loss(student, student.detach(), 4.0)
    assert float(loss.detach().abs().max()) < 1e-13
    loss.sum().backward()
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-13
    shift = torch.linspace(-50, 50, EXAMPLES, dtype=torch.float64).view(1, -1, 1)
    expected = distillation_loss(logits(1), logits(2), 4.0)
    torch.testing.assert_close(distillation_loss(logits(1) + shift, logits(2), 4.0), expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(distillation_loss(logits(1), logits(2) - shift, 4.0), expected, rtol=1e-10, atol=0)


def test_high_temperature_matches_logits() -> None:
    """T to infinity: |centered z_s - centered z_t|^2 / (2 C) (Hinton et al., 2015, eq. 4)."""
    student, teacher = logits(1), logits(2)
    centered = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    expected = centered.square().sum(-1) / (2 * CLASSES)
    torch.testing.assert_close(distillation_loss(student, teacher, 1000.0), expected, rtol=5e-3, atol=0)
    torch.testing.assert_close(distillation_loss(student, teacher, 1e5), expected, rtol=5e-5, atol=0)


def test_distillation_gradient_keeps_its_size() -> None:
    """g(T=8)| / |g(T=2)| is in [0.7, 1.4]. Without the factor T^2 it would be about 1/16."""
    norms = []
    for temperature in (2.0, 8.0):
        student = logits(1).requires_grad_()
        distillation_loss(student, logits(2), temperature).sum().backward()
        assert student.grad is not None
        norms.append(float(student.grad.norm()))
    assert 0.7 < norms[1] / norms[0] < 1.4


def test_teacher_gets_no_gradient() -> None:
    student, teacher = logits(1).requires_grad_(), logits(2).requires_grad_()
    distillation_loss(student, teacher, 2.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_temperature_varies_per_replica() -> None:
    student, teacher = logits(1), logits(2)
    losses = distillation_loss(student, teacher, torch.tensor([[2.0], [7.0]], dtype=torch.float64))
    for replica, temperature in enumerate((2.0, 7.0)):
        expected = distillation_loss(student, teacher, temperature)[replica]
        torch.testing.assert_close(losses[replica], expected, rtol=1e-14, atol=0)


def test_distillation_loss_rejects_different_classes() -> None:
    with pytest.raises(ValueError, match=r"student has logits \(2, 16, 5\), teacher \(2, 16, 4\)"):
        distillation_loss(logits(1), logits(2)[..., :4], 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distillation_loss_is_finite_for_large_logits(dtype: torch.dtype) -> None:
    student, teacher = logits(1, 200, dtype).requires_grad_(), logits(2, 200, dtype)
    loss = distillation_loss(student, teacher, 0.1)
    loss.sum().backward()
    assert student.grad is not None
    assert bool(loss.isfinite().all() and student.grad.isfinite().all())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_torch(smoothing: float) -> None:
    student, torch_student = logits(3).requires_grad_(), logits(3).requires_grad_()
    loss = cross_entropy(student, labels(), smoothing)
    expected = torch.stack(
        [
            F.cross_entropy(z, y, label_smoothing=smoothing, reduction="none")
            for z, y in zip(torch_student, labels(), strict=True)
        ]
    )
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-14)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(student.grad, torch_student.grad, rtol=1e-12, atol=1e-14)


def test_label_smoothing_varies_per_replica() -> None:
    losses = cross_entropy(logits(3), labels(), torch.tensor([[0.0], [0.2]], dtype=torch.float64))
    for replica, smoothing in enumerate((0.0, 0.2)):
        expected = cross_entropy(logits(3), labels(), smoothing)[replica]
        torch.testing.assert_close(losses[replica], expected, rtol=1e-14, atol=0)


def test_cross_entropy_of_uniform_logits_is_log_classes() -> None:
    uniform = torch.zeros(REPLICAS, EXAMPLES, CLASSES, dtype=torch.float64)
    for smoothing in (0.0, 0.3):
        torch.testing.assert_close(
            cross_entropy(uniform, labels(), smoothing), torch.full_like(uniform[..., 0], log(CLASSES))
        )


def test_distillation_terms_sum_to_formula() -> None:
    batch = LossInputs(logits(1), labels(), logits(2), CrossEntropy(0.1))
    terms = Distillation(3.0, 0.7).terms(batch)
    hard = cross_entropy(logits(1), labels(), 0.1)
    expected = 0.3 * hard + 0.7 * distillation_loss(logits(1), logits(2), 3.0)
    torch.testing.assert_close(sum(terms.values()), expected, rtol=1e-12, atol=0)
    assert terms.keys() == {"labels", "distillation"}


def test_packed_loss_equals_single_losses_bit_for_bit() -> None:
    options = [(Distillation(3.0, 0.7), CrossEntropy()), (Distillation(4.0, 0.8), CrossEntropy(0.1))]
    packed, packed_label_loss = (
        stack_components(column, lambda values: torch.tensor(values, dtype=torch.float64).unsqueeze(1))
        for column in zip(*options, strict=True)
    )
    packed_loss = sum(packed.terms(LossInputs(logits(1), labels(), logits(2), packed_label_loss)).values())
    for index, (option, label_loss) in enumerate(options):
        rows = slice(index, index + 1)
        alone = option.terms(LossInputs(logits(1)[rows], labels()[rows], logits(2)[rows], label_loss))
        assert torch.equal(sum(alone.values())[0], packed_loss[index])
