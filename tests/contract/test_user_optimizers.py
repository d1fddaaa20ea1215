"""Optimizers and schedules of plugins in the engine: packs, checkpoints, backends, and what a wrong one does."""

from textwrap import dedent
from typing import Any

import pytest
import torch

from fathomlab.base.errors import UserError
from fathomlab.base.packing import signature
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import read_plugin
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import ReduceLROnPlateau
from fathomlab.probes.updates import Updates
from tests.helpers import small_training

PLUGIN = """
    import math
    from dataclasses import dataclass
    from typing import Annotated
    import torch
    from fathomlab.base.packing import Varies
    from fathomlab.optim.rates import WeightDecay, per_replica, zeros_like

    @dataclass(frozen=True)
    class MyAdam:
        beta1: Annotated[float, Varies()] = 0.9
        beta2: float = 0.999
        weight_decay: WeightDecay = 0.0

        def init_state(self, params):
            return {"first": zeros_like(params), "second": zeros_like(params)}

        def step(self, params, grads, state, count, rates):
            for param, grad, first, second in zip(params, grads, state["first"], state["second"]):
                lr, beta1 = per_replica(rates.lr, param), per_replica(self.beta1, param)
                grad = grad + per_replica(rates.weight_decay, param) * param
                first.mul_(beta1).add_((1 - beta1) * grad)
                second.mul_(self.beta2).add_((1 - self.beta2) * grad * grad)
                correction = (1 - self.beta2**count) ** 0.5
                param.sub_(lr / (1 - beta1**count) * first / (second.sqrt() / correction + 1e-8))

    @dataclass(frozen=True)
    class Plateau:
        factor: float = 0.5

        def lr_at(self, lr, position, memory):
            return memory.get("rate", lr)

        def observe(self, lr, memory, loss):
            better = loss < memory.get("best", math.inf) * (1 - 1e-4)
            rate = memory.get("rate", lr)
            return {"best": min(loss, memory.get("best", loss)), "rate": rate if better else rate * self.factor}

    @dataclass(frozen=True)
    class Late:
        kind: str = "nan"

        def lr_at(self, lr, position, memory):
            if position.epoch < 2:
                return lr
            return {"nan": math.nan, "negative": -1.0, "text": "0.1"}[self.kind]
"""


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> Components:
    """The components of the plugin."""
    path = tmp_path_factory.mktemp("plugin") / "parts.py"
    path.write_text(dedent(PLUGIN), encoding="utf-8")
    return with_plugins([read_plugin(path)])


def optimizer_of(components: Components, **options: float) -> Any:
    """The optimizer of the plugin."""
    return components.optimizers.make("MyAdam", options, "", [])


def schedule_of(components: Components, name: str = "Plateau", **options: object) -> Any:
    """A schedule of the plugin."""
    return components.schedules.make(name, options, "", [])


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_optimizer_equals_the_built_in_one(components: Components, network: str):
    architecture = getattr(small_training, network)()
    results = []
    for optimizer in (optimizer_of(components, weight_decay=0.1), Adam(weight_decay=0.1)):
        trainer, snapshots = small_training.run_training([small_training.recipe(architecture, optimizer=optimizer)])
        results.append(small_training.replica_results(trainer, snapshots, 0))
    small_training.assert_close(results[0], results[1], 1e-7)


def test_pack_of_varying_options_equals_separate_trainings(components: Components):
    recipes = [
        small_training.recipe(small_training.mlp(), seed=seed, lr=lr, optimizer=optimizer_of(components, **options))
        for seed, lr, options in (
            (1, 0.01, {"beta1": 0.9, "weight_decay": 0.1}),
            (2, 0.02, {"beta1": 0.5, "weight_decay": 0.0}),
            (3, 0.03, {"beta1": 0.0, "weight_decay": 0.2}),
        )
    ]
    assert len({signature(recipe) for recipe in recipes}) == 1
    pack, snapshots = small_training.run_training(recipes)
    for slot, recipe in enumerate(recipes):
        alone, single = small_training.run_training([recipe])
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot), small_training.replica_results(alone, single, 0)
        )
    updates = Updates(examples=8).measure(Snapshot(pack))["update"]
    single = Updates(examples=8).measure(Snapshot(pack.replica(2)))["update"]
    torch.testing.assert_close(single[0], updates[2], rtol=1e-9, atol=1e-12)
    other = small_training.replace(recipes[0], optimizer=optimizer_of(components, beta2=0.9))
    assert signature(other) != signature(recipes[0])


