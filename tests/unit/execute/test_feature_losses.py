"""Students that learn from the features of their teacher: what is stored, and a training that continues after a stop."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import RunInterrupted
from fathomlab.plan import Plan, Trial
from fathomlab.prepare.cost import flops
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_tensors

STUDENTS: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 120, "batch_size": 40},
    "teacher_model": {"type": "MLP", "params": {"layers_dim": 9, "hidden_layers_num": 2}},
    "student_model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 3, "gradient_clip": 1.0},
    "distillation": {"loss": {"type": "FitNet", "params": {"weight": 2}}},
}
CNN = {"type": "CNN", "params": {"layers": [1, 1, 1, 1], "width": 2}}
MAPS = {**STUDENTS, "teacher_model": {"type": "CNN", "params": {**CNN["params"], "width": 3}}, "student_model": CNN}


def train(plan: Plan, root: Path, *stops: int) -> list[Path]:
    """Train the teachers, then the distilled students as one pack, with a stop after each number of polls; their folders."""

    def job(trials: list[Trial], stop_after: int = 999) -> None:
        polls = iter(range(stop_after))
        train_job(
            Job(tuple(trials), root, "cpu"), lambda event: None, lambda: None if next(polls, None) is not None else 2
        )

    students = [trial for trial in plan.trials if trial.teachers]
    job([trial.teachers[0] for trial in students])
    for stop_after in stops:
        with pytest.raises(RunInterrupted):
            job(students, stop_after)
    job(students)
    return [root / "trials" / trial.hash for trial in students]


def test_adapters_are_a_file_of_their_own(tmp_path: Path):
    """The weights of the network contain none, and no number of parameters counts them."""
    plan = fathomlab.load(STUDENTS, "experiment.seeds=1")
    (folder,) = train(plan, tmp_path)
    record = Store(tmp_path).trial(folder.name)
    learned, metadata = load_tensors(folder / "adapters.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in learned.items()} == {
        "regressor.weight": (9, 6),
        "regressor.bias": (9,),
    }
    assert metadata == {"trial": folder.name, "epoch": 3, "step": 9}
    names = {f"{layer}.{kind}" for layer in ("input", "hidden.1", "output") for kind in ("bias", "weight")}
    for name in ("checkpoint", "best"):
        assert load_tensors(folder / f"{name}.safetensors")[0].keys() == names
    assert record.parameters == 784 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10
    assert record.files is not None
    assert "adapters.safetensors" in record.files
    (trial,) = (each for each in fathomlab.open_store(tmp_path) if each.hash == folder.name)
    images, labels = trial.test_data()
    assert (trial.load_model()(images).argmax(1) == labels).double().mean().item() == trial.metrics["test/accuracy"]


def test_stopped_training_continues_bit_for_bit(tmp_path: Path):
    """Weights, adapters, and predictions of two seeds in one pack, stopped twice."""
    plan = fathomlab.load(STUDENTS, "experiment.seeds=2")
    for whole, stopped in zip(train(plan, tmp_path / "a"), train(plan, tmp_path / "b", 3, 4), strict=True):
        for name in ("adapters.safetensors", "checkpoint.safetensors", "best.safetensors", "predictions.bin"):
            assert (whole / name).read_bytes() == (stopped / name).read_bytes()
        assert len(Store(tmp_path / "b").trial(stopped.name).provenance.resumed) == 2


@pytest.mark.parametrize("name", ["RKD", "FitNet", "AttentionTransfer"])
def test_features_of_maps_train_a_student(name: str, tmp_path: Path):
    """With augmentation, label smoothing, and the probes that read gradients of all learned tensors."""
    changes = [
        f"distillation.loss.type={name}",
        "distillation.loss.params={}",
        "data.augment=[crop]",
        "experiment.seeds=1",
    ]
    changes += ["experiment.probes=[gradients, updates, noise]", "training_student.label_smoothing=0.1"]
    plan = fathomlab.load(MAPS, [*changes, "training_student.epochs=1", "training_student.lr=0.0001"])
    (folder,) = train(plan, tmp_path)
    record = Store(tmp_path).trial(folder.name)
    assert record.status == "finished"
    assert all(len(record.probes[probe]) >= 2 for probe in ("gradients", "updates", "noise"))
    assert (folder / "adapters.safetensors").exists() == (name == "FitNet")


def test_teacher_costs_a_forward_pass_per_step():
    (student,) = (trial for trial in fathomlab.load(STUDENTS, "experiment.seeds=1").trials if trial.teachers)
    (plain,) = (
        trial
        for trial in fathomlab.load({**STUDENTS, "distillation": {}}, "experiment.seeds=1").trials
        if trial.teachers
    )
    images, _ = student.data.split_sizes
    assert flops(student) - flops(plain) == 2 * student.recipe.teachers[0].macs * images * 3


def test_bf16_features_are_compared_in_float32(tmp_path: Path):
    """The loss is computed in the format of the parameters, and is finite."""
    changes = ["training_student.precision=bf16", "training_student.epochs=1", "experiment.seeds=1"]
    try:
        (folder,) = train(fathomlab.load(STUDENTS, changes), tmp_path)
    except fathomlab.UserError:
        pytest.skip("bf16 does not work on this machine")
    assert load_tensors(folder / "adapters.safetensors")[0]["regressor.weight"].dtype == torch.float32
