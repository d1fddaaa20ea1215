"""Networks with images as lanes of vectors: equal to the reference in float64, and as precise in float32."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.engine import maps_check
from fathomlab.engine.backends import BACKENDS, Machine, lanes, native_library
from fathomlab.engine.lanes import LanesPass
from fathomlab.engine.loop import train
from fathomlab.engine.network import ForwardPass
from fathomlab.losses.attention_transfer import AttentionTransfer
from fathomlab.models.architecture import walk
from fathomlab.models.layers import BatchNorm, Conv2d, Layer, Layers, Pad, ParameterFree, Residual, Shortcut
from fathomlab.models.resnet import CNN
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare.cost import should_separate_replicas
from tests.helpers import small_training
from tests.helpers.compilers import needs_compiler

pytestmark = needs_compiler
NATIVE, HERE = BACKENDS["native"], Machine("cpu", True)
RELU, POOL = ParameterFree("ReLU"), ParameterFree("MaxPool")

options_of_networks = st.fixed_dictionaries(
    {
        "residual": st.booleans(),
        "zero_init_residual": st.booleans(),
        "block_type": st.sampled_from(["basic", "bottleneck"]),
        "stem": st.sampled_from(["pool", "plain"]),
        "shortcut": st.sampled_from(["conv", "pad"]),
        "batch_norm_eps": st.sampled_from([1e-5, 0.1]),
        "width": st.sampled_from([1, 2, 3]),
    }
)


def layers_of(case: str, channels: int, outputs: int) -> Layers:
    """Layers that read maps with `channels` channels."""
    norm = BatchNorm("norm", outputs)
    convolutions: dict[str, Layer] = {
        f"{size}/{stride}": Conv2d("kernels", channels, outputs, size, stride) for size in (1, 3) for stride in (1, 2)
    }
    if case in convolutions:
        return (convolutions[case],)
    same = BatchNorm("same", channels)
    shortcut = Shortcut(
        (convolutions["3/2"], norm), (Conv2d("more", channels, outputs, 1, 2), BatchNorm("other", outputs))
    )
    residual = Residual((Conv2d("own", channels, channels, 3), same))
    cases: dict[str, Layers] = {
        "norm": (same,),
        "norm, relu": (same, RELU),
        "pool": (POOL,),
        "relu, pool": (same, RELU, POOL),
        "residual": (residual, RELU),
        "plain": (replace(residual, enabled=False), RELU),
        "shortcut": (shortcut, RELU),
        "pad": (Shortcut(shortcut.branch, (Pad(channels, outputs, 2),)), RELU),
        "blocks": (residual, RELU, shortcut, RELU),
    }
    return cases[case]


CASES = (
    "1/1",
    "1/2",
    "3/1",
    "3/2",
    "norm",
    "norm, relu",
    "pool",
    "relu, pool",
    "residual",
    "plain",
    "shortcut",
    "pad",
    "blocks",
)


def results_of(
    layers: Layers, inputs: dict[str, Tensor], replicas: int, dtype: torch.dtype, native: bool
) -> dict[str, Tensor]:
    """Outputs, gradients of the sum of their products with a fixed tensor, and running statistics."""
    tensors = {name: tensor.to(dtype).clone() for name, tensor in inputs.items()}
    buffers = {name: tensor for name, tensor in tensors.items() if ".running" in name}
    learned = {name: tensor.requires_grad_() for name, tensor in tensors.items() if name not in buffers}
    library = maps_check.checked_lanes("fp64" if dtype == torch.float64 else "fp32")
    run = partial(LanesPass, library, {}) if native else ForwardPass
    outputs = run(learned, buffers, "train", None, None, replicas, {}).layers(layers, learned["x"], "")
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).sin().view(outputs.shape).to(dtype)
    gradients = torch.autograd.grad((outputs * weights).sum(), list(learned.values()), allow_unused=True)
    named = {f"gradient of {name}": g for name, g in zip(learned, gradients, strict=True) if g is not None}
    return {"outputs": outputs.detach()} | named | buffers


def inputs_of(shape: tuple[int, int, int, int], outputs: int, replicas: int, seed: int) -> dict[str, Tensor]:
    """Maps, kernels, and the tensors of norms, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)

    images, channels, *size = shape
    kernels = {"kernels": outputs, "more": outputs, "own": channels}
    tensors = {"x": draw(images, replicas * channels, *size)}
    for name, count in (("norm", outputs), ("other", outputs), ("same", channels)):
        tensors |= {f"{name}.weight": draw(replicas, count), f"{name}.bias": draw(replicas, count)}
        tensors |= {f"{name}.running_{kind}": draw(replicas, count) for kind in ("mean", "var")}
    for name, count in kernels.items():
        tensors[f"{name}.weight"] = draw(replicas, count, channels, 3, 3)
    return tensors


