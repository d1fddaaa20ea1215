"""Loss curves of 20 steps in float64, stored as text: a change of any stream or formula moves them."""

import os
from pathlib import Path
from typing import Any

import pytest

from fathomlab.engine.evaluation import evaluate
from fathomlab.engine.loop import train
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import CosineAnnealingLR, OneCycleLR
from fathomlab.optim.sgd import SGD
from tests.helpers import small_training

HERE = Path(__file__).parent
REWRITE = "FATHOMLAB_REWRITE_GOLDEN"


def recipes(model: str, loss: str) -> list[Any]:
    """Two replicas that differ in seed, rate and, where there is one, in what they take from the teacher."""
    if model == "mlp":
        architecture = small_training.mlp(residual=True, batch_norm=True, dropout=0.1)
        common: dict[str, Any] = {"optimizer": Adam(), "schedule": CosineAnnealingLR(), "label_smoothing": 0.1}
    else:
        architecture = small_training.cnn(width=3)
        common = {"optimizer": SGD(momentum=0.9), "schedule": OneCycleLR(), "augment": ("flip", "crop")}
        common["gradient_clip"] = 2.0
    pair = [small_training.recipe(architecture, seed=seed, lr=lr, **common) for seed, lr in ((42, 0.01), (43, 0.02))]
    return small_training.distilled(pair, (0.7, 0.3), (3.0, 8.0)) if loss == "distillation" else pair


def curve(model: str, loss: str) -> list[str]:
    """Validation loss of both replicas after each step, training loss after each epoch, 12 significant digits."""
    plan = recipes(model, loss)
    data = small_training.make_dataset(plan[0].architecture.shape)
    pack = small_training.make_trainer(
        plan, small_training.make_teachers(plan, data) if loss == "distillation" else None, data
    )
    lines = []
    for snapshot in train(pack, frozenset(range(21))):
        state = pack.state
        columns = [evaluate(pack, state.params, state.buffers, validation=True).loss]
        columns += [snapshot.train.loss] if snapshot.train is not None else []
        numbers = [f"{number:.11e}" for column in columns for number in column.tolist()]
        lines.append(" ".join([f"{snapshot.step:2d}", *numbers]))
    return lines


@pytest.mark.parametrize("loss", ["supervised", "distillation"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_curve_equals_the_golden_curve(model: str, loss: str) -> None:
    """To 1e-9."""
    path = HERE / f"{model}_{loss}.txt"
    computed = curve(model, loss)
    if os.environ.get(REWRITE):
        path.write_text("\n".join(computed) + "\n")
    expected = path.read_text().splitlines()
    assert len(computed) == len(expected) == 21
    for mine, golden in zip(computed, expected, strict=True):
        assert [float(word) for word in mine.split()] == pytest.approx(
            [float(word) for word in golden.split()], rel=1e-9, abs=0
        )
