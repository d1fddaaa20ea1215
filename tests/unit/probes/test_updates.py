"""The update probe equals the next training step, and the step of torch's optimizer."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import Constant, CosineAnnealingLR, OneCycleLR
from fathomlab.optim.sgd import SGD
from fathomlab.probes.gradients import Gradients
from fathomlab.probes.updates import Updates
from tests.helpers import reference_models

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
PLAIN = MLP(**DENSE, hidden_layers_num=4)
NORMED = MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True)
CONVOLUTIONS = CNN(layers=(1, 1, 1, 1), num_classes=3, width=2)
TRAININGS: list[tuple[MLP | CNN, dict[str, Any]]] = [
    (PLAIN, {"optimizer": SGD()}),
    (PLAIN, {"optimizer": SGD(momentum=0.9, dampening=0.3, weight_decay=0.01), "schedule": CosineAnnealingLR()}),
    (PLAIN, {"optimizer": Adam(), "schedule": OneCycleLR(), "distilled": True}),
    (NORMED, {"optimizer": AdamW(), "gradient_clip": 0.1}),
    (NORMED, {"optimizer": RMSprop(momentum=0.5), "label_smoothing": 0.1}),
    (CONVOLUTIONS, {"optimizer": Adam(), "distilled": True}),
]


@pytest.mark.parametrize(("options", "changes"), TRAININGS, ids=str)
def test_updates_equal_next_training_step(options: MLP | CNN, changes: dict[str, Any], packs: Any) -> None:
    """If a batch is the full training set, the fixed batch is the next one: six steps, three replicas."""
    pack = packs(options, (5, 6, 7), batch_size=48, epochs=6, **changes)
    names = pack.shared_recipe.architecture.weight_layers
    predicted, before = None, {}
    for _ in train(pack, frozenset({0})):
        current = {name: pack.state.params[f"{name}.weight"].detach().clone() for name in names}
        if predicted is not None:
            assert predicted["layers"] == list(names)
            for column, name in enumerate(names):
                update = (current[name] - before[name]).flatten(1).norm(dim=1)
                weight = before[name].flatten(1).norm(dim=1)
                torch.testing.assert_close(predicted["update"][:, column], update, rtol=1e-8, atol=1e-15)
                torch.testing.assert_close(predicted["weight"][:, column], weight, rtol=1e-12, atol=0)
                torch.testing.assert_close(predicted["ratio"][:, column], update / weight, rtol=1e-8, atol=1e-15)
        predicted, before = Updates().measure(Snapshot(pack)), current


@pytest.mark.parametrize("schedule", [Constant(), CosineAnnealingLR(), OneCycleLR(cycle_momentum=False)], ids=str)
def test_updates_use_next_learning_rate(schedule: Any, packs: Any) -> None:
    """Plain SGD moves by rate x gradient. After the last step, the rate of the last step is used."""
    pack = packs(PLAIN, optimizer=SGD(), schedule=schedule)
    learning_rates: list[torch.Tensor] = []
    for snapshot in train(pack, frozenset(range(21))):
        if learning_rates:
            expected = torch.tensor(snapshot.lr, dtype=torch.float64)
            torch.testing.assert_close(learning_rates[-1], expected, rtol=1e-6, atol=0)
        gradient = Gradients().measure(Snapshot(pack))["weight"]
        learning_rates.append((Updates().measure(Snapshot(pack))["update"] / gradient).mean(1))
    assert len(learning_rates) == 21
    torch.testing.assert_close(learning_rates[-1], learning_rates[-2], rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [PLAIN, NORMED, CONVOLUTIONS], ids=str)
def test_updates_equal_torch_adam(options: MLP | CNN, packs: Any) -> None:
    """In the middle of training, from the same moments, with torch's clipping."""
    pack = packs(options, optimizer=Adam(), gradient_clip=0.5)
    next(snapshot for snapshot in train(pack, frozenset({7})) if snapshot.step == 7)
    columns, image_index = Updates().measure(Snapshot(pack)), Snapshot(pack).probe_batch(128)
    for slot in range(2):
        reference = reference_models.reference_model(options, pack.state.params, slot)
        reference_tensors = reference_models.tensors(reference)
        optimizer = torch.optim.Adam(reference.parameters(), lr=0.05)
        for index, name in enumerate(pack.state.params):
            first, second = (pack.state.optimizer_state[moment][index][slot].clone() for moment in ("first", "second"))
            optimizer.state[reference_tensors[name]] = {
                "step": torch.tensor(7.0),
                "exp_avg": first,
                "exp_avg_sq": second,
            }
        before = {name: reference_tensors[f"{name}.weight"].detach().clone() for name in columns["layers"]}
        images = pack.data.normalize(pack.data.images[image_index[slot]])
        F.cross_entropy(reference(images), pack.data.labels[image_index[slot]]).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.step()
        ratios = [
            float((reference_tensors[f"{name}.weight"].detach() - old).norm() / old.norm())
            for name, old in before.items()
        ]
        assert columns["ratio"][slot].tolist() == pytest.approx(ratios, rel=1e-8)


def test_ratio_of_zero_weight_is_nan(packs: Any) -> None:
    pack = packs(PLAIN, optimizer=SGD())
    with torch.no_grad():
        pack.state.params["output.weight"].zero_()
    columns = Updates().measure(Snapshot(pack))
    assert columns["ratio"][:, -1].isnan().all()
    assert (columns["update"][:, -1] > 0).all()
    assert columns["weight"][:, -1].tolist() == [0, 0]
