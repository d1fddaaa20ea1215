"""Mistakes of published distillation code in training, each against naive code that has it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine import step as step_module
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.loop import Progress, image_order, train
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.engine.teachers import TeacherPack
from fathomlab.engine.training import PackTrainer
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.adam import Adam
from fathomlab.plan.recipe import Recipe
from tests.helpers import module_kinds, reference_models, small_training

ALPHA, TEMPERATURE = 0.7, 3.0
NETWORKS = {
    "mlp": MLP(input_size=12, layers_dim=6, class_num=3, hidden_layers_num=2, batch_norm=True),
    "cnn": CNN(layers=(1, 1, 1, 1), num_classes=3, width=2),
}


def students(architecture: Any, *mistakes: str, seeds: Sequence[int] = (3, 4), **changes: Any) -> list[Recipe]:
    """Distilled students that differ in their seed."""
    plain = [small_training.recipe(architecture, seed=seed, emulate=mistakes, **changes) for seed in seeds]
    return small_training.distilled(plain, (ALPHA,) * len(seeds), (TEMPERATURE,) * len(seeds))


def data_for(recipes: Sequence[Recipe]) -> tuple[TeacherPack, DeviceDataset]:
    """Teachers with different stored outputs for each image, and their dataset."""
    data = small_training.make_dataset(recipes[0].architecture.shape)
    teachers = small_training.make_teachers(recipes, data)
    rows = torch.sin(torch.arange(len(recipes) * 60 * 3, dtype=torch.float64)).view(len(recipes), 60, 3) * 4
    return replace(teachers, logits=rows), data


def run(recipes: Sequence[Recipe], step: Callable[[PackTrainer], Any] | None = None) -> tuple[PackTrainer, list[Any]]:
    """Train a pack, and return it with the results of each replica after each epoch."""
    trainer = small_training.make_trainer(recipes, *data_for(recipes))
    results, snapshots = [], list[Progress]()
    for snapshot in train(trainer, frozenset(), step(trainer) if step else None):
        snapshots.append(snapshot)
        replicas = [small_training.replica_results(trainer, snapshots, slot) for slot in range(len(recipes))]
        results.append([{name: tensor.clone() for name, tensor in replica.items()} for replica in replicas])
    return trainer, results


def used_logits(recipes: Sequence[Recipe], monkeypatch: pytest.MonkeyPatch) -> tuple[PackTrainer, list[Tensor]]:
    """The outputs of teachers in each step of a training, (k, n, classes)."""
    logits: list[Tensor] = []
    real = PackTrainer.loss

    def loss(self: PackTrainer, outputs: Tensor, labels: Tensor, teacher_logits: Tensor, *features: Any) -> Tensor:
        logits.append(teacher_logits)
        return real(self, outputs, labels, teacher_logits, *features)

    monkeypatch.setattr(PackTrainer, "loss", loss)
    trainer = small_training.make_trainer(recipes, *data_for(recipes))
    list(train(trainer, frozenset()))
    return trainer, logits


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
def test_shuffled_cache_gives_outputs_by_position(
    augment: tuple[str, ...], drop_last: bool, monkeypatch: pytest.MonkeyPatch
):
    """Those of the image at the same position of the first epoch: right in the first epoch, wrong in later ones."""
    recipes = students(small_training.cnn(), "shuffled_cache", epochs=3, augment=augment, drop_last=drop_last)
    trainer, logits = used_logits(recipes, monkeypatch)
    assert trainer.teachers is not None
    count, table = trainer.images_per_epoch, trainer.teachers.logits
    epochs = torch.cat(logits, 1).split(count, 1)
    assert len(epochs) == 3
    for slot in range(2):
        stored = [table[slot, image] for image in image_order(trainer, 0)[slot, :count]]  # the cache: a list
        for epoch, used in enumerate(epochs):
            assert torch.equal(used[slot], torch.stack(stored))
            right = table[slot, image_order(trainer, epoch)[slot, :count]]
            same = (used[slot] == right).all(1).double().mean()
            assert float(same) == 1 if epoch == 0 else float(same) < 0.2


def test_shuffled_cache_starts_with_the_bits_of_the_right_trial():
    """The first epoch is equal bit for bit, later ones are not."""
    architecture = small_training.mlp(batch_norm=True)
    (_, right), (_, wrong) = run(students(architecture)), run(students(architecture, "shuffled_cache"))
    for slot in range(2):
        small_training.assert_identical(wrong[0][slot], right[0][slot])
        assert not torch.allclose(wrong[1][slot]["output.weight"], right[1][slot]["output.weight"], rtol=1e-3)


@pytest.mark.parametrize("mistake", ["shuffled_cache", "student_eval"])
@pytest.mark.parametrize("stop", [3, 5, 7, 13])
def test_resumes_inside_an_epoch_with_the_same_bits(mistake: str, stop: int):
    recipes = students(small_training.mlp(batch_norm=True, dropout=0.3), mistake, optimizer=Adam())
    complete = small_training.make_trainer(recipes, *data_for(recipes))
    saved: list[dict[str, Tensor]] = []
    for snapshot in train(complete, frozenset({stop})):
        if snapshot.step == stop:
            states = [replica_state_dict(complete.state, slot) for slot in range(2)]
            saved = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
    resumed = small_training.make_trainer(recipes, *data_for(recipes))
    for slot, state in enumerate(saved):
        load_replica_state_dict(resumed.state, slot, state)
    resumed.state.step, resumed.state.epoch = stop, stop // 5
    list(train(resumed, frozenset()))
    small_training.assert_identical(
        {**resumed.state.params, **resumed.state.buffers}, {**complete.state.params, **complete.state.buffers}
    )


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mistake", ["shuffled_cache", "student_eval"])
def test_training_equals_torch_with_the_mistake(kind: str, mistake: str):
    """A training loop with torch.nn that reads a cache by position, or that validates without a later `train()`."""
    options = NETWORKS[kind]
    shape = small_training.FLAT if kind == "mlp" else small_training.SQUARE
    (recipe,) = recipes = students(options.build(shape), mistake, seeds=(3,), epochs=3)
    teachers, data = data_for(recipes)
    trainer = small_training.make_trainer(recipes, teachers, data)
    student = reference_models.reference_model(options, trainer.state.params).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=recipe.lr)
    cache: list[Tensor] = []
    for epoch in range(recipe.epochs):
        for number, index in enumerate(image_order(trainer, epoch)[0].split(recipe.batch_size)):
            if mistake == "shuffled_cache" and epoch == 0:
                cache.append(teachers.logits[0, index])
            target = cache[number] if cache else teachers.logits[0, index]
            logits = student(data.normalize(data.images[index]))
            p, q = F.softmax(target / TEMPERATURE, -1), F.log_softmax(logits / TEMPERATURE, -1)
            soft = F.kl_div(q, p, reduction="batchmean") * TEMPERATURE**2
            loss = (1 - ALPHA) * F.cross_entropy(logits, data.labels[index]) + ALPHA * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if mistake == "student_eval":
            student.eval()  # for the validation, and nothing switches it back
    list(train(trainer, frozenset()))
    results = {name: value[0].detach() for name, value in {**trainer.state.params, **trainer.state.buffers}.items()}
    expected = {name: value.detach() for name, value in reference_models.tensors(student).items()}
    small_training.assert_close(results, expected, 1e-8)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "module"])
def test_student_eval_freezes_statistics_after_the_first_epoch(kind: str):
    """The first epoch equals that of the right trial bit for bit."""
    module = module_kinds.PACKED["batch norm"]
    architecture = module_kinds.architecture(module) if kind == "module" else _network(kind)
    (right_pack, right), (_, wrong) = run(students(architecture)), run(students(architecture, "student_eval"))
    buffers = list(right_pack.state.buffers)
    assert buffers
    for slot in range(2):
        small_training.assert_identical(wrong[0][slot], right[0][slot])
        for name in buffers:
            assert torch.equal(wrong[3][slot][name], wrong[0][slot][name])
        running = [name for name in buffers if "running" in name or "mean" in name]
        assert not any(torch.equal(right[3][slot][name], right[0][slot][name]) for name in running)
        weights = [
            name for name in right_pack.state.params if not torch.equal(wrong[3][slot][name], wrong[0][slot][name])
        ]
        assert len(weights) == len(right_pack.state.params)  # all of them still learn


def _network(kind: str) -> Any:
    shape = small_training.FLAT if kind == "mlp" else small_training.SQUARE
    return NETWORKS[kind].build(shape)


def test_student_eval_turns_dropout_off(monkeypatch: pytest.MonkeyPatch):
    """In a network without batch normalization, later epochs are those of a network without dropout."""
    modes: list[tuple[int, str]] = []
    real = PackTrainer.forward

    def forward(self: PackTrainer, images: Tensor, mode: Any, *rest: Any) -> Tensor:
        logits = real(self, images, mode, *rest)
        modes.append((self.state.step, mode))
        if mode == "eval":
            expected = self.state.network(self.state.params, self.state.buffers, images, "probe")
            assert torch.equal(logits, expected)
        return logits

    monkeypatch.setattr(PackTrainer, "forward", forward)
    recipes = students(small_training.mlp(dropout=0.5), "student_eval")
    list(train(small_training.make_trainer(recipes, *data_for(recipes)), frozenset()))
    assert modes == [(step, "train" if step < 5 else "eval") for step in range(20)]


@pytest.mark.parametrize("mistake", ["shuffled_cache", "student_eval"])
def test_separate_replicas_equal_pack(mistake: str):
    recipes = students(small_training.cnn(), mistake, epochs=2)
    teachers, data = data_for(recipes)
    pack = small_training.make_trainer(recipes, teachers, data)
    separate = PackTrainer(
        recipes, data, pack.train_index, pack.validation_index, pack.device, teachers, separate_replicas=True
    )
    assert len(separate.replica_trainers) == 2
    snapshots, alone = list(train(pack, frozenset())), list(train(separate, frozenset()))
    for slot in range(2):
        small_training.assert_close(
            small_training.replica_results(separate, alone, slot),
            small_training.replica_results(pack, snapshots, slot),
            1e-8,
        )


def test_graph_step_reads_outputs_by_position():
    """The indices are one more tensor that is filled before each step."""
    recipes = students(small_training.mlp(), "shuffled_cache")
    (_, eager), (_, graph) = run(recipes), run(recipes, BACKENDS["graph"].prepare)
    for slot in range(2):
        small_training.assert_close(graph[3][slot], eager[3][slot])


@pytest.mark.parametrize(("name", "mistake", "refused"), [
    ("graph", "student_eval", True),
    ("graph", "shuffled_cache", False),
    ("reference", "student_eval", False),
])  # fmt: skip
def test_backends_refuse_steps_in_evaluation_mode(name: str, mistake: str, refused: bool):
    machine = Machine("cuda" if name == "graph" else "cpu", compiler=True)
    assert bool(BACKENDS[name].refuses(students(small_training.mlp(), mistake), machine)) is refused


def test_step_without_mistakes_is_called_as_before():
    """No second index, in training mode, whatever the epoch."""
    calls: list[Any] = []

    def forward(*inputs: Any) -> Any:
        calls.append(inputs[-1])
        return step_module.forward_and_loss(*inputs)

    recipes = students(small_training.mlp())
    trainer = small_training.make_trainer(recipes, *data_for(recipes))

    def step(inputs: Any) -> None:
        assert inputs.teacher_index is None
        step_module.train_step_on_device(trainer, inputs, forward)

    list(train(trainer, frozenset(), step))
    assert calls == ["train"] * 20
