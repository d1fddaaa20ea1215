"""Trials read back from plain data."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import fathomlab
from fathomlab.losses import CRITERIA
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.losses.distillation import Distillation
from fathomlab.plan import read_trial

CONFIG = {
    "teacher_model": {"type": "MLP", "params": {"layers_dim": 8}},
    "student_model": {"type": "MLP", "params": {"layers_dim": 4}},
    "training_teacher": {"epochs": 2, "optimizer": "SGD", "scheduler": "StepLR"},
    "training_student": {"epochs": 1, "label_smoothing": 0.1},
    "distillation": {"alpha": 0.5},
    "data": {"drop_last": True},
    "experiment": {"seeds": 2, "analyze_gradients": True},
}


def test_trials_round_trip_through_their_content():
    for trial in fathomlab.load(CONFIG).trials:
        again = read_trial(json.loads(trial.canonical_json), trial.teachers)
        assert again == trial
        assert (again.recipe, again.probes, again.parents) == (trial.recipe, trial.probes, trial.parents)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "1"},
        {"seed": None},
        {"format": 99},
        {"model": {"type": "Unknown"}},
        {"model": {}},
        {"data": None},
        {"training": {"epochs": 0}},
        {"parents": 3},
        {"parents": {"teacher": ["0" * 64]}},
        {"parents": {}},
        {"distillation": None},
        {"probes": {"unknown": {}}},
        {"added": 1},
    ],
    ids=str,
)
def test_read_trial_rejects_other_content(change: dict[str, Any]):
    trial = fathomlab.load(CONFIG).trials[-1]
    with pytest.raises(ValueError):  # noqa: PT011
        read_trial(trial.content | change, trial.teachers)


@dataclass(frozen=True)
class Doubled:
    """Twice the cross-entropy."""

    label_smoothing: float

    needs: ClassVar[frozenset[str]] = frozenset()

    def terms(self, signals: Any) -> dict[str, Any]:
        return {"doubled": 2 * cross_entropy(signals.logits, signals.labels, self.label_smoothing)}


def test_criterion_of_the_file_is_the_loss_of_its_trials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CRITERIA, "CrossEntropyLoss", Doubled)
    teacher, baseline, distilled = (trial.recipe for trial in fathomlab.load(CONFIG, "experiment.seeds=1").trials)
    assert (teacher.loss, baseline.loss) == (Doubled(0.0), Doubled(0.1))
    assert (distilled.loss, distilled.label_loss) == (Distillation(3.0, 0.5), Doubled(0.1))
