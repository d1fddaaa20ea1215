"""The loop: snapshots, evaluation, best weights, divergence, clipping."""

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fathomlab.engine.evaluation import evaluate
from fathomlab.engine.loop import train
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from fathomlab.optim.sgd import SGD


def test_snapshots_come_where_they_are_asked_for(small_training: ModuleType) -> None:
    """At the start, after the named steps, and after every epoch; the end of an epoch comes once."""
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp())])
    found = [(one.epoch, one.step, one.train is not None) for one in train(pack, frozenset({0, 1, 5, 7, 99}))]
    epochs = [(1, 5, True), (2, 10, True), (3, 15, True), (4, 20, True)]
    assert found == [(0, 0, False), (0, 1, False), epochs[0], (1, 7, False), *epochs[1:]]


def test_asking_for_snapshots_changes_no_bit(small_training: ModuleType) -> None:
    """Training is the same with every snapshot and with none."""
    recipes = [small_training.recipe(small_training.mlp(batch_norm=True, dropout=0.3), seed=seed) for seed in (1, 2)]
    plain, curves = small_training.run_training(recipes)
    watched = small_training.make_trainer(recipes)
    found = [one for one in train(watched, frozenset(range(21))) if one.train is not None]
    for place in range(2):
        small_training.assert_identical(
            small_training.replica_results(watched, found, place), small_training.replica_results(plain, curves, place)
        )


@pytest.mark.parametrize("schedule", [CosineAnnealingLR(), OneCycleLR()], ids=str)
def test_the_rate_of_a_snapshot_is_that_of_its_last_step(schedule: Any, small_training: ModuleType) -> None:
    """With plain SGD the weights have moved by that rate times the gradient; here: the known rates of the schedule."""
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp(), schedule=schedule)])
    found = {one.step: one.lr[0] for one in train(pack, frozenset(range(1, 21)))}
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    if isinstance(schedule, OneCycleLR):
        reference: Any = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.05, total_steps=20)
    else:
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 4)
    for step in range(1, 21):
        assert found[step] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-10)
        theirs.step()
        if step < 20 and (isinstance(schedule, OneCycleLR) or step % 5 == 0):
            reference.step()


def test_a_plateau_lowers_the_rate_of_the_replica_that_needs_it(small_training: ModuleType) -> None:
    """The memory is each replica's own: one that does not learn falls, one that learns does not."""
    recipes = [
        small_training.recipe(small_training.mlp(), lr=lr, schedule=ReduceLROnPlateau(patience=0))
        for lr in (1e-7, 0.05)
    ]
    _, snapshots = small_training.run_training(recipes)
    assert snapshots[-1].lr[1] == 0.05


def test_evaluation_is_plain_cross_entropy_and_changes_nothing(small_training: ModuleType) -> None:
    """On validation and on the test set, whatever the trial trains on; a second one has the same bits."""
    recipes = [
        small_training.recipe(small_training.mlp(batch_norm=True, dropout=0.5), seed=s, label_smoothing=0.2)
        for s in (1, 2)
    ]
    pack, snapshots = small_training.run_training(recipes)
    before = {name: value.clone() for name, value in pack.state.buffers.items()}
    data, state = pack.data, pack.state
    for validation in (True, False):
        first, second = (evaluate(pack, state.params, state.buffers, validation) for _ in range(2))
        assert torch.equal(first.loss, second.loss)
        for place in range(2):
            index = pack.validation_index[place]
            images = data.normalize(data.images[index] if validation else data.test_images)
            labels = data.labels[index] if validation else data.test_labels
            logits = state.network(state.params, state.buffers, images.expand(2, *images.shape), "eval")[place]
            assert float(first.loss[place]) == pytest.approx(float(F.cross_entropy(logits, labels).detach()), rel=1e-12)
            assert float(first.accuracy[place]) == float((logits.argmax(-1) == labels).double().mean())
        if validation:
            assert torch.equal(first.loss, snapshots[-1].validation.loss)
    assert all(torch.equal(before[name], value) for name, value in state.buffers.items())


