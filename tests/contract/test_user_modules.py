"""Users' modules and losses in the engine: what built-in components guarantee holds for them, too."""

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.base.packing import signature
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import read_plugin
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.initializers import init_params
from fathomlab.engine.loop import train
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.losses.distillation import Distillation
from fathomlab.models import Model
from fathomlab.optim.adam import Adam
from fathomlab.probes import PROBES
from fathomlab.probes.columns import NAMES
from tests.helpers import small_training

PLUGIN = """
    import random
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width: int = 8, drop: float = 0.3, depth: int = 1):
            super().__init__()
            self.stem = nn.Conv2d(3, width, 3, stride=2)
            self.norm = nn.BatchNorm2d(width)
            self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.drop = nn.Dropout(drop)
            self.head = nn.Linear(width, 3)
            self.frozen = nn.Parameter(torch.ones(width), requires_grad=False)
            self.register_buffer("shift", torch.randn(width) * float(np.random.rand() + random.random()))
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, images):
            if self.training:
                self.seen = self.seen + 1
            h = F.relu(self.norm(self.stem(images))).mean((2, 3)) * self.frozen + self.shift.to(images.dtype)
            for block in self.blocks:
                h = self.drop(F.relu(block(h)))
            return self.head(h)

    class Unused(Net):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(2, 2)

    class Flat(nn.Module):
        def forward(self, images):
            return images.flatten(1).sum(1)

    class Faulty(nn.Module):
        def forward(self, images):
            return images @ images

    def margin(logits, labels, *, size: float = 1.0):
        right = logits.gather(1, labels.unsqueeze(1))
        return F.relu(size + logits - right).sum(1) - size

    def matching(logits, labels, teacher_logits, *, weight: float = 0.5):
        hard = F.cross_entropy(logits, labels, reduction="none")
        return (1 - weight) * hard + weight * (logits - teacher_logits).square().mean(1)

    def averaged(logits, labels):
        return F.cross_entropy(logits, labels)
"""
SHAPE = (3, 16, 16)
FAULTY_LINE = next(number for number, line in enumerate(PLUGIN.splitlines(), start=1) if "images @ images" in line)


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> Components:
    """The components of the plugin."""
    path = tmp_path_factory.mktemp("plugin") / "parts.py"
    path.write_text(dedent(PLUGIN), encoding="utf-8")
    return with_plugins([read_plugin(path)])


@pytest.fixture(scope="module")
def make(components: Components) -> Callable[..., Any]:
    """The architecture of a module with these options."""

    def build(name: str = "Net", **options: Any) -> Any:
        model = components.models.make(name, options, "", [])
        assert isinstance(model, Model)
        return model.build(SHAPE)

    return build


def test_architecture_describes_the_module(make: Callable[..., Any]):
    architecture = make(depth=2)
    names = [parameter.name for parameter in architecture.parameters()]
    assert names[:4] == ["stem.weight", "stem.bias", "norm.weight", "norm.bias"]
    assert "frozen" not in names
    assert architecture.weight_layers == architecture.taps == ("stem", "blocks.0", "blocks.1", "head")
    assert architecture.num_params == 8 * 28 + 2 * 8 + 2 * 72 + 27
    assert architecture.macs == 49 * 8 * 27 + 2 * 64 + 24
    assert architecture.classes == 3
    assert make() == make()
    assert hash(make()) == hash(make(width=8))
    assert signature(make()) != signature(make(width=9))


def test_initial_values_depend_on_the_seed_only(make: Callable[..., Any]):
    architecture = make()
    network = PackedNetwork([architecture])
    before = torch.get_rng_state()
    first, buffers = init_params(architecture, 1), network.buffers(torch.float64, "cpu", [1])
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, same = init_params(architecture, 1), network.buffers(torch.float64, "cpu", [1])
    other, different = init_params(architecture, 2), network.buffers(torch.float64, "cpu", [2])
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(torch.equal(value, same[name]) for name, value in buffers.items())
    assert not torch.equal(first["stem.weight"], other["stem.weight"])
    assert not torch.equal(buffers["shift"], different["shift"])


