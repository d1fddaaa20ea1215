"""What a result contains: outcomes that can be computed again, curves of students, speed, and a test set that is read once."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fathomlab
from fathomlab.engine import evaluation, loop
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.evaluation import predictions
from fathomlab.execute.events import EpochDone
from fathomlab.execute.pack import pack, results
from fathomlab.probes.outcome import fit_temperature
from fathomlab.store.records import Outcome
from tests.helpers import small_training

SHARE, COSINE = "distillation/soft_share", "distillation/cosine"
STUDENTS = ("agreement", "teacher_kl", "softened_kl")


@pytest.fixture
def teacher_and_student(laboratory: Any, distillation: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The laboratory after a distillation, with the stored teacher and distilled student."""
    laboratory.run({**distillation, "distillation": {"alpha": 0.7, "temperature": 4.0}})
    trials = fathomlab.open_store(laboratory.root).trials()
    teacher, student = (next(trial for trial in trials if trial.role == role) for role in ("teacher", "distilled"))
    return laboratory, teacher, student


def test_outcome_equals_that_of_the_stored_weights(teacher_and_student: tuple[Any, Any, Any]):
    """Computed again from the weights of teacher and student, and the images."""
    _, teacher, student = teacher_and_student
    images, labels = student.test_data()
    held_images, held_labels = student.validation_data()
    with torch.no_grad():
        logits, targets = (trial.load_model()(images).double() for trial in (student, teacher))
        held = student.load_model()(held_images)
    outcome, temperature = student.outcome, fit_temperature(held[None], held_labels[None])
    assert outcome.temperature == pytest.approx(float(temperature), rel=1e-5)
    assert outcome.scaled_loss == pytest.approx(float(F.cross_entropy(logits / temperature, labels)), rel=1e-5)
    squares = (F.softmax(logits, -1) - F.one_hot(labels, 10)).square().sum(1)
    assert outcome.brier == pytest.approx(float(squares.mean()), rel=1e-5)
    for name, scale in (("teacher_kl", 1.0), ("softened_kl", 4.0)):
        student_log, teacher_log = F.log_softmax(logits / scale, -1), F.log_softmax(targets / scale, -1)
        expected = F.kl_div(student_log, teacher_log, log_target=True, reduction="batchmean")
        assert getattr(outcome, name) == pytest.approx(float(expected), rel=1e-4)
    agree = (logits.argmax(-1) == targets.argmax(-1)).double().mean()
    assert outcome.agreement == pytest.approx(float(agree), abs=0.002)
    for trial in (teacher, student):
        missing = {field.name for field in fields(Outcome) if getattr(trial.outcome, field.name) is None}
        assert missing == (set(STUDENTS) if trial is teacher else set())
        assert trial.speed.batch == 64
        assert 0 < trial.speed.p50_seconds <= trial.speed.p95_seconds < 1
        assert trial.speed.images_per_second > 64


def test_students_have_curves_of_their_gradients(teacher_and_student: tuple[Any, Any, Any]):
    """In the log, the metrics, and the events; teachers and baselines have none."""
    laboratory, _, student = teacher_and_student
    for trial in fathomlab.open_store(laboratory.root).trials():
        expected = {SHARE, COSINE} if trial.role == "distilled" else set[str]()
        assert {name for name in trial.curves if name.startswith("distillation/")} == expected
        assert {name for name in trial.metrics if name.startswith("distillation/")} == expected
    (share,), (cosine,) = student.curves[SHARE], student.curves[COSINE]
    assert 0 < share < 1
    assert -1 <= cosine <= 1
    assert (student.metrics[SHARE], student.metrics[COSINE]) == (share, cosine)
    events = [event for event in laboratory.events if isinstance(event, EpochDone) and event.trial == student.hash]
    assert [(event.metrics[SHARE], event.metrics[COSINE]) for event in events] == [(share, cosine)]


def test_alpha_zero_records_no_direction(laboratory: Any, distillation: dict[str, Any]):
    """The share is 0, the cosine null, and the training loss the cross-entropy; with alpha 1, all comes from the teacher."""
    laboratory.run(distillation, "distillation.alpha=0.0,1.0")
    students = [trial for trial in laboratory.plan.trials if trial.parents]
    rows = []
    for trial in students:
        path = laboratory.root / "trials" / trial.hash / "metrics.jsonl"
        rows += map(json.loads, path.read_text().splitlines())
    assert [(row[SHARE], row[COSINE]) for row in rows] == [(0.0, None), (1.0, None)]
    assert rows[0]["train/objective"] == pytest.approx(rows[0]["train/loss"], rel=1e-12)
    assert abs(rows[1]["train/objective"] - rows[1]["train/loss"]) > 1e-3


