"""Rules for every model of the table: options, parameters, counts, and names."""

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
def model_class(request: pytest.FixtureRequest) -> Any:
    """Each model of the table."""
    return MODELS[request.param]


def make_model(model_class: Any, **changes: Any) -> Any:
    """Create the model with its test options."""
    issues: list[Issue] = []
    options = parse(model_class, {**model_class.test_options, **changes}, "", issues)
    assert not issues
    return options


CONTEXTS: list[dict[str, Any]] = [
    {},
    {"residual": True},
    {"residual": False},
    {"layers_dim": 6},
    {"residual": True, "block": "two_layer", "batch_norm": False},
]


def make_valid_model(model_class: Any, first_context: dict[str, Any], **changes: Any) -> Any:
    """Create the model with `changes`, and the first other options that are valid together with them."""
    names = {field.name for field in fields(model_class)}
    for context in [first_context, *CONTEXTS]:
        issues: list[Issue] = []
        if context.keys() <= names:
            options = parse(model_class, {**model_class.test_options, **context, **changes}, "", issues)
            if not issues:
                return options
    raise AssertionError(f"{changes} is never valid")


def levels(model_class: Any) -> list[tuple[str, Any]]:
    """Return the levels of every option with a closed list of levels."""
    options: list[tuple[str, Any]] = []
    for name, hint in typing.get_type_hints(model_class, include_extras=True).items():
        hint = hint.__origin__ if hasattr(hint, "__metadata__") else hint
        rules = typing.get_args(hint)
        if typing.get_origin(hint) is Literal:
            options += [(name, level) for level in rules]
        elif hint is bool:
            options += [(name, False), (name, True)]
    return options


def run_step(architecture: Architecture, replicas: int = 2) -> list[torch.Tensor]:
    """Compute logits and gradients of one training step."""
    network = PackedNetwork([architecture] * replicas)
    initial = [init_params(architecture, seed) for seed in range(replicas)]
    params = {name: torch.stack([replica[name] for replica in initial]).requires_grad_() for name in initial[0]}
    images = torch.randn(replicas, 4, *architecture.shape, dtype=torch.float64)
    keys = torch.arange(replicas)
    logits = network(params, network.buffers(torch.float64, "cpu"), images, "train", keys)
    labels = torch.arange(4).remainder(architecture.classes).expand(replicas, 4)
    return [logits, *torch.autograd.grad(cross_entropy(logits, labels).mean(1).sum(), list(params.values()))]


def test_model_is_an_immutable_value(model_class: Any) -> None:
    """Frozen, hashable, and equal after a round trip of its options."""
    model = make_model(model_class)
    assert isinstance(model, Model)
    assert hash(model) == hash(make_model(model_class))
    with pytest.raises(FrozenInstanceError):
        setattr(model, fields(model)[0].name, None)
    issues: list[Issue] = []
    assert parse(model_class, to_dict(model), "", issues) == model
    assert not issues
    assert model_class.default_dataset in DATASETS
    assert {model_class.depth_key, model_class.width_key} <= {field.name for field in fields(model)}


def test_test_options_build_a_small_network(model_class: Any) -> None:
    """A step of two replicas has logits of the correct shape and finite gradients for every parameter."""
    architecture = make_model(model_class).build(model_class.test_input_shape)
    assert architecture.num_params < 20_000
    logits, *gradients = run_step(architecture)
    assert logits.shape == (2, 4, architecture.classes)
    parameters = architecture.parameters()
    assert [gradient.shape[1:] for gradient in gradients] == [parameter.shape for parameter in parameters]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_every_level_of_every_option_runs(model_class: Any) -> None:
    options = levels(model_class)
    assert len({name for name, _ in options}) >= 3
    for name, level in options:
        canonical = make_valid_model(model_class, {}, **{name: level}).canonical()
        assert canonical.canonical() == canonical
        assert canonical.unused_options() == []
        assert all(
            bool(tensor.isfinite().all()) for tensor in run_step(canonical.build(model_class.test_input_shape), 1)
        )


def test_every_level_changes_the_network(model_class: Any) -> None:
    """Two levels differ in layers, initialization, or shape."""
    names = {name for name, _ in levels(model_class)}
    default_context = {"residual": True} if "residual" in names else {}
    for name in names:
        first_context = {} if name == "residual" else default_context
        architectures = [
            make_valid_model(model_class, first_context, **{name: level}).build(model_class.test_input_shape)
            for option, level in levels(model_class)
            if option == name
        ]
        assert len(set(architectures)) == len(architectures), name


def test_parameter_names_are_unique_with_declared_shapes(model_class: Any) -> None:
    architecture = make_model(model_class).build(model_class.test_input_shape)
    names = [parameter.name for parameter in architecture.parameters()]
    assert len(set(names)) == len(names)
    assert len(set(architecture.taps)) == len(architecture.taps) > 0
    params = init_params(architecture, 0)
    assert {name: tuple(value.shape) for name, value in params.items()} == {
        parameter.name: parameter.shape for parameter in architecture.parameters()
    }
    assert sum(value.numel() for value in params.values()) == architecture.num_params
    assert {f"{name}.weight" for name in architecture.weight_layers} <= set(names)


def test_taps_receive_one_tensor_per_point(model_class: Any) -> None:
    architecture = make_model(model_class).build(model_class.test_input_shape)
    network = PackedNetwork([architecture])
    params = {name: value[None].requires_grad_() for name, value in init_params(architecture, 0).items()}
    taps: list[torch.Tensor] = []
    images = torch.randn(1, 4, *architecture.shape, dtype=torch.float64)
    logits = network(params, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
    assert len(taps) == len(architecture.taps)
    assert all(gradient is not None for gradient in torch.autograd.grad(logits.square().sum(), taps))


def test_macs_equal_flops_counted_by_torch(model_class: Any) -> None:
    """Two operations per multiply-accumulate."""
    architecture = make_model(model_class).build(model_class.test_input_shape)
    network = PackedNetwork([architecture] * 2)
    params = {n: torch.stack([v, v]) for n, v in init_params(architecture, 0).items()}
    images = torch.randn(2, 5, *architecture.shape, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(params, network.buffers(torch.float64, "cpu"), images, "eval")
    assert counter.get_total_flops() == 2 * 5 * 2 * architecture.macs


def test_validate_for_returns_data_mismatches(model_class: Any) -> None:
    """No issue for the test shape and classes, one for another number of classes."""
    model = make_model(model_class)
    classes = model.build(model_class.test_input_shape).classes
    assert model.validate_for(model_class.test_input_shape, classes) == []
    (issue,) = model.validate_for(model_class.test_input_shape, classes + 1)
    assert issue.code == "data-mismatch"
    assert issue.path in {field.name for field in fields(model)}
    assert re.findall(r"\d+", issue.message) == [str(classes + 1), str(classes)]


def test_signature_depends_on_depth_and_width(model_class: Any) -> None:
    """Initialization may differ within a pack."""
    model = make_model(model_class)
    shape = model_class.test_input_shape
    inits = [level for name, level in levels(model_class) if name == "init"]
    assert len({signature(replace(model, init=init).build(shape)) for init in inits}) == 1
    for key in (model_class.depth_key, model_class.width_key):
        value = getattr(model, key)
        larger = tuple(item + 1 for item in value) if isinstance(value, tuple) else value + 1
        assert signature(replace(model, **{key: larger}).build(shape)) != signature(model.build(shape))
    deeper = replace(model, **{model_class.depth_key: getattr(model, model_class.depth_key)})
    assert deeper.depth == model.depth
