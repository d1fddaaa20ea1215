"""The packed network against its naive twin: logits, gradients, running statistics, in float64."""

from dataclasses import fields
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import fathomlab
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.models.mlp import MLP, Activation
from fathomlab.models.resnet import CNN

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
    for block in ("one_layer", "two_layer", "pre_activation")
    for batch_norm in (False, True)
    for skip_init in ("none", "rezero")
]
MLPS += [
    MLP(**FOUR, block="two_layer", skip_init="fixup"),
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
    CNN(**MAPS, layers=(1, 2, 1, 1), block_type=block, pre_activation=late, shortcut=shortcut, skip_init=skip_init)
    for block in ("basic", "bottleneck")
    for late, shortcut, skip_init in (
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
    """What makes the case different from the others."""
    changed = [getattr(options, field.name) for field in fields(options)[2:]]
    usual = [getattr(type(options), field.name) for field in fields(options)[2:]]
    names = [field.name for field in fields(options)[2:]]
    told = [f"{name}={value}" for name, value, other in zip(names, changed, usual, strict=True) if value != other]
    return "-".join([type(options).__name__, str(getattr(options, "block_type", "")), *told])


def pack(options: MLP | CNN, replicas: int) -> tuple[PackedNetwork, dict[str, Tensor], dict[str, Tensor]]:
    """A network with values off their start, so that no gamma is 1 and no bias is 0 by luck."""
    architecture = options.build((1, 3, 4) if isinstance(options, MLP) else (3, 16, 16))
    network = PackedNetwork([architecture] * replicas)
    drawn = [init_params(architecture, seed) for seed in range(replicas)]
    generator = torch.Generator().manual_seed(5)
    values = {}
    for name in drawn[0]:
        tensor = torch.stack([one[name] for one in drawn])
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        values[name] = (tensor + 0.1 * noise).requires_grad_()
    return network, values, network.buffers(torch.float64, "cpu")


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number or 1."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1))


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("options", MLPS + CNNS, ids=name_of)
def test_a_pack_is_its_naive_twins(options: MLP | CNN, replicas: int, reference_models: ModuleType) -> None:
    """Three training steps and an evaluation: each replica is the network that torch.nn makes of the same values."""
    network, values, buffers = pack(options, replicas)
    shape = network.architecture.shape
    batches = torch.randn(4, replicas, 6, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    pull = torch.randn(6, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    made = [reference_models.reference_model(options, values, replica) for replica in range(replicas)]
    for batch in batches[:3]:
        logits = network(values, buffers, batch, "train")
        gradients = torch.autograd.grad((logits * pull).sum(), list(values.values()))
        for replica, naive in enumerate(made):
            naive.zero_grad()
            expected = naive(batch[replica])
            (expected * pull).sum().backward()
            assert difference(logits[replica], expected) < TOLERANCE
            mine = reference_models.tensors(naive)
            assert [name for name in mine if "running" not in name] == list(values)
            for name, gradient in zip(values, gradients, strict=True):
                assert difference(gradient[replica], mine[name].grad) < TOLERANCE, name
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    evaluated = network(values, buffers, batches[3], "eval")
    for replica, naive in enumerate(made):
        mine = reference_models.tensors(naive)
        assert {name for name in mine if "running" in name} == set(buffers)
        for name, buffer in buffers.items():
            assert difference(buffer[replica], mine[name]) < TOLERANCE, name
        assert difference(evaluated[replica], naive.eval()(batches[3, replica])) < TOLERANCE
    assert all(torch.equal(kept[name], buffers[name]) for name in kept)


@pytest.mark.parametrize("options", [MLPS[3], CNNS[1]], ids=name_of)
def test_measuring_is_training_that_leaves_no_trace(options: MLP | CNN) -> None:
    """Mode `measure` gives the logits of mode `train` and keeps the running statistics."""
    network, values, buffers = pack(options, 2)
    images = torch.randn(2, 6, *network.architecture.shape, dtype=torch.float64)
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    measured = network(values, buffers, images, "probe")
    assert all(torch.equal(before[name], buffers[name]) for name in before)
    assert difference(measured, network(values, buffers, images, "train")) < 1e-14
    assert not any(torch.equal(before[name], buffers[name]) for name in before)


@pytest.mark.parametrize("options", [MLPS[0], MLPS[3], CNNS[1], CNNS[5]], ids=name_of)
def test_a_built_model_maps_images_to_logits(options: MLP | CNN, reference_models: ModuleType) -> None:
    """The public module: float32, training and evaluation, running statistics in its state."""
    params = {field.name: getattr(options, field.name) for field in fields(options)}
    params |= {"layers": list(options.layers)} if isinstance(options, CNN) else {}
    module = fathomlab.build_model({"type": type(options).__name__, "params": params}, seed=3)
    images = torch.randn(6, *((1, 3, 4) if isinstance(options, MLP) else (3, 32, 32)))
    names = [parameter.name for parameter in module.architecture.parameters()]
    values = {name: module.get_tensor(name).detach().unsqueeze(0) for name in names}
    naive = reference_models.reference_model(options, values)
    for name, value in init_params(module.architecture, 3).items():
        assert torch.equal(module.get_tensor(name).detach(), value.float())
    assert difference(module(images).double(), naive(images.double())) < 1e-4
    assert difference(module.eval()(images).double(), naive.eval()(images.double())) < 1e-4
    assert sum(parameter.numel() for parameter in module.parameters()) == module.architecture.num_params


def test_architectures_that_differ_are_no_pack() -> None:
    """Another width is another program; another seed or residual around an identity is not."""
    with pytest.raises(ValueError, match="one signature"):
        PackedNetwork([MLP(**DENSE).build((1, 3, 4)), MLP(**DENSE | {"layers_dim": 8}).build((1, 3, 4))])
    with pytest.raises(ValueError, match="one signature"):
        PackedNetwork([CNN(**MAPS).build((3, 16, 16)), CNN(**MAPS, residual=False).build((3, 16, 16))])


@pytest.mark.parametrize(
    "options", [option for option in MLPS + CNNS if option.canonical() != option or option.residual], ids=name_of
)
def test_packed_is_alone(options: MLP | CNN) -> None:
    """A replica's logits and gradients do not depend on the others in its pack."""
    network, values, buffers = pack(options, 3)
    images = torch.randn(
        3, 6, *network.architecture.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    packed = [network(values, buffers, images, "probe")]
    packed += torch.autograd.grad(packed[0].square().sum(), list(values.values()))
    single = PackedNetwork([network.architecture])
    for replica in range(3):
        own = {name: value[replica : replica + 1].detach().requires_grad_() for name, value in values.items()}
        alone = [single(own, single.buffers(torch.float64, "cpu"), images[replica : replica + 1], "probe")]
        alone += torch.autograd.grad(alone[0].square().sum(), list(own.values()))
        assert all(difference(one[replica], other[0]) < TOLERANCE for one, other in zip(packed, alone, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        *(MLP(**PLAIN, batch_norm=True, block=block) for block in ("two_layer", "pre_activation")),
        *(CNN(**MAPS, residual=False, pre_activation=True, block_type=block) for block in ("basic", "bottleneck")),
    ],
    ids=name_of,
)
def test_without_shortcuts_all_blocks_are_one_network(options: MLP | CNN, reference_models: ModuleType) -> None:
    """The naive net with its norms where the option puts them computes what the normal form computes."""
    normal = options.canonical()
    assert normal != options
    assert options.build((1, 3, 4)) == normal.build((1, 3, 4))
    network = PackedNetwork([options.build((1, 3, 4) if isinstance(options, MLP) else (3, 16, 16))])
    values = {name: value[None] for name, value in init_params(network.architecture, 3).items()}
    images = torch.randn(1, 6, *network.architecture.shape, dtype=torch.float64)
    weights = {name: value for name, value in values.items() if "norm" not in name}
    naive = reference_models.reference_model(options, weights)
    assert (
        difference(network(values, network.buffers(torch.float64, "cpu"), images, "train")[0], naive(images[0]))
        < TOLERANCE
    )


def test_residual_may_differ_between_the_replicas_of_a_pack(reference_models: ModuleType) -> None:
    """Each replica adds the identity or does not, and its gradients are those of its own net."""
    both = [MLP(**DENSE, residual=on, batch_norm=True) for on in (True, False, True)]
    network = PackedNetwork([options.build((1, 3, 4)) for options in both])
    _, values, buffers = pack(both[0], 3)
    images = torch.randn(3, 6, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = network(values, buffers, images, "train")
    gradients = torch.autograd.grad(logits.square().sum(), list(values.values()))
    for replica, options in enumerate(both):
        naive = reference_models.reference_model(options, values, replica)
        expected = naive(images[replica])
        expected.square().sum().backward()
        assert difference(logits[replica], expected) < TOLERANCE
        for name, gradient in zip(values, gradients, strict=True):
            assert difference(gradient[replica], reference_models.tensors(naive)[name].grad) < TOLERANCE, name


def dropped(rates: tuple[float, ...], mode: Any, keys: tuple[int, ...], width: int = 400) -> list[Tensor]:
    """The outputs of both layers of a net of which every unit would be one without dropout."""
    every = [MLP(input_size=12, layers_dim=width, class_num=2, hidden_layers_num=1, dropout=rate) for rate in rates]
    network = PackedNetwork([options.build((1, 3, 4)) for options in every])
    values = {}
    for parameter in network.architecture.parameters():
        fill = 1.0 if parameter.kind == "bias" else 0.0
        values[parameter.name] = torch.full((len(rates), *parameter.shape), fill, dtype=torch.float64)
    taps: list[Tensor] = []
    network(values, {}, torch.zeros(len(rates), 50, 1, 3, 4, dtype=torch.float64), mode, torch.tensor(keys), taps)
    return taps


def test_dropout_keeps_its_share_and_scales_the_rest() -> None:
    """Rates of each replica hold to four standard deviations; masks of replicas and layers have nothing in common."""
    rates = (0.2, 0.5, 0.8)
    outputs = dropped(rates, "train", (1, 2, 3))
    for tap in outputs:
        for rate, own in zip(rates, tap, strict=True):
            kept = own[own != 0]
            torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-6, atol=0)
            share = 1 - kept.numel() / own.numel()
            assert abs(share - rate) < 4 * (rate * (1 - rate) / own.numel()) ** 0.5
    first, second = (tap[1] != 0 for tap in outputs)
    assert abs(float((first == second).double().mean()) - 0.5) < 0.02
    same = dropped((0.5, 0.5), "train", (4, 5))[0]
    assert abs(float(((same[0] != 0) == (same[1] != 0)).double().mean()) - 0.5) < 0.02


def test_dropout_follows_its_key_alone() -> None:
    """The same key gives the same mask in any place of any pack; measuring and evaluating drop nothing."""
    alone = dropped((0.5,), "train", (9,))[0][0]
    assert torch.equal(dropped((0.5, 0.5), "train", (4, 9))[0][1], alone)
    for mode in ("probe", "eval"):
        assert torch.equal(dropped((0.5,), mode, (9,))[1], torch.ones(1, 50, 400, dtype=torch.float64))


def test_a_dropout_rate_is_exact_in_float64() -> None:
    """The scale is 1 / (1 - rate) to the last digits also where the rates of a pack differ."""
    outputs = dropped((0.3, 0.1), "train", (1, 2))[0]
    for rate, own in zip((0.3, 0.1), outputs, strict=True):
        assert float(own.max()) == pytest.approx(1 / (1 - rate), rel=1e-14)
