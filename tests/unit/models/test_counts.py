"""Parameters, depths and the order of layers, pinned to known numbers."""

from typing import Any

import pytest

from fathomlab.base.packing import signature
from fathomlab.engine.initializers import init_params
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def mlp(**options: Any) -> Architecture:
    """An MLP for MNIST."""
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
def test_parameters_of_an_mlp(width: int, batch_norm: bool, depth: int, expected: int) -> None:
    """784n + n + L(n^2 + n) + 10n + 10, plus 2n(L + 1) with batch normalization; residual adds none."""
    for residual in (False, True):
        made = mlp(layers_dim=width, hidden_layers_num=depth, batch_norm=batch_norm, residual=residual)
        assert made.numel == expected
        assert len(made.weight_layers) == depth + 2
    assert MLP(hidden_layers_num=depth).depth == depth


@pytest.mark.parametrize(
    ("layers", "depth", "residual", "plain"),
    [
        ((1, 1, 1, 1), 8, 4_903_242, 4_729_418),
        ((2, 2, 2, 2), 16, 11_173_962, 11_000_138),
        ((3, 4, 6, 3), 32, 21_282_122, 21_108_298),
        ((5, 6, 8, 5), 48, 33_823_562, 33_649_738),
    ],
)
def test_parameters_of_a_cnn(layers: tuple[int, ...], depth: int, residual: int, plain: int) -> None:
    """Both settings of `residual` differ in three 1x1 convolutions and their normalization: 173,824 numbers."""
    assert CNN(layers=layers).build(CIFAR).numel == residual
    assert CNN(layers=layers, residual=False).build(CIFAR).numel == plain
    assert residual - plain == 173_824
    assert CNN(layers=layers).depth == depth
    assert len(CNN(layers=layers, residual=False).build(CIFAR).weight_layers) == depth + 2
    assert len(CNN(layers=layers).build(CIFAR).weight_layers) == depth + 2 + 3
    for stem in ("pool", "plain"):
        assert CNN(layers=layers, stem=stem, zero_init_residual=True).build(CIFAR).numel == residual


def test_the_smaller_net_is_78_per_cent_smaller() -> None:
    """The reduction that experiment 2.2 is about."""
    small, large = CNN(residual=False).build(CIFAR).numel, CNN(layers=(3, 4, 6, 3)).build(CIFAR).numel
    assert round(100 * (1 - small / large), 1) == 77.8


def test_bottlenecks_have_the_counts_of_the_reference_network() -> None:
    """ResNet-50 of 1000 classes has 25,557,032 parameters with a 7x7 stem of 9,408; ours has a 3x3 stem of 1,728."""
    made = CNN(block_type="bottleneck", layers=(3, 4, 6, 3), num_classes=1000)
    assert made.build((3, 224, 224)).numel == 25_557_032 - 9_408 + 1_728
    assert made.depth == 48


def test_layers_stand_in_the_order_of_the_data() -> None:
    """hidden.10 follows hidden.9, not hidden.1."""
    made = mlp(hidden_layers_num=12, batch_norm=True)
    expected = ("input", *(f"hidden.{place}" for place in range(1, 13)))
    assert made.taps == expected
    assert made.weight_layers == (*expected, "output")
    kinds = [parameter.name for parameter in made.parameters() if parameter.kind == "weight"]
    assert kinds == [f"{name}.weight" for name in made.weight_layers]
    assert list(init_params(made, 1)) == [parameter.name for parameter in made.parameters()]


def test_blocks_of_a_cnn_stand_in_the_order_of_the_data() -> None:
    """Stem, then every block; a shortcut's convolution after its branch."""
    made = CNN(layers=(1, 2, 1, 1), width=2).build(CIFAR)
    assert made.taps == ("stem", "stage1.1", "stage2.1", "stage2.2", "stage3.1", "stage4.1")
    assert made.weight_layers[:7] == (
        "stem",
        "stage1.1.conv1",
        "stage1.1.conv2",
        "stage2.1.conv1",
        "stage2.1.conv2",
        "stage2.1.shortcut",
        "stage2.2.conv1",
    )


def test_kinds_keep_weights_apart_from_normalization() -> None:
    """Each learned tensor is a weight, a bias, a gamma or a beta."""
    made = mlp(hidden_layers_num=1, batch_norm=True)
    assert [(parameter.name, parameter.kind) for parameter in made.parameters()][:4] == [
        ("input.weight", "weight"),
        ("input.bias", "bias"),
        ("input.norm.weight", "gamma"),
        ("input.norm.bias", "beta"),
    ]


