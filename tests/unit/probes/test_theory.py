"""Gradient slopes at initialization equal theory (Hanin & Rolnick, 2018; Yang et al., 2019).

Standard normal inputs, random labels, float64, batch statistics, 20 initializations in one pack. The slope is minus the
least-squares slope of ln |dLoss/dh_l| on l (nats per layer). It is positive if gradients grow toward the input.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.models.mlp import MLP

INITIALIZATIONS, EXAMPLES = 20, 128


def profiles(depth: int, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the norm of the loss gradient at each layer's output, (initializations, depth + 1), and the outputs."""
    architecture = MLP(layers_dim=128, hidden_layers_num=depth, **options).build((1, 28, 28))
    replicas = [init_params(architecture, seed) for seed in range(INITIALIZATIONS)]
    params = {name: torch.stack([replica[name] for replica in replicas]) for name in replicas[0]}
    for param in params.values():
        param.requires_grad_()
    network = PackedNetwork([architecture] * INITIALIZATIONS)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(INITIALIZATIONS, EXAMPLES, 1, 28, 28, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (INITIALIZATIONS, EXAMPLES), generator=generator)
    taps: list[Tensor] = []
    logits = network(params, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
    gradients = torch.autograd.grad(cross_entropy(logits, labels).mean(1).sum(), taps)
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients], 1)
    return norms, [tap.detach() for tap in taps]


def slope(norms: Tensor) -> float:
    """Return the mean slope over the initializations (nats per layer)."""
    layers = torch.arange(norms.shape[1], dtype=torch.float64)
    layers = layers - layers.mean()
    return -float((norms.log() @ layers / layers.square().sum()).mean())


@pytest.mark.parametrize(
    ("options", "predicted", "tolerance"),
    [
        ({}, -math.log(6) / 2, 0.02),
        ({"init": "he"}, 0.0, 0.02),
        ({"batch_norm": True}, math.log(math.pi / (math.pi - 1)) / 2, 0.01),
        ({"batch_norm": True, "init": "he"}, math.log(math.pi / (math.pi - 1)) / 2, 0.01),
        ({"residual": True}, 0.099, 0.01),
    ],
    ids=str,
)
def test_slopes_equal_theory(options: dict[str, Any], predicted: float, tolerance: float) -> None:
    """1/sqrt(6) per layer, none with He's variance, and growth by sqrt(pi/(pi-1)) with batch normalization."""
    assert slope(profiles(10, **options)[0]) == pytest.approx(predicted, abs=tolerance)


def test_residual_features_grow_with_depth() -> None:
    """Non-negative branches add up: rms(h_10)/rms(h_0) is 8.6 without normalization and 6.8 with it."""
    for options, expected in (({}, 8.58), ({"batch_norm": True}, 6.81)):
        _, outputs = profiles(10, residual=True, **options)
        growth = outputs[-1].square().mean((1, 2)).sqrt() / outputs[0].square().mean((1, 2)).sqrt()
        assert float(growth.log().mean().exp()) == pytest.approx(expected, rel=0.04)


def test_residual_batch_norm_gradients_equal_known_ratio() -> None:
    """First to last activation gradient at L=10, width 128: 4.78 in an independent computation."""
    norms, _ = profiles(10, residual=True, batch_norm=True)
    assert float((norms[:, 0] / norms[:, -1]).log().mean().exp()) == pytest.approx(4.78, rel=0.06)
