"""Initial values: distributions, and independence of other options."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch

from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def test_torch_init_has_distribution_of_torch() -> None:
    """Uniform on +-1/sqrt(fan_in) for weights and biases, with variance 1/(3 fan_in)."""
    params = init_params(MLP(hidden_layers_num=1).build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128), ("output", 128)):
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        assert 0.98 / sqrt(fan) < float(weight.abs().max()) <= 1 / sqrt(fan)
        assert float(weight.var()) * 3 * fan == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert 0 < float(bias.abs().max()) <= 1 / sqrt(fan)
    reference = torch.nn.Linear(784, 128).weight.detach()
    assert float(params["input.weight"].std()) == pytest.approx(float(reference.std()), rel=0.01)


def test_he_init_has_variance_two_over_fan_in() -> None:
    """He et al. (2015), eq. 10, with normal tails and zero biases."""
    params = init_params(MLP(hidden_layers_num=1, init="he").build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128)):
        weight = params[f"{name}.weight"] * sqrt(fan / 2)
        assert float(weight.var()) == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert float((weight**4).mean()) == pytest.approx(3, abs=0.2)
        assert not params[f"{name}.bias"].any()


@pytest.mark.parametrize(("init", "variance"), [("he_fan_out", 2 / (128 * 9)), ("he", 2 / (64 * 9))])
def test_kernel_init_uses_the_named_fan(init: Any, variance: float) -> None:
    params = init_params(CNN(init=init).build(CIFAR), 0)
    kernel = params["stage2.1.conv1.weight"]
    assert float(kernel.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("init", ["he_fan_out", "he", "torch", "glorot", "orthogonal"])
def test_cnn_output_layer_has_torch_init(init: Any) -> None:
    params = init_params(CNN(init=init, num_classes=100).build(CIFAR), 0)
    assert float(params["output.weight"].abs().max()) <= 1 / sqrt(512)
    assert float(params["output.weight"].var()) == pytest.approx(1 / (3 * 512), rel=0.03)
    assert params["output.bias"].any()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MLP(layers_dim=16, batch_norm=True), MLP(layers_dim=16, batch_norm=True, residual=True)),
        (MLP(layers_dim=16), MLP(layers_dim=16, dropout=0.5, hidden_layers_num=4, activation="Tanh")),
        (MLP(layers_dim=16, residual=True), MLP(layers_dim=16, residual=True, block="two_layer")),
        (
            MLP(layers_dim=16, residual=True),
            MLP(layers_dim=16, residual=True, block="shared_twice", branch_scale="1/L"),
        ),
        (MLP(layers_dim=16), MLP(layers_dim=16, residual=True, skip_init="rezero")),
        (CNN(width=4), CNN(width=4, shortcut="pad", skip_init="rezero")),
        (CNN(width=4), CNN(width=4, residual=False)),
        (CNN(width=4), CNN(width=4, stem="plain", layers=(1, 2, 3, 1))),
    ],
)
def test_conditions_with_one_seed_share_initial_values(first: MLP | CNN, second: MLP | CNN) -> None:
    """Layers of both networks are equal bit for bit. Another seed shares no drawn value."""
    shape = MNIST if isinstance(first, MLP) else CIFAR
    params, second_params = (init_params(options.build(shape), 7) for options in (first, second))
    shared = params.keys() & second_params.keys()
    smaller = min(params, second_params, key=len)
    assert {name for name in smaller if "scale" not in name} == {name for name in shared if "scale" not in name}
    assert all(torch.equal(params[name], second_params[name]) for name in shared)
    other_seed = init_params(first.build(shape), 8)
    drawn = [name for name in params if "norm" not in name and "scale" not in name]
    assert not any(torch.equal(params[name], other_seed[name]) for name in drawn)


def test_layers_of_one_shape_have_independent_values() -> None:
    params = init_params(MLP(layers_dim=16, hidden_layers_num=12).build(MNIST), 0)
    hidden = np.stack([params[f"hidden.{index}.weight"].flatten().numpy() for index in range(1, 13)])
    correlation = np.corrcoef(hidden) - np.eye(12)
    assert abs(correlation).max() < 5 / 16


def test_init_params_equals_pinned_values() -> None:
    params = init_params(MLP(layers_dim=16).build(MNIST), 42)
    assert params["input.weight"].dtype == torch.float64
    first_values = [float(params[name].flatten()[0]) for name in ("input.weight", "hidden.2.bias", "output.weight")]
    assert first_values == pytest.approx([-0.034616146988942324, 0.11924027522685193, -0.04835815007747818], rel=1e-14)


def outputs(options: MLP, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return logits (n, classes) and the output of every layer for images (n, inputs), float64, seed 0."""
    architecture = options.build((1, 1, options.input_size))
    params = {name: value[None] for name, value in init_params(architecture, 0).items()}
    taps: list[torch.Tensor] = []
    network = PackedNetwork([architecture])
    logits = network(
        params, network.buffers(torch.float64, "cpu"), images.view(1, -1, *architecture.shape), "probe", None, taps
    )
    return logits[0], [tap[0] for tap in taps]


