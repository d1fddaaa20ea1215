"""Losses for the users' own training loops."""

from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.losses import LOSSES
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.losses.distillation import distillation_loss

LABELS = torch.arange(7) % 4
OF_LOGITS = sorted(name for name, loss in LOSSES.items() if loss.needs <= {"teacher.logits"})


def draw(seed: int) -> torch.Tensor:
    """Logits of seven images in four classes."""
    return 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(seed))


def test_distillation_is_the_formula():
    loss = fathomlab.build_loss({"type": "Distillation", "params": {"alpha": 0.6, "temperature": 2}})
    hard = cross_entropy(draw(1).unsqueeze(0), LABELS.unsqueeze(0))[0]
    soft = distillation_loss(draw(1).unsqueeze(0), draw(2).unsqueeze(0), 2.0)[0]
    torch.testing.assert_close(loss(draw(1), LABELS, teacher=draw(2)), 0.4 * hard + 0.6 * soft)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_every_loss_of_logits_is_a_function(name: str):
    """Its gradient reaches the student and not the teacher, and bfloat16 is computed in float32."""
    loss = fathomlab.build_loss({"type": name, "params": LOSSES[name].test_options})
    student, teacher = draw(1).requires_grad_(), draw(2).requires_grad_()
    values = loss(student, LABELS, teacher=teacher)
    values.mean().backward()
    assert values.shape == (7,)
    assert student.grad is not None
    assert bool((student.grad != 0).any(1).all())
    assert teacher.grad is None
    assert loss(draw(1).bfloat16(), LABELS, teacher=draw(2).bfloat16()).dtype == torch.float32


def test_cross_entropy_needs_no_teacher():
    loss = fathomlab.build_loss({"type": "CrossEntropy"})
    assert torch.equal(loss(draw(1), LABELS), cross_entropy(draw(1).unsqueeze(0), LABELS.unsqueeze(0))[0])


def test_all_problems_of_the_options_are_reported():
    for options, expected in (
        ({"type": "DKT"}, [("unknown-name", "type")]),
        ({"params": {}}, [("missing-key", "")]),
        (
            {"type": "DKD", "params": {"betta": 1, "temperature": 0}},
            [("out-of-range", "params.temperature"), ("unknown-key", "params.betta")],
        ),
    ):
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.build_loss(options)
        assert sorted((problem.code, problem.path) for problem in caught.value.problems) == sorted(expected)
    for name in ("RKD", "FitNet", "AttentionTransfer"):
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.build_loss({"type": name})
        assert [(problem.code, problem.path) for problem in caught.value.problems] == [("conflict", "type")]
    with pytest.raises(fathomlab.ConfigError, match="Did you mean 'DKD'"):
        fathomlab.build_loss({"type": "dkdd"})


def test_wrong_tensors_are_refused():
    loss = fathomlab.build_loss({"type": "DKD"})
    for logits, labels, teacher in (
        (draw(1), LABELS, None),
        (draw(1), LABELS, draw(2)[:5]),
        (draw(1), LABELS, draw(2)[:, :3]),
        (draw(1), LABELS[:5], draw(2)),
        (draw(1)[:, :2], LABELS % 2, draw(2)[:, :2]),
        (draw(1), LABELS - 1, draw(2)),
        (draw(1), LABELS + 1, draw(2)),
        (draw(1)[:0], LABELS[:0], draw(2)[:0]),
    ):
        with pytest.raises(ValueError, match=r"shape|classes|from 0 to 3|at least one"):
            loss(logits, labels, teacher=teacher)
    wrong: list[tuple[Any, Any, Any]] = [
        (draw(1), LABELS.float(), draw(2)),
        (draw(1), LABELS.bool(), draw(2)),
        (draw(1).long(), LABELS, draw(2)),
        (draw(1), LABELS, draw(2).long()),
        (draw(1).tolist(), LABELS, draw(2)),
        (draw(1), LABELS.numpy(), draw(2)),
    ]
    for logits, labels, teacher in wrong:
        with pytest.raises(TypeError, match=r"integers|floating-point|torch.Tensor"):
            loss(logits, labels, teacher=teacher)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_labels_of_any_integer_type_are_equal(name: str):
    loss = fathomlab.build_loss({"type": name})
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(loss(draw(1), LABELS.to(dtype), draw(2)), loss(draw(1), LABELS, draw(2)))
