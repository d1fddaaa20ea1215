"""The packed network equals reference networks: logits, gradients, and running statistics in float64."""

from dataclasses import fields
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import fathomlab
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.models.mlp import MLP, Activation
from fathomlab.models.resnet import CNN
from tests.helpers import reference_models

TOLERANCE = 1e-10
DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 7, "class_num": 4, "hidden_layers_num": 3}
MLPS = [
    MLP(**DENSE, residual=residual, batch_norm=batch_norm) for residual in (False, True) for batch_norm in (False, True)
]
MLPS += [MLP(**DENSE, activation=name, batch_norm=name != "GELU", residual=True) for name in get_args(Activation)[1:]]
FOUR: dict[str, Any] = DENSE | {"hidden_layers_num": 4, "residual": True}
PLAIN: dict[str, Any] = FOUR | {"residual": False}
WIDE: dict[str, Any] = FOUR | {"layers_dim": 8}
MLPS += [
    MLP(**FOUR, block=block, batch_norm=batch_norm, skip_init=skip_init)
    for block in ("one_layer", "two_layer", "pre_activation", "shared_twice")
    for batch_norm in (False, True)
    for skip_init in ("none", "rezero")
]
MLPS += [
    MLP(**FOUR, block="two_layer", skip_init="fixup"),
    MLP(**FOUR, block="two_layer", branch_scale="1/L"),
    MLP(**FOUR, block="pre_activation", branch_scale="1/sqrt(L)"),
    MLP(**FOUR, block="shared_twice", branch_scale="1/sqrt(L)", skip_init="rezero"),
    MLP(**PLAIN, block="shared_twice", branch_scale="1/L"),
    MLP(**DENSE, batch_norm=True, batch_norm_eps=0.5, batch_norm_beta=1.5),
    MLP(**DENSE, init="glorot"),
    MLP(**DENSE, init="orthogonal"),
    MLP(**WIDE, init="looks_linear", block="pre_activation"),
]
MAPS: dict[str, Any] = {"width": 3, "num_classes": 4}
CNNS = [
    CNN(**MAPS, layers=(1, 2, 1, 1), block_type=block, residual=residual)
    for block in ("basic", "bottleneck")
    for residual in (False, True)
]
CNNS += [CNN(**MAPS, stem="plain"), CNN(**MAPS, zero_init_residual=True), CNN(**MAPS, layers=(2, 1, 1, 1), init="he")]

CNNS += [
    CNN(
        **MAPS,
        layers=(1, 2, 1, 1),
        block_type=block,
        pre_activation=pre_activation,
        shortcut=shortcut,
        skip_init=skip_init,
    )
    for block in ("basic", "bottleneck")
    for pre_activation, shortcut, skip_init in (
        (True, "conv", "none"),
        (True, "pad", "rezero"),
        (False, "pad", "none"),
        (False, "conv", "rezero"),
    )
]
CNNS += [
    CNN(**MAPS, batch_norm_eps=0.5),
    CNN(**MAPS, residual=False, init="dirac"),
    CNN(**MAPS, init="glorot", block_type="bottleneck"),
    CNN(**MAPS, init="orthogonal", block_type="bottleneck"),
]


def name_of(options: MLP | CNN) -> str:
    """Name the options that differ from their defaults."""
    changed = [getattr(options, field.name) for field in fields(options)[2:]]
    defaults = [getattr(type(options), field.name) for field in fields(options)[2:]]
    names = [field.name for field in fields(options)[2:]]
    different = [
        f"{name}={value}" for name, value, default in zip(names, changed, defaults, strict=True) if value != default
    ]
    return "-".join([type(options).__name__, str(getattr(options, "block_type", "")), *different])


