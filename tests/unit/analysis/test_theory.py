"""Predictions at initialization against published and computed numbers, and against the networks themselves."""

import math
from typing import Any

import numpy as np
import pytest

from benchmarks import slopes
from fathomlab.analysis.theory import (
    EXPLOSION,
    Prediction,
    branch_share,
    depth_limit,
    depth_scale,
    forward_growth,
    linear_batch_norm,
    predict,
    reason_unpredicted,
)
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN


def foretold(batch: int = 128, **options: Any) -> Prediction:
    """The prediction, which must exist."""
    result = predict(MLP(**options), batch)
    assert result is not None, reason_unpredicted(MLP(**options), batch)
    assert reason_unpredicted(MLP(**options), batch) == ""
    return result


@pytest.mark.parametrize(
    ("options", "slope"),
    [
        ({}, -0.896),
        ({"init": "he"}, 0.0),
        ({"init": "orthogonal"}, 0.0),
        ({"init": "looks_linear"}, 0.0),
        ({"init": "glorot"}, -0.3466),
        ({"activation": "Identity"}, -0.5493),
        ({"activation": "Identity", "init": "orthogonal"}, 0.0),
        ({"batch_norm": True}, 0.192),
        ({"batch_norm": True, "init": "he"}, 0.192),
        ({"batch_norm": True, "activation": "Identity"}, 0.004),
        ({"residual": True, "block": "pre_activation"}, 0.0771),
        ({"residual": True, "block": "shared_twice", "activation": "Identity", "init": "orthogonal"}, 0.3466),
        ({"residual": True, "block": "shared_twice", "activation": "Identity"}, 0.0527),
        ({"residual": True, "skip_init": "rezero"}, 0.0),
        ({"residual": True, "skip_init": "rezero", "activation": "Tanh", "batch_norm": True}, 0.0),
    ],
    ids=str,
)
def test_constant_rates_equal_published_values(options: dict[str, Any], slope: float) -> None:
    """1/sqrt(6), 1, sqrt(pi/(pi-1)), sqrt((B-2)/(B-3)) a layer: one slope at every depth, and a straight profile."""
    for depth in [1, 10, 40]:
        result = foretold(hidden_layers_num=depth, **options)
        assert result.slope == pytest.approx(slope, abs=1e-3)
        assert len(result.profile) == depth + 1
        assert result.profile[-1] == 0.0
        assert result.profile[0] == pytest.approx(slope * depth, abs=2e-3 * depth)
        assert result.source
        assert 0 < result.tolerance < 0.05


def test_ratios_equal_published_values() -> None:
    """G_0 / G_L of the first two networks, and 9861 at 48 layers with batch norm."""
    for depth, ratio in ((5, 1.1e-2), (10, 1.3e-4), (20, 1.7e-8), (40, 2.7e-16)):
        assert math.exp(foretold(hidden_layers_num=depth).profile[0]) == pytest.approx(ratio, rel=0.05)
    for depth, ratio in ((5, 2.6), (10, 6.8), (20, 46), (40, 2129), (48, 9861)):
        result = foretold(hidden_layers_num=depth, batch_norm=True, batch_norm_eps=1e-12)
        assert math.exp(result.profile[0]) == pytest.approx(ratio, rel=0.01)


def test_depth_scale_and_limit_equal_closed_forms() -> None:
    """0.56 layers without batch norm, 2.61 with it, 16 times that is 41.8; no scale where gradients stay."""
    assert depth_scale(foretold(hidden_layers_num=5).slope) == pytest.approx(0.558, abs=1e-3)
    assert depth_scale(EXPLOSION) == pytest.approx(1 / math.log(math.pi / (math.pi - 1)))
    assert depth_limit(EXPLOSION) == pytest.approx(41.8, abs=0.05)
    assert depth_limit(0.0) == math.inf


def test_small_batches_have_steeper_slopes() -> None:
    """The computed table; between its entries the slope falls."""
    for batch, slope in [(4, 0.499), (8, 0.289), (16, 0.231), (32, 0.210), (64, 0.2), (128, 0.192), (1024, 0.192)]:
        options: dict[str, Any] = {"batch_norm": True, "hidden_layers_num": 20}
        assert foretold(batch, **options).slope == pytest.approx(slope, abs=1e-3)
        assert foretold(batch, **options).slope >= foretold(batch + 1, **options).slope


def test_linear_networks_with_batch_norm_have_small_slopes() -> None:
    """sqrt((B-2)/(B-3)), Yang et al. (2019)."""
    table = {4: 0.347, 8: 0.091, 16: 0.037, 32: 0.017, 64: 0.008, 128: 0.004}
    assert {batch: round(linear_batch_norm(batch), 3) for batch in table} == table


