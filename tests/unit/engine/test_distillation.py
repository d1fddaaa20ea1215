"""Distillation in training: the teacher's inputs, and its effect on the student."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathomlab.engine.initializers import init_params
from fathomlab.engine.loop import train
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.teachers import Teacher, TeacherPack
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.adam import Adam
from fathomlab.optim.sgd import SGD
from tests.helpers import reference_models, small_training

ALPHA, TEMPERATURE = 0.7, 3.0


def students(kind: str, alpha: float, **changes: Any) -> list[Any]:
    """Create two distilled students that differ in their seed."""
    architecture = small_training.mlp(batch_norm=True, dropout=0.2) if kind == "mlp" else small_training.cnn()
    recipes = [small_training.recipe(architecture, seed=seed, **changes) for seed in (3, 4)]
    return small_training.distilled(recipes, (alpha,) * 2, (TEMPERATURE,) * 2)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize(("kind", "augment"), [("mlp", ()), ("cnn", ()), ("cnn", ("flip", "crop"))])
def test_alpha_zero_equals_baseline_bit_for_bit(kind: str, augment: tuple[str, ...], precision: str) -> None:
    """The teacher uses no random stream and adds nothing to the loss."""
    recipes = students(kind, 0.0, precision=precision, augment=augment, optimizer=Adam(), lr=0.01)
    data = small_training.make_dataset(
        recipes[0].architecture.shape, dtype=torch.float64 if precision == "fp64" else torch.float32
    )
    student_pack, student_curves = small_training.run_training(
        recipes, small_training.make_teachers(recipes, data), data
    )
    baseline_pack, baseline_curves = small_training.run_training(
        [replace(student, loss=CrossEntropy(), teachers=()) for student in recipes], None, data
    )
    for slot in range(2):
        small_training.assert_identical(
            small_training.replica_results(student_pack, student_curves, slot),
            small_training.replica_results(baseline_pack, baseline_curves, slot),
        )


def test_alpha_zero_in_mixed_pack_equals_baseline() -> None:
    recipes = students("mlp", 0.0)
    data = small_training.make_dataset(recipes[0].architecture.shape)
    mixed = small_training.distilled(recipes, (0.0, 0.9), (TEMPERATURE, 5.0))
    student_pack, student_curves = small_training.run_training(mixed, small_training.make_teachers(mixed, data), data)
    baseline_pack, baseline_curves = small_training.run_training(
        [replace(student, loss=CrossEntropy(), teachers=()) for student in recipes], None, data
    )
    small_training.assert_close(
        small_training.replica_results(student_pack, student_curves, 0),
        small_training.replica_results(baseline_pack, baseline_curves, 0),
        relative=1e-12,
    )
    assert not torch.allclose(
        student_pack.state.params["output.weight"][1], baseline_pack.state.params["output.weight"][1]
    )


def test_alpha_one_ignores_labels() -> None:
    """Permuted labels of the training images give the same weights. With alpha < 1 they do not."""
    for alpha, equal in ((1.0, True), (0.9, False)):
        recipes = students("mlp", alpha)
        data = small_training.make_dataset(recipes[0].architecture.shape)
        teachers = small_training.make_teachers(recipes, data)
        results = []
        for labels in (data.labels, (data.labels + 1) % 3):
            pack = small_training.make_trainer(recipes, teachers, data)
            pack.data = replace(data, labels=labels)
            list(train(pack, frozenset()))
            results.append(pack.state.params)
        assert all(torch.equal(results[0][name], results[1][name]) for name in results[0]) is equal


@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
def test_distillation_keeps_teacher_unchanged(augment: tuple[str, ...]) -> None:
    """Weights, running statistics, and logits keep their bits and get no gradient."""
    recipes = students("cnn", ALPHA, augment=augment)
    data = small_training.make_dataset(recipes[0].architecture.shape)
    teachers = small_training.make_teachers(recipes, data)
    (member,) = teachers.members
    for value in member.params.values():
        value.requires_grad_()
    state = {**member.params, **{f"buffer {name}": value for name, value in member.buffers.items()}}
    before = {name: value.detach().clone() for name, value in state.items()} | {"logits": teachers.logits.clone()}
    small_training.run_training(recipes, teachers, data)
    assert all(torch.equal(before[name], value) for name, value in state.items())
    assert torch.equal(before["logits"], teachers.logits)
    assert all(value.grad is None for value in member.params.values())


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_soft_term_has_gradient_for_every_parameter(kind: str) -> None:
    recipes = students(kind, 1.0)
    data = small_training.make_dataset(recipes[0].architecture.shape)
    pack = small_training.make_trainer(recipes, small_training.make_teachers(recipes, data), data)
    index = pack.train_index[:, :12]
    loss = pack.objective(pack.forward(pack.batch(index, None), "probe"), index).sum()
    names = [name for name in pack.state.params if kind == "cnn" or not name.endswith("bias")]
    gradients = torch.autograd.grad(loss, [pack.state.params[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        assert float(gradient.abs().flatten(1).amax(1).min()) > 1e-12, name


def test_stored_logits_are_selected_by_image() -> None:
    """With different logits per image, for every order and batch."""
    recipes = students("mlp", 1.0)
    data = small_training.make_dataset(recipes[0].architecture.shape)
    teachers = small_training.make_teachers(recipes, data)
    rows = torch.sin(torch.arange(2 * 60 * 3, dtype=torch.float64)).view(2, 60, 3) * 4
    pack = small_training.make_trainer(recipes, replace(teachers, logits=rows), data)
    flat = torch.zeros(2, 48, 3, dtype=torch.float64)
    order = torch.stack(
        [row[torch.randperm(48, generator=torch.Generator().manual_seed(i))] for i, row in enumerate(pack.train_index)]
    )
    q = F.log_softmax(rows / TEMPERATURE, -1)
    divergences = TEMPERATURE**2 * (q.exp() * (q + torch.log(torch.tensor(3.0, dtype=torch.float64)))).sum(-1)
    assert len(torch.unique(divergences)) == 120
    for index in (order, order[:, 7:12], order.flip(1)):
        results = pack.objective(flat[:, : index.shape[1]], index)
        torch.testing.assert_close(results, divergences.gather(1, index), rtol=1e-12, atol=1e-14)


class RecordingNetwork(PackedNetwork):
    """A network that records its inputs."""

    def __init__(self, network: Any):
        self.network, self.images, self.modes = network, [], []

    def __call__(self, params: Any, buffers: Any, images: Tensor, mode: str, *rest: Any) -> Tensor:
        """Record the images and call the network."""
        self.images.append(images.clone())
        self.modes.append(mode)
        return self.network(params, buffers, images, mode, *rest)


def test_teacher_sees_augmented_images_of_student() -> None:
    """The same tensor, in eval mode, in every step of every epoch."""
    recipes = students("cnn", ALPHA, augment=("flip", "crop"))
    data = small_training.make_dataset(recipes[0].architecture.shape)
    teachers = small_training.make_teachers(recipes, data)
    (member,) = teachers.members
    teacher = RecordingNetwork(member.network)
    unused = torch.full_like(teachers.logits, torch.nan)  # stored logits are of other views
    recorded = Teacher(teacher, member.params, member.buffers)  # type: ignore[arg-type]
    pack = small_training.make_trainer(recipes, TeacherPack(unused, (recorded,)), data)
    student = pack.state.network = RecordingNetwork(pack.state.network)
    list(train(pack, frozenset()))
    trained = [images for images, mode in zip(student.images, student.modes, strict=True) if mode == "train"]
    assert len(trained) == len(teacher.images) == 20
    assert set(teacher.modes) == {"eval"}
    assert all(torch.equal(a, b) for a, b in zip(trained, teacher.images, strict=True))
    assert int(pack.state.diverged_at_step.max()) == 0
    originals = {tuple(image.flatten().tolist()) for image in data.normalize(data.images)}
    views = [tuple(image.flatten().tolist()) for images in trained for image in images.flatten(0, 1)]
    assert sum(view not in originals for view in views) > 0.9 * len(views)


@pytest.mark.parametrize("augment", [(), ("flip",)])
@pytest.mark.parametrize(
    "options",
    [
        MLP(input_size=12, layers_dim=6, class_num=3, hidden_layers_num=3, batch_norm=True, residual=True),
        CNN(layers=(1, 1, 1, 1), num_classes=3, width=2),
    ],
    ids=["mlp", "cnn"],
)
def test_distillation_equals_torch_training_loop(options: MLP | CNN, augment: tuple[str, ...]) -> None:
    """A training loop with torch.nn, torch.optim, and F.kl_div gives the same weights and losses."""
    shape = small_training.FLAT if isinstance(options, MLP) else small_training.SQUARE
    recipe = small_training.recipe(
        options.build(shape), optimizer=SGD(momentum=0.9), batch_size=48, augment=augment, gradient_clip=0.5
    )
    (recipe,) = small_training.distilled([recipe], (ALPHA,), (TEMPERATURE,))
    data = small_training.make_dataset(shape)
    teachers = small_training.make_teachers([recipe], data)
    pack = small_training.make_trainer([recipe], teachers, data)
    student, teacher = (
        reference_models.reference_model(options, pack.state.params),
        reference_models.reference_model(options, teachers.members[0].params).eval(),
    )
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
    results = {name: value[0].detach() for name, value in {**pack.state.params, **pack.state.buffers}.items()}
    small_training.assert_close(
        results, {name: value.detach() for name, value in reference_models.tensors(student).items()}
    )
    held = data.normalize(data.images[pack.validation_index[0]])
    expected = F.cross_entropy(student.eval()(held), data.labels[pack.validation_index[0]])
    assert float(snapshots[-1].validation.loss[0]) == pytest.approx(float(expected.detach()), rel=1e-10)


def test_teacher_of_a_replica_has_its_options():
    """Teachers of one program may differ in options, and students may be trained one by one."""
    networks = [small_training.cnn(batch_norm_eps=eps) for eps in (1e-5, 1.0)]
    network, data = PackedNetwork(networks), small_training.make_dataset(small_training.SQUARE, 40)
    params = {name: torch.stack([value, value]).double() for name, value in init_params(networks[0], 0).items()}
    teacher = Teacher(network, params, network.buffers(torch.float64, "cpu"))
    images = data.normalize(data.images).double().expand(2, *data.images.shape)
    with torch.no_grad():
        both = teacher(images)
        assert (both[0] - both[1]).abs().max() > 1e-3
        for slot in range(2):
            alone = teacher.replica(slot, torch.device("cpu"))(images[:1])
            torch.testing.assert_close(alone[0], both[slot], rtol=0, atol=1e-10)
