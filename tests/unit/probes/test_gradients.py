"""The gradient probe equals plain autograd, in the format of the trial or in float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.snapshot import Snapshot
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.probes.gradients import Gradients
from tests.helpers import reference_models, small_training

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=12),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, dropout=0.4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, residual=False, block_type="bottleneck"),
]


def make_pack(options: MLP | CNN, **changes: Any) -> Any:
    """Create a pack of two replicas that differ in their seed."""
    architecture = options.build(small_training.FLAT if isinstance(options, MLP) else small_training.SQUARE)
    return small_training.make_trainer([small_training.recipe(architecture, seed=seed, **changes) for seed in (5, 6)])


def measure(pack: Any, examples: int = 128) -> tuple[dict[str, Any], Tensor]:
    """Measure a pack. Return the columns and the indices of the images that were used."""
    batch, taken = pack.batch, []

    def record(index: Tensor, epoch: int | None) -> Tensor:
        taken.append(index)
        return batch(index, epoch)

    pack.batch = record
    columns = Gradients(examples).measure(Snapshot(pack))
    pack.batch = batch
    assert len(taken) == 1
    return columns, taken[0]


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_gradients_equal_plain_autograd(options: MLP | CNN) -> None:
    """Weights and outputs of every layer, with batch statistics, without dropout and augmentation."""
    pack = make_pack(options, label_smoothing=0.1, augment=("flip",) if isinstance(options, CNN) else ())
    columns, index = measure(pack)
    for slot in range(2):
        without_dropout = replace(options, dropout=0.0) if isinstance(options, MLP) else options
        reference = reference_models.reference_model(without_dropout, pack.state.params, slot)
        images = pack.data.normalize(pack.data.images[index[slot]])
        loss = F.cross_entropy(reference(images), pack.data.labels[index[slot]], label_smoothing=0.1)
        weights = {
            n: module.weight
            for n, module in reference.modules_by_name.items()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert columns["layers"] == list(weights)
        if isinstance(options, MLP):
            points = ["input", *(f"hidden.{layer + 1}" for layer in range(options.hidden_layers_num))]
        else:
            blocks = enumerate(options.layers, start=1)
            points = ["stem", *(f"stage{stage}.{block + 1}" for stage, count in blocks for block in range(count))]
        assert columns["points"] == points
        for kind, tensors in (("weight", list(weights.values())), ("activation", reference.points)):
            gradients = torch.autograd.grad(loss, tensors, retain_graph=True)
            norms = torch.stack([gradient.norm() for gradient in gradients])
            torch.testing.assert_close(columns[kind][slot], norms, rtol=1e-10, atol=0)


def test_layers_are_in_forward_order() -> None:
    """hidden.10 follows hidden.9, not hidden.1."""
    columns, _ = measure(make_pack(MODELS[0]))
    assert columns["layers"] == ["input", *(f"hidden.{index}" for index in range(1, 13)), "output"]
    assert columns["points"] == columns["layers"][:-1]
    assert columns["weight"].shape == (2, 14)
    assert columns["activation"].shape == (2, 13)


def test_probe_batch_is_fixed_per_seed() -> None:
    """Different training images, the same in every snapshot and pack, and others for another seed."""
    pack = make_pack(MODELS[1], batch_size=20)
    (_, first), (_, second) = measure(pack), measure(pack)
    assert torch.equal(first, second)
    assert first.shape == (2, 20)
    alone = small_training.make_trainer([pack.recipes[1]])
    assert torch.equal(measure(alone)[1][0], first[1])
    for slot in range(2):
        assert len(set(first[slot].tolist())) == 20
        assert set(first[slot].tolist()) <= set(pack.train_index[slot].tolist())
    assert not torch.equal(first[0], first[1])
    assert measure(pack, 8)[1].shape == (2, 8)


def test_students_are_measured_with_distillation_loss() -> None:
    architecture = small_training.mlp()
    recipes = [small_training.recipe(architecture, seed=seed) for seed in (5, 6)]
    students = small_training.distilled(recipes, (0.9, 0.9), (4.0, 4.0))
    data = small_training.make_dataset(small_training.FLAT)
    pack = small_training.make_trainer(students, small_training.make_teachers(students, data), data)
    plain, _ = measure(small_training.make_trainer(recipes, None, data))
    columns, index = measure(pack)
    assert not torch.allclose(columns["weight"], plain["weight"], rtol=0.1)
    logits = pack.forward(pack.batch(index, None), "probe")
    loss = pack.objective(logits, index).mean(1).sum()
    gradient = torch.autograd.grad(loss, pack.state.params["output.weight"])[0]
    torch.testing.assert_close(columns["weight"][:, -1], gradient.flatten(1).norm(dim=1), rtol=1e-12, atol=0)


def test_tiny_norms_do_not_underflow_in_float32() -> None:
    """Norms are computed in float64: the square of 1e-25 is not zero."""
    pack = make_pack(MLP(**DENSE, hidden_layers_num=100, activation="Tanh"), precision="fp32")
    columns, _ = measure(pack)
    assert columns["activation"].dtype == torch.float64
    assert 0 < float(columns["activation"][:, 0].max()) < 1e-20


@pytest.mark.parametrize("options", [MODELS[0], MODELS[2], MODELS[3]], ids=str)
def test_float64_option_equals_autograd_in_float64(options: MLP | CNN) -> None:
    """The weights and images of a float32 pack, measured in float64."""
    pack = make_pack(options, precision="fp32")
    float32, float64 = Gradients().measure(Snapshot(pack)), Gradients(float64=True).measure(Snapshot(pack))
    assert (float32["dtype"], float64["dtype"]) == ("float32", "float64")
    index = Snapshot(pack).probe_batch(128)
    mean, scale = pack.data.mean.double(), pack.data.scale.double()
    for slot in range(2):
        reference = reference_models.reference_model(options, pack.state.params, slot)
        loss = F.cross_entropy(
            reference((pack.data.images[index[slot]].double() - mean) * scale), pack.data.labels[index[slot]]
        )
        norms = torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, reference.points)])
        torch.testing.assert_close(float64["activation"][slot], norms, rtol=1e-10, atol=0)
        torch.testing.assert_close(float32["activation"][slot], norms, rtol=1e-3, atol=0)
    assert not torch.equal(float64["activation"], float32["activation"])


@pytest.mark.parametrize("augment", [(), ("flip",)], ids=str)
def test_float64_option_converts_teachers(augment: tuple[str, ...]) -> None:
    """A float32 pack of students measured in float64 equals the pack in float64."""
    architecture = small_training.cnn()
    results = []
    for precision, dtype in (("fp64", torch.float64), ("fp32", torch.float32)):
        recipes = [
            small_training.recipe(architecture, seed=seed, precision=precision, augment=augment) for seed in (5, 6)
        ]
        students = small_training.distilled(recipes, (0.9, 0.5), (4.0, 2.0))
        data = small_training.make_dataset(small_training.SQUARE, dtype=dtype)
        results.append(
            Gradients(float64=True).measure(
                Snapshot(small_training.make_trainer(students, small_training.make_teachers(students, data), data))
            )
        )
    for kind in ("weight", "activation"):
        torch.testing.assert_close(results[0][kind], results[1][kind], rtol=1e-5, atol=0)


def test_float64_option_resolves_gradients_below_1e_38() -> None:
    pack = make_pack(MLP(**DENSE, hidden_layers_num=20, activation="Tanh"), precision="fp32")
    with torch.no_grad():
        for value in pack.state.params.values():
            value *= 0.01
    float32, float64 = (Gradients(float64=on).measure(Snapshot(pack)) for on in (False, True))
    assert float(float32["activation"][:, 0].max()) == 0
    assert 0 < float(float64["activation"][:, 0].min()) < 1e-38
