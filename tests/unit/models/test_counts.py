"""Parameter counts, depths, and the order of layers, pinned to known numbers."""

from typing import Any

import pytest

from fathomlab.base.options import to_dict
from fathomlab.base.packing import signature
from fathomlab.engine.initializers import init_params
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def mlp(**options: Any) -> Architecture:
    """Build an MLP for MNIST."""
    return MLP(**options).build(MNIST)


@pytest.mark.parametrize(
    ("width", "batch_norm", "depth", "expected"),
    [
        (32, True, 10, 36_714),
        (32, True, 20, 47_914),
        (32, True, 40, 70_314),
        (64, True, 10, 93_898),
        (64, True, 20, 136_778),
        (64, True, 40, 222_538),
        (128, True, 10, 269_706),
        (128, True, 20, 437_386),
        (128, True, 40, 772_746),
        (128, False, 5, 184_330),
        (128, False, 10, 266_890),
        (128, False, 20, 432_010),
        (128, False, 40, 762_250),
    ],
)
def test_mlp_has_known_parameter_count(width: int, batch_norm: bool, depth: int, expected: int) -> None:
    """784n + n + L(n^2 + n) + 10n + 10, plus 2n(L + 1) with batch normalization. `residual` adds none."""
    for residual in (False, True):
        architecture = mlp(layers_dim=width, hidden_layers_num=depth, batch_norm=batch_norm, residual=residual)
        assert architecture.num_params == expected
        assert len(architecture.weight_layers) == depth + 2
    assert MLP(hidden_layers_num=depth).depth == depth


def test_networks_of_experiment_2_2_have_known_operations() -> None:
    """Each stage has the same products per kernel of 3 x 3; its first kernel after stage 1 has half of them."""
    stem, full, output = 3 * 64 * 9 * 32**2, 64 * 64 * 9 * 16**2, 512 * 10
    first, shortcut = full // 2, 64 * 128 * 8**2
    teacher = stem + 6 * full + 3 * (first + shortcut) + (7 + 11 + 5) * full + output
    student = stem + 2 * full + 3 * (first + full) + output
    assert (CNN(layers=(3, 4, 6, 3)).build(CIFAR).macs, CNN(residual=False).build(CIFAR).macs) == (teacher, student)
    assert (teacher, student) == (291_181_568, 63_116_288)


@pytest.mark.parametrize(
    ("layers", "depth", "residual", "plain"),
    [
        ((1, 1, 1, 1), 8, 4_903_242, 4_729_418),
        ((2, 2, 2, 2), 16, 11_173_962, 11_000_138),
        ((3, 4, 6, 3), 32, 21_282_122, 21_108_298),
        ((5, 6, 8, 5), 48, 33_823_562, 33_649_738),
    ],
)
def test_cnn_has_known_parameter_count(layers: tuple[int, ...], depth: int, residual: int, plain: int) -> None:
    """`residual` adds three 1x1 convolutions and their normalization: 173,824 parameters."""
    assert CNN(layers=layers).build(CIFAR).num_params == residual
    assert CNN(layers=layers, residual=False).build(CIFAR).num_params == plain
    assert residual - plain == 173_824
    assert CNN(layers=layers).depth == depth
    assert len(CNN(layers=layers, residual=False).build(CIFAR).weight_layers) == depth + 2
    assert len(CNN(layers=layers).build(CIFAR).weight_layers) == depth + 2 + 3
    for stem in ("pool", "plain"):
        assert CNN(layers=layers, stem=stem, zero_init_residual=True).build(CIFAR).num_params == residual


def test_small_cnn_is_78_percent_smaller() -> None:
    """The reduction in experiment 2.2."""
    small, large = CNN(residual=False).build(CIFAR).num_params, CNN(layers=(3, 4, 6, 3)).build(CIFAR).num_params
    assert round(100 * (1 - small / large), 1) == 77.8