def test_evaluation_in_several_batches(small_training: ModuleType) -> None:
    """More images than go through the network at once, the last batch smaller."""
    data = small_training.make_dataset(small_training.FLAT, 1400)
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp(), validation_split=90.0)], None, data)
    held = pack.validation_index[0]
    assert len(held) == 1260
    found = evaluate(pack, pack.state.params, pack.state.buffers, True)
    images = data.normalize(data.images[held])[None]
    logits = pack.state.network(pack.state.params, pack.state.buffers, images, "eval")[0]
    assert float(found.loss) == pytest.approx(float(F.cross_entropy(logits, data.labels[held]).detach()), rel=1e-12)
    assert float(found.accuracy) == pytest.approx(float((logits.argmax(-1) == data.labels[held]).double().mean()))


def test_the_best_weights_are_the_first_that_were_best(small_training: ModuleType) -> None:
    """On validation accuracy, for each replica; the kept tensors are those of that epoch."""
    recipes = [
        small_training.recipe(small_training.mlp(batch_norm=True), seed=seed, epochs=8, lr=0.3) for seed in range(4)
    ]
    pack = small_training.make_trainer(recipes)
    history, accuracies = [], []
    for snapshot in train(pack, frozenset()):
        history.append({n: v.detach().clone() for n, v in {**pack.state.params, **pack.state.buffers}.items()})
        accuracies.append(snapshot.validation.accuracy)
    best = pack.state.best
    stacked = torch.stack(accuracies)
    for place in range(4):
        expected = stacked[:, place].tolist().index(stacked[:, place].max())
        assert int(best.epoch[place]) == expected + 1
        assert float(pack.state.best_accuracy[place]) == float(stacked[:, place].max())
        for name, kept in {**best.params, **best.buffers}.items():
            assert torch.equal(kept[place], history[expected][name][place])
    assert len(set(best.epoch.tolist())) > 1


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam(), AdamW(), RMSprop()], ids=str)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_replica_that_diverges_harms_nobody(kind: str, optimizer: Any, small_training: ModuleType) -> None:
    """Neighbors keep every bit, whether the poisoned replica is first, in the middle or last."""
    architecture = small_training.mlp(residual=True) if kind == "mlp" else small_training.cnn()
    for poisoned in range(3):
        found = []
        for rate in (1e200 if kind == "cnn" or not isinstance(optimizer, SGD) else 1e20, 1e-3):
            recipes = [
                small_training.recipe(architecture, seed=s, lr=0.01 + s / 1000, optimizer=optimizer) for s in range(3)
            ]
            recipes[poisoned] = replace(recipes[poisoned], lr=rate, optimizer=replace(optimizer, weight_decay=1.0))
            recipes = [replace(own, gradient_clip=100.0) for own in recipes]
            pack, snapshots = small_training.run_training(recipes)
            found.append((pack, snapshots))
        (sick, curves), (healthy, others) = found
        assert healthy.state.diverged_at_step.tolist() == [0, 0, 0]
        assert [step > 0 for step in sick.state.diverged_at_step.tolist()] == [place == poisoned for place in range(3)]
        assert not math.isfinite(float(curves[-1].train.loss[poisoned]))
        for place in {0, 1, 2} - {poisoned}:
            small_training.assert_identical(
                small_training.replica_results(sick, curves, place),
                small_training.replica_results(healthy, others, place),
            )
        best = {**sick.state.best.params, **sick.state.best.buffers}
        assert all(bool(tensor[poisoned].isfinite().all()) for tensor in best.values())


def test_the_step_of_the_first_bad_loss_is_kept(small_training: ModuleType) -> None:
    """Counted from 1; later bad losses do not move it."""
    recipes = [small_training.recipe(small_training.mlp(), lr=rate, precision="fp32") for rate in (0.01, 1e30)]
    pack = small_training.make_trainer(recipes)
    steps = [(one.step, pack.state.diverged_at_step.tolist()) for one in train(pack, frozenset(range(21)))]
    first = next(step for step, bad in steps if bad[1])
    assert 1 < first < 5
    assert all(bad == [0, first if step >= first else 0] for step, bad in steps)