def test_diverged_trials_have_neither_outcome_nor_speed(laboratory: Any, small: dict[str, Any]):
    laboratory.run(small, "training.lr=1e30", "training.optimizer=SGD")
    (record,) = (laboratory.store.trial(trial.hash) for trial in laboratory.plan.trials)
    assert (record.status, record.outcome, record.speed) == ("diverged", Outcome(), None)


class Seal:
    """Test images and labels that cannot be read before training has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        """Seal the dataset of each pack until its loop is done."""
        self.closed, self.packs, load, train = False, 0, pack.load_dataset, pack.train
        seal = self

        class Sealed(DeviceDataset):
            def __getattribute__(self, name: str) -> Any:
                if seal.closed and name.startswith("test_"):
                    raise RuntimeError("the test set was read before the end of training")
                return super().__getattribute__(name)

        def load_sealed(*arguments: Any) -> Any:
            arrays, images = load(*arguments)
            values = [getattr(images, field.name) for field in fields(images)]
            self.closed = True
            return arrays, Sealed(*values)

        def train_sealed(*arguments: Any) -> Iterator[Any]:
            yield from train(*arguments)
            self.closed, self.packs = False, self.packs + 1

        monkeypatch.setattr(pack, "load_dataset", load_sealed)
        monkeypatch.setattr(pack, "train", train_sealed)


def test_nothing_reads_the_test_set_before_the_end_of_training(
    laboratory: Any, distillation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """Not the choice of the best epoch either: with teachers, students, schedules that observe a loss, and probes."""
    seal = Seal(monkeypatch)
    training = {"epochs": 3, "scheduler": "ReduceLROnPlateau"}
    laboratory.run(
        {**distillation, "training_teacher": training, "training_student": training},
        "experiment.analyze_gradients=true",
    )
    assert {laboratory.store.trial(trial.hash).status for trial in laboratory.plan.trials} == {"finished"}
    assert seal.packs >= 2


def test_a_choice_of_weights_on_the_test_set_would_fail(
    laboratory: Any, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The check above notices it."""
    Seal(monkeypatch)
    evaluate = loop.evaluate
    monkeypatch.setattr(
        loop, "evaluate", lambda *arguments, validation, keep: evaluate(*arguments, validation=False, keep=keep)
    )
    laboratory.run(small)
    (record,) = (laboratory.store.trial(trial.hash) for trial in laboratory.plan.trials)
    assert record.status == "failed"
    assert "test set" in str(record.cause)


def test_cross_entropy_is_recorded_without_and_with_weights(
    laboratory: Any, distillation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """`train/loss` is the plain cross-entropy, `train/objective` the weighted sum that is minimized."""
    seen: list[tuple[float, float]] = []
    train = pack.train

    def watched(*arguments: Any) -> Iterator[Any]:
        progress: Any = train(*arguments)
        for snapshot in progress:
            seen.append((float(snapshot.train.loss[0]), float(snapshot.objective[0])))
            yield snapshot

    monkeypatch.setattr(pack, "train", watched)
    laboratory.run({**distillation, "distillation": {"alpha": 0.7, "temperature": 4.0}})
    for trial, (loss, objective) in zip(laboratory.plan.trials, seen, strict=True):
        curves = laboratory.store.trial(trial.hash).curves
        assert curves["train/loss"] == [loss]
        assert curves.get("train/objective", [loss]) == [objective]
        assert (objective != loss) is bool(trial.parents)


@pytest.mark.parametrize(("epochs", "sweeps"), [(1, 1), (2, 2)])
def test_equal_weights_are_evaluated_once(epochs: int, sweeps: int, monkeypatch: pytest.MonkeyPatch):
    """Of the last and the best epoch. Nothing is learned, so the first epoch is the best. Validation is not repeated, either."""
    recipe = small_training.recipe(small_training.mlp(), lr=1e-12, epochs=epochs)
    trainer, _ = small_training.run_training([recipe])
    assert int(trainer.state.best.epoch) == 1
    calls: list[bool] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[3] if len(arguments) > 3 else options["validation"])
        return predictions(*arguments, **options)

    monkeypatch.setattr(evaluation, "predictions", counted)
    monkeypatch.setattr(results, "predictions", counted)
    metrics, outcomes, predicted = results.evaluate_test(trainer)
    assert calls == [False] * sweeps
    trainer.validation_outputs = None  # as after an interruption
    again = results.evaluate_test(trainer)
    assert calls == [False] * sweeps * 2 + [True]
    assert (again[0], again[1]) == (metrics, outcomes)
    assert torch.equal(again[2], predicted)
