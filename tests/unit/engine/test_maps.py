"""The native batch norm of maps: equal to the reference in float64, as precise in float32, and independent of the pack."""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.engine import maps_check
from fathomlab.engine.backends import BACKENDS, Machine, native_library
from fathomlab.engine.backends.maps import SOURCE
from fathomlab.engine.loop import train
from fathomlab.engine.maps import POOL, RELU, MapsPass
from fathomlab.engine.network import ForwardPass
from fathomlab.losses.attention_transfer import AttentionTransfer
from fathomlab.models.layers import BatchNorm, Layers, Residual, Shortcut, Tap
from fathomlab.models.resnet import CNN
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare.cost import should_separate_replicas
from tests.helpers import small_training
from tests.helpers.compilers import needs_compiler

pytestmark = needs_compiler
NATIVE, HERE = BACKENDS["native"], Machine("cpu", True)
CHANNELS = (1, 3, 7, 10, 16, 33, 64, 100, 128)

options_of_networks = st.fixed_dictionaries(
    {
        "residual": st.booleans(),
        "pre_activation": st.booleans(),
        "zero_init_residual": st.booleans(),
        "skip_init": st.sampled_from(["none", "rezero"]),
        "shortcut": st.sampled_from(["conv", "pad"]),
        "block_type": st.sampled_from(["basic", "bottleneck"]),
        "stem": st.sampled_from(["pool", "plain"]),
        "batch_norm_eps": st.sampled_from([1e-5, 0.1]),
        "width": st.sampled_from([4, 5, 7]),
    }
)


def cases(channels: int, eps: float = 1e-5) -> dict[str, Layers]:
    """What follows a batch norm."""
    norm = BatchNorm("norm", channels, eps)
    return {
        "nothing": (norm,),
        "relu": (norm, RELU),
        "addition": (Residual((norm,)), RELU),
        "no addition": (Residual((norm,), False), RELU),
        "pool": (norm, RELU, POOL),
        "pool after a tap": (norm, RELU, Tap("tap"), POOL),
        "shortcut": (Shortcut((norm,), (BatchNorm("other", channels, eps),)), RELU),
    }


def inputs_of(shape: tuple[int, int, int, int], seed: int = 0, offset: float = 0.0) -> dict[str, Tensor]:
    """Maps, the gradient of their outputs, and the tensors of the norms."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    tensors = {
        "x": torch.randn(shape, generator=generator, dtype=torch.float64) + offset,
        "gradient": torch.randn(shape, generator=generator, dtype=torch.float64),
    }
    for norm in ("norm", "other"):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{kind}"] = torch.rand(1, channels, generator=generator, dtype=torch.float64)
    return tensors


def results_of(
    layers: Layers, inputs: dict[str, Tensor], dtype: torch.dtype, native: bool, maps: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Outputs, gradients, and running statistics; `maps` is another format of maps and their gradients."""
    formats = {"x": maps, "gradient": maps} if maps else {}
    tensors = {name: tensor.to(formats.get(name, dtype)) for name, tensor in inputs.items()}
    params = {name: tensor for name, tensor in tensors.items() if name.endswith((".weight", ".bias"))}
    buffers = {name: tensor.clone() for name, tensor in tensors.items() if ".running" in name}
    learned = {"x": tensors["x"]} | params
    for tensor in learned.values():
        tensor.requires_grad_()
    precision = "fp64" if dtype == torch.float64 else "fp32"
    run = partial(MapsPass, maps_check.checked_maps(precision)) if native else ForwardPass
    outputs = run(params, buffers, "train", None, None, 1, {}).layers(layers, tensors["x"], "")
    gradient = tensors["gradient"] if outputs.shape == inputs["x"].shape else tensors["gradient"][:, :, ::2, ::2]
    gradients = torch.autograd.grad(outputs, list(learned.values()), gradient, allow_unused=True)
    named = {
        f"gradient of {name}": tensor for name, tensor in zip(learned, gradients, strict=True) if tensor is not None
    }
    return {"outputs": outputs.detach()} | named | buffers


def assert_step_equals_reference(recipes: list[Recipe], tolerance: float = 1e-10, **options: Any) -> None:
    """One step, after one of the reference."""
    native, reference = (small_training.make_trainer(recipes, **options) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        small_training.one_step(pack, "reference", 0)
        small_training.one_step(pack, name, 1)
    small_training.assert_packs_equal(native, reference, tolerance)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(sorted(cases(1))),
    n=st.integers(1, 9),
    channels=st.sampled_from(CHANNELS),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    eps=st.sampled_from([1e-5, 0.1]),
    seed=st.integers(0, 99),
)
def test_norm_equals_the_reference(case: str, n: int, channels: int, height: int, width: int, eps: float, seed: int):
    inputs, layers = inputs_of((n, channels, height, width), seed), cases(channels, eps)[case]
    native, reference = (results_of(layers, inputs, torch.float64, native) for native in (True, False))
    for name, expected in reference.items():
        scale = max(1.0, float(expected.abs().max()))  # the gradient for a single number is noise around 0
        torch.testing.assert_close(native[name], expected, rtol=0, atol=1e-10 * scale, msg=name)


