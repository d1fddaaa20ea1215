"""The native backend: equal to the reference in float64 for everything that it supports, and independent of the pack."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fathomlab.base.errors import UserError
from fathomlab.engine import native_check
from fathomlab.engine.backends import BACKENDS, Machine, native_library
from fathomlab.engine.backends.dense import dense_layers
from fathomlab.engine.loop import train
from fathomlab.engine.native_step import NativeStep
from fathomlab.engine.step_inputs import Predicts
from fathomlab.engine.training import PackTrainer
from fathomlab.models.mlp import MLP
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import OneCycleLR, ReduceLROnPlateau
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training
from tests.helpers.compilers import needs_compiler

NATIVE, HERE = BACKENDS["native"], Machine("cpu", True)
DATA = small_training.make_dataset(small_training.FLAT)

EPS = st.sampled_from([1e-5, 1e-3])  # 1e-8 would amplify the rounding of gradients that are nearly 0
optimizers = st.one_of(
    st.builds(
        Adam, weight_decay=st.sampled_from([0.0, 0.1]), betas=st.sampled_from([(0.9, 0.999), (0.5, 0.6)]), eps=EPS
    ),
    st.builds(AdamW, weight_decay=st.sampled_from([0.0, 0.1]), eps=EPS),
    st.builds(SGD, weight_decay=st.sampled_from([0.0, 0.1]), dampening=st.sampled_from([0.0, 0.2])),
    st.builds(SGD, momentum=st.just(0.9), dampening=st.sampled_from([0.0, 0.2])),
    st.builds(SGD, momentum=st.just(0.9), nesterov=st.just(True)),
)


options_of_networks = st.fixed_dictionaries(
    {
        "layers_dim": st.one_of(st.integers(1, 40), st.sampled_from([32, 64])),  # these have rows that are spaced
        "hidden_layers_num": st.integers(0, 4),
        "batch_norm": st.booleans(),
        "batch_norm_eps": st.sampled_from([1e-5, 0.1]),
        "block": st.sampled_from(["one_layer", "shared_twice", "pre_activation"]),
        "branch_scale": st.sampled_from(["none", "1/sqrt(L)", "1/L"]),
    }
)


def pack_of(options: dict[str, Any], residual: list[bool], **shared: Any) -> list[Recipe]:
    """A pack with one replica per value of `residual`. What may vary in a pack varies.

    Blocks other than `one_layer` and factors of branches require shortcuts. Pre-activation is without batch norm.
    """
    block = options.get("block", "one_layer")
    options = {**options, "batch_norm": options.get("batch_norm", False) and block != "pre_activation"}
    always = block != "one_layer" or options.get("branch_scale", "none") != "none"
    return [
        small_training.recipe(
            small_training.mlp(**options, residual=skip or always),
            seed=seed,
            lr=0.01 * (seed + 1),
            label_smoothing=0.2 * seed,
            epochs=1,
            **shared,
        )
        for seed, skip in enumerate(residual)
    ]


def noisy(name: str, params: dict[str, torch.Tensor]) -> bool:
    """Whether a parameter is a bias before batch norm, whose gradient is rounding noise that Adam amplifies."""
    return name.endswith(".bias") and f"{name.removesuffix('.bias')}.norm.bias" in params


def assert_equal(native: PackTrainer, reference: PackTrainer, tolerance: float) -> None:
    """Parameters, running statistics, the optimizer's state, and the sums of the epoch."""
    params, buffers = reference.state.params, reference.state.buffers
    for name, expected in params.items():
        allowed = max(tolerance, 1e-7) if noisy(name, params) else tolerance
        torch.testing.assert_close(native.state.params[name], expected, rtol=0, atol=allowed, msg=name)
    for name, expected in buffers.items():
        allowed = max(tolerance, 1e-7) if name.endswith("running_mean") else tolerance  # a mean contains the bias
        torch.testing.assert_close(native.state.buffers[name], expected, rtol=0, atol=allowed, msg=name)
    for slot, tensors in reference.state.optimizer_state.items():
        for position, expected in enumerate(tensors):
            torch.testing.assert_close(
                native.state.optimizer_state[slot][position], expected, rtol=1e-9, atol=tolerance, msg=slot
            )
    torch.testing.assert_close(native.state.epoch_sums, reference.state.epoch_sums, rtol=1e-10, atol=1e-10)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    options=options_of_networks,
    residual=st.lists(st.booleans(), min_size=1, max_size=3),
    optimizer=optimizers,
    batch_size=st.integers(2, 24),
    warmup=st.integers(0, 19),
)
def test_step_equals_the_reference(
    options: dict[str, Any], residual: list[bool], optimizer: Any, batch_size: int, warmup: int
):
    """From each of 20 states: the initial one, and those after steps of the reference, in which the optimizer has moments."""
    steep = options["batch_norm"] and options["batch_norm_eps"] < 0.1
    assume(batch_size > 2 or not steep)  # batch norm of two equal numbers amplifies rounding 300 times per layer
    recipes = pack_of(options, residual, optimizer=optimizer, batch_size=batch_size)
    assert NATIVE.refuses(recipes, HERE) == ""
    native, reference = (small_training.make_trainer(recipes, data=DATA) for _ in range(2))
    for step in range(warmup):
        small_training.one_step(native, "reference", step)
        small_training.one_step(reference, "reference", step)
    small_training.one_step(native, "native", warmup)
    small_training.one_step(reference, "reference", warmup)
    assert_equal(native, reference, 1e-10)