def test_training_equals_a_loop_of_torch(make: Callable[..., Any], components: Components):
    """Weights, running statistics, and counters after two epochs, without dropout."""
    architecture = make(drop=0.0)
    trainer, _ = small_training.run_training([small_training.recipe(architecture, epochs=2)])
    reference, data = _twin(architecture), trainer.data
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    for index in _orders(architecture):
        loss = torch.nn.functional.cross_entropy(reference(data.normalize(data.images[index])), data.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = {name: tensor for name, tensor in reference.state_dict().items()}
    actual = {name: tensor[0].detach() for name, tensor in {**trainer.state.params, **trainer.state.buffers}.items()}
    assert actual.keys() == expected.keys()
    assert int(actual["norm.num_batches_tracked"]) == float(actual["seen"]) == 2 * trainer.steps_per_epoch
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-10, atol=1e-12)


def _twin(architecture: Any) -> Any:
    """The module itself, with the initial values of the trial."""
    state = small_training.make_trainer([small_training.recipe(architecture)]).state
    module = architecture.layers[0].model.module().double()
    module.load_state_dict({name: tensor[0].detach() for name, tensor in {**state.params, **state.buffers}.items()})
    return module


def _orders(architecture: Any) -> list[Tensor]:
    """The indices of every batch of two epochs."""
    from fathomlab.engine.loop import image_order

    trainer = small_training.make_trainer([small_training.recipe(architecture)])
    return [batch for epoch in range(2) for batch in image_order(trainer, epoch)[0].split(10)]


def test_training_resumes_with_the_same_bits(make: Callable[..., Any]):
    """With dropout, batch normalization, a buffer that the module assigns, and Adam, from the middle of an epoch."""
    recipe = small_training.recipe(make(), optimizer=Adam())
    complete = small_training.make_trainer([recipe])
    progress, saved = [], {}
    for snapshot in train(complete, frozenset({7})):
        if snapshot.step == 7:
            saved = {name: tensor.clone() for name, tensor in replica_state_dict(complete.state, 0).items()}
        progress += [snapshot] if snapshot.validation else []
    resumed = small_training.make_trainer([recipe])
    load_replica_state_dict(resumed.state, 0, saved)
    resumed.state.step, resumed.state.epoch = 7, 1
    torch.rand(3)
    later = [snapshot for snapshot in train(resumed, frozenset()) if snapshot.validation]
    small_training.assert_identical(
        small_training.replica_results(resumed, later, 0),
        {
            name: tensor
            for name, tensor in small_training.replica_results(complete, progress, 0).items()
            if not name.endswith(" 1")  # the first epoch
            or not name.startswith(("curve", "objective", "rate"))
        },
    )


def test_modes_change_what_they_should(make: Callable[..., Any]):
    """Dropout and updates in `train` only; batch statistics in `probe`, running statistics in `eval`."""
    network = PackedNetwork([make(drop=0.5)])
    params = {name: value[None] for name, value in init_params(network.architecture, 0).items()}
    buffers = network.buffers(torch.float64, "cpu", [0])
    initial = {name: tensor.clone() for name, tensor in buffers.items()}
    images = torch.rand(1, 6, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def logits(mode: Any, key: int = 0) -> Tensor:
        return network(params, buffers, images, mode, torch.tensor([key]))

    probe, evaluated = logits("probe"), logits("eval")
    assert torch.equal(probe, PackedNetwork([make(drop=0.0)])(params, buffers, images, "probe"))
    assert torch.equal(evaluated, logits("eval", 1))
    assert not torch.allclose(probe, evaluated)
    assert all(torch.equal(tensor, initial[name]) for name, tensor in buffers.items())
    before = torch.get_rng_state()
    first = logits("train", 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, logits("train", 5))
    assert not torch.equal(first, logits("train", 6))
    assert float(buffers["seen"]) == 3
    assert not torch.equal(buffers["norm.running_mean"], initial["norm.running_mean"])
    assert torch.equal(buffers["shift"], initial["shift"])


@pytest.mark.parametrize("name", small_training.PROBES_OF_ANY_NETWORK)
def test_probes_measure_a_module(name: str, make: Callable[..., Any]):
    """Finite numbers for every layer and point, and nothing of the state changes."""
    trainer, _ = small_training.run_training([small_training.recipe(make(depth=2), epochs=1)])
    before = {key: tensor.clone() for key, tensor in replica_state_dict(trainer.state, 0).items()}
    columns = PROBES[name](**PROBES[name].test_options).measure(Snapshot(trainer))
    for column, declared in PROBES[name].columns.items():
        if declared.quotient is not None:
            continue
        if declared.axis != "replica":
            assert tuple(columns[NAMES[declared.axis]]) == ("stem", "blocks.0", "blocks.1", "head")
            assert columns[column].shape == (1, 4)
        assert bool(torch.as_tensor(columns[column]).isfinite().all())
    small_training.assert_identical(replica_state_dict(trainer.state, 0), before)


def test_module_teaches_a_pack_of_students(make: Callable[..., Any]):
    """Each replica has the logits of its teacher."""
    recipes = [small_training.recipe(small_training.cnn(), seed=seed) for seed in (1, 2)]
    students = [small_training.replace(recipe, teachers=(make(),), loss=Distillation()) for recipe in recipes]
    data = small_training.make_dataset(SHAPE)
    teachers = small_training.make_teachers(students, data)
    alone = [teachers.replica(slot).logits for slot in (0, 1)]
    assert not torch.equal(*alone)
    _, snapshots = small_training.run_training(students, teachers, data)
    assert bool(snapshots[-1].objective.isfinite().all())


def test_function_loss_in_a_pack_equals_separate_trainings(components: Components):
    loss = components.losses.make("margin", {"size": 0.5}, "", [])
    recipes = [small_training.recipe(small_training.mlp(), loss=loss, seed=seed) for seed in (1, 2)]
    pack, snapshots = small_training.run_training(recipes)
    for slot, recipe in enumerate(recipes):
        alone, single = small_training.run_training([recipe])
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot), small_training.replica_results(alone, single, 0)
        )
    assert signature(recipes[0]) == signature(recipes[1])
    other = components.losses.make("margin", {}, "", [])
    assert signature(small_training.replace(recipes[0], loss=other)) != signature(recipes[1])