def pack(options: MLP | CNN, replicas: int) -> tuple[PackedNetwork, dict[str, Tensor], dict[str, Tensor]]:
    """Create a network with noise added to its initial values, so that no gamma is 1 and no bias is 0."""
    architecture = options.build((1, 3, 4) if isinstance(options, MLP) else (3, 16, 16))
    network = PackedNetwork([architecture] * replicas)
    initial = [init_params(architecture, seed) for seed in range(replicas)]
    generator = torch.Generator().manual_seed(5)
    params = {}
    for name in initial[0]:
        tensor = torch.stack([replica_params[name] for replica_params in initial])
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        params[name] = (tensor + 0.1 * noise).requires_grad_()
    return network, params, network.buffers(torch.float64, "cpu")


def difference(actual: Tensor, expected: Tensor) -> float:
    """Return the maximum difference, relative to the maximum or 1."""
    return float((actual - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1))


@pytest.mark.parametrize(
    ("options", "replicas"),
    [*((options, 2) for options in MLPS + CNNS), (MLPS[3], 1), (CNNS[1], 1)],
    ids=lambda value: value if isinstance(value, int) else name_of(value),
)
def test_packed_network_equals_reference_networks(options: MLP | CNN, replicas: int) -> None:
    """Three training steps and an evaluation."""
    network, params, buffers = pack(options, replicas)
    shape = network.architecture.shape
    batches = torch.randn(4, replicas, 6, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    logit_weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    references = [reference_models.reference_model(options, params, replica) for replica in range(replicas)]
    for batch in batches[:3]:
        logits = network(params, buffers, batch, "train")
        gradients = torch.autograd.grad((logits * logit_weights).sum(), list(params.values()))
        for replica, reference in enumerate(references):
            reference.zero_grad()
            expected = reference(batch[replica])
            (expected * logit_weights).sum().backward()
            assert difference(logits[replica], expected) < TOLERANCE
            reference_tensors = reference_models.tensors(reference)
            assert [name for name in reference_tensors if "running" not in name] == list(params)
            for name, gradient in zip(params, gradients, strict=True):
                assert difference(gradient[replica], reference_tensors[name].grad) < TOLERANCE, name
    saved = {name: buffer.clone() for name, buffer in buffers.items()}
    evaluated = network(params, buffers, batches[3], "eval")
    for replica, reference in enumerate(references):
        reference_tensors = reference_models.tensors(reference)
        assert {name for name in reference_tensors if "running" in name} == set(buffers)
        for name, buffer in buffers.items():
            assert difference(buffer[replica], reference_tensors[name]) < TOLERANCE, name
        assert difference(evaluated[replica], reference.eval()(batches[3, replica])) < TOLERANCE
    assert all(torch.equal(saved[name], buffers[name]) for name in saved)


@pytest.mark.parametrize("options", [MLPS[3], CNNS[1]], ids=name_of)
def test_probe_mode_equals_train_mode_without_side_effects(options: MLP | CNN) -> None:
    network, params, buffers = pack(options, 2)
    images = torch.randn(2, 6, *network.architecture.shape, dtype=torch.float64)
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    measured = network(params, buffers, images, "probe")
    assert all(torch.equal(before[name], buffers[name]) for name in before)
    assert difference(measured, network(params, buffers, images, "train")) < 1e-14
    assert not any(torch.equal(before[name], buffers[name]) for name in before)


@pytest.mark.parametrize("options", [MLPS[0], MLPS[3], CNNS[1], CNNS[5]], ids=name_of)
def test_build_model_equals_reference_network(options: MLP | CNN) -> None:
    """float32, in training and eval mode, with running statistics in the state."""
    params = {field.name: getattr(options, field.name) for field in fields(options)}
    params |= {"layers": list(options.layers)} if isinstance(options, CNN) else {}
    module = fathomlab.build_model({"type": type(options).__name__, "params": params}, seed=3)
    images = torch.randn(6, *((1, 3, 4) if isinstance(options, MLP) else (3, 32, 32)))
    names = [parameter.name for parameter in module.architecture.parameters()]
    assert list(names) == [name for name, _ in module.named_parameters()]
    params = {name: tensor.detach().unsqueeze(0) for name, tensor in module.named_parameters()}
    reference = reference_models.reference_model(options, params)
    for name, value in init_params(module.architecture, 3).items():
        assert torch.equal(module.get_parameter(name).detach(), value.float())
    assert difference(module(images).double(), reference(images.double())) < 1e-4
    assert difference(module.eval()(images).double(), reference.eval()(images.double())) < 1e-4
    assert sum(parameter.numel() for parameter in module.parameters()) == module.architecture.num_params


def test_packed_network_rejects_different_signatures() -> None:
    with pytest.raises(ValueError, match="one signature"):
        PackedNetwork([MLP(**DENSE).build((1, 3, 4)), MLP(**DENSE | {"layers_dim": 8}).build((1, 3, 4))])
    with pytest.raises(ValueError, match="one signature"):
        PackedNetwork([CNN(**MAPS).build((3, 16, 16)), CNN(**MAPS, residual=False).build((3, 16, 16))])


@pytest.mark.parametrize(
    "options", [option for option in MLPS + CNNS if option.canonical() != option or option.residual], ids=name_of
)
def test_packed_network_equals_single_networks(options: MLP | CNN) -> None:
    """Logits and gradients of a replica do not depend on the pack."""
    network, params, buffers = pack(options, 3)
    images = torch.randn(
        3, 6, *network.architecture.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    packed = [network(params, buffers, images, "probe")]
    packed += torch.autograd.grad(packed[0].square().sum(), list(params.values()))
    single = PackedNetwork([network.architecture])
    for replica in range(3):
        replica_params = {
            name: value[replica : replica + 1].detach().requires_grad_() for name, value in params.items()
        }
        alone = [single(replica_params, single.buffers(torch.float64, "cpu"), images[replica : replica + 1], "probe")]
        alone += torch.autograd.grad(alone[0].square().sum(), list(replica_params.values()))
        assert all(difference(a[replica], b[0]) < TOLERANCE for a, b in zip(packed, alone, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        *(MLP(**PLAIN, batch_norm=True, block=block) for block in ("two_layer", "pre_activation", "shared_twice")),
        *(CNN(**MAPS, residual=False, pre_activation=True, block_type=block) for block in ("basic", "bottleneck")),
    ],
    ids=name_of,
)
def test_blocks_without_shortcuts_equal_canonical_form(options: MLP | CNN) -> None:
    normal = options.canonical()
    assert normal != options
    assert options.build((1, 3, 4)) == normal.build((1, 3, 4))
    network = PackedNetwork([options.build((1, 3, 4) if isinstance(options, MLP) else (3, 16, 16))])
    params = {name: value[None] for name, value in init_params(network.architecture, 3).items()}
    images = torch.randn(1, 6, *network.architecture.shape, dtype=torch.float64)
    weights = {name: value for name, value in params.items() if "norm" not in name}
    reference = reference_models.reference_model(options, weights)
    assert (
        difference(network(params, network.buffers(torch.float64, "cpu"), images, "train")[0], reference(images[0]))
        < TOLERANCE
    )


def test_residual_varies_within_a_pack() -> None:
    options_list = [MLP(**DENSE, residual=residual, batch_norm=True) for residual in (True, False, True)]
    network = PackedNetwork([options.build((1, 3, 4)) for options in options_list])
    _, params, buffers = pack(options_list[0], 3)
    images = torch.randn(3, 6, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = network(params, buffers, images, "train")
    gradients = torch.autograd.grad(logits.square().sum(), list(params.values()))
    for replica, options in enumerate(options_list):
        reference = reference_models.reference_model(options, params, replica)
        expected = reference(images[replica])
        expected.square().sum().backward()
        assert difference(logits[replica], expected) < TOLERANCE
        for name, gradient in zip(params, gradients, strict=True):
            assert difference(gradient[replica], reference_models.tensors(reference)[name].grad) < TOLERANCE, name


def dropped(probabilities: tuple[float, ...], mode: Any, keys: tuple[int, ...], width: int = 400) -> list[Tensor]:
    """Return the outputs of both layers of a network whose units are all 1 without dropout."""
    models = [MLP(input_size=12, layers_dim=width, class_num=2, hidden_layers_num=1, dropout=p) for p in probabilities]
    network = PackedNetwork([options.build((1, 3, 4)) for options in models])
    params = {}
    for parameter in network.architecture.parameters():
        value = 1.0 if parameter.role == "bias" else 0.0
        params[parameter.name] = torch.full((len(probabilities), *parameter.shape), value, dtype=torch.float64)
    taps: list[Tensor] = []
    network(
        params, {}, torch.zeros(len(probabilities), 50, 1, 3, 4, dtype=torch.float64), mode, torch.tensor(keys), taps
    )
    return taps


def test_dropout_drops_its_fraction_and_scales_the_rest() -> None:
    """Within four standard deviations. Masks of replicas and layers are independent."""
    probabilities = (0.2, 0.5, 0.8)
    outputs = dropped(probabilities, "train", (1, 2, 3))
    for tap in outputs:
        for p, replica in zip(probabilities, tap, strict=True):
            nonzero = replica[replica != 0]
            torch.testing.assert_close(nonzero, torch.full_like(nonzero, 1 / (1 - p)), rtol=1e-6, atol=0)
            dropped_fraction = 1 - nonzero.numel() / replica.numel()
            assert abs(dropped_fraction - p) < 4 * (p * (1 - p) / replica.numel()) ** 0.5
    first, second = (tap[1] != 0 for tap in outputs)
    assert abs(float((first == second).double().mean()) - 0.5) < 0.02
    same = dropped((0.5, 0.5), "train", (4, 5))[0]
    assert abs(float(((same[0] != 0) == (same[1] != 0)).double().mean()) - 0.5) < 0.02


def test_both_applications_of_a_shared_layer_drop_other_units() -> None:
    """W = I, b = 0: the branch is h times both masks / (1 - p)^2, so a quarter of the units stays at p = 1/2."""
    options = MLP(
        input_size=12,
        layers_dim=400,
        class_num=2,
        hidden_layers_num=1,
        dropout=0.5,
        residual=True,
        block="shared_twice",
    )
    network = PackedNetwork([options.build((1, 3, 4))])
    params = {item.name: torch.zeros(1, *item.shape, dtype=torch.float64) for item in network.architecture.parameters()}
    params["input.bias"] += 1
    params["hidden.1.weight"] += torch.eye(400)
    taps: list[Tensor] = []
    network(params, {}, torch.zeros(1, 50, 1, 3, 4, dtype=torch.float64), "train", torch.tensor([7]), taps)
    (kept,) = taps[0] != 0
    branch = (taps[1] - taps[0])[0][kept]
    torch.testing.assert_close(branch[branch != 0], torch.full_like(branch[branch != 0], 8.0))
    assert abs(float((branch != 0).double().mean()) - 0.25) < 0.02


def test_dropout_depends_only_on_its_key() -> None:
    """In every slot of every pack. The modes `probe` and `eval` drop nothing."""
    alone = dropped((0.5,), "train", (9,))[0][0]
    assert torch.equal(dropped((0.5, 0.5), "train", (4, 9))[0][1], alone)
    for mode in ("probe", "eval"):
        assert torch.equal(dropped((0.5,), mode, (9,))[1], torch.ones(1, 50, 400, dtype=torch.float64))


def test_dropout_scale_is_exact_in_float64() -> None:
    """Also if the probabilities of a pack differ."""
    outputs = dropped((0.3, 0.1), "train", (1, 2))[0]
    for p, replica in zip((0.3, 0.1), outputs, strict=True):
        assert float(replica.max()) == pytest.approx(1 / (1 - p), rel=1e-14)