def with_kernels(layers: Layers, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs, with kernels of the size that the layers have."""
    sizes = {layer.name: layer.kernel_size for layer in walk(layers) if isinstance(layer, Conv2d)}
    return inputs | {
        f"{name}.weight": inputs[f"{name}.weight"][..., :size, :size].contiguous() for name, size in sizes.items()
    }


def assert_step_equals_reference(recipes: list[Recipe], **options: Any) -> None:
    """One step, after one of the reference."""
    assert all(lanes.supports(recipe) for recipe in recipes)
    native, reference = (small_training.make_trainer(recipes, **options) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        small_training.one_step(pack, "reference", 0)
        small_training.one_step(pack, name, 1)
    small_training.assert_packs_equal(native, reference, 1e-10)


@settings(max_examples=150, deadline=None)
@given(
    case=st.sampled_from(CASES),
    images=st.sampled_from([16, 32, 48]),
    channels=st.integers(1, 10),
    outputs=st.integers(1, 13),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    replicas=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_layers_equal_the_reference(
    case: str, images: int, channels: int, outputs: int, height: int, width: int, replicas: int, seed: int
):
    assume(case != "pad" or outputs >= channels)
    layers = layers_of(case, channels, outputs)
    inputs = with_kernels(layers, inputs_of((images, channels, height, width), outputs, replicas, seed))
    native, reference = (results_of(layers, inputs, replicas, torch.float64, native) for native in (True, False))
    assert native.keys() == reference.keys()
    for name, expected in reference.items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(native[name], expected, rtol=0, atol=1e-10 * scale, msg=name)


@pytest.mark.parametrize(
    ("case", "channels", "outputs", "height", "width"),
    [("3/2", 64, 128, 9, 33), ("3/2", 16, 32, 33, 33), ("3/1", 64, 32, 33, 33), ("1/2", 64, 128, 33, 33)],
)
def test_maps_larger_than_the_cache_equal_the_reference(
    case: str, channels: int, outputs: int, height: int, width: int
):
    """The gradient of the kernels reads such maps in portions; for odd heights, the last row of a portion may see padding."""
    layers = layers_of(case, channels, outputs)
    inputs = with_kernels(layers, inputs_of((16, channels, height, width), outputs, 1, 0))
    native, reference = (results_of(layers, inputs, 1, torch.float64, native) for native in (True, False))
    small_training.assert_close(native, reference)


@settings(max_examples=25, deadline=None)
@given(
    options=options_of_networks,
    stages=st.sampled_from([(2, 1, 1, 1), (1, 2, 1), (1,)]),
    batch_size=st.sampled_from([16, 32]),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    replicas=st.integers(1, 3),
)
def test_step_equals_the_reference(
    options: dict[str, Any], stages: tuple[int, ...], batch_size: int, height: int, width: int, replicas: int
):
    model = CNN(layers=stages, num_classes=small_training.CLASSES, **options)
    assume(not model.validate())
    shape = (3, height, width)
    recipes = [small_training.recipe(model.build(shape), seed=seed, batch_size=batch_size) for seed in range(replicas)]
    assert NATIVE.refuses(recipes, HERE) == ""
    assert_step_equals_reference(recipes, data=small_training.make_dataset(shape, 120))


@settings(max_examples=25, deadline=None)
@given(
    options=options_of_networks,
    images=st.integers(1, 70),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    replicas=st.integers(1, 3),
)
def test_evaluation_equals_the_reference(options: dict[str, Any], images: int, height: int, width: int, replicas: int):
    """Of any number of images, with statistics that training has changed; training then continues as before."""
    model = CNN(layers=(2, 1, 1, 1), num_classes=small_training.CLASSES, **options)
    assume(not model.validate())
    shape = (3, height, width)
    recipes = [
        small_training.recipe(model.build(shape), seed=seed, batch_size=16, epochs=1) for seed in range(replicas)
    ]
    data = small_training.make_dataset(shape, 120)
    native, reference = (small_training.make_trainer(recipes, data=data) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        list(train(pack, frozenset(), BACKENDS[name].prepare(pack)))
    assert native.state.network.evaluation_pass is not ForwardPass
    state, inputs = native.state, data.normalize(data.images[:images]).expand(replicas, -1, -1, -1, -1)
    before = {name: buffer.clone() for name, buffer in state.buffers.items()}
    logits, expected = (pack.predict(state.params, state.buffers, inputs) for pack in (native, reference))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10 * max(1.0, float(expected.abs().max())))
    small_training.assert_identical(state.buffers, before)


def test_evaluation_with_gradients_uses_the_reference():
    """A student may be trained in mode `eval`."""
    pack = small_training.make_trainer([narrow()])
    NATIVE.prepare(pack)
    state = pack.state
    logits = state.network(state.params, state.buffers, pack.batch(pack.train_index[:, :16], None), "eval")
    (gradient,) = torch.autograd.grad(logits.sum(), [state.params["stem.weight"]])
    assert gradient.abs().sum() > 0


def narrow(**changes: Any) -> Recipe:
    """A recipe with 48 training images in batches of 32 and 16."""
    return small_training.recipe(small_training.cnn(), batch_size=32, **changes)


@pytest.mark.parametrize("changes", [{"gradient_clip": 0.1}, {"frozen": ("stem", "stage1")}, {"label_smoothing": 0.1}])
def test_options_of_training_are_those_of_the_reference(changes: dict[str, Any]):
    data = small_training.make_dataset(small_training.SQUARE, 120)
    assert_step_equals_reference([narrow(**changes)], data=data)


def test_students_learn_as_in_the_reference():
    recipes = small_training.distilled([narrow(seed=seed) for seed in range(3)], [0.5, 0.7, 0.9], [2.0] * 3)
    data = small_training.make_dataset(small_training.SQUARE, 120)
    assert_step_equals_reference(recipes, teachers=small_training.make_teachers(recipes, data), data=data)


def test_options_may_differ_within_a_pack():
    """Replicas run one by one then."""
    nets = [small_training.cnn(batch_norm_eps=eps) for eps in (1e-5, 0.1)]
    recipes = [replace(narrow(seed=seed), architecture=net) for seed, net in enumerate(nets)]
    assert_step_equals_reference(recipes, data=small_training.make_dataset(small_training.SQUARE, 120))


@pytest.mark.parametrize("batch_size", [16, 32])
def test_smaller_last_batches_use_the_reference(batch_size: int):
    """An epoch of 45 images: the last batch has 13, which do not fill the vectors."""
    data = small_training.make_dataset(small_training.SQUARE, 56)
    recipes = [small_training.recipe(small_training.cnn(), batch_size=batch_size, epochs=1, seed=s) for s in range(2)]
    native, reference = (small_training.make_trainer(recipes, data=data) for _ in range(2))
    for pack, name in ((native, "native"), (reference, "reference")):
        list(train(pack, frozenset(), BACKENDS[name].prepare(pack)))
    assert native.state.step == reference.state.step > 1
    small_training.assert_packs_equal(native, reference, 1e-9)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_bits_do_not_depend_on_the_pack(precision: str):
    """Alone and in a pack of 3: weights, running statistics, and validation losses."""
    architecture = small_training.cnn(width=5)
    assert should_separate_replicas(architecture)
    recipes = [
        small_training.recipe(architecture, seed=seed, epochs=2, precision=precision, batch_size=16)
        for seed in range(3)
    ]
    results = []
    for members in (recipes[2:], recipes):
        pack = small_training.make_trainer(members)
        pack.replica_trainers = tuple(pack.replica(slot) for slot in range(len(members)))
        snapshots = list(train(pack, frozenset(), NATIVE.prepare(pack)))
        results.append(small_training.replica_results(pack, snapshots, members.index(recipes[2])))
    small_training.assert_identical(*results)


def test_float32_is_as_precise_as_the_reference():
    """Over 131,072 rows, as in the stem for 128 images of 32 x 32, with a mean of 3. No ReLU: its kink would decide."""
    layers = (Conv2d("kernels", 4, 8, 3), BatchNorm("norm", 8))
    inputs = inputs_of((128, 4, 32, 32), 8, 1, 0)
    inputs["x"] += 3
    exact, native, reference = (
        results_of(layers, inputs, 1, dtype, native)
        for dtype, native in ((torch.float64, False), (torch.float32, True), (torch.float32, False))
    )
    for name, expected in exact.items():
        errors = [float((result[name] - expected).abs().max() / expected.abs().max()) for result in (native, reference)]
        assert errors[0] < max(2e-6, 1.5 * errors[1]), (name, errors)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_stay_so(bad: float):
    """NaN passes ReLU and max-pooling, so that divergence is noticed; other channels are not affected."""
    inputs = inputs_of((16, 7, 5, 4), 7, 1, 0)
    inputs["x"][2, 1, 1, 1] = bad
    native, reference = (
        results_of(layers_of("relu, pool", 7, 7), inputs, 1, torch.float64, native) for native in (True, False)
    )
    for name, expected in reference.items():
        if name != "gradient of x":  # which of several NaN has the gradient is of no use
            actual, wanted = (result.where(result.isfinite(), torch.nan) for result in (native[name], expected))
            torch.testing.assert_close(actual, wanted, equal_nan=True, msg=name)
    assert native["outputs"][:, 1].isnan().all()
    assert native["outputs"][:, 0].isfinite().all()


def test_memory_is_not_used_by_two_forward_passes():
    """The gradient of the first one would be wrong."""
    inputs = inputs_of((16, 3, 4, 4), 3, 1, 0)
    weight = inputs["kernels.weight"].requires_grad_()
    run = partial(LanesPass, maps_check.checked_lanes("fp64"), {})
    first, _ = (
        run({"kernels.weight": weight}, {}, "train", None, None, 1, {}).layers(layers_of("3/1", 3, 3), inputs["x"], "")
        for _ in range(2)
    )
    with pytest.raises(AssertionError, match="another forward pass"):
        first.sum().backward()


def test_which_networks_have_lanes():
    """Batches that fill vectors, narrow networks, and layers that the library has."""
    for changes, supported in (
        ({}, True),
        ({"batch_size": 40}, False),
        ({"precision": "fp32"}, True),
        ({"precision": "auto"}, True),
        ({"precision": "bf16"}, False),
        ({"loss": AttentionTransfer()}, False),
        ({"architecture": small_training.cnn(width=16)}, True),
        ({"architecture": small_training.cnn(width=17)}, False),
        ({"architecture": small_training.cnn(pre_activation=True)}, False),
        ({"architecture": small_training.cnn(shortcut="pad")}, True),
        ({"architecture": small_training.cnn(skip_init="rezero")}, False),
        ({"architecture": small_training.cnn(residual=False, pre_activation=True)}, True),
        ({"architecture": small_training.mlp()}, False),
    ):
        recipe = replace(narrow(), **changes)
        assert lanes.supports(recipe) == supported, changes
    assert NATIVE.refuses([narrow()], HERE) == ""
    assert "CPU" in NATIVE.refuses([narrow()], Machine("cuda", True))
    assert "compiler" in NATIVE.refuses([narrow()], Machine("cpu", False))


def test_gradients_that_would_be_overwritten_are_refused():
    """Only convolutions add to the gradient of maps that a later operation reads, too."""
    norm, other = (BatchNorm(name, 3) for name in ("norm", "other"))
    conv = Conv2d("kernels", 3, 3, 3)
    for layers, supported in (
        ((Residual((conv, norm)), RELU), True),
        ((Residual((norm, conv, other)), RELU), False),
        ((Residual((norm,)), RELU), False),
        ((Shortcut((conv, norm), (POOL,)), RELU), True),
        ((Shortcut((POOL, norm), (conv,)), RELU), False),
    ):
        assert (lanes.list_operations(layers, (3, 8, 8)) is not None) == supported, layers


def test_wrong_numbers_are_reported(monkeypatch: pytest.MonkeyPatch):
    native_library.outcome_of.cache_clear()
    monkeypatch.setattr(maps_check, "TOLERANCE", {"fp64": -1.0})
    with pytest.raises(UserError) as caught:
        NATIVE.prepare(small_training.make_trainer([narrow()]))
    assert caught.value.code == "backend-failed"
    native_library.outcome_of.cache_clear()
