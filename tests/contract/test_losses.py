"""Rules for every loss of the table, with its defaults and its test options."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.base.errors import Issue
from fathomlab.base.options import parse
from fathomlab.base.packing import signature, varying
from fathomlab.engine.signals import LossInputs
from fathomlab.engine.stacking import stack_components
from fathomlab.losses import LOSSES
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training

REPLICAS, EXAMPLES, CLASSES = 2, 7, 5
STUDENT, TEACHER = {"stem": (3, 4, 4), "block": (4, 2, 2)}, {"stem": (5, 4, 4), "block": (6, 2, 2)}


@pytest.fixture(params=sorted(LOSSES))
def losses(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Each loss of the table: with its defaults, and with its test options."""
    issues: list[Issue] = []
    component = LOSSES[request.param]
    losses = tuple(parse(component, options, "", issues) for options in ({}, component.test_options))
    assert not issues
    return losses[0], losses[1]


def signals(loss: Any, scale: float = 3.0, dtype: torch.dtype = torch.float64) -> LossInputs:
    """Logits and labels of two replicas, and what the loss needs; anything else is None."""
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(2, REPLICAS, EXAMPLES, CLASSES, generator=generator, dtype=torch.float64)
    logits, teacher = (scale * draws).to(dtype)
    labels = torch.arange(REPLICAS * EXAMPLES).view(REPLICAS, EXAMPLES) * 3 % CLASSES
    inputs = LossInputs(logits.requires_grad_(), labels)
    if not loss.needs:
        return inputs
    features = [
        {
            name: torch.randn(REPLICAS, EXAMPLES, *shape, generator=generator, dtype=dtype)
            for name, shape in each.items()
        }
        for each in (STUDENT, TEACHER)
    ]
    for values in features[0].values():
        values.requires_grad_()
    learned = {
        each.name: torch.randn(REPLICAS, *each.shape, generator=generator, dtype=dtype)
        for each in loss.parameters(STUDENT, TEACHER)
    }
    return LossInputs(logits.requires_grad_(), labels, teacher, CrossEntropy(), *features, learned)


def leaves(loss: Any, inputs: LossInputs) -> list[Tensor]:
    """What training differentiates with respect to: logits, and features if the loss reads them."""
    return [inputs.logits, *(inputs.features.values() if "features" in loss.needs else ())]


def gradients(loss: Any, inputs: LossInputs, value: Tensor) -> list[Tensor]:
    """The gradient with respect to each leaf; zeros if it is not used."""
    read = leaves(loss, inputs)
    computed = torch.autograd.grad(value, read, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(read, computed, strict=True)]


def rows(inputs: LossInputs, slot: int) -> LossInputs:
    """The inputs of one replica."""

    def row(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: row(each) for name, each in value.items()}
        return value[slot : slot + 1] if isinstance(value, Tensor) else value

    return LossInputs(*(row(getattr(inputs, field.name)) for field in fields(inputs)))


def total(loss: Any, inputs: LossInputs) -> Tensor:
    """The sum of the terms."""
    return torch.stack(list(loss.terms(inputs).values())).sum(0)


def test_terms_have_a_number_per_example(losses: tuple[Any, Any]):
    for loss in losses:
        for name, term in loss.terms(signals(loss)).items():
            assert isinstance(name, str)
            assert term.shape == (REPLICAS, EXAMPLES)
            assert term.dtype == torch.float64


def test_losses_of_a_teacher_have_a_term_of_the_labels(losses: tuple[Any, Any]):
    for loss in losses:
        assert ("labels" in loss.terms(signals(loss))) == bool(loss.needs)


def test_loss_of_an_example_depends_on_its_logits_only_unless_declared(losses: tuple[Any, Any]):
    """Losses that compare examples compare those of one replica."""
    for loss in losses:
        inputs = signals(loss)
        computed = gradients(loss, inputs, total(loss, inputs)[1, 2])
        assert bool((computed[0][1, 2] != 0).any())
        assert any(bool(gradient[1, 2].any()) for gradient in computed[1:]) or "features" not in loss.needs
        for gradient in computed:
            gradient[1, 2] = 0
            assert not bool(gradient[0].any())
        assert any(bool(gradient[1].any()) for gradient in computed) == loss.compares_examples


def test_loss_is_finite_for_large_logits(losses: tuple[Any, Any]):
    for loss in losses:
        inputs = signals(loss, scale=500)
        values = total(loss, inputs)
        assert bool(values.isfinite().all())
        assert all(bool(gradient.isfinite().all()) for gradient in gradients(loss, inputs, values.sum()))


def test_half_precision_is_computed_in_float32(losses: tuple[Any, Any]):
    for loss in [loss for loss in losses if "features" not in loss.needs]:  # the engine converts features
        half = signals(loss, 200, torch.bfloat16)
        teacher = None if half.teacher_logits is None else half.teacher_logits.float()
        single = replace(half, logits=half.logits.detach().float(), teacher_logits=teacher)
        values = total(loss, half)
        (gradient,) = torch.autograd.grad(values.sum(), half.logits)
        assert bool(values.isfinite().all() and gradient.isfinite().all())
        assert torch.equal(values, total(loss, single))


def test_teacher_gets_no_gradient(losses: tuple[Any, Any]):
    for loss in losses:
        inputs = signals(loss)
        if loss.needs:
            of_teacher = [inputs.teacher_logits, *inputs.teacher_features.values()]
            for tensor in of_teacher:
                tensor.requires_grad_()
            total(loss, inputs).sum().backward()
            assert [tensor.grad for tensor in of_teacher] == [None] * len(of_teacher)


def test_options_that_vary_have_test_options(losses: tuple[Any, Any]):
    first, second = losses
    assert signature(first) == signature(second)
    for name in varying(type(first)):
        assert getattr(first, name) != getattr(second, name), name


def test_packed_loss_equals_single_losses(losses: tuple[Any, Any]):
    packed = stack_components(losses, lambda values: torch.tensor(values, dtype=torch.float64).unsqueeze(1))
    inputs = signals(losses[0])
    together = total(packed, inputs)
    for slot, loss in enumerate(losses):
        alone = total(loss, rows(inputs, slot))
        torch.testing.assert_close(together[slot : slot + 1], alone, rtol=1e-13, atol=0)


def test_training_minimizes_the_loss_alone_and_packed(losses: tuple[Any, Any]):
    reads_maps = "features" in losses[0].needs
    network = small_training.cnn() if reads_maps else small_training.mlp(layers_dim=16, hidden_layers_num=1)
    parents = (small_training.cnn(width=3) if reads_maps else network,) if losses[0].needs else ()
    recipes = [
        replace(
            small_training.recipe(network, seed=seed, lr=0.0005 if reads_maps else 0.1, epochs=8),
            loss=loss,
            teachers=parents,
        )
        for seed, loss in enumerate(losses)
    ]

    def results(trained: list[Recipe]) -> list[dict[str, Tensor]]:
        data = small_training.make_dataset(network.shape)
        teachers = small_training.make_teachers(trained, data, 0.5 if reads_maps else 1.5) if parents else None
        pack, epochs = small_training.run_training(trained, teachers, data)
        return [small_training.replica_results(pack, epochs, slot) for slot in range(len(trained))]

    for recipe, packed in zip(recipes, results(recipes), strict=True):
        assert packed["objective 8"] < packed["objective 1"]
        small_training.assert_close(packed, *results([recipe]))