@settings(max_examples=25, deadline=None)
@given(
    options=options_of_networks,
    batch_size=st.integers(2, 9),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
)
def test_step_equals_the_reference(options: dict[str, Any], batch_size: int, height: int, width: int):
    model = CNN(layers=(2, 1, 1, 1), num_classes=small_training.CLASSES, **options)
    assume(not model.validate())
    shape = (3, height, width)
    recipes = [small_training.recipe(model.build(shape), seed=seed, batch_size=batch_size) for seed in range(2)]
    assert NATIVE.refuses(recipes, HERE) == ""
    assert_step_equals_reference(recipes, data=small_training.make_dataset(shape))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": RMSprop()},
        {"gradient_clip": 0.1},
        {"frozen": ("stem", "stage1")},
        {"label_smoothing": 0.1},
        {"augment": ("crop",)},
    ],
)
def test_options_of_training_are_those_of_the_reference(changes: dict[str, Any]):
    assert_step_equals_reference([small_training.recipe(small_training.cnn(width=4), **changes)])


@pytest.mark.parametrize("features", [False, True])
def test_students_learn_as_in_the_reference(features: bool):
    recipes = [small_training.recipe(small_training.cnn(width=4), seed=seed) for seed in range(2)]
    recipes = small_training.distilled(recipes, [0.5, 0.5], [2.0, 2.0])
    if features:
        recipes = [replace(recipe, loss=AttentionTransfer()) for recipe in recipes]
    data = small_training.make_dataset(small_training.SQUARE)
    assert_step_equals_reference(recipes, teachers=small_training.make_teachers(recipes, data), data=data)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_bits_do_not_depend_on_the_pack(precision: str):
    """Alone and in a pack of 3: weights, running statistics, and validation losses."""
    architecture = small_training.cnn(width=5)
    recipes = [small_training.recipe(architecture, seed=seed, epochs=2, precision=precision) for seed in range(3)]
    results = []
    for members in (recipes[2:], recipes):
        pack = small_training.make_trainer(members)
        snapshots = list(train(pack, frozenset(), NATIVE.prepare(pack)))
        results.append(small_training.replica_results(pack, snapshots, members.index(recipes[2])))
    small_training.assert_identical(*results)