@needs_compiler
@pytest.mark.parametrize("optimizer", [Adam(), SGD(momentum=0.9)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_20_free_steps_equal_the_reference(optimizer: Any, batch_norm: bool):
    """For five layers; 4 of the steps have a smaller batch."""
    recipes = [
        small_training.recipe(
            small_training.mlp(batch_norm=batch_norm, residual=residual), seed=seed, lr=0.01, optimizer=optimizer
        )
        for seed, residual in enumerate((True, False))
    ]
    native, reference = (small_training.make_trainer(recipes) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        assert len(list(train(pack, frozenset(), BACKENDS[name].prepare(pack)))) == 4
    assert_equal(native, reference, 1e-10)


@needs_compiler
@pytest.mark.parametrize("schedule", [OneCycleLR(), ReduceLROnPlateau(patience=0, threshold=0.9)])
@pytest.mark.parametrize("optimizer", [Adam(), SGD(momentum=0.9), SGD()])
def test_schedules_equal_the_reference(schedule: Any, optimizer: Any):
    """Rates and momentum change at every step, and with the validation loss."""
    options: dict[str, Any] = {"schedule": schedule, "optimizer": optimizer}
    recipes = [small_training.recipe(small_training.mlp(), seed=seed, **options) for seed in range(2)]
    native, reference = (small_training.make_trainer(recipes) for _ in range(2))
    rates = [
        [epoch.lr for epoch in train(pack, frozenset(), BACKENDS[name].prepare(pack))]
        for pack, name in ((native, "native"), (reference, "reference"))
    ]
    assert_equal(native, reference, 1e-10)
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_bits_do_not_depend_on_the_pack(precision: str):
    """Alone, in a pack of 3, and in a pack of 16: weights, running statistics, and validation losses."""
    architecture = small_training.mlp(batch_norm=True, layers_dim=11)
    recipes = [
        small_training.recipe(architecture, seed=seed, optimizer=Adam(), precision=precision) for seed in range(16)
    ]
    results = []
    for members in (recipes[2:3], recipes[:3], recipes):
        pack = small_training.make_trainer(members)
        step = NATIVE.prepare(pack)
        assert isinstance(step, Predicts)
        pack.predictor = step
        snapshots = list(train(pack, frozenset(), step))
        slot = members.index(recipes[2])
        tensors = [
            tensor.detach()[slot].clone() for tensor in (*pack.state.params.values(), *pack.state.buffers.values())
        ]
        tensors += [epoch.validation.loss[slot] for epoch in snapshots if epoch.validation is not None]
        results.append(tensors)
    for others in results[1:]:
        assert all(torch.equal(first, other) for first, other in zip(results[0], others, strict=True))


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(
    options=options_of_networks,
    residual=st.lists(st.booleans(), min_size=1, max_size=3),
    images=st.integers(1, 30),
    shared=st.booleans(),
)
def test_predictions_equal_the_reference(options: dict[str, Any], residual: list[bool], images: int, shared: bool):
    """For images of each replica and for images of all, after some steps, and for other tensors than those in training."""
    pack = small_training.make_trainer(pack_of(options, residual))
    step = NATIVE.prepare(pack)
    assert isinstance(step, NativeStep)
    params = {name: tensor.detach().clone() for name, tensor in pack.state.params.items()}
    small_training.one_step(pack, "native", 0)
    if shared:
        batch = pack.data.normalize(DATA.test_images[:images]).expand(len(residual), -1, -1, -1, -1)
    else:
        batch = pack.data.batch(pack.train_index[:, :images])
    for weights in (pack.state.params, params):
        expected = pack.predict(weights, pack.state.buffers, batch)
        predicted = step.predict(weights, pack.state.buffers, batch)
        torch.testing.assert_close(predicted, expected, rtol=1e-10, atol=1e-10)
        if shared:
            stored = step.predict_pixels(weights, pack.state.buffers, DATA.test_images[:images])
            assert torch.equal(stored, predicted)


@needs_compiler
def test_parts_of_a_pack_do_not_predict_as_the_pack():
    """One replica, which differs in its shortcuts from the first one."""
    pack = small_training.make_trainer(pack_of({}, [False, True]))
    step = NATIVE.prepare(pack)
    assert isinstance(step, Predicts)
    pack.predictor = step
    images, replica = pack.data.batch(pack.train_index), pack.replica(1)
    alone = replica.predict(replica.state.params, replica.state.buffers, images[1:])
    expected = pack.predict(pack.state.params, pack.state.buffers, images)[1:]
    torch.testing.assert_close(alone, expected, rtol=1e-10, atol=1e-10)


@needs_compiler
def test_bits_do_not_depend_on_the_steps_per_call():
    """One, three, and eight steps per call, with a smaller last batch, and stops at the same steps."""
    recipes = [small_training.recipe(small_training.mlp(batch_norm=True), seed=seed, lr=0.01) for seed in range(3)]
    results = []
    for at_once in (1, 3, 8):
        pack = small_training.make_trainer(recipes)
        step = NATIVE.prepare(pack)
        assert isinstance(step, NativeStep)
        step.at_once = at_once
        stops = [snapshot.step for snapshot in train(pack, frozenset({0, 2, 7, 9}), step)]
        assert stops == [0, 2, 5, 7, 9, 10, 15, 20]
        results.append([*pack.state.params.values(), *pack.state.buffers.values(), pack.state.best_accuracy])
    for others in results[1:]:
        assert all(torch.equal(first, other) for first, other in zip(results[0], others, strict=True))


@needs_compiler
def test_float32_agrees_with_float64():
    recipes = [small_training.recipe(small_training.mlp(batch_norm=True), seed=seed, lr=0.01) for seed in range(3)]
    packs = [small_training.make_trainer([replace(each, precision=p) for each in recipes]) for p in ("fp32", "fp64")]
    for pack in packs:
        list(train(pack, frozenset(), NATIVE.prepare(pack)))
    for name, expected in packs[1].state.params.items():
        torch.testing.assert_close(packs[0].state.params[name].double(), expected, rtol=0, atol=1e-4, msg=name)


@needs_compiler
def test_divergence_is_noticed():
    """A loss that is not finite is recorded at its step, and other replicas go on."""
    recipes = [small_training.recipe(small_training.mlp(), seed=seed, lr=lr) for seed, lr in enumerate((1e30, 0.01))]
    native, reference = (small_training.make_trainer(recipes) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        list(train(pack, frozenset(), BACKENDS[name].prepare(pack)))
    assert native.state.diverged_at_step.tolist() == reference.state.diverged_at_step.tolist()
    assert native.state.diverged_at_step[0] > 0
    assert math.isfinite(float(native.state.epoch_sums[2, 1]))


@needs_compiler
def test_images_of_any_kind():
    """Augmented images, and float32 images."""
    recipes = [small_training.recipe(small_training.mlp(), augment=("crop",))]
    floats = replace(DATA, images=DATA.images.double())
    for data, these in ((DATA, recipes), (floats, [replace(recipes[0], augment=())])):
        native, reference = (small_training.make_trainer(these, data=data) for _ in range(2))
        small_training.one_step(native, "native", 0)
        small_training.one_step(reference, "reference", 0)
        assert_equal(native, reference, 1e-10)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"activation": "GELU"}, {}),
        ({"dropout": 0.1}, {}),
        ({"residual": True, "block": "two_layer", "hidden_layers_num": 2}, {}),
        ({"residual": True, "block": "pre_activation", "batch_norm": True}, {}),
        ({"residual": True, "block": "shared_twice", "dropout": 0.1}, {}),
        ({"residual": True, "skip_init": "rezero"}, {}),
        ({}, {"optimizer": Adam(amsgrad=True)}),
        ({}, {"optimizer": AdamW(eps=0.0)}),
        ({}, {"optimizer": RMSprop()}),
        ({}, {"gradient_clip": 1.0}),
        ({}, {"precision": "bf16"}),
        ({}, {"frozen": ("input",)}),
    ],
)
def test_refuses_what_it_does_not_compute(options: dict[str, Any], changes: dict[str, Any]):
    assert len(NATIVE.refuses([small_training.recipe(small_training.mlp(**options), **changes)], HERE)) > 10


