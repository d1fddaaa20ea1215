"""Losses of a teacher's features equal twins in NumPy, and compare the points that belong together."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fathomlab.losses import RKD, AttentionTransfer, FitNet
from fathomlab.losses.attention_transfer import attention_loss
from fathomlab.losses.features import common_points
from fathomlab.losses.fitnet import hint_loss
from fathomlab.losses.rkd import relation_losses
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from tests.helpers import loss_twins as twins

REPLICAS, EXAMPLES = 2, 6
CIFAR = (3, 32, 32)


def draw(seed: int, *shape: int) -> Tensor:
    """Normally distributed features of a pack."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(REPLICAS, EXAMPLES, *shape, generator=generator, dtype=torch.float64)


def test_relations_equal_their_twin() -> None:
    """Also if two examples have equal features. The numbers of features differ."""
    student, teacher = draw(1, 5), 3 + 2 * draw(2, 8)
    student[0, 1] = student[0, 4]
    distance, angle = relation_losses(student, teacher)
    for slot in range(REPLICAS):
        expected = twins.rkd(student[slot].numpy(), teacher[slot].numpy())
        np.testing.assert_allclose([distance[slot].mean(), angle[slot].mean()], expected, rtol=1e-9)


def test_relations_ignore_scale_shift_and_rotation() -> None:
    """They are zero for such a student, and finite with a finite gradient for equal features and for one example."""
    teacher = draw(2, 4)
    rotation = torch.linalg.qr(draw(3, 4)[0, :4])[0]
    for loss in relation_losses(7 * teacher @ rotation - 50, teacher):
        assert float(loss.abs().max()) < 1e-18
    for features in (torch.ones(1, 5, 4, dtype=torch.float64), draw(1, 4)[:, :1]):
        leaf = features.clone().requires_grad_()
        total = torch.stack(
            [loss.sum() for loss in relation_losses(leaf, draw(2, 4)[: len(leaf), : leaf.shape[1]])]
        ).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
        assert bool(total.isfinite() and gradient.isfinite().all())


def test_hint_equals_its_twin() -> None:
    student, teacher, weight, bias = draw(1, 3, 4, 2), draw(2, 5, 4, 2), draw(3, 3)[:, :5], draw(4)[:, :5]
    losses = hint_loss(student, teacher, weight, bias)
    for slot in range(REPLICAS):
        for example in range(EXAMPLES):
            arrays = (student[slot, example], teacher[slot, example], weight[slot], bias[slot])
            assert losses[slot, example].item() == pytest.approx(twins.fitnet(*(array.numpy() for array in arrays)))
    dense = hint_loss(student[..., 0, 0], teacher[..., 0, 0], weight, bias)
    torch.testing.assert_close(dense, hint_loss(student[..., :1, :1], teacher[..., :1, :1], weight, bias))


def test_attention_equals_its_twin() -> None:
    student, teacher = draw(1, 3, 4, 2), draw(2, 5, 4, 2)
    losses = attention_loss(student, teacher)
    for slot in range(REPLICAS):
        for example in range(EXAMPLES):
            expected = twins.attention(student[slot, example].numpy(), teacher[slot, example].numpy())
            assert losses[slot, example].item() == pytest.approx(expected)
    torch.testing.assert_close(attention_loss(1e-30 * student, teacher), losses)
    silent = torch.zeros(1, 1, 3, 2, 2, requires_grad=True)
    value = attention_loss(silent, torch.ones(1, 1, 4, 2, 2)).sum()
    (gradient,) = torch.autograd.grad(value, silent)
    assert value.item() == pytest.approx(0.25)
    assert not bool(gradient.any())


def test_points_of_equal_size_belong_together() -> None:
    """The last one of each stage, also if the teacher is deeper and wider."""
    student = CNN(layers=(1, 1, 1, 1), residual=False).build(CIFAR).points
    teacher = CNN(layers=(3, 4, 6, 3)).build(CIFAR).points
    assert student == {"stem": (64, 32, 32), "stage1.1": (64, 16, 16), "stage2.1": (128, 8, 8)} | {
        "stage3.1": (256, 4, 4),
        "stage4.1": (512, 2, 2),
    }
    pairs = {
        "stem": "stem",
        "stage1.1": "stage1.3",
        "stage2.1": "stage2.4",
        "stage3.1": "stage3.6",
        "stage4.1": "stage4.3",
    }
    assert common_points(student, teacher) == pairs
    mlp, wide = (
        MLP(hidden_layers_num=depth, layers_dim=width).build((1, 28, 28)).points for depth, width in ((1, 4), (3, 9))
    )
    assert common_points(mlp, wide) == {"hidden.1": "hidden.3"}
    assert common_points(mlp, teacher) == {}


def test_adapter_maps_the_channels_of_the_middle_stage() -> None:
    student, teacher = (
        CNN(layers=(1, 1, 1, 1), width=8).build(CIFAR).points,
        CNN(layers=(2, 2, 2, 2)).build(CIFAR).points,
    )
    weight, bias = FitNet().parameters(student, teacher)
    assert (weight.name, weight.shape, bias.name, bias.shape) == (
        "regressor.weight",
        (128, 16),
        "regressor.bias",
        (128,),
    )
    assert FitNet("stage4.1").parameters(student, teacher)[0].shape == (512, 64)
    assert RKD().parameters(student, teacher) == AttentionTransfer().parameters(student, teacher) == ()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (FitNet("stage5.1"), ("unknown-name", "layer")),
        (FitNet("stem"), ("data-mismatch", "layer")),
        (AttentionTransfer(("stage1.1", "x")), ("unknown-name", "layers")),
        (AttentionTransfer(("stem",)), ("data-mismatch", "layers")),
    ],
    ids=str,
)
def test_points_that_do_not_belong_together_are_reported(loss: Any, expected: tuple[str, str]) -> None:
    student = CNN(layers=(1, 1, 1, 1)).build(CIFAR).points
    teacher = CNN(layers=(1, 1, 1, 1)).build((3, 16, 16)).points  # its maps are half as large
    assert [(issue.code, issue.path) for issue in loss.mismatches(student, teacher)] == [expected]
    mlp = MLP(layers_dim=4).build((1, 28, 28)).points
    assert [issue.code for issue in AttentionTransfer().mismatches(mlp, mlp)] == ["data-mismatch"]
    maps = {**student, "pooled": (5, 1, 1)}
    assert [issue.code for issue in AttentionTransfer(("stage1.1", "pooled")).mismatches(maps, maps)] == [
        "data-mismatch"
    ]
    assert FitNet().mismatches(mlp, mlp) == RKD().mismatches(mlp, student) == []
    assert [issue.code for issue in FitNet().mismatches(mlp, student)] == ["data-mismatch"]