def test_bottleneck_count_equals_resnet50() -> None:
    """ResNet-50 has 25,557,032 parameters with a 7x7 stem of 9,408. Our 3x3 stem has 1,728."""
    model = CNN(block_type="bottleneck", layers=(3, 4, 6, 3), num_classes=1000)
    assert model.build((3, 224, 224)).num_params == 25_557_032 - 9_408 + 1_728
    assert model.depth == 48


def test_mlp_layers_are_in_forward_order() -> None:
    """hidden.10 follows hidden.9, not hidden.1."""
    architecture = mlp(hidden_layers_num=12, batch_norm=True)
    expected = ("input", *(f"hidden.{index}" for index in range(1, 13)))
    assert architecture.taps == expected
    assert architecture.weight_layers == (*expected, "output")
    weight_names = [parameter.name for parameter in architecture.parameters() if parameter.role == "weight"]
    assert weight_names == [f"{name}.weight" for name in architecture.weight_layers]
    assert list(init_params(architecture, 1)) == [parameter.name for parameter in architecture.parameters()]


def test_cnn_blocks_are_in_forward_order() -> None:
    """The stem, then every block. The convolution of a shortcut follows its branch."""
    architecture = CNN(layers=(1, 2, 1, 1), width=2).build(CIFAR)
    assert architecture.taps == ("stem", "stage1.1", "stage2.1", "stage2.2", "stage3.1", "stage4.1")
    assert architecture.weight_layers[:7] == (
        "stem",
        "stage1.1.conv1",
        "stage1.1.conv2",
        "stage2.1.conv1",
        "stage2.1.conv2",
        "stage2.1.shortcut",
        "stage2.2.conv1",
    )


def test_parameters_have_roles() -> None:
    architecture = mlp(hidden_layers_num=1, batch_norm=True)
    assert [(parameter.name, parameter.role) for parameter in architecture.parameters()][:4] == [
        ("input.weight", "weight"),
        ("input.bias", "bias"),
        ("input.norm.weight", "gamma"),
        ("input.norm.bias", "beta"),
    ]


def test_zero_init_residual_zeroes_last_scales() -> None:
    """Without shortcuts it has no effect."""
    for block, last in (("basic", "norm2"), ("bottleneck", "norm3")):
        for residual in (True, False):
            model = CNN(block_type=block, width=2, zero_init_residual=True, residual=residual)  # type: ignore[arg-type]
            values = init_params(model.canonical().build(CIFAR), 0)
            zero = {
                name
                for name, value in values.items()
                if name.endswith("norm" + last[-1] + ".weight") and not value.any()
            }
            expected = {f"stage{stage}.1.{last}.weight" for stage in range(1, 5)} if residual else set()
            assert zero == expected
    unused = CNN(residual=False, zero_init_residual=True)
    assert unused.canonical() == CNN(residual=False)
    assert unused.build(CIFAR) == CNN(residual=False).build(CIFAR)


def test_cnn_stages_have_known_shapes() -> None:
    """16 x 16 after the pool, 2 x 2 in the last stage. Without the pool, twice that at almost four times the cost."""
    sizes = {}
    for stem in ("pool", "plain"):
        architecture = CNN(stem=stem).build(CIFAR)  # type: ignore[arg-type]
        shape, shapes = CIFAR, []
        for layer in architecture.layers:
            shape = layer.shape(shape)  # type: ignore[assignment]
            if type(layer).__name__ in ("Residual", "Shortcut"):
                shapes.append(shape)
        sizes[stem] = shapes
    assert sizes["pool"] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert sizes["plain"] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert 3.8 < CNN(stem="plain").build(CIFAR).macs / CNN().build(CIFAR).macs < 4


