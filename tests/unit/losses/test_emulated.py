"""Distillation with mistakes equals naive code that has them, and the published shares of the soft gradient."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.signals import LossInputs
from fathomlab.engine.stacking import stack_components
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.losses.emulated import EmulatedDistillation, with_mistakes

BATCH, CLASSES, DRAWS = 128, 10, 60
CASES = ((), ("no_t2",), ("mean_reduction",), ("mean_reduction", "no_t2"))
SHARES = {  # alpha -> one column per case, of C=10, B=128, T=3, logits N(0, 3^2)
    0.5: (0.53, 0.11, 0.10, 0.01),
    0.7: (0.72, 0.23, 0.21, 0.03),
    0.8: (0.82, 0.33, 0.31, 0.05),
    0.9: (0.91, 0.53, 0.50, 0.10),
}


def draw(replicas: int = 1, batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of students and teachers, and labels."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, replicas, batch, CLASSES, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(0, CLASSES, (replicas, batch), generator=generator)


def gradients(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The norms of the gradients of the hard and of the soft term with respect to the logits, one per replica."""
    student = student.clone().requires_grad_()
    terms = loss.terms(LossInputs(student, labels, teacher, CrossEntropy()))
    norms = []
    for name in ("labels", "distillation"):
        (gradient,) = torch.autograd.grad(terms[name].mean(1).sum(), student, retain_graph=True)
        norms.append(gradient.flatten(1).norm(dim=1))
    return norms[0], norms[1]


@pytest.mark.parametrize("alpha", SHARES)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_shares_of_the_soft_gradient(alpha: float, case: int):
    """Mean over draws of |soft| / (|hard| + |soft|), each weighted as in the loss."""
    hard, soft = gradients(with_mistakes(Distillation(3.0, alpha), CASES[case]), *draw(DRAWS))
    assert float((soft / (hard + soft)).mean()) == pytest.approx(SHARES[alpha][case], abs=0.02)


@pytest.mark.parametrize(("mistakes", "ratio"), [((), 1.04), (("no_t2",), 1 / 16), (("mean_reduction",), 1.04)])
def test_size_of_the_soft_gradient_at_other_temperatures(mistakes: tuple[str, ...], ratio: float):
    """|g(T=8)| / |g(T=2)|: nearly 1 with the factor T^2, nearly 1/16 without."""
    inputs = draw(DRAWS)
    norms = [gradients(with_mistakes(Distillation(t, 0.9), mistakes), *inputs)[1].mean() for t in (2.0, 8.0)]
    assert float(norms[1] / norms[0]) == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_terms_equal_torch(case: tuple[str, ...]):
    """`F.kl_div` with the reductions and factors of published code."""
    student, teacher, labels = draw()
    terms = with_mistakes(Distillation(4.0, 0.7), case).terms(LossInputs(student, labels, teacher, CrossEntropy(0.1)))
    cells = F.kl_div(F.log_softmax(student[0] / 4, -1), F.softmax(teacher[0] / 4, -1), reduction="none")
    soft = cells.mean() if "mean_reduction" in case else cells.sum() / BATCH  # reduction="mean" warns of its meaning
    factor = 1 if "no_t2" in case else 16
    torch.testing.assert_close(terms["distillation"].mean(), 0.7 * factor * soft, rtol=1e-10, atol=0)
    hard = F.cross_entropy(student[0], labels[0], label_smoothing=0.1)
    torch.testing.assert_close(terms["labels"].mean(), 0.3 * hard, rtol=1e-10, atol=0)
    assert terms.keys() == {"labels", "distillation"}


def test_options_vary_in_a_pack():
    student, teacher, labels = draw(2)
    losses = [EmulatedDistillation(Distillation(t, a), no_t2=True) for t, a in ((2.0, 0.5), (5.0, 0.9))]
    packed = stack_components(losses, lambda values: torch.tensor(values, dtype=torch.float64).unsqueeze(1))
    together = packed.terms(LossInputs(student, labels, teacher, CrossEntropy()))["distillation"]
    for slot, loss in enumerate(losses):
        rows = slice(slot, slot + 1)
        alone = loss.terms(LossInputs(student[rows], labels[rows], teacher[rows], CrossEntropy()))["distillation"]
        assert torch.equal(together[rows], alone)


def test_other_mistakes_leave_the_loss():
    loss = Distillation()
    assert with_mistakes(loss, ("shuffled_cache", "student_eval", "unmatched_schedule")) is loss
    assert with_mistakes(loss, ("no_t2", "student_eval")) == EmulatedDistillation(loss, no_t2=True)