def test_residual_batch_norm_networks_follow_a_power_law() -> None:
    """sqrt(prod(1 + 1.467/l)), larger where l is small; the branch's share falls as 1/l."""
    for depth, ratio in ((5, 3.4), (10, 5.2), (20, 8.3), (40, 13.4)):
        result = foretold(hidden_layers_num=depth, residual=True, batch_norm=True)
        assert math.exp(result.profile[0]) == pytest.approx(ratio, rel=0.02)
        product = math.prod(1 + math.pi / (math.pi - 1) / layer for layer in range(1, depth + 1))
        assert result.profile[0] == pytest.approx(math.log(product) / 2)
        steps = -np.diff(result.profile)
        assert (np.diff(steps) < 0).all()
    assert [branch_share(layer) for layer in (1, 2, 40)] == [1, 0.5, 0.025]


@pytest.mark.parametrize(
    ("norm", "depth", "growth"),
    [
        *((False, depth, growth) for depth, growth in ((5, 2.74), (10, 8.43), (20, 82.7), (40, 8000))),
        *((True, depth, growth) for depth, growth in ((5, 3.94), (10, 6.78), (20, 12.4), (40, 23.7))),
    ],
)
def test_residual_networks_grow_as_published(norm: bool, depth: int, growth: float) -> None:
    """Non-negative branches add up: 1.257 a layer in the end, with batch norm as the depth."""
    result = forward_growth(MLP(hidden_layers_num=depth, residual=True, batch_norm=norm))
    assert result is not None
    assert result[0] == pytest.approx(1)
    assert result[-1] == pytest.approx(growth, rel=0.005)
    if not norm:
        assert result[1] == pytest.approx(1.194, abs=1e-3)


@pytest.mark.parametrize(
    ("width", "depth", "ratio", "slope"),
    [
        *((128, 5, 1.50, 0.082), (128, 10, 2.66, 0.099), (128, 20, 14.2, 0.131), (128, 40, 1110, 0.184)),
        *((32, 5, 1.55, None), (32, 10, 3.36, None), (32, 20, 23.9, None), (32, 40, 2330, None)),
    ],
)
def test_gradients_contain_the_drift_of_the_variance(width: int, depth: int, ratio: float, slope: float | None) -> None:
    """Computed ratios of residual nets without batch norm: 1.08 a layer while shallow, then the forward growth's shadow."""
    result = foretold(layers_dim=width, hidden_layers_num=depth, residual=True)
    assert result.profile[0] == pytest.approx(math.log(ratio), abs=0.15)
    if slope is not None:
        assert result.slope == pytest.approx(slope, abs=0.012)


@pytest.mark.parametrize(("scale", "power"), [("none", 0), ("1/sqrt(L)", 1), ("1/L", 2)])
def test_branch_scale_divides_the_squared_rate_of_the_branch(scale: Any, power: int) -> None:
    """(1 + (1/6) / L^power)^L in pre-activation nets; a finite limit e^(1/6) of the squared ratio for 1/sqrt(L)."""
    for depth in (4, 16, 64):
        result = foretold(hidden_layers_num=depth, residual=True, block="pre_activation", branch_scale=scale)
        assert result.slope == pytest.approx(math.log(1 + 1 / 6 / depth**power) / 2)
        growth = forward_growth(MLP(hidden_layers_num=depth, residual=True, branch_scale=scale, batch_norm=True))
        assert growth is not None
        mean, variance = 1 + depth ** (1 - power / 2), 1 + depth ** (1 - power)
        assert growth[-1] == pytest.approx(math.sqrt((mean**2 + (math.pi - 1) * variance) / math.pi))


def test_layers_applied_twice_square_their_rate() -> None:
    """The branch's squared rate is that of one layer times the plain rate: 1.467^2/l with batch norm, 1/36 without."""
    for depth in (5, 40):
        options: dict[str, Any] = {"hidden_layers_num": depth, "residual": True, "block": "shared_twice"}
        squared = (math.pi / (math.pi - 1)) ** 2
        product = math.prod(1 + squared / layer for layer in range(1, depth + 1))
        assert foretold(**options, batch_norm=True).profile[0] == pytest.approx(math.log(product) / 2)
        # g^2/2 in the place of g: He's branches keep their size, as those of one layer do
        assert foretold(**options, init="he").slope == pytest.approx(
            foretold(**options | {"block": "one_layer"}, init="he").slope
        )
    assert foretold(hidden_layers_num=1, layers_dim=10**9, residual=True, block="shared_twice").slope == pytest.approx(
        math.log(1 + 1 / 36) / 2
    )


@pytest.mark.parametrize(
    ("init", "eps", "slope"),
    [
        *(("he", 1e-5, 0.189), ("he", 1e-3, 0.190), ("he", 0.1, 0.185), ("he", 0.3, 0.180), ("he", 1.0, -0.007)),
        *(("he", 3.0, -0.552), ("torch", 1e-5, 0.190), ("torch", 1e-3, 0.190), ("torch", 0.3, -0.300)),
        *(("torch", 1.0, -0.899), ("torch", 3.0, -1.459)),
    ],
)
def test_large_eps_restores_the_scale_of_weights(init: Any, eps: float, slope: float) -> None:
    """Computed slopes: eps = 1 removes the explosion with He's init and makes gradients vanish with torch's."""
    result = foretold(hidden_layers_num=40, batch_norm=True, init=init, batch_norm_eps=eps)
    assert result.slope == pytest.approx(slope, abs=0.015)


