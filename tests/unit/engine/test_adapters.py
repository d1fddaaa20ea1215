"""What a loss learns is trained, clipped, and resumed with the network, and changes nothing else."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fathomlab.engine.adapters import adapters, initial_adapters, without_adapters
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.engine.training import PackTrainer
from fathomlab.losses import RKD, AttentionTransfer, FitNet
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.fitnet import hint_loss
from fathomlab.optim.adam import Adam
from fathomlab.plan.recipe import Recipe
from fathomlab.probes import PROBES
from tests.helpers import small_training

NETWORK = small_training.mlp(batch_norm=True, dropout=0.2)
TEACHER = small_training.mlp(layers_dim=9, hidden_layers_num=1)
NAMES = ["adapter:regressor.weight", "adapter:regressor.bias"]


def student(loss: Any, seed: int = 5, **changes: Any) -> Recipe:
    """A student of one teacher."""
    options: dict[str, Any] = {"optimizer": Adam(), "lr": 0.01, **changes}
    return replace(small_training.recipe(NETWORK, seed=seed, **options), loss=loss, teachers=(TEACHER,))


def pack(recipes: list[Recipe]) -> PackTrainer:
    """The pack before its first step."""
    data = small_training.make_dataset(NETWORK.shape)
    return small_training.make_trainer(recipes, small_training.make_teachers(recipes, data, 0.5), data)


def trained(recipes: list[Recipe]) -> dict[str, Tensor]:
    """The learned tensors after the training."""
    trainer = pack(recipes)
    list(train(trainer, frozenset()))
    return {name: tensor.detach() for name, tensor in trainer.state.params.items()}


def test_adapter_has_a_stream_of_its_own():
    """Its values depend on the seed, are uniform in +-1 / sqrt(inputs), and change no initial value of the network."""
    recipe = student(FitNet())
    first, second = initial_adapters(recipe), initial_adapters(replace(recipe, seed=6))
    assert list(first) == NAMES
    assert first[NAMES[0]].shape == (9, 6)
    assert not torch.equal(first[NAMES[0]], second[NAMES[0]])
    assert 0.9 < float(first[NAMES[0]].abs().max()) * 6**0.5 < 1
    params, plain = (pack([each]).state.params for each in (recipe, replace(recipe, loss=RKD())))
    assert list(params) == [*plain, *NAMES]
    assert all(torch.equal(params[name], plain[name]) for name in plain)


def test_adapter_without_weight_changes_nothing():
    """With weight 0, the network is that of cross-entropy, bit for bit."""
    for loss in (FitNet(weight=0.0), RKD(0.0, 0.0)):
        params, plain = trained([student(loss)]), trained([student(CrossEntropy())])
        assert all(torch.equal(params[name], plain[name]) for name in plain)


def test_adapter_is_trained_and_clipped():
    """One step of SGD with clipping: the norm of all gradients, with those of the adapter, is the limit."""
    recipe = student(FitNet(), optimizer=small_training.recipe(NETWORK).optimizer, gradient_clip=1e-3, lr=1.0)
    trainer = pack([recipe])
    before = {name: tensor.detach().clone() for name, tensor in trainer.state.params.items()}
    next(train(trainer, frozenset({1})))
    steps = {name: (tensor - before[name]).detach() for name, tensor in trainer.state.params.items()}
    norm = torch.stack([step.square().sum() for step in steps.values()]).sum().sqrt()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert min(float(steps[name].norm()) for name in NAMES) > 1e-5


def test_adapter_reduces_the_hint():
    """Cross-entropy has weight 0, so the hint alone is learned."""
    recipe = student(FitNet(weight=1.0, hard=0.0), epochs=12)
    trainer = pack([recipe])
    progress = list(train(trainer, frozenset()))
    first, last = (float(each.objective) for each in (progress[0], progress[-1]) if each.objective is not None)
    assert last < 0.5 * first


def test_loss_reads_the_features_that_belong_together():
    """Features of the student in training mode, of the teacher with its running statistics, for the augmented images."""
    recipe = replace(student(FitNet(hard=0.0, weight=1.0)), architecture=small_training.mlp())
    trainer = pack([recipe])
    index = trainer.train_index[:, :7]
    images = trainer.batch(index, None) + 0.1  # not those of the stored logits
    taps: list[Tensor] = []
    logits = trainer.forward(images, "train", None, taps)
    (teacher,), points = trainer.teachers.members, list[Tensor]()  # type: ignore[union-attr]
    teacher.network(teacher.params, teacher.buffers, images, "eval", None, points)
    learned = adapters(trainer.state.params)
    expected = hint_loss(taps[-1], points[-1], learned["regressor.weight"], learned["regressor.bias"])
    torch.testing.assert_close(trainer.objective(logits, index, images, taps), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [FitNet(weight=2.0), RKD(2.0, 3.0)], ids=str)
def test_interrupted_training_continues_bit_for_bit(loss: Any):
    """From the state of a checkpoint inside an epoch."""
    recipes = [student(loss, seed) for seed in (1, 2)]
    whole, half, again = pack(recipes), pack(recipes), pack(recipes)
    list(train(whole, frozenset()))
    next(train(half, frozenset({7})))
    for _ in zip(range(2), train(half, frozenset({7})), strict=False):
        if half.state.step == 7:
            break
    for slot in range(2):
        load_replica_state_dict(again.state, slot, replica_state_dict(half.state, slot))
    again.state.step, again.state.epoch = half.state.step, half.state.epoch
    list(train(again, frozenset()))
    small_training.assert_identical(again.state.params, whole.state.params)
    small_training.assert_identical(again.state.best.params, whole.state.best.params)


def test_probes_measure_the_network():
    """Its layers only, and the module of a snapshot has no adapter."""
    snapshot = Snapshot(pack([student(FitNet()), student(FitNet(), 6)]))
    for name in small_training.PROBES_OF_ANY_NETWORK:
        measured = PROBES[name](**PROBES[name].test_options).measure(snapshot)
        assert set(measured.get("layers", ())) <= set(NETWORK.weight_layers)
    assert not [name for name in snapshot.module(1).state_dict() if "regressor" in name]
    assert set(without_adapters(snapshot.params)) == {parameter.name for parameter in NETWORK.parameters()}
    assert snapshot.to_float64().loss(snapshot.probe_batch(4)).dtype == torch.float64


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"reference"}))
def test_only_the_reference_computes_losses_of_features(name: str):
    machine = Machine("cpu" if name == "native" else "cuda", compiler=True)
    plain = replace(student(CrossEntropy()), architecture=TEACHER)
    assert BACKENDS[name].refuses([replace(plain, teachers=())], machine) == ""
    for loss in (RKD(), FitNet(), AttentionTransfer()):
        assert BACKENDS[name].refuses([replace(plain, loss=loss)], machine)


def test_separate_replicas_equal_the_pack():
    """On a CPU they run one after the other."""
    optimizer = small_training.recipe(NETWORK).optimizer  # Adam would amplify the rounding of gradients that are zero
    recipes = [student(FitNet(weight=2.0), seed, optimizer=optimizer) for seed in (1, 2)]
    together = trained(recipes)
    data = small_training.make_dataset(NETWORK.shape)
    example = pack(recipes)
    apart = PackTrainer(
        recipes,
        data,
        example.train_index,
        example.validation_index,
        small_training.CPU,
        small_training.make_teachers(recipes, data, 0.5),
        separate_replicas=True,
    )
    list(train(apart, frozenset()))
    params = {name: tensor.detach() for name, tensor in apart.state.params.items()}
    small_training.assert_close(params, together)


@pytest.mark.parametrize("augment", [(), ("crop",)])
def test_outputs_of_teachers_are_left_out_if_the_loss_reads_features_only(augment: tuple[str, ...]):
    """With augmentation, they would be a second forward pass of the teachers in each step."""
    plain = [small_training.recipe(small_training.cnn(), augment=augment)]
    recipes = [replace(recipe, loss=RKD()) for recipe in small_training.distilled(plain, (0.7,), (3.0,))]
    data = small_training.make_dataset(recipes[0].architecture.shape)
    trainer = small_training.make_trainer(recipes, small_training.make_teachers(recipes, data), data)
    images = trainer.batch(trainer.train_index, 0)
    assert trainer.teacher_logits(trainer.train_index, images, 0) is None
    assert recipes[0].runs_teachers is False


@dataclass(frozen=True)
class Hints(LossDefaults):
    """A loss that reads neither labels nor outputs."""

    needs: ClassVar[frozenset[Any]] = frozenset({"features", "teacher.features"})

    def terms(self, signals: Any) -> dict[str, Tensor]:
        """The squared difference of mean features."""
        first, second = (next(iter(each.values())).mean(-1) for each in (signals.features, signals.teacher_features))
        return {"hint": (first - second).square()}


def test_layers_that_the_loss_does_not_read_stay():
    """Their gradient is zero; probes measure them, too."""
    plain = [small_training.recipe(NETWORK)]
    recipes = [replace(recipe, loss=Hints()) for recipe in small_training.distilled(plain, (0.7,), (3.0,))]
    data = small_training.make_dataset(recipes[0].architecture.shape)
    trainer = small_training.make_trainer(recipes, small_training.make_teachers(recipes, data), data)
    before = {name: param.detach().clone() for name, param in trainer.state.params.items()}
    next(train(trainer, frozenset({2})))
    after = trainer.state.params
    assert torch.equal(after["output.weight"], before["output.weight"])
    assert not torch.equal(after["input.weight"], before["input.weight"])
    for name in ("gradients", "updates", "noise"):
        assert PROBES[name]().measure(Snapshot(trainer))