def test_schedule_equals_the_built_in_one(components: Components):
    rates = []
    for schedule in (schedule_of(components), ReduceLROnPlateau(factor=0.5, patience=0)):
        recipe = small_training.recipe(small_training.mlp(), schedule=schedule, epochs=8, lr=0.5)
        rates.append([snapshot.lr for snapshot in small_training.run_training([recipe])[1]])
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1


def test_training_resumes_with_the_same_bits(components: Components):
    """From the middle of an epoch, with the state of the optimizer and the memory of the schedule."""
    changes = {"optimizer": optimizer_of(components), "schedule": schedule_of(components), "epochs": 6, "lr": 0.3}
    recipe = small_training.recipe(small_training.mlp(), **changes)
    complete = small_training.make_trainer([recipe])
    saved: dict[str, Any] = {}
    for snapshot in train(complete, frozenset({17})):
        if snapshot.step == 17:
            saved = {name: tensor.clone() for name, tensor in replica_state_dict(complete.state, 0).items()}
            memory, epoch = dict(complete.state.memories[0]), snapshot.epoch
    resumed = small_training.make_trainer([recipe])
    load_replica_state_dict(resumed.state, 0, saved)
    resumed.state.step, resumed.state.epoch, resumed.state.memories = 17, epoch, [memory]
    list(train(resumed, frozenset()))
    small_training.assert_identical(replica_state_dict(resumed.state, 0), replica_state_dict(complete.state, 0))
    assert resumed.state.memories == complete.state.memories


@pytest.mark.parametrize("kind", ["nan", "negative", "text"])
def test_wrong_rate_is_an_error_with_its_line(components: Components, kind: str):
    recipe = small_training.recipe(small_training.mlp(), schedule=schedule_of(components, "Late", kind=kind))
    with pytest.raises(UserError) as raised:
        small_training.run_training([recipe])
    line = next(n for n, text in enumerate(PLUGIN.splitlines(), start=1) if "class Late" in text) + 3
    assert raised.value.code == "plugin-error"
    assert str(raised.value).startswith(f"parts.py:{line}: Late.lr_at ")


def test_schedule_sees_no_loss_of_a_diverged_replica(components: Components):
    recipe = small_training.recipe(small_training.mlp(), schedule=schedule_of(components), lr=1e300, epochs=2)
    trainer, _ = small_training.run_training([recipe])
    assert int(trainer.state.diverged_at_step[0])
    assert trainer.state.memories == [{}]


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"reference"}))
def test_only_the_reference_runs_optimizers_of_plugins(components: Components, name: str):
    """A schedule runs on the host, so every backend supports it."""
    plain = small_training.recipe(small_training.mlp())
    machine = Machine("cpu" if name == "native" else "cuda", compiler=True)
    assert BACKENDS[name].refuses([plain], machine) == ""
    from_plugin = small_training.replace(plain, optimizer=optimizer_of(components))
    assert BACKENDS[name].refuses([from_plugin], machine) != ""
    scheduled = small_training.replace(plain, schedule=schedule_of(components))
    assert BACKENDS[name].refuses([scheduled], machine) == ""


def test_graph_steps_use_the_rates_of_a_schedule(components: Components):
    """The steps of the graph backend, launched kernel by kernel."""
    recipe = small_training.recipe(small_training.mlp(), schedule=schedule_of(components), epochs=6, lr=0.5)
    plain, graph = small_training.make_trainer([recipe]), small_training.make_trainer([recipe])
    expected = list(train(plain, frozenset()))
    snapshots = list(train(graph, frozenset(), BACKENDS["graph"].prepare(graph)))
    assert len({snapshot.lr for snapshot in expected}) > 1
    small_training.assert_close(
        small_training.replica_results(graph, snapshots, 0), small_training.replica_results(plain, expected, 0)
    )
