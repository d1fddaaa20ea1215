"""The training loop: snapshots, evaluation, best weights, divergence, and clipping."""

import math
from dataclasses import replace
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
from tests.helpers import reference_models, small_training


def test_train_yields_snapshots_at_requested_steps() -> None:
    """At the start, after the given steps, and once after every epoch."""
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp())])
    positions = [(s.epoch, s.step, s.train is not None) for s in train(pack, frozenset({0, 1, 5, 7, 99}))]
    epochs = [(1, 5, True), (2, 10, True), (3, 15, True), (4, 20, True)]
    assert positions == [(0, 0, False), (0, 1, False), epochs[0], (1, 7, False), *epochs[1:]]


def test_snapshots_do_not_change_training() -> None:
    recipes = [small_training.recipe(small_training.mlp(batch_norm=True, dropout=0.3), seed=seed) for seed in (1, 2)]
    plain, curves = small_training.run_training(recipes)
    watched = small_training.make_trainer(recipes)
    epochs = [snapshot for snapshot in train(watched, frozenset(range(21))) if snapshot.train is not None]
    for slot in range(2):
        small_training.assert_identical(
            small_training.replica_results(watched, epochs, slot), small_training.replica_results(plain, curves, slot)
        )


@pytest.mark.parametrize("schedule", [CosineAnnealingLR(), OneCycleLR()], ids=str)
def test_snapshot_lr_equals_rate_of_last_step(schedule: Any) -> None:
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp(), schedule=schedule)])
    rates = {snapshot.step: snapshot.lr[0] for snapshot in train(pack, frozenset(range(1, 21)))}
    torch_optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    if isinstance(schedule, OneCycleLR):
        reference: Any = torch.optim.lr_scheduler.OneCycleLR(torch_optimizer, 0.05, total_steps=20)
    else:
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(torch_optimizer, 4)
    for step in range(1, 21):
        assert rates[step] == pytest.approx(torch_optimizer.param_groups[0]["lr"], rel=1e-10)
        torch_optimizer.step()
        if step < 20 and (isinstance(schedule, OneCycleLR) or step % 5 == 0):
            reference.step()


def test_plateau_lowers_rate_per_replica() -> None:
    recipes = [
        small_training.recipe(small_training.mlp(), lr=lr, schedule=ReduceLROnPlateau(patience=0))
        for lr in (1e-7, 0.05)
    ]
    _, snapshots = small_training.run_training(recipes)
    assert snapshots[-1].lr[1] == 0.05


def test_evaluate_returns_cross_entropy_without_side_effects() -> None:
    """For every training loss, on validation and test images."""
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
        for slot in range(2):
            index = pack.validation_index[slot]
            images = data.normalize(data.images[index] if validation else data.test_images)
            labels = data.labels[index] if validation else data.test_labels
            logits = state.network(state.params, state.buffers, images.expand(2, *images.shape), "eval")[slot]
            assert float(first.loss[slot]) == pytest.approx(float(F.cross_entropy(logits, labels).detach()), rel=1e-12)
            assert float(first.accuracy[slot]) == float((logits.argmax(-1) == labels).double().mean())
        if validation:
            assert torch.equal(first.loss, snapshots[-1].validation.loss)
    assert all(torch.equal(before[name], value) for name, value in state.buffers.items())


def test_evaluate_equals_in_several_batches() -> None:
    data = small_training.make_dataset(small_training.FLAT, 1400)
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp(), validation_split=90.0)], None, data)
    index = pack.validation_index[0]
    assert len(index) == 1260
    result = evaluate(pack, pack.state.params, pack.state.buffers, True)
    images = data.normalize(data.images[index])[None]
    logits = pack.state.network(pack.state.params, pack.state.buffers, images, "eval")[0]
    assert float(result.loss) == pytest.approx(float(F.cross_entropy(logits, data.labels[index]).detach()), rel=1e-12)
    assert float(result.accuracy) == pytest.approx(float((logits.argmax(-1) == data.labels[index]).double().mean()))


def test_best_weights_are_first_with_max_accuracy() -> None:
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
    for slot in range(4):
        expected = stacked[:, slot].tolist().index(stacked[:, slot].max())
        assert int(best.epoch[slot]) == expected + 1
        assert float(pack.state.best_accuracy[slot]) == float(stacked[:, slot].max())
        for name, copied in {**best.params, **best.buffers}.items():
            assert torch.equal(copied[slot], history[expected][name][slot])
    assert len(set(best.epoch.tolist())) > 1


