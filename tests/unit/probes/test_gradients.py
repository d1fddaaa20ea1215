"""The gradient probe: naive autograd gives the same norms, in the trial's format or in float64."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.snapshot import Snapshot
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.probes.gradients import Gradients

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=12),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, dropout=0.4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, residual=False, block_type="bottleneck"),
]


def pack_of(options: MLP | CNN, small_training: ModuleType, **changes: Any) -> Any:
    """Two replicas that differ in their seed."""
    architecture = options.build(small_training.FLAT if isinstance(options, MLP) else small_training.SQUARE)
    return small_training.make_trainer([small_training.recipe(architecture, seed=seed, **changes) for seed in (5, 6)])


def measured(pack: Any, examples: int = 128) -> tuple[dict[str, Any], Tensor]:
    """What the probe says, and the images that it looked at."""
    batch, taken = pack.batch, []

    def seen(index: Tensor, epoch: int | None) -> Tensor:
        taken.append(index)
        return batch(index, epoch)

    pack.batch = seen
    found = Gradients(examples).measure(Snapshot(pack))
    pack.batch = batch
    assert len(taken) == 1
    return found, taken[0]


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_norms_are_those_of_plain_autograd(
    options: MLP | CNN, small_training: ModuleType, reference_models: ModuleType
) -> None:
    """Weights and outputs of every layer in the order of the data, batch statistics, no dropout, no augmentation."""
    pack = pack_of(options, small_training, label_smoothing=0.1, augment=("flip",) if isinstance(options, CNN) else ())
    found, index = measured(pack)
    for place in range(2):
        dry = replace(options, dropout=0.0) if isinstance(options, MLP) else options
        naive = reference_models.reference_model(dry, pack.state.params, place)
        images = pack.data.normalize(pack.data.images[index[place]])
        loss = F.cross_entropy(naive(images), pack.data.labels[index[place]], label_smoothing=0.1)
        weights = {
            n: part.weight for n, part in naive.parts.items() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert found["layers"] == list(weights)
        if isinstance(options, MLP):
            points = ["input", *(f"hidden.{layer + 1}" for layer in range(options.hidden_layers_num))]
        else:
            blocks = enumerate(options.layers, start=1)
            points = ["stem", *(f"stage{stage}.{block + 1}" for stage, count in blocks for block in range(count))]
        assert found["points"] == points
        for kind, tensors in (("weight", list(weights.values())), ("activation", naive.points)):
            gradients = torch.autograd.grad(loss, tensors, retain_graph=True)
            norms = torch.stack([gradient.norm() for gradient in gradients])
            torch.testing.assert_close(found[kind][place], norms, rtol=1e-10, atol=0)


def test_the_tenth_layer_follows_the_ninth(small_training: ModuleType) -> None:
    """Twelve hidden layers come in the order of the data, not of their names."""
    found, _ = measured(pack_of(MODELS[0], small_training))
    assert found["layers"] == ["input", *(f"hidden.{place}" for place in range(1, 13)), "output"]
    assert found["points"] == found["layers"][:-1]
    assert found["weight"].shape == (2, 14)
    assert found["activation"].shape == (2, 13)


def test_the_batch_is_fixed_for_each_seed(small_training: ModuleType) -> None:
    """Training images, each once; the same at every snapshot and in every pack, others for another seed."""
    pack = pack_of(MODELS[1], small_training, batch_size=20)
    (_, first), (_, second) = measured(pack), measured(pack)
    assert torch.equal(first, second)
    assert first.shape == (2, 20)
    alone = small_training.make_trainer([pack.recipes[1]])
    assert torch.equal(measured(alone)[1][0], first[1])
    for place in range(2):
        assert len(set(first[place].tolist())) == 20
        assert set(first[place].tolist()) <= set(pack.train_index[place].tolist())
    assert not torch.equal(first[0], first[1])
    assert measured(pack, 8)[1].shape == (2, 8)


def test_students_are_measured_on_their_own_loss(small_training: ModuleType) -> None:
    """A distilled student's gradient holds the teacher's part; a replica's does not depend on its pack."""
    architecture = small_training.mlp()
    recipes = [small_training.recipe(architecture, seed=seed) for seed in (5, 6)]
    taught = small_training.distilled(recipes, (0.9, 0.9), (4.0, 4.0))
    data = small_training.make_dataset(small_training.FLAT)
    pack = small_training.make_trainer(taught, small_training.make_teachers(taught, data), data)
    plain, _ = measured(small_training.make_trainer(recipes, None, data))
    found, index = measured(pack)
    assert not torch.allclose(found["weight"], plain["weight"], rtol=0.1)
    logits = pack.forward(pack.batch(index, None), "probe")
    loss = pack.objective(logits, index).mean(1).sum()
    gradient = torch.autograd.grad(loss, pack.state.params["output.weight"])[0]
    torch.testing.assert_close(found["weight"][:, -1], gradient.flatten(1).norm(dim=1), rtol=1e-12, atol=0)


