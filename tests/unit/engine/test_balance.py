"""Gradients of the soft and the hard term with respect to the logits: a twin in torch, known shares, and no side effects."""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fathomlab.engine.balance import COSINE, SHARE, GradientBalance
from fathomlab.engine.loop import image_order, train
from fathomlab.engine.signals import LossInputs
from fathomlab.engine.state import replica_state_dict
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.distillation import Distillation
from tests.helpers import small_training

ALPHAS, TEMPERATURES = (0.3, 0.8), (2.0, 5.0)


def pack_of(alphas: tuple[float, ...] = ALPHAS, kind: str = "mlp", **changes: Any) -> Any:
    """Two students after 7 steps, with dropout or augmentation and batch normalization."""
    architecture = small_training.mlp(batch_norm=True, dropout=0.3) if kind == "mlp" else small_training.cnn()
    recipes = [small_training.recipe(architecture, seed=seed, **changes) for seed in (3, 4)]
    recipes = small_training.distilled(recipes, alphas, TEMPERATURES)
    data = small_training.make_dataset(architecture.shape)
    pack = small_training.make_trainer(recipes, small_training.make_teachers(recipes, data), data)
    next(snapshot for snapshot in train(pack, frozenset({7})) if snapshot.step == 7)
    return pack


def with_loss(pack: Any, loss: Any) -> dict[str, list[float]]:
    """The balance of a pack whose loss is another one."""
    recipes = [replace(recipe, loss=loss) for recipe in pack.recipes]
    other = small_training.make_trainer(recipes, pack.teachers, pack.data)
    return GradientBalance(other).measure()


@pytest.mark.parametrize(("kind", "augment"), [("mlp", ()), ("cnn", ("flip", "crop"))])
def test_balance_equals_gradients_of_torch(kind: str, augment: tuple[str, ...]) -> None:
    """On all 48 images of each replica, clean, with running statistics, one loss at a time."""
    pack = pack_of(kind=kind, augment=augment)
    measured = GradientBalance(pack).measure()
    assert measured.keys() == {SHARE, COSINE}
    for slot in range(2):
        index = pack.train_index[slot]
        single = pack.replica(slot)
        images = pack.data.normalize(pack.data.images[index])[None]
        state = single.state
        logits = state.network(state.params, state.buffers, images, "eval")[0].detach().requires_grad_()
        scale = TEMPERATURES[slot]
        target = F.log_softmax(pack.teachers.logits[slot, index] / scale, -1)
        soft = F.kl_div(F.log_softmax(logits / scale, -1), target, log_target=True, reduction="sum") * scale**2
        hard = F.cross_entropy(logits, pack.data.labels[index], reduction="sum")
        gradients = [
            torch.autograd.grad(weight * loss, logits)[0].flatten()
            for weight, loss in ((1 - ALPHAS[slot], hard), (ALPHAS[slot], soft))
        ]
        share = float(gradients[1].norm() / (gradients[0].norm() + gradients[1].norm()))
        assert measured[SHARE][slot] == pytest.approx(share, rel=1e-9)
        assert measured[COSINE][slot] == pytest.approx(float(F.cosine_similarity(*gradients, dim=0)), rel=1e-9)
        assert 0.02 < share < 0.98


def test_shares_equal_the_computed_table() -> None:
    """Logits from N(0, 3^2), 10 classes, T = 3, as for distillation.md, section 2: 0.53, 0.72, 0.82, 0.91."""
    generator, images = torch.Generator().manual_seed(0), 20 * 128
    logits, teacher = 3 * torch.randn(2, 1, images, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (1, images), generator=generator)
    for alpha, share in ((0.5, 0.53), (0.7, 0.72), (0.8, 0.82), (0.9, 0.91)):
        loss = Distillation(3.0, alpha)
        trainer = object.__new__(PackTrainer)  # with what it reads alone
        vars(trainer).update(
            device=torch.device("cpu"),
            train_index=torch.arange(images)[None],
            teachers=teacher,
            shared_recipe=SimpleNamespace(loss=loss, emulate=()),
            state=SimpleNamespace(params={}, buffers={}),
            data=SimpleNamespace(labels=labels[0]),
            batch=lambda index, epoch: index,
            predict=lambda params, buffers, index: logits[0, index[0]][None],
            teacher_logits=lambda index, views: teacher[0, index[0]][None],
            terms=lambda *inputs, loss=loss: loss.terms(LossInputs(*inputs, CrossEntropy())),
        )
        assert GradientBalance(trainer).measure()[SHARE][0] == pytest.approx(share, abs=0.01)


def test_alpha_zero_has_no_share_and_alpha_one_has_all() -> None:
    """The cosine with a gradient that is zero is not a number. In a pack, the other replica is not concerned."""
    measured = GradientBalance(pack_of((0.0, 1.0))).measure()
    assert measured[SHARE] == [0.0, 1.0]
    assert all(map(math.isnan, measured[COSINE]))
    mixed = GradientBalance(pack_of((0.0, 0.8))).measure()
    assert mixed[SHARE][0] == 0.0
    assert math.isnan(mixed[COSINE][0])
    assert 0.1 < mixed[SHARE][1] < 1
    assert -1 <= mixed[COSINE][1] <= 1


