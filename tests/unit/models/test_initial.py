"""Initial values: their distributions, and what they depend on."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch

from fathomlab.models.initial import initial_values
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def test_default_values_are_those_of_torch() -> None:
    """Uniform on +-1/sqrt(fan_in) for weights and biases: bounds hold and are reached, the variance is 1/(3 fan_in)."""
    values = initial_values(MLP(hidden_layers_num=1).build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128), ("output", 128)):
        weight, bias = values[f"{name}.weight"], values[f"{name}.bias"]
        assert 0.98 / sqrt(fan) < float(weight.abs().max()) <= 1 / sqrt(fan)
        assert float(weight.var()) * 3 * fan == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert 0 < float(bias.abs().max()) <= 1 / sqrt(fan)
    reference = torch.nn.Linear(784, 128).weight.detach()
    assert float(values["input.weight"].std()) == pytest.approx(float(reference.std()), rel=0.01)


def test_he_values_have_variance_two_over_fan_in_and_no_bias() -> None:
    """He et al. (2015), eq. 10, with the tails of a normal distribution."""
    values = initial_values(MLP(hidden_layers_num=1, init="he").build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128)):
        weight = values[f"{name}.weight"] * sqrt(fan / 2)
        assert float(weight.var()) == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert float((weight**4).mean()) == pytest.approx(3, abs=0.2)
        assert not values[f"{name}.bias"].any()


@pytest.mark.parametrize(("init", "variance"), [("he_fan_out", 2 / (128 * 9)), ("he", 2 / (64 * 9))])
def test_kernels_follow_the_fan_that_is_named(init: Any, variance: float) -> None:
    """The kernel of 64 to 128 channels tells both fans apart."""
    values = initial_values(CNN(init=init).build(CIFAR), 0)
    kernel = values["stage2.1.conv1.weight"]
    assert float(kernel.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("init", ["he_fan_out", "he", "torch"])
def test_the_linear_layer_of_a_cnn_is_torch_default(init: Any) -> None:
    """As the option's description says, whatever fills the kernels."""
    values = initial_values(CNN(init=init, num_classes=100).build(CIFAR), 0)
    assert float(values["output.weight"].abs().max()) <= 1 / sqrt(512)
    assert float(values["output.weight"].var()) == pytest.approx(1 / (3 * 512), rel=0.03)
    assert values["output.bias"].any()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MLP(layers_dim=16, batch_norm=True), MLP(layers_dim=16, batch_norm=True, residual=True)),
        (MLP(layers_dim=16), MLP(layers_dim=16, dropout=0.5, hidden_layers_num=4, activation="Tanh")),
        (CNN(width=4), CNN(width=4, residual=False)),
        (CNN(width=4), CNN(width=4, stem="plain", layers=(1, 2, 3, 1))),
    ],
)
def test_conditions_of_one_seed_share_their_values(one: MLP | CNN, other: MLP | CNN) -> None:
    """What both nets have is equal bit for bit; another seed shares nothing that is drawn."""
    shape = MNIST if isinstance(one, MLP) else CIFAR
    values, others = (initial_values(options.build(shape), 7) for options in (one, other))
    shared = values.keys() & others.keys()
    assert shared in (values.keys(), others.keys())
    assert all(torch.equal(values[name], others[name]) for name in shared)
    again = initial_values(one.build(shape), 8)
    drawn = [name for name in values if "norm" not in name]
    assert not any(torch.equal(values[name], again[name]) for name in drawn)


def test_no_two_tensors_are_drawn_alike() -> None:
    """Layers of one shape start from different numbers."""
    values = initial_values(MLP(layers_dim=16, hidden_layers_num=12).build(MNIST), 0)
    hidden = np.stack([values[f"hidden.{place}.weight"].flatten().numpy() for place in range(1, 13)])
    correlation = np.corrcoef(hidden) - np.eye(12)
    assert abs(correlation).max() < 5 / 16


def test_values_are_pinned() -> None:
    """A change of the streams changes every result, and must be seen."""
    values = initial_values(MLP(layers_dim=16).build(MNIST), 42)
    assert values["input.weight"].dtype == torch.float64
    found = [float(values[name].flatten()[0]) for name in ("input.weight", "hidden.2.bias", "output.weight")]
    assert found == pytest.approx([-0.034616146988942324, 0.11924027522685193, -0.04835815007747818], rel=1e-14)
