"""Initial values: their distributions, and what they depend on."""

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


def test_default_values_are_those_of_torch() -> None:
    """Uniform on +-1/sqrt(fan_in) for weights and biases: bounds hold and are reached, the variance is 1/(3 fan_in)."""
    values = init_params(MLP(hidden_layers_num=1).build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128), ("output", 128)):
        weight, bias = values[f"{name}.weight"], values[f"{name}.bias"]
        assert 0.98 / sqrt(fan) < float(weight.abs().max()) <= 1 / sqrt(fan)
        assert float(weight.var()) * 3 * fan == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert 0 < float(bias.abs().max()) <= 1 / sqrt(fan)
    reference = torch.nn.Linear(784, 128).weight.detach()
    assert float(values["input.weight"].std()) == pytest.approx(float(reference.std()), rel=0.01)


def test_he_values_have_variance_two_over_fan_in_and_no_bias() -> None:
    """He et al. (2015), eq. 10, with the tails of a normal distribution."""
    values = init_params(MLP(hidden_layers_num=1, init="he").build(MNIST), 0)
    for name, fan in (("input", 784), ("hidden.1", 128)):
        weight = values[f"{name}.weight"] * sqrt(fan / 2)
        assert float(weight.var()) == pytest.approx(1, abs=6 / sqrt(weight.numel()))
        assert float((weight**4).mean()) == pytest.approx(3, abs=0.2)
        assert not values[f"{name}.bias"].any()


@pytest.mark.parametrize(("init", "variance"), [("he_fan_out", 2 / (128 * 9)), ("he", 2 / (64 * 9))])
def test_kernels_follow_the_fan_that_is_named(init: Any, variance: float) -> None:
    """The kernel of 64 to 128 channels tells both fans apart."""
    values = init_params(CNN(init=init).build(CIFAR), 0)
    kernel = values["stage2.1.conv1.weight"]
    assert float(kernel.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("init", ["he_fan_out", "he", "torch", "glorot", "orthogonal"])
def test_the_linear_layer_of_a_cnn_is_torch_default(init: Any) -> None:
    """As the option's description says, whatever fills the kernels."""
    values = init_params(CNN(init=init, num_classes=100).build(CIFAR), 0)
    assert float(values["output.weight"].abs().max()) <= 1 / sqrt(512)
    assert float(values["output.weight"].var()) == pytest.approx(1 / (3 * 512), rel=0.03)
    assert values["output.bias"].any()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MLP(layers_dim=16, batch_norm=True), MLP(layers_dim=16, batch_norm=True, residual=True)),
        (MLP(layers_dim=16), MLP(layers_dim=16, dropout=0.5, hidden_layers_num=4, activation="Tanh")),
        (MLP(layers_dim=16, residual=True), MLP(layers_dim=16, residual=True, block="two_layer")),
        (MLP(layers_dim=16), MLP(layers_dim=16, residual=True, skip_init="rezero")),
        (CNN(width=4), CNN(width=4, shortcut="pad", skip_init="rezero")),
        (CNN(width=4), CNN(width=4, residual=False)),
        (CNN(width=4), CNN(width=4, stem="plain", layers=(1, 2, 3, 1))),
    ],
)
def test_conditions_of_one_seed_share_their_values(one: MLP | CNN, other: MLP | CNN) -> None:
    """What both nets have is equal bit for bit; another seed shares nothing that is drawn."""
    shape = MNIST if isinstance(one, MLP) else CIFAR
    values, others = (init_params(options.build(shape), 7) for options in (one, other))
    shared = values.keys() & others.keys()
    fewer = min(values, others, key=len)
    assert {name for name in fewer if "scale" not in name} == {name for name in shared if "scale" not in name}
    assert all(torch.equal(values[name], others[name]) for name in shared)
    again = init_params(one.build(shape), 8)
    drawn = [name for name in values if "norm" not in name and "scale" not in name]
    assert not any(torch.equal(values[name], again[name]) for name in drawn)


def test_no_two_tensors_are_drawn_alike() -> None:
    """Layers of one shape start from different numbers."""
    values = init_params(MLP(layers_dim=16, hidden_layers_num=12).build(MNIST), 0)
    hidden = np.stack([values[f"hidden.{place}.weight"].flatten().numpy() for place in range(1, 13)])
    correlation = np.corrcoef(hidden) - np.eye(12)
    assert abs(correlation).max() < 5 / 16