def make_images(count: int = 6, inputs: int = 24) -> torch.Tensor:
    """Draw images of standard normal numbers."""
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_glorot_init_is_uniform_with_both_fans() -> None:
    """Bound sqrt(6/(fan_in + fan_out)). Both fans of kernels include the receptive field. Biases are 0."""
    params = init_params(MLP(init="glorot", hidden_layers_num=1).build(MNIST), 0)
    bound = sqrt(6 / (784 + 128))
    assert 0.98 * bound < float(params["input.weight"].abs().max()) <= bound
    assert not params["input.bias"].any()
    kernel = init_params(CNN(init="glorot").build(CIFAR), 0)["stage2.1.conv1.weight"]
    assert float(kernel.var()) == pytest.approx(2 / (9 * (64 + 128)), rel=0.03)


@pytest.mark.parametrize(("activation", "gain"), [("ReLU", 2.0), ("Tanh", 1.0)])
def test_orthogonal_init_has_orthogonal_weights(activation: str, gain: float) -> None:
    """W^T W is gain^2 times 1 if the layer does not narrow, else W W^T."""
    shape = (1, 3, 4)
    params = init_params(MLP(input_size=12, layers_dim=20, init="orthogonal", activation=activation).build(shape), 0)
    for name in ("input", "hidden.1", "hidden.2"):
        weight = params[f"{name}.weight"]
        torch.testing.assert_close(weight.T @ weight, gain * torch.eye(weight.shape[1], dtype=torch.float64))
    last = params["output.weight"]
    torch.testing.assert_close(last @ last.T, gain * torch.eye(10, dtype=torch.float64))
    assert not torch.allclose(params["hidden.1.weight"], params["hidden.2.weight"])
    assert not params["hidden.1.bias"].any()


def test_orthogonal_init_is_uniformly_distributed() -> None:
    """Without the signs of R, QR would give one sign in the first column (Mezzadri, 2007)."""
    options = MLP(input_size=4, layers_dim=4, hidden_layers_num=200, init="orthogonal")
    params = init_params(options.build((1, 2, 2)), 0)
    corners = torch.stack([params[f"hidden.{index}.weight"][0, 0] for index in range(1, 201)])
    assert 70 < int((corners > 0).sum()) < 130
    assert float(corners.square().mean()) == pytest.approx(2 / 4, abs=0.12)


def test_delta_orthogonal_kernels_scale_norms_by_gain() -> None:
    """For convolutions with stride 1 that do not narrow (Xiao et al., 2018)."""
    params = init_params(CNN(init="orthogonal", layers=(1, 2, 1, 1), block_type="bottleneck", width=8).build(CIFAR), 0)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    result = torch.nn.functional.conv2d(x, params["stage1.1.conv2.weight"], padding=1)
    torch.testing.assert_close(result.norm(dim=1), sqrt(2) * x.norm(dim=1))
    wider = torch.nn.functional.conv2d(x, params["stage1.1.conv3.weight"])
    torch.testing.assert_close(wider.norm(dim=1), sqrt(2) * x.norm(dim=1))
    narrow = params["stage2.2.conv1.weight"][:, :, 0, 0]
    assert narrow.shape == (16, 64)
    torch.testing.assert_close(narrow @ narrow.T, 2 * torch.eye(16, dtype=torch.float64))