def test_function_loss_reads_teacher_logits(components: Components):
    loss = components.losses.make("matching", {"weight": 1.0}, "", [])
    recipes = [small_training.recipe(small_training.mlp(), loss=loss, teachers=(small_training.mlp(),), seed=1)]
    data = small_training.make_dataset(small_training.FLAT)
    teachers = small_training.make_teachers(recipes, data)
    trainer = small_training.make_trainer(recipes, teachers, data)
    index = trainer.train_index[:, :4]
    logits = trainer.forward(trainer.batch(index, None), "probe")
    expected = (logits - teachers.logits[:, index[0]]).square().mean(2)
    torch.testing.assert_close(trainer.objective(logits, index), expected)


def test_function_loss_of_another_shape_is_an_error(components: Components):
    recipe = small_training.recipe(small_training.mlp(), loss=components.losses.make("averaged", {}, "", []))
    with pytest.raises(ValueError, match=r"averaged .* shape \(10,\), got shape \(\)"):
        small_training.run_training([recipe])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Unused", ("extra.weight", "extra.bias")),
        ("Flat", ("(n, classes)", "(2,)")),
        ("Faulty", (f"parts.py:{FAULTY_LINE}: ", "RuntimeError")),
    ],
)
def test_untrainable_module_is_rejected(name: str, words: tuple[str, ...], components: Components):
    model = components.models.make(name, {}, "", [])
    (issue,) = model.validate_for((3, 16, 8), 3)
    assert issue.code == "plugin-error"
    assert all(word in issue.message for word in words)
    with pytest.raises(UserError):
        model.build((3, 16, 8))


def test_wrong_number_of_logits_is_rejected(components: Components):
    model = components.models.make("Net", {}, "", [])
    assert model.validate_for(SHAPE, 3) == []
    (issue,) = model.validate_for(SHAPE, 10)
    assert issue.code == "data-mismatch"


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"reference"}))
@pytest.mark.parametrize("part", ["module", "teacher", "loss", "labels"])
def test_only_the_reference_runs_the_code_of_plugins(
    name: str, part: str, make: Callable[..., Any], components: Components
):
    plain = small_training.recipe(small_training.mlp())
    loss = components.losses.make("margin", {}, "", [])
    changes: dict[str, dict[str, Any]] = {
        "module": {"architecture": make()},
        "teacher": {"teachers": (make(),)},
        "loss": {"loss": loss},
        "labels": {"loss": Distillation(), "label_loss": loss},
    }
    machine = Machine("cpu" if name == "native" else "cuda", compiler=True)
    assert BACKENDS[name].refuses([plain], machine) == ""
    assert BACKENDS[name].refuses([small_training.replace(plain, **changes[part])], machine) != ""
