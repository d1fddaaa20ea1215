"""Placebos against closed forms and naive twins, and what they leave of a teacher in a trained student."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.engine.targets import class_mean, label_smoothing, placebo_targets
from fathomlab.engine.teachers import TeacherPack
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training

CLASSES = 3
EXACT = torch.float64


def random_logits(images: int = 200, classes: int = 10, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(images, classes, dtype=EXACT, generator=generator) * scale
    return logits, torch.randint(classes, (images,), generator=generator)


def sources(placebo: str, seeds: tuple[int, ...] = (3, 4), **changes: Any) -> tuple[Tensor, Any]:
    """The image whose outputs each image gets, and the pack."""
    architecture = small_training.mlp()
    recipes = [small_training.recipe(architecture, seed=seed, placebo=placebo, **changes) for seed in seeds]
    recipes = small_training.distilled(recipes, (0.7,) * len(seeds), (3.0,) * len(seeds))
    data = small_training.make_dataset(architecture.shape)
    pack = small_training.make_trainer(recipes, small_training.make_teachers(recipes, data), data)
    assert pack._placebo.source is not None
    return pack._placebo.source, pack


@pytest.mark.parametrize("placebo", ["shuffled", "within_class"])
def test_permutations_move_every_training_image(placebo: str) -> None:
    """Each training image gets the outputs of another one, of its class or not, and each is used once. Others keep theirs."""
    source, pack = sources(placebo)
    for slot, row in enumerate(source):
        index, held_out = pack.train_index[slot], pack.validation_index[slot]
        assert torch.equal(row[index].sort().values, index.sort().values)
        assert (row[index] != index).all()
        assert torch.equal(row[held_out], held_out)
        same_class = pack.data.labels[row[index]] == pack.data.labels[index]
        assert bool(same_class.all()) == (placebo == "within_class")
    assert not torch.equal(source[0], source[1])


def test_permutations_are_functions_of_the_seed() -> None:
    """Not of the pack, of the order of the seeds, or of anything else of the recipe."""
    first, _ = sources("shuffled", (3, 4))
    second, _ = sources("shuffled", (4, 3, 5), epochs=1, lr=0.1)
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])


def test_class_with_one_image_keeps_its_outputs() -> None:
    _, pack = sources("within_class")
    labels = torch.zeros_like(pack.data.labels)
    labels[pack.train_index[0, 7]] = 1
    lonely = placebo_targets(pack.recipes[:1], pack.teachers, replace(pack.data, labels=labels), pack.train_index[:1])
    moved = lonely.source[0] != torch.arange(60)  # type: ignore[index]
    assert int(moved.sum()) == 47
    assert not moved[pack.train_index[0, 7]]


def test_class_mean_is_the_mean_of_the_softened_probabilities() -> None:
    """Against a naive mean, at several temperatures; softmax(z / T) gives it back."""
    logits, labels = random_logits()
    for temperature in (0.5, 1.0, 4.0):
        outputs = class_mean(logits, labels, temperature)
        for label in range(10):
            expected = torch.stack(
                [(z / temperature).softmax(-1) for z, y in zip(logits, labels, strict=True) if y == label]
            ).mean(0)
            torch.testing.assert_close((outputs[label] / temperature).softmax(-1), expected, rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(outputs[label], temperature * expected.log(), rtol=1e-9, atol=1e-9)


def test_class_mean_is_finite_where_probabilities_underflow() -> None:
    outputs = class_mean(torch.tensor([[2000.0, 0.0], [1000.0, 0.0]], dtype=EXACT), torch.tensor([0, 0]), 1.0)
    assert torch.isfinite(outputs).all()
    assert outputs[0].tolist() == pytest.approx([0.0, -1000 - torch.log(torch.tensor(2.0)).item()])


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_label_smoothing_has_the_mean_entropy_of_the_teacher(temperature: float, scale: float) -> None:
    logits, labels = random_logits(scale=scale)
    p = (logits / temperature).softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    outputs = (label_smoothing(logits, labels, temperature) / temperature).softmax(-1)
    torch.testing.assert_close(-(outputs * outputs.log()).sum(-1), entropy.expand(10), rtol=0, atol=1e-6)
    for label, row in enumerate(outputs):
        others = torch.cat([row[:label], row[label + 1 :]])
        assert float(others.max() - others.min()) < 1e-12
        assert float(row[label]) >= float(others[0]) - 1e-12


def test_label_smoothing_of_certain_and_of_uniform_teachers() -> None:
    """No infinity at the ends: an entropy of zero, and that of equal logits."""
    certain = label_smoothing(torch.eye(4, dtype=EXACT) * 1e6, torch.arange(4), 2.0)
    assert torch.isfinite(certain).all()
    assert float((certain / 2).softmax(-1).diagonal().min()) > 1 - 1e-9
    uniform = label_smoothing(torch.zeros(4, 4, dtype=EXACT), torch.arange(4), 2.0)
    torch.testing.assert_close((uniform / 2).softmax(-1), torch.full((4, 4), 0.25, dtype=EXACT), rtol=0, atol=1e-7)


@pytest.mark.parametrize("placebo", ["class_mean", "label_smoothing"])
def test_outputs_by_class_use_the_training_images_and_each_temperature(placebo: str) -> None:
    """Only training images of the replica count, at its temperature; T is 1 for a loss without one."""
    architecture = small_training.mlp()
    recipes = [small_training.recipe(architecture, seed=seed, placebo=placebo) for seed in (3, 4, 5)]
    recipes = small_training.distilled(recipes, (0.7,) * 3, (3.0, 5.0, 1.0))
    data = small_training.make_dataset(architecture.shape)
    teachers = small_training.make_teachers(recipes, data)
    exact = teachers.logits.clone()
    for slot, row in enumerate(small_training.make_trainer(recipes, teachers, data).validation_index):
        teachers.logits[slot, row] = torch.nan  # must not be read
    pack = small_training.make_trainer(recipes, teachers, data)
    function = {"class_mean": class_mean, "label_smoothing": label_smoothing}[placebo]
    outputs = pack.teacher_logits(pack.train_index, None)
    assert outputs is not None
    for slot, (row, temperature) in enumerate(zip(pack.train_index, (3.0, 5.0, 1.0), strict=True)):
        labels = data.labels[row]
        expected = function(exact[slot, row], labels, temperature)[labels]
        assert torch.equal(outputs[slot], expected)
    others = [replace(recipe, loss=CrossEntropy()) for recipe in recipes[2:]]
    alone = placebo_targets(others, teachers.replica(2), data, pack.train_index[2:]).by_class
    assert alone is not None
    row = pack.train_index[2]
    assert torch.equal(alone[0], function(exact[2, row], data.labels[row], 1.0))


def test_within_class_keeps_the_means_of_the_classes() -> None:
    """The mean of the targets of a class stays, the target of an image does not."""
    _, pack = sources("within_class")
    plain = pack.teachers.stored(pack.train_index)
    permuted = pack.teacher_logits(pack.train_index, None)
    labels = pack.data.labels[pack.train_index]
    for slot in range(2):
        for label in range(CLASSES):
            rows = labels[slot] == label
            torch.testing.assert_close(permuted[slot, rows].mean(0), plain[slot, rows].mean(0), rtol=1e-12, atol=1e-12)
    assert float((permuted - plain).abs().amax(-1).min()) > 0
    _, shuffled = sources("shuffled")
    other = shuffled.teacher_logits(shuffled.train_index, None)
    means = [each[0, labels[0] == 0].mean(0) for each in (other, plain)]
    assert float((means[0] - means[1]).abs().max()) > 1e-4


def agreement(placebo: str | None, alpha: float) -> float:
    """How often trained students predict the class of a teacher that knows something else than the labels, on new images."""
    architecture, count = small_training.mlp(hidden_layers_num=1, layers_dim=16), 300
    options: dict[str, Any] = {"placebo": placebo, "epochs": 30, "lr": 0.5, "batch_size": 48}
    recipes: list[Recipe] = [small_training.recipe(architecture, seed=seed, **options) for seed in (3, 4, 5, 6)]
    recipes = [replace(each, loss=Distillation(1.0, alpha), teachers=(architecture,)) for each in recipes]
    generator = torch.Generator().manual_seed(9)
    brightness = torch.randint(0, 230, (count, 1, 1, 1), generator=generator)
    images = (brightness + torch.randint(0, 20, (count, *architecture.shape), generator=generator)).to(torch.uint8)
    data = small_training.make_dataset(architecture.shape, count)
    data = replace(data, images=images, labels=torch.randint(CLASSES, (count,), generator=generator))
    classes = brightness.flatten() * CLASSES // 230
    logits = (torch.eye(CLASSES, dtype=EXACT)[classes] * 6).expand(len(recipes), -1, -1).clone()
    teachers = small_training.make_teachers(recipes, data)
    pack, _ = small_training.run_training(recipes, TeacherPack(logits, teachers.members), data)
    index = pack.validation_index
    predicted = pack.predict(pack.state.params, pack.state.buffers, pack.data.batch(index)).argmax(-1)
    return float((predicted == classes[index]).double().mean())


def test_shuffled_teacher_gives_no_agreement_above_the_baseline() -> None:
    """Labels are random. Only the teacher itself teaches students what it knows."""
    teacher, shuffled, baseline = agreement(None, 0.9), agreement("shuffled", 0.9), agreement(None, 0.0)
    assert teacher > max(0.85, baseline + 0.3)
    assert shuffled < baseline + 0.1


@pytest.mark.parametrize(("value", "expected"), [(2, 2.0), (0.5, 0.5), (None, None), ("cold", None), (0.0, None)])
def test_option_that_is_no_temperature_is_left_out(value: Any, expected: float | None) -> None:
    """A plugin's loss may call anything a temperature."""
    recipe = small_training.recipe(small_training.mlp(), loss=SimpleNamespace(temperature=value))
    assert recipe.temperature == expected
    assert small_training.recipe(small_training.mlp()).temperature is None