def test_beta_reduces_the_slope() -> None:
    """Computed slopes, and the same rate by integration over a normal variable."""
    for beta, slope in [(0.5, 0.123), (1.0, 0.070), (2.0, 0.017), (3.0, 0.005)]:
        result = foretold(hidden_layers_num=40, batch_norm=True, batch_norm_beta=beta)
        assert result.slope == pytest.approx(slope, abs=0.015)
        z = np.linspace(-10, 12, 400_001)
        weight = np.exp(-((z - beta) ** 2) / 2)
        weight /= weight.sum()
        relu = np.maximum(z, 0)
        variance = weight @ relu**2 - (weight @ relu) ** 2
        exact = foretold(10**9, hidden_layers_num=40, batch_norm=True, batch_norm_beta=beta, batch_norm_eps=1e-9)
        assert exact.slope == pytest.approx(math.log(weight @ (z > 0) / variance) / 2, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "Tanh"},
        {"hidden_layers_num": 0},
        {"residual": True, "block": "two_layer"},
        {"residual": True, "block": "two_layer", "batch_norm": True},
        {"residual": True, "batch_norm": True, "batch_norm_eps": 1.0},
        {"residual": True, "init": "looks_linear"},
        {"batch_norm": True, "batch_norm_beta": -1.0},
    ],
    ids=str,
)
def test_unpredicted_networks_have_a_reason(options: dict[str, Any]) -> None:
    """No number is made up."""
    assert predict(MLP(**options), 128) is None
    assert reason_unpredicted(MLP(**options), 128)


def test_reason_unpredicted_names_other_models() -> None:
    for other in (CNN(layers=(1, 1, 1, 1), num_classes=3), None):
        assert predict(other, 128) is None
        assert reason_unpredicted(other, 128) == "there are closed forms for MLPs only"


def test_batches_below_four_are_not_predicted() -> None:
    """Below four examples batch norm has no prediction; without it the batch does not matter."""
    assert "batches below 4" in reason_unpredicted(MLP(batch_norm=True), 3)
    assert foretold(1).slope == foretold(1000).slope


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init": "he"},
        {"init": "glorot"},
        {"init": "orthogonal"},
        {"init": "looks_linear"},
        {"activation": "Identity", "init": "orthogonal"},
        {"batch_norm": True},
        {"batch_norm": True, "init": "he", "batch_norm_eps": 1.0},
        {"batch_norm": True, "batch_norm_beta": 1.0},
        {"batch_norm": True, "activation": "Identity"},
        {"residual": True},
        {"residual": True, "batch_norm": True},
        {"residual": True, "block": "pre_activation"},
        {"residual": True, "block": "pre_activation", "batch_norm": True, "init": "he"},
        {"residual": True, "block": "pre_activation", "init": "he", "branch_scale": "1/sqrt(L)"},
        {"residual": True, "batch_norm": True, "branch_scale": "1/sqrt(L)"},
        {"residual": True, "block": "shared_twice"},
        {"residual": True, "block": "shared_twice", "batch_norm": True},
        {"residual": True, "skip_init": "rezero"},
        {"residual": True, "skip_init": "rezero", "block": "two_layer"},
        {"residual": True, "skip_init": "fixup", "block": "two_layer", "init": "he"},
    ],
    ids=str,
)
def test_measured_networks_agree_with_predictions(options: dict[str, Any]) -> None:
    """The reduced recipe: 64 wide, 10 deep, 6 initializations; the whole one fills docs/explanation/slopes.md."""
    created = MLP(input_size=196, layers_dim=64, hidden_layers_num=10, **options)
    row = slopes.compare("", created, initializations=6)
    assert row["agree"], row


def test_measured_slopes_equal_computed_ones() -> None:
    """Numbers computed elsewhere by the same recipe, 20 initializations: 64 wide, default init, and 128 wide with batch norm."""
    for options, slope, tolerance in (
        (MLP(layers_dim=64, hidden_layers_num=20), -0.902, 0.02),
        (MLP(layers_dim=128, hidden_layers_num=10, batch_norm=True), 0.194, 0.006),
    ):
        result = slopes.measure(options, initializations=8)
        assert float(np.mean(result.slopes)) == pytest.approx(slope, abs=tolerance)


def test_branch_shares_equal_published_values() -> None:
    """l x ratio of variances, 128 wide: 1.00, 1.00, 0.98, 0.94 at layers 1, 2, 5, 10."""
    shares = slopes.measure(MLP(hidden_layers_num=10, residual=True, batch_norm=True), initializations=6).shares
    result = [shares[layer] for layer in (1, 2, 5, 10)]
    assert result == pytest.approx([1.0, 1.0, 0.98, 0.94], abs=0.035)