def test_the_last_scale_of_each_block_starts_at_zero_where_asked() -> None:
    """`zero_init_residual` does what it says, and nothing to a net without shortcuts."""
    for block, last in (("basic", "norm2"), ("bottleneck", "norm3")):
        for residual in (True, False):
            made = CNN(block_type=block, width=2, zero_init_residual=True, residual=residual)  # type: ignore[arg-type]
            values = init_params(made.canonical().build(CIFAR), 0)
            zero = {
                name
                for name, value in values.items()
                if name.endswith("norm" + last[-1] + ".weight") and not value.any()
            }
            expected = {f"stage{stage}.1.{last}.weight" for stage in range(1, 5)} if residual else set()
            assert zero == expected
    ignored = CNN(residual=False, zero_init_residual=True)
    assert ignored.canonical() == CNN(residual=False)
    assert ignored.build(CIFAR) == CNN(residual=False).build(CIFAR)


def test_stages_have_the_known_sizes() -> None:
    """16 x 16 after the pool, 2 x 2 in the last stage; without the pool twice that, at nearly four times the cost."""
    sizes = {}
    for stem in ("pool", "plain"):
        made = CNN(stem=stem).build(CIFAR)  # type: ignore[arg-type]
        shape, found = CIFAR, []
        for layer in made.layers:
            shape = layer.shape(shape)  # type: ignore[assignment]
            if type(layer).__name__ in ("Residual", "Shortcut"):
                found.append(shape)
        sizes[stem] = found
    assert sizes["pool"] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert sizes["plain"] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert 3.8 < CNN(stem="plain").build(CIFAR).macs / CNN().build(CIFAR).macs < 4


def test_products_of_the_seed_nets() -> None:
    """Multiply-accumulates by hand: sum of inputs times outputs."""
    assert mlp(layers_dim=32, hidden_layers_num=10).macs == 784 * 32 + 10 * 32 * 32 + 32 * 10


@pytest.mark.parametrize("batch_norm", [False, True])
def test_blocks_of_an_mlp_have_the_same_parameters(batch_norm: bool) -> None:
    """Depth means linear layers, whatever the block; rezero and fixup add one number a branch."""
    options: dict[str, Any] = {"hidden_layers_num": 10, "residual": True, "batch_norm": batch_norm}
    numel = mlp(**options).numel
    for block, branches in (("one_layer", 10), ("two_layer", 5), ("pre_activation", 10)):
        made = mlp(**options, block=block)
        assert made.numel == numel
        assert len(made.weight_layers) == 12
        assert len(made.taps) == 1 + branches
        assert mlp(**options, block=block, skip_init="rezero").numel == numel + branches
    if not batch_norm:
        assert mlp(**options, block="two_layer", skip_init="fixup").numel == numel + 5


def test_padded_shortcuts_have_no_parameters() -> None:
    """Option A: the residual net has the plain net's count."""
    plain = CNN(layers=(2, 2, 2, 2), residual=False).build(CIFAR).numel
    assert CNN(layers=(2, 2, 2, 2), shortcut="pad").build(CIFAR).numel == plain == 11_000_138
    assert CNN(layers=(2, 2, 2, 2), skip_init="rezero").build(CIFAR).numel == 11_173_962 + 8


def test_pre_activation_moves_norms() -> None:
    """Of the norms those of the three shortcuts are missing: 2 x (128 + 256 + 512) numbers."""
    for layers, post in (((1, 1, 1, 1), 4_903_242), ((3, 4, 6, 3), 21_282_122)):
        made = CNN(layers=layers, pre_activation=True).build(CIFAR)
        assert made.numel == post - 2 * (128 + 256 + 512)
        assert made.taps == CNN(layers=layers).build(CIFAR).taps


@pytest.mark.parametrize(
    ("part", "options", "key", "words"),
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
def test_options_that_do_not_go_together_are_told(part: Any, options: dict[str, Any], key: str, words: str) -> None:
    """One complaint each, about the option to change; without that option there is none."""
    (problem,) = part(**options).validate()
    assert (problem.code, problem.path) == ("conflict", key)
    assert words in problem.message
    assert part(**{other: value for other, value in options.items() if other != key}).validate() == []


@pytest.mark.parametrize(
    ("options", "ignored"),
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
def test_what_is_ignored_is_said_and_makes_no_other_trial(options: MLP | CNN, ignored: list[str]) -> None:
    """The normal form is the same network without those options."""
    assert [key for key, _ in options.unused_options()] == ignored
    assert not options.validate()
    assert not options.canonical().unused_options()
    shape = MNIST if isinstance(options, MLP) else CIFAR
    assert options.build(shape) == options.canonical().build(shape)


def test_what_differs_at_the_start_alone_is_one_signature() -> None:
    """Rezero and fixup, betas, eps and initializations can be trained in one pack; another block or a missing scalar cannot."""
    options: dict[str, Any] = {"hidden_layers_num": 4, "residual": True, "block": "two_layer"}
    rezero, fixup = (signature(mlp(**options, skip_init=start)) for start in ("rezero", "fixup"))
    assert rezero == fixup != signature(mlp(**options))
    normed: dict[str, Any] = {"batch_norm": True, "batch_norm_eps": 1.0, "batch_norm_beta": 2.0, "init": "orthogonal"}
    assert signature(mlp(**normed)) == signature(mlp(batch_norm=True))
    assert signature(mlp(residual=True)) != signature(mlp(residual=True, block="pre_activation"))