def test_clipping_is_that_of_torch(small_training: ModuleType, reference_models: ModuleType) -> None:
    """One step of plain SGD moves by the clipped gradient; small gradients are left as they are."""
    from fathomlab.models.mlp import MLP

    options = MLP(input_size=12, layers_dim=6, class_num=3, hidden_layers_num=2)
    for largest in (1e-3, 0.1, 1e4):
        recipes = [
            small_training.recipe(
                options.build(small_training.FLAT), seed=s, epochs=1, batch_size=48, lr=1.0, gradient_clip=largest
            )
            for s in (1, 2)
        ]
        pack = small_training.make_trainer(recipes)
        made = [reference_models.reference_model(options, pack.state.params, place) for place in range(2)]
        list(train(pack, frozenset()))
        for place, naive in enumerate(made):
            index = pack.train_index[place]
            F.cross_entropy(naive(pack.data.normalize(pack.data.images[index])), pack.data.labels[index]).backward()
            torch.nn.utils.clip_grad_norm_(naive.parameters(), largest)
            for name, tensor in reference_models.tensors(naive).items():
                moved = (tensor - tensor.grad).detach()
                torch.testing.assert_close(pack.state.params[name][place].detach(), moved, rtol=1e-10, atol=1e-14)


def test_a_last_batch_of_one_image_is_trained(small_training: ModuleType) -> None:
    """An MLP with batch normalization goes on; its numbers stay finite."""
    recipe = small_training.recipe(small_training.mlp(batch_norm=True), batch_size=47)
    pack, snapshots = small_training.run_training([recipe])
    assert pack.state.step == 8
    assert bool(snapshots[-1].train.loss.isfinite().all())
    assert all(bool(buffer.isfinite().all()) for buffer in pack.state.buffers.values())


def test_a_small_net_learns(small_training: ModuleType) -> None:
    """The pictures are easy: all three classes are told apart, by validation and by test."""
    for architecture in (small_training.mlp(layers_dim=16, batch_norm=True), small_training.cnn(width=4)):
        pack, snapshots = small_training.run_training(
            [small_training.recipe(architecture, epochs=10, optimizer=Adam(), lr=0.01)]
        )
        assert float(snapshots[-1].validation.accuracy) > 0.9
        assert float(evaluate(pack, pack.state.params, pack.state.buffers, False).accuracy) > 0.9
        assert float(snapshots[-1].train.loss) < 0.5 * float(snapshots[0].train.loss)


def test_half_precision_is_near_and_stores_float32(small_training: ModuleType, bf16: None) -> None:
    """Products in bf16, parameters and statistics in float32: an epoch's loss is that of float32 to 15 percent."""
    for architecture in (
        small_training.mlp(layers_dim=16, batch_norm=True, residual=True),
        small_training.mlp(layers_dim=16),
    ):
        curves = {}
        for precision in ("fp32", "bf16"):
            recipes = [small_training.recipe(architecture, seed=seed, precision=precision) for seed in (1, 2)]
            pack, snapshots = small_training.run_training(recipes)
            assert {value.dtype for value in {**pack.state.params, **pack.state.buffers}.values()} == {torch.float32}
            curves[precision] = torch.stack([snapshot.train.loss for snapshot in snapshots])
        torch.testing.assert_close(curves["bf16"], curves["fp32"], rtol=0.15, atol=0.02)
        assert not torch.equal(curves["bf16"], curves["fp32"])


def test_an_epoch_tells_plain_cross_entropy_beside_the_trials_own_loss(small_training: ModuleType) -> None:
    """With label smoothing both differ; without they are one and the second is left out."""
    data = small_training.make_dataset(small_training.FLAT)
    for smoothing in (0.0, 0.3):
        recipe = small_training.recipe(
            small_training.mlp(init="he"), batch_size=48, epochs=1, label_smoothing=smoothing
        )
        pack = small_training.make_trainer([recipe], None, data)
        index = pack.train_index[0]
        with torch.no_grad():
            logits = pack.forward(data.normalize(data.images[index])[None], "probe")[0]
        (snapshot,) = list(train(pack, frozenset()))
        plain = F.cross_entropy(logits, data.labels[index])
        smooth = F.cross_entropy(logits, data.labels[index], label_smoothing=smoothing)
        assert float(snapshot.train.loss) == pytest.approx(float(plain), rel=1e-12)
        assert float(snapshot.train.accuracy) == float((logits.argmax(-1) == data.labels[index]).double().mean())
        if smoothing:
            assert float(snapshot.objective) == pytest.approx(float(smooth), rel=1e-12)
            assert abs(float(smooth - plain)) > 0.001
        else:
            assert torch.equal(snapshot.objective, snapshot.train.loss)
