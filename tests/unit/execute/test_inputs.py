"""Teachers with their logits, and weights to start from."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.data.split import stratified_subset
from fathomlab.execute.pack.inputs import load_dataset, load_teachers
from fathomlab.store.weights import load_checked, load_tensors

pytestmark = pytest.mark.usefixtures("no_charts")

MODEL = {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}}


def trained(runs: Path, *precisions: str) -> tuple[Path, list[float]]:
    """The teacher's folder and the test losses of students trained one after the other."""
    losses = []
    for precision in precisions:
        conf: dict[str, Any] = {
            "data": {"name": "mnist-sample", "limit": 120, "batch_size": 40},
            "teacher_model": MODEL,
            "student_model": MODEL,
            "training_teacher": {"epochs": 1, "precision": "fp64"},
            "training_student": {"epochs": 1, "precision": precision},
            "distillation": {"alpha": 0.9, "temperature": 2.0},
        }
        results = fathomlab.run(conf, runs=runs, progress="off", workers=1)
        plan = fathomlab.load(conf)
        (student,) = (trial for trial in plan.trials if trial.teachers)
        folder = runs / "trials" / student.teachers[0].hash
        losses += [trial.metrics["test/loss"] for trial in results if trial.hash == student.hash]
    return folder, losses


@pytest.mark.parametrize(("precision", "dtype"), [("fp64", torch.float64), ("fp32", torch.float32)])
def test_teacher_logits_have_the_students_format(precision: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder, _ = trained(tmp_path, precision)
    stored, _ = load_checked(*folder.glob("logits-*.sealed"))
    assert stored["logits"].dtype == dtype
    rounded = torch.equal(stored["logits"], stored["logits"].float().to(dtype))
    assert rounded == (dtype == torch.float32)


def test_teacher_logits_do_not_depend_on_earlier_students(tmp_path: Path) -> None:
    """A student reads no logits that were rounded, or not rounded, for a student of another precision."""
    _, (exact, single) = trained(tmp_path / "a", "fp64", "fp32")
    _, (other_single, other_exact) = trained(tmp_path / "b", "fp32", "fp64")
    assert (exact, single) == (other_exact, other_single)


def run_roles(runs: Path, **roles: Any) -> dict[str, Any]:
    """Train one seed of each role; returns the record of each."""
    conf = {"data": {"name": "mnist-sample", "limit": 120, "batch_size": 40}, "roles": roles}
    results = fathomlab.run(conf, runs=runs, progress="off", workers=1)
    return {condition.role: results.store.trial(condition.trials[0].hash) for condition in results.plan.conditions}


def weights(record: Any, name: str = "checkpoint") -> dict[str, torch.Tensor]:
    return load_tensors(record.folder / f"{name}.safetensors")[0]


def test_start_copies_weights_of_equal_name_and_shape(tmp_path: Path) -> None:
    """A step too small to change a float shows where training started, also for the best weights."""
    first = {"model": MODEL, "training": {"epochs": 1}}
    frozen = {"epochs": 1, "optimizer": "SGD", "lr": 1e-30}
    deeper = {"type": "MLP", "params": {**MODEL["params"], "hidden_layers_num": 3}}
    alone = {"model": deeper, "training": frozen}
    records = run_roles(tmp_path, first=first, alone=alone, tuned=alone | {"parents": {"start": "first"}})
    origin, initial, tuned = (weights(records[role]) for role in ("first", "alone", "tuned"))
    shared = {name for name in tuned if name in origin}
    assert {name.rpartition(".")[0] for name in tuned.keys() - shared} == {"hidden.2", "hidden.3"}
    learned = [name for name in tuned if "running" not in name]
    assert all(torch.equal(tuned[name], (origin if name in shared else initial)[name]) for name in learned)
    assert any(not torch.equal(tuned[name], initial[name]) for name in learned)
    assert all(torch.equal(tuned[name], weights(records["tuned"], "best")[name]) for name in learned)


@pytest.mark.parametrize("augment", [[], ["flip"]])
def test_ensemble_teaches_the_mean_of_its_logits(augment: list[str], tmp_path: Path) -> None:
    teacher = {"model": MODEL, "training": {"epochs": 1, "precision": "fp64"}}
    data = {"name": "mnist-sample", "limit": 120, "batch_size": 40, "augment": augment}
    parents = {"one": ["one"], "two": ["two"], "both": ["one", "two"]}
    students = {f"of_{name}": teacher | {"parents": {"teacher": names}} for name, names in parents.items()}
    conf = {"data": data, "roles": {"one": teacher, "two": teacher | {"seed_offset": 10}, **students}}
    plan = fathomlab.run(conf, runs=tmp_path, progress="off", workers=1).plan
    trials = {condition.role: condition.trials[0] for condition in plan.conditions}
    arrays, images = load_dataset(trials["one"].data.component, tmp_path, "cpu", torch.float64)
    stored, augmented = {}, {}
    for name in parents:
        trial = trials[f"of_{name}"]
        teachers = load_teachers([trial], [trial.recipe], images, tmp_path, torch.device("cpu"))
        rows = stratified_subset(arrays.train_labels, 120)
        stored[name] = teachers.logits[0, rows]
        augmented[name] = teachers(images.normalize(images.images[rows]).unsqueeze(0))[0]
    for logits in (stored, augmented):
        assert torch.equal(logits["both"], (logits["one"] + logits["two"]) / 2)
        assert not torch.equal(logits["one"], logits["two"])


def test_trial_of_a_failed_parent_fails_with_its_cause(tmp_path: Path) -> None:
    diverging = {"model": MODEL, "training": {"epochs": 1, "optimizer": "SGD", "lr": 1e30}}
    student = {"model": MODEL, "training": {"epochs": 1}, "parents": {"start": "parent"}}
    records = run_roles(tmp_path, parent=diverging, child=student)
    assert (records["parent"].status, records["child"].status) == ("diverged", "failed")
    assert records["parent"].trial[:12] in records["child"].cause


def test_stored_logits_belong_to_the_dataset_of_the_student(tmp_path: Path) -> None:
    """Two students whose datasets have the same rows and shapes: the second does not read the logits of the first."""
    data = {"name": "shapes", "limit": 100, "batch_size": 50, "params": {"difficulty": 0.1}}
    other = {**data, "params": {"difficulty": 0.9}}
    teacher = {"model": {"type": "MLP", "params": {"input_size": 3072, "layers_dim": 6}}, "training": {"epochs": 1}}
    student = teacher | {"parents": {"teacher": "teacher"}}
    conf = {"data": data, "roles": {"teacher": teacher, "same": student, "other": student | {"data": other}}}
    plan = fathomlab.run(conf, runs=tmp_path, progress="off", workers=1).plan
    logits = {}
    for condition in plan.conditions[1:]:
        (trial,) = condition.trials
        arrays, images = load_dataset(trial.data.component, tmp_path, "cpu", torch.float32)
        teachers = load_teachers([trial], [trial.recipe], images, tmp_path, torch.device("cpu"))
        rows = stratified_subset(arrays.train_labels, 100)
        logits[condition.role] = teachers.logits[0, rows]
        torch.testing.assert_close(
            logits[condition.role], teachers(images.normalize(images.images[rows]).unsqueeze(0))[0]
        )
    assert not torch.equal(logits["same"], logits["other"])
