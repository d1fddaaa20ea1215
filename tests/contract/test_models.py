"""Every model of the table: tiny options build, every level of every option runs, counts and names agree."""

import re
import typing
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, Literal

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fathomlab.base.errors import Issue
from fathomlab.base.options import parse, to_dict
from fathomlab.base.packing import signature
from fathomlab.data import DATASETS
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.models import MODELS, Model
from fathomlab.models.architecture import Architecture


@pytest.fixture(params=sorted(MODELS))
def part(request: pytest.FixtureRequest) -> Any:
    """Each model of the table."""
    return MODELS[request.param]


def made(part: Any, **changes: Any) -> Any:
    """The model with its tiny options."""
    problems: list[Issue] = []
    options = parse(part, {**part.test_options, **changes}, "", problems)
    assert not problems
    return options


CONTEXTS: list[dict[str, Any]] = [
    {},
    {"residual": True},
    {"residual": False},
    {"layers_dim": 6},
    {"residual": True, "block": "two_layer", "batch_norm": False},
]


def fitting(part: Any, own: dict[str, Any], **changes: Any) -> Any:
    """The model with `changes`, beside the first other options that go with them."""
    known = {field.name for field in fields(part)}
    for context in [own, *CONTEXTS]:
        problems: list[Issue] = []
        if context.keys() <= known:
            options = parse(part, {**part.test_options, **context, **changes}, "", problems)
            if not problems:
                return options
    raise AssertionError(f"{changes} goes with nothing")


def levels(part: Any) -> list[tuple[str, Any]]:
    """Every option that has named levels, and some numbers for the others."""
    found: list[tuple[str, Any]] = []
    for name, hint in typing.get_type_hints(part, include_extras=True).items():
        rules = typing.get_args(hint)
        if typing.get_origin(hint) is Literal:
            found += [(name, level) for level in rules]
        elif hint is bool:
            found += [(name, False), (name, True)]
    return found


def stepped(architecture: Architecture, replicas: int = 2) -> list[torch.Tensor]:
    """Logits and gradients of one training step."""
    network = PackedNetwork([architecture] * replicas)
    drawn = [init_params(architecture, seed) for seed in range(replicas)]
    values = {name: torch.stack([one[name] for one in drawn]).requires_grad_() for name in drawn[0]}
    images = torch.randn(replicas, 4, *architecture.shape, dtype=torch.float64)
    keys = torch.arange(replicas)
    logits = network(values, network.buffers(torch.float64, "cpu"), images, "train", keys)
    labels = torch.arange(4).remainder(architecture.classes).expand(replicas, 4)
    return [logits, *torch.autograd.grad(cross_entropy(logits, labels).mean(1).sum(), list(values.values()))]


def test_a_model_is_a_value(part: Any) -> None:
    """Frozen, hashable, and the same again from its plain options."""
    one = made(part)
    assert isinstance(one, Model)
    assert hash(one) == hash(made(part))
    with pytest.raises(FrozenInstanceError):
        setattr(one, fields(one)[0].name, None)
    problems: list[Issue] = []
    assert parse(part, to_dict(one), "", problems) == one
    assert not problems
    assert part.default_dataset in DATASETS
    assert {part.depth_key, part.width_key} <= {field.name for field in fields(one)}


def test_tiny_options_are_tiny_and_run(part: Any) -> None:
    """A step of two replicas: logits of the right shape, finite gradients for every parameter."""
    architecture = made(part).build(part.test_input_shape)
    assert architecture.num_params < 20_000
    logits, *gradients = stepped(architecture)
    assert logits.shape == (2, 4, architecture.classes)
    parameters = architecture.parameters()
    assert [gradient.shape[1:] for gradient in gradients] == [parameter.shape for parameter in parameters]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_every_level_of_every_option_runs(part: Any) -> None:
    """No name in a table without code behind it."""
    found = levels(part)
    assert len({name for name, _ in found}) >= 3
    for name, level in found:
        normal = fitting(part, {}, **{name: level}).canonical()
        assert normal.canonical() == normal
        assert normal.unused_options() == []
        assert all(bool(tensor.isfinite().all()) for tensor in stepped(normal.build(part.test_input_shape), 1))


