"""`training.frozen`: parameters that keep their start values."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.base.packing import signature
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.loop import image_order, train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.state import load_replica_state_dict, load_start_weights, replica_state_dict
from fathomlab.engine.torch_model import TorchModel
from fathomlab.engine.training import PackTrainer
from fathomlab.models.functional import construct
from fathomlab.optim.adam import Adam
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe
from fathomlab.probes import PROBES
from tests.helpers import module_kinds, small_training

NETWORKS = {
    "mlp": lambda: small_training.mlp(batch_norm=True),
    "cnn": small_training.cnn,
    "module": lambda: module_kinds.architecture(module_kinds.PACKED["batch norm"]),
}


def recipe(kind: str, **changes: Any) -> Recipe:
    """A recipe with a part of the network frozen, weight decay, and clipping."""
    architecture = NETWORKS[kind]()
    names = [parameter.name for parameter in architecture.parameters()]
    frozen = (names[0], names[3], names[-1])
    plain = {"optimizer": SGD(weight_decay=0.1), "gradient_clip": 0.5, "epochs": 2, "frozen": frozen}
    return small_training.recipe(architecture, **(plain | changes))


def tensors(trainer: PackTrainer) -> dict[str, Tensor]:
    """The weights and statistics of the first replica."""
    return {name: each[0].detach().clone() for name, each in {**trainer.state.params, **trainer.state.buffers}.items()}


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_equals_torch_without_gradients(kind: str):
    recipe_ = recipe(kind)
    trainer = small_training.make_trainer([recipe_])
    initial = tensors(trainer)
    module: Any = TorchModel(recipe_.architecture).double() if kind != "module" else _module(recipe_)
    module.load_state_dict(initial)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith(recipe_.frozen))
    trained = [each for each in module.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, weight_decay=0.1)
    for epoch in range(2):
        for index in image_order(trainer, epoch)[0].split(10):
            logits = module(trainer.data.normalize(trainer.data.images[index]))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, trainer.data.labels[index]).backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.5)
            optimizer.step()
    list(train(trainer, frozenset()))
    expected = module.state_dict()
    actual = tensors(trainer)
    assert actual.keys() == expected.keys() == initial.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-9, atol=1e-12)
        if name in recipe_.frozen:
            assert torch.equal(actual[name], initial[name])
    assert recipe_.num_trained == sum(each.numel() for each in trained)


def _module(recipe_: Recipe) -> Any:
    layer: Any = recipe_.architecture.layers[0]
    return construct(layer.model, layer.image_shape).double()


@pytest.mark.parametrize("kind", NETWORKS)
def test_pack_equals_separate_trainings(kind: str):
    recipes = [recipe(kind, seed=seed, lr=0.01 * seed) for seed in (1, 2)]
    pack, snapshots = small_training.run_training(recipes)
    for slot, alone in enumerate(recipes):
        single, curves = small_training.run_training([alone])
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot), small_training.replica_results(single, curves, 0)
        )
    assert signature(recipes[0]) != signature(replace(recipes[0], frozen=()))


def test_resumes_with_the_same_bits():
    recipe_ = recipe("cnn", optimizer=Adam())
    complete = small_training.make_trainer([recipe_])
    saved: dict[str, Tensor] = {}
    for snapshot in train(complete, frozenset({7})):
        if snapshot.step == 7:
            saved = {name: tensor.clone() for name, tensor in replica_state_dict(complete.state, 0).items()}
    resumed = small_training.make_trainer([recipe_])
    load_replica_state_dict(resumed.state, 0, saved)
    resumed.state.step, resumed.state.epoch = 7, 1
    list(train(resumed, frozenset()))
    small_training.assert_identical(tensors(resumed), tensors(complete))


def test_start_weights_replace_frozen_parameters():
    trainer = small_training.make_trainer([recipe("mlp")])
    name = trainer.shared_recipe.frozen[0]
    load_start_weights(trainer.state, 0, {name: torch.full_like(trainer.state.buffers[name][0], 7)})
    list(train(trainer, frozenset()))
    assert bool((trainer.state.buffers[name] == 7).all())
    assert bool((trainer.state.best.buffers[name] == 7).all())


@pytest.mark.parametrize("name", small_training.PROBES_OF_ANY_NETWORK)
@pytest.mark.parametrize("kind", NETWORKS)
def test_probes_measure_trained_layers(name: str, kind: str):
    """Activations of all points, with equal gradients, and weights of the trained layers."""
    recipe_ = recipe(kind)
    trainer = small_training.make_trainer([recipe_])
    free = small_training.make_trainer([replace(recipe_, frozen=())])
    probe = PROBES[name](**PROBES[name].test_options)
    measured, all_layers = probe.measure(Snapshot(trainer)), probe.measure(Snapshot(free))
    layers = recipe_.architecture.weight_layers
    kept = [index for index, layer in enumerate(layers) if f"{layer}.weight" not in recipe_.frozen]
    assert 0 < len(kept) < len(layers)
    if "layers" in measured:
        assert measured["layers"] == [layers[index] for index in kept]
    if "activation" in measured:
        torch.testing.assert_close(measured["activation"], all_layers["activation"], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(measured["weight"], all_layers["weight"][:, kept], rtol=1e-10, atol=1e-14)


CONF: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 200},
    "model": {"type": "MLP", "params": {"layers_dim": 4}},
    "training": {"epochs": 1},
}


FROZEN = ("seed=0", "training.frozen=[]", "training.frozen=[input, hidden]", "training.frozen=[hidden, input, input]")


def test_frozen_is_part_of_the_identity_if_it_is_set(tmp_path: Path):
    plain, empty, frozen, same = (fathomlab.load(CONF, text).trials[0] for text in FROZEN)
    assert plain.hash == empty.hash
    assert frozen.hash == same.hash != plain.hash
    assert frozen.content["training"]["frozen"] == ["hidden", "input"]
    run = fathomlab.run(CONF, "training.frozen=[input, hidden]", runs=tmp_path, workers=1, progress="off")
    assert run is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.frozen=[inptu]", ("unknown-name", "training.frozen")),
        ("training.frozen=['']", ("conflict", "training.frozen")),
        ("training.frozen=input", ("wrong-type", "training.frozen")),
        ("training.frozen=[1]", ("wrong-type", "training.frozen[0]")),
    ],
)
def test_invalid_prefixes_are_reported(text: str, expected: tuple[str, str]):
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(CONF, text)
    assert [(problem.code, problem.path) for problem in raised.value.problems] == [expected]


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"reference"}))
def test_only_the_reference_freezes(name: str):
    machine = Machine("cpu" if name == "native" else "cuda", compiler=True)
    assert BACKENDS[name].refuses([recipe("mlp")], machine) != ""


def test_outputs_of_layers_behind_frozen_ones_have_gradients():
    """No parameter in front of the first point is trained."""
    recipe_ = recipe("mlp", frozen=("input", "hidden.1"))
    measured = PROBES["gradients"](float64=True).measure(Snapshot(small_training.make_trainer([recipe_])))
    free = small_training.make_trainer([replace(recipe_, frozen=())])
    expected = PROBES["gradients"](float64=True).measure(Snapshot(free))
    torch.testing.assert_close(measured["activation"], expected["activation"], rtol=1e-10, atol=1e-14)