@pytest.mark.parametrize(
    ("kind", "optimizer", "slots"),
    [("mlp", SGD(momentum=0.9), (1,)), ("mlp", Adam(), (0, 1, 2)), ("mlp", RMSprop(), (1,)), ("cnn", AdamW(), (1,))],
    ids=str,
)
def test_diverged_replica_does_not_change_others(kind: str, optimizer: Any, slots: tuple[int, ...]) -> None:
    architecture = small_training.mlp(residual=True) if kind == "mlp" else small_training.cnn()
    for poisoned in slots:
        runs = []
        for rate in (1e200 if kind == "cnn" or not isinstance(optimizer, SGD) else 1e20, 1e-3):
            recipes = [
                small_training.recipe(architecture, seed=s, lr=0.01 + s / 1000, optimizer=optimizer) for s in range(3)
            ]
            recipes[poisoned] = replace(recipes[poisoned], lr=rate, optimizer=replace(optimizer, weight_decay=1.0))
            recipes = [replace(recipe, gradient_clip=100.0) for recipe in recipes]
            pack, snapshots = small_training.run_training(recipes)
            runs.append((pack, snapshots))
        (diverged, curves), (healthy, healthy_curves) = runs
        assert healthy.state.diverged_at_step.tolist() == [0, 0, 0]
        assert [step > 0 for step in diverged.state.diverged_at_step.tolist()] == [
            slot == poisoned for slot in range(3)
        ]
        assert not math.isfinite(float(curves[-1].train.loss[poisoned]))
        for slot in {0, 1, 2} - {poisoned}:
            small_training.assert_identical(
                small_training.replica_results(diverged, curves, slot),
                small_training.replica_results(healthy, healthy_curves, slot),
            )
        best = {**diverged.state.best.params, **diverged.state.best.buffers}
        assert all(bool(tensor[poisoned].isfinite().all()) for tensor in best.values())


def test_diverged_at_step_keeps_first_step() -> None:
    recipes = [small_training.recipe(small_training.mlp(), lr=rate, precision="fp32") for rate in (0.01, 1e30)]
    pack = small_training.make_trainer(recipes)
    steps = [(s.step, pack.state.diverged_at_step.tolist()) for s in train(pack, frozenset(range(21)))]
    first = next(step for step, diverged_at in steps if diverged_at[1])
    assert 1 < first < 5
    assert all(diverged_at == [0, first if step >= first else 0] for step, diverged_at in steps)


def test_clipping_equals_torch() -> None:
    """One step of plain SGD moves by the clipped gradient. Small gradients are unchanged."""
    from fathomlab.models.mlp import MLP

    options = MLP(input_size=12, layers_dim=6, class_num=3, hidden_layers_num=2)
    for max_norm in (1e-3, 0.1, 1e4):
        recipes = [
            small_training.recipe(
                options.build(small_training.FLAT), seed=s, epochs=1, batch_size=48, lr=1.0, gradient_clip=max_norm
            )
            for s in (1, 2)
        ]
        pack = small_training.make_trainer(recipes)
        references = [reference_models.reference_model(options, pack.state.params, slot) for slot in range(2)]
        list(train(pack, frozenset()))
        for slot, reference in enumerate(references):
            index = pack.train_index[slot]
            F.cross_entropy(reference(pack.data.normalize(pack.data.images[index])), pack.data.labels[index]).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), max_norm)
            for name, tensor in reference_models.tensors(reference).items():
                moved = (tensor - tensor.grad).detach()
                torch.testing.assert_close(pack.state.params[name][slot].detach(), moved, rtol=1e-10, atol=1e-14)


def test_train_accepts_last_batch_of_one_image() -> None:
    """The running statistics of batch normalization stay finite."""
    recipe = small_training.recipe(small_training.mlp(batch_norm=True), batch_size=47)
    pack, snapshots = small_training.run_training([recipe])
    assert pack.state.step == 8
    assert bool(snapshots[-1].train.loss.isfinite().all())
    assert all(bool(buffer.isfinite().all()) for buffer in pack.state.buffers.values())


def test_small_networks_learn() -> None:
    for architecture in (small_training.mlp(layers_dim=16, batch_norm=True), small_training.cnn(width=4)):
        pack, snapshots = small_training.run_training(
            [small_training.recipe(architecture, epochs=10, optimizer=Adam(), lr=0.01)]
        )
        assert float(snapshots[-1].validation.accuracy) > 0.9
        assert float(evaluate(pack, pack.state.params, pack.state.buffers, False).accuracy) > 0.9
        assert float(snapshots[-1].train.loss) < 0.5 * float(snapshots[0].train.loss)


def test_epoch_reports_cross_entropy_and_training_loss() -> None:
    """With label smoothing they differ; without it they are equal."""
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
