"""Kinds of users' modules: each trains as in a loop of torch, alone and in a pack, or is refused before training."""

import pytest
import torch
from torch import Tensor

from fathomlab.base.counter_rng import splitmix64
from fathomlab.base.errors import UserError
from fathomlab.base.generators import seeded
from fathomlab.engine.loop import image_order
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.models.functional import construct, fixed_tensors
from fathomlab.optim.adam import Adam
from fathomlab.optim.sgd import SGD
from fathomlab.probes import PROBES
from tests.helpers import small_training
from tests.helpers.module_kinds import ALONE, PACKED, REFUSED, SHAPE, architecture


@pytest.mark.parametrize("kind", [*PACKED, *ALONE])
def test_module_trains_as_in_a_loop_of_torch(kind: str):
    network = architecture({**PACKED, **ALONE}[kind])
    assert network.packable == (kind in PACKED)
    recipe = small_training.recipe(network, epochs=2, lr=0.02)
    trainer, _ = small_training.run_training([recipe])
    actual = {name: tensor[0].detach() for name, tensor in {**trainer.state.params, **trainer.state.buffers}.items()}
    expected = trained_by_torch(small_training.make_trainer([recipe]))
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-10, atol=1e-12)


def trained_by_torch(trainer: PackTrainer) -> dict[str, Tensor]:
    """The tensors of the module itself after two epochs of SGD on the batches of a trial, with its random numbers."""
    layer, data = trainer.shared_recipe.architecture.layers[0], trainer.data
    module = construct(layer.model, SHAPE).double()
    initial = {name: tensor[0].detach() for name, tensor in {**trainer.state.params, **trainer.state.buffers}.items()}
    with torch.no_grad():
        for name, tensor in {**dict(module.named_parameters()), **fixed_tensors(module)}.items():
            tensor.copy_(initial[name])
    optimizer = torch.optim.SGD([each for each in module.parameters() if each.requires_grad], lr=0.02)
    for epoch in range(2):
        keys = trainer.keys("dropout", epoch)
        for number, index in enumerate(image_order(trainer, epoch)[0].split(10)):
            with seeded(int(splitmix64(keys, number)[0])):
                logits = module.train()(data.normalize(data.images[index]))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, data.labels[index]).backward()
            optimizer.step()
    return {**{name: each.detach() for name, each in module.named_parameters()}, **fixed_tensors(module)}


@pytest.mark.parametrize("kind", PACKED)
def test_pack_equals_separate_trainings(kind: str):
    """Weights, buffers, optimizer state, and curves of three seeds and learning rates."""
    network = architecture(PACKED[kind])
    recipes = [
        small_training.recipe(network, seed=seed, lr=0.01 * seed, optimizer=SGD(momentum=0.9), epochs=2)
        for seed in (1, 2, 3)
    ]
    pack, snapshots = small_training.run_training(recipes)
    for slot, recipe in enumerate(recipes):
        alone, single = small_training.run_training([recipe])
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot), small_training.replica_results(alone, single, 0)
        )


@pytest.mark.parametrize("name", small_training.PROBES_OF_ANY_NETWORK)
def test_probes_measure_the_replicas_of_a_pack(name: str):
    network = architecture(PACKED["batch norm"])
    recipes = [small_training.recipe(network, seed=seed, optimizer=Adam(), epochs=1) for seed in (1, 2)]
    pack, _ = small_training.run_training(recipes)
    probe = PROBES[name](**PROBES[name].test_options)
    for slot, recipe in enumerate(recipes):
        alone, _ = small_training.run_training([recipe])
        expected = probe.measure(Snapshot(alone))
        for column, value in probe.measure(Snapshot(pack.replica(slot))).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(value, expected[column], rtol=1e-7, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", small_training.PROBES_OF_ANY_NETWORK)
@pytest.mark.parametrize(
    "body",
    [
        "def middle(self, h): return F.relu(h, INPLACE)",
        """
        def build(self): self.first, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)
        def forward(self, images): return self.head(F.relu(self.first(images), INPLACE).mean((2, 3)))
        """,
    ],
    ids=["linear", "convolution"],
)
def test_probes_measure_outputs_that_are_changed_in_place(name: str, body: str):
    """As those of the same network with an activation that returns a new tensor."""
    columns = []
    for inplace in ("False", "True"):
        network = architecture(body.replace("INPLACE", inplace))
        trainer, _ = small_training.run_training([small_training.recipe(network, epochs=1)])
        columns.append(PROBES[name](**PROBES[name].test_options).measure(Snapshot(trainer)))
    for column, expected in columns[0].items():
        if isinstance(expected, Tensor):
            torch.testing.assert_close(columns[1][column], expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", REFUSED)
def test_untrainable_kinds_are_refused(kind: str):
    with pytest.raises(UserError) as raised:
        architecture(REFUSED[kind])
    assert raised.value.code == "plugin-error"


def test_module_without_finite_outputs_diverges():
    network = architecture("def middle(self, h): return (h - h.detach()) / (h - h.detach()) * h")
    trainer, _ = small_training.run_training([small_training.recipe(network, seed=seed, epochs=1) for seed in (1, 2)])
    assert trainer.state.diverged_at_step.tolist() == [1, 1]


@pytest.mark.parametrize("replicas", [1, 2])
def test_images_stay_as_they_are(replicas: int):
    """A teacher that changes its input must not change that of its students, which may be the same memory."""
    network = PackedNetwork([architecture(ALONE["changes its input"])] * replicas)
    state = small_training.make_trainer(
        [small_training.recipe(network.architecture, seed=seed) for seed in range(replicas)]
    ).state
    images = torch.rand(1, 4, *SHAPE, dtype=torch.float64).expand(replicas, -1, -1, -1, -1)
    before = images.clone()
    network(state.params, state.buffers, images, "train", torch.arange(replicas))
    assert torch.equal(images, before)


def test_lazy_layers_start_with_fresh_statistics():
    layer = architecture(PACKED["lazy layers"]).layers[0]
    norm = construct(layer.model, SHAPE).norm
    assert norm.training
    assert (int(norm.num_batches_tracked), float(norm.running_var.sum())) == (0, 6)