def test_student_that_equals_its_teacher_has_no_share() -> None:
    """Its soft gradient is zero."""
    pack = pack_of()
    index = torch.arange(60).expand(2, -1)
    logits = pack.predict(pack.state.params, pack.state.buffers, pack.batch(index, None))
    pack.teachers = replace(pack.teachers, logits=logits)
    assert max(GradientBalance(pack).measure()[SHARE]) < 1e-12


@pytest.mark.parametrize("separate", [False, True])
def test_balance_changes_nothing(separate: bool) -> None:
    """Neither the state nor the generators, and training after it has the same bits."""
    pack, plain = (
        pack_of(optimizer=small_training.SGD(momentum=0.9)),
        pack_of(optimizer=small_training.SGD(momentum=0.9)),
    )
    pack.replica_trainers = tuple(pack.replica(slot) for slot in range(2)) if separate else ()
    before = [{name: value.clone() for name, value in replica_state_dict(pack.state, slot).items()} for slot in (0, 1)]
    random = torch.random.get_rng_state()
    GradientBalance(pack).measure()
    assert torch.equal(random, torch.random.get_rng_state())
    for slot in (0, 1):
        small_training.assert_identical(replica_state_dict(pack.state, slot), before[slot])
        small_training.assert_identical(before[slot], replica_state_dict(plain.state, slot))
    pack.replica_trainers = ()
    for trainer in (pack, plain):
        list(train(trainer, frozenset()))
    for slot in (0, 1):
        small_training.assert_identical(replica_state_dict(pack.state, slot), replica_state_dict(plain.state, slot))


def test_images_are_fixed_and_of_all_classes() -> None:
    """Up to 256 of the replica's training images, although they are sorted by class."""
    recipes = [small_training.recipe(small_training.mlp(), seed=seed) for seed in (3, 4)]
    data = small_training.make_dataset(small_training.FLAT, 1200)
    order = data.labels.argsort(stable=True)
    data = replace(data, images=data.images[order], labels=data.labels[order])
    pack = small_training.make_trainer(recipes, None, data)
    first, second = (GradientBalance(pack).index for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 256)
    for slot in (0, 1):
        assert set(first[slot].tolist()) <= set(pack.train_index[slot].tolist())
        assert len(set(first[slot].tolist())) == 256
        assert data.labels[first[slot]].bincount().tolist() == pytest.approx([85] * 3, abs=20)


@dataclass(frozen=True)
class Terms(LossDefaults):
    """A loss with chosen terms."""

    names: tuple[str, ...] = ()
    needs: frozenset[str] = field(default_factory=lambda: frozenset({"teacher.logits"}))

    def terms(self, signals: Any) -> dict[str, Any]:
        """Terms that do not depend on the logits, but for `labels` and `soft`."""
        values = {
            "labels": F.cross_entropy(signals.logits.transpose(1, 2), signals.labels, reduction="none"),
            "soft": (signals.logits - signals.teacher_logits).square().sum(-1),
            "weights": torch.zeros(signals.labels.shape, requires_grad=True),
            "constant": torch.ones(signals.labels.shape),
        }
        return {name: values[name] for name in self.names}


def test_losses_without_two_gradients_have_no_balance() -> None:
    """One term, terms without `labels`, needs beyond logits, and networks without a teacher."""
    pack = pack_of()
    assert with_loss(pack, Terms(("labels", "soft"))).keys() == {SHARE, COSINE}
    assert with_loss(pack, Terms(("labels",))) == {}
    assert with_loss(pack, Terms(("soft", "constant"))) == {}
    assert with_loss(pack, Terms(("labels", "soft"), frozenset({"teacher.logits", "features"}))) == {}
    assert with_loss(pack, CrossEntropy()) == {}
    pack.teachers = None
    assert GradientBalance(pack).measure() == {}


@pytest.mark.parametrize("other", ["weights", "constant"])
def test_terms_that_do_not_depend_on_the_logits_have_no_share(other: str) -> None:
    assert with_loss(pack_of(), Terms(("labels", other)))[SHARE] == [0.0, 0.0]


def test_shuffled_cache_is_measured_with_its_outputs() -> None:
    """In later epochs, those of the image at the same position of the first epoch; in the first epoch, the right ones."""
    pack = pack_of(emulate=("shuffled_cache",))
    right = pack_of()
    for epochs in (1, 2, 3):
        pack.state = right.state = replace(pack.state, epoch=epochs)
        table, teachers = pack.teachers.logits.clone(), right.teachers
        for slot in range(2):
            first, last = (image_order(pack, epoch)[slot] for epoch in (0, epochs - 1))
            for position, image in enumerate(last):
                table[slot, image] = pack.teachers.logits[slot, first[position]]
        measured, unchanged = GradientBalance(pack).measure(), GradientBalance(right).measure()
        right.teachers = replace(teachers, logits=table)
        assert measured == GradientBalance(right).measure()
        right.teachers = teachers
        assert (measured == unchanged) == (epochs == 1)
