"""Teachers and their logits, in the format of the student that asks for them."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.store.weights import load_checked

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
        (student,) = (trial for trial in plan.trials if trial.teacher is not None)
        assert student.teacher is not None
        folder = runs / "trials" / student.teacher.hash
        losses += [trial.metrics["test/loss"] for trial in results if trial.folder.name == student.hash]
    return folder, losses


@pytest.mark.parametrize(("precision", "dtype"), [("fp64", torch.float64), ("fp32", torch.float32)])
def test_teacher_logits_have_the_students_format(precision: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder, _ = trained(tmp_path, precision)
    stored, _ = load_checked(folder / "logits.sealed")
    assert stored["logits"].dtype == dtype
    rounded = torch.equal(stored["logits"], stored["logits"].float().to(dtype))
    assert rounded == (dtype == torch.float32)


def test_teacher_logits_do_not_depend_on_earlier_students(tmp_path: Path) -> None:
    """A student reads no logits that were rounded, or not rounded, for a student of another precision."""
    _, (exact, single) = trained(tmp_path / "a", "fp64", "fp32")
    _, (other_single, other_exact) = trained(tmp_path / "b", "fp32", "fp64")
    assert (exact, single) == (other_exact, other_single)