@pytest.mark.parametrize("case", ["relu", "addition"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_float32_is_as_precise_as_the_reference(case: str, offset: float):
    """Over 131,072 rows, as in the stem for 128 images of 32 x 32. Elements whose ReLU is at its kink are left out."""
    inputs, layers = inputs_of((128, 16, 32, 32), offset=offset), cases(16)[case]
    exact = results_of(layers, inputs, torch.float64, native=False)
    inputs["gradient"] *= (exact["outputs"] == 0) | (exact["outputs"] > 1e-4)
    exact = results_of(layers, inputs, torch.float64, native=False)
    errors = [
        {
            name: float((tensor - exact[name]).abs().max() / exact[name].abs().max())
            for name, tensor in results_of(layers, inputs, torch.float32, native).items()
        }
        for native in (True, False)
    ]
    for name, error in errors[0].items():
        assert error < max(2e-6, 1.5 * errors[1][name]), (name, error, errors[1][name])


def test_tapped_maps_are_those_before_the_pooling():
    inputs, layers = inputs_of((2, 64, 5, 6)), cases(64)["pool after a tap"]
    params = {name: tensor for name, tensor in inputs.items() if name.endswith((".weight", ".bias"))}
    tapped: list[Tensor] = []
    run = MapsPass(maps_check.checked_maps("fp64"), params, inputs, "train", None, tapped, 1, {})
    outputs = run.layers(layers, inputs["x"], "")
    assert [maps.shape for maps in tapped] == [(2, 64, 5, 6)]
    assert torch.equal(outputs, torch.nn.functional.max_pool2d(tapped[0], 3, 2, 1))


@pytest.mark.parametrize(
    ("case", "channels"), [*product(["nothing", "relu", "addition"], CHANNELS), ("pool", 64), ("pool", 128)]
)
def test_bf16_is_rounded_once(case: str, channels: int):
    """Maps differ from exact ones by half a unit in their last place, those of the reference up to twice as much."""
    inputs, layers = inputs_of((5, channels, 6, 7)), cases(channels)[case]
    inputs |= {name: inputs[name].bfloat16().double() for name in ("x", "gradient")}
    exact = results_of(layers, inputs, torch.float64, native=False)
    rounded = results_of(layers, inputs, torch.float32, native=True, maps=torch.bfloat16)
    for name in ("outputs", "gradient of x"):
        assert rounded[name].dtype == torch.bfloat16
        # After an addition, the gradient of x is the sum of two that were rounded.
        allowed = 0.05 if case == "addition" and name == "gradient of x" else 1e-5
        torch.testing.assert_close(rounded[name].double(), exact[name], rtol=2**-7.99, atol=allowed, msg=name)
    for name in ("gradient of norm.weight", "gradient of norm.bias", "norm.running_mean", "norm.running_var"):
        torch.testing.assert_close(rounded[name].double(), exact[name], rtol=1e-5, atol=1e-4, msg=name)


def test_bf16_rounds_ties_to_even():
    """In groups of vectors and in the numbers after them."""
    inputs = inputs_of((5, 7, 6, 7))
    inputs["norm.weight"].zero_()
    inputs["norm.bias"].copy_(torch.tensor([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 2**-120 * 3, 3e38, 0.1]))
    results = results_of(cases(7)["nothing"], inputs, torch.float32, native=True, maps=torch.bfloat16)
    expected = inputs["norm.bias"].float().bfloat16().view(1, -1, 1, 1)
    assert torch.equal(results["outputs"], expected.expand(5, 7, 6, 7))


def test_bf16_step_agrees_with_the_reference():
    """Products and maps in bf16, and everything else in float32."""
    recipe = small_training.recipe(small_training.cnn(width=8), precision="bf16")
    native, reference = (small_training.make_trainer([recipe]) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        small_training.one_step(pack, name, 0)
    for name, expected in (reference.state.params | reference.state.buffers).items():
        actual = (native.state.params | native.state.buffers)[name]
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.02, msg=name)


@pytest.mark.parametrize(("case", "channels"), [("relu", 7), ("addition", 7), ("pool", 64)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_stay_so(case: str, channels: int, bad: float):
    """NaN passes the ReLU, so that divergence is noticed; other channels are not affected."""
    inputs = inputs_of((5, channels, 3, 3))
    inputs["x"][2, 1, 1, 1] = bad
    native, reference = (results_of(cases(channels)[case], inputs, torch.float64, native) for native in (True, False))
    for name, expected in reference.items():
        actual = native[name].where(native[name].isfinite(), torch.nan)
        torch.testing.assert_close(actual, expected.where(expected.isfinite(), torch.nan), equal_nan=True, msg=name)
    assert native["outputs"][:, 1].isnan().all()


def test_divergence_is_noticed():
    recipes = [small_training.recipe(small_training.cnn(width=4), lr=lr, epochs=2) for lr in (1e30, 0.01)]
    native, reference = (small_training.make_trainer(recipes) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        list(train(pack, frozenset(), BACKENDS[name].prepare(pack)))
    assert native.state.diverged_at_step.tolist() == reference.state.diverged_at_step.tolist()
    assert native.state.diverged_at_step[0] > 0 == native.state.diverged_at_step[1]


def test_other_modes_use_the_reference():
    """Probes and evaluation have the same bits with every backend."""
    packs = [small_training.make_trainer([small_training.recipe(small_training.cnn(width=4))]) for _ in range(2)]
    NATIVE.prepare(packs[0])
    images = packs[0].batch(packs[0].train_index[:, :10], None)
    for mode in ("probe", "eval", "train"):
        first, second = (pack.forward(images, mode) for pack in packs)
        assert torch.equal(first, second) == (mode != "train")


def test_refuses_what_gains_nothing():
    """And other machines. Replicas of every network that is not refused also run one by one in the reference."""
    for width in range(1, 9):
        for block_type in ("basic", "bottleneck"):
            recipe = small_training.recipe(small_training.cnn(width=width, block_type=block_type))
            supported = NATIVE.refuses([recipe], HERE) == ""
            assert supported == should_separate_replicas(recipe.architecture)
    recipe = small_training.recipe(small_training.cnn(width=8))
    for precision in ("fp32", "fp64", "bf16", "auto"):
        assert NATIVE.refuses([replace(recipe, precision=precision)], HERE) == ""
    assert "CPU" in NATIVE.refuses([recipe], Machine("cuda", True))
    assert "compiler" in NATIVE.refuses([recipe], Machine("cpu", False))


def test_wrong_numbers_are_reported(monkeypatch: pytest.MonkeyPatch):
    native_library.outcome_of.cache_clear()
    monkeypatch.setattr(maps_check, "TOLERANCE", {"fp64": -1.0})
    pack = small_training.make_trainer([small_training.recipe(small_training.cnn(width=4))])
    with pytest.raises(UserError) as caught:
        NATIVE.prepare(pack)
    assert caught.value.code == "backend-failed"
    native_library.outcome_of.cache_clear()


def test_both_sources_have_a_library_of_their_own():
    libraries = [native_library.load_library("double", source) for source in (native_library.SOURCE, SOURCE)]
    assert [hasattr(library, "maps_forward") for library in libraries] == [False, True]