def test_values_are_pinned() -> None:
    """A change of the streams changes every result, and must be seen."""
    values = init_params(MLP(layers_dim=16).build(MNIST), 42)
    assert values["input.weight"].dtype == torch.float64
    found = [float(values[name].flatten()[0]) for name in ("input.weight", "hidden.2.bias", "output.weight")]
    assert found == pytest.approx([-0.034616146988942324, 0.11924027522685193, -0.04835815007747818], rel=1e-14)


def outputs(options: MLP, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits (n, classes) and the output of every layer for images (n, inputs), float64, seed 0."""
    architecture = options.build((1, 1, options.input_size))
    values = {name: value[None] for name, value in init_params(architecture, 0).items()}
    taps: list[torch.Tensor] = []
    network = PackedNetwork([architecture])
    logits = network(
        values, network.buffers(torch.float64, "cpu"), images.view(1, -1, *architecture.shape), "probe", None, taps
    )
    return logits[0], [tap[0] for tap in taps]


def pictures(count: int = 6, inputs: int = 24) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_glorot_values_are_uniform_with_both_fans() -> None:
    """Bound sqrt(6/(fan_in + fan_out)), reached; kernels count their field in both fans; biases are 0."""
    values = init_params(MLP(init="glorot", hidden_layers_num=1).build(MNIST), 0)
    bound = sqrt(6 / (784 + 128))
    assert 0.98 * bound < float(values["input.weight"].abs().max()) <= bound
    assert not values["input.bias"].any()
    kernel = init_params(CNN(init="glorot").build(CIFAR), 0)["stage2.1.conv1.weight"]
    assert float(kernel.var()) == pytest.approx(2 / (9 * (64 + 128)), rel=0.03)


@pytest.mark.parametrize(("activation", "gain"), [("ReLU", 2.0), ("Tanh", 1.0)])
def test_orthogonal_values_are_isometries(activation: str, gain: float) -> None:
    """W^T W is the gain squared times 1 where the layer does not narrow, W W^T where it does; all W are different."""
    shape = (1, 3, 4)
    values = init_params(MLP(input_size=12, layers_dim=20, init="orthogonal", activation=activation).build(shape), 0)
    for name in ("input", "hidden.1", "hidden.2"):
        weight = values[f"{name}.weight"]
        torch.testing.assert_close(weight.T @ weight, gain * torch.eye(weight.shape[1], dtype=torch.float64))
    last = values["output.weight"]
    torch.testing.assert_close(last @ last.T, gain * torch.eye(10, dtype=torch.float64))
    assert not torch.allclose(values["hidden.1.weight"], values["hidden.2.weight"])
    assert not values["hidden.1.bias"].any()


def test_orthogonal_values_have_no_preferred_direction() -> None:
    """Signs of the first column are even: without those of R, QR would give one sign (Mezzadri, 2007)."""
    options = MLP(input_size=4, layers_dim=4, hidden_layers_num=200, init="orthogonal")
    values = init_params(options.build((1, 2, 2)), 0)
    corners = torch.stack([values[f"hidden.{place}.weight"][0, 0] for place in range(1, 201)])
    assert 70 < int((corners > 0).sum()) < 130
    assert float(corners.square().mean()) == pytest.approx(2 / 4, abs=0.12)


def test_delta_orthogonal_kernels_keep_norms() -> None:
    """A convolution of stride 1 that does not narrow scales every pixel's norm by sqrt(2) (Xiao et al., 2018)."""
    values = init_params(CNN(init="orthogonal", layers=(1, 2, 1, 1), block_type="bottleneck", width=8).build(CIFAR), 0)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    made = torch.nn.functional.conv2d(x, values["stage1.1.conv2.weight"], padding=1)
    torch.testing.assert_close(made.norm(dim=1), sqrt(2) * x.norm(dim=1))
    wider = torch.nn.functional.conv2d(x, values["stage1.1.conv3.weight"])
    torch.testing.assert_close(wider.norm(dim=1), sqrt(2) * x.norm(dim=1))
    narrow = values["stage2.2.conv1.weight"][:, :, 0, 0]
    assert narrow.shape == (16, 64)
    torch.testing.assert_close(narrow @ narrow.T, 2 * torch.eye(16, dtype=torch.float64))


def test_dirac_kernels_pass_channels_on() -> None:
    """The first filters are identities, as torch's own; those beyond the inputs are drawn."""
    values = init_params(CNN(init="dirac", residual=False, width=8).build(CIFAR), 0)
    square = values["stage1.1.conv1.weight"]
    assert torch.equal(square, torch.nn.init.dirac_(torch.empty_like(square)))
    wider = values["stage2.1.conv1.weight"]
    assert torch.equal(wider[:8], torch.nn.init.dirac_(torch.empty_like(wider))[:8])
    assert float(wider[8:].var()) == pytest.approx(2 / (16 * 9), rel=0.2)
    assert torch.equal(values["stem.weight"][:3], torch.nn.init.dirac_(torch.empty(8, 3, 3, 3).double())[:3])


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden_layers_num": 0}, {"residual": True}, {"residual": True, "block": "pre_activation"}],
    ids=str,
)
def test_a_looks_linear_net_is_linear_at_the_start(changes: dict[str, Any]) -> None:
    """f(a x + b y) = a f(x) + b f(y), where He's net is far from it; plain hidden layers keep norms."""
    options: dict[str, Any] = {"input_size": 24, "layers_dim": 12, "hidden_layers_num": 9} | changes
    x, y = pictures().chunk(2)
    for init, linear in (("looks_linear", True), ("he", False)):
        made, taps = outputs(MLP(**options, init=init), torch.cat([x, y, 2 * x - 3 * y]))
        one, other, both = made.chunk(3)
        error = float((both - 2 * one + 3 * other).abs().max() / both.abs().max())
        assert (error < 1e-12) is linear or (changes.get("hidden_layers_num") == 0 and not linear and error > 1e-3)
        if linear and not options.get("residual"):
            torch.testing.assert_close(taps[-1].norm(dim=1), taps[0].norm(dim=1))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("block", ["one_layer", "two_layer", "pre_activation"])
