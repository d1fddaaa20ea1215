"""Distillation in training: what the teacher is, what it sees, and what it leaves alone."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathomlab.engine.loop import train
from fathomlab.engine.network import Network
from fathomlab.engine.training import Teachers
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.adam import Adam
from fathomlab.optim.sgd import SGD

ALPHA, TEMPERATURE = 0.7, 3.0


def students(bench: ModuleType, kind: str, alpha: float, **changes: Any) -> list[Any]:
    """Two distilled students that differ in their seed."""
    architecture = bench.mlp(batch_norm=True, dropout=0.2) if kind == "mlp" else bench.cnn()
    recipes = [bench.recipe(architecture, seed=seed, **changes) for seed in (3, 4)]
    return bench.taught(recipes, (alpha,) * 2, (TEMPERATURE,) * 2)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize(("kind", "augment"), [("mlp", ()), ("cnn", ()), ("cnn", ("flip", "crop"))])
def test_alpha_zero_is_the_baseline_bit_for_bit(
    kind: str, augment: tuple[str, ...], precision: str, bench: ModuleType
) -> None:
    """The teacher draws nothing from any stream and adds nothing to the loss."""
    recipes = students(bench, kind, 0.0, precision=precision, augment=augment, optimizer=Adam(), lr=0.01)
    data = bench.pictures(recipes[0].architecture.shape, dtype=torch.float64 if precision == "fp64" else torch.float32)
    taught, curves = bench.trained(recipes, bench.teachers(recipes, data), data)
    baseline, plain = bench.trained([replace(own, loss=CrossEntropy(), teacher=None) for own in recipes], None, data)
    for place in range(2):
        bench.assert_same(bench.numbers(taught, curves, place), bench.numbers(baseline, plain, place))


def test_alpha_zero_beside_another_alpha_is_the_baseline(bench: ModuleType) -> None:
    """Also where the weights of a pack differ."""
    recipes = students(bench, "mlp", 0.0)
    data = bench.pictures(recipes[0].architecture.shape)
    mixed = bench.taught(recipes, (0.0, 0.9), (TEMPERATURE, 5.0))
    taught, curves = bench.trained(mixed, bench.teachers(mixed, data), data)
    baseline, plain = bench.trained([replace(own, loss=CrossEntropy(), teacher=None) for own in recipes], None, data)
    bench.assert_near(bench.numbers(taught, curves, 0), bench.numbers(baseline, plain, 0), relative=1e-12)
    assert not torch.allclose(taught.state.values["output.weight"][1], baseline.state.values["output.weight"][1])


def test_alpha_one_ignores_the_labels(bench: ModuleType) -> None:
    """Permuted labels of the training images, the same weights; with alpha below one they matter."""
    for alpha, equal in ((1.0, True), (0.9, False)):
        recipes = students(bench, "mlp", alpha)
        data = bench.pictures(recipes[0].architecture.shape)
        teachers = bench.teachers(recipes, data)
        found = []
        for labels in (data.labels, (data.labels + 1) % 3):
            pack = bench.training(recipes, teachers, data)
            pack.data = replace(data, labels=labels)
            list(train(pack, frozenset()))
            found.append(pack.state.values)
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0]) is equal


@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
def test_the_teacher_is_left_alone(augment: tuple[str, ...], bench: ModuleType) -> None:
    """Weights, running statistics and logits keep their bits, and get no gradient."""
    recipes = students(bench, "cnn", ALPHA, augment=augment)
    data = bench.pictures(recipes[0].architecture.shape)
    teachers = bench.teachers(recipes, data)
    for value in teachers.values.values():
        value.requires_grad_()
    state = {**teachers.values, **{f"buffer {name}": value for name, value in teachers.buffers.items()}}
    before = {name: value.detach().clone() for name, value in state.items()} | {"logits": teachers.logits.clone()}
    bench.trained(recipes, teachers, data)
    assert all(torch.equal(before[name], value) for name, value in state.items())
    assert torch.equal(before["logits"], teachers.logits)
    assert all(value.grad is None for value in teachers.values.values())


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_soft_term_reaches_every_parameter(kind: str, bench: ModuleType) -> None:
    """With alpha 1 no tensor of the student is without a gradient that is not zero."""
    recipes = students(bench, kind, 1.0)
    data = bench.pictures(recipes[0].architecture.shape)
    pack = bench.training(recipes, bench.teachers(recipes, data), data)
    index = pack.train_index[:, :12]
    loss = pack.objective(pack.forward(pack.batch(index, None), "measure"), index).sum()
    names = [name for name in pack.state.values if kind == "cnn" or not name.endswith("bias")]
    gradients = torch.autograd.grad(loss, [pack.state.values[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        assert float(gradient.abs().flatten(1).amax(1).min()) > 1e-12, name


def test_stored_logits_are_those_of_the_image(bench: ModuleType) -> None:
    """A teacher that tells every image apart: the objective takes its row by index, whatever the order and the batch."""
    recipes = students(bench, "mlp", 1.0)
    data = bench.pictures(recipes[0].architecture.shape)
    teachers = bench.teachers(recipes, data)
    rows = torch.sin(torch.arange(2 * 60 * 3, dtype=torch.float64)).view(2, 60, 3) * 4
    pack = bench.training(recipes, replace(teachers, logits=rows), data)
    flat = torch.zeros(2, 48, 3, dtype=torch.float64)
    order = torch.stack(
        [row[torch.randperm(48, generator=torch.Generator().manual_seed(i))] for i, row in enumerate(pack.train_index)]
    )
    q = F.log_softmax(rows / TEMPERATURE, -1)
    each = TEMPERATURE**2 * (q.exp() * (q + torch.log(torch.tensor(3.0, dtype=torch.float64)))).sum(-1)
    assert len(torch.unique(each)) == 120
    for index in (order, order[:, 7:12], order.flip(1)):
        found = pack.objective(flat[:, : index.shape[1]], index)
        torch.testing.assert_close(found, each.gather(1, index), rtol=1e-12, atol=1e-14)


class Spy(Network):
    """A network that keeps what it was shown."""

    def __init__(self, network: Any):
        self.network, self.seen, self.modes = network, [], []

    def __call__(self, values: Any, buffers: Any, images: Tensor, mode: str, *rest: Any) -> Tensor:
        """As the network."""
        self.seen.append(images.clone())
        self.modes.append(mode)
        return self.network(values, buffers, images, mode, *rest)


def test_with_augmentation_the_teacher_sees_the_view_of_the_student(bench: ModuleType) -> None:
    """The very tensor, in evaluation mode, in every step of every epoch; the student trains in every step."""
    recipes = students(bench, "cnn", ALPHA, augment=("flip", "crop"))
    data = bench.pictures(recipes[0].architecture.shape)
    teachers = bench.teachers(recipes, data)
    teacher = Spy(teachers.network)
    unknown = torch.full_like(teachers.logits, torch.nan)  # stored logits are of other views: they must not be read
    pack = bench.training(recipes, Teachers(unknown, teacher, teachers.values, teachers.buffers), data)  # type: ignore[arg-type]
    student = pack.state.network = Spy(pack.state.network)
    list(train(pack, frozenset()))
    trained = [images for images, mode in zip(student.seen, student.modes, strict=True) if mode == "train"]
    assert len(trained) == len(teacher.seen) == 20
    assert set(teacher.modes) == {"eval"}
    assert all(torch.equal(one, other) for one, other in zip(trained, teacher.seen, strict=True))
    assert int(pack.state.bad_step.max()) == 0
    plain = {tuple(image.flatten().tolist()) for image in data.normalized(data.images)}
    views = [tuple(image.flatten().tolist()) for images in trained for image in images.flatten(0, 1)]
    assert sum(view not in plain for view in views) > 0.9 * len(views)


@pytest.mark.parametrize("augment", [(), ("flip",)])
@pytest.mark.parametrize(
    "options",
    [
        MLP(input_size=12, layers_dim=6, class_num=3, hidden_layers_num=3, batch_norm=True, residual=True),
        CNN(layers=(1, 1, 1, 1), num_classes=3, width=2),
    ],
    ids=["mlp", "cnn"],
)
def test_training_is_the_naive_loop(
    options: MLP | CNN, augment: tuple[str, ...], bench: ModuleType, twins: ModuleType
) -> None:
    """A whole distillation written with torch.nn, torch.optim and F.kl_div gives the same weights and losses."""
    shape = bench.FLAT if isinstance(options, MLP) else bench.SQUARE
    recipe = bench.recipe(
        options.build(shape), optimizer=SGD(momentum=0.9), batch_size=48, augment=augment, gradient_clip=0.5
    )
    (recipe,) = bench.taught([recipe], (ALPHA,), (TEMPERATURE,))
    data = bench.pictures(shape)
    teachers = bench.teachers([recipe], data)
    pack = bench.training([recipe], teachers, data)
    student, teacher = twins.twin(options, pack.state.values), twins.twin(options, teachers.values).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=recipe.lr, momentum=0.9)
    labels = data.labels[pack.train_index[0]]
    losses, hard = [], []
    for epoch in range(recipe.epochs):
        views = pack.batch(pack.train_index, epoch)[0]
        logits = student.train()(views)
        with torch.no_grad():
            target = F.log_softmax(teacher(views) / TEMPERATURE, -1)
        soft = F.kl_div(F.log_softmax(logits / TEMPERATURE, -1), target, log_target=True, reduction="batchmean")
        loss = (1 - ALPHA) * F.cross_entropy(logits, labels) + ALPHA * TEMPERATURE**2 * soft
        optimizer.zero_grad()
        loss.backward()
        assert float(nn.utils.clip_grad_norm_(student.parameters(), 0.5)) > 0.5
        optimizer.step()
        losses.append(float(loss.detach()))
        hard.append(float(F.cross_entropy(logits.detach(), labels)))
    snapshots = list(train(pack, frozenset()))
    assert [float(snapshot.train.loss[0]) for snapshot in snapshots] == pytest.approx(hard, rel=1e-10)
    assert [float(snapshot.objective[0]) for snapshot in snapshots] == pytest.approx(losses, rel=1e-10)
    found = {name: value[0].detach() for name, value in {**pack.state.values, **pack.state.buffers}.items()}
    bench.assert_near(found, {name: value.detach() for name, value in twins.tensors(student).items()})
    held = data.normalized(data.images[pack.validation_index[0]])
    expected = F.cross_entropy(student.eval()(held), data.labels[pack.validation_index[0]])
    assert float(snapshots[-1].validation.loss[0]) == pytest.approx(float(expected.detach()), rel=1e-10)