def test_refuses_other_networks_and_machines():
    recipes = [small_training.recipe(small_training.mlp())]
    assert NATIVE.refuses([small_training.recipe(small_training.cnn())], HERE)
    assert NATIVE.refuses(small_training.distilled(recipes, [0.5], [2.0]), HERE)
    assert NATIVE.refuses(recipes, Machine("cuda", True))
    assert NATIVE.refuses(recipes, Machine("cpu", False))


def test_dense_layers_name_every_parameter():
    architecture = MLP(784, 32, 10, 3, residual=True, batch_norm=True).build((1, 28, 28))
    layers = dense_layers(architecture)
    assert layers is not None
    assert [layer.skip for layer in layers] == [None, True, True, True, None]
    assert [layer.active for layer in layers] == [True] * 4 + [False]
    names = {
        f"{name}.{kind}" for each in layers for name in (each.linear, each.norm) if name for kind in ("weight", "bias")
    }
    assert names == {parameter.name for parameter in architecture.parameters()}


def test_layers_that_are_applied_twice_follow_each_other():
    layers = dense_layers(MLP(784, 32, 10, 2, residual=True, block="shared_twice").build((1, 28, 28)))
    assert layers is not None
    assert [layer.linear for layer in layers] == ["input", *["hidden.1"] * 2, *["hidden.2"] * 2, "output"]
    assert [layer.again for layer in layers] == [False, False, True, False, True, False]
    assert [layer.skip for layer in layers] == [None, None, True, None, True, None]