@pytest.mark.parametrize(("blocks", "num_params"), [(3, 269_722), (9, 853_018), (18, 1_727_962)])
def test_networks_of_he_et_al_have_their_published_sizes(blocks: int, num_params: int) -> None:
    """ResNet-20, -56, and -110 for CIFAR-10 (He et al., 2015, table 6: 0.27, 0.85, and 1.7 million)."""
    model = CNN(layers=(blocks,) * 3, width=16, stem="plain", shortcut="pad")
    assert model.build(CIFAR).num_params == num_params
    assert model.depth + 2 == 6 * blocks + 2
    plain = CNN(layers=(blocks,) * 3, width=16, stem="plain", residual=False)
    assert plain.build(CIFAR).num_params == num_params
    assert plain.build(CIFAR).macs == model.build(CIFAR).macs


def test_mlp_macs_equal_sum_of_products() -> None:
    assert mlp(layers_dim=32, hidden_layers_num=10).macs == 784 * 32 + 10 * 32 * 32 + 32 * 10


@pytest.mark.parametrize("batch_norm", [False, True])
def test_mlp_blocks_have_equal_parameter_counts(batch_norm: bool) -> None:
    """Depth is the number of linear layers for every block. rezero and fixup add one parameter per branch."""
    options: dict[str, Any] = {"hidden_layers_num": 10, "residual": True, "batch_norm": batch_norm}
    num_params = mlp(**options).num_params
    for block, branches in (("one_layer", 10), ("two_layer", 5), ("pre_activation", 10), ("shared_twice", 10)):
        architecture = mlp(**options, block=block)
        assert architecture.num_params == num_params
        assert len(architecture.weight_layers) == 12
        assert len(architecture.taps) == 1 + branches
        assert mlp(**options, block=block, skip_init="rezero").num_params == num_params + branches
    if not batch_norm:
        assert mlp(**options, block="two_layer", skip_init="fixup").num_params == num_params + 5


@pytest.mark.parametrize(("residual", "applications"), [(True, 2), (False, 1)])
def test_shared_layers_cost_twice_with_one_set_of_weights(residual: bool, applications: int) -> None:
    """Weights count once. Without shortcuts each layer is applied once, as in the lab's published code."""
    once = mlp(layers_dim=32, hidden_layers_num=10, batch_norm=True, residual=residual)
    shared = mlp(layers_dim=32, hidden_layers_num=10, batch_norm=True, residual=residual, block="shared_twice")
    assert shared.macs == 784 * 32 + applications * 10 * 32 * 32 + 32 * 10
    assert shared.parameters() == once.parameters()
    assert shared.num_params == once.num_params == 36_714
    kept = 2 * 10 * 32  # per layer: the inputs of the norm and of the next linear layer
    assert shared.activations - once.activations == (applications - 1) * kept
    assert (shared == once) is not residual


def test_branch_scale_is_a_power_of_the_depth() -> None:
    """Unused without shortcuts; its default is not part of a trial's content."""
    factors = {scale: MLP(hidden_layers_num=16, branch_scale=scale).branch_factor for scale in ("none", "1/L")}
    factors["1/sqrt(L)"] = MLP(hidden_layers_num=16, branch_scale="1/sqrt(L)").branch_factor
    assert factors == {"none": 1, "1/L": 1 / 16, "1/sqrt(L)": 1 / 4}
    assert MLP(branch_scale="1/L").canonical() == MLP()
    assert "branch_scale" not in to_dict(MLP(residual=True))
    assert to_dict(MLP(residual=True, branch_scale="1/L"))["branch_scale"] == "1/L"
    assert mlp(residual=True, branch_scale="1/L").num_params == mlp(residual=True).num_params


def test_padded_shortcuts_have_no_parameters() -> None:
    plain = CNN(layers=(2, 2, 2, 2), residual=False).build(CIFAR).num_params
    assert CNN(layers=(2, 2, 2, 2), shortcut="pad").build(CIFAR).num_params == plain == 11_000_138
    assert CNN(layers=(2, 2, 2, 2), skip_init="rezero").build(CIFAR).num_params == 11_173_962 + 8