def test_dirac_kernels_copy_channels() -> None:
    """The first filters are identities, as in torch. Further ones are drawn."""
    params = init_params(CNN(init="dirac", residual=False, width=8).build(CIFAR), 0)
    square = params["stage1.1.conv1.weight"]
    assert torch.equal(square, torch.nn.init.dirac_(torch.empty_like(square)))
    wider = params["stage2.1.conv1.weight"]
    assert torch.equal(wider[:8], torch.nn.init.dirac_(torch.empty_like(wider))[:8])
    assert float(wider[8:].var()) == pytest.approx(2 / (16 * 9), rel=0.2)
    assert torch.equal(params["stem.weight"][:3], torch.nn.init.dirac_(torch.empty(8, 3, 3, 3).double())[:3])


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden_layers_num": 0}, {"residual": True}, {"residual": True, "block": "pre_activation"}],
    ids=str,
)
def test_looks_linear_network_is_initially_linear(changes: dict[str, Any]) -> None:
    """f(a x + b y) = a f(x) + b f(y), which does not hold for He's initialization."""
    options: dict[str, Any] = {"input_size": 24, "layers_dim": 12, "hidden_layers_num": 9} | changes
    x, y = make_images().chunk(2)
    for init, linear in (("looks_linear", True), ("he", False)):
        result, taps = outputs(MLP(**options, init=init), torch.cat([x, y, 2 * x - 3 * y]))
        first, second, both = result.chunk(3)
        error = float((both - 2 * first + 3 * second).abs().max() / both.abs().max())
        assert (error < 1e-12) is linear or (changes.get("hidden_layers_num") == 0 and not linear and error > 1e-3)
        if linear and not options.get("residual"):
            torch.testing.assert_close(taps[-1].norm(dim=1), taps[0].norm(dim=1))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("block", ["one_layer", "two_layer", "pre_activation", "shared_twice"])
def test_zero_initialized_branches_keep_features(block: Any, batch_norm: bool) -> None:
    """With rezero and fixup, the output of the last layer equals that of the first."""
    options: dict[str, Any] = {"input_size": 24, "layers_dim": 12, "hidden_layers_num": 6, "residual": True}
    options |= {"block": block, "batch_norm": batch_norm}
    starts: list[Any] = ["rezero", "none"] + (["fixup"] if block == "two_layer" and not batch_norm else [])
    for skip_init in starts:
        result, taps = outputs(MLP(**options, skip_init=skip_init), make_images())
        assert torch.equal(taps[0], taps[-1]) is (skip_init != "none")
        assert result.std() > 0


def test_fixup_init_scales_as_in_the_paper() -> None:
    """Three branches of two layers: first layers x 3^(-1/2), last layers 0, biases 0, multipliers 1."""
    plain = init_params(MLP(hidden_layers_num=6, init="he", layers_dim=16).build(MNIST), 5)
    fixup = MLP(hidden_layers_num=6, init="he", layers_dim=16, residual=True, block="two_layer", skip_init="fixup")
    params = init_params(fixup.build(MNIST), 5)
    for first, last in ((1, 2), (3, 4), (5, 6)):
        weight = params[f"hidden.{first}.weight"]
        torch.testing.assert_close(weight, plain[f"hidden.{first}.weight"] / sqrt(3))
        assert not params[f"hidden.{last}.weight"].any()
        assert not any(params[f"hidden.{index}.bias"].any() for index in (first, last))
        assert params[f"hidden.{last}.scale.weight"].tolist() == [1.0]
    assert all(torch.equal(params[name], plain[name]) for name in ("input.weight", "output.weight"))


def test_rezero_cnn_is_initially_its_shortcuts() -> None:
    for pre_activation in (False, True):
        options = CNN(width=3, layers=(2, 1, 1, 1), num_classes=4, skip_init="rezero", pre_activation=pre_activation)
        architecture = options.build((3, 16, 16))
        network = PackedNetwork([architecture])
        params = {name: value[None] for name, value in init_params(architecture, 0).items()}
        taps: list[torch.Tensor] = []
        images = torch.randn(1, 6, 3, 16, 16, dtype=torch.float64)
        network(params, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
        assert torch.equal(taps[1], taps[2])
        assert torch.equal(taps[1], torch.nn.functional.max_pool2d(taps[0], 3, 2, 1))


def test_batch_norm_beta_sets_initial_shifts() -> None:
    params = init_params(MLP(batch_norm=True, batch_norm_beta=1.5).build(MNIST), 0)
    assert {float(value.mean()) for name, value in params.items() if name.endswith("norm.bias")} == {1.5}
    assert {float(value.mean()) for name, value in params.items() if name.endswith("norm.weight")} == {1.0}