def test_branches_that_start_at_zero_leave_the_skips(block: Any, batch_norm: bool) -> None:
    """With rezero and fixup the last layer's output is the first's; without them it is not."""
    options: dict[str, Any] = {"input_size": 24, "layers_dim": 12, "hidden_layers_num": 6, "residual": True}
    options |= {"block": block, "batch_norm": batch_norm}
    starts: list[Any] = ["rezero", "none"] + (["fixup"] if block == "two_layer" and not batch_norm else [])
    for skip_init in starts:
        made, taps = outputs(MLP(**options, skip_init=skip_init), pictures())
        assert torch.equal(taps[0], taps[-1]) is (skip_init != "none")
        assert made.std() > 0


def test_fixup_scales_as_the_paper_says() -> None:
    """Three branches of two layers: first layers x 3^(-1/2), last layers 0, biases 0, multipliers 1; the rest as drawn."""
    plain = init_params(MLP(hidden_layers_num=6, init="he", layers_dim=16).build(MNIST), 5)
    fixup = MLP(hidden_layers_num=6, init="he", layers_dim=16, residual=True, block="two_layer", skip_init="fixup")
    values = init_params(fixup.build(MNIST), 5)
    for first, last in ((1, 2), (3, 4), (5, 6)):
        weight = values[f"hidden.{first}.weight"]
        torch.testing.assert_close(weight, plain[f"hidden.{first}.weight"] / sqrt(3))
        assert not values[f"hidden.{last}.weight"].any()
        assert not any(values[f"hidden.{place}.bias"].any() for place in (first, last))
        assert values[f"hidden.{last}.scale.weight"].tolist() == [1.0]
    assert all(torch.equal(values[name], plain[name]) for name in ("input.weight", "output.weight"))


def test_a_rezero_cnn_starts_as_its_shortcuts() -> None:
    """Identity blocks pass on what they get, relu or not."""
    for late in (False, True):
        options = CNN(width=3, layers=(2, 1, 1, 1), num_classes=4, skip_init="rezero", pre_activation=late)
        architecture = options.build((3, 16, 16))
        network = PackedNetwork([architecture])
        values = {name: value[None] for name, value in init_params(architecture, 0).items()}
        taps: list[torch.Tensor] = []
        images = torch.randn(1, 6, 3, 16, 16, dtype=torch.float64)
        network(values, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
        assert torch.equal(taps[1], taps[2])
        assert torch.equal(taps[1], torch.nn.functional.max_pool2d(taps[0], 3, 2, 1))


def test_beta_starts_where_it_is_put() -> None:
    """Every normalization of the net, and nothing else."""
    values = init_params(MLP(batch_norm=True, batch_norm_beta=1.5).build(MNIST), 0)
    assert {float(value.mean()) for name, value in values.items() if name.endswith("norm.bias")} == {1.5}
    assert {float(value.mean()) for name, value in values.items() if name.endswith("norm.weight")} == {1.0}