def test_every_level_changes_the_network(part: Any) -> None:
    """An option that is accepted does something: another architecture, by its layers, its start or its shape."""
    names = {name for name, _ in levels(part)}
    base = {"residual": True} if "residual" in names else {}
    for name in names:
        own = {} if name == "residual" else base
        built = [
            fitting(part, own, **{name: level}).build(part.test_input_shape)
            for other, level in levels(part)
            if other == name
        ]
        assert len(set(built)) == len(built), name


def test_names_are_unique_and_values_fit(part: Any) -> None:
    """Parameters and taps have names of their own; initial values have the shapes that are declared."""
    architecture = made(part).build(part.test_input_shape)
    names = [parameter.name for parameter in architecture.parameters()]
    assert len(set(names)) == len(names)
    assert len(set(architecture.taps)) == len(architecture.taps) > 0
    values = init_params(architecture, 0)
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        parameter.name: parameter.shape for parameter in architecture.parameters()
    }
    assert sum(value.numel() for value in values.values()) == architecture.num_params
    assert {f"{name}.weight" for name in architecture.weight_layers} <= set(names)


def test_taps_are_filled_in_their_order(part: Any) -> None:
    """One tensor a tap, on the way to the logits."""
    architecture = made(part).build(part.test_input_shape)
    network = PackedNetwork([architecture])
    values = {name: value[None].requires_grad_() for name, value in init_params(architecture, 0).items()}
    taps: list[torch.Tensor] = []
    images = torch.randn(1, 4, *architecture.shape, dtype=torch.float64)
    logits = network(values, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
    assert len(taps) == len(architecture.taps)
    assert all(gradient is not None for gradient in torch.autograd.grad(logits.square().sum(), taps))


def test_products_are_counted_as_torch_counts_them(part: Any) -> None:
    """Two operations a multiply-accumulate, over a whole forward pass."""
    architecture = made(part).build(part.test_input_shape)
    network = PackedNetwork([architecture] * 2)
    values = {n: torch.stack([v, v]) for n, v in init_params(architecture, 0).items()}
    images = torch.randn(2, 5, *architecture.shape, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(values, network.buffers(torch.float64, "cpu"), images, "eval")
    assert counter.get_total_flops() == 2 * 5 * 2 * architecture.macs


def test_complaints_name_what_disagrees_with_the_data(part: Any) -> None:
    """No complaint for the tiny shape and classes, one for other classes, each about an option that exists."""
    one = made(part)
    classes = one.build(part.test_input_shape).classes
    assert one.validate_for(part.test_input_shape, classes) == []
    (problem,) = one.validate_for(part.test_input_shape, classes + 1)
    assert problem.code == "data-mismatch"
    assert problem.path in {field.name for field in fields(one)}
    assert re.findall(r"\d+", problem.message) == [str(classes + 1), str(classes)]


def test_a_signature_forgets_initial_values_alone(part: Any) -> None:
    """Initialization may differ within a pack; depth and width may not."""
    one = made(part)
    built = one.build(part.test_input_shape)
    inits = [level for name, level in levels(part) if name == "init"]
    assert len({signature(replace(one, init=init).build(part.test_input_shape)) for init in inits}) == 1
    for key in (part.depth_key, part.width_key):
        value = getattr(one, key)
        larger = tuple(each + 1 for each in value) if isinstance(value, tuple) else value + 1
        assert signature(replace(one, **{key: larger}).build(part.test_input_shape)) != signature(built)
    deeper = replace(one, **{part.depth_key: getattr(one, part.depth_key)})
    assert deeper.depth == one.depth
