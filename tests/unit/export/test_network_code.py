"""The generated class of a network: names, numbers, and gradients equal those of the engine, for every kind of model."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathomlab import build_model
from fathomlab.engine.network import ACTIVATIONS
from fathomlab.export.network_code import network_source
from fathomlab.export.network_code.statements import FUNCTIONS

MLP = {"input_size": 12, "layers_dim": 6, "class_num": 3}
CNN = {"width": 4, "num_classes": 3}
NETWORKS = {
    "no hidden layer": ("MLP", {"hidden_layers_num": 0}),
    "one hidden layer": ("MLP", {"hidden_layers_num": 1, "batch_norm": True}),
    "plain": ("MLP", {"hidden_layers_num": 20, "activation": "LeakyReLU"}),
    "norm": ("MLP", {"hidden_layers_num": 3, "batch_norm": True, "batch_norm_eps": 1e-3, "dropout": 0.2}),
    "residual": ("MLP", {"hidden_layers_num": 4, "residual": True, "batch_norm": True}),
    "rezero": ("MLP", {"hidden_layers_num": 4, "residual": True, "skip_init": "rezero", "block": "pre_activation"}),
    "two layers": ("MLP", {"hidden_layers_num": 6, "residual": True, "block": "two_layer", "batch_norm": True}),
    "fixup": ("MLP", {"hidden_layers_num": 2, "residual": True, "block": "two_layer", "skip_init": "fixup"}),
    "pre-activation": (
        "MLP",
        {"hidden_layers_num": 3, "residual": True, "block": "pre_activation", "batch_norm": True},
    ),
    "shared": ("MLP", {"hidden_layers_num": 4, "residual": True, "block": "shared_twice", "batch_norm": True}),
    "scaled": ("MLP", {"hidden_layers_num": 4, "residual": True, "branch_scale": "1/sqrt(L)", "skip_init": "rezero"}),
    "scaled two layers": (
        "MLP",
        {"hidden_layers_num": 4, "residual": True, "block": "two_layer", "branch_scale": "1/L"},
    ),
    "scaled shared": (
        "MLP",
        {"hidden_layers_num": 3, "residual": True, "block": "shared_twice", "branch_scale": "1/L"},
    ),
    **{
        activation: ("MLP", {"hidden_layers_num": 2, "activation": activation, "residual": activation != "ReLU"})
        for activation in ACTIVATIONS
    },
    "basic": ("CNN", {"layers": [3, 2, 1, 2]}),
    "plain CNN": ("CNN", {"layers": [2, 2, 2, 2], "residual": False}),
    "plain bottleneck": ("CNN", {"block_type": "bottleneck", "residual": False, "stem": "plain"}),
    "bottleneck": ("CNN", {"block_type": "bottleneck", "layers": [1, 3, 2, 1], "batch_norm_eps": 0.1}),
    "pre-activation CNN": ("CNN", {"pre_activation": True, "layers": [2, 2, 1, 1]}),
    "pre-activation bottleneck": ("CNN", {"pre_activation": True, "block_type": "bottleneck", "skip_init": "rezero"}),
    "pad": ("CNN", {"shortcut": "pad", "layers": [2, 2, 1, 1]}),
    "pad bottleneck": ("CNN", {"shortcut": "pad", "block_type": "bottleneck", "pre_activation": True}),
    "wide": ("CNN", {"width": 16, "skip_init": "rezero"}),
}


def generated(source: str) -> nn.Module:
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F}
    exec(compile(source, "network", "exec"), names)
    return names["Network"]()


def randomize(module: nn.Module) -> dict[str, Tensor]:
    """Values that are no defaults, so that every norm, scale, and bias matters."""
    generator = torch.Generator().manual_seed(0)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(noise + 0.5 if name.endswith("running_var") else tensor + noise - 0.5)
    return {name: tensor.detach() for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_generated_network_computes_the_same(name: str):
    kind, options = NETWORKS[name]
    expected = build_model({"type": kind, "params": {**(MLP if kind == "MLP" else CNN), **options}}).double()
    tensors = randomize(expected)
    network = generated(network_source(expected.architecture)).double()
    network.load_state_dict(tensors)
    assert dict(network.named_parameters()).keys() == dict(expected.named_parameters()).keys()
    statistics = {key for key, _ in network.named_buffers() if not key.endswith("num_batches_tracked")}
    assert statistics == dict(expected.named_buffers()).keys()
    images = torch.rand(
        5, *expected.architecture.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    expected.eval(), network.eval()
    logits = expected(images)
    assert logits.std(0).max() > 1e-6 * logits.abs().max()  # a dead network would only compare the last bias
    assert (network(images) - expected(images)).abs().max() < 1e-12 * expected(images).abs().max()
    if options.get("dropout"):
        return
    expected.train(), network.train()
    losses = [F.cross_entropy(module(images), torch.tensor([0, 1, 2, 0, 1])) for module in (expected, network)]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
    sum(losses).backward()  # type: ignore[union-attr]
    gradients = [dict(module.named_parameters()) for module in (expected, network)]
    for key, parameter in gradients[0].items():
        torch.testing.assert_close(gradients[1][key].grad, parameter.grad, rtol=1e-6, atol=1e-9)


def test_dropout_is_applied_only_in_training():
    model = build_model({"type": "MLP", "params": {**MLP, "dropout": 0.5}})
    network = generated(network_source(model.architecture))
    images = torch.ones(64, 12)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_source_of_a_deep_network_is_short():
    """Runs of equal layers are loops."""
    deep = build_model({"type": "MLP", "params": {**MLP, "hidden_layers_num": 500, "residual": True}})
    assert len(network_source(deep.architecture).splitlines()) < 25
    deep = build_model({"type": "CNN", "params": {**CNN, "layers": [9, 9, 9, 9]}})
    assert len(network_source(deep.architecture).splitlines()) < 80


def test_every_function_of_the_engine_has_source():
    assert FUNCTIONS.keys() == {*ACTIVATIONS, "Flatten", "MaxPool", "MeanPool"}