def test_pre_activation_has_no_shortcut_norms() -> None:
    """Three norms are missing: 2 x (128 + 256 + 512) parameters."""
    for layers, post_activation in (((1, 1, 1, 1), 4_903_242), ((3, 4, 6, 3), 21_282_122)):
        architecture = CNN(layers=layers, pre_activation=True).build(CIFAR)
        assert architecture.num_params == post_activation - 2 * (128 + 256 + 512)
        assert architecture.taps == CNN(layers=layers).build(CIFAR).taps


@pytest.mark.parametrize(
    ("model", "options", "key", "text"),
    [
        (MLP, {"residual": True, "block": "two_layer", "hidden_layers_num": 5}, "hidden_layers_num", "must be even"),
        (MLP, {"residual": True, "skip_init": "fixup"}, "skip_init", "requires block: two_layer"),
        (
            MLP,
            {"residual": True, "skip_init": "fixup", "block": "two_layer", "batch_norm": True},
            "skip_init",
            "batch_norm: false",
        ),
        (MLP, {"init": "looks_linear", "activation": "Tanh"}, "init", "requires activation: ReLU, got Tanh"),
        (MLP, {"init": "looks_linear", "batch_norm": True}, "init", "requires batch_norm: false"),
        (MLP, {"init": "looks_linear", "layers_dim": 7}, "init", "requires an even layers_dim, got 7"),
        (MLP, {"init": "looks_linear", "residual": True, "block": "two_layer"}, "init", "requires a block other"),
        (CNN, {"init": "dirac"}, "init", "requires residual: false"),
        (
            CNN,
            {"zero_init_residual": True, "pre_activation": True},
            "zero_init_residual",
            "requires pre_activation: false",
        ),
        (CNN, {"zero_init_residual": True, "skip_init": "rezero"}, "zero_init_residual", "skip_init: rezero"),
    ],
)
def test_validate_returns_conflicts(model: Any, options: dict[str, Any], key: str, text: str) -> None:
    """One issue each, with the key to change. Without that option there is none."""
    (issue,) = model(**options).validate()
    assert (issue.code, issue.path) == ("conflict", key)
    assert text in issue.message
    assert model(**{name: value for name, value in options.items() if name != key}).validate() == []


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        (MLP(block="two_layer", skip_init="fixup", hidden_layers_num=3), ["block", "skip_init"]),
        (MLP(batch_norm_eps=1.0, batch_norm_beta=2.0), ["batch_norm_eps", "batch_norm_beta"]),
        (MLP(batch_norm=True, batch_norm_eps=1.0, residual=True, block="pre_activation"), []),
        (
            CNN(residual=False, pre_activation=True, shortcut="pad", skip_init="rezero"),
            ["pre_activation", "shortcut", "skip_init"],
        ),
        (CNN(pre_activation=True, shortcut="pad", skip_init="rezero", batch_norm_eps=1.0), []),
    ],
)
def test_unused_options_do_not_change_the_network(options: MLP | CNN, unused: list[str]) -> None:
    assert [key for key, _ in options.unused_options()] == unused
    assert not options.validate()
    assert not options.canonical().unused_options()
    shape = MNIST if isinstance(options, MLP) else CIFAR
    assert options.build(shape) == options.canonical().build(shape)


def test_signature_ignores_initial_values() -> None:
    """rezero and fixup, betas, eps, and initializations can share a pack. Another block or a missing scalar cannot."""
    options: dict[str, Any] = {"hidden_layers_num": 4, "residual": True, "block": "two_layer"}
    rezero, fixup = (signature(mlp(**options, skip_init=start)) for start in ("rezero", "fixup"))
    assert rezero == fixup != signature(mlp(**options))
    normed: dict[str, Any] = {"batch_norm": True, "batch_norm_eps": 1.0, "batch_norm_beta": 2.0, "init": "orthogonal"}
    assert signature(mlp(**normed)) == signature(mlp(batch_norm=True))
    assert signature(mlp(residual=True)) != signature(mlp(residual=True, block="pre_activation"))