def test_pre_activation_belongs_to_the_next_layer():
    network = MLP(784, 32, 10, 2, residual=True, block="pre_activation", branch_scale="1/L")
    layers = dense_layers(network.build((1, 28, 28)))
    assert layers is not None
    assert [layer.pre for layer in layers] == [False, True, True, True]
    assert [layer.active for layer in layers] == [False] * 4
    assert [layer.factor for layer in layers] == [1, 0.5, 0.5, 1]
    assert [layer.skip for layer in layers] == [None, True, True, None]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache of the user, and nothing remembered in this process."""
    monkeypatch.setattr(native_library, "user_cache_path", lambda name: tmp_path)
    for function in (
        native_library.load_library,
        native_library.find_compiler,
        native_library.describe_build,
        native_library.outcome_of,
    ):
        function.cache_clear()
    yield tmp_path
    for function in (
        native_library.load_library,
        native_library.find_compiler,
        native_library.describe_build,
        native_library.outcome_of,
    ):
        function.cache_clear()


def prepare() -> None:
    """Prepare the steps of a pack."""
    NATIVE.prepare(small_training.make_trainer([small_training.recipe(small_training.mlp())]))


def test_missing_compiler_is_reported(no_library: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(no_library))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError) as caught:
        prepare()
    assert caught.value.code == "backend-failed"


@pytest.mark.parametrize(
    "script", ["echo 'native.cpp:1: error: no header' >&2; exit 1", "exit 3", "sleep 1; kill -9 $$"]
)
def test_broken_compiler_is_reported(no_library: Path, monkeypatch: pytest.MonkeyPatch, script: str):
    compiler = no_library / "broken"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(UserError) as caught:
        prepare()
    assert caught.value.code == "backend-failed"
    assert not list((no_library / "native").glob("*.so"))


@needs_compiler
def test_wrong_numbers_are_reported(no_library: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_check, "TOLERANCE", {"fp64": 0.0})
    with pytest.raises(UserError, match="differ from the reference") as caught:
        prepare()
    assert caught.value.code == "backend-failed"


@needs_compiler
@pytest.mark.slow  # builds three times
def test_cache_that_cannot_be_used_is_left_out(no_library: Path):
    """A file in its place, and a damaged library."""
    (no_library / "native").write_text("")
    prepare()
    (no_library / "native").unlink()
    native_library.load_library.cache_clear()
    native_library.outcome_of.cache_clear()
    prepare()
    (library,) = (no_library / "native").glob("*.so")
    library.write_bytes(b"damaged")
    native_library.load_library.cache_clear()
    native_library.outcome_of.cache_clear()
    prepare()


@needs_compiler
@pytest.mark.slow  # builds twice at once
def test_two_processes_build_at_once(tmp_path: Path):
    code = "from fathomlab.engine.native_check import checked_library; checked_library('fp32'); print('ok')"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == [b"ok"] * 2
    assert len(list(tmp_path.rglob("*.so"))) == 1
