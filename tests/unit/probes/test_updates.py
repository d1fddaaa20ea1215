"""The update probe: it says what training then does, what torch's optimizers do, and at which learning rate."""

from types import ModuleType
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

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
PLAIN = MLP(**DENSE, hidden_layers_num=4)
NORMED = MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True)
CONVOLUTIONS = CNN(layers=(1, 1, 1, 1), num_classes=3, width=2)
TRAININGS: list[tuple[MLP | CNN, dict[str, Any]]] = [
    (PLAIN, {"optimizer": SGD()}),
    (PLAIN, {"optimizer": SGD(momentum=0.9, dampening=0.3, weight_decay=0.01), "schedule": CosineAnnealingLR()}),
    (PLAIN, {"optimizer": Adam(), "schedule": OneCycleLR(), "taught": True}),
    (NORMED, {"optimizer": AdamW(), "gradient_clip": 0.1}),
    (NORMED, {"optimizer": RMSprop(momentum=0.5), "label_smoothing": 0.1}),
    (CONVOLUTIONS, {"optimizer": Adam(), "taught": True}),
]


@pytest.mark.parametrize(("options", "changes"), TRAININGS, ids=str)
def test_the_next_step_is_the_one_foretold(options: MLP | CNN, changes: dict[str, Any], packs: Any) -> None:
    """Where a batch is the whole training set, the fixed batch is the next one: six steps, three replicas."""
    pack = packs(options, (5, 6, 7), batch_size=48, epochs=6, **changes)
    names = pack.shared_recipe.architecture.weight_layers
    foretold, before = None, {}
    for _ in train(pack, frozenset({0})):
        now = {name: pack.state.params[f"{name}.weight"].detach().clone() for name in names}
        if foretold is not None:
            assert foretold["layers"] == list(names)
            for column, name in enumerate(names):
                update = (now[name] - before[name]).flatten(1).norm(dim=1)
                weight = before[name].flatten(1).norm(dim=1)
                torch.testing.assert_close(foretold["update"][:, column], update, rtol=1e-8, atol=1e-15)
                torch.testing.assert_close(foretold["weight"][:, column], weight, rtol=1e-12, atol=0)
                torch.testing.assert_close(foretold["ratio"][:, column], update / weight, rtol=1e-8, atol=1e-15)
        foretold, before = Updates().measure(Snapshot(pack)), now


@pytest.mark.parametrize("schedule", [Constant(), CosineAnnealingLR(), OneCycleLR(cycle_momentum=False)], ids=str)
def test_the_learning_rate_is_the_next_steps(schedule: Any, packs: Any) -> None:
    """Plain descent moves by rate x gradient; after the last step the rate is still the last step's."""
    pack = packs(PLAIN, optimizer=SGD(), schedule=schedule)
    told: list[torch.Tensor] = []
    for snapshot in train(pack, frozenset(range(21))):
        if told:
            expected = torch.tensor(snapshot.lr, dtype=torch.float64)
            torch.testing.assert_close(told[-1], expected, rtol=1e-6, atol=0)
        gradient = Gradients().measure(Snapshot(pack))["weight"]
        told.append((Updates().measure(Snapshot(pack))["update"] / gradient).mean(1))
    assert len(told) == 21
    torch.testing.assert_close(told[-1], told[-2], rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [PLAIN, NORMED, CONVOLUTIONS], ids=str)
def test_torch_adam_takes_the_same_step(options: MLP | CNN, packs: Any, reference_models: ModuleType) -> None:
    """In the middle of training, from the same moments, with torch's clipping."""
    pack = packs(options, optimizer=Adam(), gradient_clip=0.5)
    next(snapshot for snapshot in train(pack, frozenset({7})) if snapshot.step == 7)
    found, index = Updates().measure(Snapshot(pack)), Snapshot(pack).probe_batch(128)
    for place in range(2):
        twin = reference_models.reference_model(options, pack.state.params, place)
        mine = reference_models.tensors(twin)
        optimizer = torch.optim.Adam(twin.parameters(), lr=0.05)
        for number, name in enumerate(pack.state.params):
            first, second = (pack.state.optimizer_state[slot][number][place].clone() for slot in ("first", "second"))
            optimizer.state[mine[name]] = {"step": torch.tensor(7.0), "exp_avg": first, "exp_avg_sq": second}
        before = {name: mine[f"{name}.weight"].detach().clone() for name in found["layers"]}
        images = pack.data.normalize(pack.data.images[index[place]])
        F.cross_entropy(twin(images), pack.data.labels[index[place]]).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
        ratios = [float((mine[f"{name}.weight"].detach() - old).norm() / old.norm()) for name, old in before.items()]
        assert found["ratio"][place].tolist() == pytest.approx(ratios, rel=1e-8)


def test_a_weight_of_zeros_has_no_ratio(packs: Any) -> None:
    """An update of a branch that begins at 0 is infinite beside it."""
    pack = packs(PLAIN, optimizer=SGD())
    with torch.no_grad():
        pack.state.params["output.weight"].zero_()
    found = Updates().measure(Snapshot(pack))
    assert found["ratio"][:, -1].isnan().all()
    assert (found["update"][:, -1] > 0).all()
    assert found["weight"][:, -1].tolist() == [0, 0]