def test_tiny_gradients_do_not_vanish_in_float32(small_training: ModuleType) -> None:
    """Norms are taken in float64: the square of 1e-25 is no zero."""
    pack = pack_of(MLP(**DENSE, hidden_layers_num=100, activation="Tanh"), small_training, precision="fp32")
    found, _ = measured(pack)
    assert found["activation"].dtype == torch.float64
    assert 0 < float(found["activation"][:, 0].max()) < 1e-20


@pytest.mark.parametrize("options", [MODELS[0], MODELS[2], MODELS[3]], ids=str)
def test_float64_is_plain_autograd_in_float64(
    options: MLP | CNN, small_training: ModuleType, reference_models: ModuleType
) -> None:
    """A float32 pack's own weights and images, computed in float64 to its last digits; float32 has seven."""
    pack = pack_of(options, small_training, precision="fp32")
    coarse, fine = Gradients().measure(Snapshot(pack)), Gradients(float64=True).measure(Snapshot(pack))
    assert (coarse["dtype"], fine["dtype"]) == ("float32", "float64")
    index = Snapshot(pack).probe_batch(128)
    mean, scale = pack.data.mean.double(), pack.data.scale.double()
    for place in range(2):
        naive = reference_models.reference_model(options, pack.state.params, place)
        loss = F.cross_entropy(
            naive((pack.data.images[index[place]].double() - mean) * scale), pack.data.labels[index[place]]
        )
        norms = torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, naive.points)])
        torch.testing.assert_close(fine["activation"][place], norms, rtol=1e-10, atol=0)
        torch.testing.assert_close(coarse["activation"][place], norms, rtol=1e-3, atol=0)
    assert not torch.equal(fine["activation"], coarse["activation"])


@pytest.mark.parametrize("augment", [(), ("flip",)], ids=str)
def test_float64_takes_the_teachers_along(augment: tuple[str, ...], small_training: ModuleType) -> None:
    """A float32 pack of students measured in float64 is the same pack trained in float64, teachers and views included."""
    architecture = small_training.cnn()
    found = []
    for precision, dtype in (("fp64", torch.float64), ("fp32", torch.float32)):
        recipes = [
            small_training.recipe(architecture, seed=seed, precision=precision, augment=augment) for seed in (5, 6)
        ]
        students = small_training.distilled(recipes, (0.9, 0.5), (4.0, 2.0))
        data = small_training.make_dataset(small_training.SQUARE, dtype=dtype)
        found.append(
            Gradients(float64=True).measure(
                Snapshot(small_training.make_trainer(students, small_training.make_teachers(students, data), data))
            )
        )
    for kind in ("weight", "activation"):
        torch.testing.assert_close(found[0][kind], found[1][kind], rtol=1e-5, atol=0)


def test_float64_keeps_gradients_that_float32_loses(small_training: ModuleType) -> None:
    """Below 1e-38 nothing is left in float32; the slope goes on in float64."""
    deep = MLP(**DENSE, hidden_layers_num=220, activation="Tanh")
    coarse, fine = (
        Gradients(float64=wide).measure(Snapshot(pack_of(deep, small_training, precision="fp32")))
        for wide in (False, True)
    )
    assert float(coarse["activation"][:, 0].max()) == 0
    assert 0 < float(fine["activation"][:, 0].min()) < 1e-38
